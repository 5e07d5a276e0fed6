"""Runs in certbot's container: obtains the certificate, renews it, and offers it to the proxy.

Python's standard library and what certbot brings, nothing else of this program. `python3 -m obtain` goes on until the
container ends, `python3 -m obtain health` is its health check, `python3 -m obtain dry-run` practises a renewal.
"""
