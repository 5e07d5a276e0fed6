"""Translates each variable of Open WebUI."""

import re
from collections.abc import Callable
from copy import deepcopy
from itertools import zip_longest

from open_webui_edge.cli.importing import sign_in
from open_webui_edge.cli.importing.translation import EMPTY, Secret, Translation, masked
from open_webui_edge.settings.open_webui import DERIVED_VARIABLES
from open_webui_edge.settings.proxy import ReferrerPolicy

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPENAI = "https://api.openai.com/v1"
_COMPOSE = "is compose's own"
_SHORTEST_KEY = 16
_OF_THE_IMAGE = {
    "USE_OLLAMA_DOCKER", "USE_CUDA_DOCKER", "USE_CUDA_DOCKER_VER", "USE_EMBEDDING_MODEL_DOCKER", "USE_SLIM_DOCKER",
    "USE_RERANKING_MODEL_DOCKER", "DOCKER", "WEBUI_BUILD_VERSION", "OLLAMA_MODELS", "USE_PERMISSION_HARDENING",
}  # fmt: skip
_TOOLS = {
    "VIRTUAL_PORT": "nginx-proxy's; this deployment's proxy knows where Open WebUI listens",
    "VIRTUAL_PROTO": "nginx-proxy's; this deployment's proxy knows how Open WebUI listens",
    "NETWORK_ACCESS": "nginx-proxy's; site.listen.address says who gets in",
    "HTTPS_METHOD": "nginx-proxy's; plain HTTP is redirected to HTTPS",
    "PUID": "another image's; the container runs as its image says",
    "PGID": "another image's; the container runs as its image says",
}
_SWITCHES: dict[str, tuple[str, str, object]] = {
    "ENABLE_WEBSOCKET_SUPPORT": ("true by itself (proxy.websocket.enabled)", "proxy.websocket.enabled", False),
    "ENABLE_OLLAMA_API": ("true where models.ollama.mode is not none", "models.ollama", {"mode": "none"}),
    "ENABLE_OPENAI_API": ("true where models.providers has any", "models.providers", []),
}
"""What is said of one that is on, and the setting that switches it off."""
_TRUE = {"true", "1", "yes", "on"}


def translate(t: Translation) -> None:
    """Go through all of them; each gets exactly one row."""
    translated = sign_in.translate(t)
    for name in t.source.variables:
        if name in _LATER or name in translated:
            continue
        _one(t, name, t.source.value(name))
    _providers(t)
    _administrator(t)
    for name, one in t.source.interpolated.items():
        t.derived(name, f"stands in {t.source.sources[0]} as ${{{name}}}, and went where that went ({one.origin})")
    for name, one in t.source.unused.items():
        why = f"no service was given it: of {one.origin} compose takes only what a file names as ${{{name}}}"
        t.dropped(name, _COMPOSE if name.startswith("COMPOSE_") else why)


def _one(t: Translation, name: str, value: str) -> None:
    if not _VARIABLE.fullmatch(name):
        t.dropped(name, "is not a name that a variable can have")
    elif name in DERIVED_VARIABLES and not value:
        t.dropped(name, EMPTY)
    elif name in _HANDLERS:
        _HANDLERS[name](t, name, value)
    elif name in DERIVED_VARIABLES:
        source = DERIVED_VARIABLES[name]
        nothing = source.removeprefix("nothing: ")
        t.derived(name, nothing if nothing != source else f"follows from {source}")
    elif name in _OF_THE_IMAGE:
        t.dropped(name, "describes how an image was built; the released one is run")
    elif name in _TOOLS or name.startswith("COMPOSE_"):
        t.dropped(name, _TOOLS.get(name, _COMPOSE))
    else:
        _pass_on(t, name, value)


def _pass_on(t: Translation, name: str, value: str) -> None:
    why = ""
    if re.match(r"[a-z][a-z0-9+.-]*://", value) and ";" not in value:
        value, why = t.reachable_url(value, from_the_host=t.source.on_the_host or t.source.on_host_network)
    if name.startswith("WEBUI_AUTH_TRUSTED_"):
        why = "removed from all requests except those from proxy.identity_headers_from"
        if not any(one.startswith("Identity headers") for one in t.to_do):
            t.to_do.append(
                "Identity headers of requests (WEBUI_AUTH_TRUSTED_…) are accepted only from configured proxies: write"
                " the addresses of that proxy into proxy.identity_headers_from, or let this one ask it"
                " (proxy.authentication.external)."
            )
    t.passed(name, value, why)


