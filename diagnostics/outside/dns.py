"""Does the name lead to the host?"""

import socket
from collections.abc import Iterator, Sequence
from ipaddress import ip_address

import dns.exception
import dns.name
import dns.resolver

from open_webui_edge.diagnostics.finding import Finding, Hop
from open_webui_edge.diagnostics.outside import certificate, http_client
from open_webui_edge.diagnostics.outside.addresses import (
    SECONDS,
    addresses,
    looked_up,
    records,
)
from open_webui_edge.diagnostics.question import Question
from open_webui_edge.diagnostics.subject import Subject

_IPV6 = 6


def _resolves(subject: Subject) -> Iterator[Finding]:
    try:
        actual = addresses(subject)
    except OSError as fault:
        yield _without_address(subject, fault, subject.name)
        return
    is_address = actual == (subject.name,)
    words = "an address; there is no name to look up" if is_address else ", ".join(actual)
    yield Hop.NAME.ok("name.resolves", f"{subject.name} is {words}.")


def _without_address(subject: Subject, fault: OSError, name: str) -> Finding:
    said = f"{name} has no address" + (f" ({fault.strerror})." if isinstance(fault, socket.gaierror) else ".")
    target = ", ".join(subject.expectations.addresses or ()) or "the host that runs the proxy"
    fix = f"Make a record for {name} where your domain is kept: A (IPv4) or AAAA (IPv6) to {target}."
    problem = Hop.NAME.failure
    if subject.address:
        said += f" It was asked at {subject.address} all the same."
        problem = Hop.NAME.warning
    if subject.of_a_stack:
        fix += " On AWS `dns.provider: route53` with `dns.zone` makes it."
    return problem("name.resolves", said, "Browsers cannot find the site.", fix, setting="dns.zone")


def _leads_here(subject: Subject) -> Iterator[Finding]:
    expected = _expected(subject)
    if expected is None:
        yield Hop.NAME.ok("name.leads-here", "It is not known where it should lead.")
        return
    names = subject.expectations.names or (subject.name,)
    findings = [finding for name in names if (finding := _compared(subject, name, expected)) is not None]
    yield from findings or [Hop.NAME.ok("name.leads-here", f"{', '.join(names)}: {', '.join(sorted(expected))}.")]


def _compared(subject: Subject, name: str, expected: set[str]) -> Finding | None:
    try:
        actual = looked_up(subject, name)
    except OSError as fault:
        return None if name == subject.name else _without_address(subject, fault, name)
    strange = [address for address in actual if address not in expected]
    if not strange:
        return None
    all_wrong = len(strange) == len(actual)
    kind = "AAAA" if all(ip_address(address).version == _IPV6 for address in strange) else "A"
    return Hop.NAME.failure(
        "name.elsewhere",
        f"{name} leads to {', '.join(strange)}, and the deployment is at {', '.join(sorted(expected))}.",
        "Browsers end up at another machine"
        + ("." if all_wrong else ", some of them: each takes one of the addresses."),
        f"Change the {kind} record of {name} to {', '.join(sorted(expected))} where your domain is kept"
        + ("." if all_wrong else ", and remove the other one.")
        + " A name server may repeat the old one for as long as its TTL says.",
        setting="site.domain",
        # Whatever the other machine answers is its own affair.
        explains=() if subject.address or not all_wrong else ("*",),
    )


def _expected(subject: Subject) -> set[str] | None:
    expected: set[str] = set()
    for each in subject.expectations.addresses or ():
        try:
            expected |= set(looked_up(subject, each))  # the name of a load balancer, say
        except OSError:
            continue
    return expected or None


