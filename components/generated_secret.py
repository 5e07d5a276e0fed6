"""A secret that nobody chose: made once, kept in the stack's state."""

import base64
import hashlib
from typing import TypedDict

import pulumi
import pulumi_tls as tls

from components.keeping import kept


class GeneratedSecretArgs(TypedDict):
    """What the secret is for."""

    purpose: str
    """Part of what the value is derived from; a change of it changes the value."""


class GeneratedSecret(pulumi.ComponentResource):
    """Forty-three URL-safe characters (256 bits), derived from a private key that the state keeps.

    There is no resource for random text among this program's packages; a key is random too.
    """

    value: pulumi.Output[str]
    """The secret."""

    def __init__(self, name: str, args: GeneratedSecretArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the key and derive the value."""
        super().__init__("open-webui-edge:index:GeneratedSecret", name, {**args}, opts)
        purpose = args["purpose"]
        key = tls.PrivateKey(f"{name}-key", algorithm="ED25519", opts=kept(self))
        self.value = pulumi.Output.secret(key.private_key_pem.apply(lambda pem: derive(pem, purpose)))
        self.register_outputs({"value": self.value})


def derive(private_key_pem: str, purpose: str) -> str:
    """Derive 256 bits of URL-safe text from a key, another for each purpose."""
    digest = hashlib.sha256(f"{purpose}\n{private_key_pem}".encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
