"""A user of Open WebUI 0.12: signs in, chats over Socket.IO as the browser does and over SSE as a program does.

What the events are called and hold was read from Open WebUI's own frontend (`Chat.svelte`, `routes/+layout.svelte`) and
backend (`socket/main.py`, `utils/middleware.py`). Nothing here retries.
"""

import asyncio
import json
import socket
import ssl
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple, Self

import aiohttp
import httpx
import socketio
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from open_webui_edge.diagnostics.inside.streams import question


class Delta(NamedTuple):
    """A piece of an answer and when it arrived, by `time.monotonic()` of this machine."""

    at: float
    text: str


@dataclass
class Answer:
    """An answer of a model as it came in."""

    asked_at: float
    deltas: list[Delta] = field(default_factory=list[Delta])
    chat_id: str = ""
    """The saved chat it belongs to; "" where Open WebUI keeps none."""

    @property
    def text(self) -> str:
        """The whole answer."""
        return "".join(delta.text for delta in self.deltas)

    @property
    def seconds_to_first(self) -> float:
        """Seconds between the question and the first piece of the answer; raises IndexError when none came."""
        return self.deltas[0].at - self.asked_at


class OpenWebUIError(Exception):
    """Open WebUI refused, or ended an answer with an error; the text is what it said."""


class OpenWebUIClient:
    """One user at one Open WebUI: `with OpenWebUIClient(url, ca_file=…) as client: client.sign_in(…)`."""

    def __init__(
        self,
        url: str,
        *,
        ca_file: str | Path | None = None,
        resolve: Mapping[str, str] | None = None,
        token: str | None = None,
        timeout: float = 60,
    ) -> None:
        """Trust `ca_file` only (None: what this machine trusts), and look hosts up in `resolve` before DNS.

        `token` is a session's or an API key (`sk-…`); sign_up and sign_in set it. `timeout` is seconds of silence.
        """
        self.url = url.rstrip("/")
        self.token = token
        self._trust = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
        self._resolve = dict(resolve or {})
        self._timeout = timeout
        self.http = httpx.Client(
            base_url=self.url,
            timeout=timeout,
            transport=_ResolvingTransport(self._resolve, self._trust),
            trust_env=False,
        )

    def __enter__(self) -> Self:
        """Use it until the block ends."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close its connections."""
        self.http.close()

    def request(self, method: str, path: str, body: object = None) -> Any:  # JSON is what it is
        """Ask the API and return the JSON it answers; raises OpenWebUIError for any status but 2xx."""
        return _json_of(self.http.request(method, path, json=body, headers=self._headers()))

    def ready(self) -> bool:
        """Whether `/ready` says that it takes traffic; a gateway's error page is a no, a dead connection raises."""
        response = self.http.get("/ready")
        return response.status_code == HTTPStatus.OK and response.json() == {"status": True}

    def sign_up(self, email: str, password: str, name: str = "Test User") -> str:
        """Create an account, use it from now on, and return its session token. The first account is the admin."""
        form = {"name": name, "email": email, "password": password, "profile_image_url": "/user.png"}
        self.token = str(self.request("POST", "/api/v1/auths/signup", form)["token"])
        return self.token

    def sign_in(self, email: str, password: str) -> str:
        """Use an account from now on, and return its session token."""
        self.token = str(self.request("POST", "/api/v1/auths/signin", {"email": email, "password": password})["token"])
        return self.token

    def user(self) -> dict[str, Any]:
        """Return who is signed in: `id`, `email`, `role`, …."""
        return self.request("GET", "/api/v1/auths/")

    def chats(self) -> list[dict[str, Any]]:
        """Return the user's saved chats, newest first: `id`, `title`, …."""
        return self.request("GET", "/api/v1/chats/?page=1")

    def chat(self, chat_id: str) -> dict[str, Any]:
        """Return a saved chat; its messages are in `["chat"]["history"]["messages"]`."""
        return self.request("GET", f"/api/v1/chats/{chat_id}")

    def create_chat(self, title: str) -> str:
        """Save an empty chat and return its id."""
        empty: dict[str, Any] = {"title": title, "models": [], "history": {"messages": {}, "currentId": None}}
        return str(self.request("POST", "/api/v1/chats/new", {"chat": empty})["id"])

    def openai_settings(self) -> dict[str, Any]:
        """Return what Open WebUI has saved about its OpenAI-compatible providers; only an admin may."""
        return self.request("GET", "/openai/config")

    def chat_over_sse(self, prompt: str, model: str) -> Answer:
        """Ask as a program does: one POST whose answer is a stream of events. Open WebUI keeps no such chat."""
        body = {"model": model, "stream": True, "messages": [{"role": "user", "content": prompt}]}
        answer = Answer(time.monotonic())
        with self.http.stream("POST", "/api/chat/completions", json=body, headers=self._headers()) as response:
            if response.is_error:
                response.read()
                _json_of(response)
            for line in response.iter_lines():
                at = time.monotonic()
                data = line.removeprefix("data: ")
                if data == "[DONE]":
                    return answer
                if line.startswith("data: "):
                    _add_chunk(answer, json.loads(data), at)
        raise OpenWebUIError(f"the stream ended without [DONE] after {answer.text!r}")

    def chat_over_socket(self, prompt: str, model: str, *, deadline: float = 120) -> Answer:
        """Ask as the browser does, in a new chat: the question by POST, the answer as events over a WebSocket.

        Raises TimeoutError when the answer is not complete after `deadline` seconds.
        """
        answer = Answer(time.monotonic())
        try:
            asyncio.run(asyncio.wait_for(self._chat_over_socket(prompt, model, answer), deadline))
        except TimeoutError:
            raise TimeoutError(
                f"waited {deadline:g} s for the answer to {prompt!r}; so far {answer.text!r} came"
            ) from None
        return answer

    async def _chat_over_socket(self, prompt: str, model: str, answer: Answer) -> None:
        connector = aiohttp.TCPConnector(ssl=self._trust, resolver=_Resolver(self._resolve))
        async with aiohttp.ClientSession(connector=connector) as http:
            events: asyncio.Queue[tuple[float, dict[str, Any]]] = asyncio.Queue()
            client = socketio.AsyncClient(http_session=http, reconnection=False, handle_sigint=False)

            async def keep(event: dict[str, Any]) -> None:
                events.put_nowait((time.monotonic(), event))

            async def dropped(reason: str) -> None:
                error = {"type": "chat:message:error", "data": {"error": {"content": f"socket dropped: {reason}"}}}
                events.put_nowait((time.monotonic(), {"message_id": message_id, "data": error}))

            message_id = str(uuid.uuid4())
            client.on("events", keep)
            client.on("disconnect", dropped)
            await client.connect(
                self.url,
                auth={"token": self.token},
                transports=["websocket"],
                socketio_path="/ws/socket.io",
                wait_timeout=round(self._timeout),
            )
            try:
                await client.call("user-join", {"auth": {"token": self.token}})
                body = question(prompt, model, message_id, client.get_sid())
                # The question goes over a connection that is open already, as a page's does.
                async with http.get(f"{self.url}/api/version") as response:
                    await response.read()
                answer.asked_at = time.monotonic()
                url = f"{self.url}/api/chat/completions"
                async with http.post(url, json=body, headers=self._headers()) as response:
                    accepted = await response.text()
                    if not response.ok:
                        raise OpenWebUIError(f"POST {url}: {response.status} {accepted}")
                answer.chat_id = json.loads(accepted)["chat_id"]
                while True:
                    at, event = await events.get()
                    if event.get("message_id") == message_id and _add_event(answer, event["data"], at):
                        return
            finally:
                await client.disconnect()

    def _headers(self) -> dict[str, str]:
        return {} if self.token is None else {"Authorization": f"Bearer {self.token}"}


