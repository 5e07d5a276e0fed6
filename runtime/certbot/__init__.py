"""Runs in certbot's container: obtains the certificate, renews it, and publishes it for the proxy.

Uses Python's standard library, certbot and certbot's dependencies; nothing else of this project. Containers hold this
package as `obtain`: `python3 -m obtain` runs until the container stops, `python3 -m obtain health` is its health check,
`python3 -m obtain dry-run` tests a renewal.
"""
