"""The test support itself, tried without a socket."""
