"""The doctor's probe: runs inside the application's container with its Python, and prints its results as JSON.

`python3 -I - QUESTION ARGUMENT…` with this file as its input. It uses the secrets that the container holds, and no
result contains one. It changes nothing, except for questions marked CHANGES.
"""

import hashlib
import hmac
import importlib.util
import json
import os
import re
import socket
import ssl
import struct
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Collection, Mapping
from contextlib import suppress
from http.client import HTTPResponse
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit, urlunsplit

from open_webui_edge.runtime.contract import CONFIG_DIR, PORT

CONFIG = Path(CONFIG_DIR)
APPLICATION = f"http://127.0.0.1:{PORT}"
_LARGEST_ANSWER = 4 << 20
INPUT: dict[str, Any] = globals().get("INPUT", {})
"""Set by a line in front of this program if it needs a secret: others could read an argument."""
ANSWER_TIMEOUT = float(INPUT.get("patience", 6.0))
"""Seconds for the answer of another service."""


def configuration() -> dict[str, Any]:
    """Return the launcher's configuration."""
    return json.loads((CONFIG / "environment.json").read_text(encoding="utf-8"))


def variables() -> dict[str, str]:
    """Return the application's environment."""
    return {**os.environ, **configuration()["environment"]}


def package() -> Path:
    """Return the folder of the application's package."""
    # The official image has the package in its working directory only.
    sys.path.insert(0, str(Path.cwd()))
    spec = importlib.util.find_spec("open_webui")
    if spec is None or not spec.submodule_search_locations:
        raise LookupError("this image holds no open_webui package")
    return Path(spec.submodule_search_locations[0])


def database_url() -> str:
    """Return the URL of the database."""
    data = Path(variables().get("DATA_DIR") or package().parent / "data")
    return variables().get("DATABASE_URL") or f"sqlite:///{data}/webui.db"


def connect() -> tuple[Any, Any]:
    """Return SQLAlchemy and an engine without a pool; using it raises the errors of its drivers."""
    library: Any = importlib.import_module("sqlalchemy")
    url = database_url()
    timeout = {"timeout": ANSWER_TIMEOUT} if url.startswith("sqlite") else {"connect_timeout": int(ANSWER_TIMEOUT)}
    return library, library.create_engine(url, connect_args=timeout, poolclass=library.pool.NullPool)


def database() -> dict[str, Any]:
    """Return whether the database accepts the application, and how full it is."""
    library, engine = connect()
    began = time.monotonic()
    try:
        with engine.connect() as connection:

            def one(question: str) -> Any:  # noqa: ANN401
                return connection.execute(library.text(question)).scalar()

            if engine.dialect.name == "sqlite":
                return {
                    "kind": "sqlite",
                    "users": one('SELECT count(*) FROM "user"'),
                    "journal": one("PRAGMA journal_mode"),
                }
            facts = {
                "kind": "postgresql",
                "version": one("SHOW server_version"),
                "vector": one("SELECT extversion FROM pg_extension WHERE extname = 'vector'"),
                "vector_available": one("SELECT default_version FROM pg_available_extensions WHERE name = 'vector'"),
                "connections": one("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"),
                "limit": int(one("SHOW max_connections")),
                "size": one("SELECT pg_database_size(current_database())"),
                "read_only": one("SHOW transaction_read_only") == "on",
                "vectors_here": variables().get("VECTOR_DB", "") == "pgvector",
            }
            return {**facts, "seconds": time.monotonic() - began}
    except library.exc.DBAPIError as error:
        words = str(error.orig)
        return {"fault": _kind_of(words, _DATABASE_FAULTS), "words": _one_line(words)}


_DATABASE_FAULTS = {
    "refused": r"authentication failed|no password supplied|role.*does not exist",
    "full": r"too many clients|remaining connection slots|too many connections",
    "no_database": r"database.*does not exist",
    "disk": r"no space left|database or disk is full|disk i/o",
    "name": r"could not translate|name or service|resolution",
    "damaged": r"malformed|not a database",
}
_REDIS_FAULTS = {
    "refused": r"wrongpass|noauth|invalid username-password|authentication",
    "full": r"max number of clients",
    "loading": r"loading",
    "name": r"name or service|resolution",
}


