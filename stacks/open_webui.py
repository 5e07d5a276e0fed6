"""The application: version, first account, what else it is told."""

import base64
import binascii
import re
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from components.images import OPEN_WEBUI_VERSION
from stacks.oidc import SHARED_WITH_OTHERS, OidcSettings
from stacks.values import (
    BelowError,
    Bytes,
    CertificatesPem,
    Duration,
    EmailAddress,
    Settings,
    between_bytes,
    between_durations,
    refuse,
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
    "CACHE_CONTROL": "nothing: the proxy says what may be kept",
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
    "DATA_DIR": "nothing: it is where the volume with the data is",
    "ENABLE_DB_MIGRATIONS": "nothing: the first replica changes the tables and the others wait for it",
    "ENABLE_OLLAMA_API": "models.ollama.mode",
    "ENABLE_OPENAI_API": "models.providers",
    "ENABLE_PERSISTENT_CONFIG": "nothing: the stack's settings are applied at each start",
    "ENABLE_SIGNUP": "open_webui.admin",
    "ENABLE_WEBSOCKET_SUPPORT": "proxy.websocket.enabled",
    "FORWARDED_ALLOW_IPS": "nothing: it is the network of the proxy",
    "HOST": "nothing: the application listens for the proxy",
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
    "UVICORN_WORKERS": "nothing: one process serves a replica",
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
    "XCONTENT_TYPE": "nothing: the proxy says it on every answer",
    "XFRAME_OPTIONS": "proxy.embedding",
}
"""Variables that the program sets, and the setting that each follows from."""

SHARED_VARIABLES = {
    "ENABLE_PIP_INSTALL_FRONTMATTER_REQUIREMENTS": "what one replica installs, the others lack",
}
"""Variables that the program sets where there is more than one replica, and why."""


