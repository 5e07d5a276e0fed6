"""Prepares a machine: virtual environment, Pulumi CLI, Docker engine, images."""

OLDEST = (3, 11)
"""The oldest Python that the program runs on."""
NEWEST = (3, 14)
"""The newest Python that the pinned packages support; a newer one is tried if there is no other."""
