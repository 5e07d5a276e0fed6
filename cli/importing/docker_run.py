"""Reads a `docker run` line, or a script that contains one."""

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

from open_webui_edge.bootstrap.console import ProblemError
from open_webui_edge.cli.importing import compose, env_files
from open_webui_edge.cli.importing.old_deployment import (
    Dropped,
    Mount,
    Neighbour,
    Publication,
    Source,
    Variable,
    is_open_webui,
    publications,
    repository,
    role_of,
    variables_of,
)

LINE = re.compile(
    r"^\s*(?:(?:sudo|exec|env|if|then|do|!|[A-Z_]+=\S*)\s+)*(?:\S*/)?(?:docker|podman|nerdctl)\s+(?:-\S+\s+|--context\s+\S+\s+)*"
    r"(?:container\s+)?(?:run|create)\s",
    re.MULTILINE,
)
_ELSEWHERE = re.compile(r"(\d*[<>].*|&&?|\|\|?|;)")
"""A word that ends a command."""
_ESCAPED = str.maketrans("$`", "\0\2")
"""Placeholders for literal $ and `: shlex would keep a backslash before them in double quotes, and they start no
command substitution."""
_UNESCAPED = str.maketrans("\0\2", "$`")
_PLAIN_TEXT, _LITERAL, _COMMAND = "plain", "literal", "command"
_SUBSTITUTION = "$(…)"
"""Placeholder for the output of a command substitution."""
_NEEDED = frozenset({"--volume", "--mount", "--publish", "--env-file", "--network"})
"""Options that must not be dropped silently."""
_BEFORE_A_WORD = frozenset(" \t\n;&|()<>")
_ASSIGNMENT = re.compile(r"\s*(?:export\s+|readonly\s+|local\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_FLAGS = {
    "-d", "--detach", "-i", "--interactive", "-t", "--tty", "--rm", "--init", "--privileged", "--read-only", "-P",
    "--publish-all", "--no-healthcheck", "--oom-kill-disable", "--sig-proxy", "-q", "--quiet",
    "--disable-content-trust",
}  # fmt: skip
_LONG = {
    "-e": "--env", "-v": "--volume", "-p": "--publish", "-u": "--user", "-m": "--memory", "-h": "--hostname",
    "-l": "--label", "-w": "--workdir", "-c": "--cpu-shares", "-a": "--attach", "--net": "--network",
}  # fmt: skip
_SILENT = {
    "--add-host", "--attach", "--cidfile", "--env", "--env-file", "--gpus", "--memory", "--memory-swap", "--mount",
    "--name", "--publish", "--pull", "--restart", "--stop-signal", "--stop-timeout", "--user", "--volume",
}  # fmt: skip
"""Options that are translated elsewhere, or say nothing that a stack has to know."""
_LIKE_COMPOSE = {
    "--cap-add": "cap_add", "--device": "devices", "--dns": "dns", "--entrypoint": "entrypoint",
    "--health-cmd": "healthcheck", "--hostname": "hostname", "--label": "labels", "--link": "links",
    "--log-driver": "logging", "--log-opt": "logging", "--network": "networks", "--network-alias": "networks",
    "--platform": "platform", "--privileged": "privileged", "--workdir": "working_dir",
}  # fmt: skip
"""Options, each with the key of a compose file that does the same."""
_REASONS = {
    **{option: compose.REASONS[key] for option, key in _LIKE_COMPOSE.items()},
    "--runtime": "GPUs are Ollama's (models.ollama.container.gpu)",
    "--security-opt": "the program has its own",
}
_PLAIN = {
    "--cap-add", "--device", "--dns", "--hostname", "--link", "--log-driver", "--network", "--network-alias",
    "--platform", "--runtime", "--security-opt", "--workdir",
}  # fmt: skip
"""Options whose values are reported: they hold no secrets."""


