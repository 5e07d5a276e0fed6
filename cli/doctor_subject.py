"""Builds the doctor's subject from a stack's settings, state and engine, as plain data."""

import hashlib
import json
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from functools import partial
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from open_webui_edge.bootstrap import engine
from open_webui_edge.bootstrap.console import ProblemError
from open_webui_edge.cli import containers, instance, session, stack
from open_webui_edge.cli.stack import Stack
from open_webui_edge.diagnostics.inside.deployment import (
    Authenticator,
    Change,
    DeploymentAccess,
    Engine,
    ExpectedContainer,
    Publication,
)
from open_webui_edge.diagnostics.subject import Expectations, Subject
from open_webui_edge.runtime import delivery
from open_webui_edge.runtime.contract import PORT
from open_webui_edge.runtime.nginx.scripts import DIRECTORY, FUNCTIONS
from open_webui_edge.settings.aws import LoadBalancerKind
from open_webui_edge.settings.data import BackingMode
from open_webui_edge.settings.faults import SettingsError
from open_webui_edge.settings.placement import placement_of
from open_webui_edge.settings.reading import PROJECT, encrypted_paths, read_settings
from open_webui_edge.settings.stack import StackSettings

_STACK = "pulumi:pulumi:Stack"
_CONTAINER = "docker:index/container:Container"
_INSTANCE = "aws:ec2/instance:Instance"
_BALANCER = "aws:lb/loadBalancer:LoadBalancer"
_INSTALLED = f"{DIRECTORY}/candidate/"
_CERTIFICATE = "tls/certificate.pem"
_SECRET_WORDS = ("KEY", "SECRET", "PASSWORD", "TOKEN")
_ANSWER_TIMEOUT = 8
_PREVIEW_TIMEOUT = 55


def subject_of(target: Stack) -> Subject:
    """Return the subject for a stack; a finding reports what is unknown. Raises ProblemError if nothing is known."""
    name = target.name
    if not target.exists():
        raise ProblemError(f"There is no stack {name}; `make up STACK={name}` creates it.")
    with ThreadPoolExecutor() as side_by_side:
        reading = side_by_side.submit(_settings, target)
        exported = target.resources(with_secrets=True)
        settings, faults = reading.result()
    resources = [{**one, "outputs": instance.plain(one.get("outputs") or {})} for one in exported]
    outputs = next((one["outputs"] for one in _of_type(resources, _STACK)), {})
    made = tuple(map(container_from_state, _of_type(resources, _CONTAINER)))
    inside = DeploymentAccess(
        name,
        faults=faults,
        made=made,
        probe=delivery.program("open_webui/probe.py"),
        shell_functions=FUNCTIONS,
        secrets=frozenset(secrets_in(exported)),
        instance=next((str(one.get("id")) for one in _of_type(resources, _INSTANCE)), None),
        pending=partial(_pending, target),
        update=partial(_update, target),
    )
    installed = _installed_files(resources)
    hashes = {name: _sha256(content) for name, content in installed.items()}
    inside.configuration, inside.certificate = hashes.get("nginx.conf"), hashes.get(_CERTIFICATE)
    if settings is not None:
        _add_settings(inside, settings, resources)
    inside.engine, inside.silent = _engine(target, resources)
    url = outputs.get("url") or (settings.site.url if settings is not None else None)
    if not isinstance(url, str):
        raise ProblemError(
            f"The stack {name} is not up, and its settings cannot be read: {'; '.join(faults)}. Fix the stack file and"
            f" run `make up STACK={name}`."
        )
    return Subject(
        url,
        address=_address(inside, outputs, url),
        trust=outputs.get("ca_certificate"),
        expected=Expectations() if settings is None else _expectations(settings, outputs, installed.get(_CERTIFICATE)),
        inside=inside,
        direct=_direct(inside),
        proxy_protocol=settings is not None and placement_of(settings).proxy_protocol,
        http_port=None if settings is None else placement_of(settings).http_port,
    )


