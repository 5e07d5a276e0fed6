"""A cloud of a test's own, and stacks that go there: the real engine and the real provider, but no AWS."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import sample
from typing import Any, Self

import boto3
import yaml

from open_webui_edge.benchmarks.waiting import wait_until
from tests.support.stack import ROOT, Ended, Workshop, free_port

REGION = "eu-central-1"
# Where no other tests look for a port: these run beside them.
_PORTS = iter(sample(range(30000, 32700), 2700))
_NO_CHANGE = {"same", "refresh", "read"}


@dataclass(frozen=True)
class Cloud:
    """A cloud that is as empty as a new account."""

    port: int
    log: Path

    @classmethod
    @contextmanager
    def open(cls, log: Path) -> Generator[Self]:
        """Start one; it is gone with everything in it when the block ends."""
        cloud = cls(free_port(_PORTS), log)
        with log.open("w") as output:
            server = subprocess.Popen(  # noqa: S603  # this interpreter, and a module of these tests
                [sys.executable, "-m", "tests.support.moto_with_gaps_filled", "--port", str(cloud.port)],
                cwd=ROOT,
                env={**os.environ, **cloud.environment, "MOTO_IAM_LOAD_MANAGED_POLICIES": "true"},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            wait_until(cloud._answers, what="moto", deadline=60, ignoring=(OSError,))
            yield cloud
        finally:
            server.send_signal(signal.SIGKILL)
            server.wait()

    def _answers(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), timeout=5):
            return True

    @property
    def environment(self) -> Mapping[str, str]:
        """What sends an AWS client there, whatever else this machine's environment says."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "a-tests-own",
            "AWS_SECRET_ACCESS_KEY": "a-tests-own",
            "AWS_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def gaps(self) -> list[str]:
        """Return what the cloud was asked and could not answer: the provider would ask again for minutes."""
        return sorted({line for line in self.log.read_text().splitlines() if "not been implemented" in line})

    def client(self, service: str) -> Any:
        """Return an AWS client, to see what came about without asking Pulumi."""
        return boto3.client(
            service,
            region_name=REGION,
            endpoint_url=self.environment["AWS_ENDPOINT_URL"],
            aws_access_key_id="a-tests-own",
            aws_secret_access_key="a-tests-own",
        )


@dataclass(frozen=True)
class Step:
    """What an update did, or would do, to one resource."""

    operation: str
    """Pulumi's word: same, create, update, replace, delete, …"""
    type: str
    name: str
    properties: tuple[str, ...]
    """What changes."""

    def __str__(self) -> str:
        return f"{self.operation} {self.type} {self.name}"


@dataclass(frozen=True)
class Refused:
    """An update that would not be."""

    words: str


@dataclass
class CloudStack:
    """A stack whose resources are in a cloud."""

    workshop: Workshop
    cloud: Cloud
    name: str
    config: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def file(self) -> Path:
        """Its stack file."""
        return self.workshop.directory / f"stacks/Pulumi.{self.name}.yaml"

    def create(self) -> Self:
        """Write its file and make it known to the backend."""
        self.write()
        self.pulumi("stack", "init", self.name).succeeded()
        return self

    def write(self) -> None:
        """Write the configuration into the stack file, and keep what Pulumi wrote there."""
        document = yaml.safe_load(self.file.read_text()) if self.file.exists() else {}
        config = {f"open-webui-edge:{topic}": settings for topic, settings in self.config.items()}
        self.file.parent.mkdir(exist_ok=True)
        self.file.write_text(yaml.safe_dump({**document, "config": config}))

    def pulumi(self, *arguments: str) -> Ended:
        """Run the CLI."""
        return self.workshop.run("pulumi", *arguments, "--non-interactive")

    def up(self, *arguments: str) -> Ended:
        """Update, without the preview that would come first; say what the cloud could not answer."""
        ended = self.pulumi("up", "--yes", "--skip-preview", "--stack", self.name, *arguments)
        return Ended(ended.code, "\n".join([ended.output, *self.cloud.gaps()]))

    def refresh(self) -> Ended:
        """Ask the cloud what is there, and write it into the state."""
        return self.pulumi("refresh", "--yes", "--skip-preview", "--stack", self.name)

    def destroy(self, *arguments: str) -> Ended:
        """Remove it."""
        return self.pulumi("destroy", "--yes", "--skip-preview", "--stack", self.name, *arguments)

    def steps(self) -> list[Step]:
        """Return what an update would do, unchanged resources left out."""
        result = self.preview()
        assert not isinstance(result, Refused), result.words
        return result

    def preview(self, *arguments: str) -> "list[Step] | Refused":
        """Return what an update would do, or why it would not."""
        reported, said = (self.workshop.directory / f"{self.name}-preview.{kind}" for kind in ("json", "log"))
        words = ("pulumi", "preview", "--json", "--non-interactive", "--stack", self.name, *arguments)
        # Warnings go to standard error, and would be no JSON.
        ended = self.workshop.run(
            "sh", "-c", 'out=$1 log=$2; shift 2; exec "$@" >"$out" 2>"$log"', "sh", str(reported), str(said), *words
        )
        if ended.code:
            return Refused(_faults(reported.read_text()) or said.read_text())
        return [
            Step(step["op"], *type_and_name(step["urn"]), tuple(step.get("diffReasons") or ()))
            for step in json.loads(reported.read_text())["steps"]
            if step["op"] not in _NO_CHANGE
        ]

    def state(self) -> list[dict[str, Any]]:
        """Return the resources of the state; secrets are not in clear there."""
        ended = self.pulumi("stack", "export", "--stack", self.name).succeeded()
        return json.loads(ended.output)["deployment"].get("resources") or []

    def outputs(self) -> dict[str, Any]:
        """Return the stack's outputs in clear."""
        ended = self.pulumi("stack", "output", "--json", "--show-secrets", "--stack", self.name).succeeded()
        return json.loads(ended.output)


def type_and_name(urn: str) -> tuple[str, str]:
    """Return the two parts of a URN by which a person knows a resource."""
    _, _, types, name = urn.split("::", 3)
    return types.split("$")[-1], name


def _faults(reported: str) -> str:
    """Return what a preview calls errors; they come in any order."""
    result = json.loads(reported).get("diagnostics") or [] if reported.startswith("{") else []
    errors = (each["message"].strip() for each in result if each["severity"] == "error")
    return "\n".join(sorted(error for error in errors if error != "error: preview failed"))


@dataclass(frozen=True)
class Programs:
    """Small programs of these tests, each run in a copy of the project with a state of its own."""

    directory: Path
    environment: Mapping[str, str]
    """In which `pulumi` works."""

    def stack(self, cloud: Cloud, program: Path, name: str, config: Mapping[str, Any] | None = None) -> CloudStack:
        """Return a stack of a program."""
        workshop = Workshop.at(self.directory / name, {**self.environment, **cloud.environment})
        shutil.copy2(program, workshop.directory / "__main__.py")
        return CloudStack(workshop, cloud, name, dict(config or {})).create()


def provider_on_path(environment: Mapping[str, str], folders: Sequence[Path]) -> dict[str, str]:
    """Return an environment whose PATH begins with folders."""
    first = os.pathsep.join(map(str, folders))
    return {**environment, "PATH": f"{first}{os.pathsep}{environment['PATH']}" if first else environment["PATH"]}
