"""Does the name lead to the host?"""

import socket
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from typing import Any

import dns.exception
import dns.name
import dns.resolver

from diagnostics.finding import Finding, Hop, Severity, noted, unknown, well
from diagnostics.question import Question
from diagnostics.subject import Subject

_SECONDS = 5.0
_IPV6 = 6
_ISSUERS = {
    "let's encrypt": ("letsencrypt.org",),
    "google trust": ("pki.goog",),
    "amazon": ("amazon.com", "amazontrust.com", "awstrust.com", "amazonaws.com"),
    "zerossl": ("sectigo.com",),
    "sectigo": ("sectigo.com", "comodoca.com"),
    "digicert": ("digicert.com", "www.digicert.com"),
    "globalsign": ("globalsign.com",),
    "buypass": ("buypass.com",),
}
"""A word in an issuer's name -> what a CAA record calls it."""


def addresses_of(subject: Subject) -> tuple[str, ...]:
    """Return where to connect to.

    Raises:
        OSError: the name has no address.

    """
    if subject.address:
        return (subject.address,)
    return addresses(subject)


def addresses(subject: Subject) -> tuple[str, ...]:
    """Return the addresses of the name, IPv4 before IPv6.

    Raises:
        OSError: it has none.

    """
    return subject.once(("addresses", subject.name), lambda: _looked_up(subject, subject.name))


def _looked_up(subject: Subject, name: str) -> tuple[str, ...]:
    try:
        return (str(ip_address(name)),)
    except ValueError:
        pass
    if subject.name_servers:
        found = [record.to_text() for kind in ("A", "AAAA") for record in _records(subject, name, kind)]
        if not found:
            raise OSError(f"the name servers know no address of {name}")
        return tuple(found)
    entries = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in sorted(entries, key=lambda entry: entry[0])))


def _records(subject: Subject, name: str, kind: str) -> list[Any]:
    """Return the records of a name; none where there are none. Raises dns.exception.DNSException where nobody says."""
    resolver = _resolver(subject.name_servers)
    try:
        return list(resolver.resolve(name, kind, lifetime=_SECONDS, search=False))
    except (dns.resolver.NoAnswer, dns.resolver.NXDOMAIN):
        return []


def _resolver(name_servers: Sequence[str]) -> dns.resolver.Resolver:
    if not name_servers:
        return dns.resolver.Resolver()
    resolver = dns.resolver.Resolver(configure=False)
    split = [server.partition(":") if server.count(":") == 1 else (server, "", "53") for server in name_servers]
    resolver.nameservers = [host for host, _, _ in split]
    resolver.nameserver_ports = {host: int(port) for host, _, port in split}
    return resolver


def _resolves(subject: Subject) -> Iterator[Finding]:
    try:
        found = addresses(subject)
    except OSError as fault:
        yield _without_address(subject, fault, subject.name)
        return
    listed = ", ".join(found)
    if found == (subject.name,):
        yield well("name.resolves", Hop.NAME, f"{subject.name} is an address; there is no name to look up.")
        return
    yield well("name.resolves", Hop.NAME, f"{subject.name} is {listed}.")


def _without_address(subject: Subject, fault: OSError, name: str) -> Finding:
    own = isinstance(fault, socket.gaierror)
    said = f"{name} has no address" + (f" ({fault.strerror})" if own else "") + "."
    expected = ", ".join((subject.expected.addresses or ()) if subject.expected else ())
    target = expected or "the host that runs the proxy"
    fix = f"Make a record for {name} where your domain is kept: A (IPv4) or AAAA (IPv6) to {target}."
    severity = Severity.FAILURE
    if subject.address:
        said += f" It was asked at {subject.address} all the same."
        severity = Severity.WARNING
    if subject.of_a_stack:
        fix += " On AWS `dns.provider: route53` with `dns.zone` makes it."
    why = "Browsers cannot find the site."
    return Finding("name.resolves", severity, Hop.NAME, said, why, fix, setting="dns.zone")


def _leads_here(subject: Subject) -> Iterator[Finding]:
    wanted = _expected(subject)
    if wanted is None:
        yield well("name.leads-here", Hop.NAME, "It is not known where it should lead.")
        return
    names = (subject.expected.names if subject.expected else ()) or (subject.name,)
    trouble = [finding for name in names if (finding := _compared(subject, name, wanted)) is not None]
    yield from trouble or [well("name.leads-here", Hop.NAME, f"{', '.join(names)}: {', '.join(sorted(wanted))}.")]


def _compared(subject: Subject, name: str, wanted: set[str]) -> Finding | None:
    try:
        found = _looked_up(subject, name)
    except OSError as fault:
        return None if name == subject.name else _without_address(subject, fault, name)
    strange = [address for address in found if address not in wanted]
    if not strange:
        return None
    all_wrong = len(strange) == len(found)
    kind = "AAAA" if all(ip_address(address).version == _IPV6 for address in strange) else "A"
    return Finding(
        "name.elsewhere",
        Severity.FAILURE,
        Hop.NAME,
        f"{name} leads to {', '.join(strange)}, and the deployment is at {', '.join(sorted(wanted))}.",
        "Browsers end up at another machine"
        + ("." if all_wrong else ", some of them: each takes one of the addresses."),
        f"Change the {kind} record of {name} to {', '.join(sorted(wanted))} where your domain is kept"
        + ("." if all_wrong else ", and remove the other one.")
        + " A name server may repeat the old one for as long as its TTL says.",
        setting="site.domain",
        # Whatever the other machine answers is its own affair.
        causes=() if subject.address or not all_wrong else ("*",),
    )


