"""The application: version, first account, further variables."""

import base64
import binascii
import re
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from open_webui_edge.settings.images import OPEN_WEBUI_VERSION
from open_webui_edge.settings.oidc import SHARED_WITH_OTHERS, OidcSettings
from open_webui_edge.settings.values import (
    Bytes,
    CertificatesPem,
    Duration,
    EmailAddress,
    FieldError,
    Settings,
    between_bytes,
    between_durations,
    raise_all,
)

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NAMES_A_HEADER = re.compile(r"WEBUI_AUTH_TRUSTED_[A-Z_]+_HEADER")
_HEADER = re.compile(r"[A-Za-z0-9-]{1,128}")
_VERSION = re.compile(r"\d+\.\d+\.\d+", re.ASCII)
_NAME_MAX = 64
_PASSWORD_MIN = 8
# bcrypt reads 72 bytes and no more.
_PASSWORD_MAX_BYTES = 72
# What the image makes itself (12 random bytes in base64) and people therefore have; a key of one's own is longer.
_SECRET_KEY_MIN_BYTES = 16
_SECRET_KEY_MAX_BYTES = 1024
_FERNET_LENGTH, _FERNET_BYTES = 44, 32

DERIVED_VARIABLES = {
    "CACHE_CONTROL": "nothing: the proxy sets Cache-Control",
    "CONTENT_SECURITY_POLICY": "proxy.headers.content_security_policy",
    "CONTENT_SECURITY_POLICY_REPORT_ONLY": "proxy.headers.content_security_policy",
    "CORS_ALLOW_ORIGIN": "site.domain and site.aliases",
    "DATABASE_HOST": "data.postgres.url",
    "DATABASE_NAME": "data.postgres.url",
    "DATABASE_PASSWORD": "data.postgres.url",
    "DATABASE_PORT": "data.postgres.url",
    "DATABASE_TYPE": "data.postgres.mode",
    "DATABASE_URL": "data.postgres",
    "DATABASE_USER": "data.postgres.url",
    "DATA_DIR": "nothing: it is the path of the data volume",
    "ENABLE_DB_MIGRATIONS": "nothing: only the first replica runs migrations",
    "ENABLE_OLLAMA_API": "models.ollama.mode",
    "ENABLE_OPENAI_API": "models.providers",
    "ENABLE_PERSISTENT_CONFIG": "nothing: the stack's settings are applied at each start",
    "ENABLE_SIGNUP": "open_webui.admin",
    "ENABLE_WEBSOCKET_SUPPORT": "proxy.websocket.enabled",
    "FORWARDED_ALLOW_IPS": "nothing: it is the proxy's network",
    "HOST": "nothing: the application listens on the proxy's network",
    "HSTS": "proxy.headers.hsts",
    "OAUTH_CLIENT_ID": "open_webui.oidc.client_id",
    "OAUTH_CLIENT_SECRET": "open_webui.oidc.client_secret",
    "OAUTH_PROVIDER_NAME": "open_webui.oidc.name",
    "OAUTH_SCOPES": "open_webui.oidc.scopes",
    "OLLAMA_BASE_URL": "models.ollama",
    "OLLAMA_BASE_URLS": "models.ollama",
    "OPENAI_API_BASE_URL": "models.providers",
    "OPENAI_API_BASE_URLS": "models.providers",
    "OPENAI_API_KEY": "models.providers",
    "OPENAI_API_KEYS": "models.providers",
    "OPENID_PROVIDER_URL": "open_webui.oidc.issuer",
    "OPENID_REDIRECT_URI": "site.domain",
    "PERMISSIONS_POLICY": "proxy.headers.permissions_policy",
    "PGVECTOR_DB_URL": "data.postgres",
    "PGVECTOR_INITIALIZE_MAX_VECTOR_LENGTH": "data.postgres.vector_length",
    "PGVECTOR_USE_HALFVEC": "data.postgres.vector_length",
    "PORT": "site.listen",
    "RAG_FILE_MAX_SIZE": "proxy.limits.max_upload",
    "REDIS_URL": "data.redis",
    "REFERRER_POLICY": "proxy.headers.referrer_policy",
    "RESET_CONFIG_ON_START": "nothing: the stack's settings are applied at each start",
    "UVICORN_WORKERS": "nothing: a replica is one process",
    "UVICORN_WS_PER_MESSAGE_DEFLATE": "nothing: compressing each token costs more than it saves",
    "WEBSOCKET_MANAGER": "data.redis.mode",
    "WEBSOCKET_REDIS_URL": "data.redis",
    "WEBUI_ADMIN_EMAIL": "open_webui.admin",
    "WEBUI_ADMIN_NAME": "open_webui.admin",
    "WEBUI_ADMIN_PASSWORD": "open_webui.admin",
    "WEBUI_AUTH_COOKIE_SAME_SITE": "proxy.embedding",
    "WEBUI_AUTH_COOKIE_SECURE": "nothing: it follows from HTTPS",
    "WEBUI_JWT_SECRET_KEY": "open_webui.secret_key",
    "WEBUI_SECRET_KEY": "open_webui.secret_key",
    "WEBUI_SECRET_KEY_FILE": "open_webui.secret_key",
    "WEBUI_SESSION_COOKIE_SAME_SITE": "proxy.embedding",
    "WEBUI_SESSION_COOKIE_SECURE": "nothing: it follows from HTTPS",
    "WEBUI_URL": "site.domain",
    "XCONTENT_TYPE": "nothing: the proxy sends it in every response",
    "XFRAME_OPTIONS": "proxy.embedding",
}
"""Variables that the program sets, and the setting that each follows from."""

