"""Docker hosts, our one way to make a container, and what is asked of an engine before and after an update."""
