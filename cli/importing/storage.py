"""Data: volume, database, Redis; and models on own hardware."""

import re
import shlex
from pathlib import PurePosixPath
from urllib.parse import quote, urlsplit

from open_webui_edge.bootstrap.console import ProblemError
from open_webui_edge.cli.importing.engine_facts import release
from open_webui_edge.cli.importing.old_deployment import Mount, Role, repository, tag
from open_webui_edge.cli.importing.translation import EMPTY, Secret, Translation
from open_webui_edge.runtime.contract import DATA_DIR
from open_webui_edge.settings.images import OPEN_WEBUI_VERSION
from open_webui_edge.settings.values import write_bytes

_PARTS = ("DATABASE_HOST", "DATABASE_PORT", "DATABASE_NAME", "DATABASE_USER", "DATABASE_PASSWORD")
_POSTGRES = re.compile(r"postgres(ql)?(\+\w+)?://")
_LEAST_MEMORY = 512 << 20
_OLDEST = (0, 11, 0)
"""The first release whose saved settings the launcher can read."""
_VARIANTS = {
    "cuda": "CUDA served its own embedding and speech models; the plain image runs them on the processor",
    "ollama": "the Ollama in it is a container of its own now",
    "slim": "the plain image also holds the models that slim fetched",
}


def translate(t: Translation) -> None:
    """Find the data, so that the stack uses it in place."""
    _volume(t)
    _database(t)
    _redis(t)
    _ollama(t)
    _version(t)
    _container(t)


def _volume(t: Translation) -> None:
    mount = t.source.data_mount
    if "DATA_DIR" in t.source.variables:
        value = t.source.value("DATA_DIR")
        t.derived("DATA_DIR", f"the volume with the data is at {DATA_DIR}" if value else EMPTY)
    volume = None
    if t.existing is not None and (mount is None or not mount.is_folder):
        volume = t.existing.volumes.get(str(PurePosixPath(t.existing.variables.get("DATA_DIR") or DATA_DIR)))
    if t.existing is not None and volume is not None:
        _adopt(t, f"volume {mount.source}" if mount else f"the volume of {t.existing.name}", volume)
    elif mount is None:
        _no_data_mount(t)
    elif mount.is_folder:
        _folder(t, mount)
    else:
        _adopt(t, f"volume {mount.source}", mount.source)
    _report_other_mounts(t, mount)


def _adopt(t: Translation, what: str, volume: str) -> None:
    why = "used in place: users, chats and uploads; never copied or deleted"
    t.setting(what, "data.volume", volume, why, needed=True)
    if not t.engine.ping_error and volume not in t.engine.volumes():
        t.to_do.append(
            f"The volume {volume} is not on this engine (`docker volume ls` lists volumes): `make up` fails until it is"
            " there, or until data.volume names the right one."
        )


def _report_other_mounts(t: Translation, mount: Mount | None) -> None:
    for other in t.source.mounts:
        if other is mount:
            continue
        what = f"{'folder' if other.is_folder else 'volume'} {other.source} at {other.target}"
        if other.target.startswith("/root/.ollama"):
            t.dropped(what, "the models in it stay there; the new Ollama fetches its own")
        elif other.is_folder:
            t.dropped(what, "no container gets a path of its host")
        else:
            t.dropped(what, "only the volume with the data is used; this one stays where it is")


def _no_data_mount(t: Translation) -> None:
    several = [one.name for one in t.engine.containers() if one.is_official]
    if t.source.on_the_host and len(several) > 1:
        t.to_do.append(
            f"Several containers run Open WebUI here ({', '.join(several)}), and variables alone do not"
            " identify one: write its volume into data.volume, or import what started it."
        )
    elif t.source.on_the_host:
        t.to_do.append(
            "The location of users and chats is unknown, so the stack starts without any. If they are in a volume, set"
            " data.volume; if they are in a folder, see docs/operations.md (A folder becomes a volume)."
        )
    else:
        t.to_do.append(
            f"Nothing was mounted at {DATA_DIR}, so the users and chats are inside the old container itself: `docker"
            " cp` gets them out before it is removed, and docs/operations.md (A folder becomes a volume) has the rest."
        )


def _folder(t: Translation, mount: Mount) -> None:
    volume = f"{t.stack}-data"
    image = shlex.quote(t.source.image or "docker.io/library/busybox")
    into, source = shlex.quote(volume), _quoted(f"{mount.source}:/from:ro")
    t.setting(f"folder {mount.source}", "data.volume", volume, "once it is there, see below", needed=True)
    t.to_do.append(
        "No container gets a path of its host, so the folder becomes a volume, by a copy (the folder stays as it is)."
        f" With the old container stopped:\n  docker volume create {into}\n"
        f"  docker run --rm --user 0 --entrypoint cp --volume {source} --volume {into}:/to {image} -a /from/. /to/"
    )


