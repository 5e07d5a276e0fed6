"""The application: version, first account, further variables."""

import base64
import binascii
import re
from collections.abc import Iterator
from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr

from open_webui_edge.settings.faults import Fault
from open_webui_edge.settings.images import OPEN_WEBUI_VERSION
from open_webui_edge.settings.oidc import SHARED_WITH_OTHERS, DisplayName, OidcSettings
from open_webui_edge.settings.values import (
    Bytes,
    CertificatesPem,
    Duration,
    EmailAddress,
    Settings,
    between,
    matching,
    require,
)

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_API_KEY_HEADER = "CUSTOM_API_KEY_HEADER"
_NAMES_A_HEADER = re.compile(r"WEBUI_AUTH_TRUSTED_[A-Z_]+_HEADER")
_HEADER = re.compile(r"[A-Za-z0-9-]{1,128}")
# bcrypt reads 72 bytes and no more.
_PASSWORD_MAX_BYTES = 72
_FERNET_LENGTH, _FERNET_BYTES = 44, 32

_VARIABLES_BY_SOURCE = {
    "data.postgres": "DATABASE_URL PGVECTOR_DB_URL",
    "data.postgres.mode": "DATABASE_TYPE",
    "data.postgres.url": "DATABASE_HOST DATABASE_NAME DATABASE_PASSWORD DATABASE_PORT DATABASE_USER",
    "data.postgres.vector_length": "PGVECTOR_INITIALIZE_MAX_VECTOR_LENGTH PGVECTOR_USE_HALFVEC",
    "data.redis": "REDIS_URL WEBSOCKET_REDIS_URL",
    "data.redis.mode": "WEBSOCKET_MANAGER",
    "models.ollama": "OLLAMA_BASE_URL OLLAMA_BASE_URLS",
    "models.ollama.mode": "ENABLE_OLLAMA_API",
    "models.providers": "ENABLE_OPENAI_API OPENAI_API_BASE_URL OPENAI_API_BASE_URLS OPENAI_API_KEY OPENAI_API_KEYS",
    "open_webui.admin": "ENABLE_SIGNUP WEBUI_ADMIN_EMAIL WEBUI_ADMIN_NAME WEBUI_ADMIN_PASSWORD",
    "open_webui.oidc.client_id": "OAUTH_CLIENT_ID",
    "open_webui.oidc.client_secret": "OAUTH_CLIENT_SECRET",
    "open_webui.oidc.issuer": "OPENID_PROVIDER_URL",
    "open_webui.oidc.name": "OAUTH_PROVIDER_NAME",
    "open_webui.oidc.scopes": "OAUTH_SCOPES",
    "open_webui.secret_key": "WEBUI_JWT_SECRET_KEY WEBUI_SECRET_KEY WEBUI_SECRET_KEY_FILE",
    "proxy.embedding": "WEBUI_AUTH_COOKIE_SAME_SITE WEBUI_SESSION_COOKIE_SAME_SITE XFRAME_OPTIONS",
    "proxy.headers.content_security_policy": "CONTENT_SECURITY_POLICY CONTENT_SECURITY_POLICY_REPORT_ONLY",
    "proxy.headers.hsts": "HSTS",
    "proxy.headers.permissions_policy": "PERMISSIONS_POLICY",
    "proxy.headers.referrer_policy": "REFERRER_POLICY",
    "proxy.limits.max_upload": "RAG_FILE_MAX_SIZE",
    "proxy.websocket.enabled": "ENABLE_WEBSOCKET_SUPPORT",
    "site.domain": "OPENID_REDIRECT_URI WEBUI_URL",
    "site.domain and site.aliases": "CORS_ALLOW_ORIGIN",
    "site.listen": "PORT",
    "nothing: a replica is one process": "UVICORN_WORKERS",
    "nothing: compressing each token costs more than it saves": "UVICORN_WS_PER_MESSAGE_DEFLATE",
    "nothing: it follows from HTTPS": "WEBUI_AUTH_COOKIE_SECURE WEBUI_SESSION_COOKIE_SECURE",
    "nothing: it is the path of the data volume": "DATA_DIR",
    "nothing: temporary files are on the data volume": "TMPDIR",
    "nothing: it is the proxy's network": "FORWARDED_ALLOW_IPS",
    "nothing: only the first replica runs migrations": "ENABLE_DB_MIGRATIONS",
    "nothing: the application listens on the proxy's network": "HOST",
    "nothing: the proxy sends it in every response": "XCONTENT_TYPE",
    "nothing: the proxy sets Cache-Control": "CACHE_CONTROL",
    "nothing: the stack's settings are applied at each start": "ENABLE_PERSISTENT_CONFIG RESET_CONFIG_ON_START",
}
DERIVED_VARIABLES = {name: source for source, names in _VARIABLES_BY_SOURCE.items() for name in names.split()}
"""Variables that the program sets, and the setting that each follows from."""

