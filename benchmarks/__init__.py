"""What the proxy costs and gains, beside what else a person could put in front of Open WebUI: `make bench`."""
