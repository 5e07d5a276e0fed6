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

QUESTIONS: tuple[Question, ...] = (
    *dns.QUESTIONS,
    *ports.QUESTIONS,
    *certificate.QUESTIONS,
    *protocol.QUESTIONS,
    *application.QUESTIONS,
    *sockets.QUESTIONS,
    *origins.QUESTIONS,
    *streams.QUESTIONS,
    *hops.QUESTIONS,
    *upload.QUESTIONS,
    *cookies.QUESTIONS,
    *headers.QUESTIONS,
    *clock.QUESTIONS,
)
"""In the order of the hops from a browser to an answer: of two failures the earlier one comes first."""
