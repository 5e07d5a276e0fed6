"""What the application leans on: its database, Redis, and who answers its questions. Asked from where it is."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from open_webui_edge.diagnostics.finding import Finding, Hop, Severity
from open_webui_edge.diagnostics.inside.containers import EXPLAINS
from open_webui_edge.diagnostics.inside.deployment import Configured

_NEARLY = 0.8
"""Of a limit of connections or memory."""
_SLOW = 1.0
"""Seconds for a first answer of a service that is meant to be near."""
_OK = 200
_REFUSED = {401, 403}
_TOO_MANY = 429
_NOT_FOUND = 404
_FAULTY = 500

NEEDS_DATABASE, NEEDS_REDIS = EXPLAINS[Hop.DATABASE], EXPLAINS[Hop.REDIS]


def judge_database(facts: Mapping[str, Any], configured: Configured | None) -> Iterator[Finding]:
    """Say whether the database answers, has what it needs, and has room."""
    if "fault" in facts:
        yield _database_fault(facts, configured)
        return
    if facts["kind"] == "sqlite":
        yield Hop.DATABASE.ok("database.answers", f"SQLite answers in the volume, with {facts['users']} account(s).")
        return
    where = "its own" if configured is None else configured.url
    yield Hop.DATABASE.ok("database.answers", f"PostgreSQL {facts['version']} lets the application in ({where}).")
    if facts["read_only"]:
        yield Hop.DATABASE.failure(
            "database.read_only",
            "PostgreSQL answers, and takes no writes: it is a standby, or was made read-only.",
            "Users can neither sign in nor save a chat.",
            "Name the primary in data.postgres.url, or free its disk if the provider made it read-only.",
            setting="data.postgres.url" if configured else None,
            explains=NEEDS_DATABASE,
        )
    if facts["vectors_here"] and facts["vector"] is None:
        if facts["vector_available"] is None:
            fix = "Install pgvector on that server (its provider may call it an extension to allow), or use another."
        else:
            fix = "As a superuser, in the application's database: CREATE EXTENSION vector;"
        yield Hop.DATABASE.failure(
            "database.vector",
            "The database has no extension vector.",
            "Documents cannot be searched: each upload to a knowledge base fails.",
            fix,
            setting="data.postgres.url" if configured else None,
        )
    used, limit = facts["connections"], facts["limit"]
    if used >= limit * _NEARLY:
        yield Hop.DATABASE.warning(
            "database.connections",
            f"{used} of at most {limit} connections are in use.",
            "When none is left, every request that needs the database fails.",
            "Raise max_connections of the server, run fewer replicas, or lower DATABASE_POOL_SIZE and"
            " DATABASE_POOL_MAX_OVERFLOW in open_webui.environment.",
            setting="open_webui.environment.DATABASE_POOL_SIZE",
        )
    if facts["seconds"] > _SLOW:
        yield Hop.DATABASE.note(
            "database.slow",
            f"A sign-in and a few short questions took {facts['seconds']:.1f} s.",
            "Each request asks several; a database far away makes everything slow.",
        )


def _database_fault(facts: Mapping[str, Any], configured: Configured | None) -> Finding:
    setting = None if configured is None else configured.setting
    where = "PostgreSQL" if configured is None else f"PostgreSQL at {configured.url}"
    own = "`make up` starts it; `make logs ROLE=postgres` may say why it ended."
    seen, fix = {
        "refused": (
            f"{where} refuses the user or password that the application has",
            "Write the right address: pulumi config set --path --secret data.postgres.url, then `make up`."
            if configured
            else "`make up` gives both sides the password of the stack's state; if it was changed in the database by"
            " hand, set it back there.",
        ),
        "full": (
            f"{where} has no connection left",
            "Raise max_connections, or run fewer replicas (open_webui.replicas).",
        ),
        "no_database": (f"{where} has no database of that name", "Create it, or name another in data.postgres.url."),
        "disk": ("The disk below the database is full", "Free space, or enlarge the disk; then `make up`."),
        "name": (
            f"The name of {where} has no address",
            "Fix the host in data.postgres.url, or the name server." if configured else own,
        ),
        "damaged": (
            "The database's file is damaged",
            "Stop the stack, keep a copy of the volume, and restore the last backup.",
        ),
    }.get(
        facts["fault"],
        (
            f"{where} cannot be reached",
            "Start it, or allow the connection (firewall, security group), or fix data.postgres.url."
            if configured
            else own,
        ),
    )
    return Hop.DATABASE.failure(
        "database.answers",
        f"{seen}: {facts['words']}.",
        "Users, chats and settings are there: nothing works without it.",
        fix,
        setting=setting,
        explains=NEEDS_DATABASE,
    )


def judge_redis(facts: Mapping[str, Any], configured: Configured | None) -> Iterator[Finding]:
    """Say whether Redis answers and has room."""
    setting = None if configured is None else configured.setting
    where = "Redis" if configured is None else f"Redis at {configured.url}"
    if "fault" in facts:
        own = "`make up` starts it; `make logs ROLE=redis` may say why it ended."
        seen, fix = {
            "refused": (
                f"{where} refuses the password that the application has",
                "Write the right address: pulumi config set --path --secret data.redis.url, then `make up`."
                if configured
                else own,
            ),
            "full": (f"{where} takes no more clients", "Raise its maxclients, and set its timeout to 1800."),
            "loading": (f"{where} is still reading its data", "Wait a moment, and ask again."),
            "name": (f"The name of {where} has no address", "Fix the host in data.redis.url." if configured else own),
        }.get(
            facts["fault"],
            (
                f"{where} cannot be reached",
                "Start it, or allow the connection, or fix data.redis.url." if configured else own,
            ),
        )
        yield Hop.REDIS.failure(
            "redis.answers",
            f"{seen}: {facts['words']}.",
            "Replicas share their sockets there, and who has signed out: the application is not ready without it.",
            fix,
            setting=setting,
            explains=NEEDS_REDIS,
        )
        return
    yield Hop.REDIS.ok("redis.answers", f"{where} lets the application in, in {facts['seconds'] * 1000:.0f} ms.")
    if facts.get("role") not in {None, "master"}:
        yield Hop.REDIS.failure(
            "redis.read_only",
            f"{where} is a replica, which takes no writes.",
            "Sockets and sign-outs cannot be shared.",
            "Name the primary in data.redis.url.",
            setting=setting,
            explains=NEEDS_REDIS,
        )
    if facts.get("writes_fail"):
        yield Hop.REDIS.failure(
            "redis.writes",
            f"{where} could not write its data to disk the last time, and refuses changes until it can.",
            "Who signs out stays signed in, and replicas hear nothing of each other.",
            "Free the disk below it.",
            setting=setting,
        )
    yield from _redis_room(facts, configured)


def _redis_room(facts: Mapping[str, Any], configured: Configured | None) -> Iterator[Finding]:
    memory, limit = facts.get("memory"), facts.get("memory_limit")
    if memory and limit and memory >= limit * _NEARLY:
        yield Hop.REDIS.warning(
            "redis.memory",
            f"Redis uses {memory >> 20} MiB of at most {limit >> 20} MiB.",
            "When it is full it refuses to write, and replicas get no messages."
            if facts.get("policy") == "noeviction"
            else f"When it is full it throws things out ({facts.get('policy')}): sessions that had ended live again.",
            "Raise data.redis.memory and run `make up`." if configured is None else "Raise its maxmemory.",
            setting="data.redis.memory" if configured is None else None,
        )
    clients, most = facts.get("clients"), facts.get("clients_limit")
    if clients and most and clients >= most * _NEARLY:
        yield Hop.REDIS.warning(
            "redis.clients",
            f"{clients} of at most {most} clients are connected to Redis.",
            "When none is left, every sign-in fails.",
            "Raise its maxclients, and set its timeout to 1800: connections whose other end is gone stay for ever"
            " otherwise.",
        )
    if facts.get("unsaid"):
        yield Hop.REDIS.unknown("redis.room", f"Redis does not say how full it is: {facts['unsaid']}.")


def judge_models(facts: Mapping[str, Any]) -> Iterator[Finding]:
    """Say of each provider, and of Ollama, whether it answers with the key that the application has."""
    by_stack = facts["owner"] == "stack"
    counts: list[int] = []
    answers: list[Finding] = []
    for number, one in enumerate(facts["providers"]):
        setting = f"models.providers[{number}]" if by_stack else None
        answers.append(judge_provider(one, setting))
        counts.append(one.get("models") or 0)
    if facts["ollama"] is not None:
        answers.append(judge_ollama(facts["ollama"]))
        counts.append(facts["ollama"].get("models") or 0)
    yield from answers
    if not answers:
        yield Hop.MODELS.warning(
            "models.none",
            "No model provider and no Ollama is configured.",
            "Users can sign in, but have no model to ask.",
            "Add one: models.providers in the stack file, or Admin Panel, Settings, Connections.",
            setting="models.providers",
        )
    elif not any(counts) and not any(answer.is_trouble for answer in answers):
        yield Hop.MODELS.warning(
            "models.none",
            "The provider has no model.",
            "Users can sign in, but have no model to ask.",
            "Load a model there (Ollama: `ollama pull`), or ask for one to be allowed for your key.",
        )


def judge_provider(facts: Mapping[str, Any], setting: str | None) -> Finding:  # noqa: PLR0911 - one return an answer
    """Say how a provider answered the question for its models."""
    url = facts["url"]
    in_panel = "in Admin Panel, Settings, Connections"
    where_url = f"{setting}.url" if setting else in_panel
    explains = ("stream.*", "models.none")

    def failure(seen: str, fix: str, key: str, severity: Severity = Severity.FAILURE) -> Finding:
        return Finding(
            "models.provider",
            severity,
            Hop.MODELS,
            f"{url} {seen}.",
            "Its models are missing from the list, or every question to one ends with an error.",
            fix,
            f"{setting}.{key}" if setting else None,
            explains=explains,
        )

    if "fault" in facts:
        return failure(*_unreached(facts, where_url))
    status = facts["status"]
    if facts.get("rather"):
        return failure(
            f"has no list of models (it answers {status}{', and no JSON' if facts.get('odd') else ''}), and"
            f" {facts['rather']} has",
            f"Write {facts['rather']} as {where_url}.",
            "url",
        )
    if status in _REFUSED:
        write = (
            f"pulumi config set --path --secret '{setting}.api_key', then `make up`"
            if setting
            else f"write the right one {in_panel}"
        )
        return failure(
            f"answers {status}: it does not accept the key that the application has",
            f"Give it the right key: {write}.",
            "api_key",
        )
    if status == _TOO_MANY:
        return failure("answers 429: too many requests, or nothing left to spend", "Look at your account there.", "url")
    if status >= _FAULTY:
        return failure(f"answers {status}: it has trouble of its own", "Look at its status page, or its log.", "url")
    if status == _NOT_FOUND or facts.get("odd"):
        return failure(
            f"answers the question for its models with {status}{' and no JSON' if facts.get('odd') else ''}",
            f"Write the base URL of an OpenAI-compatible API as {where_url}, mostly one that ends in /v1. One that has"
            " no list of models works with the models named in the admin panel; then this may stay.",
            "url",
            Severity.WARNING,
        )
    if status != _OK:
        return failure(f"answers {status}", f"Look at {where_url}.", "url")
    return Hop.MODELS.ok("models.provider", f"{url} takes the key, and has {facts['models']} model(s).")


def judge_ollama(facts: Mapping[str, Any]) -> Finding:
    """Say how Ollama answered the question for its models."""
    url = facts["url"]
    if "fault" in facts:
        seen, fix, _ = _unreached(facts, "models.ollama.url")
        on_host = "host.docker.internal" in url
        return Finding(
            "models.ollama",
            Severity.WARNING if on_host else Severity.FAILURE,
            Hop.MODELS,
            f"Ollama at {url} {seen}.",
            "Its models are missing from the list.",
            "Start Ollama so that containers reach it (OLLAMA_HOST=0.0.0.0), or write models.ollama.mode: none."
            if on_host
            else fix,
            "models.ollama.mode" if on_host else "models.ollama.url",
            "none" if on_host else None,
            explains=("stream.*", "models.none"),
        )
    if facts["status"] != _OK or facts.get("odd"):
        return Hop.MODELS.failure(
            "models.ollama",
            f"{url} answers {facts['status']}, and not as Ollama does.",
            "Its models are missing from the list.",
            "Write the address of an Ollama, such as http://ollama.example.com:11434, without a path.",
            setting="models.ollama.url",
            explains=("stream.*", "models.none"),
        )
    return Hop.MODELS.ok("models.ollama", f"Ollama at {url} has {facts['models']} model(s).")


def _unreached(facts: Mapping[str, Any], where: str) -> tuple[str, str, str]:
    words, host = facts["words"], facts.get("host") or "the host"
    seen, fix = {
        "name": (f"has no address: {words}", f"Fix the name in {where}, or the engine's name server."),
        "tls": (
            f"shows a certificate that the application does not accept: {words}",
            f"Fix the certificate of {host}, or write its name in {where}.",
        ),
        "silent": (
            f"does not answer in time: {words}",
            f"Allow connections from the engine's host to {host} (firewall).",
        ),
        "refused": (f"accepts no connections: {words}", f"Start the service there, or fix the port in {where}."),
    }.get(facts["fault"], (f"cannot be reached: {words}", f"Allow connections from the engine's host to {host}."))
    return seen, fix, "url"


def judge_replicas(
    names: Sequence[str], answers: Mapping[str, Mapping[str, Any]], in_rotation: Iterable[str] | None
) -> Iterator[Finding]:
    """Report which replicas that run are ready (by their answers to GET /ready), and whether the proxy knows.

    `in_rotation` are those to which the proxy is led; None where there is one alone.
    """
    bad: list[str] = []
    for name in names:
        facts = answers[name]
        if facts.get("status") == _OK and '"status":true' in facts.get("body", "").replace(" ", ""):
            continue
        bad.append(name)
        said = f"it says {facts['status']}" if "status" in facts else facts.get("fault", "nothing")
        yield Finding(
            "application.ready",
            Severity.FAILURE if len(names) == 1 else Severity.WARNING,
            Hop.APPLICATION,
            f"{name} runs, and does not say that it is ready: {said}.",
            "Its start is not complete, or its database or Redis does not answer it.",
            "`make logs ROLE=open-webui` shows what it waits for.",
            explains=EXPLAINS[Hop.APPLICATION] if len(names) == 1 else (),
        )
    if not bad:
        yield Hop.APPLICATION.ok("application.ready", f"{len(names)} replica(s) say that they are ready.")
    if in_rotation is None:
        return
    led = set(in_rotation)
    out = [name for name in names if name not in led and name not in bad]
    if out:
        yield Finding(
            "replicas.rotation",
            Severity.FAILURE if not led else Severity.WARNING,
            Hop.PROXY,
            f"{', '.join(out)} is ready, and the proxy sends it nothing.",
            "The others carry its share; with none in rotation all requests fail.",
            "`docker restart` of the container readiness, which asks the replicas; `make logs ROLE=readiness` says what"
            " it found.",
        )
    elif led:
        yield Hop.PROXY.ok("replicas.rotation", f"{len(led)} of {len(names)} replicas get requests.")
