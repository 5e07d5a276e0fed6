"""A stack file in the making, and a report row for each item that was read."""

import operator
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import reduce
from itertools import accumulate
from typing import Any

from open_webui_edge.cli.importing.engine_facts import ContainerFacts, DockerFacts, ExistingContainer
from open_webui_edge.cli.importing.old_deployment import Neighbour, Role, Source, host_of, split_url

_SECRET_NAME = re.compile(
    # Anyone with a webhook's URL can write into its channel.
    r"KEY|SECRET|TOKEN|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|CONNECTION_STRING|WEBHOOK|(^|_)(PAT|PASS|PWD)($|_)|"
    r"_(AUTH|HEADERS|CONNECTIONS)$"
)
_SECRET_INSIDE = re.compile(r"\"(api_?key|key|password|secret|token)\"\s*:\s*\"[^\"]", re.IGNORECASE)
_NO_SECRET_NAME = re.compile(r".*_KEY_PREFIX|ENABLE_.*|.*_(TOKENS|TOKEN_COUNT|TOKENIZER|TOKEN_EXPIRES_IN)|TIKTOKEN_.*")
_USER = re.compile(r"(?<=://)(?!USER:PASSWORD@)(?:[^/\s:@;]*:(?!\d+/)[^\s;]*|[^/\s?#;]*)@")
"""Credentials in a URL. A password may contain / and @, against the rules; a port is no password,
and the examples in messages are no credentials."""
EMPTY = "is empty"
_ENVIRONMENT = "open_webui.environment."
_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


class Outcome(StrEnum):
    """The result for one item."""

    SETTING = "became a setting"
    DERIVED = "is derived now"
    PASSED = "is passed on unchanged (open_webui.environment)"
    DROPPED = "was dropped"


class Secret(str):
    """A value that the stack file holds encrypted."""

    __slots__ = ()


@dataclass(frozen=True)
class Row:
    """The result for one item, as a row of the report."""

    what: str
    outcome: Outcome
    text: str
    """The value or the reason."""
    setting: str = ""
    needed: bool = False
    """Whether it is required to reach the data and cannot be dropped."""