def _quoted(text: str) -> str:
    """Quote for a shell whether it has to be or not, as documentation does with paths."""
    return "'" + text.replace("'", "'\"'\"'") + "'"


def _database(t: Translation) -> None:
    source = t.source
    kind = source.value("DATABASE_TYPE").lower()
    url = source.value("DATABASE_URL")
    from_parts = not url and kind.startswith("postgres") and bool(source.value("DATABASE_HOST"))
    if from_parts:
        url = _put_together(t)
    for name in ("DATABASE_TYPE", *_PARTS):
        if not t.given(name):
            continue
        if from_parts:
            t.part(name, "data.postgres.url", "part of it, encrypted")
        else:
            why = "DATABASE_URL overrides it, in Open WebUI too" if url else "has no effect without the others"
            t.dropped(name, why)
    if "DATABASE_URL" in source.variables and not url:
        t.dropped("DATABASE_URL", EMPTY)
    postgres = url if _POSTGRES.match(url) else None
    if postgres:
        _postgres(t, postgres, from_parts=from_parts)
    elif url:
        _sqlite(t, url)
    _vectors(t, postgres)


def _put_together(t: Translation) -> str:
    value = t.source.value
    user, password = quote(value("DATABASE_USER"), safe=""), quote(value("DATABASE_PASSWORD"), safe="")
    port = value("DATABASE_PORT") or "5432"
    return f"postgresql://{user}:{password}@{value('DATABASE_HOST')}:{port}/{value('DATABASE_NAME')}"


def _sqlite(t: Translation, url: str) -> None:
    kind = url.partition(":")[0]
    if not kind.startswith("sqlite"):
        raise ProblemError(
            f"DATABASE_URL is of {kind}, and this program runs Open WebUI on SQLite or PostgreSQL: move the data to"
            " PostgreSQL first, or leave the variable out to start without it."
        )
    if "sqlcipher" in kind or t.source.value("DATABASE_TYPE") == "sqlite+sqlcipher":
        raise ProblemError(
            "DATABASE_URL is of an encrypted SQLite, which this program does not open: export it to a plain one or to"
            " PostgreSQL first, or leave the variable out to start without it."
        )
    path = url.partition(":///")[2]
    file = PurePosixPath(path if path.startswith("/") else f"/app/backend/{path}")
    folder = PurePosixPath(t.source.value("DATA_DIR") or DATA_DIR)
    if file == folder / "webui.db":
        t.derived("DATABASE_URL", "SQLite in the volume with the data, as it is there")
    elif file.parent == folder:
        t.dropped("DATABASE_URL", f"the database is called webui.db here, and {file.name} there")
        t.to_do.append(
            f"Rename {file.name} to webui.db in the volume with the data, or the stack starts without users."
        )
    else:
        t.dropped("DATABASE_URL", f"the SQLite file {file} is not in the volume with the data")
        t.to_do.append(f"Copy {file} to webui.db in the volume with the data, or the stack starts without users.")


def _postgres(t: Translation, url: str, *, from_parts: bool) -> None:
    url = f"postgresql://{_POSTGRES.sub('', url, count=1)}"
    reached, why = t.reachable_url(url)
    t.put("data.postgres.mode", "url")
    what = "(the database)" if from_parts else "DATABASE_URL"
    t.setting(what, "data.postgres.url", Secret(reached), why, needed=True)


def _vectors(t: Translation, postgres: str | None) -> None:
    kind = t.source.value("VECTOR_DB")
    _vectors_elsewhere(t, postgres)
    length = "PGVECTOR_INITIALIZE_MAX_VECTOR_LENGTH"
    if words := t.given(length):
        if postgres and words.isdigit():
            t.setting(length, "data.postgres.vector_length", int(words))
        else:
            t.dropped(length, "has no effect without data.postgres")
    if kind == "pgvector" and postgres:
        t.derived("VECTOR_DB", "pgvector, where data.postgres is used")
    elif kind == "pgvector":
        t.dropped("VECTOR_DB", "pgvector needs data.postgres, for everything: chroma in the volume is used")
    elif kind:
        t.passed("VECTOR_DB", kind)
    elif postgres:
        t.passed("VECTOR_DB", "chroma", "Open WebUI's default, and the vectors of documents are in the volume")
    elif "VECTOR_DB" in t.source.variables:
        t.dropped("VECTOR_DB", EMPTY)


