"""Do answers come as they are written, through the proxy as without it? And does the application learn who asks?"""

import http.client
import json
import secrets as random
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from typing import Any

from diagnostics.finding import Finding, Hop, Severity, unknown, well
from diagnostics.subject import Subject

PROMPT = "Count to 30"
SECONDS = 15.0
_ENOUGH = 4
"""Pieces that must come apart before anything can be said of how they come."""
_SPREAD = 0.3
"""Seconds over which they must come."""
_IN_A_LUMP = 0.34
"""Of the time that they take without the proxy: what comes in less was held back."""
_FORGED = "203.0.113.77"
"""An address that documents alone use (RFC 5737)."""


class Through:
    """Requests through the proxy, as a program sends them."""

    def __init__(self, subject: Subject, seconds: float) -> None:
        """Open no connection yet."""
        self._subject = subject
        self._seconds = seconds

    def open(self) -> http.client.HTTPConnection:
        """Connect, and speak TLS where the URL says so. Whose certificate it is is another question's."""
        subject = self._subject
        connection = http.client.HTTPConnection(subject.name, subject.port, timeout=self._seconds)
        plain = socket.create_connection((subject.address or subject.name, subject.port), self._seconds)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if subject.proxy_protocol:
            plain.sendall(b"PROXY UNKNOWN\r\n")
        if subject.scheme == "https":
            context = ssl.create_default_context(cadata=subject.trust)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            plain = context.wrap_socket(plain, server_hostname=subject.name)
        connection.sock = plain
        return connection


def stream(subject: Subject, token: str, model: str) -> dict[str, Any]:
    """Ask a model over SSE through the proxy; return when each piece came, in seconds after the question."""
    body = {"model": model, "stream": True, "messages": [{"role": "user", "content": PROMPT}]}
    moments: list[float] = []
    try:
        connection = Through(subject, SECONDS).open()
        began = time.monotonic()
        connection.request(
            "POST",
            "/api/chat/completions",
            json.dumps(body),
            {"Host": subject.authority, "Content-Type": "application/json", "Authorization": f"Bearer {token}"},
        )
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            return {"fault": f"the proxy answers {answer.status}", "status": answer.status, "moments": moments}
        while line := answer.readline():
            at = time.monotonic() - began
            if line.startswith(b"data: ") and b"content" in line:
                moments.append(at)
            if at > SECONDS:
                break
        connection.close()
    except (OSError, http.client.HTTPException) as error:
        return {"fault": str(error) or type(error).__name__, "moments": moments}
    return {"moments": moments}


def judge_stream(direct: Mapping[str, Any], proxied: Mapping[str, Any], model: str) -> Finding:
    """Say whether pieces that are written apart arrive apart."""
    apart, through = direct["moments"], proxied["moments"]
    check, hop = "stream.buffered", Hop.PROXY
    if "fault" in direct or not apart:
        said = direct.get("fault", "it wrote nothing")
        return unknown(check, Hop.MODELS, f"The model {model} did not answer the application itself: {said}.")
    spread = apart[-1] - apart[0]
    if "fault" in proxied or not through:
        said = proxied.get("fault", "nothing came")
        return Finding(
            check,
            Severity.FAILURE,
            hop,
            f"{model} answers without the proxy in {len(apart)} pieces, and through it {said}.",
            "Programs that use the API get no answer.",
            "`make logs ROLE=nginx` has a line about the request; proxy.timeouts.read says how long it waits.",
            "proxy.timeouts.read",
        )
    if len(apart) < _ENOUGH or spread < _SPREAD:
        return unknown(
            check,
            Hop.MODELS,
            f"{model} writes its answer at once ({len(apart)} pieces in {spread:.1f} s), so whether pieces are held"
            " back could not be seen.",
        )
    came = through[-1] - through[0]
    figures = (
        f"{len(apart)} pieces over {spread:.1f} s without the proxy, {len(through)} over {came:.1f} s through it, the"
        f" first after {apart[0]:.1f} s and {through[0]:.1f} s"
    )
    if came < spread * _IN_A_LUMP:
        return Finding(
            check,
            Severity.FAILURE,
            hop,
            f"Answers are held back, and come in a lump: {figures}.",
            "People look at nothing until the whole answer is written.",
            "Something between the browser and the application buffers. If it is this stack's Nginx, its configuration"
            " was changed by hand; one in front of it needs `proxy_buffering off` (or what it calls that).",
        )
    return well(check, hop, f"Answers come as they are written: {figures}.")


def judge_client(lines: Sequence[str], mark: str, *, trusted: Sequence[str] = ()) -> Finding:
    """Say which address the application saw in a request that claimed another.

    Args:
        lines: the application's log since then.
        mark: what the request's path held.
        trusted: networks from which a claim counts, by the settings.

    """
    check, hop = "client.address", Hop.PROXY
    line = next((line for line in lines if mark in line), None)
    if line is None:
        return unknown(
            check, hop, "The application's log has no line about a request of ours, so whom it saw is not known."
        )
    if _FORGED in line:
        believed = f" (trusted_proxies is {', '.join(trusted)})" if trusted else ""
        return Finding(
            check,
            Severity.FAILURE,
            hop,
            f"A request that claimed to come from {_FORGED} reached the application as that{believed}.",
            "Everybody can write any address into the audit log, and past limits that count by address.",
            "Name in proxy.trusted_proxies only proxies that you run and that overwrite X-Forwarded-For; drop other"
            " ways to the application than this stack's proxy.",
            "proxy.trusted_proxies",
        )
    return well(check, hop, "A client cannot claim another address: X-Forwarded-For of strangers is not believed.")


def ask_as_another(subject: Subject) -> str:
    """Send a request that claims another address; return what its path holds."""
    mark = f"doctor-{random.token_hex(8)}"
    connection = Through(subject, 8).open()
    # Nobody keeps an answer for a path with a query like this one.
    connection.request(
        "GET",
        f"/api/v1/auths/?{mark}",
        headers={
            "Host": subject.authority,
            "X-Forwarded-For": _FORGED,
            "X-Real-IP": _FORGED,
            "Forwarded": f"for={_FORGED}",
            "User-Agent": "open-webui-edge-doctor",
        },
    )
    connection.getresponse().read()
    connection.close()
    return mark
