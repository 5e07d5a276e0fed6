"""TLS policies (protocols, ciphers, groups) as published, with source and date."""

from dataclasses import dataclass, replace
from typing import assert_never

from open_webui_edge.settings.proxy import TlsProfile


@dataclass(frozen=True)
class TlsPolicy:
    """One policy."""

    source: str
    protocols: tuple[str, ...]
    ciphers: tuple[str, ...]
    """For TLS 1.2, by OpenSSL's names; for TLS 1.3 all profiles use OpenSSL's default."""
    curves: tuple[str, ...]
    """Groups for the key exchange, the preferred one first. X25519MLKEM768 needs OpenSSL 3.5."""


_CURVES = ("X25519MLKEM768", "X25519", "prime256v1", "secp384r1")

INTERMEDIATE = TlsPolicy(
    source="Mozilla's intermediate profile, April 2026: https://ssl-config.mozilla.org/guidelines/6.0.json",
    protocols=("TLSv1.2", "TLSv1.3"),
    ciphers=("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305"),
    curves=_CURVES,
)

MODERN = TlsPolicy(
    source="Mozilla's modern profile, April 2026: https://ssl-config.mozilla.org/guidelines/6.0.json",
    protocols=("TLSv1.3",),
    ciphers=(),
    curves=_CURVES,
)


def policy_of(profile: TlsProfile, *, rsa: bool = False) -> TlsPolicy:
    """Return the policy of a profile; with `rsa` for a certificate with an RSA key."""
    match profile:
        case TlsProfile.INTERMEDIATE:
            policy = INTERMEDIATE
        case TlsProfile.MODERN:
            policy = MODERN
        case _:
            assert_never(profile)
    if not rsa:
        return policy
    # A cipher suite of TLS 1.2 depends on the type of the server's key; those of TLS 1.3 do not.
    return replace(policy, ciphers=tuple(cipher.replace("-ECDSA-", "-RSA-") for cipher in policy.ciphers))