@dataclass
class Translation:
    """A stack file in the making."""

    source: Source
    stack: str
    engine: DockerFacts
    existing: ExistingContainer | None
    facts: ContainerFacts
    tree: dict[str, Any] = field(default_factory=dict[str, Any])
    rows: list[Row] = field(default_factory=list[Row])
    to_do: list[str] = field(default_factory=list[str])
    """Steps and notes for the user before `make up`."""

    def setting(self, what: str, path: str, value: Any, why: str = "", *, needed: bool = False) -> None:  # noqa: ANN401 - what YAML can hold
        """Write a setting and report its origin."""
        self.put(path, value)
        shown = written(value)
        outcome = Outcome.PASSED if path.startswith(_ENVIRONMENT) else Outcome.SETTING
        self.rows.append(Row(what, outcome, f"{shown} ({why})" if why else shown, path, needed))

    def part(self, what: str, path: str, why: str) -> None:
        """Report an item as part of a setting that is already written."""
        self.rows.append(Row(what, Outcome.SETTING, why, path))

    def derived(self, what: str, why: str) -> None:
        """Report an item as derived from other settings."""
        self.rows.append(Row(what, Outcome.DERIVED, why))

    def passed(self, name: str, value: str, why: str = "") -> None:
        """Pass a variable on to Open WebUI."""
        self.setting(name, f"{_ENVIRONMENT}{name}", Secret(value) if is_secret(name, value) else value, why)

    def given(self, name: str) -> str:
        """Return a variable's value; one that is set to nothing is reported as dropped."""
        if name in self.source.variables and not self.source.value(name):
            self.dropped(name, EMPTY)
        return self.source.value(name)

    def dropped(self, what: str, why: str) -> None:
        """Report an item as dropped."""
        self.rows.append(Row(what, Outcome.DROPPED, why))

    def put(self, path: str, value: Any) -> None:  # noqa: ANN401 - what YAML can hold
        """Write a setting without a report row."""
        *above, last = steps(path)
        target: Any = self.tree
        for step in above:
            target = target[step] if isinstance(step, int) else target.setdefault(step, {})
        target[last] = value

    def get(self, path: str) -> Any:  # noqa: ANN401 - what YAML can hold
        """Return a setting that was written, or None."""
        tree: Any = self.tree
        try:
            return reduce(operator.getitem, steps(path), tree)
        except (LookupError, TypeError):
            return None

    def remove(self, path: str) -> None:
        """Remove a setting, and parents that become empty."""
        *above, last = steps(path)
        holders: list[Any] = list(accumulate(above, operator.getitem, initial=self.tree))
        del holders[-1][last]
        for holder, step in reversed(list(zip(holders, above, strict=False))):
            if not holder[step]:
                del holder[step]

    def reachable_url(self, url: str, *, from_the_host: bool = True) -> tuple[str, str]:
        """Return a URL that is reachable from the new container, and why it changed.

        Names of the old Docker network do not resolve there; services on the host are reached by host.docker.internal.
        """
        parts = split_url(url)
        if parts is None:
            return url, ""
        host, port = parts.hostname, parts.port
        neighbour = self.neighbour_at(url)
        if neighbour is not None:
            inside = port or _PORTS.get(parts.scheme.partition("+")[0], 80)
            published = next((one for one in neighbour.published if one.container_port == inside), None)
            port = inside if published is None else published.port
            why = f"{host} is a name of the old network"
            if published is None:
                self.to_do.append(
                    f"Publish {neighbour.name}'s port, as the new deployment is not on its network: ports:"
                    f' ["{inside}:{inside}"] below services.{neighbour.name}, and `docker compose up -d'
                    f" {shlex.quote(neighbour.name)}`."
                )
            elif published.address.startswith("127."):
                self.to_do.append(
                    f"{neighbour.name} is published on {published.address} only, which containers cannot reach:"
                    f' publish "{published.port}:{inside}" instead.'
                )
        elif from_the_host and host in {"localhost", "127.0.0.1", "::1"}:
            why = f"{host} would be the container itself"
        else:
            return url, ""
        user, at, _ = parts.netloc.rpartition("@")
        named = "host.docker.internal" + ("" if port is None else f":{port}")
        return parts._replace(netloc=f"{user}{at}{named}").geturl(), why

    def neighbour_at(self, url: str, role: Role | None = None) -> Neighbour | None:
        """Return the service, of any role or of one, that a URL leads to."""
        host = host_of(url)
        named = (one for one in self.source.neighbours if host in {one.name.lower(), *map(str.lower, one.aliases)})
        return next((one for one in named if role in {None, one.role}), None)


_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "postgres": 5432, "redis": 6379, "rediss": 6379}


def steps(path: str) -> list[str | int]:
    """Take a path such as models.providers[0].api_key apart; a key that is a path of its own is one step."""
    head, separator, key = path.partition("proxy.locations.")
    if separator and not head:
        return ["proxy", "locations", key]
    return [match[1] or int(match[2]) for match in _STEP.finditer(path)]


def is_secret(name: str, value: str) -> bool:
    """Whether a variable holds what others must not read."""
    if value.lower() in {"", "true", "false"}:
        return False
    if _USER.search(value) or _SECRET_INSIDE.search(value):
        return True
    return bool(_SECRET_NAME.search(name)) and not _NO_SECRET_NAME.fullmatch(name)


def written(value: Any) -> str:  # noqa: ANN401 - what YAML can hold
    """Write a value for a person; what is secret is masked."""
    if isinstance(value, Secret):
        return "(encrypted)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    text = str(value)
    return '""' if not text else masked(text).replace("\n", "\\n")


def masked(text: str) -> str:
    """Take names and passwords out of the URLs of a text."""
    return _USER.sub("…@", text)


def secrets_in(value: Any, path: str = "") -> Iterator[tuple[str, Secret]]:  # noqa: ANN401 - what YAML can hold
    """Go through all secrets with their paths."""
    if isinstance(value, Secret):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from secrets_in(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from secrets_in(item, f"{path}[{index}]")
