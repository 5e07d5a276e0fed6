"""The stack's containers: are they there, do they run, are they well, are they those that were made?"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from open_webui_edge.diagnostics.finding import Finding, Hop, Remedy, Severity
from open_webui_edge.diagnostics.inside.deployment import DeploymentAccess, Engine, ExpectedContainer, Publication
from open_webui_edge.diagnostics.subject import Subject

HOPS = {
    **dict.fromkeys(("nginx", "nginx-installer", "nginx-metrics", "nginx-exporter", "certbot", "readiness"), Hop.PROXY),
    "open-webui": Hop.APPLICATION,
    "postgres": Hop.DATABASE,
    "redis": Hop.REDIS,
    "ollama": Hop.MODELS,
}
SEEN_FROM_OUTSIDE = (
    *("app.*", "websocket.*", "stream.*", "upload.*", "cors.*", "cookies.*", "oauth.*", "headers.*", "cache.*"),
    *("redirect.*", "http.*", "silence.*", "client.*"),
)
_LEANING = ("application.*", "settings.*", "replicas.*", "models.*", "containers.*")
"""What needs the application's own services."""
EXPLAINS: Mapping[Hop, tuple[str, ...]] = {
    Hop.PROXY: (*SEEN_FROM_OUTSIDE, "port.*", "tls.*", "clock.skew", "proxy.*", "certificate.*"),
    Hop.APPLICATION: (
        *(*SEEN_FROM_OUTSIDE, "application.*", "models.*", "database.*", "redis.*"),
        *("settings.*", "secret.*", "replicas.*"),
    ),
    Hop.DATABASE: (*SEEN_FROM_OUTSIDE, "database.*", *_LEANING),
    Hop.REDIS: (*SEEN_FROM_OUTSIDE, "redis.*", *_LEANING),
    Hop.MODELS: ("models.*", "stream.*"),
}
"""Which other findings a container that is not well explains."""
DRIFT = ("stack.pending",)
_NEEDED = {"nginx", "open-webui", "postgres", "redis", "ollama", "readiness"}
"""Roles without which requests fail."""
RESTARTS = 3
"""From how many restarts on a container is in a loop rather than unlucky."""
NEARLY = 90
"""Percent of its memory limit."""
_PATIENCE = 20
"""Seconds for a container that is restarted to end by itself."""
_SETTLED = 180
"""Seconds for it to be healthy again."""


@dataclass(frozen=True)
class Container:
    """A container as the engine knows it."""

    name: str
    identity: str
    status: str
    """running, exited, paused, restarting, created, dead."""
    health: str | None = None
    """healthy, unhealthy, starting; None without a check."""
    check: str = ""
    """What its last health check said."""
    exit_code: int = 0
    killed_for_memory: bool = False
    restarts: int = 0
    image: str = ""
    labels: Mapping[str, str] | None = None
    networks: frozenset[str] = frozenset()
    publications: frozenset[Publication] = frozenset()
    memory: int = 0
    restart: str = ""
    address: str | None = None
    """On its first network."""
    started: str = ""
    """When it last began to run, as RFC 3339 writes it."""

    @property
    def runs(self) -> bool:
        """Whether something in it can be asked."""
        return self.status == "running"


def read(document: Mapping[str, Any]) -> Container:
    """Read what `docker inspect` says of a container."""
    state, config, host = document["State"], document["Config"], document["HostConfig"]
    settings = document["NetworkSettings"]
    health = state.get("Health") or {}
    checks = health.get("Log") or []
    networks = settings.get("Networks") or {}
    # What the engine publishes is empty while it does not run; what it was made with is not.
    bindings = host.get("PortBindings") or {}
    return Container(
        name=str(document["Name"]).lstrip("/"),
        identity=document["Id"],
        status=state["Status"],
        health=health.get("Status"),
        check=" ".join(str(checks[-1].get("Output", "")).split())[:300] if checks else "",
        exit_code=state.get("ExitCode", 0),
        killed_for_memory=bool(state.get("OOMKilled")),
        restarts=document.get("RestartCount", 0),
        image=document["Image"],
        labels=config.get("Labels") or {},
        networks=frozenset(networks),
        publications=frozenset(
            Publication(binding.get("HostIp", ""), int(binding.get("HostPort") or 0), int(inside), protocol)
            for port, bound in bindings.items()
            for inside, protocol in [port.split("/")]
            for binding in bound or ()
        ),
        memory=host.get("Memory", 0),
        restart=(host.get("RestartPolicy") or {}).get("Name", ""),
        address=next((one["IPAddress"] for one in networks.values() if one.get("IPAddress")), None),
        started=str(state.get("StartedAt", "")),
    )


