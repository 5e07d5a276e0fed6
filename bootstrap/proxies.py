"""The environment's proxies: what this machine's programs say to each other goes past them."""

from collections.abc import Mapping

LOOPBACK = ("localhost", "127.0.0.1", "::1")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")
_EXCEPTIONS = ("no_proxy", "NO_PROXY")
_EVERYTHING = "*"


def exceptions(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that exempt loopback addresses from the environment's proxies; none without a proxy.

    Pulumi talks to its program and its plugins by gRPC on 127.0.0.1, and gRPC's library for Python obeys a lower-case
    http_proxy for these connections too (https://grpc.github.io/grpc/core/md_doc_environment_variables.html). Both
    spellings are set, because some programs read only one of them.
    """
    if not any(environment.get(name) or environment.get(name.upper()) for name in _PROXIES):
        return {}
    given = {name: environment[name] for name in _EXCEPTIONS if name in environment}
    other = next(iter(given.values()), "")
    return {name: _with_loopback(given.get(name, other)) for name in _EXCEPTIONS}


def _with_loopback(value: str) -> str:
    entries = [entry for entry in map(str.strip, value.split(",")) if entry]
    if _EVERYTHING in entries:
        return value
    return ",".join([*entries, *(address for address in LOOPBACK if address not in entries)])
