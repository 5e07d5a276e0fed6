"""Reads compose files: merges and interpolates them by https://docs.docker.com/reference/compose-file/."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from open_webui_edge.bootstrap.console import ProblemError
from open_webui_edge.cli.importing import env_files
from open_webui_edge.cli.importing.old_deployment import (
    Dropped,
    Mount,
    Neighbour,
    Publication,
    Role,
    Source,
    Variable,
    is_open_webui,
    publications,
    repository,
    role_of,
    variables_of,
)
from open_webui_edge.runtime.contract import PORT

FILES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
"""What compose looks for in a folder, in this order."""
_REPLACED = {"command", "entrypoint"}
_MAPPINGS = {"environment", "labels", "extra_hosts", "depends_on", "args", "sysctls", "networks"}
_HOST_RULE = re.compile(r"Host\(\s*[`'\"]?([A-Za-z0-9.-]+)[`'\"]?\s*\)")
_REFERENCE = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)")
_OURS = "the program has one of its own for each container"
REASONS = {
    "build": "the released image is run, without what you built into it",
    "cap_add": "the container gets no further rights",
    "command": "the image's own command is run",
    "devices": "no container gets a device of the host; GPUs are Ollama's (models.ollama.container.gpu)",
    "dns": "no setting does this; the engine's own DNS is used",
    "entrypoint": "the image's own command is run",
    "healthcheck": f"{_OURS}: GET /ready",
    "hostname": "nothing asks for it",
    "labels": "labels of other programs have no effect: only this deployment's proxy is reachable",
    "links": "other services are reached by the host (host.docker.internal)",
    "logging": _OURS,
    "networks": "the deployment has a network of its own",
    "pid": "no container sees the host's processes",
    "platform": "the engine's own is used",
    "privileged": "no container gets rights over its host",
    "secrets": "secrets are settings or variables, encrypted in the stack file",
    "working_dir": "the image's own is used",
}
"""Why a key has no effect."""
_SILENT = {
    "image", "environment", "env_file", "ports", "volumes", "container_name", "depends_on", "expose", "restart",
    "extra_hosts", "deploy", "mem_limit", "user", "network_mode", "gpus", "runtime", "pull_policy", "stdin_open", "tty",
    "init", "profiles", "stop_grace_period", "scale", "attach", "extends",
}  # fmt: skip


@dataclass(frozen=True)
class _Tagged:
    """A value with the tag !reset or !override."""

    tag: str
    value: Any


class _Loader(yaml.SafeLoader):
    """A loader that reads every scalar as text: 3000:8080 is no number, and `yes` no boolean."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.rpartition(":")[2] in {"null", "merge"}]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _tagged(loader: yaml.SafeLoader, node: yaml.Node) -> _Tagged:
    if isinstance(node, yaml.MappingNode):
        return _Tagged(node.tag, loader.construct_mapping(node, deep=True))
    if isinstance(node, yaml.SequenceNode):
        return _Tagged(node.tag, loader.construct_sequence(node, deep=True))
    return _Tagged(node.tag, None)


for _tag in ("!reset", "!override"):
    _Loader.add_constructor(_tag, _tagged)


def document_of(text: str, shown: str) -> dict[str, Any]:
    """Parse a compose file; raise ProblemError if it is not YAML, or not a compose file."""
    try:
        document = yaml.load(text, _Loader)  # noqa: S506 - a safe loader's child
    except yaml.YAMLError as fault:
        mark = getattr(fault, "problem_mark", None)
        place = f"line {mark.line + 1}: " if mark is not None else ""
        raise ProblemError(
            f"{shown}: {place}{getattr(fault, 'problem', None) or 'this is not YAML'}; fix the file (`docker compose"
            " config` reads it the same way)."
        ) from None
    if document is None:
        raise ProblemError(f"{shown} is empty; name the file that says how Open WebUI was started.")
    if not isinstance(document, dict) or not isinstance(document.get("services", {}), dict | _Tagged):
        raise ProblemError(f"{shown} is no compose file: it has no mapping `services`.")
    _check(document, _DOCUMENT, shown)
    return document