def _add_event(answer: Answer, event: dict[str, Any], at: float) -> bool:
    """Take an event of the answer's message in, and say whether it was the last."""
    kind, data = event["type"], event.get("data") or {}
    if kind == "chat:message:error":
        raise OpenWebUIError(data["error"]["content"])
    if kind == "response:completion" and data.get("type") == "response.output_text.delta":
        answer.deltas.append(Delta(at, data["delta"]))
    return kind == "chat:completion" and bool(data.get("done"))


def _add_chunk(answer: Answer, chunk: dict[str, Any], at: float) -> None:
    if error := chunk.get("error"):
        raise OpenWebUIError(str(error))
    for choice in chunk.get("choices", []):
        if text := choice["delta"].get("content"):
            answer.deltas.append(Delta(at, text))


def _json_of(response: httpx.Response) -> Any:  # JSON is what it is
    if response.is_success:
        return response.json()
    raise OpenWebUIError(
        f"{response.request.method} {response.request.url}: {response.status_code} {response.text[:500]}"
    )


class _ResolvingTransport(httpx.HTTPTransport):
    """Connects to the address given for a host; TLS and the Host header still see the host."""

    def __init__(self, addresses: Mapping[str, str], trust: ssl.SSLContext) -> None:
        super().__init__(verify=trust)
        self._addresses = addresses

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        host = request.url.host
        if host not in self._addresses:
            return super().handle_request(request)
        there = httpx.Request(
            request.method,
            request.url.copy_with(host=self._addresses[host]),
            headers=request.headers,
            stream=request.stream,
            extensions={**request.extensions, "sni_hostname": host},
        )
        return super().handle_request(there)


class _Resolver(AbstractResolver):
    """The same for aiohttp."""

    def __init__(self, addresses: Mapping[str, str]) -> None:
        self._addresses = addresses
        self._dns = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        entries = await self._dns.resolve(self._addresses.get(host, host), port, family)
        for entry in entries:
            entry["hostname"] = host
        return entries

    async def close(self) -> None:
        await self._dns.close()
