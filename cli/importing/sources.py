"""Detects the kind of each file and combines their contents."""

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from open_webui_edge.bootstrap.problem import ProblemError
from open_webui_edge.cli.importing import compose, docker_run, env_files, nginx_site
from open_webui_edge.cli.importing.old_deployment import Source, Variable

_ORDER = ".env, docker-compose.yaml (with override files), run.sh, or an Nginx site"


class Kind(StrEnum):
    """What a file is."""

    ENVIRONMENT = "variables"
    COMPOSE = "compose"
    RUN = "docker run"
    NGINX = "Nginx site"


@dataclass(frozen=True)
class _File:
    path: Path
    shown: str
    text: str
    kind: Kind
    silent: bool = False
    """Whether compose would find it by itself, and FROM does not name it."""


def read(given: Sequence[str], folder: Path) -> Source:
    """Read what FROM names, relative to `folder`.

    Raises:
        ProblemError: it cannot be read, or says nothing of Open WebUI.

    """
    if not given:
        raise ProblemError(f"FROM=… is missing: name what Open WebUI was started with ({_ORDER}), a folder, or -.")
    files = [file for word in given for file in _files(word, folder)]
    by_kind = {kind: [file for file in files if file.kind is kind] for kind in Kind}
    if by_kind[Kind.COMPOSE] and by_kind[Kind.RUN]:
        raise ProblemError(
            f"{by_kind[Kind.COMPOSE][0].shown} and {by_kind[Kind.RUN][0].shown} both start Open WebUI; name the one"
            " that"
            " is in use."
        )
    if len(by_kind[Kind.RUN]) > 1:
        raise ProblemError(f"{' and '.join(file.shown for file in by_kind[Kind.RUN])} both start Open WebUI; name one.")
    source = _application(by_kind)
    source.sources = [file.shown for file in files]
    for file in by_kind[Kind.NGINX]:
        with _reporting_shape([file]):
            source.sites += nginx_site.read(file.text, file.shown)
    source.sites = [_open_webui_site(source)] if source.sites else []
    return source


def _application(by_kind: dict[Kind, list[_File]]) -> Source:
    environment: dict[str, Variable] = {}
    for file in by_kind[Kind.ENVIRONMENT]:
        with _reporting_shape([file]):
            values = env_files.variables_in(file.text, file.shown)
        if not values and not file.silent:
            raise ProblemError(f"{file.shown} is empty; name the file that says how Open WebUI was started.")
        environment |= {name: Variable(name, value, file.shown) for name, value in values.items() if value is not None}
    if by_kind[Kind.COMPOSE]:
        files = [(file.path, file.shown, file.text) for file in by_kind[Kind.COMPOSE]]
        with _reporting_shape(by_kind[Kind.COMPOSE]):
            return compose.read(files, _beside(files[0][0], environment))
    if by_kind[Kind.RUN]:
        (file,) = by_kind[Kind.RUN]
        with _reporting_shape([file]):
            source = docker_run.read(file.text, file.shown, file.path.parent, environment)
        source.variables = {
            **{name: one for name, one in environment.items() if name not in source.variables},
            **source.variables,
        }
        return source
    return Source(variables=environment, on_the_host=True)


@contextmanager
def _reporting_shape(files: Sequence[_File]) -> Iterator[None]:
    """Turn an unexpected error of a file's reader into a message that names the file."""
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError, RuntimeError):
        names = " and ".join(file.shown for file in files)
        shape, check = _CHECKED[files[0].kind]
        raise ProblemError(f"{names}: this is not of the shape of {shape}; {check}.") from None


def _beside(compose_file: Path, environment: dict[str, Variable]) -> dict[str, Variable]:
    """Return the variables that compose finds: those of .env in its folder, and those that were named."""
    path = compose_file.parent / ".env"
    if any(one.origin.endswith(".env") for one in environment.values()) or not path.is_file():
        return environment
    values = env_files.variables_in(env_files.text_of(path, ".env"), ".env")
    return {
        **{name: Variable(name, value, ".env") for name, value in values.items() if value is not None},
        **environment,
    }


