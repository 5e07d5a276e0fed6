"""Starts Open WebUI inside its container, gives it its environment and its stack's saved settings, and ends it gently.

Runs there with the image's own Python and nothing of this program beside it: `launch.py DIRECTORY COMMAND…`, where
DIRECTORY holds environment.json. Open WebUI copies many variables into its database at its first start and ignores
them from then on. So every saved setting whose variable the stack sets is forgotten before each start, and Open WebUI
takes it from the environment again; what only the admin panel knows stays. A setting that the stack no longer names is
forgotten once more and then belongs to the admin panel.

It stays the application's parent. Told to end, it says so to whoever asks, waits until the proxy sends nothing here any
more and until the answers that were begun are complete, and only then tells the application. What Prometheus is told of
the container is in figures.py beside it.
"""

import ast
import base64
import hashlib
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

OWNED_BEFORE = "open-webui-edge-settings.json"


_TRIED = "OPEN_WEBUI_EDGE_TRIED"
"""Set for what runs below a trial."""
DRAIN_PORT = 8079
"""Where it says whether it is about to end, and at /metrics how its container is."""
_UNASKED = 3.0
"""Seconds in which whoever keeps the list of replicas asks; if nobody does, there is none."""
_NOTICED = 4.0
"""Seconds until the proxy has taken up what it was told: an answer holds for one, and is fetched anew each second."""
_FORCED = 10.0
"""Seconds between being told twice and being killed."""
_SERVICES = 300.0
"""Seconds for the database and Redis to answer at all."""
_BROUGHT = 3.0
"""Seconds for one that runs already, and not only when this stack starts. The engine starts the container again."""


def main(directory: Path, command: list[str]) -> int:
    """Prepare the environment and the saved settings, run the image's own command and return its exit code."""
    # Beside this file in the container.
    import upgrade  # noqa: PLC0415

    # The official image finds the package in its working directory, and nowhere else.
    sys.path.insert(0, str(Path.cwd()))
    given = given_in(directory)
    trial = given.get("trial")
    if trial is not None:
        os.environ.update(upgrade.hidden(given["environment"]))
    package = package_directory()
    owned = set(given["saved_settings"])
    if given["first"]:
        owned |= saved_settings_of(package / "config.py", set(given["environment"]))
    if is_half_restored(data_directory(package)):
        say("refused: a restore was cut short, and the data is half of then and half of now; `make restore` ends it")
        return upgrade.REFUSED
    brought = dict(given["brought"])
    if upgrade.Journal.read(data_directory(package)).attempt is not None:
        # Cut while it was put back, the database may not be there, and what puts it back must run.
        brought.pop("DATABASE_URL", None)
    wait_for_services(brought)
    downgrade = trial is not None and trial["downgrade_from_snapshot"]
    rules = upgrade.Rules(snapshot=given["snapshot"], downgrade_from_snapshot=downgrade)
    change = upgrade.Upgrade(package, data_directory(package), given["version"], rules)
    # What is tried runs below the one that tries it, which has the data to itself.
    if trial is not None and _TRIED not in os.environ:
        os.environ[_TRIED] = "1"
        return upgrade.carry_out(change, trial, [sys.executable, __file__, str(directory), *command])
    # For as long as this process lives.
    lock = None if trial is not None else change.settle(first=given["first"])
    if given["first"]:
        write_saved_settings(package, owned, given["saved_settings"])
        if given.get("former_secret_keys"):
            renew(package, given["former_secret_keys"])
    inside = directory / "inside"
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = f"{inside}:{before}" if before else str(inside)
    application = Application(command, inside, drain=given["drain"], announced=given["announced"])
    if (directory / "figures.py").exists():
        # Beside this file, which is where Python looks first.
        application.figures = importlib.import_module("figures").Figures(directory / "starts").text
    code = application.run()
    if lock is not None:
        lock.let_go()
    return code


def given_in(directory: Path) -> dict[str, Any]:
    """Return what this container is given, and take over its environment."""
    given: dict[str, Any] = json.loads((directory / "environment.json").read_text())
    os.environ.update(given["environment"])
    if "certificate_authorities" in given:
        trust(given["certificate_authorities"], directory / "authorities.pem", given["environment"])
    return given


