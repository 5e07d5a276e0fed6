"""What the application is told about the provider at which people sign in."""

from collections.abc import Sequence
from typing import NotRequired, TypedDict

import pulumi


class RoleArgs(TypedDict):
    """Roles that the provider says."""

    claim: pulumi.Input[str]
    allowed: Sequence[str]
    admin: Sequence[str]


class GroupArgs(TypedDict):
    """Groups that the provider says."""

    claim: pulumi.Input[str]
    create: bool


class OidcArgs(TypedDict):
    """A provider that speaks OpenID Connect."""

    issuer: str
    client_id: pulumi.Input[str]
    client_secret: pulumi.Input[str]
    name: pulumi.Input[str]
    """What the button says."""
    scopes: Sequence[str]
    allow_signup: bool
    """Whether somebody without an account gets one."""
    merge_by_email: bool
    """Whether whoever comes with the e-mail address of an account gets that."""
    allowed_domains: NotRequired[Sequence[str]]
    """E-mail domains. Left out: all."""
    roles: NotRequired[RoleArgs]
    """Left out: the admin panel's."""
    groups: NotRequired[GroupArgs]
    """Left out: the admin panel's."""
    only: bool
    """Whether there is no way in by a password."""


def redirect_uri(url: str) -> str:
    """Return the address to which the provider sends a browser back; it must know it."""
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
        # The panel's copies of these variables are not asked for: what the stack says counts.
        "ENABLE_OAUTH_PERSISTENT_CONFIG": "false",
        "ENABLE_OAUTH_ROLE_MANAGEMENT": _word("roles" in args),
        "ENABLE_OAUTH_GROUP_MANAGEMENT": _word("groups" in args),
        # The form that is not shown, and the API behind it.
        "ENABLE_LOGIN_FORM": _word(not args["only"]),
        "ENABLE_PASSWORD_AUTH": _word(not args["only"]),
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
    # A code that somebody else reads on its way is of no use to them (RFC 7636).
    "OAUTH_CODE_CHALLENGE_METHOD": "S256",
    # Browsers drop a cookie of more than 4 KiB without a word, and with it the rest of the answer's sign-in; the
    # application keeps the token in its database.
    "ENABLE_OAUTH_ID_TOKEN_COOKIE": "false",
}
"""Variables that a person may set otherwise."""


def _word(statement: bool) -> str:  # noqa: FBT001 - it is what is written
    return "true" if statement else "false"