def _cors(t: Translation, name: str, value: str) -> None:
    if value.strip() == "*":
        t.derived(name, "it allowed every origin; now only the site's own names are allowed (and proxy.cors)")
        return
    own, others = [], []
    hosts = {t.get("site.domain"), *(t.get("site.aliases") or ()), "localhost", "127.0.0.1", None}
    for origin in dict.fromkeys(one.strip().rstrip("/") for one in value.split(";") if one.strip()):
        match = re.fullmatch(r"(https?)://(\[[^\]]+\]|[^:/]+)(?::(\d+))?", origin)
        if match is None:
            t.dropped(f"{name}: {origin}", "is not an origin; CORS_ALLOW_CUSTOM_SCHEME allows other schemes")
        elif match[2].strip("[]").lower() in hosts:
            own.append(origin)
        else:
            others.append(origin.removesuffix(":443" if match[1] == "https" else ":80"))
    if others:
        t.setting(name, "proxy.cors.allowed_origins", others, "the site's own names are always allowed")
    elif own:
        t.derived(name, "its origins are the site's own names, which are always allowed")


def _upload(t: Translation, name: str, value: str) -> None:
    if value.strip().isdigit() and int(value) > 0:
        t.setting(name, "proxy.limits.max_upload", f"{int(value)}MiB")
    else:
        t.dropped(name, f'"{value}" is not a number of MiB; proxy.limits.max_upload is 1GiB')


def _switch(t: Translation, name: str, value: str) -> None:
    on, path, off = _SWITCHES[name]
    if value.strip().lower() in _TRUE:
        t.derived(name, on)
    else:
        t.setting(name, path, deepcopy(off))


def _same_site(t: Translation, name: str, value: str) -> None:
    lax = "lax: strict would lose the cookie on the way back from an identity provider"
    none = "lax; none follows from proxy.embedding.allowed_origins, for pages that show the site in a frame"
    t.derived(name, none if value.strip().lower() == "none" else lax)


def hsts(t: Translation, what: str, value: str, without_time: str = "") -> None:
    """Write a Strict-Transport-Security header, or the reason if it says no time."""
    match = re.search(r"max-age\s*=\s*\"?(\d+)", value, re.IGNORECASE)
    if match is None:
        t.dropped(what, without_time or f'"{value}" has no max-age; set proxy.headers.hsts')
        return
    seconds = int(match[1])
    written: dict[str, object] = {"enabled": seconds > 0}
    if seconds:
        written["max_age"] = f"{seconds}s" if seconds % 86400 else f"{seconds // 86400}d"
        for word, key in (("includesubdomains", "include_subdomains"), ("preload", "preload")):
            if word in value.lower():
                written[key] = True
    t.setting(what, "proxy.headers.hsts", written)


def _reported_policy(t: Translation, name: str, value: str) -> None:
    if t.get("proxy.headers.content_security_policy"):
        t.dropped(name, "only one policy is supported, and CONTENT_SECURITY_POLICY is enforced")
    else:
        content_policy(t, name, value, "report-only")


def content_policy(t: Translation, what: str, value: str, mode: str = "enforce") -> None:
    """Write a policy; who may frame the site is a setting of its own."""
    parts = [part.strip() for part in value.split(";") if part.strip()]
    remaining = [part for part in parts if not part.lower().startswith("frame-ancestors")]
    ancestors = [origin for part in parts if part not in remaining for origin in part.split()[1:]]
    framing = [origin for origin in ancestors if origin.startswith("http")]
    if remaining:
        why = "frame-ancestors follows from proxy.embedding" if len(remaining) < len(parts) else ""
        t.setting(what, "proxy.headers.content_security_policy", {"mode": mode, "policy": "; ".join(remaining)}, why)
    else:
        t.derived(what, "frame-ancestors follows from proxy.embedding")
    if framing:
        t.setting(f"{what}: frame-ancestors", "proxy.embedding.allowed_origins", framing)


