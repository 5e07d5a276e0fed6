"""Supervises Open WebUI inside its container: sets its environment and saved settings, and shuts it down gracefully.

Runs with the image's own Python and nothing else of this project: `launch.py DIRECTORY COMMAND…`, where DIRECTORY holds
environment.json. Open WebUI copies many variables into its database at its first start and ignores them from then on.
So before each start the launcher deletes every saved setting whose variable the stack sets, and Open WebUI reads them
from the environment again; settings that only the admin panel sets stay. A setting that the stack no longer sets is
deleted once more and then belongs to the admin panel.

The launcher stays the application's parent. On SIGTERM it reports that it is draining, waits until the proxy sends no
more requests and until the answers in progress are complete, and only then stops the application. The metrics of the
container come from container_metrics.py, which is next to it as figures.py.
"""

import ast
import base64
import hashlib
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

MANAGED_SETTINGS_FILE = "open-webui-edge-settings.json"


_IN_TRIAL = "OPEN_WEBUI_EDGE_TRIED"
"""Variable that is set for the processes of a trial."""
DRAIN_PORT = 8079
"""Port for the drain status, and at /metrics for the metrics of the container."""
_DRAIN_PROBE_TIMEOUT = 3.0
"""Seconds in which the readiness sidecar probes this replica; without a probe there is no sidecar."""
_DNS_TTL_GRACE = 4.0
"""Seconds until the proxy uses the new list: a DNS answer is valid for one second and is refreshed each second."""
_KILL_AFTER = 10.0
"""Seconds between SIGTERM, SIGINT and SIGKILL."""
_SERVICES_TIMEOUT = 300.0
"""Seconds for the database and Redis to accept connections."""
_EXTERNAL_SERVICE_TIMEOUT = 3.0
"""Seconds for an external service, which runs already. The engine restarts the container afterwards."""


def main(directory: Path, command: list[str]) -> int:
    """Prepare the environment and the saved settings, run the image's own command and return its exit code."""
    # Next to this file in the container.
    import upgrade  # noqa: PLC0415

    # The official image has the package in its working directory only.
    sys.path.insert(0, str(Path.cwd()))
    configuration = load_environment(directory)
    trial = configuration.get("trial")
    if trial is not None:
        os.environ.update(upgrade.trial_environment(configuration["environment"]))
    package = package_directory()
    owned = set(configuration["saved_settings"])
    if configuration["first"]:
        owned |= saved_settings_of(package / "config.py", set(configuration["environment"]))
    if is_half_restored(data_directory(package)):
        say("refused: an interrupted restore left the data inconsistent; run `make restore` to finish it")
        return upgrade.REFUSED
    external_services = dict(configuration["brought"])
    if upgrade.Journal.read(data_directory(package)).attempt is not None:
        # An interrupted rollback may have left no database, and the rollback must run to bring it back.
        external_services.pop("DATABASE_URL", None)
    wait_for_services(external_services)
    downgrade = trial is not None and trial["downgrade_from_snapshot"]
    rules = upgrade.Rules(snapshot=configuration["snapshot"], downgrade_from_snapshot=downgrade)
    change = upgrade.Upgrade(package, data_directory(package), configuration["version"], rules)
    # The trial's child process runs this program again; the parent holds the exclusive lock.
    if trial is not None and _IN_TRIAL not in os.environ:
        os.environ[_IN_TRIAL] = "1"
        return upgrade.run_trial_task(change, trial, [sys.executable, __file__, str(directory), *command])
    # Held until this process exits.
    lock = None if trial is not None else change.prepare(first=configuration["first"])
    if configuration["first"]:
        write_saved_settings(package, owned, configuration["saved_settings"])
        if configuration.get("former_secret_keys"):
            reencrypt(package, configuration["former_secret_keys"])
    inside = directory / "inside"
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = f"{inside}:{before}" if before else str(inside)
    application = Application(command, inside, drain=configuration["drain"], is_probed=configuration["announced"])
    if (directory / "figures.py").exists():
        # Next to this file, where Python looks first; running stacks hold the module by this name.
        application.metrics = importlib.import_module("figures").ContainerMetrics(directory / "starts").text
    code = application.run()
    if lock is not None:
        lock.release()
    return code