def _settings(target: Stack) -> tuple[StackSettings | None, tuple[str, ...]]:
    """Return the settings with their secrets, or their faults."""
    answer = target.ask("config", "--show-secrets", "--json")
    if answer.returncode:
        return None, (" ".join(answer.stderr.split())[:300],)
    values: dict[str, dict[str, Any]] = json.loads(answer.stdout or "{}")
    config = {key: str(entry.get("value", "")) for key, entry in values.items()}
    raw = stack.settings_of(target.name)
    encrypted = {key for key, value in raw.items() if '"secure"' in json.dumps(value, default=str)}
    secret = [key for key, entry in values.items() if entry.get("secret") or key.partition(":")[2] in encrypted]
    try:
        settings = read_settings(
            config,
            secret_keys=secret,
            source=f"stacks/Pulumi.{target.name}.yaml",
            encrypted_paths=encrypted_paths({f"{PROJECT}:{key}": value for key, value in raw.items()}),
        )
    except SettingsError as error:
        return None, tuple(str(fault) for fault in error.faults)
    return settings, ()


def _of_type(resources: Sequence[Mapping[str, Any]], kind: str) -> Iterator[Mapping[str, Any]]:
    return (resource for resource in resources if resource.get("type") == kind)


def _add_settings(inside: DeploymentAccess, settings: StackSettings, resources: Sequence[Mapping[str, Any]]) -> None:
    data = settings.data
    inside.disk_percent = settings.monitoring.alarms.disk_percent
    inside.has_admin = settings.open_webui.admin is not None
    if data.postgres.mode is BackingMode.URL and data.postgres.url is not None:
        inside.database = without_password(data.postgres.url.get_secret_value())
    if data.redis.mode is BackingMode.URL and data.redis.url is not None:
        inside.redis = without_password(data.redis.url.get_secret_value())
    external = settings.proxy.authentication.external
    if external is not None:
        inside.authenticator = Authenticator(external.url, settings.site.url, external.timeout.total_seconds())
    inside.silences = dict(_silences(settings, resources))


def _silences(settings: StackSettings, resources: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, float]]:
    """Yield each hop with its idle timeout in seconds."""
    placement = placement_of(settings)
    idle = None if placement.idle_timeout is None else placement.idle_timeout.total_seconds()
    if placement.load_balancer is LoadBalancerKind.ALB:
        # The value at AWS, from the state, goes before the settings'.
        # A network load balancer's idle timeout is its listener's; its own attribute means something else.
        recorded = next((one["outputs"].get("idleTimeout") for one in _of_type(resources, _BALANCER)), None)
        idle = idle if recorded is None else float(recorded)
    if placement.load_balancer is not LoadBalancerKind.NONE and idle is not None:
        yield "the load balancer", idle
    yield "Nginx", settings.proxy.timeouts.read.total_seconds()


def _expectations(settings: StackSettings, outputs: Mapping[str, Any], certificate_pem: str | None) -> Expectations:
    """Return what the settings promise to clients."""
    placement, proxy, certificate = placement_of(settings), settings.proxy, settings.certificate
    address = outputs.get("load_balancer") or outputs.get("host")
    return Expectations(
        names=settings.site.hosts,
        addresses=(str(address),) if address else None,
        redirects_http=True,
        certificate_mode=str(certificate.mode),
        # A load balancer that terminates TLS has a certificate of its own.
        certificate_pem=None if placement.load_balancer is LoadBalancerKind.ALB else certificate_pem,
        days_left=max(certificate.warn_before.days, 1),
        http3=placement.http3,
        hsts=proxy.headers.hsts.enabled if proxy.headers.hsts.enabled is not None else certificate.is_trusted,
        websocket=proxy.websocket.enabled,
        max_upload=proxy.limits.max_upload,
        read_timeout=proxy.timeouts.read.total_seconds(),
        allowed_origins=proxy.cors.allowed_origins,
        embedded=bool(proxy.embedding.allowed_origins),
        authentication=str(proxy.authentication.mode),
        maintenance=proxy.maintenance,
        outer_proxy=placement.load_balancer is not LoadBalancerKind.NONE or bool(proxy.trusted_proxies),
        trusted_proxies=placement.trusted_proxies,
    )


