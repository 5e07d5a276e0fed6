"""Do answers come as they are written, through the proxy as without it? And does the application learn who asks?"""

import http.client
import json
import secrets as random
import ssl
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from open_webui_edge.diagnostics.finding import Finding, Hop
from open_webui_edge.diagnostics.outside import http_client, sockets
from open_webui_edge.diagnostics.subject import Subject

PROMPT = "Count to 30"
SECONDS = 15.0
_COMPLETIONS = "/api/chat/completions"
_ENOUGH = 4
"""Pieces that must come apart before anything can be said of how they come."""
_SPREAD = 0.3
"""Seconds over which they must come."""
_IN_A_LUMP = 0.34
"""Of the time that they take without the proxy: what comes in less was held back."""
_FORGED = "203.0.113.77"
"""An address that documents alone use (RFC 5737)."""


def over_sse(subject: Subject, model: str) -> dict[str, Any]:
    """Ask a model over SSE through the proxy, as a program does; return when each piece came, in seconds."""
    body = {"model": model, "stream": True, "messages": [{"role": "user", "content": PROMPT}]}
    moments: list[float] = []
    try:
        with http_client.answering(subject, _COMPLETIONS, **_asking("POST", body)) as (answer, began):
            if answer.status != http.client.OK:
                return {"fault": f"the answer is {answer.status}", "moments": moments}
            while line := answer.readline():
                at = time.monotonic() - began
                if line.startswith(b"data: ") and b"content" in line:
                    moments.append(at)
                if at > SECONDS:
                    break
    except ssl.SSLCertVerificationError as error:
        return {"fault": error.verify_message, "distrusted": True, "moments": moments}
    except (OSError, http.client.HTTPException) as error:
        return {"fault": str(error) or type(error).__name__, "moments": moments}
    return {"moments": moments}


def over_socket(subject: Subject, model: str) -> dict[str, Any]:
    """Ask a model as the browser does: the question by POST, the answer over the WebSocket. Its chat is removed."""
    moments: list[float] = []
    try:
        with sockets.opened(subject, origin=subject.origin) as channel:
            session = _joined(channel, subject.token)
            message = str(uuid.uuid4())
            body = question(PROMPT, model, message, session)
            began = time.monotonic()
            asked = _api(subject, "POST", _COMPLETIONS, body)
            try:
                for event in _events(channel, message, began + SECONDS):
                    kind, data = event.get("type"), event.get("data") or {}
                    if kind == "chat:message:error":
                        return {"fault": "the model ended it with an error", "moments": moments}
                    if kind == "response:completion" and data.get("type") == "response.output_text.delta":
                        moments.append(time.monotonic() - began)
                    if kind == "chat:completion" and data.get("done"):
                        break
            finally:
                if chat := asked.get("chat_id"):
                    # The answer was there or not, whatever becomes of its chat.
                    with suppress(OSError, http.client.HTTPException, ValueError):
                        _api(subject, "DELETE", f"/api/v1/chats/{chat}")
    except sockets.Refusal as refusal:
        return {"fault": f"the WebSocket is refused with {refusal.answer.status}", "moments": moments}
    except (OSError, http.client.HTTPException, ValueError) as error:
        return {"fault": str(error) or type(error).__name__, "moments": moments}
    return {"moments": moments}


def _joined(channel: sockets.OpenSocket, token: str | None) -> str:
    """Connect and join as who has the token; return the session's id."""
    channel.message()
    channel.send(f"40{json.dumps({'token': token})}")
    session = json.loads(_next(channel, "40")[2:])["sid"]
    channel.send(f"420{json.dumps(['user-join', {'auth': {'token': token}}])}")
    _next(channel, "430")
    return str(session)


def _next(channel: sockets.OpenSocket, beginning: str) -> str:
    """Return the next message of a kind; pings are answered meanwhile."""
    while True:
        message = channel.message()
        if message == "2":
            channel.send("3")
        elif message.startswith(beginning):
            return message


def _events(channel: sockets.OpenSocket, message: str, deadline: float) -> Iterator[dict[str, Any]]:
    while time.monotonic() < deadline:
        name, event, *_ = json.loads(_next(channel, "42")[2:])
        if name == "events" and event.get("message_id") == message:
            yield event.get("data") or {}


def question(prompt: str, model: str, message: str, session: str | None) -> dict[str, Any]:
    """Return what the browser posts for the first message of a new chat; it asks for no title, tags or follow-ups."""
    asked = {
        "id": str(uuid.uuid4()),
        "parentId": None,
        "childrenIds": [message],
        "role": "user",
        "content": prompt,
        "timestamp": int(time.time()),
        "models": [model],
    }
    return {
        "stream": True,
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "params": {},
        "tool_servers": [],
        "features": {},
        "variables": {},
        "session_id": session,
        "id": message,
        "parent_id": None,
        "user_message": asked,
        "background_tasks": {"title_generation": False, "tags_generation": False, "follow_up_generation": False},
    }


