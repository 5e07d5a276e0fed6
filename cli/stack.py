"""One stack: its file, its state in the backend, and Pulumi's commands on it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from open_webui_edge.bootstrap import backend, command, console, paths
from open_webui_edge.bootstrap.console import ProblemError
from open_webui_edge.bootstrap.images import RequiredImages, rootfs
from open_webui_edge.bootstrap.pulumi_cli import PulumiCLI
from open_webui_edge.cli import update_lock
from open_webui_edge.settings.images import (
    NGINX_METRICS,
    OLLAMA,
    OPEN_WEBUI_VERSION,
    POSTGRES,
    PROMETHEUS,
    REDIS,
    RESTIC,
    Image,
    ImageSource,
    certbot,
)

FOLDER = paths.CHECKOUT / "stacks"
EXAMPLES = FOLDER / "examples"
PROJECT = "open-webui-edge"
_NAME = re.compile(r"(?=.{1,100}$)[a-z0-9]+(?:[._-][a-z0-9]+)*")
"""Names that are valid for a file, a container, an image and a Pulumi stack."""


def file_of(stack: str) -> Path:
    """Return where a stack's file is; raises ProblemError for an invalid name."""
    if not _NAME.fullmatch(stack):
        raise ProblemError(
            f"{stack!r} is not a name for a stack; use small letters and digits with single '-', '_' or '.' between, "
            "at most 100 of them."
        )
    return FOLDER / f"Pulumi.{stack}.yaml"


def make_file(stack: str) -> bool:
    """Copy a stack's file from its example if it is missing; return whether it was, or raise a ProblemError."""
    file = file_of(stack)
    if file.exists():
        return False
    example = EXAMPLES / f"{stack}.yaml"
    if not example.exists():
        names = ", ".join(sorted(path.stem for path in EXAMPLES.glob("*.yaml")))
        raise ProblemError(
            f"There is no stack {stack}: neither {_shown(file)} nor an example of that name (there are: {names}). "
            f"Copy one of them to {_shown(file)} and edit it."
        )
    shutil.copyfile(example, file)
    return True


def settings_of(stack: str) -> dict[str, Any]:
    """Read a stack's settings, unvalidated: the program reports all faults at once. Raises ProblemError if no YAML."""
    file = file_of(stack)
    if not file.exists():
        return {}
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as fault:
        where = getattr(fault, "problem_mark", None)
        place = f"line {where.line + 1}: " if where is not None else ""
        message = f"{_shown(file)}: {place}{getattr(fault, 'problem', None) or 'this is not YAML'}; fix the file."
        raise ProblemError(message) from None
    config = content.get("config") if isinstance(content, dict) else None
    if not isinstance(config, dict):
        return {}
    prefix = f"{PROJECT}:"
    return {str(key).removeprefix(prefix): value for key, value in config.items() if str(key).startswith(prefix)}