def container_from_state(resource: Mapping[str, Any]) -> ExpectedContainer:
    """Return the expected container from a resource in the state."""
    outputs = resource.get("outputs") or {}
    labels = {label["label"]: label["value"] for label in outputs.get("labels") or ()}
    networks = {network["name"] for network in outputs.get("networksAdvanced") or ()}
    mode = str(outputs.get("networkMode") or "")
    if not networks and not mode.startswith("container:"):
        networks = {mode or "bridge"}
    return ExpectedContainer(
        name=str(outputs.get("name")),
        role=labels.get("role", ""),
        identity=str(resource.get("id") or outputs.get("id") or ""),
        image=str(outputs.get("image")),
        urn=str(resource["urn"]),
        labels=labels,
        networks=frozenset(networks),
        publications=frozenset(
            Publication(
                port.get("ip") or "0.0.0.0",  # noqa: S104 - compared, not bound
                int(port.get("external") or 0),
                int(port["internal"]),
                port.get("protocol") or "tcp",
            )
            for port in outputs.get("ports") or ()
        ),
        memory=int(outputs["memory"]) << 20 if outputs.get("memory") else None,
        restart=str(outputs.get("restart") or "no"),
        runs_once=outputs.get("mustRun") is False,
        files={path: _sha256(content) for path, content in _uploads(resource)},
    )


def _installed_files(resources: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the files that the last update installed into the proxy: name -> content.

    The certificate is among them only if the stack provides it: another container obtains any other.
    """
    for resource in _of_type(resources, _CONTAINER):
        if container_from_state(resource).role == "nginx-installer":
            files = {name.removeprefix(_INSTALLED): content for name, content in _uploads(resource)}
            if files.get("certificate_source") != "own":
                files.pop(_CERTIFICATE, None)
            return files
    return {}


def _uploads(container: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for upload in (container.get("outputs") or {}).get("uploads") or ():
        if isinstance(upload.get("content"), str):
            yield upload["file"], upload["content"]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _engine(target: Stack, resources: Sequence[Mapping[str, Any]]) -> tuple[Engine | None, str | None]:
    """Return the stack's engine, or why it does not answer."""
    settings = stack.settings_of(target.name)
    try:
        if instance.is_used(settings):
            access = instance.access(target.name, resources)
            if access is None:
                return None, f"The stack {target.name} has no instance yet; `make up STACK={target.name}` makes it."
            words = instance.ping_error(access)
            if words is not None:
                return None, f"The engine of the instance does not answer: {words.strip().splitlines()[-1]}."
            host = engine.resolve(access=access, known_from=instance.KEY_SOURCE)
        else:
            host = session.engine_of(target.name)
        answer = host.ask("version", "--format", "{{.Server.Version}}", timeout=_ANSWER_TIMEOUT)
        if answer.returncode:
            return None, engine.explanation(host, answer.stderr.strip() or "no reason given")
    except ProblemError as problem:
        return None, str(problem)
    return Engine(host.client, host.address, host.is_local), None


def _address(inside: DeploymentAccess, outputs: Mapping[str, Any], url: str) -> str | None:
    """Return the address to connect to, since the name may not resolve on this machine."""
    known = outputs.get("load_balancer") or outputs.get("host")
    if known:
        return str(known)
    if inside.engine is None or not inside.engine.local:
        return None
    port = urlsplit(url).port or 443
    published = (one.address for made in inside.made for one in made.publications if one.external == port)
    # IPv4 first: both addresses reach the same container.
    first = min(published, key=lambda address: (":" in address, address), default=None)
    return None if first is None else containers.reachable_address(first)


def _direct(inside: DeploymentAccess) -> str | None:
    """Return the application's URL that bypasses the proxy; None if this machine cannot reach it."""
    if inside.engine is None or not inside.engine.local:
        return None
    for made in inside.of("open-webui"):
        addresses = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}"
        for address in inside.engine.run("inspect", "--format", addresses, made.name).output.split():
            try:
                socket.create_connection((address, PORT), timeout=1).close()
            except OSError:
                continue
            return f"http://{address}:{PORT}"
    return None