SHARED_VARIABLES = {
    "ENABLE_PIP_INSTALL_FRONTMATTER_REQUIREMENTS": "a package installed in one replica is missing in the others",
}
"""Variables that the program sets where there is more than one replica, and why."""


Password = Annotated[
    SecretStr,
    matching("(?s).{8,}", "is too short; write at least 8 characters, or omit it to generate one"),
    require(
        lambda text: len(text.encode()) <= _PASSWORD_MAX_BYTES,
        f"is too long; write at most {_PASSWORD_MAX_BYTES} bytes, more of which Open WebUI ignores",
    ),
    require(str.isprintable, "contains a control character; write printable characters only"),
]
"""One that Open WebUI takes."""


def _is_fernet_key(text: str) -> bool:
    try:
        return len(base64.urlsafe_b64decode(text.encode())) == _FERNET_BYTES
    except binascii.Error:
        return False


# What the image makes itself (12 random bytes in base64) and people therefore have; a key of one's own is longer.
_SECRET_KEY_MIN_BYTES = 16
_SECRET_KEY_MAX_BYTES = 1024
SecretKey = Annotated[
    SecretStr,
    require(
        lambda text: len(text.encode()) >= _SECRET_KEY_MIN_BYTES,
        "is too short; write at least 16 bytes (better 32: openssl rand -hex 32), or omit it to generate one",
    ),
    require(lambda text: len(text.encode()) <= _SECRET_KEY_MAX_BYTES, "is too long; write at most 1024 bytes"),
    require(
        str.isprintable, "contains a control character, such as a line break; write one line of printable characters"
    ),
    require(
        lambda text: len(text) != _FERNET_LENGTH or _is_fernet_key(text),
        f"has {_FERNET_LENGTH} characters, which Open WebUI reads as 32 bytes in base64, but this is not base64; write"
        " one character more, or use openssl rand -hex 32",
    ),
]
"""One that Open WebUI takes."""


def _variable(name: str) -> str:
    if not _VARIABLE.fullmatch(name):
        raise ValueError("is not a variable name; write letters, digits and _, not beginning with a digit")
    if (source := DERIVED_VARIABLES.get(name)) is not None:
        why = source.removeprefix("nothing: ")
        raise ValueError(f"is set by the program; remove it {f'and use {source}' if why == source else f'({why})'}")
    return name


_NO_NUL = require(
    lambda text: "\0" not in text, "contains a NUL character, which an environment variable cannot contain; remove it"
)
_RELEASE = matching(
    "[0-9]+[.][0-9]+[.][0-9]+", "is not a release of Open WebUI; write one such as 0.12.4 (without v, not latest)"
)


class AdminSettings(Settings):
    """The first account, created at the first start, which closes sign-up."""

    email: EmailAddress
    """E-mail address of the first administrator, which is the login name."""

    name: DisplayName = "Admin"
    """Display name of the first administrator."""

    password: Password | None = None
    """Initial password of the first administrator (8 characters to 72 bytes), encrypted: `pulumi config set --path
    --secret open_webui.admin.password`. Change it later in Open WebUI. Default: a generated one, shown by `pulumi stack
    output admin_password --show-secrets`."""


class Downgrade(StrEnum):
    """What happens to a version that cannot read the database of a later one."""

    REFUSED = "refused"
    FROM_SNAPSHOT = "from-snapshot"


class UpgradeSettings(Settings):
    """How an upgrade to another version runs. A failed upgrade loses no data."""

    timeout: Annotated[Duration, between("1m", "12h")] = timedelta(minutes=30)
    """Maximum time for the new version to migrate the database and become ready. After that the upgrade is rolled
    back."""

    snapshot: bool = True
    """Take a snapshot of the database and the vector store before an upgrade; rollback restores it. Without it, after a
    failed migration only your own backup helps."""

    downgrade: Downgrade = Downgrade.REFUSED
    """Selects how to handle a downgrade to a version that cannot read the database. refused: the update fails;
    from-snapshot: restore the snapshot from before the last upgrade, which loses everything written since."""