@dataclass(frozen=True)
class _Shape:
    """A valid shape of what is read, and of what is in it."""

    word: str
    example: str
    kinds: tuple[type, ...]
    keys: Mapping[str, "_Shape"] = field(default_factory=dict[str, "_Shape"])
    value: "_Shape | None" = None
    """Of every key in a mapping."""
    entry: "_Shape | None" = None
    """Of every entry in a list."""


def _mapping_of(*, value: _Shape | None = None, **keys: _Shape) -> _Shape:
    return _Shape("a mapping", "write `key: value` lines below it", (dict,), keys, value)


_ANYTHING = ("", "", (object,))
"""What its reader checks."""
_MAP_OR_LIST = ("a mapping or a list", "write `key: value` lines below it", (dict, list))
_ONE = _Shape("one value", "write `key: value`", (str,))
_LIST = _Shape("a list", "write `- entry` lines below it", (list,))
_VARIABLES = _Shape(*_MAP_OR_LIST, value=_ONE, entry=_Shape("NAME=value", "write `- NAME=value`, or a mapping", (str,)))
_RESOURCES = _mapping_of(devices=_LIST)
_SERVICE = {
    **dict.fromkeys(
        ("image", "container_name", "hostname", "user", "mem_limit", "network_mode", "runtime", "scale"), _ONE
    ),
    "deploy": _mapping_of(resources=_mapping_of(limits=_RESOURCES, reservations=_RESOURCES)),
    "env_file": _Shape("a path or a list of paths", "write `- path` lines below it", (str, list)),
    "environment": _VARIABLES,
    "extra_hosts": _Shape(*_MAP_OR_LIST),
    "labels": _VARIABLES,
    "ports": _LIST,
    "volumes": _LIST,
}
_DOCUMENT = _mapping_of(
    name=_ONE,
    volumes=_mapping_of(value=_mapping_of()),
    services=_Shape(*_ANYTHING, value=_Shape(*_ANYTHING, keys=_SERVICE)),
)


def _check(tagged: Any, shape: _Shape | None, shown: str, where: str = "") -> None:  # noqa: ANN401 - whatever YAML holds
    """Refuse what is of another shape than what is read of it."""
    value = _untagged(tagged)
    if shape is None or value is None:
        return
    if not isinstance(value, shape.kinds):
        kind = "a mapping" if isinstance(value, dict) else "a list" if isinstance(value, list) else "text"
        raise ProblemError(
            f"{shown}: {where} is {kind} instead of {shape.word}; {shape.example} (`docker compose config` shows"
            " where)."
        )
    if isinstance(value, dict):
        for key, item in value.items():
            _check(item, shape.keys.get(key, shape.value), shown, f"{where}.{key}".lstrip("."))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check(item, shape.entry, shown, f"{where}[{index}]")


def _untagged(value: Any) -> Any:  # noqa: ANN401 - whatever YAML holds
    return value.value if isinstance(value, _Tagged) else value


def merged(base: Any, other: Any, key: str = "") -> Any:  # noqa: ANN401 - whatever YAML holds
    """Merge two documents; the second one overrides the first."""
    if isinstance(other, _Tagged):
        return None if other.tag == "!reset" else other.value
    if key in _MAPPINGS:
        base, other = _mapping(base), _mapping(other)
    if isinstance(base, dict) and isinstance(other, dict):
        changed = {name: merged(base.get(name), value, name) for name, value in other.items()}
        return {name: value for name, value in {**base, **changed}.items() if not _is_reset(other.get(name))}
    if isinstance(base, list) and isinstance(other, list) and key not in _REPLACED:
        identity = {"volumes": _target, "ports": str}.get(key)
        entries = [*base, *other]
        # Of the entries for one path or port, the last one counts.
        return entries if identity is None else list({identity(entry): entry for entry in entries}.values())
    if key == "env_file":
        return [*_list(base), *_list(other)]
    return base if other is None and base is not None else other


