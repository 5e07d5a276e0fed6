"""Sign-in at an OpenID Connect provider."""

from collections.abc import Iterator
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr

from open_webui_edge.settings.faults import Fault
from open_webui_edge.settings.values import Host, HttpsUrl, Settings, is_ip_address, is_one_line, matching, require

_DISCOVERY = "/.well-known/openid-configuration"
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
        raise ValueError(f"is a discovery URL; write the issuer's URL, without {_DISCOVERY}")
    if urlsplit(value).query:
        raise ValueError(
            "contains a query, which an issuer must not have (OpenID Connect Discovery 1.0); remove ? and the text"
            " after it"
        )
    return value


# RFC 6749 section 3.3 (scope-token) and appendix A.1 and A.2 (client-id, client-secret): visible ASCII.
_SCOPE = matching(r"[!#-\[\]-~]{1,128}", "is not a scope; write one word per scope, such as email")
_CLIENT_ID = matching(
    "[!-~]([ -~]{0,510}[!-~])?", "is not a client ID; copy it from the provider, without spaces around it"
)
_CLIENT_SECRET = matching(
    "[!-~]([ -~]{0,510}[!-~])?",
    "is not a client secret; copy it from the provider, one line without spaces around it",
)
_CLAIM = require(is_one_line, "is not a claim; write its name, with dots if it is nested: realm_access.roles")
_ROLE = require(
    lambda name: is_one_line(name) and "," not in name,
    "is not a role; copy its name from the provider: no comma, no spaces around it",
)
_MAIL_DOMAIN = require(
    lambda host: not is_ip_address(host),
    "is an IP address; write the part of an e-mail address after the @, such as example.com",
)
_DISPLAY_NAME = require(
    lambda name: 1 <= len(name) <= _NAME_MAX and name.isprintable(),
    f"is not a valid name; write 1 to {_NAME_MAX} printable characters",
)

DisplayName = Annotated[str, _DISPLAY_NAME]
Claim = Annotated[str, _CLAIM]
Role = Annotated[str, _ROLE]


class RoleSettings(Settings):
    """Roles from the provider, which decide at each sign-in who may sign in and as what."""

    claim: Claim = "roles"
    """Claim that contains the roles, in the ID token or at the userinfo endpoint; with dots for a nested one. Without
    the section `roles` the provider's roles have no effect, and administrators assign roles in the admin panel."""

    allowed: tuple[Role, ...] = ("user",)
    """Roles that make a user; `*` allows everybody. Users with other roles only are refused. A new user without any
    role waits for an administrator's approval."""

    admin: tuple[Role, ...] = ("admin",)
    """Roles that make an administrator."""


class GroupSettings(Settings):
    """Groups from the provider: at each sign-in a user joins these and leaves all others."""

    claim: Claim = "groups"
    """Claim that contains the groups; with dots for a nested one. Without the section `groups` the provider's groups
    have no effect."""

    create: bool = False
    """Create groups that do not exist in Open WebUI; if false, they are ignored."""


class OidcSettings(Settings):
    """An OpenID Connect provider for sign-in. The redirect URI to register there is the stack's output `oidc`."""

    issuer: Annotated[HttpsUrl, AfterValidator(_issuer)]
    """Issuer URL of the provider, such as https://auth.example.com/realms/staff. Browsers and the application must both
    reach it under this URL."""

    client_id: Annotated[str, _CLIENT_ID]
    """Client ID of this application at the provider."""

    client_secret: Annotated[SecretStr, _CLIENT_SECRET]
    """Client secret, encrypted: `pulumi config set --path --secret open_webui.oidc.client_secret`."""

    name: DisplayName = "SSO"
    """Name of the provider on the sign-in button: Continue with …."""

    scopes: tuple[Annotated[str, _SCOPE], ...] = (_OPENID, "email", "profile")
    """Scopes that the application requests; `openid` must be among them."""

    allow_signup: bool = True
    """Create an account at the first sign-in of a new user. It waits for an administrator's approval, unless roles or
    the admin panel's default grant more."""

    merge_by_email: bool = False
    """Sign a user in to the existing account with the same e-mail address. Enable it only if the provider verifies
    e-mail addresses."""

    allowed_domains: Annotated[tuple[Annotated[Host, _MAIL_DOMAIN], ...], Field(max_length=256)] = ()
    """E-mail domains whose users may sign in. Default: all."""

    roles: RoleSettings | None = None
    """Roles from the provider. Default: administrators assign roles in the admin panel."""

    groups: GroupSettings | None = None
    """Groups from the provider. Default: administrators manage groups in the admin panel."""

    only: bool = False
    """Disable sign-in with a password: the form is hidden, and the API refuses passwords."""

    def _faults(self) -> Iterator[Fault]:
        if _OPENID not in self.scopes:
            yield Fault("scopes", f"{', '.join(self.scopes)} lacks {_OPENID}, which OpenID Connect requires; add it")
