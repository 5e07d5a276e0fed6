"""A deployment at AWS as its owner and its users meet it: `pulumi` on one side, a browser's address on the other."""

import re
import subprocess
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from open_webui_edge.benchmarks.model_server import MODEL, ModelServer
from open_webui_edge.benchmarks.open_webui_client import Answer, OpenWebUIClient
from open_webui_edge.benchmarks.waiting import wait_until
from tests.end_to_end.instance.hardware import Hardware
from tests.end_to_end.instance.machine import Machine
from tests.support.cloud import REGION, Cloud, CloudStack
from tests.support.stack import Ended, Workshop, end

DOMAIN = "chat.example.com"
ALIAS = "www.chat.example.com"
EMAIL = "admin@example.com"
KEY = "sk-a-tests-own"
_FIRST_START_TIMEOUT = "_FIRST_START_TIMEOUT = 900"
READY = "/run/open-webui-edge/ready"


@dataclass
class Site:
    """A stack, the cloud it is in, and the hardware below that."""

    stack: CloudStack
    hardware: Hardware
    model: ModelServer
    made: str = ""
    """What the update that made it said."""

    @classmethod
    @contextmanager
    def open(
        cls,
        folder: Path,
        environment: Mapping[str, str],
        name: str,
        *,
        aws: Mapping[str, Any] | None = None,
        **topics: Any,
    ) -> "Generator[Site]":
        """Have a stack that was never brought up; whatever comes of it is gone when the block ends.

        What `aws` says of the VPC's addresses is where the instance is.
        """
        at_aws = dict(aws or {})
        with (
            Cloud.open(folder / "moto.log") as cloud,
            Hardware(cloud, folder, at_aws.get("vpc", {}).get("cidr")) as hardware,
            ModelServer(hardware.gateway, keys=[KEY]) as model,
        ):
            workshop = Workshop.at(folder / "workshop", {**environment, **cloud.environment, "HOME": str(folder)})
            instance = {"ssh_from": ["192.0.2.1/32"], "data_volume": "20GiB"}
            config = {
                "platform": {"kind": "aws-vm", "aws": {"region": REGION, "instance": instance, **at_aws}},
                "site": {"domain": DOMAIN},
                "certificate": {"mode": "self-signed"},
                "open_webui": {"admin": {"email": EMAIL}},
                "models": {"providers": [{"url": model.url}], "ollama": {"mode": "none"}},
                "images": {"source": "built"},
                **topics,
            }
            site = cls(CloudStack(workshop, cloud, name, config), hardware, model)
            site.stack.create()
            site.set("models.providers[0].api_key", KEY, secret=True)
            yield site

    def set(self, path: str, text: str, *, secret: bool = False) -> None:
        """Change a setting, as a person does."""
        kind = "--secret" if secret else "--plaintext"
        words = ("config", "set", "--path", kind, f"open-webui-edge:{path}", "--stack", self.stack.name)
        self.stack.workshop.run("pulumi", *words, "--non-interactive", given=text).succeeded()

    def up(self, *arguments: str) -> Ended:
        """Update."""
        return self.stack.up(*arguments)

    def up_failing(self, *, within: int) -> Ended:
        """Update with less patience for a new instance, in seconds, than a person would have."""
        program = self.folder / "components/deployment.py"
        text = program.read_text()
        assert text.count(_FIRST_START_TIMEOUT) == 1
        program.write_text(text.replace(_FIRST_START_TIMEOUT, f"_FIRST_START_TIMEOUT = {within}"))
        try:
            return self.up().failed()
        finally:
            program.write_text(text)

    @contextmanager
    def updating(self, until: str) -> Generator[subprocess.Popen[str]]:
        """Update, and be in the block as soon as the update says something; it is over when the block is."""
        words = ("pulumi", "up", "--yes", "--skip-preview", "--non-interactive", "--stack", self.stack.name)
        process = self.stack.workshop.start(*words)
        assert process.stdout is not None
        said: list[str] = []
        try:
            for line in process.stdout:
                said.append(line)
                if re.search(until, line):
                    break
            else:
                raise AssertionError(f"{until!r} was never said: {''.join(said)}")
            yield process
        finally:
            if process.poll() is None:
                end(process)

    def make(self, target: str, **variables: str) -> Ended:
        """Do what a person does with `make`."""
        words = [f"{name}={value}" for name, value in variables.items()]
        return self.stack.workshop.run("make", target, f"STACK={self.stack.name}", *words)

    def urn(self, kind: str) -> str:
        """Return the URN of the only resource of a type."""
        (result,) = (resource["urn"] for resource in self.stack.state() if resource["type"] == kind)
        return result

    @property
    def folder(self) -> Path:
        """The project's."""
        return self.stack.workshop.directory

    @property
    def address(self) -> str:
        """Where the site is found."""
        return self.stack.outputs()["host"]

    @property
    def machine(self) -> Machine:
        """The instance that runs."""
        return self.hardware.only_machine()

    @contextmanager
    def visited(self, *, at: str | None = None, trusting: str | None = None) -> Generator[OpenWebUIClient]:
        """Be the administrator in front of the site, with nothing but its names, its address and an authority.

        Where they are left out, the address is the instance's, and the authority the stack's own.
        """
        outputs = self.stack.outputs()
        ca_file = self.folder / "ca.pem"
        ca_file.write_text(trusting or outputs["ca_certificate"])
        address = at or outputs["host"]
        with OpenWebUIClient(
            outputs["url"], ca_file=ca_file, resolve={DOMAIN: address, ALIAS: address}, timeout=300
        ) as client:
            wait_until(client.ready, what=f"{outputs['url']}/ready", deadline=600, ignoring=(Exception,))
            client.sign_in(EMAIL, outputs["admin_password"])
            yield client

    def chat(self) -> Answer:
        """Ask the model something, as a browser does."""
        with self.visited() as client:
            return chat(client)

    def chats(self) -> list[str]:
        """Return the ids of the chats that are kept."""
        with self.visited() as client:
            return [chat["id"] for chat in client.chats()]


def chat(client: OpenWebUIClient) -> Answer:
    """Ask the model something."""
    answer = client.chat_over_socket("Count to 5", MODEL, deadline=600)
    assert answer.text.split() == ["1", "2", "3", "4", "5"]
    return answer
