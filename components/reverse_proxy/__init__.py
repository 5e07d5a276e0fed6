"""Settings -> nginx.conf (pure functions and templates), and the container that runs it."""
