"""The proxy from within: does it run what the stack says, and serve the certificate that it has?"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import Any

from open_webui_edge.diagnostics.finding import Finding, Hop, Remedy, parse_time
from open_webui_edge.diagnostics.inside.containers import EXPLAINS, SEEN_FROM_OUTSIDE
from open_webui_edge.diagnostics.inside.deployment import Authenticator

SCRIPT = r"""
cd "$EDGE_DIRECTORY" || exit 1
umask 077
say() { printf '%s=%s\n' "$1" "$2"; }
say in_force "$(basename "$(readlink current)")"
say named "$(name_of current)"
say served "$(served_generation)"
say configuration "$(sha256sum < current/nginx.conf | cut -d ' ' -f 1)"
say certificate "$(sha256sum < current/tls/certificate.pem | cut -d ' ' -f 1)"
say source "$(cat current/certificate_source 2> /dev/null)"
say installed_serial "$(openssl x509 -noout -serial -in current/tls/certificate.pem 2> /dev/null | cut -d = -f 2)"
say served_serial "$(served_certificate | openssl x509 -noout -serial 2> /dev/null | cut -d = -f 2)"
new=0 old=0
for each in /proc/[0-9]*; do
    words=$(tr '\0' ' ' < "$each/cmdline" 2> /dev/null) || continue
    case $words in
        'nginx: worker process is shutting down'*) old=$((old + 1)) ;;
        'nginx: worker process'*) new=$((new + 1)) ;;
    esac
done
say workers "$new"
say leaving "$old"
say killed "$(tr '\n' ' ' < "$EDGE_METRICS/killed_workers" 2> /dev/null)"
say refused "$(nginx -t -q -c "$PWD/current/nginx.conf" 2>&1 < /dev/null | tr '\n' ' ' | cut -c 1-300)"
say state "$(tr -d '\n' < "$EDGE_CERTIFICATES/state.json" 2> /dev/null)"
"""
"""For a shell in the proxy's container, after the functions that its own scripts share."""
RENAME = r"""
cd "$EDGE_DIRECTORY" || exit 1
umask 077
lock -w 30 || exit 1
name=$(name_of current) was=$(readlink current)
if [ "generations/$name" != "$was" ]; then
    rm -rf "generations/$name"
    cp -Rp "$was" "generations/$name" || exit 1
    printf 'set $generation "%s";\n' "$name" > "generations/$name/generation.conf"
    symlink_to "generations/$name" && rm -rf "$was"
fi
"""
"""A shell program that renames a changed generation after its content, so that the stack installs its own again."""
_MANY = 200
_RECENT = timedelta(days=7)
_DECISIONS = {*range(200, 300), 401, 403}
"""Statuses by which an authenticator admits or refuses a request (ngx_http_auth_request_module)."""
_SHORT_OF_A_READ = 60.0


@dataclass(frozen=True)
class Seen:
    """What the script found."""

    in_force: str = ""
    named: str = ""
    """What the generation would be called by what is in it."""
    served: str = ""
    configuration: str = ""
    certificate: str = ""
    source: str = ""
    installed_serial: str = ""
    served_serial: str = ""
    workers: int = 0
    leaving: int = 0
    killed: tuple[float, ...] = ()
    """When workers were killed, in seconds since 1970."""
    refused: str = ""
    state: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What certbot's container says of its attempts."""


def read(output: str) -> Seen:
    """Read what the script wrote."""
    known = {each.name for each in fields(Seen)}
    values = {name: value for name, _, value in (line.partition("=") for line in output.splitlines()) if name in known}
    texts = {name: value for name, value in values.items() if name not in {"workers", "leaving", "killed", "state"}}
    try:
        state = json.loads(values.get("state", ""))
    except ValueError:
        state = None
    return Seen(
        **texts,
        workers=int(values.get("workers") or 0),
        leaving=int(values.get("leaving") or 0),
        killed=tuple(float(time) for time in values.get("killed", "").split()),
        state=state if isinstance(state, dict) else {},
    )