def _vectors_elsewhere(t: Translation, main: str | None) -> None:
    name = "PGVECTOR_DB_URL"
    separate = t.given(name)
    if not separate:
        return
    if main is not None and _POSTGRES.sub("", separate) == _POSTGRES.sub("", main):
        t.derived(name, "the same database as data.postgres")
    else:
        t.dropped(name, "vectors are always in the database of data.postgres")
        if t.source.value("VECTOR_DB") == "pgvector":
            t.to_do.append(
                "Reindex the documents (admin panel, Documents, Reindex): their vectors were in a separate database."
            )


def _redis(t: Translation) -> None:
    used = t.source.first("REDIS_URL", "WEBSOCKET_REDIS_URL")
    for name in ("REDIS_URL", "WEBSOCKET_REDIS_URL"):
        url = t.given(name)
        if not url:
            continue
        if name != used:
            same = url == t.source.value(used or "")
            t.derived(name, "the same as REDIS_URL" if same else "one Redis for both: data.redis")
        elif neighbour := t.neighbour_at(url, Role.REDIS):
            why = f"{neighbour.name} holds no permanent data, so a new one replaces it"
            t.setting(name, "data.redis.mode", "container", why)
        else:
            reached, why = t.reachable_url(url)
            t.put("data.redis.mode", "url")
            t.setting(name, "data.redis.url", Secret(reached), why)


def _ollama(t: Translation) -> None:
    source = t.source
    names = [
        name for name in ("OLLAMA_BASE_URLS", "OLLAMA_BASE_URL", "OLLAMA_API_BASE_URL") if name in source.variables
    ]
    used = next((name for name in names if source.value(name).strip("; /")), None)
    off = t.get("models.ollama.mode") == "none"
    bundled = "ollama" in tag(source.image or "").split("-")
    for name in names:
        if name != used:
            t.dropped(name, f"{used} overrides it, in Open WebUI too" if source.value(name) else EMPTY)
        elif off:
            t.dropped(name, "ENABLE_OLLAMA_API switches Ollama off")
        else:
            _ollama_at(t, name, [one.strip() for one in source.value(name).split(";") if one.strip()], bundled=bundled)
    if used is not None or off:
        return
    if bundled:
        _own_ollama(t, "the Ollama in the image", gpu=source.gpu)
    elif neighbour := next((one for one in source.neighbours if one.role is Role.OLLAMA), None):
        t.dropped(f"the service {neighbour.name}", "Open WebUI was not configured to use it; models.ollama")


def _ollama_at(t: Translation, name: str, urls: list[str], *, bundled: bool) -> None:
    first, *others = urls
    if others:
        why = "models.ollama is one address; further ones are entered in the admin panel"
        t.dropped(f"{name}: {len(others)} further", why)
        t.to_do.append(
            "Only the first of several Ollamas is imported; enter the others in the admin panel under Connections, with"
            " models.ollama.mode: none."
        )
    try:
        host = urlsplit(first if "://" in first else "http://").hostname
    except ValueError:
        raise ProblemError(
            f"{t.source.variables[name].origin}: {name} is not a URL; write one such as http://ollama:11434."
        ) from None
    if first.strip("/") == "ollama" or (bundled and host in {"localhost", "127.0.0.1", None}):
        if bundled:
            _own_ollama(t, name, gpu=t.source.gpu)
        else:
            t.derived(name, "a path of older images; models.ollama.url is the Ollama of this machine")
        return
    neighbour = t.neighbour_at(first, Role.OLLAMA)
    if neighbour is not None and not neighbour.published:
        _own_ollama(t, name, gpu=neighbour.gpu)
        t.to_do.append(
            f"The models of {neighbour.name} stay in its volume, and the new Ollama has none: `docker exec"
            f" edge-{t.stack}-ollama ollama pull MODEL` fetches one. To keep that Ollama instead, publish its port and"
            f" write models.ollama: {{mode: url, url: http://host.docker.internal:11434}}."
        )
        return
    reached, why = t.reachable_url(first)
    t.put("models.ollama.mode", "url")
    t.setting(name, "models.ollama.url", reached, why or ("its models are reused" if neighbour else ""))


def _own_ollama(t: Translation, what: str, *, gpu: bool) -> None:
    t.setting(what, "models.ollama", {"mode": "container", **({"container": {"gpu": True}} if gpu else {})})