def _kind_of(words: str, faults: Mapping[str, str]) -> str:
    """Return the first kind of fault whose pattern is in an error's words."""
    matching = (kind for kind, pattern in faults.items() if re.search(pattern, words, re.IGNORECASE | re.DOTALL))
    return next(matching, "unreachable")


def store() -> dict[str, Any]:
    """Return whether Redis accepts the application, and how full it is."""
    library: Any = importlib.import_module("redis")
    url = variables()["REDIS_URL"]
    began = time.monotonic()
    try:
        client = library.Redis.from_url(url, socket_connect_timeout=ANSWER_TIMEOUT, socket_timeout=ANSWER_TIMEOUT)
        client.ping()
        facts: dict[str, Any] = {"seconds": time.monotonic() - began}
        try:
            information = client.info()
            facts |= {
                "memory": information.get("used_memory"),
                "memory_limit": information.get("maxmemory"),
                "clients": information.get("connected_clients"),
                "clients_limit": information.get("maxclients"),
                "policy": information.get("maxmemory_policy"),
                "rejected": information.get("rejected_connections"),
                "writes_fail": information.get("aof_last_write_status") == "err"
                or information.get("rdb_last_bgsave_status") == "err",
                "role": information.get("role"),
            }
        except library.RedisError as error:
            facts["unsaid"] = _one_line(str(error))
    except library.RedisError as error:
        words = _one_line(str(error))
        return {"fault": _kind_of(words, _REDIS_FAULTS), "words": words}
    return facts


def models() -> dict[str, Any]:
    """Request the models of each provider with the application's own key, and those of Ollama."""
    settings_file = configuration()
    saved = settings_file["saved_settings"]
    owner = "stack"
    if "openai.api_base_urls" not in saved:
        owner = "panel"
        saved = _rows(["openai.api_base_urls", "openai.api_keys", "openai.enable"])[0]
    urls: list[str] = saved.get("openai.api_base_urls") or []
    keys: list[str] = saved.get("openai.api_keys") or []
    if owner == "panel" and (saved.get("openai.enable") is False or not any(keys)):
        # Without a key it is Open WebUI's own default.
        urls = []
    environment = settings_file["environment"]
    ollama = environment.get("OLLAMA_BASE_URL") if environment.get("ENABLE_OLLAMA_API") == "true" else None
    tags = {} if ollama is None else ask(f"{ollama.rstrip('/')}/api/tags")
    return {
        "owner": owner,
        "providers": [
            {"url": without_password(url), **provider(url, keys[number] if number < len(keys) else "")}
            for number, url in enumerate(urls)
        ],
        "ollama": None if ollama is None else {"url": without_password(ollama), **tags},
    }


def provider(url: str, key: str) -> dict[str, Any]:
    """Return how an OpenAI-compatible API answers the request for its models."""
    base = url.rstrip("/")
    answer = ask(f"{base}/models", key)
    if answer.get("status") == 404 or answer.get("odd"):  # noqa: PLR2004 - HTTP
        for other in (f"{base}/v1", f"{base}/api/v1", f"{base}/openai/v1", f"{base}/v1beta/openai"):
            there = ask(f"{other}/models", key)
            if there.get("status") in {200, 401, 403} and not there.get("odd"):
                return {**answer, "rather": without_password(other)}
    return answer