def _open_webui_site(source: Source) -> "nginx_site.Site":
    """Return the one site that leads to Open WebUI."""
    if len(source.sites) == 1:
        return source.sites[0]
    aliases = {"open-webui", "openwebui", "open_webui", *filter(None, [source.container, source.service])}
    ports = {str(published.port) for published in source.published} | {"8080"}

    def leads(site: nginx_site.Site) -> bool:
        targets = [args[0] for name, args in site.directives if name in {"proxy_pass", "set"} for args in [args[-1:]]]
        words = " ".join([*targets, *site.names])
        return any(word in words for word in aliases) or any(re.search(rf":{port}(/|$)", words) for port in ports)

    leading = [site for site in source.sites if leads(site)]
    if len(leading) != 1:
        names = "; ".join(f"{' '.join(site.names) or 'without a name'} ({site.source})" for site in source.sites)
        raise ProblemError(
            f"Several sites could lead to Open WebUI: {names}. Name a file in FROM that holds its site alone."
        )
    return leading[0]


def _files(word: str, folder: Path) -> list[_File]:
    if word == "-":
        text = env_files.text_in(sys.stdin.buffer.read(), "standard input")
        return [_File(folder / "stdin", "standard input", text, _kind_of(text, "standard input"))]
    path = env_files.path_in(folder, word, "FROM")
    if path.is_dir():
        return _of_folder(path, word.rstrip("/"))
    text = env_files.text_of(path, word)
    return [_File(path, word, text, _kind_of(text, word))]


def _of_folder(folder: Path, shown: str) -> list[_File]:
    base = next((name for name in compose.FILES if (folder / name).is_file()), None)
    if base is not None:
        stem, _, suffix = base.rpartition(".")
        overriding = [f"{stem}.override.{other}" for other in (suffix, "yaml", "yml")]
        override = next((name for name in overriding if (folder / name).is_file()), None)
        names = [base, *([override] if override else []), *([".env"] if (folder / ".env").is_file() else [])]
    else:
        names = [
            path.name
            for path in sorted(folder.glob("*.sh"))
            if docker_run.LINE.search(path.read_text(errors="replace", encoding="utf-8"))
        ]
        names += [".env"] if (folder / ".env").is_file() else []
    names += [
        path.name
        for path in sorted([*folder.glob("*.conf"), *folder.glob("*.conf.sample")])
        if "proxy_pass" in path.read_text(errors="replace", encoding="utf-8")
    ]
    if not names:
        raise ProblemError(f"{shown} has no file that starts Open WebUI: no {_ORDER}.")
    return [
        _File(folder / name, name, text, _kind_of(text, name), silent=name == ".env")
        for name in names
        for text in [env_files.text_of(folder / name, name)]
    ]


def _kind_of(text: str, shown: str) -> Kind:
    """Return the kind of a file: by its name if that is enough, else by its contents."""
    if not text.strip():
        raise ProblemError(f"{shown} is empty; name the file that says how Open WebUI was started.")
    name = Path(shown).name.lower()
    for pattern, kind in _NAMES:
        if pattern.search(name):
            return kind
    for pattern, kind in _CONTENTS:
        if pattern.search(text):
            return kind
    raise ProblemError(f"{shown} is none of what an import reads: {_ORDER}.")


_CHECKED = {
    Kind.ENVIRONMENT: ("a .env file", "each of its lines is NAME=value"),
    Kind.COMPOSE: ("a compose file", "`docker compose config` says where"),
    Kind.RUN: ("a script with a `docker run`", "`bash -n` says where"),
    Kind.NGINX: ("an Nginx site", "`nginx -t` says where"),
}
"""Kind -> its name, and a hint that finds its faults."""
_NAMES = (
    (re.compile(r"\.ya?ml$"), Kind.COMPOSE),
    (re.compile(r"\.(conf|nginx)(\.sample)?$"), Kind.NGINX),
    (re.compile(r"^\.env|\.env$"), Kind.ENVIRONMENT),
    (re.compile(r"\.sh$"), Kind.RUN),
)
_CONTENTS = (
    (docker_run.LINE, Kind.RUN),
    (re.compile(r"^\s*(server|upstream|http)\b[^={]*\{", re.MULTILINE), Kind.NGINX),
    (re.compile(r"^services\s*:", re.MULTILINE), Kind.COMPOSE),
    (re.compile(r"\A(\s*(#[^\n]*)?\n)*\s*(export\s+)?[A-Za-z_][A-Za-z0-9_]*\s*="), Kind.ENVIRONMENT),
)
