"""How long a token is under way, from the model's server through Open WebUI to a client."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from open_webui_edge.benchmarks.model_server import MODEL, ModelServer, Token, count_to
from open_webui_edge.benchmarks.open_webui_client import Answer, Delta, OpenWebUIClient

SSE, SOCKET_IO = "SSE", "Socket.IO"
WAYS = (SSE, SOCKET_IO)
_GAP = 0.01
"""Seconds between tokens: a fast model's rhythm."""


@dataclass(frozen=True)
class Delays:
    """Of one answer, in milliseconds."""

    first: float
    """From the question to its first token."""
    tokens: Sequence[float]
    """From the model's sending to the client's receiving, for every token but the first."""


def listen(client: OpenWebUIClient, model: ModelServer, way: str, tokens: int) -> Delays:
    """Ask for an answer of so many tokens, and time it."""
    prompt = count_to(tokens, every=_GAP)
    if way == SSE:
        # The connection is kept, as a program keeps it; the application closes one after 5 s.
        client.ready()
        answer = client.chat_over_sse(prompt, MODEL)
    else:
        answer = client.chat_over_socket(prompt, MODEL)
    return delays(answer, model.completion(prompt).tokens)


def delays(answer: Answer, sent: Sequence[Token]) -> Delays:
    """Match what arrived with what was sent; raises ValueError if the texts are not the same."""
    if answer.text != "".join(token.text for token in sent):
        raise ValueError(f"{answer.text!r} arrived of what was sent")
    return Delays(
        answer.seconds_to_first * 1e3,
        [(arrived - token.at) * 1e3 for token, arrived in zip(sent, arrivals(answer.deltas, sent), strict=True)][1:],
    )


def arrivals(deltas: Sequence[Delta], sent: Sequence[Token]) -> list[float]:
    """Return when each token was there as a whole; a delta may hold several."""
    received = list(accumulate(len(delta.text) for delta in deltas))
    ends = accumulate(len(token.text) for token in sent)
    return [deltas[bisect_left(received, end)].at for end in ends]
