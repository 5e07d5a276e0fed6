"""Headers that the proxy controls: stripped from requests, stripped from responses, and security headers."""

from collections.abc import Collection
from datetime import timedelta

from open_webui_edge.settings.proxy import ContentSecurityPolicyMode, ProxySettings

StrippedHeaders = tuple[str, tuple[str, ...]]
"""A reason, and the request headers that for it no client may send to the application."""

# A name with an underscore needs no entry: Nginx drops such headers (underscores_in_headers off, its default).
_STRIPPED: tuple[StrippedHeaders, ...] = (
    (
        "Alternatives to the headers above (RFC 7239, conventions of proxies), and httpoxy (CVE-2016-5385).",
        (
            "Forwarded",
            "X-Forwarded-Server",
            "X-Forwarded-Scheme",
            "X-Forwarded-Ssl",
            "X-Forwarded-Prefix",
            "X-Forwarded-Path",
            "X-Forwarded-Uri",
            "X-Original-Url",
            "X-Rewrite-Url",
            "X-Client-IP",
            "X-Cluster-Client-IP",
            "True-Client-IP",
            "CF-Connecting-IP",
            "Fastly-Client-IP",
            "X-Http-Method-Override",
            "Proxy",
        ),
    ),
    (
        "Identity headers of sign-in proxies: Open WebUI trusts those in its WEBUI_AUTH_TRUSTED_* variables.",
        (
            # oauth2-proxy, --pass-user-headers and --set-xauthrequest; Open WebUI's manual uses them too.
            "X-Forwarded-User",
            "X-Forwarded-Email",
            "X-Forwarded-Groups",
            "X-Forwarded-Preferred-Username",
            "X-Forwarded-Access-Token",
            "X-Auth-Request-User",
            "X-Auth-Request-Email",
            "X-Auth-Request-Groups",
            "X-Auth-Request-Preferred-Username",
            "X-Auth-Request-Access-Token",
            # Authelia, trusted header SSO.
            "Remote-User",
            "Remote-Email",
            "Remote-Name",
            "Remote-Groups",
            # authentik, proxy provider.
            "X-Authentik-Username",
            "X-Authentik-Email",
            "X-Authentik-Name",
            "X-Authentik-Groups",
            "X-Authentik-Uid",
            "X-Authentik-Jwt",
            # Cloudflare Access; Google's identity-aware proxy; AWS's load balancer; Tailscale Serve.
            "Cf-Access-Authenticated-User-Email",
            "Cf-Access-Jwt-Assertion",
            "X-Goog-Authenticated-User-Email",
            "X-Goog-Authenticated-User-Id",
            "X-Amzn-Oidc-Identity",
            "X-Amzn-Oidc-Data",
            "X-Amzn-Oidc-Accesstoken",
            "Tailscale-User-Login",
            "Tailscale-User-Name",
            # Grafana's and Gitea's auth proxy, also used by others.
            "X-WebAuth-User",
            "X-WebAuth-Email",
            "X-WebAuth-Name",
            "X-WebAuth-Groups",
            # The examples in Open WebUI's manual.
            "X-User-Email",
            "X-User-Name",
            "X-User-Groups",
            "X-User-Role",
        ),
    ),
)

KNOWN_STRIPPED_HEADERS = tuple(name for _, names in _STRIPPED for name in names)
"""All known request headers to strip."""

STRIPPED_RESPONSE_HEADERS = (
    # The proxy sets these itself.
    "Access-Control-Allow-Credentials",
    "Access-Control-Allow-Headers",
    "Access-Control-Allow-Methods",
    "Access-Control-Allow-Origin",
    "Access-Control-Expose-Headers",
    "Access-Control-Max-Age",
    "Cache-Control",
    "Content-Security-Policy",
    "Content-Security-Policy-Report-Only",
    "Permissions-Policy",
    "Referrer-Policy",
    "Strict-Transport-Security",
    "Vary",
    "X-Cache-Status",
    "X-Content-Type-Options",
    "X-Frame-Options",
    "X-Request-ID",
    # Implementation details of the application.
    "X-Powered-By",
    "X-Process-Time",
)
"""Response headers of the application that the proxy strips."""


def stripped_request_headers(identity_headers: Collection[str], passed: Collection[str]) -> list[StrippedHeaders]:
    """Return the headers to strip: the known and the stack's own, without those that are `passed` on."""
    known = {name.lower() for name in KNOWN_STRIPPED_HEADERS}
    # Each name once, whatever its case, in the given order.
    further = tuple({name.lower(): name for name in identity_headers if name.lower() not in known}.values())
    groups = (*_STRIPPED, ("Identity headers in this stack's environment.", further))
    exempt = {name.lower() for name in passed}
    return [
        (reason, left)
        for reason, names in groups
        if (left := tuple(name for name in names if name.lower() not in exempt))
    ]


def security_headers(proxy: ProxySettings) -> dict[str, str]:
    """Return the security headers of every response, without Strict-Transport-Security."""
    headers = proxy.headers
    ancestors = " ".join(["'self'", *proxy.embedding.allowed_origins])
    policy = headers.content_security_policy
    # frame-ancestors is always enforced, also in report-only mode.
    enforced = f"frame-ancestors {ancestors}"
    if policy.mode is ContentSecurityPolicyMode.ENFORCE:
        enforced = f"{policy.policy.rstrip('; ')}; {enforced}"
    values = {
        "Content-Security-Policy": enforced,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": str(headers.referrer_policy),
        "Permissions-Policy": headers.permissions_policy,
    }
    if policy.mode is ContentSecurityPolicyMode.REPORT_ONLY:
        values["Content-Security-Policy-Report-Only"] = policy.policy
    if not proxy.embedding.allowed_origins:
        # For clients without frame-ancestors; this header cannot name other origins.
        values["X-Frame-Options"] = "SAMEORIGIN"
    return values


def strict_transport_security(proxy: ProxySettings, *, trusted_certificate: bool) -> str:
    """Return the header's value; "" where it is not sent."""
    hsts = proxy.headers.hsts
    if not (trusted_certificate if hsts.enabled is None else hsts.enabled):
        return ""
    directives = [f"max-age={hsts.max_age // timedelta(seconds=1)}"]
    directives += ["includeSubDomains"] if hsts.include_subdomains else []
    directives += ["preload"] if hsts.preload else []
    return "; ".join(directives)
