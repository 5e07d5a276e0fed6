"""Programs that run on an EC2 instance: set it up as a container host, and publish metrics for alarms."""
