"""A deployment at AWS as its owner and its users meet it: `pulumi` on one side, a browser's address on the other."""

import base64
import subprocess
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.aws.instance.hardware import Hardware
from tests.aws.instance.machine import Machine
from tests.support.cloud import Cloud, CloudStack
from tests.support.model_server import MODEL, ModelServer
from tests.support.open_webui_client import Answer, OpenWebUIClient
from tests.support.stack import Ended, Workshop
from tests.support.waiting import wait_until

DOMAIN = "chat.example.com"
EMAIL = "admin@example.com"
KEY = "sk-a-tests-own"
READY = "/run/open-webui-edge/ready"


@dataclass
class Site:
    """A stack, the cloud it is in, and the hardware below that."""

    stack: CloudStack
    hardware: Hardware
    model: ModelServer
    secrets: Mapping[str, str] = field(default_factory=dict[str, str])

    @classmethod
    @contextmanager
    def open(cls, folder: Path, environment: Mapping[str, str], name: str, **topics: Any) -> "Generator[Site]":
        """Have a stack that nobody has brought up yet; whatever comes of it is gone when the block ends."""
        with (
            Cloud.open(folder / "moto.log") as cloud,
            Hardware(cloud, folder) as hardware,
            ModelServer(hardware.gateway, keys=[KEY]) as model,
        ):
            workshop = Workshop.at(folder / "workshop", {**environment, **cloud.environment, "HOME": str(folder)})
            config = {
                "platform": {
                    "kind": "aws-vm",
                    "aws": {"region": "eu-central-1", "instance": {"ssh_from": ["192.0.2.1/32"], "data_volume": "20GiB"}},
                },
                "site": {"domain": DOMAIN},
                "certificate": {"mode": "self-signed"},
                "open_webui": {"admin": {"email": EMAIL}},
                "models": {"providers": [{"url": model.url}], "ollama": {"mode": "none"}},
                "images": {"source": "built"},
                **topics,
            }
            site = cls(CloudStack(workshop, cloud, name, config), hardware, model)
            site.stack.create()
            site.set_secret("models.providers[0].api_key", KEY)
            yield site

    def set_secret(self, path: str, text: str) -> None:
        """Encrypt a setting, as a person does."""
        words = ("pulumi", "config", "set", "--path", "--secret", f"open-webui-edge:{path}", "--stack", self.stack.name)
        self.stack.workshop.run(*words, "--non-interactive", given=text).succeeded()

    def up(self, *arguments: str) -> Ended:
        """Update."""
        return self.stack.up(*arguments)

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
    def visited(self) -> Generator[OpenWebUIClient]:
        """Be the administrator in front of the site, with nothing but its name, its address and its authority."""
        outputs = self.stack.outputs()
        ca_file = self.folder / "ca.pem"
        ca_file.write_text(outputs["ca_certificate"])
        with OpenWebUIClient(outputs["url"], ca_file=ca_file, resolve={DOMAIN: outputs["host"]}) as client:
            wait_until(client.ready, what=f"{outputs['url']}/ready", deadline=120, ignoring=(Exception,))
            client.sign_in(EMAIL, outputs["admin_password"])
            yield client

    def chat(self) -> Answer:
        """Ask the model something, as a browser does."""
        with self.visited() as client:
            answer = client.chat_over_socket("Count to 5", MODEL)
            assert answer.text.split() == ["1", "2", "3", "4", "5"]
            return answer

    def chats(self) -> list[str]:
        """Return the ids of the chats that are kept."""
        with self.visited() as client:
            return [chat["id"] for chat in client.chats()]