def ask(url: str, key: str = "") -> dict[str, Any]:
    """Request a list of models; the body of an error is not read, since it may quote the key."""
    headers = {"Accept": "application/json", "User-Agent": "open-webui-edge-doctor"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    host = urlsplit(url).hostname or ""
    try:
        # Headers are Latin-1 to this library; a key may hold anything, and the application sends UTF-8.
        headers = {name: value.encode().decode("latin-1") for name, value in headers.items()}
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 - http or https, as the settings say
        with _opener.open(request, timeout=ANSWER_TIMEOUT) as answer:
            body = answer.read(_LARGEST_ANSWER)
            return {"status": answer.status, **_listed(body)}
    except urllib.error.HTTPError as error:
        error.close()
        return {"status": error.code}
    except (OSError, ValueError) as error:
        return {"fault": _fault_of_connection(error), "words": _one_line(str(_reason(error))), "host": host}


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: a key is sent to the configured address only."""

    def redirect_request(self, *_: Any, **__: Any) -> None:  # noqa: ANN401
        return None


_opener = urllib.request.build_opener(_NoRedirect)


def _listed(body: bytes) -> dict[str, Any]:
    try:
        document: Any = json.loads(body)
    except ValueError:
        return {"odd": True}
    if isinstance(document, dict):
        listing = cast("dict[str, Any]", document)
        document = listing.get("data", listing.get("models"))
    return {"models": len(cast("list[Any]", document))} if isinstance(document, list) else {"odd": True}


def _reason(error: Exception) -> object:
    return error.reason if isinstance(error, urllib.error.URLError) else error


def _fault_of_connection(error: Exception) -> str:
    reason = _reason(error)
    if isinstance(reason, ssl.SSLError):
        return "tls"
    if isinstance(reason, socket.gaierror):
        return "name"
    if isinstance(reason, TimeoutError) or "timed out" in str(reason):
        return "silent"
    if isinstance(reason, ConnectionRefusedError):
        return "refused"
    return "unreachable"


def settings() -> dict[str, Any]:
    """Return the saved settings that differ from the stack's, and the number of those that the stack sets."""
    # Write no byte code into the container's volume.
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(CONFIG))
    launch: Any = importlib.import_module("launch")
    document = configuration()
    environment, exact = document["environment"], document["saved_settings"]
    source, read = package() / "config.py", launch.saved_settings_of
    owned = {*read(source, set(environment)), *exact}
    rows, changed_at = _rows(owned)
    began = float(INPUT["started"])
    # The start itself writes the values of the environment, whatever their form.
    last_own_write = min((moment for moment in changed_at.values() if moment >= began - 1), default=0) + 2
    differ: list[dict[str, Any]] = []
    for key, value in sorted(rows.items()):
        names: list[str] = []
        if key in exact:
            expected, is_the_stacks = exact[key], value == exact[key]
        elif changed_at[key] > last_own_write:
            # Reading the source takes a while, and is rarely needed.
            names = sorted(name for name in environment if key in read(source, {name}))
            expected = environment[names[0]] if len(names) == 1 else ""
            is_the_stacks = any(means(environment[name], value) for name in names)
        else:
            continue
        if not is_the_stacks:
            shown = {"now": displayable(key, value), "stack": displayable(key, expected)}
            differ.append({"key": key, "variables": names, **shown})
    return {"owned": len(owned), "differ": differ}


def means(text: str, value: object) -> bool:
    """Return whether a variable's text means a saved value: as text, number, boolean, list or JSON."""
    plain = text.strip()
    readings: list[object] = [text, plain, plain.rstrip("/")]
    if plain.lower() in {"true", "false"}:
        readings.append(plain.lower() == "true")
    if not plain:
        readings += [None, [], {}, 0, False]
    for separator in (";", ","):
        readings.append([part.strip() for part in plain.split(separator)])
        readings.append([part.strip() for part in plain.split(separator) if part.strip()])
    for read in (int, float, json.loads):
        try:
            readings.append(read(plain))
        except ValueError:
            continue
    return any(type(reading) is type(value) and reading == value for reading in readings) or (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and value in [r for r in readings if type(r) in {int, float}]
    )


_MAY_BE_SECRET = ("key", "secret", "password", "token", "credential", "connections", "auth", "webhook")