SHARED_VARIABLES = {
    "ENABLE_PIP_INSTALL_FRONTMATTER_REQUIREMENTS": "a package installed in one replica is missing in the others",
}
"""Variables that the program sets where there is more than one replica, and why."""


def _password(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if len(text) < _PASSWORD_MIN:
        raise ValueError(f"is too short; write at least {_PASSWORD_MIN} characters, or omit it to generate one")
    if len(text.encode()) > _PASSWORD_MAX_BYTES:
        raise ValueError(f"is too long; write at most {_PASSWORD_MAX_BYTES} bytes, more of which Open WebUI ignores")
    if not text.isprintable():
        raise ValueError("contains a control character; write printable characters only")
    return value


Password = Annotated[SecretStr, AfterValidator(_password)]
"""One that Open WebUI takes."""


def _secret_key(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if len(text.encode()) < _SECRET_KEY_MIN_BYTES:
        raise ValueError(
            f"is too short; write at least {_SECRET_KEY_MIN_BYTES} bytes (better 32: openssl rand -hex 32), or omit it"
            " to generate one",
        )
    if len(text.encode()) > _SECRET_KEY_MAX_BYTES:
        raise ValueError(f"is too long; write at most {_SECRET_KEY_MAX_BYTES} bytes")
    if not text.isprintable():
        raise ValueError("contains a control character, such as a line break; write one line of printable characters")
    if len(text) == _FERNET_LENGTH and not _is_fernet_key(text):
        raise ValueError(
            f"has {_FERNET_LENGTH} characters, which Open WebUI reads as 32 bytes in base64, but this is not base64;"
            " write one character more, or use openssl rand -hex 32",
        )
    return value


SecretKey = Annotated[SecretStr, AfterValidator(_secret_key)]
"""One that Open WebUI takes."""


def _is_fernet_key(text: str) -> bool:
    try:
        return len(base64.urlsafe_b64decode(text.encode())) == _FERNET_BYTES
    except binascii.Error:
        return False


def _variable(name: str) -> str:
    if not _VARIABLE.fullmatch(name):
        raise ValueError("is not a variable name; write letters, digits and _, not beginning with a digit")
    if name in DERIVED_VARIABLES:
        source = DERIVED_VARIABLES[name]
        if source.startswith("nothing: "):
            raise ValueError(f"is set by the program; remove it ({source.removeprefix('nothing: ')})")
        raise ValueError(f"is set by the program; remove it and use {source}")
    return name


def _variable_value(value: str) -> str:
    if "\0" in value:
        raise ValueError("contains a NUL character, which an environment variable cannot contain; remove it")
    return value


def _display_name(value: str) -> str:
    if not 1 <= len(value) <= _NAME_MAX or not value.isprintable():
        raise ValueError(f"is not a valid name; write 1 to {_NAME_MAX} printable characters")
    return value


def _release(value: str) -> str:
    if not _VERSION.fullmatch(value):
        raise ValueError("is not a release of Open WebUI; write one such as 0.12.4 (without v, not latest)")
    return value


class AdminSettings(Settings):
    """The first account, created at the first start, which closes sign-up."""

    email: EmailAddress
    """E-mail address of the first administrator, which is the login name."""

    name: Annotated[str, AfterValidator(_display_name)] = "Admin"
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

    timeout: Annotated[Duration, between_durations("1m", "12h")] = timedelta(minutes=30)
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

    version: Annotated[str, AfterValidator(_release)] = OPEN_WEBUI_VERSION
    """Release of Open WebUI to run."""

    replicas: Annotated[int, Field(ge=1, le=32)] = 1
    """Number of containers that serve Open WebUI. More than one requires data.postgres and data.redis."""

    drain: Annotated[Duration, between_durations("10s", "1h")] = timedelta(minutes=10)
    """Maximum time that a stopping replica may take to finish responses in flight; other replicas get the new requests.
    It stops as soon as they are complete."""

    upgrade: UpgradeSettings = UpgradeSettings()
    """How an upgrade to another version runs."""

    admin: AdminSettings | None = None
    """The first account. Default: none; the first user to sign up becomes the administrator, which is allowed on
    loopback only."""

    secret_key: SecretKey | None = None
    """Key that signs sessions and encrypts stored secrets (16 to 1024 bytes, printable), encrypted: `pulumi config set
    --path --secret open_webui.secret_key`. Set this when you migrate data that was encrypted with an existing key. A
    change signs everybody out. Default: a generated key. That key is retained in the stack's state while this is set,
    and used again when you remove this."""

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

    environment: dict[Annotated[str, AfterValidator(_variable)], Annotated[str, AfterValidator(_variable_value)]] = (
        Field(default_factory=dict)
    )
    """Further environment variables of Open WebUI, as text; those that the program sets are refused. From then on the
    stack owns a variable that Open WebUI copies into its saved settings. Encrypt secrets: `pulumi config set --path
    --secret open_webui.environment.S3_SECRET_ACCESS_KEY`. Default: none."""

    memory: Annotated[Bytes, between_bytes("512MiB", "1024GiB")] = 4 << 30
    """Memory limit of each replica."""

    @model_validator(mode="after")
    def _identity_headers_are_names_of_headers(self) -> Self:
        for name, value in self.environment.items():
            if _NAMES_A_HEADER.fullmatch(name) and not _HEADER.fullmatch(value):
                raise FieldError(
                    f"environment.{name}",
                    "is not a header name; write letters, digits and hyphens, such as X-User-Email",
                )
        return self

    @model_validator(mode="after")
    def _one_key_is_in_use(self) -> Self:
        if self.secret_key is not None and self.secret_key in self.former_secret_keys:
            raise FieldError("former_secret_keys", "contains the key in use; remove it here, or remove secret_key")
        return self

    @model_validator(mode="after")
    def _a_provider_is_said_once(self) -> Self:
        if self.oidc is None:
            return self
        raise_all(
            FieldError(
                f"environment.{name}",
                "is set by the program if open_webui.oidc is set; remove it"
                + (f" and use open_webui.oidc.{setting}" if setting else " (the stack owns the provider's settings)"),
            )
            for name, setting in SHARED_WITH_OTHERS.items()
            if name in self.environment
        )
        if self.oidc.only and self.admin is not None and not self.oidc.allows_admin_login:
            raise FieldError(
                "oidc.only",
                "is true, but no user of the provider can be an administrator; add merge_by_email: true (the user with"
                " the address admin.email gets that account), or roles.admin, or remove only",
            )
        return self

    @property
    def identity_headers(self) -> tuple[str, ...]:
        """Request headers from which the application takes a user's identity."""
        return tuple(value for name, value in self.environment.items() if _NAMES_A_HEADER.fullmatch(name))