def _expected(subject: Subject) -> set[str] | None:
    if subject.expected is None or not subject.expected.addresses:
        return None
    wanted: set[str] = set()
    for each in subject.expected.addresses:
        try:
            wanted |= set(_looked_up(subject, each))  # the name of a load balancer, say
        except OSError:
            continue
    return wanted or None


def _authorised(subject: Subject) -> Iterator[Finding]:
    from diagnostics.outside.certificate import issuer_of  # noqa: PLC0415  # that one connects, and so needs names

    try:
        ip_address(subject.name)
    except ValueError:
        pass
    else:
        yield well("name.caa", Hop.NAME, "An address has no CAA records.")
        return
    issuers, named = _issuers(subject, issuer_of(subject))
    try:
        where, allowed = _caa(subject)
    except (dns.exception.DNSException, OSError) as fault:
        yield unknown(
            "name.caa", Hop.NAME, f"The name servers did not say who may issue certificates ({type(fault).__name__})."
        )
        return
    if allowed is None:
        yield well("name.caa", Hop.NAME, "No CAA record: any authority may issue certificates for it.")
    elif not issuers:
        yield well("name.caa", Hop.NAME, f"CAA of {where}: {_listed(allowed)}.")
    elif set(issuers) & set(allowed):
        yield well("name.caa", Hop.NAME, f"CAA of {where} allows {named}.")
    else:
        yield Finding(
            "name.caa",
            Severity.WARNING,
            Hop.NAME,
            f"The CAA record of {where} allows {_listed(allowed)}, and the certificate comes from {named}.",
            "The issuer must refuse the next certificate, so this one runs out.",
            f'Add a record where your domain is kept: {where} CAA 0 issue "{issuers[0]}".',
        )


def _listed(allowed: Sequence[str]) -> str:
    return ", ".join(allowed) or "nobody"


def _issuers(subject: Subject, issuer: str) -> tuple[tuple[str, ...], str]:
    if subject.expected and subject.expected.issuers:
        return subject.expected.issuers, " or ".join(subject.expected.issuers)
    for word, domains in _ISSUERS.items():
        if word in issuer.lower():
            return domains, domains[0]
    return (), issuer


def _caa(subject: Subject) -> tuple[str, tuple[str, ...] | None]:
    """Return whose record counts (RFC 8659 section 3: the nearest one above), and who may issue."""
    name = dns.name.from_text(subject.name)
    while len(name) > 1:
        text = name.to_text(omit_final_dot=True)
        found = _records(subject, text, "CAA")
        if found:
            tags = [(record.tag.decode().lower(), record.value.decode()) for record in found]
            issue = [value.partition(";")[0].strip() for tag, value in tags if tag == "issue"]
            return text, tuple(value for value in issue if value) if issue else None
        name = name.parent()
    return subject.name, None


def _reached_by_both(subject: Subject) -> Iterator[Finding]:
    found = addresses(subject)
    if subject.address or len(found) == 1:
        yield well("name.each", Hop.NAME, "It has one address." if len(found) == 1 else "It was asked at one address.")
        return
    if all(ip_address(address).is_loopback for address in found):
        yield well("name.each", Hop.NAME, "It is this machine itself; a browser tries one address after the other.")
        return
    dead: list[tuple[str, OSError]] = []
    unreachable: list[str] = []
    for address in found:
        try:
            socket.create_connection((address, subject.port), timeout=_SECONDS).close()
        except OSError as fault:
            no_way = ip_address(address).version == _IPV6 and not isinstance(
                fault, ConnectionRefusedError | TimeoutError
            )
            if no_way:
                unreachable.append(address)
            else:
                dead.append((address, fault))
    if dead and len(dead) < len(found):
        listed = ", ".join(address for address, _ in dead)
        at_once = all(isinstance(fault, ConnectionRefusedError) for _, fault in dead)
        yield Finding(
            "name.each",
            Severity.WARNING if at_once else Severity.FAILURE,
            Hop.NAME,
            f"Of its {len(found)} addresses {listed} takes no connection ({dead[0][1]}).",
            "A browser that tries this address first goes on to the next one; other programs give up."
            if at_once
            else "A browser that tries this address first waits; other programs give up.",
            f"Remove the record that leads to {listed}, or have the proxy listen there and the firewall let it pass.",
            setting="site.listen.address",
        )
    elif unreachable:
        yield noted("name.each", Hop.NAME, f"This machine has no IPv6, so {', '.join(unreachable)} was not asked.")
    else:
        yield well("name.each", Hop.NAME, f"All {len(found)} addresses take connections.")


QUESTIONS = (
    Question("name.resolves", Hop.NAME, "name", (), _resolves),
    Question("name.leads-here", Hop.NAME, "where the name leads", ("name.resolves",), _leads_here),
    Question("name.each", Hop.NAME, "each address of the name", ("name.resolves", "port.open"), _reached_by_both),
    Question("name.caa", Hop.NAME, "who may issue certificates", ("tls.handshake",), _authorised),
)
