"""A person with a checkout of this project, who runs `make` in a home of their own."""

import os
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from open_webui_edge.bootstrap import paths
from tests.support.stack import Ended, StackUnderTest, Workshop, free_port

_NOT_OURS = ("PULUMI_", "XDG_", "MAKE", "MFLAGS", "BOOTSTRAP_")
_ASKED = {"STACK", "DATA", "ENGINE", "YES", "ROLE", "FOLLOW"}


@dataclass
class Checkout:
    """A copy of the program, and a person whose home holds nothing yet but the toolchain's cache."""

    workshop: Workshop
    home: Path

    @classmethod
    def at(cls, directory: Path, **variables: str) -> "Checkout":
        """Copy the program below `directory`; `variables` are set in every command of this person's."""
        home = directory / "home"
        home.mkdir(parents=True)
        inherited = {
            key: value for key, value in os.environ.items() if key not in _ASKED and not key.startswith(_NOT_OURS)
        }
        environment = {
            **inherited,
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home / "configuration"),
            "XDG_DATA_HOME": str(home / "data"),
            # What takes minutes to make is this machine's.
            "XDG_CACHE_HOME": str(paths.cache().parent),
            "NO_COLOR": "1",
            **variables,
        }
        return cls(Workshop(Workshop.at(directory, {}).directory, environment), home)

    @property
    def passphrase(self) -> Path:
        """The file that opens the secrets of this person's stacks."""
        return self.home / "configuration/open-webui-edge/passphrase"

    def make(self, target: str, stack: str, **variables: str) -> Ended:
        """Run `make`, without a terminal to answer a question at."""
        return Workshop(self.workshop.directory, {**self.workshop.environment, **variables}).run(
            "make", target, f"STACK={stack}"
        )

    def make_answering(self, answer: str, target: str, stack: str, **variables: str) -> Ended:
        """Run `make` at a terminal where a person types `answer`."""
        person, terminal = os.openpty()
        try:
            os.write(person, f"{answer}\n".encode())
            ended = subprocess.run(  # noqa: S603 - the test's own words
                ["make", target, f"STACK={stack}"],  # noqa: S607 - whichever is first on PATH
                cwd=self.workshop.directory,
                env={**self.workshop.environment, **variables},
                stdin=terminal,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=120,
                check=False,
            )
        finally:
            os.close(person)
            os.close(terminal)
        return Ended(ended.returncode, ended.stdout)

    def in_shell(self, line: str, stack: str, **variables: str) -> Ended:
        """Run a line in a shell that has evaluated `make env`."""
        script = f'eval "$(make -s env 2>/dev/null)"; {line}'
        environment = {**self.workshop.environment, "STACK": stack, **variables}
        return Workshop(self.workshop.directory, environment).run("bash", "-c", script)

    def write(self, stack: str, config: dict[str, Any], *, as_example: bool = False) -> Path:
        """Write a stack's file, or the example that it is made from."""
        file = f"examples/{stack}.yaml" if as_example else f"Pulumi.{stack}.yaml"
        path = self.workshop.directory / "stacks" / file
        topics = {f"open-webui-edge:{topic}": settings for topic, settings in config.items()}
        path.write_text(yaml.safe_dump({"config": topics}))
        return path

    def stack(self, name: str, config: dict[str, Any]) -> StackUnderTest:
        """Return a stack of this person's, to look at and to remove."""
        return StackUnderTest(self.with_pulumi, name, config)

    @cached_property
    def with_pulumi(self) -> Workshop:
        """The copy, with plain `pulumi` at hand."""
        ended = self.workshop.run("bash", "-c", 'eval "$(make -s env 2>/dev/null)" && env -0').succeeded()
        environment = dict(entry.split("=", 1) for entry in ended.output.split("\0") if "=" in entry)
        # A test names the stack that it means.
        del environment["PULUMI_STACK"]
        return Workshop(self.workshop.directory, environment)


def settings(**topics: Any) -> dict[str, Any]:
    """Return settings with free ports."""
    listen = {"http_port": free_port(), "https_port": free_port()}
    return {"site": {"listen": listen}, "models": {"ollama": {"mode": "none"}}, **topics}