def inspect_all(inside: DeploymentAccess) -> dict[str, Container]:
    """Return the stack's containers by name: those that were made, and those that say they are the stack's."""
    engine = inside.require()
    labels = ("--filter", "label=app=open-webui-edge", "--filter", f"label=stack={inside.stack}")
    listed = engine.must("ps", "--all", "--format", "{{.Names}}", *labels).split()
    names = sorted({*listed, *(made.name for made in inside.made)})
    if not names:
        return {}
    # One that is not there is said on the other stream, and the rest is answered all the same.
    answer = engine.run("inspect", "--type", "container", *names)
    return {one.name: one for one in map(read, json.loads(answer.output or "[]"))}


def of(subject: Subject) -> dict[str, Container]:
    """Return the stack's containers, asked for once."""
    inside = access_of(subject)
    return subject.once("inside.containers", lambda: inspect_all(inside))


def access_of(subject: Subject) -> DeploymentAccess:
    """Return what is known from within; questions that need it are asked of stacks alone."""
    if subject.inside is None:
        raise RuntimeError("it can be asked of a stack alone")
    return subject.inside


def running(subject: Subject, role: str | None = None) -> tuple[ExpectedContainer, ...]:
    """Return the containers that can be asked, or those of a role."""
    there = of(subject)
    made = access_of(subject).made if role is None else access_of(subject).of(role)
    return tuple(one for one in made if one.name in there and there[one.name].runs)


def judge(
    made: Sequence[ExpectedContainer],
    there: Mapping[str, Container],
    start: Callable[[ExpectedContainer], Remedy],
    remedy: Remedy | None,
) -> Iterator[Finding]:
    """Say of each container that was made whether it is there, runs and is healthy; `start` (re)starts one."""
    troubles: list[Finding] = []
    for one in made:
        finding = _judge_one(one, there.get(one.name), start, remedy)
        if finding is not None:
            alone = not any(_carries_on(other, one, there) for other in made)
            troubles.append(finding if alone else _one_of_several(finding))
    yield from sorted(troubles, key=lambda finding: _DEPTH.index(finding.hop))
    if not troubles:
        count = sum(not one.runs_once for one in made)
        yield Hop.ENGINE.ok("containers.well", f"{count} containers run, and each says that it is well.")


def _carries_on(other: ExpectedContainer, made: ExpectedContainer, there: Mapping[str, Container]) -> bool:
    here = there.get(other.name)
    same = other.role == made.role and other.name != made.name
    return same and here is not None and here.runs and here.health in {None, "healthy"}


def _one_of_several(finding: Finding) -> Finding:
    """Return what is wrong with one of several replicas: people are answered by the others, which explain nothing."""
    return replace(
        finding,
        severity=Severity.WARNING,
        why="The others carry its share; when one more ends there is little left.",
        explains=(*DRIFT, "replicas.*"),
    )


_DEPTH = (Hop.ENGINE, Hop.DATABASE, Hop.REDIS, Hop.APPLICATION, Hop.PROXY, Hop.MODELS, Hop.HOST, Hop.NAME,
          Hop.OUTER_PROXY)  # fmt: skip
"""What others lean on comes first."""