class OpenWebUISettings(Settings):
    """The application."""

    version: Annotated[str, _RELEASE] = OPEN_WEBUI_VERSION
    """Release of Open WebUI to run."""

    replicas: Annotated[int, Field(ge=1, le=32)] = 1
    """Number of containers that serve Open WebUI. More than one requires data.postgres and data.redis."""

    drain: Annotated[Duration, between("10s", "1h")] = timedelta(minutes=10)
    """Maximum time that a stopping replica may take to finish responses in flight; other replicas get the new requests.
    It stops as soon as they are complete."""

    upgrade: UpgradeSettings = UpgradeSettings()
    """How an upgrade to another version runs."""

    admin: AdminSettings | None = None
    """Account of the first administrator. Default: none; the first user to sign up becomes the administrator, which is
    allowed on loopback only."""

    secret_key: SecretKey | None = None
    """Key that signs sessions and encrypts stored secrets (16 to 1024 bytes, printable), encrypted: `pulumi config set
    --path --secret open_webui.secret_key`. Set this when you migrate data that was encrypted with an existing key. A
    change signs everybody out. Default: a generated key. While this is set, the stack's state retains the generated
    key, and the stack uses it again when you remove this."""

    secret_key_generation: Annotated[int, Field(ge=1, le=1000)] = 1
    """Number of the generated secret key. Raise it by one to rotate the key, for example when it may have leaked:
    everybody signs in again, and stored secrets are encrypted again with the new key. While `secret_key` is set, no
    generated key is used; leave the number unchanged, because it decrypts earlier data."""

    former_secret_keys: tuple[SecretKey, ...] = ()
    """Your own former secret keys, encrypted. Data that was encrypted with one of them (tokens of providers and tools,
    second factors, valves) is encrypted again with the current key. To retire a key, move it here from `secret_key`;
    remove it after the next update. Default: none."""

    oidc: OidcSettings | None = None
    """Sign-in at an OpenID Connect provider. Default: sign-in with a password, or as `environment` configures."""

    certificate_authorities: CertificatesPem | None = None
    """CA certificates (PEM) that the application trusts in addition to the public CAs, such as a company's CA that
    signed the certificate of an identity provider or a model API. Default: none."""

    environment: dict[Annotated[str, AfterValidator(_variable)], Annotated[str, _NO_NUL]] = Field(default_factory=dict)
    """Further environment variables of Open WebUI, as text; those that the program sets are refused. If Open WebUI
    saves a variable among the settings of its admin panel, the stack's value replaces the saved one at each start.
    Encrypt secrets: `pulumi config set --path --secret open_webui.environment.S3_SECRET_ACCESS_KEY`. Default: none."""

    memory: Annotated[Bytes, between("512MiB", "1024GiB")] = 4 << 30
    """Memory limit of each replica."""

    def _faults(self) -> Iterator[Fault]:
        for name, value in self.environment.items():
            if (_NAMES_A_HEADER.fullmatch(name) or name == _API_KEY_HEADER) and not _HEADER.fullmatch(value):
                yield Fault(
                    f"environment.{name}",
                    "is not a header name; write letters, digits and hyphens, such as X-User-Email",
                )
        if self.secret_key is not None and self.secret_key in self.former_secret_keys:
            yield Fault("former_secret_keys", "contains the key in use; remove it here, or remove secret_key")
        if self.oidc is None:
            return
        for name, setting in SHARED_WITH_OTHERS.items():
            if name in self.environment:
                instead = (
                    f"and use open_webui.oidc.{setting}" if setting else "(the stack owns the provider's settings)"
                )
                yield Fault(
                    f"environment.{name}", f"is set by the program if open_webui.oidc is set; remove it {instead}"
                )
        becomes_admin = self.oidc.merge_by_email or (self.oidc.roles is not None and self.oidc.roles.admin)
        if self.oidc.only and self.admin is not None and not becomes_admin:
            yield Fault(
                "oidc.only",
                "is true, but no user of the provider can be an administrator; add merge_by_email: true (the user with"
                " the address admin.email gets that account), or roles.admin, or remove only",
            )

    @property
    def requires_sign_in(self) -> bool:
        """Whether only users with an account get in."""
        return self.environment.get("WEBUI_AUTH", "true").lower() == "true"

    @property
    def api_key_header(self) -> str:
        """Request header that may hold an API key."""
        return self.environment.get(_API_KEY_HEADER, "X-API-Key")

    @property
    def identity_headers(self) -> tuple[str, ...]:
        """Request headers from which the application takes a user's identity."""
        return tuple(value for name, value in self.environment.items() if _NAMES_A_HEADER.fullmatch(name))