def _asking(method: str, body: object = None) -> http_client.Asking:
    content = b"" if body is None else json.dumps(body).encode()
    headers = (("Content-Type", "application/json"),)
    return {"method": method, "headers": headers, "body": content, "seconds": SECONDS, "with_token": True}


def _api(subject: Subject, method: str, path: str, body: object = None) -> dict[str, Any]:
    answer = http_client.ask(subject, path, **_asking(method, body))
    if answer.status != http.client.OK:
        raise http_client.NoAnswerError(f"{method} {path.rpartition('/')[0]} is answered {answer.status}")
    value = json.loads(answer.body or b"{}")
    return value if isinstance(value, dict) else {}


def judge_stream(check: str, direct: Mapping[str, Any], proxied: Mapping[str, Any], model: str) -> Finding:
    """Say whether pieces that are written apart (as `direct` saw them) arrive apart through all proxies."""
    apart, through = direct["moments"], proxied["moments"]
    hop, way = Hop.PROXY, "over the WebSocket" if check == "stream.socket" else "over SSE"
    if "fault" in direct or not apart:
        said = direct.get("fault", "it wrote nothing")
        return Hop.MODELS.unknown(check, f"The model {model} did not answer the application itself: {said}.")
    spread = apart[-1] - apart[0]
    if proxied.get("distrusted"):
        return hop.unknown(check, f"Not seen, because a browser would not trust the site: {proxied['fault']}.")
    if "fault" in proxied or not through:
        said = proxied.get("fault", "nothing came")
        return hop.failure(
            check,
            f"{model} answers without the proxy in {len(apart)} pieces, and through it ({way}) {said}.",
            "People get no answer." if check == "stream.socket" else "Programs that use the API get no answer.",
            "`make logs ROLE=nginx` has a line about the request; proxy.timeouts.read says how long it waits.",
            setting="proxy.timeouts.read",
        )
    if len(apart) < _ENOUGH or spread < _SPREAD:
        return Hop.MODELS.unknown(
            check,
            f"{model} writes its answer at once ({len(apart)} pieces in {spread:.1f} s), so whether pieces are held"
            " back could not be seen.",
        )
    came = through[-1] - through[0]
    figures = (
        f"{len(apart)} pieces over {spread:.1f} s without the proxy, {len(through)} over {came:.1f} s through it, the"
        f" first after {apart[0]:.1f} s and {through[0]:.1f} s"
    )
    if came < spread * _IN_A_LUMP:
        return hop.failure(
            check,
            f"Answers {way} are held back, and come in a lump: {figures}.",
            "People look at nothing until the whole answer is written.",
            "Something between the browser and the application buffers. If it is this stack's Nginx, its configuration"
            " was changed by hand; one in front of it needs `proxy_buffering off` (or what it calls that).",
        )
    return hop.ok(check, f"Answers {way} come as they are written: {figures}.")


def judge_client(lines: Sequence[str], mark: str, *, trusted: Sequence[str] = ()) -> Finding:
    """Say which address the application's log has for the request with this mark, which claimed another.

    `trusted` are the networks from which a claim counts, by the settings.
    """
    check, hop = "client.address", Hop.PROXY
    line = next((line for line in lines if mark in line), None)
    if line is None:
        return hop.unknown(
            check, "The application's log has no line about a request of ours, so whom it saw is not known."
        )
    if _FORGED in line and trusted:
        return hop.unknown(
            check,
            f"A claim from here is believed: this machine is one of those whose word counts ({', '.join(trusted)}), or"
            " looks like one. Ask from a machine that is none.",
        )
    if _FORGED in line:
        return hop.failure(
            check,
            f"A request that claimed to come from {_FORGED} reached the application as that.",
            "Everybody can write any address into the audit log, and past limits that count by address.",
            "List in proxy.trusted_proxies only proxies that you run and that overwrite X-Forwarded-For; remove other"
            " ways to the application than this stack's proxy.",
            setting="proxy.trusted_proxies",
        )
    return hop.ok(check, "A client cannot claim another address: X-Forwarded-For of untrusted clients is ignored.")


def ask_as_another(subject: Subject) -> str:
    """Send a request that claims another address; return what its path holds."""
    mark = f"doctor-{random.token_hex(8)}"
    claims = [("X-Forwarded-For", _FORGED), ("X-Real-IP", _FORGED), ("Forwarded", f"for={_FORGED}")]
    # No cache stores a response for this path.
    http_client.ask(subject, f"/api/v1/auths/?{mark}", headers=claims)
    return mark
