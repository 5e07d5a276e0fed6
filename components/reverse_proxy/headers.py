"""Headers that the proxy owns: which no client may say, which the application may not, and what is said instead."""

from dataclasses import dataclass
from datetime import timedelta

from stacks.proxy import ContentSecurityPolicyMode, ProxySettings


@dataclass(frozen=True)
class ClearedHeaders:
    """Request headers that no client may send to the application."""

    reason: str
    names: tuple[str, ...]


# A name with an underscore needs no entry: Nginx drops such headers (underscores_in_headers off, its default).
_CLEARED = (
    ClearedHeaders(
        "Other ways to say what is said above (RFC 7239 and the customs of proxies), and httpoxy (CVE-2016-5385).",
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
    ClearedHeaders(
        "Who somebody is, as sign-in proxies say it: Open WebUI believes what its WEBUI_AUTH_TRUSTED_* name.",
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
            # Grafana's and Gitea's proxy sign-in, taken up by others.
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

CLEARED_HEADERS = tuple(name for group in _CLEARED for name in group.names)
"""The names of all of them."""

HIDDEN_HEADERS = (
    # Each has an owner below.
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
    # What the application is made of and how long it worked is nobody's business.
    "X-Powered-By",
    "X-Process-Time",
)
"""Headers of an answer that the application may not say: the proxy does, or nobody."""


def cleared_with(identity_headers: tuple[str, ...], passed: tuple[str, ...]) -> tuple[ClearedHeaders, ...]:
    """Return what is cleared: the known names, the stack's own beside them, but not what is `passed` on by a rule."""
    known = {name.lower() for name in CLEARED_HEADERS}
    # A dictionary: each name once, in whatever case it was written, in the given order.
    further = tuple({name.lower(): name for name in identity_headers if name.lower() not in known}.values())
    groups = (*_CLEARED, ClearedHeaders("Likewise, as this stack's environment names them.", further))
    exempt = {name.lower() for name in passed}
    return tuple(
        ClearedHeaders(group.reason, left)
        for group in groups
        if (left := tuple(name for name in group.names if name.lower() not in exempt))
    )


def security_headers(proxy: ProxySettings) -> dict[str, str]:
    """Return the security headers of every answer, but Strict-Transport-Security."""
    headers = proxy.headers
    ancestors = " ".join(["'self'", *proxy.embedding.allowed_origins])
    policy = headers.content_security_policy
    # The frame's owner is never only reported.
    enforced = f"frame-ancestors {ancestors}"
    if policy.mode is ContentSecurityPolicyMode.ENFORCE:
        enforced = f"{policy.policy.rstrip('; ')}; {enforced}"
    said = {
        "Content-Security-Policy": enforced,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": str(headers.referrer_policy),
        "Permissions-Policy": headers.permissions_policy,
    }
    if policy.mode is ContentSecurityPolicyMode.REPORT_ONLY:
        said["Content-Security-Policy-Report-Only"] = policy.policy
    if not proxy.embedding.allowed_origins:
        # For what reads no frame-ancestors; it could not name another origin.
        said["X-Frame-Options"] = "SAMEORIGIN"
    return said


def strict_transport_security(proxy: ProxySettings, *, trusted_certificate: bool) -> str:
    """Return the header's value; "" where it is not sent."""
    hsts = proxy.headers.hsts
    enabled = trusted_certificate if hsts.enabled is None else hsts.enabled
    if not enabled:
        return ""
    words = [f"max-age={hsts.max_age // timedelta(seconds=1)}"]
    words += ["includeSubDomains"] if hsts.include_subdomains else []
    words += ["preload"] if hsts.preload else []
    return "; ".join(words)