def load_environment(directory: Path) -> dict[str, Any]:
    """Return this container's configuration, and set its environment variables."""
    configuration: dict[str, Any] = json.loads((directory / "environment.json").read_text(encoding="utf-8"))
    os.environ.update(configuration["environment"])
    if "TMPDIR" in configuration["environment"]:
        make_empty(Path(configuration["environment"]["TMPDIR"]))
    if "certificate_authorities" in configuration:
        install_ca_bundle(
            configuration["certificate_authorities"], directory / "authorities.pem", configuration["environment"]
        )
    return configuration


def make_empty(folder: Path) -> None:
    """Create a folder for temporary files, without those of a run that was killed."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)


def install_ca_bundle(authorities: str, bundle: Path, environment: Mapping[str, str]) -> None:
    """Make the application trust additional CAs: write them and the well-known ones to `bundle`, and point to it.

    A variable that `environment` sets stays as it is.
    """
    # The application's own dependency.
    certifi: Any = importlib.import_module("certifi")
    well_known = Path(certifi.where()).read_text(encoding="utf-8")
    bundle.write_text(f"{well_known}\n{authorities}", encoding="utf-8")
    # The application may run as another user.
    bundle.chmod(0o644)
    for name in CA_BUNDLE_VARIABLES:
        if name not in environment:
            os.environ[name] = str(bundle)


CA_BUNDLE_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AIOHTTP_CLIENT_SSL_CERT_FILE")
"""Variables with the path of the CA bundle: for Python and httpx, requests, curl, Open WebUI."""


class Application:
    """Open WebUI as a child process with a graceful shutdown."""

    metrics: Callable[..., str] | None = None
    """Returns the metrics, given whether it is `draining` and `within` which time-out; None if they are off."""

    def __init__(self, command: list[str], inside: Path, *, drain: float, is_probed: bool) -> None:
        """Store the arguments.

        Args:
            command: starts Open WebUI.
            inside: folder in which task_reporter.py writes its files.
            drain: seconds for the answers in progress.
            is_probed: whether a readiness sidecar probes this replica.

        """
        self._command = command
        self._process_file, self._answer_file = inside / "process", inside / "running"
        self._drain = drain
        self._is_probed = is_probed
        self._changed = threading.Event()
        self._stopping = False
        self._probed_while_stopping = threading.Event()

    def run(self) -> int:
        """Start it and return its exit code."""
        # Left by an earlier start: the number may belong to another process by now.
        self._process_file.unlink(missing_ok=True)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        if self._is_probed or self.metrics is not None:
            self._expose_status()
        self._child = subprocess.Popen(self._command)  # noqa: S603 - the image's own
        threading.Thread(target=self._await_child, daemon=True).start()
        self._changed.wait()
        if self._stopping and self._child.poll() is None:
            self._end()
        code = self._child.wait()
        return code if code >= 0 else 128 - code

    def _on_signal(self, _application_pid: int, _frame: object) -> None:
        self._stopping = True
        self._changed.set()

    def _await_child(self) -> None:
        self._child.wait()
        self._changed.set()

    def _expose_status(self) -> None:
        application = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                stopping = application._stopping
                if self.path == "/metrics" and application.metrics is not None:
                    within = self.headers.get("X-Prometheus-Scrape-Timeout-Seconds")
                    self._send("text/plain; version=0.0.4", application.metrics(draining=stopping, within=within))
                    return
                self._send("application/json", json.dumps({"draining": stopping}))
                if stopping:
                    application._probed_while_stopping.set()

            def _send(self, kind: str, text: str) -> None:
                body = text.encode()
                # A client that closed its connection is no error to log.
                with suppress(ConnectionError):
                    self.send_response(200)
                    self.send_header("Content-Type", kind)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's
                """Log nothing: there is a probe each second."""

        server = ThreadingHTTPServer(("", DRAIN_PORT), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def _end(self) -> None:
        deadline = time.monotonic() + self._drain
        if self._is_probed:
            say("draining: no new requests from now on")
            if self._probed_while_stopping.wait(_DRAIN_PROBE_TIMEOUT):
                self._wait_until(lambda: False, time.monotonic() + _DNS_TTL_GRACE)
        begun = self.running()
        if begun:
            say(f"draining: {len(begun)} answers are being written, for at most {self._drain:.0f} s")
        # Without another replica new requests still arrive; they do not delay the shutdown.
        self._wait_until(lambda: not begun & self.running(), deadline)
        say("ending the application")
        # On SIGTERM it closes its WebSockets, completes HTTP streams, and exits.
        self._signal(signal.SIGTERM)
        if self._wait_until(lambda: False, max(deadline, time.monotonic() + _KILL_AFTER)):
            return
        say("answers are still in progress after the time-out; interrupting them")
        self._signal(signal.SIGINT)
        if not self._wait_until(lambda: False, time.monotonic() + _KILL_AFTER):
            self._signal(signal.SIGKILL)
            self._child.kill()

    def running(self) -> set[str]:
        """Return the ids of the application's tasks that write answers; none if it does not report them."""
        number = self._application_pid()
        if number is None:
            return set()
        self._answer_file.unlink(missing_ok=True)
        try:
            os.kill(number, signal.SIGUSR1)
        except ProcessLookupError:
            return set()
        # A busy event loop reports late, a hanging one never.
        if not self._wait_until(self._answer_file.exists, time.monotonic() + 5) or not self._answer_file.exists():
            return set()
        return set(self._answer_file.read_text(encoding="utf-8").split())

    def _application_pid(self) -> int | None:
        return int(self._process_file.read_text(encoding="utf-8")) if self._process_file.exists() else None

    def _signal(self, number: signal.Signals) -> None:
        """Signal the application itself: a shell that started it may not forward signals."""
        try:
            os.kill(self._application_pid() or self._child.pid, number)
        except ProcessLookupError:
            self._child.send_signal(number)

    def _wait_until(self, condition: Callable[[], bool], deadline: float) -> bool:
        """Wait until the condition holds or the application has exited; return False at the deadline."""
        while time.monotonic() < deadline:
            if condition() or self._child.poll() is not None:
                return True
            time.sleep(0.1)
        return False