@dataclass
class _Run:
    """One parsed `docker run`."""

    image: str = ""
    command: list[str] = field(default_factory=list[str])
    options: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    commanded: set[str] = field(default_factory=set[str])
    """Variables whose value is the output of a command."""
    dropped: list[Dropped] = field(default_factory=list[Dropped])
    """Other options whose value is the output of a command; they are not in `options`."""

    def all(self, name: str) -> list[str]:
        """Return the values of an option, in order."""
        return [value for option, value in self.options if option == name]

    def last(self, name: str) -> str | None:
        """Return the value that counts of an option that can be there once."""
        return self.all(name)[-1] if self.all(name) else None


def read(text: str, shown: str, folder: Path, environment: Mapping[str, Variable]) -> Source:
    """Read a line or a script; `environment` is what the shell that runs it has, as far as it is known.

    Raises:
        ProblemError: nothing in it starts Open WebUI, or two do.

    """
    script = _Script(shown, folder, environment)
    runs = list(script.runs(text))
    chosen = [run for run in runs if is_open_webui(run.image)]
    if not runs:
        raise ProblemError(f"{shown}: no line of it is a `docker run`; name the file that starts Open WebUI.")
    if not chosen:
        images = ", ".join(run.image or "none" for run in runs)
        raise ProblemError(
            f"{shown}: no `docker run` of it starts Open WebUI (its image is called …/open-webui); these are there:"
            f" {images}."
        )
    if len(chosen) > 1:
        names = ", ".join(run.last("--name") or run.image for run in chosen)
        raise ProblemError(
            f"{shown}: {len(chosen)} lines start Open WebUI: {names}. One stack is one deployment: leave the others out"
            " of a copy of the file."
        )
    return script.source(chosen[0], [run for run in runs if run is not chosen[0]])


