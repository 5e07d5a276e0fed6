"""Questions that need nothing but a URL; they only read."""

from diagnostics.outside import (
    application,
    certificate,
    clock,
    cookies,
    headers,
    hops,
    names,
    origins,
    ports,
    protocol,
    sockets,
    streams,
    upload,
)
from diagnostics.question import Question

QUESTIONS: tuple[Question, ...] = (
    *names.QUESTIONS,
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
"""In the order of the way from a browser to an answer: of two troubles the earlier one comes first."""
