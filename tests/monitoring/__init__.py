"""The rules and the counting, run by the tools that read them in a deployment."""