def setting(settings: Mapping[str, Any], path: str) -> Any:  # noqa: ANN401  # whatever a person wrote
    """Return the value at a path such as `open_webui.admin.email`, or None."""
    value: Any = settings
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def required_images(settings: Mapping[str, Any], used: Collection[Image] = ()) -> RequiredImages:
    """Return the images that the settings need, or a command has a use for; the loader reports invalid settings."""
    version, registry, source = (
        setting(settings, path) for path in ("open_webui.version", "images.registry", "images.source")
    )
    services = {
        OLLAMA: setting(settings, "models.ollama.mode") == "container",
        # Its pg_dump also backs up an external database.
        POSTGRES: setting(settings, "data.postgres.mode") == "container"
        or (_is_copied(settings) and setting(settings, "data.postgres.mode") == "url"),
        REDIS: setting(settings, "data.redis.mode") == "container",
        NGINX_METRICS: setting(settings, "proxy.metrics.enabled") is True,
        PROMETHEUS: setting(settings, "monitoring.prometheus.enabled") is True,
        certbot(route53=setting(settings, "certificate.lets_encrypt.challenge") == "dns-01"): (
            setting(settings, "certificate.mode") == "lets-encrypt"
        ),
        RESTIC: _is_copied(settings),
    }
    return RequiredImages(
        version=version if isinstance(version, str) else OPEN_WEBUI_VERSION,
        registry=registry if isinstance(registry, str) else None,
        source=ImageSource(source) if source in list(ImageSource) else None,
        services=tuple(image for image, is_required in services.items() if is_required or image in used),
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
    """Variables of the toolchain and of the backend that are added to the environment."""

    @property
    def environment(self) -> dict[str, str]:
        """The whole environment that Pulumi runs in."""
        folders = (self.given.get("PATH"), os.environ.get("PATH", os.defpath))
        return {**os.environ, **self.given, "PATH": os.pathsep.join(filter(None, folders))}

    def exists(self) -> bool:
        """Return whether the backend has the stack; the stack selected for plain `pulumi` does not change."""
        answer = self.ask("stack", "--show-name")
        if answer.returncode and "no stack named" in answer.stderr:
            return False
        self._successful(answer, "Looking for the stack")
        return True

    def create(self) -> None:
        """Create the stack in the backend."""
        words = [self.pulumi.executable, "stack", "init", self.name, "--no-select", "--non-interactive"]
        answer = command.attempt(words, environment=self.environment, folder=paths.CHECKOUT)
        self._successful(answer, "Creating the stack")

    def set(self, path: str, value: str) -> None:
        """Write one setting into the stack's file."""
        self._answer(f"Recording {path}", "config", "set", "--path", f"{PROJECT}:{path}", value)

    def outputs(self) -> dict[str, Any]:
        """Return the stack's outputs, secrets masked."""
        return json.loads(self._answer("Reading the outputs", "stack", "output", "--json"))

    def output_in_clear(self, name: str) -> str | None:
        """Return one output in plain text, even a secret; None if the stack has no output of that name."""
        answer = self.ask("stack", "output", name, "--show-secrets")
        if answer.returncode and "does not have output property" in answer.stderr:
            return None
        return self._successful(answer, f"Reading the output {name}").rstrip("\n")

    def setting_in_clear(self, path: str) -> str:
        """Return one setting of the stack's file in plain text, even if it is encrypted there."""
        return self._answer(f"Reading {path}", "config", "get", "--path", f"{PROJECT}:{path}").rstrip("\n")

    def set_secret(self, path: str, value: str) -> None:
        """Write one encrypted setting into the stack's file; the value goes by standard input, not as an argument."""
        words = ["config", "set", "--path", "--secret", f"{PROJECT}:{path}"]
        self._answer(f"Recording {path}", *words, given=value)

    def unset(self, path: str) -> None:
        """Remove one setting from the stack's file."""
        self._answer(f"Removing {path}", "config", "rm", "--path", f"{PROJECT}:{path}")

    def resources(self, *, with_secrets: bool = False) -> list[dict[str, Any]]:
        """Return the resources in the stack's state; secrets stay encrypted unless `with_secrets`."""
        options = ["--show-secrets"] if with_secrets else []
        return _resources(json.loads(self._answer("Reading the state", "stack", "export", *options)))

    def taint(self, urns: Sequence[str]) -> None:
        """Mark resources so that the next update recreates them."""
        if urns:
            self._answer("Marking resources for the next update", "state", "taint", "--yes", *urns)

    def untaint(self, urns: Sequence[str]) -> None:
        """Undo `taint`."""
        if urns:
            self._answer("Unmarking resources", "state", "untaint", "--yes", *urns)

    def unprotect(self) -> None:
        """Unprotect every resource by editing the state: an update would first recreate what is gone."""
        self.edit(unprotected_state, "Lifting the protection")

    def protect(self, urns: Collection[str]) -> None:
        """Protect some resources in the state again."""
        if urns:
            self.edit(lambda state: protected_state(state, urns), "Protecting the data")

    def edit(self, change: Callable[[str], str], purpose: str) -> None:
        """Replace the stack's exported state by the result of `change`."""
        self.unlock()
        changed = change(self._answer("Reading the state", "stack", "export"))
        with rootfs.workplace("state") as folder:
            state = folder / "state.json"
            state.touch(mode=0o600)
            state.write_text(changed, encoding="utf-8")
            self._answer(purpose, "stack", "import", "--file", str(state))

    def unlock(self) -> None:
        """Remove the lock of a killed update; raises ProblemError if an update of this stack may still run."""
        update_lock.lift_abandoned(self.name, PROJECT, self.environment)

    def run(self, *arguments: str) -> None:
        """Run Pulumi in the foreground, after `unlock`; a ProblemError explains known errors if it fails."""
        self.unlock()
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
                cwd=paths.CHECKOUT,
                encoding="utf-8",
            ) as process,
            _interruptions_for(process) as interruptions,
        ):
            for line in process.stdout or ():
                said.append(line)
                sys.stdout.write(line)
                sys.stdout.flush()
        if process.returncode and interruptions:
            raise ProblemError("Interrupted; run the same command again to continue.")
        if process.returncode:
            failed = f"pulumi {arguments[0]} failed; the reason is in its output above."
            raise self._explained("".join(said), failed)

    def ask(
        self, *arguments: str, given: str | None = None, timeout: float | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run Pulumi on this stack in the background and return its result, even if it fails."""
        words = [self.pulumi.executable, *arguments, "--stack", self.name, "--non-interactive"]
        return command.attempt(words, environment=self.environment, folder=paths.CHECKOUT, given=given, timeout=timeout)

    def _answer(self, purpose: str, *arguments: str, given: str | None = None) -> str:
        return self._successful(self.ask(*arguments, given=given), purpose)

    def _successful(self, answer: subprocess.CompletedProcess[str], purpose: str) -> str:
        words = f"{answer.stdout}\n{answer.stderr}"
        if answer.returncode:
            lines = [line for line in words.splitlines() if line.strip()][-command.TAIL_LINES :]
            raise self._explained(words, f"{purpose} failed: {' / '.join(lines)}")
        return answer.stdout

    def _explained(self, words: str, otherwise: str) -> ProblemError:
        return ProblemError(explanation(words, backend.passphrase_source(self.given), self.name) or otherwise)


@contextmanager
def _interruptions_for(process: subprocess.Popen[str]) -> Iterator[list[int]]:
    """Pass interruptions on to Pulumi, which finishes running operations and reports; yield the signals so far."""
    came: list[int] = []

    def pass_on(number: int, _: object) -> None:
        came.append(number)
        console.say("interrupted; Pulumi finishes running operations")
        if number == signal.SIGTERM:
            process.send_signal(signal.SIGINT)  # Ctrl-C has reached it already, with the whole group

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


_EXPLANATIONS = {
    r"incorrect passphrase": (
        "The passphrase in {passphrase} is not this stack's; write the right one there (without it the secrets cannot"
        " be decrypted)."
    ),
    r"passphrase must be set": (
        "This backend encrypts secrets with a passphrase and none is set; set PULUMI_CONFIG_PASSPHRASE_FILE to a file"
        " that holds it."
    ),
    r"(?i)no space left on device": "The disk is full (no space left on device); free some space and run it again.",
    (
        r"(?:Bind for|listen tcp\d?) (?P<taken>\S+?):? "
        r"(?:failed: port is already allocated|bind: address already in use)"
    ): "Another program listens on {taken}; stop it, or use other ports (site.listen).",
    r"Cannot connect to the Docker daemon": (
        "The Docker engine stopped answering; start it and run this again: Pulumi continues where it stopped."
    ),
    r"(?i)deletion protection is enabled": (
        "The load balancer may not be deleted: platform.aws.load_balancer.deletion_protection is true. Write false,"
        " run `make up`, and then this again."
    ),
    r'(?:resource "(?P<urn>[^"]+)" cannot be deleted|unable to replace resource "(?P<replaced>[^"]+)")': (
        "An update would delete or replace {urn}{replaced}, which holds data and is protected; nothing changed."
        " Restore the setting that requires it (docs/operations.md: A setting that would drop data)."
    ),
    # Of a backend with files, and of Pulumi Cloud.
    r"the stack is currently locked|Another update is currently in progress": (
        "Another update of this stack runs, or was killed. Wait for it; or, if none runs any more, unlock the stack:"
        " {free}"
    ),
}
"""Pattern of Pulumi's or the engine's output -> explanation for the user."""


def explanation(words: str, passphrase_source: str, stack: str) -> str | None:
    """Explain a known error in Pulumi's output; None for any other."""
    known = {"passphrase": passphrase_source, "free": update_lock.by_hand(stack)}
    for pattern, sentence in _EXPLANATIONS.items():
        if match := re.search(pattern, words):
            return sentence.format(**known, **match.groupdict(default=""))
    return None


def unprotected_state(state: str) -> str:
    """Return an exported state in which nothing is protected or retained."""
    document = json.loads(state)
    for resource in _resources(document):
        resource.pop("protect", None)
        resource.pop("retainOnDelete", None)
    return json.dumps(document)


def protected_state(state: str, urns: Collection[str]) -> str:
    """Return an exported state in which the resources with these URNs are protected and retained."""
    document = json.loads(state)
    for resource in _resources(document):
        if resource["urn"] in urns:
            resource.update(protect=True, retainOnDelete=True)
    return json.dumps(document)


def _resources(state: Mapping[str, Any]) -> list[dict[str, Any]]:
    return state.get("deployment", {}).get("resources") or []


def _shown(file: Path) -> str:
    return str(file.relative_to(paths.CHECKOUT))