def _version(t: Translation) -> None:
    if t.source.on_the_host and t.existing is None:
        return
    image = t.source.image or (t.existing.image if t.existing else "built")
    written = tag(image)
    number = written.partition("-")[0]
    what = f"image {image}"
    for name, why in _VARIANTS.items():
        if name in re.split(r"[-.]", written):
            t.dropped(f"{what}: {name}", why)
    version = release(number) or t.facts.version
    if version is None:
        moving = f"{written or 'latest'} is whatever was pulled last" if "@" not in image else "a digest has no version"
        t.derived(what, f"open_webui.version is {OPEN_WEBUI_VERSION}, this program's own: {moving}")
        t.to_do.append(
            f"The old release could not be asked. Where it is newer than {OPEN_WEBUI_VERSION} (Settings, About), write"
            " it into open_webui.version: a database that a newer release has changed is not read by an older one."
        )
    elif tuple(map(int, version.split("."))) < _OLDEST:
        t.derived(what, f"{version} is older than this program runs: open_webui.version is {OPEN_WEBUI_VERSION}")
        t.to_do.append(
            f"`make up` upgrades {version} to {OPEN_WEBUI_VERSION} and cannot roll back: copy the volume first."
        )
    else:
        t.setting(what, "open_webui.version", version, "" if release(number) else "reported by the old container")


def _container(t: Translation) -> None:
    source = t.source
    if source.memory:
        _memory(t, source.memory)
    if source.gpu and t.get("models.ollama.mode") != "container":
        why = "models answer elsewhere; an Ollama of this deployment's own gets them (models.ollama.container.gpu)"
        t.dropped("GPUs of Open WebUI", why)
    if source.user and source.user.split(":")[0] not in {"0", "root"}:
        t.dropped(f"user {source.user}", "the container runs as its image says")
        volume = t.get("data.volume")
        if volume:
            image = shlex.quote(source.image or "docker.io/library/busybox")
            t.to_do.append(
                f"The files in {volume} belong to {source.user}, and the new container may write only its own. With"
                " the old one stopped:\n  docker run --rm --user 0 --entrypoint chown"
                f" --volume {shlex.quote(volume)}:/data {image} -R 0:0 /data"
            )
    for neighbour in source.neighbours:
        path, why = _REPLACED.get(neighbour.role, ("", ""))
        is_replaced = neighbour.role is Role.PROXY or t.get(path) == "container"
        what = f"service {neighbour.name} ({repository(neighbour.image)})"
        t.dropped(what, why if is_replaced else "is not part of the stack; it keeps running unchanged")
    for dropped in source.dropped:
        t.dropped(*dropped)


_REPLACED = {
    Role.PROXY: ("", "this deployment's proxy replaces it; stop it if it serves nothing else"),
    Role.OLLAMA: ("models.ollama.mode", "this deployment's own Ollama replaces it (models.ollama)"),
    Role.REDIS: ("data.redis.mode", "this deployment's own Redis replaces it (data.redis)"),
}
"""The setting that has to be container, and what is said then."""


def _memory(t: Translation, words: str) -> None:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([bkmg]?)b?", words.lower().replace("ib", "b"))
    units = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
    size = 0 if match is None else int(float(match[1]) * units[match[2]])
    if size < _LEAST_MEMORY:
        t.dropped(f"memory {words}", "is less than Open WebUI needs; open_webui.memory is 4GiB")
    else:
        t.setting(f"memory {words}", "open_webui.memory", write_bytes(size >> 20 << 20))


def conflicts(t: Translation) -> list[str]:
    """Return what must stop before `make up`, each with its command."""
    lines: list[str] = []
    volume = t.get("data.volume")
    address = t.get("site.listen.address") or "127.0.0.1"
    ports = [t.get("site.listen.http_port") or 8080, t.get("site.listen.https_port") or 8443]
    stopped: set[int] = set()
    for one in t.engine.containers():
        held = [each.port for each in one.published if each.port in ports and _overlap(each.address, address)]
        uses = volume is not None and volume in one.volumes.values()
        if not one.running or not (held or uses):
            continue
        stopped |= set(held)
        publishes = f"publishes {' and '.join(map(str, held))}"
        if not one.is_foreign and not uses:
            lines.append(f"The stack {one.labels.get('stack', one.name)} {publishes}: use other ports (site.listen).")
            continue
        why = " and ".join([*([f"runs on {volume}"] if uses else []), *([publishes] if held else [])])
        for_good = f" && docker update --restart=no {shlex.quote(one.name)}" if one.comes_back else ""
        lines.append(f"The container {one.name} {why}: docker stop {shlex.quote(one.name)}{for_good}")
    if t.engine.ping_error:
        lines.append(f"Stop the old containers: this engine could not be asked which ({t.engine.ping_error}).")
    elif t.engine.local:
        lines += [
            f"Another program listens on {port} (Nginx of this machine, perhaps: systemctl disable --now nginx;"
            f" `ss -ltnp 'sport = :{port}'` names it)."
            for port in ports
            if port not in stopped and not t.engine.is_free(address, port)
        ]
    return lines


def _overlap(one: str, other: str) -> bool:
    everywhere = {"0.0.0.0", "::", ""}  # noqa: S104 - compared, not bound
    return one == other or one in everywhere or other in everywhere
