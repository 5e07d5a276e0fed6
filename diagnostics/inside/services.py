"""What the application leans on: its database, Redis, and who answers its questions. Asked from where it is."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from open_webui_edge.diagnostics.finding import Finding, Hop
from open_webui_edge.diagnostics.inside.containers import EXPLAINS

_NEARLY = 0.8
"""Of a limit of connections or memory."""
_SLOW = 1.0
"""Seconds for a first answer of a service that is meant to be near."""
_OK = 200
_REFUSED = {401, 403}
_TOO_MANY = 429
_NOT_FOUND = 404
_FAULTY = 500

_NEEDS_DATABASE, _NEEDS_REDIS = EXPLAINS[Hop.DATABASE], EXPLAINS[Hop.REDIS]
_WITHOUT_MODELS = ("stream.*", "models.none")


def judge_database(facts: Mapping[str, Any], url: str | None) -> Iterator[Finding]:
    """Say whether the database answers, has what it needs, and has room; `url` is that of an external one."""
    if "fault" in facts:
        yield _database_fault(facts, url)
        return
    if facts["kind"] == "sqlite":
        yield Hop.DATABASE.ok("database.answers", f"SQLite answers in the volume, with {facts['users']} account(s).")
        return
    setting = "data.postgres.url" if url else None
    version, where = facts["version"], url or "its own"
    yield Hop.DATABASE.ok("database.answers", f"PostgreSQL {version} lets the application in ({where}).")
    if facts["read_only"]:
        yield Hop.DATABASE.failure(
            "database.read_only",
            "PostgreSQL answers, and takes no writes: it is a standby, or was made read-only.",
            "Users can neither sign in nor save a chat.",
            "Name the primary in data.postgres.url, or free its disk if the provider made it read-only.",
            setting=setting,
            explains=_NEEDS_DATABASE,
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
            setting=setting,
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


def _database_fault(facts: Mapping[str, Any], url: str | None) -> Finding:
    where = f"PostgreSQL at {url}" if url else "PostgreSQL"
    own = None if url else "`make up` starts it; `make logs ROLE=postgres` may say why it ended."
    match facts["fault"]:
        case "refused":
            seen = f"{where} refuses the user or password that the application has"
            fix = (
                "Write the right address: pulumi config set --path --secret data.postgres.url, then `make up`."
                if url
                else "`make up` gives both sides the password of the stack's state; if it was changed in the database "
                "by hand, set it back there."
            )
        case "full":
            seen = f"{where} has no connection left"
            fix = "Raise max_connections, or run fewer replicas (open_webui.replicas)."
        case "no_database":
            seen, fix = f"{where} has no database of that name", "Create it, or name another in data.postgres.url."
        case "disk":
            seen, fix = "The disk below the database is full", "Free space, or enlarge the disk; then `make up`."
        case "name":
            seen = f"The name of {where} has no address"
            fix = own or "Fix the host in data.postgres.url, or the name server."
        case "damaged":
            seen = "The database's file is damaged"
            fix = "Stop the stack, keep a copy of the volume, and restore the last backup."
        case _:
            seen = f"{where} cannot be reached"
            fix = own or "Start it, or allow the connection (firewall, security group), or fix data.postgres.url."
    return Hop.DATABASE.failure(
        "database.answers",
        f"{seen}: {facts['words']}.",
        "Users, chats and settings are there: nothing works without it.",
        fix,
        setting="data.postgres.url" if url else None,
        explains=_NEEDS_DATABASE,
    )


def judge_redis(facts: Mapping[str, Any], url: str | None) -> Iterator[Finding]:
    """Say whether Redis answers and has room; `url` is that of an external one."""
    setting = "data.redis.url" if url else None
    where = f"Redis at {url}" if url else "Redis"
    if "fault" in facts:
        yield _redis_fault(facts, where, setting)
        return
    yield Hop.REDIS.ok("redis.answers", f"{where} lets the application in, in {facts['seconds'] * 1000:.0f} ms.")
    if facts.get("role") not in {None, "master"}:
        yield Hop.REDIS.failure(
            "redis.read_only",
            f"{where} is a replica, which takes no writes.",
            "Sockets and sign-outs cannot be shared.",
            "Name the primary in data.redis.url.",
            setting=setting,
            explains=_NEEDS_REDIS,
        )
    if facts.get("writes_fail"):
        yield Hop.REDIS.failure(
            "redis.writes",
            f"{where} could not write its data to disk the last time, and refuses changes until it can.",
            "Who signs out stays signed in, and replicas hear nothing of each other.",
            "Free the disk below it.",
            setting=setting,
        )
    yield from _redis_room(facts, url)


def _redis_fault(facts: Mapping[str, Any], where: str, setting: str | None) -> Finding:
    own = None if setting else "`make up` starts it; `make logs ROLE=redis` may say why it ended."
    match facts["fault"]:
        case "refused":
            seen = f"{where} refuses the password that the application has"
            fix = own or "Write the right address: pulumi config set --path --secret data.redis.url, then `make up`."
        case "full":
            seen, fix = f"{where} takes no more clients", "Raise its maxclients, and set its timeout to 1800."
        case "loading":
            seen, fix = f"{where} is still reading its data", "Wait a moment, and ask again."
        case "name":
            seen, fix = f"The name of {where} has no address", own or "Fix the host in data.redis.url."
        case _:
            seen = f"{where} cannot be reached"
            fix = own or "Start it, or allow the connection, or fix data.redis.url."
    return Hop.REDIS.failure(
        "redis.answers",
        f"{seen}: {facts['words']}.",
        "Replicas share their sockets there, and who has signed out: the application is not ready without it.",
        fix,
        setting=setting,
        explains=_NEEDS_REDIS,
    )


def _redis_room(facts: Mapping[str, Any], url: str | None) -> Iterator[Finding]:
    memory, limit = facts.get("memory"), facts.get("memory_limit")
    if memory and limit and memory >= limit * _NEARLY:
        yield Hop.REDIS.warning(
            "redis.memory",
            f"Redis uses {memory >> 20} MiB of at most {limit >> 20} MiB.",
            "When it is full it refuses to write, and replicas get no messages."
            if facts.get("policy") == "noeviction"
            else f"When it is full it throws things out ({facts.get('policy')}): sessions that had ended live again.",
            "Raise its maxmemory." if url else "Raise data.redis.memory and run `make up`.",
            setting=None if url else "data.redis.memory",
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
    by_stack, ollama = facts["owner"] == "stack", facts["ollama"]
    answers = [
        judge_provider(one, f"models.providers[{number}]" if by_stack else None)
        for number, one in enumerate(facts["providers"])
    ]
    if ollama is not None:
        answers.append(judge_ollama(ollama))
    has_models = any(one.get("models") for one in (*facts["providers"], ollama or {}))
    yield from answers
    if not answers:
        yield Hop.MODELS.warning(
            "models.none",
            "No model provider and no Ollama is configured.",
            "Users can sign in, but have no model to ask.",
            "Add one: models.providers in the stack file, or Admin Panel, Settings, Connections.",
            setting="models.providers",
        )
    elif not has_models and not any(answer.is_trouble for answer in answers):
        yield Hop.MODELS.warning(
            "models.none",
            "The provider has no model.",
            "Users can sign in, but have no model to ask.",
            "Load a model there (Ollama: `ollama pull`), or ask for one to be allowed for your key.",
        )


def judge_provider(facts: Mapping[str, Any], setting: str | None) -> Finding:
    """Say how a provider answered the question for its models."""
    url, status = facts["url"], facts.get("status", 0)
    no_json = "no JSON" if facts.get("odd") else ""
    in_panel = "in Admin Panel, Settings, Connections"
    where = f"{setting}.url" if setting else in_panel
    key, problem = "url", Hop.MODELS.failure
    if "fault" in facts:
        seen, fix = _unreached(facts, where)
    elif facts.get("rather"):
        rather = facts["rather"]
        seen = f"has no list of models (it answers {status}{no_json and f', and {no_json}'}), and {rather} has"
        fix = f"Write {rather} as {where}."
    elif status in _REFUSED:
        key = "api_key"
        seen = f"answers {status}: it does not accept the key that the application has"
        fix = "Give it the right key: " + (
            f"pulumi config set --path --secret '{setting}.api_key', then `make up`."
            if setting
            else f"write the right one {in_panel}."
        )
    elif status == _TOO_MANY:
        seen, fix = "answers 429: too many requests, or nothing left to spend", "Look at your account there."
    elif status >= _FAULTY:
        seen, fix = f"answers {status}: it has trouble of its own", "Look at its status page, or its log."
    elif status == _NOT_FOUND or no_json:
        problem = Hop.MODELS.warning
        seen = f"answers the question for its models with {status}{no_json and f' and {no_json}'}"
        fix = (
            f"Write the base URL of an OpenAI-compatible API as {where}, mostly one that ends in /v1. One that has"
            " no list of models works with the models named in the admin panel; then this may stay."
        )
    elif status != _OK:
        seen, fix = f"answers {status}", f"Look at {where}."
    else:
        return Hop.MODELS.ok("models.provider", f"{url} takes the key, and has {facts['models']} model(s).")
    return problem(
        "models.provider",
        f"{url} {seen}.",
        "Its models are missing from the list, or every question to one ends with an error.",
        fix,
        setting=f"{setting}.{key}" if setting else None,
        explains=_WITHOUT_MODELS,
    )


def judge_ollama(facts: Mapping[str, Any]) -> Finding:
    """Say how Ollama answered the question for its models."""
    url, setting, value, problem = facts["url"], "models.ollama.url", None, Hop.MODELS.failure
    if "fault" in facts:
        words, fix = _unreached(facts, setting)
        seen = f"Ollama at {url} {words}."
        if "host.docker.internal" in url:
            setting, value, problem = "models.ollama.mode", "none", Hop.MODELS.warning
            fix = "Start Ollama so that containers reach it (OLLAMA_HOST=0.0.0.0), or write models.ollama.mode: none."
    elif facts["status"] != _OK or facts.get("odd"):
        seen = f"{url} answers {facts['status']}, and not as Ollama does."
        fix = "Write the address of an Ollama, such as http://ollama.example.com:11434, without a path."
    else:
        return Hop.MODELS.ok("models.ollama", f"Ollama at {url} has {facts['models']} model(s).")
    why = "Its models are missing from the list."
    return problem("models.ollama", seen, why, fix, setting=setting, value=value, explains=_WITHOUT_MODELS)


def _unreached(facts: Mapping[str, Any], where: str) -> tuple[str, str]:
    """Return what is wrong with a service that gave no answer, and what helps."""
    words, host = facts["words"], facts.get("host") or "the host"
    allow = f"Allow connections from the engine's host to {host}"
    match facts["fault"]:
        case "name":
            return f"has no address: {words}", f"Fix the name in {where}, or the engine's name server."
        case "tls":
            seen = f"shows a certificate that the application does not accept: {words}"
            return seen, f"Fix the certificate of {host}, or write its name in {where}."
        case "silent":
            return f"does not answer in time: {words}", f"{allow} (firewall)."
        case "refused":
            return f"accepts no connections: {words}", f"Start the service there, or fix the port in {where}."
        case _:
            return f"cannot be reached: {words}", f"{allow}."


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
        problem = Hop.APPLICATION.failure if len(names) == 1 else Hop.APPLICATION.warning
        yield problem(
            "application.ready",
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
        problem = Hop.PROXY.failure if not led else Hop.PROXY.warning
        yield problem(
            "replicas.rotation",
            f"{', '.join(out)} is ready, and the proxy sends it nothing.",
            "The others carry its share; with none in rotation all requests fail.",
            "`docker restart` of the container readiness, which asks the replicas; `make logs ROLE=readiness` says what"
            " it found.",
        )
    elif led:
        yield Hop.PROXY.ok("replicas.rotation", f"{len(led)} of {len(names)} replicas get requests.")