def say(words: str) -> None:
    """Write into the container's log."""
    print(f"launch: {words}", flush=True)  # noqa: T201 - the container's log


def wait_for_services(external_services: Mapping[str, str]) -> None:
    """Wait until the database and Redis accept connections; in a new stack they start at the same time.

    `external_services` maps the variables of services outside this stack to the settings with their URLs; those must
    also accept the application's credentials. Exits with all errors at once.
    """
    faults = [
        fault
        for variable, port in (("DATABASE_URL", 5432), ("REDIS_URL", 6379))
        if (fault := _service_error(variable, port, external_services.get(variable))) is not None
    ]
    if faults:
        sys.exit("\n".join(f"launch: {fault}" for fault in faults))


def _service_error(variable: str, default_port: int, setting: str | None) -> str | None:
    """Wait for a service; return the error after the time-out, or None."""
    url = os.environ.get(variable, "")
    parts = urlsplit(url)
    if not parts.hostname:
        return None
    address = (parts.hostname, parts.port or default_port)
    where = f"{address[0]}:{address[1]}"
    deadline = time.monotonic() + (_SERVICES_TIMEOUT if setting is None else _EXTERNAL_SERVICE_TIMEOUT)
    is_logged = False
    while (why := connection_error(address)) is not None:
        if time.monotonic() > deadline:
            return f"{setting or variable}: nothing accepts connections at {where} ({why})"
        if not is_logged:
            say(f"waiting for {where}, set by {setting or variable} ({why})")
            is_logged = True
        time.sleep(0.5)
    if setting is None:
        return None
    why = sign_in_error(variable, url)
    return None if why is None else f"{setting}: {where} does not let the application in ({why})"