def judge_configuration(
    seen: Seen, expected: str | None, install: Callable[[], Remedy | None], reload: Remedy | None
) -> Iterator[Finding]:
    """Say whether what Nginx runs is what the stack says; `expected` is the SHA-256 of the nginx.conf it installed."""
    why = "A change by hand is in no file, so its effect and reason are undocumented."
    has_trouble = False
    if expected is not None and seen.configuration != expected:
        has_trouble = True
        refused = f" Nginx would refuse it: {seen.refused}." if seen.refused else ""
        yield Hop.PROXY.failure(
            "proxy.configuration",
            "The nginx.conf in the proxy's volume is not the one that the stack installed: it was changed by"
            f" hand.{refused}",
            why,
            "Write what you want as settings below proxy, and have the stack's configuration installed again:"
            " `make doctor FIX=yes`.",
            remedy=install(),
            explains=EXPLAINS[Hop.PROXY],
        )
    elif seen.named != seen.in_force and seen.installed_serial == seen.served_serial:
        has_trouble = True
        yield Hop.PROXY.warning(
            "proxy.generation_changed",
            f"The files of generation {seen.in_force}, which is in force, were changed by hand.",
            why,
            "Have the stack's configuration installed again: `make doctor FIX=yes`.",
            remedy=install(),
        )
    if seen.served != seen.in_force:
        has_trouble = True
        yield Hop.PROXY.failure(
            "proxy.generation",
            f"Nginx runs generation {seen.served or 'unknown'}, and {seen.in_force} is in force: it has not"
            " taken that up.",
            "A changed setting, or a renewed certificate, has no effect.",
            "`make logs ROLE=nginx` says why; a reload takes it up.",
            remedy=reload,
            explains=("certificate.served",),
        )
    if not has_trouble:
        leaving = f", and {seen.leaving} of earlier configurations end with their connections" if seen.leaving else ""
        yield Hop.PROXY.ok(
            "proxy.configuration",
            f"Nginx runs the configuration that the stack installed ({seen.served}); {seen.workers} workers{leaving}.",
        )
    if seen.leaving > _MANY:
        yield Hop.PROXY.note(
            "proxy.workers",
            f"{seen.leaving} workers of earlier configurations are still there.",
            "Each keeps its memory until its last connection ends, after proxy.timeouts.shutdown at the latest.",
        )


def judge_workers(seen: Seen, now: datetime) -> Iterator[Finding]:
    """Say whether workers were killed lately: by the engine for their memory, or by a fault of Nginx."""
    recent = [
        datetime.fromtimestamp(time, UTC) for time in seen.killed if now.timestamp() - time < _RECENT.total_seconds()
    ]
    if not recent:
        yield Hop.PROXY.ok("proxy.killed_workers", f"No worker of Nginx was killed in the last {_RECENT.days} days.")
        return
    times = "once" if len(recent) == 1 else f"{len(recent)} times"
    yield Hop.PROXY.warning(
        "proxy.killed_workers",
        f"A worker of Nginx was killed and Nginx started again {times} in the last {_RECENT.days} days, last at"
        f" {max(recent):%Y-%m-%d %H:%M} UTC.",
        "All clients that were connected then were cut off.",
        "`make logs ROLE=nginx` shows the signal. Signal 9 is the memory limit of the container: raise proxy.memory."
        " Signal 11 is a fault of Nginx: update its image.",
        setting="proxy.memory",
    )


def judge_certificate(
    seen: Seen, expected: str | None, install: Callable[[], Remedy | None], reload: Remedy | None
) -> Iterator[Finding]:
    """Say whether the certificate that is served is the one that the proxy has, and that the stack gave it.

    `expected` is the SHA-256 of the one that the last update installed; None where another container obtains it.
    """
    if not seen.served_serial:
        yield Hop.PROXY.failure(
            "certificate.served",
            "Nginx shows no certificate to who connects from within its own container.",
            "The site is down.",
            "`make logs ROLE=nginx` says why.",
            explains=EXPLAINS[Hop.PROXY],
        )
        return
    own_changed = expected is not None and seen.source == "own" and seen.certificate != expected
    differs = seen.served_serial != seen.installed_serial
    if not differs and not own_changed:
        words = f"The certificate in the volume is the one served ({seen.served_serial})."
        yield Hop.PROXY.ok("certificate.served", words)
        return
    problem = Hop.PROXY.failure if differs else Hop.PROXY.warning
    yield problem(
        "certificate.served",
        f"Nginx serves the certificate {seen.served_serial}, and the one in its volume is"
        f" {seen.installed_serial or 'none that can be read'}."
        if differs
        else f"The certificate in the proxy's volume ({seen.installed_serial}) is not the one that the stack made.",
        "What is served expires although there is a newer one, or changes at the next reload.",
        "Have it installed again: `make doctor FIX=yes`." if own_changed else "A reload takes it up.",
        remedy=install() if own_changed else reload,
        explains=("proxy.generation_changed", "tls.*"),
    )


