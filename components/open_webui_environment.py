"""The application's environment variables for sign-in with OpenID Connect."""

from collections.abc import Sequence
from typing import NotRequired, TypedDict

import pulumi


class RoleArgs(TypedDict):
    """Roles from the provider's claims."""

    claim: pulumi.Input[str]
    allowed: Sequence[str]
    admin: Sequence[str]


class GroupArgs(TypedDict):
    """Groups from the provider's claims."""

    claim: pulumi.Input[str]
    create: bool


class OidcArgs(TypedDict):
    """An OpenID Connect provider."""

    issuer: str
    client_id: pulumi.Input[str]
    client_secret: pulumi.Input[str]
    name: pulumi.Input[str]
    """Label of the sign-in button."""
    scopes: Sequence[str]
    allow_signup: bool
    """Whether users without an account get one."""
    merge_by_email: bool
    """Whether a user with the e-mail address of an existing account gets that account."""
    allowed_domains: NotRequired[Sequence[str]]
    """E-mail domains. Left out: all."""
    roles: NotRequired[RoleArgs]
    """Left out: the admin panel's."""
    groups: NotRequired[GroupArgs]
    """Left out: the admin panel's."""
    disable_password_login: bool
    """Whether sign-in with a password is disabled."""


def redirect_uri(url: str) -> str:
    """Return the redirect URI, which must be registered at the provider."""
    return f"{url}/oauth/oidc/login/callback"


def variables_of(args: OidcArgs, url: str) -> dict[str, pulumi.Input[str]]:
    """Return the application's variables; `url` is the site's, without a path."""
    variables: dict[str, pulumi.Input[str]] = {
        "OPENID_PROVIDER_URL": f"{args['issuer'].rstrip('/')}/.well-known/openid-configuration",
        "OPENID_REDIRECT_URI": redirect_uri(url),
        "OAUTH_CLIENT_ID": args["client_id"],
        "OAUTH_CLIENT_SECRET": args["client_secret"],
        "OAUTH_PROVIDER_NAME": args["name"],
        "OAUTH_SCOPES": " ".join(args["scopes"]),
        "ENABLE_OAUTH_SIGNUP": _word(args["allow_signup"]),
        "OAUTH_MERGE_ACCOUNTS_BY_EMAIL": _word(args["merge_by_email"]),
        "OAUTH_ALLOWED_DOMAINS": ",".join(args.get("allowed_domains", ())) or "*",
        # The stack's settings override the admin panel's copies of these variables.
        "ENABLE_OAUTH_PERSISTENT_CONFIG": "false",
        "ENABLE_OAUTH_ROLE_MANAGEMENT": _word("roles" in args),
        "ENABLE_OAUTH_GROUP_MANAGEMENT": _word("groups" in args),
        # The login form, and its API.
        "ENABLE_LOGIN_FORM": _word(not args["disable_password_login"]),
        "ENABLE_PASSWORD_AUTH": _word(not args["disable_password_login"]),
    }
    if "roles" in args:
        variables |= {
            "OAUTH_ROLES_CLAIM": args["roles"]["claim"],
            "OAUTH_ROLES_SEPARATOR": ",",
            "OAUTH_ALLOWED_ROLES": ",".join(args["roles"]["allowed"]),
            "OAUTH_ADMIN_ROLES": ",".join(args["roles"]["admin"]),
        }
    if "groups" in args:
        variables |= {
            "OAUTH_GROUPS_CLAIM": args["groups"]["claim"],
            "ENABLE_OAUTH_GROUP_CREATION": _word(args["groups"]["create"]),
        }
    return variables


DEFAULTS = {
    # PKCE: an intercepted authorization code cannot be used (RFC 7636).
    "OAUTH_CODE_CHALLENGE_METHOD": "S256",
    # Browsers silently drop a cookie of more than 4 KiB, and the sign-in fails; the application also stores the token
    # in its database.
    "ENABLE_OAUTH_ID_TOKEN_COOKIE": "false",
}
"""Defaults that the settings may override."""


def _word(statement: bool) -> str:  # noqa: FBT001 - the value to write
    return "true" if statement else "false"
