"""Runs on an instance: makes it a container host, and tells what alarms ask. Nothing of this program is there."""