def connection_error(address: tuple[str, int]) -> str | None:
    """Return why a connection to an address fails; None if it succeeds."""
    try:
        socket.create_connection(address, timeout=5).close()
    except OSError as error:
        return str(error)
    return None


def sign_in_error(variable: str, url: str) -> str | None:
    """Return in one line why the service refuses the credentials in the URL; None if it accepts them."""
    # Dependencies of the application, imported only here: a stack without external services saves the time.
    database: Any = importlib.import_module("sqlalchemy")
    store: Any = importlib.import_module("redis")
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
    """Return the folder at which the data volume is mounted."""
    return Path(os.environ.get("DATA_DIR") or package.parent / "data")


def is_half_restored(data: Path) -> bool:
    """Whether a restore has begun to change the data, and is neither finished nor rolled back.

    Anything written now would be lost when the restore is resumed.
    """
    # The files that runtime/backup/files.py writes.
    staging = data / ".open-webui-edge-restore"
    return (staging / "undoing").exists() or ((staging / "merging").exists() and not (staging / "in-place").exists())


def saved_settings_of(source: Path, variables: set[str]) -> set[str]:
    """Return the keys of saved settings whose first value comes from one of `variables`.

    Read from the version that runs: its config.py assigns `NAME = … os.getenv("VARIABLE") …` and collects
    `DEFAULT_CONFIG = {"some.key": NAME}`.
    """
    assigned: dict[str, tuple[set[str], set[str]]] = {}
    collected: ast.Dict | None = None
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            target, value = node.targets[0].id, node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            target, value = node.target.id, node.value
        else:
            continue
        variables_read, names = assigned.setdefault(target, (set(), set()))
        variables_read |= _variables_read(value)
        names |= _names_used(value)
        if target == "DEFAULT_CONFIG" and isinstance(value, ast.Dict):
            collected = value
    if collected is None:
        sys.exit(f"launch: {source} does not say which settings it saves; this version of Open WebUI is not supported")
    return {
        str(key.value)
        for key, value in zip(collected.keys, collected.values, strict=True)
        if isinstance(key, ast.Constant) and variables & _variables_behind(value, assigned)
    }


def _is_getenv(node: ast.AST) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and ast.unparse(node.func) in {"os.getenv", "os.environ.get"}


def _variables_read(node: ast.AST) -> set[str]:
    calls = (call for call in ast.walk(node) if _is_getenv(call) and call.args)
    return {str(call.args[0].value) for call in calls if isinstance(call.args[0], ast.Constant)}


def _names_used(node: ast.AST) -> set[str]:
    """Names in an expression, but not those in the fallback of a getenv: that is another setting's variable."""
    if isinstance(node, ast.Name):
        return {node.id}
    if _is_getenv(node):
        return set()
    return set[str]().union(*map(_names_used, ast.iter_child_nodes(node)))


def _variables_behind(node: ast.AST, assigned: Mapping[str, tuple[set[str], set[str]]]) -> set[str]:
    """Return the variables that an expression reads, itself or by names that were assigned before."""
    variables, pending, seen = _variables_read(node), _names_used(node), set[str]()
    while pending:
        seen |= pending
        further = [assigned[name] for name in pending if name in assigned]
        variables = variables.union(*(read for read, _ in further))
        pending = set[str]().union(*(names for _, names in further)) - seen
    return variables


