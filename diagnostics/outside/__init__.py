"""Questions that need nothing but a URL; they only read."""

from open_webui_edge.diagnostics.outside import (
    application,
    certificate,
    clock,
    cookies,
    dns,
    headers,
    hops,
    origins,
    ports,
    protocol,
    sockets,
    streams,
    upload,
)
from open_webui_edge.diagnostics.question import Question

_MODULES = (
    *(dns, ports, certificate, protocol, application, sockets, origins),
    *(streams, hops, upload, cookies, headers, clock),
)
QUESTIONS: tuple[Question, ...] = tuple(question for module in _MODULES for question in module.QUESTIONS)
"""In the order of the hops from a browser to an answer: of two failures the earlier one comes first."""