def referrer_policy(t: Translation, what: str, value: str) -> None:
    """Write it, where it is one that says no more than a site should."""
    if value.strip().lower() in list(ReferrerPolicy):
        t.setting(what, "proxy.headers.referrer_policy", value.strip().lower())
    else:
        t.dropped(
            what, f'"{value}" reveals the URLs of chats to other sites; proxy.headers.referrer_policy is stricter'
        )


def permissions_policy(t: Translation, what: str, value: str) -> None:
    """Write it, unless it takes the voice away."""
    if re.search(r"microphone\s*=\s*\(\s*\)", value):
        t.dropped(what, "microphone=() switches voice off; proxy.headers.permissions_policy has one that does not")
    else:
        t.setting(what, "proxy.headers.permissions_policy", value.strip())


def _providers(t: Translation) -> None:
    """OPENAI_API_BASE_URL(S) and OPENAI_API_KEY(S), lists with semicolons between, are one list of both."""
    source = t.source
    urls_name = source.first("OPENAI_API_BASE_URLS", "OPENAI_API_BASE_URL")
    keys_name = source.first("OPENAI_API_KEYS", "OPENAI_API_KEY")
    off = source.value("ENABLE_OPENAI_API").lower() not in {"", *_TRUE}
    providers: list[dict[str, str]] = []
    for one in [] if off else _paired(t, source.value(urls_name or ""), source.value(keys_name or "")):
        if masked(one["url"]) == one["url"]:
            providers.append(one)
        else:
            t.dropped(
                f"provider {masked(one['url'])}",
                "its URL contains a user name or password, which no setting accepts; write it into models.providers"
                " without them, and its key as api_key",
            )
    if providers:
        t.put("models.providers", providers)
        t.to_do.append(
            "models.providers overwrites the connections of the admin panel (Settings, Connections) at each start;"
            " remove it from the stack file to manage them in the panel."
        )
    urls = ", ".join(one["url"] for one in providers)
    said = {urls_name: urls, keys_name: "api_key (encrypted)" + ("" if urls_name else f", of {urls}")}
    for name in ("OPENAI_API_BASE_URLS", "OPENAI_API_BASE_URL", "OPENAI_API_KEYS", "OPENAI_API_KEY"):
        if not t.given(name):
            continue
        if not providers:
            why = "ENABLE_OPENAI_API switches these providers off" if off else "none of its providers is imported"
            t.dropped(name, why)
        elif name in said:
            t.part(name, "models.providers", said[name])
        else:
            t.dropped(name, f"{urls_name if 'URL' in name else keys_name} overrides it, in Open WebUI too")


def _paired(t: Translation, urls: str, keys: str) -> list[dict[str, str]]:
    on_the_host = t.source.on_the_host or t.source.on_host_network
    pairs = zip_longest(urls.split(";"), keys.split(";"), fillvalue="")
    return [
        {
            "url": t.reachable_url(url.strip() or _OPENAI, from_the_host=on_the_host)[0],
            **({"api_key": Secret(key.strip())} if key.strip() else {}),
        }
        for url, key in pairs
        if url.strip() or key.strip()
    ]


def _administrator(t: Translation) -> None:
    email, password = t.source.value("WEBUI_ADMIN_EMAIL"), t.source.value("WEBUI_ADMIN_PASSWORD")
    if email:
        t.setting("WEBUI_ADMIN_EMAIL", "open_webui.admin.email", email)
    elif t.facts.administrator:
        why = "the account is there; its password stays"
        t.setting("(the first administrator)", "open_webui.admin.email", t.facts.administrator, why)
    for name, path, value in (
        ("WEBUI_ADMIN_NAME", "open_webui.admin.name", t.source.value("WEBUI_ADMIN_NAME")),
        ("WEBUI_ADMIN_PASSWORD", "open_webui.admin.password", Secret(password)),
    ):
        if t.given(name) and email:
            t.setting(name, path, value)
        elif value:
            t.dropped(name, "has no effect without WEBUI_ADMIN_EMAIL")
    t.given("WEBUI_ADMIN_EMAIL")
    if t.source.value("ENABLE_SIGNUP"):
        closed = "false: open_webui.admin closes sign-up, and administrators add people in the panel"
        open_so_far = "Open WebUI's own until open_webui.admin is set, which closes sign-up"
        t.derived("ENABLE_SIGNUP", closed if t.get("open_webui.admin.email") else open_so_far)


