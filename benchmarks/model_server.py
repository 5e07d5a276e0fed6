"""An OpenAI-compatible server with a model that counts, one token at a time.

It stands in for a language model over the real interface: `GET /v1/models`, `POST /v1/chat/completions`, plain or
streamed, and `POST /v1/embeddings`. It asks for a key, and remembers which keys it saw and when it sent each token.

A user message `Count to 20, one every 100 ms` is answered `1 2 3 … 20` in that rhythm; any other by a greeting.
Standard library only, so that it also runs alone, beside a deployment:

    python -m open_webui_edge.benchmarks.model_server --host 127.0.0.1 --port 9999 --key secret
"""

import argparse
import json
import re
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, NamedTuple, Self, cast

MODEL = "counting-model"
GREETING = "Hello from the counting model."
_COUNT = re.compile(r"Count to (?P<last>\d{1,5})(?:, one every (?P<gap>\d{1,6}) ms)?\.?")


class Token(NamedTuple):
    """A token and when it was sent, by `time.monotonic()` of this machine."""

    at: float
    text: str


@dataclass(frozen=True)
class SeenRequest:
    """A request that reached the server, whether its key was right or not."""

    method: str
    path: str
    key: str | None
    accepted: bool


@dataclass
class Completion:
    """An answer of the model: what was asked and what has been sent of it so far."""

    prompt: str
    streamed: bool
    key: str
    tokens: list[Token] = field(default_factory=list[Token])
    finished: bool = False
    """False while it is being sent, and for good if the client went away."""


def count_to(last: int, *, every: float | None = None) -> str:
    """Say the prompt that makes the model count; `every` is seconds."""
    return f"Count to {last}" if every is None else f"Count to {last}, one every {round(every * 1000)} ms"