class _Script:
    def __init__(self, shown: str, folder: Path, environment: Mapping[str, Variable]) -> None:
        self._shown = shown
        self._folder = folder
        self._known = {name: one.value.translate(_ESCAPED) for name, one in environment.items()}
        self._unknown: list[str] = []

    def runs(self, text: str) -> Iterator[_Run]:
        """Go through the lines as a shell would: what is assigned is known from there on."""
        for line in _logical_lines(text):
            assignment = _ASSIGNMENT.fullmatch(line)
            if LINE.match(line):
                yield self._run(line)
            elif assignment:
                words = self._words(assignment[2], assignment[1])
                self._known[assignment[1]] = words[0] if words else ""

    def _words(self, line: str, begins: str) -> list[str]:
        """Split as a shell does; what is no shell's own in them is still marked (_ESCAPED)."""
        filled = "".join(self._read(kind, text) for kind, text in _scanned(line, with_comment=False)[0])
        try:
            return shlex.split(filled)
        except ValueError:
            raise ProblemError(
                f"{self._shown}: a quote that was opened in `{begins}=…` is not closed; fix the line."
            ) from None

    def _read(self, kind: str, text: str) -> str:
        if kind == _LITERAL:
            return text.translate(_ESCAPED)
        if kind == _COMMAND:
            return str(self._folder.resolve()) if text.strip("$()` \t") == "pwd" else _SUBSTITUTION
        return self._filled(text)

    def _filled(self, text: str) -> str:
        text = re.sub(r"\$\{PWD\}|\$PWD\b", lambda _: str(self._folder.resolve()), text)

        def missing(name: str) -> str:
            self._unknown.append(name.partition("?")[0])
            return ""

        escaped = re.sub(r"\\([\\$`])", lambda one: one[0] if one[1] == "\\" else one[1].translate(_ESCAPED), text)
        # Put between whatever quotes are there; a shell would not split it either.
        known = {name: re.sub(r'(["\\])', r"\\\1", value) for name, value in self._known.items()}
        return env_files.substituted(escaped.replace("$$", "\1"), known, missing).replace("\1", "$$")

    def _run(self, line: str) -> _Run:
        # What stands behind the first = may be a secret.
        words = self._words(line, line.strip().partition("=")[0])
        while words and words.pop(0) not in {"run", "create"}:
            pass
        run = _Run()
        while words:
            word = words.pop(0)
            if not word.startswith("-"):
                run.image = word.rstrip(";").translate(_UNESCAPED)
                run.command = list(takewhile(lambda one: not _ELSEWHERE.fullmatch(one), words))
                break
            for name, value in _option(word, words):
                option = _LONG.get(name, name)
                if option == "--env" and _SUBSTITUTION in (self._variable(value)[1] or ""):
                    run.commanded.add(value.partition("=")[0])
                elif option not in {"--env", "--user"} and _SUBSTITUTION in value:
                    if option in _NEEDED:
                        raise ProblemError(
                            f'{self._shown}: {option}: "{value.translate(_UNESCAPED)}" is the output of a command,'
                            " which is not run here; write the output in its place."
                        )
                    why = f"its value is the output of a command; write the output in its place in {self._shown}"
                    run.dropped.append((option, why))
                    continue
                run.options.append((option, value.translate(_UNESCAPED)))
        return run

    def _variable(self, entry: str) -> tuple[str, str | None]:
        """Return the name and the value of NAME=value, or of NAME, which has the shell's value if it is known."""
        name, equals, value = entry.partition("=")
        return name, value if equals else self._known.get(name)

    def source(self, run: _Run, others: list[_Run]) -> Source:
        """Return what is known of the deployment."""
        return Source(
            variables=self._variables(run),
            image=run.image,
            container=run.last("--name"),
            published=self._published(run),
            mounts=tuple(self._mounts(run)),
            neighbours=tuple(
                Neighbour(
                    name=other.last("--name") or repository(other.image).rpartition("/")[2],
                    image=repository(other.image),
                    role=role_of(other.image),
                    published=self._published(other),
                    gpu=bool(other.all("--gpus")),
                )
                for other in others
            ),
            on_host_network=run.last("--network") == "host",
            gpu=bool(run.all("--gpus")) or run.last("--runtime") == "nvidia",
            user=run.last("--user"),
            memory=run.last("--memory"),
            dropped=[*run.dropped, *self._without_a_place(run)],
        )

    def _variables(self, run: _Run) -> dict[str, Variable]:
        variables: dict[str, Variable] = {}
        for file in run.all("--env-file"):
            values = env_files.literal_variables_in(env_files.text_of(self._folder / file, file), file)
            variables |= variables_of(values, file)
        for entry in run.all("--env"):
            name, value = self._variable(entry)
            if name not in run.commanded and value is not None:
                variables[name] = Variable(value.translate(_UNESCAPED), self._shown)
        return variables

    def _published(self, run: _Run) -> tuple[Publication, ...]:
        where = f"{self._shown}: --publish"
        return tuple(one for entry in run.all("--publish") for one in publications(entry, where))

    def _mounts(self, run: _Run) -> Iterator[Mount]:
        for entry in run.all("--volume"):
            source, colon, rest = entry.partition(":")
            if colon:
                yield self._mount(source, rest.partition(":")[0], is_folder=source.startswith((".", "/", "~")))
        for entry in run.all("--mount"):
            parts = {key: value for key, _, value in (part.partition("=") for part in entry.split(","))}
            source = parts.get("source") or parts.get("src") or ""
            target = parts.get("target") or parts.get("dst") or parts.get("destination") or ""
            if source and parts.get("type", "volume") in {"volume", "bind"}:
                yield self._mount(source, target, is_folder=parts.get("type") == "bind")

    def _mount(self, source: str, target: str, *, is_folder: bool) -> Mount:
        if is_folder:
            source = str(env_files.path_in(self._folder, source, f"{self._shown}: --volume").resolve())
        return Mount(source, target, is_folder=is_folder)

    def _without_a_place(self, run: _Run) -> Iterator[Dropped]:
        reported = {*_SILENT}
        for name, value in run.options:
            if name == "--env" and self._variable(value)[1] is None:
                yield value, f"its value came from the shell that ran it; write {value}=… where {self._shown} names it"
            elif name == "--env" and (variable := value.partition("=")[0]) in run.commanded:
                why = "its value is the output of a command"
                yield variable, f"{why}; write {variable}=… where {self._shown} names it"
            elif name == "--add-host" and not value.startswith("host.docker.internal"):
                yield f"--add-host {value}", "no setting adds names; write its address where it is used"
            elif name in _PLAIN:
                if (name, value) != ("--network", "host"):
                    yield f"{name} {value}", _REASONS[name]
            elif name not in reported and (name in _REASONS or name not in _FLAGS):
                reported.add(name)
                yield name, _REASONS.get(name, "no setting does this")
        if run.command:
            yield f"command {run.command[0].partition('=')[0]}", "the image's own command is run"
        for name in dict.fromkeys(self._unknown):
            yield f"${name}", f"{self._shown} does not set it; it was treated as empty"


