"""Sign-in at an OpenID Connect provider: some twenty variables become one setting."""

from open_webui_edge.cli.importing.translation import Secret, Translation, written
from open_webui_edge.settings.oidc import SHARED_WITH_OTHERS

_PATH = "open_webui.oidc"
_DISCOVERY = "/.well-known/openid-configuration"
_OWN = {
    "OPENID_PROVIDER_URL": "issuer", "OAUTH_CLIENT_ID": "client_id", "OAUTH_CLIENT_SECRET": "client_secret",
    "OAUTH_PROVIDER_NAME": "name", "OAUTH_SCOPES": "scopes",
}  # fmt: skip
"""Variable -> setting below open_webui.oidc; the first three are required."""


def translate(t: Translation) -> set[str]:
    """Write the provider, if there is one; return the translated names."""
    source = t.source
    own = {name for name in (*_OWN, "OPENID_REDIRECT_URI") if name in source.variables}
    shared = {name for name in SHARED_WITH_OTHERS if name in source.variables}
    missing = [name for name in list(_OWN)[:3] if not source.value(name)]
    if missing:
        public = missing == ["OAUTH_CLIENT_SECRET"] and bool(source.value("OAUTH_CODE_CHALLENGE_METHOD"))
        of_public = f"is of a client without a secret; {_PATH} needs one with a secret"
        why = of_public if public else f"has no effect without {' and '.join(missing)}"
        for name in filter(t.given, sorted(own)):
            t.dropped(name, why)
        if public:
            t.to_do.append(
                f"Sign-in at {source.value('OPENID_PROVIDER_URL')} works without a client's secret so far (PKCE), and"
                f" {_PATH} needs a client that has one: create a secret at the provider and write {_PATH}, or sign-in"
                " there stops working."
            )
        return own
    oidc = {
        "issuer": source.value("OPENID_PROVIDER_URL").rstrip("/").removesuffix(_DISCOVERY),
        "client_id": source.value("OAUTH_CLIENT_ID"),
        "client_secret": Secret(source.value("OAUTH_CLIENT_SECRET")),
        **_filled(name=source.value("OAUTH_PROVIDER_NAME")),
        **({"scopes": source.value("OAUTH_SCOPES").split()} if source.value("OAUTH_SCOPES") else {}),
        # By default, Open WebUI lets only users with an account in.
        "allow_signup": _says(t, "ENABLE_OAUTH_SIGNUP"),
        "merge_by_email": _says(t, "OAUTH_MERGE_ACCOUNTS_BY_EMAIL"),
        **_who(t),
    }
    t.put(_PATH, oidc)
    for name in (one for one in source.variables if one in own):
        if name == "OPENID_REDIRECT_URI":
            t.derived(name, "follows from site.domain; see the stack's output `oidc`")
        elif t.given(name):
            t.part(name, _PATH, f"{_OWN[name]}: {written(oidc[_OWN[name]])}")
    for name in (one for one in source.variables if one in shared):
        _shared(t, name)
    for name in ("ENABLE_PASSWORD_AUTH", "ENABLE_LOGIN_FORM"):
        if source.value(name).lower() == "false":
            t.setting(name, f"{_PATH}.only", value=True)
            break
    return own | shared


def _says(t: Translation, name: str) -> bool:
    return t.source.value(name).strip().lower() == "true"


def _list(t: Translation, name: str) -> list[str]:
    return [one.strip() for one in t.source.value(name).split(",") if one.strip()]


def _who(t: Translation) -> dict[str, object]:
    domains = _list(t, "OAUTH_ALLOWED_DOMAINS")
    who = _filled(allowed_domains=[] if domains == ["*"] else domains)
    if _says(t, "ENABLE_OAUTH_ROLE_MANAGEMENT"):
        allowed, admin = _list(t, "OAUTH_ALLOWED_ROLES"), _list(t, "OAUTH_ADMIN_ROLES")
        who["roles"] = _filled(claim=t.source.value("OAUTH_ROLES_CLAIM"), allowed=allowed, admin=admin)
    if _says(t, "ENABLE_OAUTH_GROUP_MANAGEMENT"):
        claim = t.source.value("OAUTH_GROUPS_CLAIM") or t.source.value("OAUTH_GROUP_CLAIM")
        who["groups"] = _filled(claim=claim, create=_says(t, "ENABLE_OAUTH_GROUP_CREATION"))
    return who


def _filled(**values: object) -> dict[str, object]:
    """Return those that are neither empty nor off."""
    return {name: value for name, value in values.items() if value}


def _shared(t: Translation, name: str) -> None:
    value, place = t.given(name), SHARED_WITH_OTHERS[name]
    of = place.partition(".")[0]
    if not value:
        return
    if not place:
        t.derived(name, "the provider's settings are the stack's")
    elif place == "only":
        if value.lower() != "false":
            t.derived(name, f"true unless {_PATH}.only is")
        elif name == "ENABLE_LOGIN_FORM" and t.source.value("ENABLE_PASSWORD_AUTH").lower() == "false":
            t.derived(name, f"follows from {_PATH}.only")
    elif of in {"roles", "groups"} and t.get(f"{_PATH}.{of}") is None:
        t.dropped(name, f"has no effect unless {of} come from the provider")
    elif value == "*" and place == "allowed_domains":
        t.derived(name, "all, where none is named")
    else:
        t.part(name, _PATH, f"{place}: {value}")
