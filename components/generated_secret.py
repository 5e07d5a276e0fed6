"""A secret that nobody chose: made once, kept in the stack's state."""

import base64
import hashlib
from collections.abc import Sequence
from typing import NotRequired, TypedDict

import pulumi
import pulumi_tls as tls

from components.keeping import kept


class GeneratedSecretArgs(TypedDict):
    """What the secret is for."""

    purpose: str
    """Part of what the value is derived from; a change of it changes the value."""
    generation: NotRequired[int]
    """Default 1. The next one is another value, and who knows one knows no other."""


class GeneratedSecret(pulumi.ComponentResource):
    """Forty-three URL-safe characters (256 bits), derived from a private key that the state keeps.

    There is no resource for random text among this program's packages; a key is random too.
    """

    value: pulumi.Output[str]
    """The secret."""
    former: pulumi.Output[Sequence[str]]
    """The values of the generations before it, the newest first."""

    def __init__(self, name: str, args: GeneratedSecretArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the key and derive the value."""
        super().__init__("open-webui-edge:index:GeneratedSecret", name, {**args}, opts)
        purpose, generation = args["purpose"], args.get("generation", 1)
        key = tls.PrivateKey(f"{name}-key", algorithm="ED25519", opts=kept(self))
        self.value = pulumi.Output.secret(key.private_key_pem.apply(lambda pem: derive(pem, purpose, generation)))
        self.former = pulumi.Output.secret(
            key.private_key_pem.apply(lambda pem: [derive(pem, purpose, one) for one in range(generation - 1, 0, -1)])
        )
        self.register_outputs({"value": self.value})


def derive(private_key_pem: str, purpose: str, generation: int = 1) -> str:
    """Derive 256 bits of URL-safe text from a key, another for each purpose and generation."""
    label = purpose if generation == 1 else f"{purpose} {generation}"
    digest = hashlib.sha256(f"{label}\n{private_key_pem}".encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