def _option(word: str, words: list[str]) -> Iterator[tuple[str, str]]:
    """Take an option apart: --name=value, --name value, -p3000:8080, or several short ones such as -dit."""
    if word.startswith("--"):
        name, equals, value = word.partition("=")
        yield name, value if equals or name in _FLAGS else words.pop(0) if words else ""
        return
    for end, letter in enumerate(word[1:], start=2):
        name, rest = f"-{letter}", word[end:]
        if name not in _FLAGS:
            yield name, rest.removeprefix("=") if rest else words.pop(0) if words else ""
            return
        yield name, ""


def _logical_lines(text: str) -> Iterator[str]:
    """Join what a backslash, an open quote or an open command continues; drop comments."""
    pending = ""
    for line in text.splitlines():
        if not pending and line.lstrip().startswith("#"):
            continue
        pending += line
        pieces, is_open = _scanned(pending)
        if re.search(r"(?<!\\)(?:\\\\)*\\$", pending.rstrip("\r ")):
            pending = pending.rstrip("\r ")[:-1] + " "
        elif is_open:
            pending += "\n"
        else:
            yield "".join(piece for _, piece in pieces)
            pending = ""
    yield "".join(piece for _, piece in _scanned(pending)[0])


def _scanned(line: str, *, with_comment: bool = True) -> tuple[list[tuple[str, str]], bool]:
    """Take a line apart by what a shell does with its parts; one without a comment may begin in the middle of a word.

    A shell takes # for a comment at the beginning of a word alone: KEY=abc#def is one word.

    Returns:
        Kind and text of each part, quotes included and a comment left out, and whether a quote or a command goes on in
        the next line.

    """
    pieces: list[tuple[str, str]] = []
    begin = position = 0
    quoted, before = False, " "

    def closed(kind: str, end: int) -> bool:
        """Note what was plain so far, and this piece; whether that has an end in this line."""
        nonlocal begin, position, before
        pieces.extend([(_PLAIN_TEXT, line[begin:position]), (kind, line[position : end or len(line)])])
        begin = position = end or len(line)
        before = ""
        return end > 0

    while position < len(line):
        character = line[position]
        if character == "\\":
            position, before = position + 2, ""
        elif character == "'" and not quoted:
            if not closed(_LITERAL, line.find("'", position + 1) + 1):
                return pieces, True
        elif line.startswith(("$(", "`"), position):
            if not closed(_COMMAND, _end_of_command(line, position)):
                return pieces, True
        elif with_comment and character == "#" and not quoted and before in _BEFORE_A_WORD:
            break
        else:
            quoted ^= character == '"'
            position, before = position + 1, character
    return [*pieces, (_PLAIN_TEXT, line[begin:position])], quoted


def _end_of_command(line: str, begin: int) -> int:
    """Return where a command is over that stands for what it writes; 0 where that is not in this line."""
    nested = line[begin] == "$"
    position, depth, quote = begin + 1 + nested, 1, ""
    while position < len(line):
        character = line[position]
        if character == "\\" and quote != "'":
            position += 1
        elif nested and character in "'\"" and quote in {"", character}:
            quote = "" if quote else character
        elif not quote:
            depth += (nested and character == "(") - (character == (")" if nested else "`"))
        position += 1
        if not depth:
            return position
    return 0
