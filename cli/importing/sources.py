"""Detects the kind of each file and combines their contents."""

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from open_webui_edge.bootstrap.console import ProblemError
from open_webui_edge.cli.importing import compose, docker_run, env_files, nginx_site
from open_webui_edge.cli.importing.old_deployment import Site, Source, Variable, variables_of

_ORDER = ".env, docker-compose.yaml (with override files), run.sh, or an Nginx site"


class Kind(Enum):
    """What a file is: its name, and a hint that finds its faults."""

    ENVIRONMENT = ("a .env file", "each of its lines is NAME=value")
    COMPOSE = ("a compose file", "`docker compose config` says where")
    RUN = ("a script with a `docker run`", "`bash -n` says where")
    NGINX = ("an Nginx site", "`nginx -t` says where")


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
    scripts, compose_files = by_kind[Kind.RUN], by_kind[Kind.COMPOSE]
    if compose_files and scripts:
        raise ProblemError(
            f"{compose_files[0].shown} and {scripts[0].shown} both start Open WebUI; name the one that is in use."
        )
    if len(scripts) > 1:
        raise ProblemError(f"{' and '.join(file.shown for file in scripts)} both start Open WebUI; name one.")
    source = _application(by_kind[Kind.ENVIRONMENT], compose_files, scripts)
    source.sources = [file.shown for file in files]
    sites: list[Site] = []
    for file in by_kind[Kind.NGINX]:
        with _reporting_shape([file]):
            sites += nginx_site.read(file.text, file.shown)
    source.site = _open_webui_site(source, sites) if sites else None
    return source


def _application(named: Sequence[_File], compose_files: Sequence[_File], scripts: Sequence[_File]) -> Source:
    environment: dict[str, Variable] = {}
    for file in named:
        with _reporting_shape([file]):
            values = env_files.variables_in(file.text, file.shown)
        if not values and not file.silent:
            raise ProblemError(f"{file.shown} is empty; name the file that says how Open WebUI was started.")
        environment |= variables_of(values, file.shown)
    if compose_files:
        with _reporting_shape(compose_files):
            files = [(file.path, file.shown, file.text) for file in compose_files]
            return compose.read(files, _beside(compose_files[0].path, environment))
    if scripts:
        (file,) = scripts
        with _reporting_shape([file]):
            source = docker_run.read(file.text, file.shown, file.path.parent, environment)
        unset = {name: one for name, one in environment.items() if name not in source.variables}
        source.variables = {**unset, **source.variables}
        return source
    return Source(variables=environment, on_the_host=True)


@contextmanager
def _reporting_shape(files: Sequence[_File]) -> Iterator[None]:
    """Turn an unexpected error of a file's reader into a message that names the file."""
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError, RuntimeError):
        names = " and ".join(file.shown for file in files)
        shape, check = files[0].kind.value
        raise ProblemError(f"{names}: this is not of the shape of {shape}; {check}.") from None


def _beside(compose_file: Path, environment: dict[str, Variable]) -> dict[str, Variable]:
    """Return the variables that compose finds: those of .env in its folder, and those that were named."""
    path = compose_file.parent / ".env"
    if any(one.origin.endswith(".env") for one in environment.values()) or not path.is_file():
        return environment
    return {**variables_of(env_files.variables_in(env_files.text_of(path, ".env"), ".env"), ".env"), **environment}


def _open_webui_site(source: Source, sites: Sequence[Site]) -> Site:
    """Return the one site that leads to Open WebUI."""
    if len(sites) == 1:
        return sites[0]
    aliases = {"open-webui", "openwebui", "open_webui", *filter(None, [source.container, source.service])}
    ports = {str(published.port) for published in source.published} | {"8080"}

    def leads(site: Site) -> bool:
        targets = [word for name, args in site.directives if name in {"proxy_pass", "set"} for word in args[-1:]]
        words = " ".join([*targets, *site.names])
        return any(word in words for word in aliases) or any(re.search(rf":{port}(/|$)", words) for port in ports)

    leading = [site for site in sites if leads(site)]
    if len(leading) != 1:
        names = "; ".join(f"{' '.join(site.names) or 'without a name'} ({site.source})" for site in sites)
        raise ProblemError(
            f"Several sites could lead to Open WebUI: {names}. Name a file in FROM that holds its site alone."
        )
    return leading[0]


def _files(word: str, folder: Path) -> list[_File]:
    if word == "-":
        text = env_files.text_in(sys.stdin.buffer.read(), "standard input")
        return [_file(folder / "stdin", "standard input", text)]
    path = env_files.path_in(folder, word, "FROM")
    return _of_folder(path, word.rstrip("/")) if path.is_dir() else [_file(path, word, env_files.text_of(path, word))]


def _of_folder(folder: Path, shown: str) -> list[_File]:
    def there(*names: str) -> list[str]:
        return [name for name in names if (folder / name).is_file()]

    def holding(pattern: re.Pattern[str], *globs: str) -> list[str]:
        paths = sorted(path for glob in globs for path in folder.glob(glob))
        return [path.name for path in paths if pattern.search(path.read_text(errors="replace", encoding="utf-8"))]

    names = there(*compose.FILES)[:1]
    if names:
        stem, _, suffix = names[0].rpartition(".")
        names += there(*(f"{stem}.override.{other}" for other in (suffix, "yaml", "yml")))[:1]
    else:
        names = holding(docker_run.LINE, "*.sh")
    names += there(".env")
    names += holding(re.compile("proxy_pass"), "*.conf", "*.conf.sample")
    if not names:
        raise ProblemError(f"{shown} has no file that starts Open WebUI: no {_ORDER}.")
    return [_file(folder / name, name, env_files.text_of(folder / name, name), silent=name == ".env") for name in names]


def _file(path: Path, shown: str, text: str, *, silent: bool = False) -> _File:
    return _File(path, shown, text, _kind_of(text, shown), silent)


def _kind_of(text: str, shown: str) -> Kind:
    """Return the kind of a file: by its name if that is enough, else by its contents."""
    if not text.strip():
        raise ProblemError(f"{shown} is empty; name the file that says how Open WebUI was started.")
    for subject, patterns in ((Path(shown).name.lower(), _NAMES), (text, _CONTENTS)):
        for pattern, kind in patterns:
            if pattern.search(subject):
                return kind
    raise ProblemError(f"{shown} is none of what an import reads: {_ORDER}.")


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
