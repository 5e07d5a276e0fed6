"""Which replicas get requests: who asks them, and how the answer reaches the proxy."""