def _judge_one(  # noqa: PLR0911 - one return a state
    made: ExpectedContainer, here: Container | None, start: Callable[[ExpectedContainer], Remedy], remedy: Remedy | None
) -> Finding | None:
    hop = HOPS.get(made.role, Hop.ENGINE)
    is_needed = made.role in _NEEDED
    why = _WHY.get(hop, "Something that the deployment needs is not there.") if is_needed else ""
    explains = (*EXPLAINS.get(hop, ()), *DRIFT)
    problem = partial(hop.failure if is_needed else hop.warning, why=why, explains=explains)
    logs = f"`make logs ROLE={made.role}` shows its last words"
    if here is None:
        return problem(
            "containers.missing",
            f"There is no container {made.name}: it was removed.",
            fix="`make up` recreates it; its data is in volumes, which stay.",
            remedy=remedy,
        )
    if made.runs_once:
        return None
    if here.status == "restarting" or (here.restarts >= RESTARTS and here.health != "healthy"):
        memory = " because it reached its memory limit" if here.killed_for_memory else ""
        return problem(
            "containers.restarting",
            f"{made.name} ends and is started again and again ({here.restarts} times so far), last with exit code"
            f" {here.exit_code}{memory}.",
            fix=f"{logs}, which say why; `make up` ends with them too.",
        )
    if here.status != "running":
        verb = "unpause" if here.status == "paused" else "start"
        code = f", exit code {here.exit_code}" if here.status == "exited" else ""
        memory = ", because it reached its memory limit" if here.killed_for_memory else ""
        return problem(
            "containers.stopped",
            f"{made.name} does not run: it is {here.status}{code}{memory}.",
            fix=f"`docker {verb} {made.name}`, or `make up`; {logs}.",
            remedy=start(made),
        )
    if here.health == "unhealthy":
        return problem(
            "containers.unhealthy",
            f"{made.name} runs and is unhealthy; its last health check said: {here.check or 'nothing'}.",
            fix=f"`docker restart {made.name}`; {logs}.",
            remedy=start(made),
        )
    if here.health == "starting":
        return hop.warning(
            "containers.starting",
            f"{made.name} is still starting.",
            "Until it is healthy it serves no requests; a migration of a large database takes minutes.",
            f"Wait, and ask again; {logs}.",
            explains=explains,
        )
    return None


_WHY = {
    Hop.PROXY: "Nothing else listens for browsers: the site is down, or the proxy cannot reach ready replicas.",
    Hop.APPLICATION: "Without it the proxy answers everybody with a page that says so.",
    Hop.DATABASE: "Users, chats and settings are there: the application neither starts nor answers without it.",
    Hop.REDIS: "What replicas share and who is signed out is there: the application is not ready without it.",
    Hop.MODELS: "Its models are not available.",
}


def judge_memory(
    made: Sequence[ExpectedContainer],
    there: Mapping[str, Container],
    used: Mapping[str, float],
    settings: Mapping[str, str],
) -> Iterator[Finding]:
    """Say which containers are near their limit (`used`: name -> percent of it) or were over it.

    `settings` names by role the setting that has the limit.
    """
    has_trouble = False
    for one in made:
        here = there.get(one.name)
        if here is None:
            continue
        setting, percent = settings.get(one.role), used.get(one.name, 0)
        if here.killed_for_memory and here.runs:
            check = "containers.out_of_memory"
            seen = (
                f"{one.name} was killed because it reached its memory limit of {_mebibytes(here.memory)}; it was"
                f" restarted {here.restarts} times."
            )
            why = "Whatever it was answering then was lost."
        elif percent >= NEARLY:
            check = "containers.memory"
            seen = f"{one.name} uses {percent:.0f} % of its memory limit of {_mebibytes(here.memory)}."
            why = "The engine kills it when it reaches the limit, with all that it is answering."
        else:
            continue
        has_trouble = True
        fix = f"Raise {setting} in the stack file, and run `make up`." if setting else ""
        yield HOPS.get(one.role, Hop.ENGINE).warning(check, seen, why, fix, setting=setting)
    if not has_trouble and used:
        name, most = max(used.items(), key=lambda item: item[1])
        yield Hop.ENGINE.ok("containers.memory", f"At most {most:.0f} % of a memory limit is used ({name}).")


def _mebibytes(size: int) -> str:
    return f"{size >> 20} MiB"


