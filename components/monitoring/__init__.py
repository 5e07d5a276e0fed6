"""Prometheus, its rules and the status page."""