def write_saved_settings(package: Path, owned: set[str], exact: dict[str, object]) -> None:
    """Delete the saved settings that the stack sets or set before, and write those that no variable can hold."""
    # Open WebUI's own dependency, present wherever it runs.
    sqlalchemy: Any = importlib.import_module("sqlalchemy")
    data = data_directory(package)
    managed_file = data / MANAGED_SETTINGS_FILE
    managed_before = set(json.loads(managed_file.read_text(encoding="utf-8"))) if managed_file.exists() else set[str]()
    engine = sqlalchemy.create_engine(database_url(package))
    inspector = sqlalchemy.inspect(engine)
    columns = inspector.get_columns("config") if inspector.has_table("config") else ()
    if "key" not in {column["name"] for column in columns}:
        import upgrade  # noqa: PLC0415 - as above

        subprocess.run([sys.executable, "-c", upgrade.MIGRATE, str(package)], check=True)  # noqa: S603 - our own words
    forget = sqlalchemy.text("DELETE FROM config WHERE key = :key")
    write = sqlalchemy.text("INSERT INTO config (key, value, updated_at) VALUES (:key, :value, :now)")
    with engine.begin() as connection:
        for key in sorted(owned | managed_before):
            connection.execute(forget, {"key": key})
        for key, value in sorted(exact.items()):
            connection.execute(write, {"key": key, "value": json.dumps(value), "now": int(time.time())})
    engine.dispose()
    unfinished = managed_file.with_suffix(".new")
    unfinished.write_text(json.dumps(sorted(owned)), encoding="utf-8")
    unfinished.replace(managed_file)
    say(f"{len(owned)} saved settings come from the stack")


def database_url(package: Path) -> str:
    """Return the URL of the application's database."""
    return os.environ.get("DATABASE_URL") or f"sqlite:///{data_directory(package)}/webui.db"


ENCRYPTED_COLUMNS = {
    "auth": "mfa",
    "config": "value",
    "function": "valves",
    "oauth_session": "token",
    "tool": "valves",
    "user": "settings",
}
"""Table -> column that the application may have encrypted with its secret key."""
# A token of Fernet: version 0x80 and the upper bytes of a time, in base64 (its specification).
_TOKEN = re.compile(r"gAAAAA[A-Za-z0-9_-]{60,}={0,2}")


def reencrypt(package: Path, former: list[str]) -> None:
    """Re-encrypt everything that a former secret key has encrypted with the current one."""
    database: Any = importlib.import_module("sqlalchemy")
    ciphers = list(
        zip(_ciphers_of(os.environ["WEBUI_SECRET_KEY"]), zip(*map(_ciphers_of, former), strict=True), strict=True)
    )
    engine = database.create_engine(database_url(package))
    inspector = database.inspect(engine)
    count = 0
    with engine.begin() as connection:
        for name, column in ENCRYPTED_COLUMNS.items():
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
                after = _TOKEN.sub(lambda token: _reencrypted(token[0], ciphers), before)
                if after != before:
                    connection.execute(write, {"value": after, "key": identity})
                    count += 1
    engine.dispose()
    say(f"re-encrypted {count} records with the current secret key")


def _ciphers_of(key: str) -> "tuple[Fernet, Fernet]":
    """Return the ciphers that the application derives from its secret key: for most data, and for second factors."""
    from cryptography.fernet import Fernet  # noqa: PLC0415 - the application's own dependency
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF  # noqa: PLC0415

    # Like open_webui/utils/valves.py, models/oauth_sessions.py and utils/mfa.py.
    is_fernet_key = len(key) == 44  # noqa: PLR2004 - 32 bytes in base64
    plain = key.encode() if is_fernet_key else base64.urlsafe_b64encode(hashlib.sha256(key.encode()).digest())
    second = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=b"open-webui/mfa-encryption/v1")
    return Fernet(plain), Fernet(base64.urlsafe_b64encode(second.derive(key.encode())))


def _reencrypted(token: str, ciphers: "Sequence[tuple[Fernet, Sequence[Fernet]]]") -> str:
    """Return the token encrypted with the current key; unchanged if that key or none of the former ones opens it.

    Args:
        token: of Fernet.
        ciphers: for each use, that of the current key and those of the former ones.

    """
    from cryptography.fernet import InvalidToken, MultiFernet  # noqa: PLC0415

    for current, former in ciphers:
        with suppress(InvalidToken):
            current.decrypt(token.encode())
            return token
        with suppress(InvalidToken):
            return current.encrypt(MultiFernet(former).decrypt(token.encode())).decode()
    return token


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
