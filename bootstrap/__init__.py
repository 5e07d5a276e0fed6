"""Gets a machine ready and runs Pulumi on it: what `make` calls. A running stack never needs it."""
