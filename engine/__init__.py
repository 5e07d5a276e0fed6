"""The client of a Docker engine, over a socket or ssh."""