def _is_reset(value: Any) -> bool:  # noqa: ANN401 - whatever YAML holds
    return isinstance(value, _Tagged) and value.tag == "!reset"


def _target(entry: Any) -> str:  # noqa: ANN401 - whatever YAML holds
    if isinstance(entry, dict):
        return str(entry.get("target", "")).rstrip("/")
    # At colons, but not at those of ${NAME:-default}.
    parts = re.split(r":(?![^{}]*\})", str(entry))
    return parts[:2][-1].rstrip("/")


def _list(value: Any) -> list[Any]:  # noqa: ANN401 - whatever YAML holds
    return [] if value is None else list(value) if isinstance(value, list) else [value]


def _mapping(value: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever YAML holds
    """Return a list of NAME=value (or name:value of hosts) as a mapping; None for a name alone."""
    if isinstance(value, dict):
        return value
    pairs = (re.split("[=:]", str(entry), maxsplit=1) for entry in _list(value))
    return {name: rest[0] if rest else None for name, *rest in pairs}


def read(files: Sequence[tuple[Path, str, str]], environment: dict[str, Variable]) -> Source:
    """Read compose files: path, name and text of each, the base first; `environment` is what their ${NAME} can be.

    Raises:
        ProblemError: they say nothing that can be read, or nothing of Open WebUI.

    """
    return _Project(files, environment).source()


class _Project:
    """All services of the merged files."""

    def __init__(self, files: Sequence[tuple[Path, str, str]], environment: dict[str, Variable]) -> None:
        self._folder = files[0][0].parent
        self._shown = files[0][1]
        self._environment = environment
        self._known: dict[str, str | None] = {name: one.value for name, one in environment.items()}
        self._used: set[str] = set()
        self._document: dict[str, Any] = {}
        for _, shown, text in files:
            self._document = merged(self._document, document_of(text, shown))
        if "include" in self._document:
            raise ProblemError(f"{self._shown}: `include` is not followed; name the included files in FROM as well.")
        self._written: dict[str, Any] = self._document.get("services") or {}
        self._services = {name: self._extended(name, body) for name, body in self._written.items()}
        if not self._services:
            raise ProblemError(f"{self._shown} is no compose file: it has no mapping `services`.")

    def _extended(self, name: str, body: Any, depth: int = 0) -> dict[str, Any]:  # noqa: ANN401 - whatever YAML holds
        if body is None:
            return {}
        if not isinstance(body, dict):
            raise ProblemError(f"{self._shown}: services.{name} is not a mapping; write `key: value` lines below it.")
        extends = body.get("extends")
        if extends is None or depth > len(self._document) + 8:
            return body
        other = extends if isinstance(extends, dict) else {"service": extends}
        services = self._written
        if "file" in other:
            shown = str(other["file"])
            services = document_of(env_files.text_of(self._folder / shown, shown), shown).get("services") or {}
        if other.get("service") not in services:
            raise ProblemError(f"{self._shown}: services.{name} extends {other.get('service')}, which is not there.")
        base = self._extended(name, services[other["service"]], depth + 1)
        return merged(base, {key: value for key, value in body.items() if key != "extends"})

    def _open_webui(self) -> str:
        """Return the name of the one service that runs it."""
        images = {name: self._filled(body.get("image") or "") for name, body in self._services.items()}
        matching = [name for name, image in images.items() if is_open_webui(image) and name not in self._templates()]
        # Built by its owner, under whatever name.
        matching = matching or [
            name
            for name, body in self._services.items()
            if "build" in body and re.sub("[^a-z]", "", name.lower()) in {"openwebui", "webui"}
        ]
        listed = ", ".join(f"{name} ({image or 'built'})" for name, image in images.items())
        if not matching:
            raise ProblemError(
                f"{self._shown}: none of its services runs Open WebUI: {listed}. Its image is called …/open-webui."
            )
        if len(matching) > 1:
            raise ProblemError(
                f"{self._shown}: {len(matching)} services run Open WebUI: {', '.join(matching)}. One stack is one"
                " deployment: leave the others out of a copy of the file (open_webui.replicas makes more of one)."
            )
        return matching[0]

    def _templates(self) -> set[str]:
        """Return the services that others of the same file are made from."""
        extended = [(body or {}).get("extends") for body in self._written.values()]
        return {
            str(one["service"] if isinstance(one, dict) else one)
            for one in extended
            if one is not None and not (isinstance(one, dict) and "file" in one)
        }

    def _filled(self, value: Any, where: str = "") -> Any:  # noqa: ANN401 - whatever YAML holds
        """Interpolate a value; with its path, a variable that has no value is a fault."""
        if isinstance(value, dict):
            return {key: self._filled(item, where and f"{where}.{key}") for key, item in value.items()}
        if isinstance(value, list):
            return [self._filled(item, where) for item in value]
        if not isinstance(value, str):
            return value
        self._used.update(_REFERENCE.findall(value))

        def missing(variable: str) -> str:
            if not where:
                return ""
            variable, question, words = variable.partition("?")
            says = f" ({words})" if question and words else ""
            raise ProblemError(
                f"{self._shown}: {where}: ${{{variable}}} has no value and no default{says}; name the .env file that"
                f' has it (FROM="{self._shown} .env"), or write {variable}= there where it is meant to be empty.'
            )

        return env_files.substituted(value, self._known, missing)

    def source(self) -> Source:
        """Return what is known of the whole, seen from the service that runs Open WebUI."""
        name = self._open_webui()
        body = self._filled(self._services[name], f"services.{name}")
        deploy = body.get("deploy") or {}
        variables = self._variables(name, body)
        limits = (deploy.get("resources") or {}).get("limits") or {}
        beside = {key: one for key, one in self._environment.items() if key not in variables}
        return Source(
            variables=variables,
            image=body.get("image"),
            container=body.get("container_name"),
            project=self._project_name(),
            service=name,
            published=tuple(_published(body.get("ports"), f"{self._shown}: services.{name}.ports")),
            mounts=tuple(self._mounts(name, body)),
            neighbours=tuple(self._neighbours(name)),
            on_host_network=body.get("network_mode") == "host",
            gpu=_has_gpu(body),
            user=body.get("user"),
            memory=body.get("mem_limit") or limits.get("memory"),
            hosts=tuple(_HOST_RULE.findall(" ".join(filter(None, _mapping(body.get("labels")).values())))),
            dropped=list(_without_a_place(body, deploy)),
            unused={key: one for key, one in beside.items() if key not in self._used},
            interpolated={key: one for key, one in beside.items() if key in self._used},
        )

    def _project_name(self) -> str:
        given = self._document.get("name") or self._known.get("COMPOSE_PROJECT_NAME") or self._folder.resolve().name
        return re.sub(r"[^a-z0-9_-]", "", given.lower()).lstrip("_-")

    def _variables(self, name: str, body: Mapping[str, Any]) -> dict[str, Variable]:
        variables: dict[str, Variable] = {}
        for entry in _list(body.get("env_file")):
            variables |= self._of_file(name, entry)
        for variable, value in _mapping(body.get("environment")).items():
            if value is not None:
                variables[variable] = Variable(value, self._shown)
            elif variable in self._environment:
                self._used.add(variable)
                variables[variable] = self._environment[variable]
        return variables

    def _of_file(self, name: str, entry: Any) -> dict[str, Variable]:  # noqa: ANN401 - whatever YAML holds
        written = str(entry["path"] if isinstance(entry, dict) else entry)
        path, shown = self._folder / written, written.removeprefix("./")
        if path.exists():
            return variables_of(env_files.variables_in(env_files.text_of(path, shown), shown), shown)
        if isinstance(entry, dict) and entry.get("required", "true") == "false":
            return {}
        raise ProblemError(
            f"{self._shown}: services.{name}.env_file names {shown}, which does not exist; add it, or remove the line."
        )

    def _mounts(self, name: str, body: Mapping[str, Any]) -> Iterator[Mount]:
        declared = self._document.get("volumes") or {}
        for entry in _list(body.get("volumes")):
            if isinstance(entry, dict):
                kind, source, target = (str(entry.get(key) or "") for key in ("type", "source", "target"))
                if kind not in {"volume", "bind"} or not source:
                    continue
                is_folder = kind == "bind"
            else:
                parts = str(entry).split(":")
                if len(parts) == 1:
                    continue
                source, target = parts[0], parts[1]
                is_folder = source.startswith((".", "/", "~"))
            if is_folder:
                path = env_files.path_in(self._folder, source, f"{self._shown}: services.{name}.volumes")
                yield Mount(str(path.resolve()), target, is_folder=True)
            else:
                options = self._filled(declared.get(source) or {}, f"volumes.{source}")
                yield Mount(self._volume(source, options), target, is_folder=False)

    def _volume(self, source: str, options: Mapping[str, Any]) -> str:
        external = options.get("external")
        name = options.get("name") or (external.get("name") if isinstance(external, dict) else None)
        if name:
            return str(name)
        return source if external in {"true", "True", "yes"} else f"{self._project_name()}_{source}"

    def _neighbours(self, name: str) -> Iterator[Neighbour]:
        for other, raw in self._services.items():
            if other == name or other in self._templates():
                continue
            body = self._filled(raw)
            image = body.get("image") or ""
            yield Neighbour(
                name=other,
                image=repository(image) if image else "built",
                role=role_of(image) if image else Role.PROXY if "nginx" in other.lower() else Role.OTHER,
                published=tuple(_published(body.get("ports"), f"{self._shown}: services.{other}.ports")),
                gpu=_has_gpu(body),
                variables={key: value or "" for key, value in _mapping(body.get("environment")).items()},
                aliases=tuple(filter(None, [body.get("container_name"), body.get("hostname")])),
            )


def _without_a_place(body: Mapping[str, Any], deploy: Mapping[str, Any]) -> Iterator[Dropped]:
    for key in body:
        if key == "extra_hosts":
            yield from (
                (f"extra_hosts {host}", "no setting adds names; write its address where it is used")
                for host in _mapping(body[key])
                if host != "host.docker.internal"
            )
        elif key not in _SILENT and not str(key).startswith("x-"):
            yield str(key), REASONS.get(str(key), "no setting does this")
    replicas = deploy.get("replicas") or body.get("scale")
    if replicas not in {None, "1", ""}:
        yield f"{replicas} replicas", "one for now: more share a PostgreSQL and a Redis (open_webui.replicas, data)"


def _published(entries: Any, where: str) -> Iterator[Publication]:  # noqa: ANN401 - whatever YAML holds
    for entry in _list(entries):
        if isinstance(entry, dict):
            words = f"{entry.get('published') or ''}:{entry.get('target', PORT)}/{entry.get('protocol') or 'tcp'}"
            words = f"{entry['host_ip']}:{words}" if entry.get("host_ip") else words
        else:
            words = str(entry)
        yield from publications(words, where)


def _has_gpu(body: Mapping[str, Any]) -> bool:
    if body.get("gpus") or body.get("runtime") == "nvidia":
        return True
    resources = (body.get("deploy") or {}).get("resources") or {}
    devices = (resources.get("reservations") or {}).get("devices") or []
    return any("gpu" in _list(device.get("capabilities")) for device in devices if isinstance(device, dict))