def _password(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if len(text) < _PASSWORD_MIN:
        raise ValueError(f"is too short; write at least {_PASSWORD_MIN} characters, or leave it out to have one made")
    if len(text.encode()) > _PASSWORD_MAX_BYTES:
        raise ValueError(f"is too long; Open WebUI reads at most {_PASSWORD_MAX_BYTES} bytes of a password")
    if not text.isprintable():
        raise ValueError("holds a control character; a password is made of printable characters")
    return value


Password = Annotated[SecretStr, AfterValidator(_password)]
"""One that Open WebUI takes."""


def _secret_key(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if len(text.encode()) < _SECRET_KEY_MIN_BYTES:
        raise ValueError(
            f"is too short; write at least {_SECRET_KEY_MIN_BYTES} bytes (a new one better has 32: openssl rand -hex"
            " 32), or leave it out to have one made",
        )
    if len(text.encode()) > _SECRET_KEY_MAX_BYTES:
        raise ValueError(f"is too long; write at most {_SECRET_KEY_MAX_BYTES} bytes")
    if not text.isprintable():
        raise ValueError("holds a control character, such as the end of a line; write one line of printable characters")
    if len(text) == _FERNET_LENGTH and not _is_fernet_key(text):
        raise ValueError(
            f"has {_FERNET_LENGTH} characters, which Open WebUI takes for 32 bytes in base64, and this is none; write"
            " one character more, or openssl rand -hex 32",
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
        raise ValueError("is not a name for a variable; write letters, digits and _, no digit first")
    if name in DERIVED_VARIABLES:
        source = DERIVED_VARIABLES[name]
        if source.startswith("nothing: "):
            raise ValueError(f"is set by the program; drop it ({source.removeprefix('nothing: ')})")
        raise ValueError(f"is set by the program; drop it and use {source}")
    return name


def _variable_value(value: str) -> str:
    if "\0" in value:
        raise ValueError("holds a NUL character, which no environment variable can carry; drop it")
    return value


def _display_name(value: str) -> str:
    if not 1 <= len(value) <= _NAME_MAX or not value.isprintable():
        raise ValueError(f"is not a name; write 1 to {_NAME_MAX} printable characters")
    return value


def _release(value: str) -> str:
    if not _VERSION.fullmatch(value):
        raise ValueError("is not a release of Open WebUI; write one such as 0.12.4 (no v before it, no latest)")
    return value


class AdminSettings(Settings):
    """The first account, made at the first start; sign-up is closed then."""

    email: EmailAddress
    """Its e-mail address, which is its login."""

    name: Annotated[str, AfterValidator(_display_name)] = "Admin"
    """The name that others see."""

    password: Password | None = None
    """Its first password (8 characters to 72 bytes), encrypted: `pulumi config set --path --secret
    open_webui.admin.password`. Left out, one is made: `pulumi stack output admin_password --show-secrets`.
    Later it is changed in Open WebUI."""


class Downgrade(StrEnum):
    """What becomes of a version that cannot read what a later one has made of the database."""

    REFUSED = "refused"
    FROM_SNAPSHOT = "from-snapshot"


class UpgradeSettings(Settings):
    """What happens when another version is named. Until it has proved itself, nothing is lost."""

    timeout: Annotated[Duration, between_durations("1m", "12h")] = timedelta(minutes=30)
    """How long the new version may take to migrate the database and to answer. Then the old one comes back."""

    snapshot: bool = True
    """Whether database and vector store are copied first, which is what an upgrade that fails is undone with. Without
    it a version that fails after its migration leaves you with your own backup."""

    downgrade: Downgrade = Downgrade.REFUSED
    """What becomes of an earlier version that cannot read the database any more. `from-snapshot`: it gets the snapshot
    that was taken before the last upgrade, and what was written since is lost."""


class OpenWebUISettings(Settings):
    """The application."""

    version: Annotated[str, AfterValidator(_release)] = OPEN_WEBUI_VERSION
    """Release of Open WebUI."""

    replicas: Annotated[int, Field(ge=1, le=32)] = 1
    """How many containers of it share the work. More than one needs data.postgres and data.redis."""

    drain: Annotated[Duration, between_durations("10s", "1h")] = timedelta(minutes=10)
    """How long a replica that is to end may go on with the answers that it has begun; it gets no new requests meanwhile
    where there is another. It ends as soon as they are complete."""

    upgrade: UpgradeSettings = UpgradeSettings()
    """What happens when another version is named."""

    admin: AdminSettings | None = None
    """The first account. Left out, whoever signs up first is the administrator; only allowed on loopback."""

    secret_key: SecretKey | None = None
    """The key that signs sessions and encrypts what others entrusted to it (16 to 1024 bytes, printable), encrypted:
    `pulumi config set --path --secret open_webui.secret_key`. For who brings data that belongs to a key. Left out, one
    is made and kept in the stack's state; it stays there while this is set, so that dropping this returns to it. A
    change signs everybody out."""

    secret_key_generation: Annotated[int, Field(ge=1, le=1000)] = 1
    """Which of the stack's own keys is used: the next number is a new one, for when others may know the one in use.
    Everybody signs in again; what is saved under an earlier one is written anew. With `secret_key` set none of them is
    used, and the number stays as it is for what they have encrypted."""

    former_secret_keys: tuple[SecretKey, ...] = ()
    """Keys of one's own that are no longer used, encrypted: what is saved under one of them (tokens of providers and
    tools, second factors, valves) is written anew under the one in use. A key is retired by moving it here from
    `secret_key`, and dropped after the next update."""

    oidc: OidcSettings | None = None
    """A provider at which people sign in. Left out: with a password, or as `environment` says."""

    certificate_authorities: CertificatesPem | None = None
    """Authorities that the application trusts beside the well-known ones, in PEM form: the company's own, which vouches
    for the provider of sign-in, for models, for whatever else it calls."""

    environment: dict[Annotated[str, AfterValidator(_variable)], Annotated[str, AfterValidator(_variable_value)]] = (
        Field(default_factory=dict)
    )
    """Further variables from Open WebUI's reference, as text. Variables that the program sets are refused. One that
    Open WebUI copies into its saved settings belongs to the stack from then on. One that holds a secret is encrypted,
    such as `pulumi config set --path --secret open_webui.environment.S3_SECRET_ACCESS_KEY`."""

    memory: Annotated[Bytes, between_bytes("512MiB", "1024GiB")] = 4 << 30
    """Memory limit of each replica."""

    @model_validator(mode="after")
    def _identity_headers_are_names_of_headers(self) -> Self:
        for name, value in self.environment.items():
            if _NAMES_A_HEADER.fullmatch(name) and not _HEADER.fullmatch(value):
                raise BelowError(
                    f"environment.{name}",
                    "is not the name of a header; write letters, digits and hyphens, such as X-User-Email",
                )
        return self

    @model_validator(mode="after")
    def _one_key_is_in_use(self) -> Self:
        if self.secret_key is not None and self.secret_key in self.former_secret_keys:
            raise BelowError("former_secret_keys", "names the key in use; drop it here, or drop secret_key")
        return self

    @model_validator(mode="after")
    def _a_provider_is_said_once(self) -> Self:
        if self.oidc is None:
            return self
        refuse(
            BelowError(
                f"environment.{name}",
                "is set by the program where there is open_webui.oidc; drop it"
                + (f" and use open_webui.oidc.{setting}" if setting else " (the provider's settings are the stack's)"),
            )
            for name, setting in SHARED_WITH_OTHERS.items()
            if name in self.environment
        )
        if self.oidc.only and self.admin is not None and not self.oidc.lets_administrators_in:
            raise BelowError(
                "oidc.only",
                "is true, and nobody who comes by the provider is an administrator; add merge_by_email: true (the"
                " account of admin.email is theirs who has that address), or roles.admin, or drop only",
            )
        return self

    @property
    def identity_headers(self) -> tuple[str, ...]:
        """Request headers by which the application lets a sign-in proxy say who somebody is."""
        return tuple(value for name, value in self.environment.items() if _NAMES_A_HEADER.fullmatch(name))