def displayable(key: str, value: object) -> str | None:
    """Return a value as text to display; None if it may be a secret, or is long."""
    if any(word in key.lower() for word in _MAY_BE_SECRET):
        return None
    parts = cast("list[object]", value) if isinstance(value, list) else []
    if isinstance(value, dict) or any(isinstance(part, dict | list) for part in parts):
        return None
    text = value if isinstance(value, str) else json.dumps(value)
    if len(text) > 120 or ("://" in text and "@" in text):  # noqa: PLR2004 - a line's worth
        return None
    return text


def forget() -> dict[str, Any]:
    """CHANGES: reset the named saved settings to the stack's values."""
    document = configuration()
    exact = document["saved_settings"]
    library, engine = connect()
    with engine.begin() as connection:
        for key in sys.argv[2:]:
            connection.execute(library.text("DELETE FROM config WHERE key = :key"), {"key": key})
            if key in exact:
                connection.execute(
                    library.text("INSERT INTO config (key, value, updated_at) VALUES (:key, :value, :now)"),
                    {"key": key, "value": json.dumps(exact[key]), "now": int(time.time())},
                )
    return {"forgotten": sys.argv[2:]}


def _rows(keys: Collection[str]) -> tuple[dict[str, Any], dict[str, float]]:
    """Return the values of saved settings, and the times of their last changes."""
    library, engine = connect()
    rows: dict[str, Any] = {}
    moments: dict[str, float] = {}
    with engine.connect() as connection:
        for key, value, moment in connection.execute(library.text("SELECT key, value, updated_at FROM config")):
            if key in keys:
                # SQLite returns JSON as text, PostgreSQL's drivers return it decoded.
                is_text = isinstance(value, str) and engine.dialect.name == "sqlite"
                rows[key] = json.loads(value) if is_text else value
                moments[key] = moment or 0
    return rows, moments


def key() -> dict[str, Any]:
    """Return a hash of the secret key that can be compared within this run only."""
    salt = INPUT["salt"]
    secret = variables().get("WEBUI_SECRET_KEY", "")
    mark = hmac.new(salt.encode(), secret.encode(), hashlib.sha256).hexdigest() if secret else None
    return {"mark": mark, "length": len(secret)}


def application(
    path: str, data: bytes | None = None, *, token: str | None = None, seconds: float = ANSWER_TIMEOUT
) -> HTTPResponse:
    """Send a request to the application without the proxy: a POST if there is `data`, which is JSON.

    Raises:
        OSError: the answer is an error (HTTPError), or there is none.

    """
    headers = {"Content-Type": "application/json"} if data else {}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(f"{APPLICATION}{path}", data, headers)  # noqa: S310 - the application itself
    return urllib.request.urlopen(request, timeout=seconds)  # noqa: S310 - the application itself


def _fault_of_answer(error: Exception) -> dict[str, Any]:
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        return {"fault": f"the application answers {error.code}", "status": error.code}
    return {"fault": _one_line(str(_reason(error)))}


def ready() -> dict[str, Any]:
    """Return how the application answers without the proxy."""
    began = time.monotonic()
    try:
        with application("/ready") as answer:
            status, body = answer.status, answer.read(_LARGEST_ANSWER)
    except urllib.error.HTTPError as error:
        status, body = error.code, error.read(_LARGEST_ANSWER)
    except OSError as error:
        return _fault_of_answer(error)
    text = body.decode(errors="replace")[:200]
    return {"status": status, "body": text, "seconds": time.monotonic() - began}


def sign_in() -> dict[str, Any]:
    """Return a session of the administrator that the stack created."""
    environment = configuration()["environment"]
    form = {"email": environment.get("WEBUI_ADMIN_EMAIL"), "password": environment.get("WEBUI_ADMIN_PASSWORD")}
    if not form["email"]:
        return {"fault": "no administrator is named in the settings"}
    try:
        with application("/api/v1/auths/signin", json.dumps(form).encode()) as answer:
            return {"token": json.load(answer)["token"]}
    except (OSError, ValueError, KeyError) as error:
        return _fault_of_answer(error)


