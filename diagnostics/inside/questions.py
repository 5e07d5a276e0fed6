"""All questions that need the stack: what is asked of whom, and who judges the answers."""

import json
import secrets as random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from open_webui_edge.diagnostics.finding import Finding, Hop, Remedy, parse_time
from open_webui_edge.diagnostics.inside import application, containers, disks, proxy, services, streams
from open_webui_edge.diagnostics.inside.containers import access_of
from open_webui_edge.diagnostics.inside.deployment import Change, DeploymentAccess, ExpectedContainer, SilentEngineError
from open_webui_edge.diagnostics.question import Question
from open_webui_edge.diagnostics.subject import Subject

_COMPARED = {0, 1}
"""Exit codes of sha256sum, the second where a file is gone; others mean that it is not there or gave no answer."""
_SKEW = 5.0
"""Seconds between two clocks from which on tokens and one-time passwords are refused."""
_SKEW_FATAL = 60.0
_MEMORY = {
    "nginx": "proxy.memory",
    "open-webui": "open_webui.memory",
    "postgres": "data.postgres.memory",
    "redis": "data.redis.memory",
    "ollama": "models.ollama.container.memory",
}
_THROUGH_THE_ENGINE = (
    *("engine.*", "containers.*", "disk.*", "database.*", "redis.*", "models.*", "settings.*", "secret.*"),
    *("application.*", "proxy.*", "certificate.*", "client.*", "stream.*", "stack.pending"),
)
_APPLICATION = "open-webui"
_OF_PATIENCE = 0.25
"""Share of it that a request to another service may take."""
_OF_THE_PROXY = "nginx"


class NobodyToAskError(RuntimeError):
    """The container that would answer does not run; another finding says so."""


