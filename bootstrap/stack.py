"""One stack: its file, its place in the backend, and Pulumi run on it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bootstrap import backend, command, console, places
from bootstrap.images import Wanted
from bootstrap.problem import ProblemError
from bootstrap.pulumi_cli import PulumiCLI
from components.images import OPEN_WEBUI_VERSION, ImageSource

FOLDER = places.CHECKOUT / "stacks"
EXAMPLES = FOLDER / "examples"
PROJECT = "open-webui-edge"
_NAME = re.compile(r"(?=.{1,100}$)[a-z0-9]+(?:[._-][a-z0-9]+)*")
"""What is valid in a file's, a container's, an image's and a Pulumi stack's name alike."""


def file_of(stack: str) -> Path:
    """Return where a stack's file is.

    Raises:
        ProblemError: no stack can have that name.

    """
    if not _NAME.fullmatch(stack):
        message = (
            f"{stack!r} is not a name for a stack; use small letters and digits with single '-', '_' or '.' between, "
            "at most 100 of them."
        )
        raise ProblemError(message)
    return FOLDER / f"Pulumi.{stack}.yaml"


def make_file(stack: str) -> bool:
    """Make a stack's file from the example of its name when there is none; tell whether it was made.

    Raises:
        ProblemError: there is no such example.

    """
    file = file_of(stack)
    if file.exists():
        return False
    example = EXAMPLES / f"{stack}.yaml"
    if not example.exists():
        names = ", ".join(sorted(path.stem for path in EXAMPLES.glob("*.yaml")))
        message = (
            f"There is no stack {stack}: neither {_shown(file)} nor an example of that name (there are: {names}). "
            f"Copy one of them to {_shown(file)} and make it yours."
        )
        raise ProblemError(message)
    shutil.copyfile(example, file)
    return True


def settings_of(stack: str) -> dict[str, Any]:
    """Read a stack's settings as written: nothing is checked here, the program does that and says all faults at once.

    Raises:
        ProblemError: the file is no YAML.

    """
    file = file_of(stack)
    if not file.exists():
        return {}
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as fault:
        where = getattr(fault, "problem_mark", None)
        place = f"line {where.line + 1}: " if where is not None else ""
        message = f"{_shown(file)}: {place}{getattr(fault, 'problem', None) or 'this is not YAML'}; mend the file."
        raise ProblemError(message) from None
    config = content.get("config") if isinstance(content, dict) else None
    if not isinstance(config, dict):
        return {}
    prefix = f"{PROJECT}:"
    return {str(key).removeprefix(prefix): value for key, value in config.items() if str(key).startswith(prefix)}


def setting(settings: Mapping[str, Any], path: str) -> Any:  # noqa: ANN401  # whatever a person wrote
    """Return the value at a path such as `open_webui.admin.email`, or None."""
    found: Any = settings
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found


def wanted_images(settings: Mapping[str, Any]) -> Wanted:
    """Return what the settings say about images; what is wrong there, the program refuses in better words."""
    version, registry, source = (
        setting(settings, path) for path in ("open_webui.version", "images.registry", "images.source")
    )
    return Wanted(
        version=version if isinstance(version, str) else OPEN_WEBUI_VERSION,
        registry=registry if isinstance(registry, str) else None,
        source=ImageSource(source) if source in list(ImageSource) else None,
        ollama=setting(settings, "models.ollama.mode") == "container",
        # Whose pg_dump copies what runs elsewhere, too.
        postgres=setting(settings, "data.postgres.mode") == "container"
        or (_is_copied(settings) and setting(settings, "data.postgres.mode") == "url"),
        redis=setting(settings, "data.redis.mode") == "container",
        metrics=setting(settings, "proxy.metrics.enabled") is True,
        prometheus=setting(settings, "monitoring.prometheus.enabled") is True,
        certbot=setting(settings, "certificate.mode") == "lets-encrypt",
        backup=_is_copied(settings),
        route53=setting(settings, "certificate.lets_encrypt.challenge") == "dns-01",
    )


def _is_copied(settings: Mapping[str, Any]) -> bool:
    kind = setting(settings, "backup.repository.kind")
    by_aws = kind == "aws-backup" or (kind is None and setting(settings, "platform.kind") == "aws-vm")
    return setting(settings, "backup.enabled") is True and not by_aws


@dataclass(frozen=True)
class Stack:
    """A stack and the Pulumi that runs it."""

    name: str
    pulumi: PulumiCLI
    given: dict[str, str]
    """What is added to the environment: of the toolchain and of the backend."""

    @property
    def environment(self) -> dict[str, str]:
        """The whole environment that Pulumi runs in."""
        search_path = os.pathsep.join(
            word for word in (self.given.get("PATH"), os.environ.get("PATH", os.defpath)) if word
        )
        return {**os.environ, **self.given, "PATH": search_path}

    def exists(self) -> bool:
        """Select the stack, for plain `pulumi` afterwards too; False when the backend has none of that name."""
        answer = self._ask("stack", "select", self.name, "--non-interactive")
        if answer.returncode and "no stack named" in answer.stderr:
            return False
        self._must(answer, "Selecting the stack")
        return True

    def create(self) -> None:
        """Make the stack in the backend."""
        self._must(self._ask("stack", "init", self.name, "--non-interactive"), "Making the stack")

    def set(self, path: str, value: str, file: Path | None = None) -> None:
        """Write one setting into the stack's file, or into a copy of it."""
        words = ["config", "set", "--path", f"{PROJECT}:{path}", value, "--stack", self.name]
        self._must(self._ask(*words, *(["--config-file", str(file)] if file else [])), f"Recording {path}")

    def outputs(self) -> dict[str, Any]:
        """Return the stack's outputs, secrets masked."""
        answer = self._ask("stack", "output", "--json", "--stack", self.name)
        self._must(answer, "Reading the outputs")
        return json.loads(answer.stdout)

    def output_in_clear(self, name: str) -> str | None:
        """Return one output, which may be a secret; None where the stack has none of that name."""
        answer = self._ask("stack", "output", name, "--show-secrets", "--stack", self.name)
        if answer.returncode and "does not have output property" in answer.stderr:
            return None
        self._must(answer, f"Reading the output {name}")
        return answer.stdout.rstrip("\n")

    def setting_in_clear(self, path: str) -> str:
        """Return one setting of the stack's file, which may be encrypted there."""
        answer = self._ask("config", "get", "--path", f"{PROJECT}:{path}", "--stack", self.name)
        self._must(answer, f"Reading {path}")
        return answer.stdout.rstrip("\n")

    def set_secret(self, path: str, value: str) -> None:
        """Write one setting, encrypted, into the stack's file; it comes by standard input, not as an argument."""
        words = ["config", "set", "--path", "--secret", f"{PROJECT}:{path}", "--stack", self.name]
        self._must(self._ask(*words, given=value), f"Recording {path}")

    def unset(self, path: str) -> None:
        """Drop one setting from the stack's file."""
        words = ["config", "rm", "--path", f"{PROJECT}:{path}", "--stack", self.name]
        self._must(self._ask(*words), f"Dropping {path}")

    def resources(self, *, with_secrets: bool = False) -> list[dict[str, Any]]:
        """Return the resources in the stack's state; without secrets these are there as the backend keeps them."""
        answer = self._ask("stack", "export", "--stack", self.name, *(["--show-secrets"] if with_secrets else []))
        self._must(answer, "Reading the state")
        return json.loads(answer.stdout).get("deployment", {}).get("resources") or []

    def release(self, folder: Path) -> None:
        """Lift from every resource of the state what keeps it from being deleted; `folder` is for a file of the way.

        Without the program: it would have to make what is gone before it could say so of what is left.
        """
        answer = self._ask("stack", "export", "--stack", self.name)
        self._must(answer, "Reading the state")
        state = folder / "state.json"
        state.touch(mode=0o600)
        state.write_text(released(answer.stdout), encoding="utf-8")
        self._must(self._ask("stack", "import", "--stack", self.name, "--file", str(state)), "Lifting the protection")

    def run(self, *arguments: str) -> None:
        """Run Pulumi before the person's eyes.

        Raises:
            ProblemError: it failed; the message explains its words where they need it.

        """
        words = [*arguments, "--stack", self.name, "--color", "always" if sys.stdout.isatty() else "never"]
        said: list[str] = []
        with (
            subprocess.Popen(  # noqa: S603  # a list of arguments, no shell
                [str(self.pulumi.executable), *words],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env=self.environment,
                cwd=places.CHECKOUT,
            ) as process,
            _interruptions_for(process),
        ):
            for line in process.stdout or ():
                said.append(line)
                sys.stdout.write(line)
                sys.stdout.flush()
        if process.returncode:
            raise self._explained(f"pulumi {arguments[0]}", "".join(said), shown=True)

    def _ask(self, *arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
        return command.attempt(
            [self.pulumi.executable, *arguments], environment=self.environment, folder=places.CHECKOUT, given=given
        )

    def _must(self, answer: subprocess.CompletedProcess[str], purpose: str) -> None:
        if answer.returncode:
            raise self._explained(purpose, f"{answer.stdout}\n{answer.stderr}", shown=False)

    def _explained(self, purpose: str, words: str, *, shown: bool) -> ProblemError:
        return ProblemError(
            explanation(words, backend.passphrase_source(self.given)) or _as_it_said(purpose, words, shown=shown)
        )


@contextmanager
def _interruptions_for(process: subprocess.Popen[str]) -> Iterator[None]:
    """Leave it to Pulumi to end when this program is told to: it finishes what it is at, and its last words matter."""

    def pass_on(number: int, _: object) -> None:
        console.say("interrupted; Pulumi finishes what it is at")
        if number == signal.SIGTERM:
            process.send_signal(signal.SIGINT)  # Ctrl-C has reached it already, with the whole group

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


_EXPLANATIONS = (
    (
        r"incorrect passphrase",
        (
            "The passphrase in {passphrase} is not the one that this stack was made with; put the right one there "
            "(nothing else opens its secrets)."
        ),
    ),
    (
        r"passphrase must be set",
        (
            "This backend keeps secrets under a passphrase and none is given; set PULUMI_CONFIG_PASSPHRASE_FILE to a "
            "file that holds it."
        ),
    ),
    (r"(?i)no space left on device", "The disk is full (no space left on device); free some space and run it again."),
    (
        (
            r"(?:Bind for|listen tcp\d?) (?P<taken>\S+?):? "
            r"(?:failed: port is already allocated|bind: address already in use)"
        ),
        "Another program listens on {taken}; stop it, or choose other ports (site.listen).",
    ),
    (
        r"Cannot connect to the Docker daemon",
        "The Docker engine stopped answering; start it and run this again: Pulumi goes on from where it stopped.",
    ),
    (
        r"(?i)deletion protection is enabled",
        (
            "The load balancer may not be deleted: platform.aws.load_balancer.deletion_protection is true. Write "
            "false, run `make up`, and then this again."
        ),
    ),
    (
        r"the stack is currently locked",
        "Another update of this stack runs, or was killed; wait for it, or free the stack with `pulumi cancel`.",
    ),
)
"""What Pulumi and the engine write -> what that means for a person."""


def explanation(words: str, passphrase_source: str) -> str | None:
    """Put into one sentence what Pulumi's output means for a person; None where its own words will do."""
    for pattern, sentence in _EXPLANATIONS:
        found = re.search(pattern, words)
        if found:
            return sentence.format(passphrase=passphrase_source, **found.groupdict())
    return None


def released(state: str) -> str:
    """Return an exported state in which nothing is protected or retained."""
    document = json.loads(state)
    for resource in document.get("deployment", {}).get("resources") or ():
        resource.pop("protect", None)
        resource.pop("retainOnDelete", None)
    return json.dumps(document)


def environment(pulumi: PulumiCLI) -> dict[str, str]:
    """Return what a shell needs for Pulumi to work on this project; PATH holds only the folder to put first."""
    return {**pulumi.environment, **backend.environment()}


def _as_it_said(purpose: str, words: str, *, shown: bool) -> str:
    if shown:
        return f"{purpose} failed; the reason is in its words above."
    lines: Sequence[str] = [line for line in words.strip().splitlines() if line.strip()][-command.TAIL_LINES :]
    return f"{purpose} failed: {' / '.join(lines)}"


def _shown(file: Path) -> str:
    return str(file.relative_to(places.CHECKOUT))