class ModelServer:
    """The server in a thread of this process: `with ModelServer(host="172.17.0.1") as model: … model.url`."""

    def __init__(  # noqa: PLR0913 - keywords, each a thing of its own
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        keys: Iterable[str] = ("model-key",),
        models: Iterable[str] = (MODEL,),
        gap: float = 0.05,
        answers: Mapping[str, str] | None = None,
    ) -> None:
        """Bind at once, so that `url` is known; port 0 takes a free one. `gap` is seconds between tokens.

        `answers` maps a prompt to the text that answers it.
        """
        self.keys = set(keys)
        """Keys that are let in; may be changed while the server runs."""
        self.models = list(models)
        self.gap = gap
        self.answers = dict(answers or {})
        self.requests: list[SeenRequest] = []
        self.completions: list[Completion] = []
        self._http = _Server((host, port), self)
        self.host: str = host
        self.port: int = self._http.server_port
        self.url = f"http://{host}:{self.port}/v1"
        self._thread = threading.Thread(target=self._http.serve_forever, name="model server", daemon=True)

    def completion(self, prompt: str) -> Completion:
        """Return the newest answer to `prompt`; raises LookupError when the model was never asked that."""
        for completion in reversed(self.completions):
            if completion.prompt == prompt:
                return completion
        raise LookupError(f"the model was never asked {prompt!r}, only {[c.prompt for c in self.completions]}")

    def __enter__(self) -> Self:
        """Start to answer."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop listening; an answer that is being sent ends with the process."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], model: ModelServer) -> None:
        self.model = model
        super().__init__(address, _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a client that goes away is no fault of the server, and `Completion.finished` tells."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm: ClassVar[bool] = True

    def do_GET(self) -> None:
        if self._is_let_in() and self._is_at("/v1/models"):
            owned = {"object": "model", "created": 0, "owned_by": "tests"}
            self._send_json({"object": "list", "data": [{"id": name, **owned} for name in self._model.models]})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not self._is_let_in():
            return
        asked = json.loads(body)
        if self.path == "/v1/embeddings":
            self._embed(asked["input"])
            return
        if not self._is_at("/v1/chat/completions"):
            return
        if asked.get("model") not in self._model.models:
            self._send_error(404, f"The model `{asked.get('model')}` does not exist", "model_not_found")
            return
        completion = Completion(_prompt_of(asked["messages"]), bool(asked.get("stream")), self._key() or "")
        self._model.completions.append(completion)
        texts, gap = _answer_to(completion.prompt, self._model.gap, self._model.answers)
        if completion.streamed:
            with_usage = bool((asked.get("stream_options") or {}).get("include_usage"))
            self._stream(completion, texts, gap, asked["model"], with_usage=with_usage)
        else:
            completion.tokens += [Token(time.monotonic(), text) for text in texts]
            message = {"role": "assistant", "content": "".join(texts)}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            head = _head("chat.completion", asked["model"])
            self._send_json({**head, "choices": [choice], "usage": _usage(len(texts))})
        completion.finished = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name is the base class's
        """Say nothing: what came is in `ModelServer.requests`."""

    @property
    def _model(self) -> ModelServer:
        return cast("_Server", self.server).model

    def _key(self) -> str | None:
        # The standard library reads headers as Latin-1; a key may hold any character, and arrives as UTF-8.
        header = self.headers.get("Authorization", "").encode("latin-1").decode(errors="replace")
        return header.removeprefix("Bearer ") if header.startswith("Bearer ") else None

    def _is_let_in(self) -> bool:
        key = self._key()
        accepted = key in self._model.keys
        self._model.requests.append(SeenRequest(self.command, self.path, key, accepted))
        if not accepted:
            self._send_error(401, "Incorrect API key provided", "invalid_api_key")
        return accepted

    def _is_at(self, path: str) -> bool:
        if self.path.partition("?")[0] == path:
            return True
        self._send_error(404, f"Nothing is at {self.path}", "not_found")
        return False

    def _send_error(self, status: int, message: str, code: str) -> None:
        self._send_json({"error": {"message": message, "type": "invalid_request_error", "code": code}}, status)

    def _send_json(self, answer: Mapping[str, Any], status: int = 200) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _embed(self, texts: str | list[str]) -> None:
        """Answer with a vector for each text, as long as those of OpenAI's small model."""
        texts = [texts] if isinstance(texts, str) else texts
        vectors = [[len(text) / (number + 1) for number in range(1536)] for text in texts]
        data = [{"object": "embedding", "index": index, "embedding": each} for index, each in enumerate(vectors)]
        self._send_json({"object": "list", "data": data, "usage": _usage(len(texts))})

    def _stream(self, completion: Completion, texts: list[str], gap: float, model: str, *, with_usage: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-cache")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        head = _head("chat.completion.chunk", model)

        def send(choices: list[dict[str, Any]], **more: object) -> None:
            self._send_event(json.dumps({**head, "choices": choices, **more}))

        send([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])
        for number, text in enumerate(texts):
            if number:
                time.sleep(gap)
            completion.tokens.append(Token(time.monotonic(), text))
            send([{"index": 0, "delta": {"content": text}, "finish_reason": None}])
        send([{"index": 0, "delta": {}, "finish_reason": "stop"}])
        if with_usage:
            send([], usage=_usage(len(texts)))
        self._send_event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def _send_event(self, data: str) -> None:
        event = f"data: {data}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))


def _prompt_of(messages: list[dict[str, Any]]) -> str:
    """Return the text of the last message of the user, which is a string or a list of parts."""
    content = next((message["content"] for message in reversed(messages) if message["role"] == "user"), "")
    if isinstance(content, str):
        return content.strip()
    return "".join(part.get("text", "") for part in content).strip()


def _answer_to(prompt: str, default_gap: float, answers: Mapping[str, str]) -> tuple[list[str], float]:
    """Return the tokens of the answer and the seconds between two of them."""
    if match := _COUNT.fullmatch(prompt):
        gap = default_gap if match["gap"] is None else int(match["gap"]) / 1000
        return [str(number) if number == 1 else f" {number}" for number in range(1, int(match["last"]) + 1)], gap
    return re.findall(r"\s*\S+", answers.get(prompt, GREETING)), default_gap


def _head(kind: str, model: str) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": kind, "created": int(time.time()), "model": model}


def _usage(tokens: int) -> dict[str, int]:
    return {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": tokens + 1}


def main() -> None:
    """Run the server alone until it is interrupted."""
    parser = argparse.ArgumentParser(prog="model_server", description="An OpenAI-compatible model that counts.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9999)
    parser.add_argument("--key", action="append", required=True, help="a key that is let in; may be given again")
    parser.add_argument("--gap", type=float, default=0.05, help="seconds between two tokens (%(default)s)")
    given = parser.parse_args()
    with ModelServer(given.host, given.port, keys=given.key, gap=given.gap) as model:
        print(f"Listening on {model.url}", flush=True)  # noqa: T201  # a program says where it listens
        with suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
