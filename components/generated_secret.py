"""Generated secrets, which the stack's state stores."""

import base64
import hashlib
from collections.abc import Sequence
from typing import NotRequired, TypedDict

import pulumi
import pulumi_tls as tls

from open_webui_edge.components.protection import protected


class GeneratedSecretArgs(TypedDict):
    """The secret's purpose and generation."""

    purpose: str
    """Input of the derivation: another purpose gives another value."""
    generation: NotRequired[int]
    """Default 1. Each generation has an independent value."""


class GeneratedSecret(pulumi.ComponentResource):
    """43 URL-safe characters (256 bits), derived from a private key in the state.

    A key, since this program's providers have no resource for random text.
    """

    value: pulumi.Output[str]
    """The secret."""
    former: pulumi.Output[Sequence[str]]
    """The values of earlier generations, the newest first."""

    def __init__(self, name: str, args: GeneratedSecretArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Create the key and derive the value."""
        super().__init__("open-webui-edge:index:GeneratedSecret", name, {**args}, opts)
        purpose, generation = args["purpose"], args.get("generation", 1)
        key = tls.PrivateKey(f"{name}-key", algorithm="ED25519", opts=protected(self))
        self.value = pulumi.Output.secret(key.private_key_pem.apply(lambda pem: derive(pem, purpose, generation)))
        self.former = pulumi.Output.secret(
            key.private_key_pem.apply(lambda pem: [derive(pem, purpose, one) for one in range(generation - 1, 0, -1)])
        )
        self.register_outputs({"value": self.value})


def derive(private_key_pem: str, purpose: str, generation: int = 1) -> str:
    """Derive 256 bits of URL-safe text from a key, different for each purpose and generation."""
    label = purpose if generation == 1 else f"{purpose} {generation}"
    digest = hashlib.sha256(f"{label}\n{private_key_pem}".encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