def _pending(target: Stack) -> list[Change]:
    """Return the changes of an update, by `pulumi preview`; raises RuntimeError if that fails."""
    answer = target.ask("preview", "--json", timeout=_PREVIEW_TIMEOUT)
    if answer.returncode:
        words = [line.strip() for line in f"{answer.stdout}\n{answer.stderr}".splitlines() if "error" in line.lower()]
        raise RuntimeError((words or answer.stderr.strip().splitlines() or ["it said nothing"])[0][:300])
    document = json.loads(answer.stdout)
    # A replacement consists of three steps for one resource.
    replacing = {"create-replacement", "delete-replaced"}
    changes = (
        Change("replace" if step["op"] in replacing else step["op"], step["urn"].rpartition("::")[2])
        for step in document.get("steps", ())
        if step["op"] not in {"same", "refresh", "read"}
    )
    return list(dict.fromkeys(changes))


def _update(target: Stack, urns: Sequence[str]) -> str:
    try:
        # Standard output is for the diagnosis only.
        with redirect_stdout(sys.stderr):
            target.run("up", "--yes", "--skip-preview", *(word for urn in urns for word in ("--replace", urn)))
    except ProblemError as problem:
        raise RuntimeError(str(problem)) from None
    return "the stack is updated"


def without_password(url: str) -> str:
    """Return a URL without credentials and query."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))


def secrets_in(resources: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield every text in a state that is marked as secret."""
    for resource in resources:
        for part in ("inputs", "outputs"):
            yield from _secret_texts(resource.get(part) or {}, inside=False)


def _secret_texts(value: object, *, inside: bool) -> Iterator[str]:
    if isinstance(value, dict):
        if instance.is_secret(value):
            yield from _secret_texts(instance.plain(value), inside=True)
            return
        # The path of a secret file in a container is no secret.
        uploaded = "content" in value
        for key, item in value.items():
            if not (uploaded and key == "file"):
                yield from _secret_texts(item, inside=inside)
    elif isinstance(value, list):
        for item in value:
            yield from _secret_texts(item, inside=inside)
    elif inside and isinstance(value, str):
        yield from (part for part in _parts(value) if _may_be_secret(part))


def _may_be_secret(text: str) -> bool:
    """Return whether a text needs redaction: booleans, numbers and ssh addresses next to a key do not."""
    return text.lower() not in {"true", "false"} and not text.isdigit() and not text.startswith(("ssh://", "ssh-"))


def _parts(text: str) -> Iterator[str]:
    """Yield a secret, and the secrets in it if it is a URL or a document."""
    yield text
    if "://" in text and "@" in text:
        yield unquote(urlsplit(text).password or text)
    try:
        document = json.loads(text)
    except ValueError:
        return
    given = document if isinstance(document, dict) else {}
    environment, saved = given.get("environment"), given.get("saved_settings")
    for name, value in environment.items() if isinstance(environment, dict) else ():
        is_url = "://" in str(value)
        if is_url and urlsplit(str(value)).password:
            yield from _parts(str(value))
        elif not is_url and any(word in name for word in _SECRET_WORDS):
            yield str(value)
    if isinstance(saved, dict):
        yield from (str(key) for key in saved.get("openai.api_keys") or () if key)