def trust(authorities: str, bundle: Path, given: Mapping[str, str]) -> None:
    """Let the application trust these authorities as well; `bundle` is where all of them are written together.

    A variable that `given` has stays as it is.
    """
    # The application's own dependency.
    import certifi  # noqa: PLC0415 # pyright: ignore[reportMissingImports, reportMissingModuleSource]

    well_known = Path(cast("Any", certifi).where()).read_text()
    bundle.write_text(f"{well_known}\n{authorities}")
    # The application and what runs beside it inside may be another user.
    bundle.chmod(0o644)
    for name in TRUSTED_BY:
        if name not in given:
            os.environ[name] = str(bundle)


TRUSTED_BY = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AIOHTTP_CLIENT_SSL_CERT_FILE")
"""Variables that say where trusted authorities are: to Python and httpx, to requests, to curl, to Open WebUI."""


class Application:
    """Open WebUI, as a child that ends only when its answers are complete."""

    figures: Callable[..., str] | None = None
    """What Prometheus is told, given whether it is `draining` and `within` how long; None where nobody asks."""

    def __init__(self, command: list[str], inside: Path, *, drain: float, announced: bool) -> None:
        """Keep what to run; `inside` is where its process answers, `drain` seconds, `announced` whether others ask."""
        self._command = command
        self._process_file, self._answer_file = inside / "process", inside / "running"
        self._drain = drain
        self._announced = announced
        self._changed = threading.Event()
        self._told = False
        self._asked_since_told = threading.Event()

    def run(self) -> int:
        """Start it and return its exit code once it has ended."""
        # What an earlier start left: the number may be somebody else's by now.
        self._process_file.unlink(missing_ok=True)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._tell)
        if self._announced or self.figures is not None:
            self._announce()
        self._child = subprocess.Popen(self._command)  # noqa: S603 - the image's own
        threading.Thread(target=self._await_child, daemon=True).start()
        self._changed.wait()
        if self._told and self._child.poll() is None:
            self._end()
        code = self._child.wait()
        return code if code >= 0 else 128 - code

    def _tell(self, _number: int, _frame: object) -> None:
        self._told = True
        self._changed.set()

    def _await_child(self) -> None:
        self._child.wait()
        self._changed.set()

    def _announce(self) -> None:
        application = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                told = application._told
                if self.path == "/metrics" and application.figures is not None:
                    within = self.headers.get("X-Prometheus-Scrape-Timeout-Seconds")
                    self._send("text/plain; version=0.0.4", application.figures(draining=told, within=within))
                    return
                self._send("application/json", json.dumps({"draining": told}))
                if told:
                    application._asked_since_told.set()

            def _send(self, kind: str, text: str) -> None:
                body = text.encode()
                # Who waits no longer is told nothing, and the log neither.
                with suppress(ConnectionError):
                    self.send_response(200)
                    self.send_header("Content-Type", kind)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's
                """Say nothing: it is asked each second."""

        server = ThreadingHTTPServer(("", DRAIN_PORT), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def _end(self) -> None:
        deadline = time.monotonic() + self._drain
        if self._announced:
            say("draining: no new requests from now on")
            if self._asked_since_told.wait(_UNASKED):
                self._wait_until(lambda: False, time.monotonic() + _NOTICED)
        begun = self.running()
        if begun:
            say(f"draining: {len(begun)} answers are being written, for at most {self._drain:.0f} s")
        # Without another replica new questions still come; they do not put off the end.
        self._wait_until(lambda: not begun & self.running(), deadline)
        say("ending the application")
        # It ends its sockets, completes what it streams over HTTP, and then ends.
        self._signal(signal.SIGTERM)
        if self._wait_until(lambda: False, max(deadline, time.monotonic() + _FORCED)):
            return
        say("still answering after the time it had; it is cut")
        self._signal(signal.SIGINT)
        if not self._wait_until(lambda: False, time.monotonic() + _FORCED):
            self._signal(signal.SIGKILL)
            self._child.kill()

    def running(self) -> set[str]:
        """Return the names of the answers that the application is writing; none where it cannot say."""
        number = self._number()
        if number is None:
            return set()
        self._answer_file.unlink(missing_ok=True)
        try:
            os.kill(number, signal.SIGUSR1)
        except ProcessLookupError:
            return set()
        # A busy loop answers late, and a hanging one not at all.
        if not self._wait_until(self._answer_file.exists, time.monotonic() + 5) or not self._answer_file.exists():
            return set()
        return set(self._answer_file.read_text().split())

    def _number(self) -> int | None:
        return int(self._process_file.read_text()) if self._process_file.exists() else None

    def _signal(self, number: signal.Signals) -> None:
        """Signal the application itself: a shell that started it may wait for it and pass nothing on."""
        try:
            os.kill(self._number() or self._child.pid, number)
        except ProcessLookupError:
            self._child.send_signal(number)

    def _wait_until(self, condition: Callable[[], bool], deadline: float) -> bool:
        """Return whether the condition holds or the application has ended, before the deadline."""
        while time.monotonic() < deadline:
            if condition() or self._child.poll() is not None:
                return True
            time.sleep(0.1)
        return False


def say(words: str) -> None:
    """Write into the container's log."""
    print(f"launch: {words}", flush=True)  # noqa: T201 - the container's log


def wait_for_services(brought: Mapping[str, str]) -> None:
    """Return once the database and Redis accept connections, which in a new stack start at the same time.

    `brought` names those that are no part of this stack, by variable, and the setting that says where each is: they
    must let the application in, too. What is wrong with any of them ends the container, all of it at once.
    """
    faults = [
        fault
        for variable, port in (("DATABASE_URL", 5432), ("REDIS_URL", 6379))
        if (fault := _fault_of(variable, port, brought.get(variable))) is not None
    ]
    if faults:
        sys.exit("\n".join(f"launch: {fault}" for fault in faults))


def _fault_of(variable: str, default_port: int, setting: str | None) -> str | None:
    """Wait for a service; return what is wrong with it once the time is over, and None where there is nothing."""
    url = os.environ.get(variable, "")
    parts = urlsplit(url)
    if not parts.hostname:
        return None
    address = (parts.hostname, parts.port or default_port)
    where = f"{address[0]}:{address[1]}"
    deadline = time.monotonic() + (_SERVICES if setting is None else _BROUGHT)
    said = False
    while (why := refusal(address)) is not None:
        if time.monotonic() > deadline:
            return f"{setting or variable}: nothing accepts connections at {where} ({why})"
        if not said:
            say(f"waiting for {where}, which {setting or variable} names ({why})")
            said = True
        time.sleep(0.5)
    if setting is None:
        return None
    why = refused_sign_in(variable, url)
    return None if why is None else f"{setting}: {where} does not let the application in ({why})"


def refusal(address: tuple[str, int]) -> str | None:
    """Return why nothing accepts a connection there; None when something does."""
    try:
        socket.create_connection(address, timeout=5).close()
    except OSError as error:
        return str(error)
    return None


def refused_sign_in(variable: str, url: str) -> str | None:
    """Return in one line why the service does not let the owner of that URL in; None when it does."""
    # The application's own dependencies; a stack that brings nothing need not wait for their import.
    import redis  # noqa: PLC0415 # pyright: ignore[reportMissingImports]
    import sqlalchemy  # noqa: PLC0415 # pyright: ignore[reportMissingImports]

    database, store = cast("Any", sqlalchemy), cast("Any", redis)
    try:
        if variable == "DATABASE_URL":
            engine = database.create_engine(url, connect_args={"connect_timeout": 5})
            engine.connect().close()
            engine.dispose()
        else:
            store.Redis.from_url(url, socket_connect_timeout=5, socket_timeout=5).ping()
    except database.exc.DBAPIError as error:
        return " ".join(str(error.orig).split())
    except store.RedisError as error:
        return str(error)
    return None


def package_directory() -> Path:
    """Return the folder of the open_webui package, without importing it (that takes seconds)."""
    spec = importlib.util.find_spec("open_webui")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("launch: this image holds no open_webui package; name one that does in images.registry")
    return Path(spec.submodule_search_locations[0])


def data_directory(package: Path) -> Path:
    """Return the folder that the volume is mounted to."""
    return Path(os.environ.get("DATA_DIR") or package.parent / "data")


def is_half_restored(data: Path) -> bool:
    """Whether a restore has begun to change the data, and is neither through nor undone.

    What somebody wrote into it meanwhile would be lost when it is brought to its end.
    """
    # As backup/data.py writes them.
    staging = data / ".open-webui-edge-restore"
    return (staging / "undoing").exists() or ((staging / "merging").exists() and not (staging / "in-place").exists())


def saved_settings_of(source: Path, variables: set[str]) -> set[str]:
    """Return the keys of saved settings whose first value comes from one of `variables`.

    Read from the version that runs: its config.py assigns `NAME = … os.getenv("VARIABLE") …` and collects
    `DEFAULT_CONFIG = {"some.key": NAME}`.
    """
    tree = ast.parse(source.read_text())
    reads: dict[str, set[str]] = {}
    uses: dict[str, set[str]] = {}
    collected: ast.Dict | None = None
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            target, value = node.targets[0].id, node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            target, value = node.target.id, node.value
        else:
            continue
        reads.setdefault(target, set()).update(_variables_read(value))
        uses.setdefault(target, set()).update(_names_used(value) - {target})
        if target == "DEFAULT_CONFIG" and isinstance(value, ast.Dict):
            collected = value
    if collected is None:
        sys.exit(f"launch: {source} does not say which settings it saves; this version of Open WebUI is not supported")
    return {
        str(key.value)
        for key, value in zip(collected.keys, collected.values, strict=True)
        if isinstance(key, ast.Constant)
        and variables & (set(_variables_read(value)) | _closure(_names_used(value), reads, uses))
    }


def _variables_read(node: ast.AST) -> Iterator[str]:
    for call in ast.walk(node):
        if (
            isinstance(call, ast.Call)
            and ast.unparse(call.func) in {"os.getenv", "os.environ.get"}
            and call.args
            and isinstance(call.args[0], ast.Constant)
        ):
            yield str(call.args[0].value)


def _names_used(node: ast.AST) -> set[str]:
    """Names in an expression, but not those in the fallback of a getenv: that is another setting's variable."""
    names: set[str] = set()
    pending: list[ast.AST] = [node]
    while pending:
        current = pending.pop()
        if isinstance(current, ast.Name):
            names.add(current.id)
        if isinstance(current, ast.Call) and ast.unparse(current.func) in {"os.getenv", "os.environ.get"}:
            continue
        pending.extend(ast.iter_child_nodes(current))
    return names


def _closure(names: set[str], reads: dict[str, set[str]], uses: dict[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    pending = list(names)
    variables: set[str] = set()
    while pending:
        name = pending.pop()
        if name not in seen:
            seen.add(name)
            variables |= reads.get(name, set())
            pending.extend(uses.get(name, ()))
    return variables


def write_saved_settings(package: Path, owned: set[str], exact: dict[str, object]) -> None:
    """Forget the settings that the stack owns or owned before, and write those that no variable can carry."""
    # Open WebUI's own dependency, present wherever it runs.
    import sqlalchemy  # noqa: PLC0415 # pyright: ignore[reportMissingImports]

    data = data_directory(package)
    remembered = data / OWNED_BEFORE
    owned_before = set(json.loads(remembered.read_text())) if remembered.exists() else set[str]()
    engine = sqlalchemy.create_engine(database_url(package))
    if not _has_current_table(sqlalchemy.inspect(engine)):
        import upgrade  # noqa: PLC0415 - as above

        subprocess.run([sys.executable, "-c", upgrade.MIGRATE, str(package)], check=True)  # noqa: S603 - our own words
    forget = sqlalchemy.text("DELETE FROM config WHERE key = :key")
    write = sqlalchemy.text("INSERT INTO config (key, value, updated_at) VALUES (:key, :value, :now)")
    with engine.begin() as connection:
        for key in sorted(owned | owned_before):
            connection.execute(forget, {"key": key})
        for key, value in sorted(exact.items()):
            connection.execute(write, {"key": key, "value": json.dumps(value), "now": int(time.time())})
    engine.dispose()
    unfinished = remembered.with_suffix(".new")
    unfinished.write_text(json.dumps(sorted(owned)))
    unfinished.replace(remembered)
    say(f"{len(owned)} saved settings come from the stack")


def database_url(package: Path) -> str:
    """Return where the application keeps what it knows."""
    return os.environ.get("DATABASE_URL") or f"sqlite:///{data_directory(package)}/webui.db"


ENCRYPTED = {
    "auth": "mfa",
    "config": "value",
    "function": "valves",
    "oauth_session": "token",
    "tool": "valves",
    "user": "settings",
}
"""Where the application may have encrypted something with its secret key: table and column."""
# A token of Fernet: version 0x80 and the upper bytes of a time, in base64 (its specification).
_TOKEN = re.compile(r"gAAAAA[A-Za-z0-9_-]{60,}={0,2}")


def renew(package: Path, former: list[str]) -> None:
    """Write anew, under the secret key in use, what is encrypted with one of the former ones."""
    import sqlalchemy  # noqa: PLC0415 # pyright: ignore[reportMissingImports]

    ciphers = Ciphers(os.environ["WEBUI_SECRET_KEY"], former)
    database = cast("Any", sqlalchemy)
    engine = database.create_engine(database_url(package))
    inspector = database.inspect(engine)
    count = 0
    with engine.begin() as connection:
        for name, column in ENCRYPTED.items():
            if not inspector.has_table(name):
                continue
            columns = {one["name"]: str(one["type"]) for one in inspector.get_columns(name)}
            keys = inspector.get_pk_constraint(name)["constrained_columns"]
            if column not in columns or len(keys) != 1:
                continue
            table, key = f'"{name}"', f'"{keys[0]}"'
            rows = connection.execute(
                database.text(
                    f'SELECT {key}, CAST("{column}" AS TEXT) FROM {table}'  # noqa: S608 - names of our own
                    f" WHERE CAST(\"{column}\" AS TEXT) LIKE '%gAAAAA%'"
                )
            ).all()
            kind = (
                columns[column] if columns[column] in {"JSON", "JSONB"} and engine.dialect.name != "sqlite" else "TEXT"
            )
            write = database.text(f'UPDATE {table} SET "{column}" = CAST(:value AS {kind}) WHERE {key} = :key')  # noqa: S608
            for identity, before in rows:
                after = _TOKEN.sub(lambda found: ciphers.renewed(found[0]), before)
                if after != before:
                    connection.execute(write, {"value": after, "key": identity})
                    count += 1
    engine.dispose()
    say(f"{count} records that an earlier secret key had encrypted are written anew")


class Ciphers:
    """What the application makes of its secret key: a cipher for most, and another for second factors."""

    def __init__(self, used: str, former: list[str]) -> None:
        """Make those of the key in use, and of the former ones."""
        self._used = self._both(used)
        self._former = [self._both(key) for key in former]

    def renewed(self, token: str) -> str:
        """Return the token under the key in use; as it is where that, or no former one, has made it."""
        for one in self._used:
            if self._opened(one, token) is not None:
                return token
        for pair in self._former:
            for used, former in zip(self._used, pair, strict=True):
                text = self._opened(former, token)
                if text is not None:
                    return used.encrypt(text).decode()
        return token

    @staticmethod
    def _both(key: str) -> "tuple[Any, Any]":
        from cryptography.fernet import Fernet  # noqa: PLC0415 - the application's own dependency
        from cryptography.hazmat.primitives import hashes  # noqa: PLC0415
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF  # noqa: PLC0415

        # Like open_webui/utils/valves.py, models/oauth_sessions.py and utils/mfa.py.
        as_it_is = len(key) == 44  # noqa: PLR2004 - 32 bytes in base64
        plain = key.encode() if as_it_is else base64.urlsafe_b64encode(hashlib.sha256(key.encode()).digest())
        second = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=b"open-webui/mfa-encryption/v1")
        return Fernet(plain), Fernet(base64.urlsafe_b64encode(second.derive(key.encode())))

    @staticmethod
    def _opened(cipher: object, token: str) -> bytes | None:
        from cryptography.fernet import InvalidToken  # noqa: PLC0415

        try:
            return cast("Any", cipher).decrypt(token.encode())
        except InvalidToken:
            return None


def _has_current_table(inspector) -> bool:  # noqa: ANN001 # pyright: ignore[reportMissingParameterType, reportUnknownParameterType] - sqlalchemy is not among our own packages
    if not inspector.has_table("config"):  # pyright: ignore[reportUnknownMemberType]
        return False
    columns = {column["name"] for column in inspector.get_columns("config")}  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return "key" in columns


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
