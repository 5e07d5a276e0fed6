"""The addresses of a name, and records of other kinds."""

import socket
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

import dns.exception
import dns.resolver

from open_webui_edge.diagnostics.subject import Subject

SECONDS = 5.0
"""How long name servers have for an answer."""


def addresses_of(subject: Subject) -> tuple[str, ...]:
    """Return where to connect to; raises OSError where the name has no address."""
    return (subject.address,) if subject.address else addresses(subject)


def addresses(subject: Subject) -> tuple[str, ...]:
    """Return the addresses of the name, IPv4 before IPv6; raises OSError where it has none."""
    return subject.once(("addresses", subject.name), lambda: looked_up(subject, subject.name))


def looked_up(subject: Subject, name: str) -> tuple[str, ...]:
    """Return the addresses of a name by the system's resolver or the subject's name servers; raises OSError if none."""
    try:
        return (str(ip_address(name)),)
    except ValueError:
        pass
    if subject.name_servers:
        texts = [record.to_text() for kind in ("A", "AAAA") for record in records(subject, name, kind)]
        if not texts:
            raise OSError(f"the name servers know no address of {name}")
        return tuple(texts)
    entries = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in sorted(entries, key=lambda entry: entry[0])))


def records(subject: Subject, name: str, kind: str) -> list[Any]:
    """Return the records of a name, maybe none. Raises dns.exception.DNSException if no name server answers."""
    resolver = resolver_of(subject.name_servers)
    try:
        return list(resolver.resolve(name, kind, lifetime=SECONDS, search=False))
    except (dns.resolver.NoAnswer, dns.resolver.NXDOMAIN):
        return []


def resolver_of(name_servers: Sequence[str]) -> dns.resolver.Resolver:
    """Return a resolver that asks these name servers (host or host:port); the system's where none is named."""
    if not name_servers:
        return dns.resolver.Resolver()
    resolver = dns.resolver.Resolver(configure=False)
    split = [server.partition(":") if server.count(":") == 1 else (server, "", "53") for server in name_servers]
    resolver.nameservers = [host for host, _, _ in split]
    resolver.nameserver_ports = {host: int(port) for host, _, port in split}
    return resolver