def secret_key(t: Translation) -> None:
    """The key that sessions and saved secrets hang on: given, or found in the old container."""
    source = t.source
    path = "open_webui.secret_key"
    named = [name for name in ("WEBUI_SECRET_KEY", "WEBUI_JWT_SECRET_KEY") if name in source.variables]
    given = source.first(*named)
    for name in named:
        value = source.value(name)
        if name != given:
            t.dropped(name, f"{given} overrides it, in Open WebUI too" if value else EMPTY)
        elif len(value.encode()) < _SHORTEST_KEY:
            t.dropped(name, f"is shorter than {_SHORTEST_KEY} bytes and could be guessed: a new key is generated")
            t.to_do.append(
                "All users sign in again, and saved credentials of tools must be entered again: the old key was too"
                " short."
            )
        else:
            t.setting(name, path, Secret(value), "sessions stay valid")
    if source.value("WEBUI_SECRET_KEY_FILE"):
        t.derived("WEBUI_SECRET_KEY_FILE", "the key itself is in the stack file, encrypted")
    if given is not None:
        return
    of_container = {} if t.existing is None else t.existing.variables
    elsewhere = of_container.get("WEBUI_SECRET_KEY") or of_container.get("WEBUI_JWT_SECRET_KEY")
    key = elsewhere or t.facts.secret_key or ""
    if t.existing is not None and len(key.encode()) >= _SHORTEST_KEY:
        where = "its variables" if elsewhere else source.value("WEBUI_SECRET_KEY_FILE") or ".webui_secret_key in it"
        t.setting(f"(the container {t.existing.name})", path, Secret(key), f"from {where}: sessions stay valid")
    elif source.data_mount is not None or t.existing is not None:
        why = "no container has it" if t.existing is None else f"the container {t.existing.name} does not have it"
        t.to_do.append(
            f"All users sign in again, since the key of their sessions is lost: no variable has it, and {why}."
            " If you have it: pulumi config set --path --secret open_webui.secret_key."
        )


_HANDLERS: dict[str, Callable[[Translation, str, str], None]] = {
    "CORS_ALLOW_ORIGIN": _cors,
    "RAG_FILE_MAX_SIZE": _upload,
    "WEBUI_SESSION_COOKIE_SAME_SITE": _same_site,
    "WEBUI_AUTH_COOKIE_SAME_SITE": _same_site,
    "HSTS": hsts,
    "CONTENT_SECURITY_POLICY": content_policy,
    "CONTENT_SECURITY_POLICY_REPORT_ONLY": _reported_policy,
    "REFERRER_POLICY": referrer_policy,
    "PERMISSIONS_POLICY": permissions_policy,
    **dict.fromkeys(_SWITCHES, _switch),
}
_LATER = {
    "OPENAI_API_BASE_URLS", "OPENAI_API_BASE_URL", "OPENAI_API_KEYS", "OPENAI_API_KEY", "WEBUI_ADMIN_EMAIL",
    "WEBUI_ADMIN_NAME", "WEBUI_ADMIN_PASSWORD", "ENABLE_SIGNUP", "WEBUI_SECRET_KEY", "WEBUI_JWT_SECRET_KEY",
    "WEBUI_SECRET_KEY_FILE", "WEBUI_URL", "VIRTUAL_HOST", "LETSENCRYPT_HOST", "LETSENCRYPT_EMAIL", "PORT",
    "DATABASE_URL", "DATABASE_TYPE", "DATABASE_HOST", "DATABASE_PORT", "DATABASE_NAME", "DATABASE_USER",
    "DATABASE_PASSWORD", "PGVECTOR_DB_URL", "PGVECTOR_INITIALIZE_MAX_VECTOR_LENGTH", "VECTOR_DB", "REDIS_URL",
    "WEBSOCKET_REDIS_URL", "OLLAMA_BASE_URL", "OLLAMA_BASE_URLS", "OLLAMA_API_BASE_URL", "DATA_DIR",
}  # fmt: skip
"""What other parts translate, where several belong together."""
