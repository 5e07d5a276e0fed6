"""Is anybody there?"""

import socket
from collections.abc import Iterator

from diagnostics.finding import Finding, Hop, Severity, well
from diagnostics.question import Question
from diagnostics.subject import Subject

_SECONDS = 8


def _port(subject: Subject) -> Iterator[Finding]:
    where = subject.address or subject.name
    try:
        with socket.create_connection((where, subject.port), timeout=_SECONDS):
            yield well("port.open", Hop.HOST, f"{where}:{subject.port} takes connections.")
    except OSError as fault:
        yield Finding(
            "port.open",
            Severity.FAILURE,
            Hop.HOST,
            f"{where}:{subject.port} takes no connection: {fault}.",
            "Nobody reaches the site.",
            "Start the proxy, and open the port in the firewall or security group.",
        )


QUESTIONS = (Question("port.open", Hop.HOST, "port", (), _port),)
