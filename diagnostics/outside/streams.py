"""Do the pieces of an answer arrive when they are made, and how long may it be silent?

Both need an account: without a sign-in Open WebUI streams nothing. An account (the doctor's own, inside a stack, or a
token that was given) asks a model for a short answer; nothing of it is stored.
"""

import http.client
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from open_webui_edge.diagnostics.finding import Finding, Hop
from open_webui_edge.diagnostics.outside import hops, http_client
from open_webui_edge.diagnostics.question import Question
from open_webui_edge.diagnostics.subject import Subject

_PROMPT = "Count to 10."
_SECONDS = 45.0
_OK = 200
_SILENT = {408, 504, 522, 524}
_LUMP = 0.5
"""Of the whole time: a stream whose first piece comes later than this was kept back, if it need not have been."""
_LEAST = 0.4
"""Seconds that a stream must last for its pieces to be told apart."""
_FEW = 3
"""With more pieces at the end of a stream the model thought first, if there is nothing to compare."""
_LONGEST = 600.0


@dataclass(frozen=True)
class Stream:
    """When the pieces of an answer came."""

    status: int
    headers: tuple[tuple[str, str], ...]
    first: float
    """Seconds until the first piece of the body."""
    last: float
    """Seconds until the last one."""
    pieces: int
    """How often something came."""
    body: bytes = b""

    @property
    def share(self) -> float:
        """Which part of the whole time passed before the first piece."""
        return self.first / self.last if self.last else 0.0


def timed(subject: Subject, body: Mapping[str, Any], *, seconds: float = _SECONDS) -> Stream:
    """Ask for a stream and time its pieces; raises OSError if none comes, or it stops for longer than `seconds`."""
    with http_client.answering(
        subject,
        "/api/chat/completions",
        method="POST",
        headers=[("Content-Type", "application/json")],
        accept="text/event-stream" if body.get("stream") else "application/json",
        body=json.dumps(body).encode(),
        seconds=seconds,
        with_token=True,
    ) as (response, began):
        return _read(response, began)


def _read(response: http.client.HTTPResponse, began: float) -> Stream:
    first = last = time.monotonic() - began
    pieces, content = 0, b""
    while True:
        try:
            piece = response.read1(1 << 16)
        except http.client.HTTPException as fault:
            raise http_client.NoAnswerError("the answer broke off") from fault
        if not piece:
            break
        last = time.monotonic() - began
        first = last if not pieces else first
        pieces += 1
        content += piece
    return Stream(response.status, tuple(response.getheaders()), first, last, pieces, content)


def judged(check: str, through: Stream, direct: Stream | None, subject: Subject) -> Finding:
    """Say whether a proxy kept the pieces back: the same question past it, where that can be, has no such wait."""
    shown = f"first piece after {through.first:.1f} s, last after {through.last:.1f} s, {through.pieces} pieces"
    if direct is not None:
        shown += f"; directly after {direct.first:.1f} s and {direct.last:.1f} s, {direct.pieces} pieces"
    span = (direct or through).last
    if span < _LEAST or (direct is not None and direct.share > _LUMP):
        return Hop.PROXY.note(check, f"The answer was too short to tell ({shown}).")
    if direct is None:
        is_buffered = through.pieces <= _FEW
    else:
        is_buffered = through.first - direct.first > _LUMP * (span - direct.first)
    if through.share <= _LUMP or not is_buffered:
        return Hop.PROXY.ok(check, f"Pieces arrive as they are made ({shown}).")
    problem = Hop.PROXY.failure if direct is not None else Hop.PROXY.warning
    return problem(
        check,
        f"A proxy keeps the answer back and passes it on in lumps ({shown}).",
        "API clients see nothing for a long time and then everything at once; the progress of uploads stops.",
        "Switch buffering off: in Nginx `proxy_buffering off;` in the location of /api/ (and no gzip for "
        "text/event-stream), in Caddy `flush_interval -1`; "
        + "; ".join(f"{product.name} is in between" for product in hops.on_the_way(subject))
        + ". A stack's own Nginx does not buffer streams, so there a proxy in front does.",
        setting="proxy_buffering",
        value="off",
    )


def _models(subject: Subject) -> list[str]:
    """Return the models that the account may ask."""
    answer = http_client.ask(subject, "/api/models", with_token=True)
    listed = answer.object().get("data")
    return [str(each["id"]) for each in listed if "id" in each] if isinstance(listed, list) else []


def _question(model: str, *, stream: bool = True) -> dict[str, Any]:
    """Return the body that asks a model for a short answer."""
    return {"model": model, "stream": stream, "max_tokens": 120, "messages": [{"role": "user", "content": _PROMPT}]}


def _unbuffered(subject: Subject) -> Iterator[Finding]:
    check = "stream.buffered"
    if not subject.token:
        yield Hop.PROXY.note(check, "Whether a hop buffers answers is only visible with an account (--token-file).")
        return
    names = _models(subject)
    if not names:
        yield Hop.MODELS.note(check, "The account has no model, so no answer can be timed.")
        return
    body = _question(names[0])
    through = timed(subject, body)
    if through.status in _SILENT:
        yield _cut("stream.timeout", through)
    elif through.status != _OK:
        yield Hop.MODELS.unknown(check, f"The model {names[0]} gives {through.status} instead of an answer.")
    else:
        direct = timed(subject.past_proxies, body) if subject.past_proxies else None
        yield judged(check, through, direct, subject)


def _silence(subject: Subject) -> Iterator[Finding]:
    """Ask for a whole answer at once: while the model writes, not a byte comes."""
    check = "silence.measured"
    if not subject.long:
        yield Hop.PROXY.ok(check, "Not measured; LONG=yes does, with an account.")
        return
    if not subject.token:
        yield Hop.PROXY.note(check, "How long an answer may be silent is only measured with an account.")
        return
    names = _models(subject)
    if not names:
        yield Hop.MODELS.note(check, "The account has no model, so no silence can be measured.")
        return
    body = {**_question(names[0], stream=False), "max_tokens": 4000}
    body["messages"] = [{"role": "user", "content": "Write the numbers from 1 to 1000, each as a word on a line."}]
    began = time.monotonic()
    try:
        answer = timed(subject, body, seconds=_LONGEST)
    except OSError as fault:
        yield _silence_ends(check, time.monotonic() - began, f"cut ({fault})")
        return
    if answer.status in _SILENT:
        yield _cut(check, answer)
    else:
        yield Hop.PROXY.ok(check, f"{answer.first:.0f} s of silence passed, and then the answer came.")


def _cut(check: str, answer: Stream) -> Finding:
    who = hops.nearest(http_client.Answer(answer.status, answer.headers, answer.body))
    return _silence_ends(check, answer.last, f"{answer.status} from {who}")


def _silence_ends(check: str, seconds: float, words: str) -> Finding:
    return Hop.PROXY.failure(
        check,
        f"After {seconds:.1f} s of silence the answer was {words}.",
        "A model that thinks for longer never gets to answer API clients.",
        f"Wait longer at each hop: proxy.timeouts.read: 30m; {hops.NGINX_LONGER}, in Caddy `transport http {{ "
        "response_header_timeout 30m }`, at a load balancer its idle time-out.",
        setting="proxy.timeouts.read",
        value="30m",
        explains=("silence.*",),
    )


QUESTIONS = (
    Question("stream.buffered", Hop.PROXY, "streams", ("app.answers",), _unbuffered, seconds=120),
    Question("silence.measured", Hop.PROXY, "silence", ("app.answers",), _silence, seconds=_LONGEST + 20),
)