def judge_drift(
    made: Sequence[ExpectedContainer],
    there: Mapping[str, Container],
    remedy: Callable[[Sequence[ExpectedContainer]], Remedy | None],
) -> Iterator[Finding]:
    """Say which containers are not those that the last update made, and in what they differ."""
    changed = False
    for one in made:
        here = there.get(one.name)
        if here is None:
            continue
        differences = list(_differences(one, here))
        if differences:
            changed = True
            hop = HOPS.get(one.role, Hop.ENGINE)
            cut_off = not one.runs_once and not one.networks <= here.networks
            problem = hop.failure if cut_off else hop.warning
            yield problem(
                "containers.changed",
                f"{one.name} is not as the stack made it: {'; '.join(differences)}.",
                "A change by hand is in no file: the next update reverts it, and the reason for it was there.",
                "Write what you want into the stack file; `make up` makes the container as that says.",
                remedy=remedy([one]),
                explains=(*DRIFT, *(EXPLAINS.get(hop, ()) if cut_off else ())),
            )
    strangers = sorted({*there} - {one.name for one in made})
    if strangers:
        yield Hop.ENGINE.note(
            "containers.strangers",
            f"Labelled as this stack's, but not created by its last update: {', '.join(strangers)}.",
            "They may be left from an update that was interrupted; the next one removes those that are in its way.",
        )
    if not changed:
        yield Hop.ENGINE.ok("containers.as_made", "Each container that is there is the one that was made.")


def _differences(made: ExpectedContainer, here: Container) -> Iterable[str]:
    if here.image != made.image:
        yield f"it runs the image {_short(here.image)}, pinned is {_short(made.image)}"
    if here.identity != made.identity:
        yield f"it was recreated by hand (its id is {here.identity[:12]}, not {made.identity[:12]})"
    missing = {key for key, value in made.labels.items() if (here.labels or {}).get(key) != value}
    if missing:
        yield f"labels differ ({', '.join(sorted(missing))})"
    if not made.runs_once and here.networks != made.networks:
        yield f"its networks are {_listed(here.networks)}, made with {_listed(made.networks)}"
    if here.publications != made.publications:
        yield f"it publishes {_listed(map(str, here.publications))}, made with {_listed(map(str, made.publications))}"
    if made.memory is not None and here.memory != made.memory:
        yield f"its memory limit is {_mebibytes(here.memory)}, made with {_mebibytes(made.memory)}"
    if not made.runs_once and here.restart != made.restart:
        yield f"its restart policy is {here.restart or 'no'}, made with {made.restart}"


def _listed(words: Iterable[str]) -> str:
    return ", ".join(sorted(words)) or "none"


def _short(image: str) -> str:
    return image.removeprefix("sha256:")[:12]


def restart(engine: Engine, made: ExpectedContainer, there: Mapping[str, Container]) -> Remedy:
    """Return what starts or restarts a container."""
    here = there.get(made.name)
    verb = {"paused": "unpause", "running": "restart"}.get("" if here is None else here.status, "start")
    words = (verb, *(("--time", str(_PATIENCE)) if verb == "restart" else ()), made.name)

    def apply() -> str:
        engine.must(*words, seconds=120)
        return f"{made.name} was {_DONE[verb]}, and {_once_settled(engine, made.name)}"

    return Remedy(f"docker {' '.join(words)}", apply)


def _once_settled(engine: Engine, name: str) -> str:
    """Return how a container is once it is no longer starting."""
    deadline = time.monotonic() + _SETTLED
    while True:
        here = read(json.loads(engine.must("inspect", "--type", "container", name))[0])
        # An unhealthy one that was restarted says so until its next check.
        if here.status != "running" or here.health in {None, "healthy"} or time.monotonic() > deadline:
            return f"is {here.health or here.status}"
        time.sleep(0.5)


_DONE = {"start": "started", "restart": "restarted", "unpause": "let go on"}


def memory_used(engine: Engine, names: Sequence[str]) -> dict[str, float]:
    """Return percent of the limit by name; asking takes the engine two seconds."""
    answer = engine.run("stats", "--no-stream", "--format", "{{json .}}", *names, seconds=15)
    rows = [json.loads(line) for line in answer.output.splitlines() if line.startswith("{")]
    return {row["Name"]: _percent(row["MemPerc"]) for row in rows}


def _percent(text: str) -> float:
    try:
        return float(text.rstrip("%"))
    except ValueError:
        return 0.0