def _authorised(subject: Subject) -> Iterator[Finding]:
    if http_client.is_address(subject.name):
        yield Hop.NAME.ok("name.caa", "An address has no CAA records.")
        return
    issuer = certificate.issuer_of(subject)
    issuers = next((domains for word, domains in certificate.PUBLIC.items() if word in issuer.lower()), ())
    try:
        where, allowed = _caa(subject)
    except (dns.exception.DNSException, OSError) as fault:
        yield Hop.NAME.unknown(
            "name.caa", f"The name servers did not say who may issue certificates ({type(fault).__name__})."
        )
        return
    if allowed is None:
        yield Hop.NAME.ok("name.caa", "No CAA record: any CA may issue certificates for it.")
    elif not issuers:
        yield Hop.NAME.ok("name.caa", f"CAA of {where}: {_listed(allowed)}.")
    elif set(issuers) & set(allowed):
        yield Hop.NAME.ok("name.caa", f"CAA of {where} allows {issuers[0]}.")
    else:
        yield Hop.NAME.warning(
            "name.caa",
            f"The CAA record of {where} allows {_listed(allowed)}, and the certificate comes from {issuers[0]}.",
            "The issuer must refuse the next certificate, so this one runs out.",
            f'Add a record where your domain is kept: {where} CAA 0 issue "{issuers[0]}".',
        )


def _listed(allowed: Sequence[str]) -> str:
    return ", ".join(allowed) or "no issuer"


def _caa(subject: Subject) -> tuple[str, tuple[str, ...] | None]:
    """Return whose record counts (RFC 8659 section 3: the nearest one above), and who may issue."""
    name = dns.name.from_text(subject.name)
    while len(name) > 1:
        text = name.to_text(omit_final_dot=True)
        actual = records(subject, text, "CAA")
        if actual:
            tags = [(record.tag.decode().lower(), record.value.decode()) for record in actual]
            issue = [value.partition(";")[0].strip() for tag, value in tags if tag == "issue"]
            return text, tuple(value for value in issue if value) if issue else None
        name = name.parent()
    return subject.name, None


def _reached_by_both(subject: Subject) -> Iterator[Finding]:
    actual = addresses(subject)
    if subject.address or len(actual) == 1:
        yield Hop.NAME.ok("name.each", "It has one address." if len(actual) == 1 else "It was asked at one address.")
        return
    if all(ip_address(address).is_loopback for address in actual):
        yield Hop.NAME.ok("name.each", "It is this machine itself; a browser tries one address after the other.")
        return
    dead: list[tuple[str, OSError]] = []
    unreachable: list[str] = []
    for address in actual:
        try:
            socket.create_connection((address, subject.port), timeout=SECONDS).close()
        except OSError as fault:
            no_way = ip_address(address).version == _IPV6 and not isinstance(
                fault, ConnectionRefusedError | TimeoutError
            )
            if no_way:
                unreachable.append(address)
            else:
                dead.append((address, fault))
    if dead and len(dead) < len(actual):
        listed = ", ".join(address for address, _ in dead)
        at_once = all(isinstance(fault, ConnectionRefusedError) for _, fault in dead)
        problem = Hop.NAME.warning if at_once else Hop.NAME.failure
        yield problem(
            "name.each",
            f"Of its {len(actual)} addresses {listed} accepts no connections ({dead[0][1]}).",
            "A browser that tries this address first goes on to the next one; other programs give up."
            if at_once
            else "A browser that tries this address first waits; other programs give up.",
            f"Remove the record that leads to {listed}, or have the proxy listen there and the firewall let it pass.",
            setting="site.listen.address",
        )
    elif unreachable:
        yield Hop.NAME.note("name.each", f"This machine has no IPv6, so {', '.join(unreachable)} was not asked.")
    else:
        yield Hop.NAME.ok("name.each", f"All {len(actual)} addresses take connections.")


QUESTIONS = (
    Question("name.resolves", Hop.NAME, "name", (), _resolves),
    Question("name.leads-here", Hop.NAME, "where the name leads", ("name.resolves",), _leads_here),
    Question("name.each", Hop.NAME, "each address of the name", ("name.resolves", "port.open"), _reached_by_both),
    Question("name.caa", Hop.NAME, "who may issue certificates", ("tls.handshake",), _authorised),
)