def rotation() -> dict[str, Any]:
    """Query the readiness sidecar for the replicas that get requests, by DNS (RFC 1035)."""
    name = INPUT["upstream"].encode()
    question = (
        struct.pack("!HHHHHH", 7, 0x0100, 1, 0, 0, 0) + bytes([len(name)]) + name + b"\0" + struct.pack("!HH", 1, 1)
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(ANSWER_TIMEOUT)
        try:
            asking.connect(("readiness", 5353))
            asking.send(question)
            answer = asking.recv(4096)
        except OSError as error:
            return _fault_of_answer(error)
    count = struct.unpack_from("!H", answer, 6)[0]
    # Each record is 16 bytes long; its name is a two-byte pointer.
    records = [answer[len(question) + 16 * number :][:16] for number in range(count)]
    return {"addresses": [socket.inet_ntoa(record[12:16]) for record in records]}


def stream() -> dict[str, Any]:
    """Send a prompt over SSE without the proxy; return the time of each chunk in seconds after the request."""
    token, model, prompt, seconds = INPUT["token"], INPUT["model"], INPUT["prompt"], INPUT["seconds"]
    body = {"model": model, "stream": True, "messages": [{"role": "user", "content": prompt}]}
    began = time.monotonic()
    moments: list[float] = []
    try:
        with application("/api/chat/completions", json.dumps(body).encode(), token=token, seconds=seconds) as answer:
            for line in answer:
                at = time.monotonic() - began
                if line.startswith(b"data: ") and b"content" in line:
                    moments.append(at)
                if at > seconds:
                    break
    except OSError as error:
        return {**_fault_of_answer(error), "moments": moments}
    return {"moments": moments}


def picks() -> dict[str, Any]:
    """Return the models that the administrator may use, and the default of a new chat."""
    try:
        with application("/api/models", token=INPUT["token"]) as answer:
            names = [model["id"] for model in json.load(answer)["data"]]
        chosen = _rows(["ui.default_models"])[0].get("ui.default_models") or ""
    except (OSError, ValueError, KeyError) as error:
        return _fault_of_answer(error)
    first = [name for name in str(chosen).split(",") if name in names]
    return {"models": names, "first": first[0] if first else None}


def sign_out() -> dict[str, Any]:
    """End a session."""
    try:
        with application("/api/v1/auths/signout", b"", token=INPUT["token"]) as answer:
            return {"status": answer.status}
    except OSError as error:
        return _fault_of_answer(error)


def without_password(url: str) -> str:
    """Return a URL without user name and password."""
    parts = urlsplit(url)
    if parts.username is None and parts.password is None:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _one_line(words: str) -> str:
    return " ".join(words.split())[:300]


def facts() -> dict[str, Any]:
    """Answer all read-only questions concurrently: importing SQLAlchemy takes longer than most answers."""
    names = INPUT["names"]
    answers: dict[str, Any] = {}

    def answer(name: str) -> None:
        try:
            answers[name] = QUESTIONS[name]()
        except Exception as error:  # noqa: BLE001 - reported; the others are answered
            answers[name] = {"error": f"{type(error).__name__}: {_one_line(str(error))}"}

    # Imported before the threads start: two threads that import one library block each other.
    with suppress(ImportError):
        importlib.import_module("sqlalchemy")
    threads = [threading.Thread(target=answer, args=(name,), daemon=True) for name in names]
    deadline = time.monotonic() + INPUT["seconds"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return {name: answers.get(name, {"error": "no answer in time"}) for name in names}


_ANSWERS = (facts, database, store, models, settings, forget, key, ready, rotation, picks, stream, sign_in, sign_out)
QUESTIONS = {answer.__name__: answer for answer in _ANSWERS}


if __name__ == "__main__":
    print(json.dumps(QUESTIONS[sys.argv[1]]()), flush=True)  # noqa: T201 - its answer
    # Do not wait for threads that timed out.
    os._exit(0)
