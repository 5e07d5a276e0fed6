"""A certificate signed by this stack's own certificate authority."""

from collections.abc import Sequence
from typing import NotRequired, TypedDict

import pulumi
import pulumi_tls as tls

from open_webui_edge.components.protection import protected

_CA_HOURS = 10 * 365 * 24
# Apple and the browsers refuse server certificates that are valid for longer than 398 days (CA/Browser Forum, SC31).
_LEAF_HOURS = 397 * 24


class SelfSignedCertificateArgs(TypedDict):
    """The certificate's names, and the generation of its CA."""

    common_name: str
    """The subject's common name, at most 64 characters (RFC 5280)."""
    dns_names: Sequence[str]
    ip_addresses: Sequence[str]
    generation: NotRequired[int]
    """Default 1. The next generation has a new CA and key; earlier CAs stay in the state, but sign nothing."""


class SelfSignedCertificate(pulumi.ComponentResource):
    """A server certificate signed by this stack's own certificate authority."""

    certificate_pem: pulumi.Output[str]
    """The server's certificate."""
    private_key_pem: pulumi.Output[str]
    """The server's key; secret."""
    ca_certificate_pem: pulumi.Output[str]
    """The CA's certificate, for clients to trust."""

    def __init__(self, name: str, args: SelfSignedCertificateArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Create the CA once, and a certificate that an update renews in the last third of its lifetime."""
        super().__init__("open-webui-edge:index:SelfSignedCertificate", name, {**args}, opts)
        child = pulumi.ResourceOptions(parent=self)
        current = args.get("generation", 1)
        # All generations: protected resources cannot be deleted.
        ca_key, ca = [self._ca(name, generation) for generation in range(1, current + 1)][-1]

        suffix = _suffix(current)
        key = tls.PrivateKey(f"{name}-key{suffix}", algorithm="ECDSA", ecdsa_curve="P256", opts=child)
        request = tls.CertRequest(
            f"{name}-request{suffix}",
            private_key_pem=key.private_key_pem,
            dns_names=list(args["dns_names"]),
            ip_addresses=list(args["ip_addresses"]),
            subject=tls.CertRequestSubjectArgs(common_name=args["common_name"][:64]),
            opts=child,
        )
        certificate = tls.LocallySignedCert(
            f"{name}-certificate{suffix}",
            cert_request_pem=request.cert_request_pem,
            ca_private_key_pem=ca_key.private_key_pem,
            ca_cert_pem=ca.cert_pem,
            allowed_uses=["digital_signature", "server_auth"],
            set_subject_key_id=True,
            validity_period_hours=_LEAF_HOURS,
            early_renewal_hours=_LEAF_HOURS // 3,
            opts=child,
        )

        self.certificate_pem = certificate.cert_pem
        self.private_key_pem = pulumi.Output.secret(key.private_key_pem)
        self.ca_certificate_pem = ca.cert_pem
        self.register_outputs(
            {
                "certificate_pem": self.certificate_pem,
                "private_key_pem": self.private_key_pem,
                "ca_certificate_pem": self.ca_certificate_pem,
            },
        )

    def _ca(self, name: str, generation: int) -> tuple[tls.PrivateKey, tls.SelfSignedCert]:
        suffix = _suffix(generation)
        key = tls.PrivateKey(f"{name}-ca-key{suffix}", algorithm="ECDSA", ecdsa_curve="P256", opts=protected(self))
        number = "" if generation == 1 else f" {generation}"
        ca = tls.SelfSignedCert(
            f"{name}-ca{suffix}",
            private_key_pem=key.private_key_pem,
            is_ca_certificate=True,
            # It signs server certificates, but no CAs.
            max_path_length=0,
            set_subject_key_id=True,
            allowed_uses=["cert_signing", "crl_signing"],
            subject=tls.SelfSignedCertSubjectArgs(
                common_name=f"{name} {pulumi.get_stack()} CA"[: 64 - len(number)] + number,
                organization="open-webui-edge",
            ),
            validity_period_hours=_CA_HOURS,
            opts=protected(self),
        )
        return key, ca


def _suffix(generation: int) -> str:
    return "" if generation == 1 else f"-{generation}"