def probe(
    inside: DeploymentAccess, container: str, *arguments: str, given: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Run our program in a container of the application, and return what it says; raises RuntimeError if nothing."""
    variables = {"patience": inside.patience * _OF_PATIENCE, **(given or {})}
    program = f"INPUT = {variables!r}\n{inside.probe}"
    engine = inside.require()
    answer = engine.run(
        "exec", "-i", container, "python3", "-I", "-", *arguments, given=program, seconds=inside.patience + 20
    )
    last = answer.output.strip().splitlines()[-1:] or [""]
    try:
        return json.loads(last[0])
    except ValueError:
        raise RuntimeError(f"asked from within {container}: {answer.last_line}") from None


def _facts(subject: Subject, name: str, replica: ExpectedContainer | None = None) -> dict[str, Any]:
    """Return what a replica (the first, where none is named) found out about one thing; all is asked at once.

    Raises:
        RuntimeError: it could not be asked.

    """
    asked = replica or _first(subject, _APPLICATION)
    facts = subject.once(("inside.facts", asked.name), lambda: _ask_all(subject, asked))[name]
    if "error" in facts:
        raise RuntimeError(f"asked from within {asked.name}: {facts['error']}")
    return facts


def _ask_all(subject: Subject, replica: ExpectedContainer) -> dict[str, Any]:
    inside = access_of(subject)
    names = ["ready", "key"]
    if replica == _first(subject, _APPLICATION):
        names += ["database", "models", "settings"]
        names += ["store"] if inside.redis is not None or inside.of("redis") else []
        names += ["rotation"] if containers.running(subject, "readiness") else []
    started = parse_time(containers.of(subject)[replica.name].started[:19])
    given = {
        "names": names,
        "seconds": inside.patience,
        "salt": subject.once("inside.salt", lambda: random.token_hex(16)),
        "started": 0.0 if started is None else started.timestamp(),
        "upstream": _APPLICATION,
    }
    return probe(inside, replica.name, "facts", given=given)


def _from_application(subject: Subject, *arguments: str, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return probe(access_of(subject), _first(subject, _APPLICATION).name, *arguments, given=given)


def _first(subject: Subject, role: str) -> ExpectedContainer:
    there = containers.running(subject, role)
    if not there:
        raise NobodyToAskError(f"no container of the role {role} runs")
    return there[0]


def _engine(subject: Subject) -> Iterator[Finding]:
    inside = access_of(subject)
    if inside.engine is None:
        yield Hop.ENGINE.failure(
            "engine.answers",
            inside.silent or "The Docker engine does not answer.",
            "What runs there cannot be looked at, and no update can be made.",
            "Start it, or fix the connection to it; results from outside are still valid.",
            explains=_THROUGH_THE_ENGINE,
        )
        return
    version = inside.engine.must("version", "--format", "{{.Server.Version}}").strip()
    yield Hop.ENGINE.ok("engine.answers", f"Docker {version} answers at {inside.engine.address}.")


def _settings(subject: Subject) -> Iterator[Finding]:
    inside = access_of(subject)
    if inside.faults:
        yield Hop.HOST.failure(
            "stack.settings",
            f"The stack file cannot be read as settings: {'; '.join(inside.faults)}.",
            "The next update ends at once; what runs is from the last one that went well.",
            "Fix the stack file; `make preview` lists all errors.",
        )
        return
    yield Hop.HOST.ok("stack.settings", "The stack file is valid.")


def _up(subject: Subject) -> Iterator[Finding]:
    inside = access_of(subject)
    if inside.made:
        yield Hop.HOST.ok("stack.up", f"The last update made {len(inside.made)} containers.")
        return
    yield Hop.HOST.failure(
        "stack.up",
        f"The stack {inside.stack} is not up: its state holds no container.",
        "There is nothing that could answer.",
        f"`make up STACK={inside.stack}` brings it up.",
        explains=("*",),
    )


def _containers(subject: Subject) -> Iterator[Finding]:
    inside = access_of(subject)
    there = containers.of(subject)
    engine = inside.require()
    yield from containers.judge(
        inside.made, there, lambda made: containers.restart(engine, made, there), _remade(subject, ())
    )


def _drift(subject: Subject) -> Iterator[Finding]:
    inside = access_of(subject)
    yield from containers.judge_drift(inside.made, containers.of(subject), lambda made: _remade(subject, made))


def _files(subject: Subject) -> Iterator[Finding]:
    engine = access_of(subject).require()
    results: dict[str, dict[str, str]] = {}
    asked: list[ExpectedContainer] = []
    for one in containers.running(subject):
        if not one.files or one.runs_once:
            continue
        answer = engine.run("exec", one.name, "sha256sum", *sorted(one.files))
        if answer.code not in _COMPARED:
            # An image with one program in it has nothing to look with, and who is too busy has not answered.
            continue
        asked.append(one)
        sums = [line.split(maxsplit=1) for line in answer.output.splitlines()]
        results[one.name] = {path.strip(): mark for mark, path in sums}
    yield from application.judge_files(asked, results, lambda made: _remade(subject, made))


def _memory(subject: Subject) -> Iterator[Finding]:
    inside = access_of(subject)
    names = [one.name for one in containers.running(subject)]
    used = containers.memory_used(inside.require(), names) if names else {}
    yield from containers.judge_memory(inside.made, containers.of(subject), used, _MEMORY)


def _disks(subject: Subject) -> Iterator[Finding]:
    inside = access_of(subject)
    results: list[disks.Disk] = []
    for one in containers.running(subject):
        for path in disks.PLACES.get(one.role, ()):
            answer = inside.require().run("exec", one.name, "df", "-P", "-B1", path)
            disk = disks.read(answer.output, f"{one.name}:{path}") if answer.code == 0 else None
            if disk is not None:
                results.append(disk)
    yield from disks.judge(disks.together(results), percent=inside.disk_percent)


def _clock(subject: Subject) -> Iterator[Finding]:
    engine = access_of(subject).require()
    began = time.time()
    said = engine.must("info", "--format", "{{.SystemTime}}").strip()
    ended = time.time()
    yield judge_clock(said, began, ended)


def judge_clock(said: str, began: float, ended: float) -> Finding:
    """Say how far the engine's clock is from this machine's, asked between two moments of this one."""
    time_there = parse_time(said)
    if time_there is None:
        return Hop.ENGINE.unknown("engine.clock", f"The engine says no time that can be read: {said}.")
    there = time_there.timestamp()
    away = 0.0 if began - 1 <= there <= ended + 1 else there - ended
    if abs(away) < _SKEW:
        return Hop.ENGINE.ok("engine.clock", "The clock of the engine's host and this machine's agree.")
    problem = Hop.ENGINE.failure if abs(away) >= _SKEW_FATAL else Hop.ENGINE.warning
    return problem(
        "engine.clock",
        f"The clock of the engine's host is {abs(away):.0f} s {'ahead of' if away > 0 else 'behind'} this machine's.",
        "With a wrong clock certificates count as expired, and sign-ins by an identity provider are refused.",
        "Have both machines keep time (`timedatectl set-ntp true`), and look at which of them is wrong.",
    )


def _database(subject: Subject) -> Iterator[Finding]:
    yield from services.judge_database(_facts(subject, "database"), access_of(subject).database)


def _redis(subject: Subject) -> Iterator[Finding]:
    inside = access_of(subject)
    if inside.redis is None and not inside.of("redis"):
        return
    yield from services.judge_redis(_facts(subject, "store"), inside.redis)


def _models(subject: Subject) -> Iterator[Finding]:
    yield from services.judge_models(_facts(subject, "models"))


def _saved(subject: Subject) -> Iterator[Finding]:
    yield from application.judge_settings(_facts(subject, "settings"), lambda keys: _forget(subject, keys))


def _forget(subject: Subject, keys: Sequence[str]) -> Remedy:
    def apply() -> str:
        _from_application(subject, "forget", *keys)
        return f"{', '.join(keys)} is what the stack says"

    return Remedy(f"make the saved setting {', '.join(keys)} what the stack says", apply)


def _keys(subject: Subject) -> Iterator[Finding]:
    replicas = containers.running(subject, _APPLICATION)
    yield from application.judge_keys({one.name: _facts(subject, "key", one) for one in replicas})


def _replicas(subject: Subject) -> Iterator[Finding]:
    there = containers.of(subject)
    replicas = containers.running(subject, _APPLICATION)
    names = [one.name for one in replicas]
    answers = {one.name: _facts(subject, "ready", one) for one in replicas}
    led: list[str] | None = None
    if containers.running(subject, "readiness") and names:
        facts = _facts(subject, "rotation")
        if "fault" in facts:
            yield Hop.PROXY.unknown(
                "replicas.rotation", f"Who keeps the list of replicas did not say: {facts['fault']}."
            )
        else:
            addresses = set(facts["addresses"])
            led = [name for name in names if there[name].address in addresses]
    yield from services.judge_replicas(names, answers, led)


def _proxy_seen(subject: Subject) -> proxy.Seen:
    run = _in_proxy(subject, proxy.SCRIPT, access_of(subject).patience)
    return subject.once("inside.proxy", lambda: proxy.read(run()))


def _in_proxy(subject: Subject, script: str, seconds: float) -> Callable[[], str]:
    """Return what runs a script in the proxy's container, after the functions that its own scripts share."""
    inside, name = access_of(subject), _first(subject, _OF_THE_PROXY).name
    program = f"{inside.shell_functions}\n{script}"
    return lambda: inside.require().must("exec", "-i", name, "/bin/sh", "-s", given=program, seconds=seconds)


def _configuration(subject: Subject) -> Iterator[Finding]:
    install = partial(_installed_anew, subject)
    yield from proxy.judge_configuration(
        _proxy_seen(subject), access_of(subject).configuration, install, _reload(subject)
    )


def _workers(subject: Subject) -> Iterator[Finding]:
    yield from proxy.judge_workers(_proxy_seen(subject), datetime.now(UTC))


def _certificate(subject: Subject) -> Iterator[Finding]:
    install = partial(_installed_anew, subject)
    yield from proxy.judge_certificate(_proxy_seen(subject), access_of(subject).certificate, install, _reload(subject))


def _installed_anew(subject: Subject) -> Remedy | None:
    """Return what has the stack's own configuration and certificate installed once more."""
    remedy = _remade(subject, access_of(subject).of("nginx-installer"))
    if remedy is None:
        return None
    rename, update = _in_proxy(subject, proxy.RENAME, 60), remedy.apply

    def apply() -> str:
        rename()
        return update()

    return replace(remedy, apply=apply)


def _reload(subject: Subject) -> Remedy:
    name = _first(subject, _OF_THE_PROXY).name

    def apply() -> str:
        access_of(subject).require().must(
            "exec", name, "nginx", "-s", "reload", "-c", "/etc/open-webui-edge/current/nginx.conf"
        )
        return "Nginx was reloaded"

    return Remedy(f"docker exec {name} nginx -s reload", apply)


def _renewal(subject: Subject) -> Iterator[Finding]:
    if subject.expectations.certificate_mode == "lets-encrypt":
        yield from proxy.judge_renewal(_proxy_seen(subject).state, datetime.now(UTC))


def _authenticator(subject: Subject) -> Iterator[Finding]:
    inside = access_of(subject)
    if inside.authenticator is None:
        return
    name = _first(subject, _OF_THE_PROXY).name
    command = proxy.ask_authenticator(inside.authenticator)
    answer = inside.require().run("exec", name, *command, seconds=inside.authenticator.timeout + 10)
    status = answer.output.strip()
    yield proxy.judge_authenticator(inside.authenticator, int(status) if status.isdigit() else 0, answer.last_line)


def _silence(subject: Subject) -> Iterator[Finding]:
    yield from proxy.judge_silence(access_of(subject).silences, subject.expectations.read_timeout)


def _pending(subject: Subject) -> Iterator[Finding]:
    inside = access_of(subject)
    if inside.pending is None or inside.faults:
        return
    changes = inside.pending()
    yield judge_pending(inside.stack, changes, _remade(subject, ()))


def judge_pending(stack: str, changes: Sequence[Change], remedy: Remedy | None) -> Finding:
    """Say what the next update would change."""
    if not changes:
        return Hop.HOST.ok("stack.pending", "What runs is what the stack file says: an update would change nothing.")
    listed = ", ".join(f"{change.kind} {change.name}" for change in changes[:6])
    more = f" and {len(changes) - 6} more" if len(changes) > 6 else ""  # noqa: PLR2004 - a line's worth
    return Hop.HOST.warning(
        "stack.pending",
        f"What runs is not what the stack file says: an update would {listed}{more}.",
        "The file was changed and not applied, or something was changed by hand.",
        f"`make preview STACK={stack}` shows it; `make up STACK={stack}` applies it.",
        remedy=remedy,
    )


def _instance(subject: Subject) -> Iterator[Finding]:
    inside = access_of(subject)
    if inside.instance is None:
        return
    if inside.engine is None:
        yield Hop.HOST.failure(
            "instance.reached",
            f"The instance {inside.instance} is not reached over SSH.",
            "Its containers cannot be looked at or updated; people may be answered all the same.",
            "Look at its state in the AWS console; platform.aws.instance.ssh_from must hold this machine's address.",
            setting="platform.aws.instance.ssh_from",
            explains=("engine.answers",),
        )
        return
    yield Hop.HOST.ok("instance.reached", f"The instance {inside.instance} is reached over SSH.")


def _sign_in(subject: Subject) -> Iterator[Finding]:
    if not access_of(subject).has_admin:
        yield Hop.APPLICATION.unknown(
            "application.sign_in",
            "The stack file names no open_webui.admin, so what an account is needed for was not asked.",
        )
        return
    yield application.judge_sign_in(_session(subject))


def _session(subject: Subject) -> dict[str, Any]:
    """Return a session of the administrator; it is ended when all was asked."""
    if not access_of(subject).has_admin:
        return {"fault": "the stack file names no open_webui.admin"}
    return subject.once("inside.session", lambda: _from_application(subject, "sign_in"))


def token_of(subject: Subject) -> str | None:
    """Return the token of the administrator's session; None where there is none."""
    with suppress(RuntimeError):
        return _session(subject).get("token")
    return None


def end_session(subject: Subject) -> None:
    """End the administrator's session, if there was one; an application that is gone has ended it itself."""
    with suppress(RuntimeError):
        session = subject.once("inside.session", dict[str, Any])
        if "token" in session:
            _from_application(subject, "sign_out", given={"token": session["token"]})


def _stream(subject: Subject) -> Iterator[Finding]:
    session = _session(subject)
    if "token" not in session:
        yield Hop.PROXY.unknown("stream.buffered", f"Skipped, because the sign-in failed: {session['fault']}.")
        return
    if subject.expectations.authentication != "none":
        yield Hop.PROXY.unknown("stream.buffered", "Skipped, because the proxy requires further authentication.")
        return
    token = session["token"]
    picks = _from_application(subject, "picks", given={"token": token})
    names = picks.get("models") or []
    if not names:
        said = f": {picks['fault']}" if "fault" in picks else ""
        yield Hop.MODELS.unknown("stream.buffered", f"Not seen, because there is no model that could be asked{said}.")
        return
    model = picks["first"] or names[0]
    given = {"token": token, "model": model, "prompt": streams.PROMPT, "seconds": streams.SECONDS}
    direct = _from_application(subject, "stream", given=given)
    asking = replace(subject, token=token)
    proxied = streams.over_sse(asking, model)
    yield streams.judge_stream("stream.buffered", direct, proxied, model)
    if not proxied.get("distrusted") and subject.expectations.websocket:
        yield streams.judge_stream("stream.socket", direct, streams.over_socket(asking, model), model)


def _client(subject: Subject) -> Iterator[Finding]:
    if subject.expectations.authentication != "none":
        return
    inside = access_of(subject)
    engine = inside.require()
    mark = streams.ask_as_another(subject)
    deadline = time.monotonic() + 5
    lines: list[str] = []
    while not any(mark in line for line in lines) and time.monotonic() < deadline:
        lines = []
        for one in containers.running(subject, _APPLICATION):
            answer = engine.run("logs", "--since", "60s", one.name)
            lines += f"{answer.output}\n{answer.errors}".splitlines()
    yield streams.judge_client(lines, mark, trusted=subject.expectations.trusted_proxies)


def _remade(subject: Subject, made: Iterable[ExpectedContainer]) -> Remedy | None:
    """Return a remedy that updates the stack and recreates some containers."""
    inside = access_of(subject)
    update, urns = inside.update, [one.urn for one in made if one.urn]
    if update is None or inside.faults:
        return None
    recreated = f", with {', '.join(one.name for one in made)} recreated" if urns else ""
    return Remedy(f"pulumi up for the stack {inside.stack}{recreated}", lambda: update(urns), asks=True)


def _question(  # noqa: PLR0913 - keywords, each a thing of its own
    check: str,
    hop: Hop,
    title: str,
    ask: Callable[[Subject], Iterable[Finding]],
    *,
    needs: tuple[str, ...] = ("engine.answers",),
    seconds: float = 20.0,
    alone: bool = False,
) -> Question:
    """Return a question; where the container does not run that would answer, it says that it could not be asked."""

    def asked(subject: Subject) -> Iterable[Finding]:
        try:
            return tuple(ask(subject))
        except (NobodyToAskError, SilentEngineError) as fault:
            return (hop.unknown(check, f"Not asked, because {fault}."),)

    return Question(check, hop, title, needs, asked, seconds, alone)


QUESTIONS: tuple[Question, ...] = (
    _question("stack.settings", Hop.HOST, "settings", _settings, needs=()),
    _question("stack.up", Hop.HOST, "stack", _up, needs=()),
    _question("instance.reached", Hop.HOST, "instance", _instance, needs=()),
    _question("engine.answers", Hop.ENGINE, "engine", _engine, needs=("stack.up",)),
    _question("engine.clock", Hop.ENGINE, "clock of the engine's host", _clock),
    _question("disk.room", Hop.ENGINE, "disks", _disks),
    _question("containers.well", Hop.ENGINE, "containers", _containers),
    _question("containers.as_made", Hop.ENGINE, "containers as made", _drift),
    _question("containers.files", Hop.ENGINE, "what containers were given", _files),
    _question("containers.memory", Hop.ENGINE, "memory", _memory),
    _question("database.answers", Hop.DATABASE, "database", _database, seconds=60),
    _question("redis.answers", Hop.REDIS, "Redis", _redis, seconds=60),
    _question("proxy.configuration", Hop.PROXY, "configuration of Nginx", _configuration, seconds=60),
    _question("proxy.killed_workers", Hop.PROXY, "killed workers of Nginx", _workers, seconds=60),
    _question("certificate.served", Hop.PROXY, "certificate in the volume", _certificate, seconds=60),
    _question("certificate.renewal", Hop.PROXY, "renewal of the certificate", _renewal, seconds=60),
    _question("proxy.authenticator", Hop.PROXY, "authenticator", _authenticator, seconds=75),
    _question("silence.own", Hop.PROXY, "longest silent answer", _silence, needs=("stack.up",)),
    _question("application.ready", Hop.APPLICATION, "replicas", _replicas, seconds=60),
    _question("secret.key", Hop.APPLICATION, "secret key", _keys, seconds=60),
    _question("settings.saved", Hop.APPLICATION, "saved settings", _saved, seconds=60),
    _question("application.sign_in", Hop.APPLICATION, "administrator", _sign_in, seconds=60),
    _question(
        "client.address", Hop.PROXY, "client's address", _client, needs=("engine.answers", "app.answers"), seconds=30
    ),
    _question("models.answers", Hop.MODELS, "models", _models, seconds=60),
    _question("stack.pending", Hop.HOST, "what an update would change", _pending, needs=("stack.up",), seconds=60),
    _question(
        "stream.buffered",
        Hop.PROXY,
        "stream through the proxy",
        _stream,
        needs=("engine.answers", "app.answers"),
        seconds=60,
        alone=True,
    ),
)
"""In the order in which they are shown where nothing is wrong."""
