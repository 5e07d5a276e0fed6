"""Certbot's container against a real ACME server that checks what it is told."""