def judge_renewal(state: Mapping[str, Any] | None, now: datetime) -> Iterator[Finding]:
    """Say how the last attempt to obtain a certificate ended, by what certbot's container wrote down, if anything."""
    if not state:
        yield Hop.PROXY.warning(
            "certificate.renewal",
            "Certbot's container has said nothing yet about an attempt.",
            "Until there is a certificate of an issuer, browsers are shown a placeholder that they refuse.",
            "`make logs ROLE=certbot` says what it is at.",
        )
        return
    last, upcoming = state.get("last_attempt") or {}, state.get("next_attempt")
    if not last.get("error"):
        yield Hop.PROXY.ok(
            "certificate.renewal",
            f"The last attempt to obtain a certificate went well; the next look is at {upcoming or 'a time unknown'}.",
        )
        return
    ends = parse_time((state.get("served") or {}).get("not_after"))
    left = None if ends is None or ends <= now else ends - now
    problem = Hop.PROXY.failure if left is None else Hop.PROXY.warning
    yield problem(
        "certificate.renewal",
        f"The last attempt to obtain a certificate failed ({last.get('at')}, {last.get('directory')}):"
        f" {_one_line(last['error'])}",
        ("There is none that is valid." if left is None else f"The one served ends in {left.days} days.")
        + (f" It tries again at {upcoming}." if upcoming else ""),
        _one_line(last.get("hint") or "`make certificate` shows all of it."),
        explains=("tls.*", "certificate.placeholder"),
    )


def ask_authenticator(authenticator: Authenticator) -> tuple[str, ...]:
    """Return a command for the proxy's container that asks as Nginx does, and writes the status of the answer."""
    headers = {
        "X-Original-URL": f"{authenticator.site}/",
        "X-Original-Method": "GET",
        "X-Forwarded-Method": "GET",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": authenticator.site.removeprefix("https://"),
        "X-Forwarded-Uri": "/",
    }
    return (
        *("curl", "--silent", "--show-error", "--globoff", "--output", "/dev/null", "--write-out", "%{http_code}"),
        *("--max-time", f"{authenticator.timeout:g}"),
        *(part for name, value in headers.items() for part in ("--header", f"{name}: {value}")),
        authenticator.url,
    )


def judge_authenticator(authenticator: Authenticator, status: int, words: str) -> Finding:
    """Say whether the authenticator decides about requests; where it gave no answer, status is 0 and words say why."""
    if status in _DECISIONS:
        return Hop.PROXY.ok(
            "proxy.authenticator", f"The authenticator answers the proxy, {status} to a visitor without a name."
        )
    answered = f"does not answer the proxy within {_span(authenticator.timeout)}: {words}"
    if status:
        answered = f"answers {status}, and only 2xx admits a request and 401 or 403 refuses one"
    return Hop.PROXY.failure(
        "proxy.authenticator",
        f"The authenticator at {authenticator.url} {answered}.",
        "Every request is refused with 503, whether Open WebUI runs or not.",
        "See that it runs, in a network that the proxy's container reaches, and that the URL is the one of its"
        " decisions: /api/authz/auth-request of Authelia, /oauth2/auth of oauth2-proxy.",
        setting="proxy.authentication.external.url",
        explains=SEEN_FROM_OUTSIDE,
    )


def judge_silence(silences: Mapping[str, float], promised: float | None) -> Iterator[Finding]:
    """Say for how many seconds an answer may be silent, which hop ends it first, and whether that is as promised."""
    if not silences:
        return
    hop, shortest = min(silences.items(), key=lambda item: item[1])
    listed = ", ".join(f"{name} {_span(seconds)}" for name, seconds in silences.items())
    if promised is not None and shortest < promised:
        yield Hop.OUTER_PROXY.warning(
            "silence.own",
            f"{hop} ends an answer that is silent for {_span(shortest)}, and the proxy would wait {_span(promised)}"
            f" (all: {listed}).",
            "A model that thinks longer than that is cut off with 504, and its answer is lost.",
            f"Raise the idle timeout of {hop}, or lower proxy.timeouts.read, so that clients do not wait in vain.",
            setting="proxy.timeouts.read",
        )
    elif shortest < _SHORT_OF_A_READ * 2:
        yield Hop.PROXY.warning(
            "silence.own",
            f"{hop} ends an answer that is silent for {_span(shortest)}.",
            "A model that thinks longer than that is cut off with 504, and its answer is lost.",
            "Raise it to 10 minutes or more.",
            setting="proxy.timeouts.read",
            value="30m",
        )
    else:
        yield Hop.PROXY.ok("silence.own", f"An answer may be silent for {_span(shortest)} ({listed}).")


def _span(seconds: float) -> str:
    return f"{seconds / 60:g} min" if seconds >= 60 and seconds % 60 == 0 else f"{seconds:g} s"  # noqa: PLR2004 - a minute


def _one_line(text: object) -> str:
    return " ".join(str(text).split())[:400]
