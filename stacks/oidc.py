"""Sign-in at a provider that speaks OpenID Connect: which, as whom, and who may come in."""

import re
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, WithJsonSchema, model_validator

from stacks.values import BelowError, Host, HttpsUrl, Settings, is_ip_address

_DISCOVERY = "/.well-known/openid-configuration"
# RFC 6749 section 3.3 (scope-token) and appendix A.1 and A.2 (client-id, client-secret): visible ASCII.
_SCOPE = re.compile(r"[!#-\[\]-~]{1,128}")
_CLIENT = re.compile(r"[ -~]{1,512}")
_NAME_MAX = 64
_OPENID = "openid"

SHARED_WITH_OTHERS = {
    "ENABLE_LOGIN_FORM": "only",
    "ENABLE_OAUTH_GROUP_CREATION": "groups.create",
    "ENABLE_OAUTH_GROUP_MANAGEMENT": "groups",
    "ENABLE_OAUTH_PERSISTENT_CONFIG": "",
    "ENABLE_OAUTH_ROLE_MANAGEMENT": "roles",
    "ENABLE_OAUTH_SIGNUP": "allow_signup",
    "ENABLE_PASSWORD_AUTH": "only",
    "OAUTH_ADMIN_ROLES": "roles.admin",
    "OAUTH_ALLOWED_DOMAINS": "allowed_domains",
    "OAUTH_ALLOWED_ROLES": "roles.allowed",
    "OAUTH_GROUPS_CLAIM": "groups.claim",
    "OAUTH_GROUP_CLAIM": "groups.claim",
    "OAUTH_MERGE_ACCOUNTS_BY_EMAIL": "merge_by_email",
    "OAUTH_ROLES_CLAIM": "roles.claim",
    "OAUTH_ROLES_SEPARATOR": "",
}
"""Variables that the program sets where there is a provider, and the setting below open_webui.oidc that each follows
from. Without it they are for providers of another kind (GitHub)."""


def _issuer(value: str) -> str:
    if value.rstrip("/").endswith(_DISCOVERY):
        raise ValueError(f"is where an issuer describes itself; write the issuer alone, without {_DISCOVERY}")
    if urlsplit(value).query:
        raise ValueError("has a query, which no issuer has (OpenID Connect Discovery 1.0); drop ? and what follows it")
    return value


def _scope(value: str) -> str:
    if not _SCOPE.fullmatch(value):
        raise ValueError("is not a scope; write one word a scope, such as email")
    return value


def _client_id(value: str) -> str:
    if not _CLIENT.fullmatch(value) or value != value.strip():
        raise ValueError("is not a client's id; copy it as the provider shows it, without blanks around it")
    return value


def _client_secret(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not _CLIENT.fullmatch(text) or text != text.strip():
        raise ValueError("is not a client's secret; copy it as the provider showed it, one line without blanks around")
    return value


def _label(value: str) -> str:
    if not 1 <= len(value) <= _NAME_MAX or not value.isprintable():
        raise ValueError(f"is not a name; write 1 to {_NAME_MAX} printable characters")
    return value


def _role(value: str) -> str:
    if not value.isprintable() or value != value.strip() or not value or "," in value:
        raise ValueError("is not a role; write it as the provider names it: no comma, no blanks around it")
    return value


def _claim(value: str) -> str:
    if not value.isprintable() or value != value.strip() or not value:
        raise ValueError("is not a claim; write its name, with dots where it lies deeper: realm_access.roles")
    return value


def _mail_domain(value: str) -> str:
    if is_ip_address(value):
        raise ValueError("is an address; write what follows the @ of an e-mail address, such as example.com")
    return value


Claim = Annotated[str, AfterValidator(_claim)]
Role = Annotated[str, AfterValidator(_role)]
MailDomain = Annotated[Host, AfterValidator(_mail_domain), WithJsonSchema({"type": "string", "format": "hostname"})]


class RoleSettings(Settings):
    """Roles that the provider says, which decide who comes in and as what, anew at each sign-in."""

    claim: Claim = "roles"
    """The claim that holds them, in the ID token or at the userinfo endpoint; with dots where it lies deeper."""

    allowed: tuple[Role, ...] = ("user",)
    """Whoever has one of these is a user; `*` is everybody. Whoever has roles, but none of these or of `admin`, is
    turned away. Of whom the provider says no role at all, a new one waits for an administrator."""

    admin: tuple[Role, ...] = ("admin",)
    """Whoever has one of these is an administrator."""


class GroupSettings(Settings):
    """Groups that the provider says: at each sign-in a person joins those and leaves the others."""

    claim: Claim = "groups"
    """The claim that holds them."""

    create: bool = False
    """Make groups that Open WebUI does not have yet; otherwise they are passed over."""


class OidcSettings(Settings):
    """A provider that says who somebody is. The address to enter there is the stack's output `oidc`."""

    issuer: Annotated[HttpsUrl, AfterValidator(_issuer)]
    """Its address, such as https://auth.example.com/realms/staff: what it calls its issuer. Browsers and the
    application both reach it by this name."""

    client_id: Annotated[str, AfterValidator(_client_id)]
    """The name by which the provider knows this application."""

    client_secret: Annotated[SecretStr, AfterValidator(_client_secret)]
    """The secret that goes with it, encrypted: `pulumi config set --path --secret open_webui.oidc.client_secret`."""

    name: Annotated[str, AfterValidator(_label)] = "SSO"
    """What the button says: Continue with …."""

    scopes: tuple[Annotated[str, AfterValidator(_scope)], ...] = (_OPENID, "email", "profile")
    """What the application asks to know; `openid` is among them."""

    allow_signup: bool = True
    """Whether somebody without an account gets one at the first sign-in. It waits for an administrator, unless roles or
    the admin panel's default say otherwise."""

    merge_by_email: bool = False
    """Whether whoever comes with the e-mail address of an existing account gets that account. Only for a provider that
    lets nobody claim the address of somebody else."""

    allowed_domains: Annotated[tuple[MailDomain, ...], Field(max_length=256)] = ()
    """E-mail domains from which people may come. Default: all."""

    roles: RoleSettings | None = None
    """Left out: roles are given in the admin panel."""

    groups: GroupSettings | None = None
    """Left out: groups are kept in the admin panel."""

    only: bool = False
    """Whether there is no other way in: the form for a password disappears, and the API takes none either."""

    @model_validator(mode="after")
    def _asks_for_openid(self) -> Self:
        if _OPENID not in self.scopes:
            raise BelowError(
                "scopes", f"{', '.join(self.scopes)} lacks {_OPENID}, without which it is not OIDC; add it"
            )
        return self

    @property
    def lets_administrators_in(self) -> bool:
        """Whether somebody who comes by this provider can be an administrator."""
        return self.merge_by_email or (self.roles is not None and bool(self.roles.admin))
