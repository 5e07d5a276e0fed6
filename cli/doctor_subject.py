"""Builds the doctor's subject from a stack's settings, state and engine, as plain data."""

import hashlib
import json
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from open_webui_edge.bootstrap import command, engine, paths
from open_webui_edge.bootstrap.problem import ProblemError
from open_webui_edge.cli import instance, site, stack
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
from open_webui_edge.engine.ssh import SshAccess
from open_webui_edge.runtime import delivery
from open_webui_edge.runtime.contract import PORT
from open_webui_edge.runtime.nginx.scripts import DIRECTORY, FUNCTIONS
from open_webui_edge.settings.aws import LoadBalancerKind
from open_webui_edge.settings.data import BackingMode
from open_webui_edge.settings.faults import SettingsError
from open_webui_edge.settings.placement import placement_of
from open_webui_edge.settings.proxy import AuthenticationMode
from open_webui_edge.settings.reading import PROJECT, encrypted_paths, read_settings
from open_webui_edge.settings.stack import StackSettings

_STACK = "pulumi:pulumi:Stack"
_CONTAINER = "docker:index/container:Container"
_INSTANCE = "aws:ec2/instance:Instance"
_BALANCER = "aws:lb/loadBalancer:LoadBalancer"
_INSTALLED = f"{DIRECTORY}/candidate/"
_SECRET_WORDS = ("KEY", "SECRET", "PASSWORD", "TOKEN")
_ANSWER_TIMEOUT = 8
_PREVIEW_TIMEOUT = 55


def subject_of(target: Stack) -> Subject:
    """Return the subject for a stack; unknown parts are omitted, and a finding reports them.

    Raises:
        ProblemError: nothing is known; the message says what to do.

    """
    name = target.name
    if not target.exists():
        message = f"There is no stack {name}; `make up STACK={name}` creates it."
        raise ProblemError(message)
    with ThreadPoolExecutor() as side_by_side:
        reading = side_by_side.submit(_settings, target)
        exported = target.resources(with_secrets=True)
        settings, faults = reading.result()
    resources = [_plain(resource) for resource in exported]
    outputs = next((resource["outputs"] for resource in resources if resource.get("type") == _STACK), {})
    made = tuple(container_from_state(resource) for resource in resources if resource.get("type") == _CONTAINER)
    inside = DeploymentAccess(
        name,
        faults=faults,
        made=made,
        probe=delivery.program("open_webui/probe.py"),
        shell_functions=FUNCTIONS,
        secrets=frozenset(secrets_in(exported)),
        instance=_instance(resources),
        pending=lambda: _pending(target),
        update=lambda urns: _update(target, urns),
    )
    _installed(inside, resources)
    if settings is not None:
        _add_settings(inside, settings, resources)
    inside.engine, inside.silent = _engine(target, resources)
    url = outputs.get("url") or (settings.site.url if settings is not None else None)
    if not isinstance(url, str):
        message = (
            f"The stack {name} is not up, and its settings cannot be read: {'; '.join(faults)}. Fix the stack file and"
            f" run `make up STACK={name}`."
        )
        raise ProblemError(message)
    return Subject(
        url,
        address=_address(inside, outputs, url),
        trust=outputs.get("ca_certificate"),
        expected=Expectations() if settings is None else _expectations(settings, outputs, resources),
        inside=inside,
        direct=_direct(inside),
        proxy_protocol=settings is not None and placement_of(settings).proxy_protocol,
        http_port=None if settings is None else placement_of(settings).http_port,
    )


def _settings(target: Stack) -> tuple[StackSettings | None, tuple[str, ...]]:
    """Return the settings with their secrets, or their faults."""
    answer = command.attempt(
        [target.pulumi.executable, "config", "--show-secrets", "--json", "--stack", target.name, "--non-interactive"],
        environment=target.environment,
        folder=paths.CHECKOUT,
    )
    if answer.returncode:
        return None, (" ".join(answer.stderr.split())[:300],)
    values: dict[str, dict[str, Any]] = json.loads(answer.stdout or "{}")
    config = {key: str(entry.get("value", "")) for key, entry in values.items()}
    secret = [key for key, entry in values.items() if entry.get("secret") or _holds_secret(target.name, key)]
    raw = stack.settings_of(target.name)
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


def _holds_secret(name: str, key: str) -> bool:
    raw = stack.settings_of(name).get(key.partition(":")[2])
    return '"secure"' in json.dumps(raw, default=str)


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
    if placement.load_balancer is not LoadBalancerKind.NONE:
        # The value at AWS, from the state, goes before the settings'.
        # A network load balancer's idle timeout is its listener's; its own attribute means something else.
        recorded = next(
            (
                resource["outputs"].get("idleTimeout")
                for resource in resources
                if resource.get("type") == _BALANCER and placement.load_balancer is LoadBalancerKind.ALB
            ),
            None,
        )
        configured = placement.idle_timeout
        if recorded is not None or configured is not None:
            yield "the load balancer", float(recorded) if recorded is not None else configured.total_seconds()  # pyright: ignore[reportOptionalMemberAccess] - one of both is there
    yield "Nginx", settings.proxy.timeouts.read.total_seconds()


def _expectations(
    settings: StackSettings,
    outputs: Mapping[str, Any],
    resources: Sequence[Mapping[str, Any]],
) -> Expectations:
    """Return what the settings promise to clients."""
    placement, proxy, certificate = placement_of(settings), settings.proxy, settings.certificate
    address = outputs.get("load_balancer") or outputs.get("host")
    has_load_balancer = placement.load_balancer is not LoadBalancerKind.NONE
    mode = str(certificate.mode)
    embedded = bool(proxy.embedding.allowed_origins)
    return Expectations(
        names=settings.site.hosts,
        addresses=(str(address),) if address else None,
        redirects_http=True,
        certificate_mode=mode,
        # A load balancer that terminates TLS has a certificate of its own.
        certificate_pem=None if placement.load_balancer is LoadBalancerKind.ALB else _certificate_pem(resources),
        days_left=max(certificate.warn_before.days, 1),
        http3=placement.http3,
        hsts=proxy.headers.hsts.enabled if proxy.headers.hsts.enabled is not None else certificate.is_trusted,
        websocket=proxy.websocket.enabled,
        max_upload=proxy.limits.max_upload,
        read_timeout=proxy.timeouts.read.total_seconds(),
        allowed_origins=proxy.cors.allowed_origins,
        embedded=embedded,
        authentication=str(proxy.authentication.mode)
        if proxy.authentication.mode is not AuthenticationMode.NONE
        else "none",
        maintenance=proxy.maintenance,
        outer_proxy=has_load_balancer or bool(proxy.trusted_proxies),
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
        files={
            upload["file"]: _sha256(upload["content"])
            for upload in outputs.get("uploads") or ()
            if isinstance(upload.get("content"), str)
        },
    )


def _installed(inside: DeploymentAccess, resources: Sequence[Mapping[str, Any]]) -> None:
    """Record what the last update installed into the proxy."""
    for made in inside.of("nginx-installer"):
        inside.configuration = made.files.get(f"{_INSTALLED}nginx.conf")
        own = _file_content(resources, made.urn, f"{_INSTALLED}certificate_source") == "own"
        inside.certificate = made.files.get(f"{_INSTALLED}tls/certificate.pem") if own else None


def _certificate_pem(resources: Sequence[Mapping[str, Any]]) -> str | None:
    for resource in resources:
        if resource.get("type") == _CONTAINER and container_from_state(resource).role == "nginx-installer":
            if _file_content(resources, resource["urn"], f"{_INSTALLED}certificate_source") != "own":
                return None
            return _file_content(resources, resource["urn"], f"{_INSTALLED}tls/certificate.pem")
    return None


def _file_content(resources: Sequence[Mapping[str, Any]], urn: str, path: str) -> str | None:
    for resource in resources:
        if resource["urn"] == urn:
            for upload in (resource.get("outputs") or {}).get("uploads") or ():
                if upload["file"] == path:
                    return str(upload["content"])
    return None


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _instance(resources: Sequence[Mapping[str, Any]]) -> str | None:
    return next((str(resource.get("id")) for resource in resources if resource.get("type") == _INSTANCE), None)


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
            host = engine.resolve(stack.setting(settings, "platform.docker.host"), _access(target.name, settings))
        answer = host.ask("version", "--format", "{{.Server.Version}}", timeout=_ANSWER_TIMEOUT)
        if answer.returncode:
            return None, engine.explanation(host, answer.stderr.strip() or "no reason given")
    except ProblemError as problem:
        return None, str(problem)
    return Engine(host.client, host.address, host.is_local), None


def _access(name: str, settings: Mapping[str, Any]) -> SshAccess | None:
    host, host_key = (stack.setting(settings, f"platform.docker.{key}") for key in ("host", "host_key"))
    return engine.pinned_access(name, host, host_key)


def _address(inside: DeploymentAccess, outputs: Mapping[str, Any], url: str) -> str | None:
    """Return the address to connect to, since the name may not resolve on this machine."""
    known = outputs.get("load_balancer") or outputs.get("host")
    if known:
        return str(known)
    if inside.engine is None or not inside.engine.local:
        return None
    containers = [
        {"Name": made.name, "Config": {"Labels": dict(made.labels)}, "NetworkSettings": {"Ports": _ports_of(made)}}
        for made in inside.made
    ]
    return site.listening_address(containers, url)


def _ports_of(made: ExpectedContainer) -> dict[str, list[dict[str, str]]]:
    ports: dict[str, list[dict[str, str]]] = {}
    # IPv4 first: both addresses reach the same container.
    for one in sorted(made.publications, key=lambda one: (":" in one.address, str(one))):
        bindings = ports.setdefault(f"{one.internal}/{one.protocol}", [])
        bindings.append({"HostIp": one.address, "HostPort": str(one.external)})
    return ports


def _direct(inside: DeploymentAccess) -> str | None:
    """Return the application's URL that bypasses the proxy; None if this machine cannot reach it."""
    if inside.engine is None or not inside.engine.local:
        return None
    for made in inside.of("open-webui"):
        shown = inside.engine.run(
            "inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}", made.name
        )
        for address in shown.output.split():
            try:
                socket.create_connection((address, PORT), timeout=1).close()
            except OSError:
                continue
            return f"http://{address}:{PORT}"
    return None


def _pending(target: Stack) -> list[Change]:
    """Return the changes of an update, by `pulumi preview`.

    Raises:
        RuntimeError: the preview failed.

    """
    answer = command.attempt(
        [target.pulumi.executable, "preview", "--json", "--stack", target.name, "--non-interactive"],
        environment=target.environment,
        folder=paths.CHECKOUT,
        timeout=_PREVIEW_TIMEOUT,
    )
    if answer.returncode:
        words = [line.strip() for line in f"{answer.stdout}\n{answer.stderr}".splitlines() if "error" in line.lower()]
        raise RuntimeError((words or answer.stderr.strip().splitlines() or ["it said nothing"])[0][:300])
    document = json.loads(answer.stdout)
    steps = [step for step in document.get("steps", ()) if step["op"] not in {"same", "refresh", "read"}]
    # A replacement consists of three steps for one resource.
    return list(
        {
            (_kind(step["op"]), _short(step["urn"])): Change(_kind(step["op"]), _short(step["urn"])) for step in steps
        }.values()
    )


def _kind(operation: str) -> str:
    return "replace" if operation in {"create-replacement", "delete-replaced"} else operation


def _short(urn: str) -> str:
    return urn.rpartition("::")[2]


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


def _plain(resource: Mapping[str, Any]) -> dict[str, Any]:
    return {**resource, "outputs": instance.plain(resource.get("outputs") or {})}


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
    environment = document.get("environment") if isinstance(document, dict) else None
    for name, value in environment.items() if isinstance(environment, dict) else ():
        address = urlsplit(str(value)) if "://" in str(value) else None
        if address is not None and address.password:
            yield from _parts(str(value))
        elif address is None and any(word in name for word in _SECRET_WORDS):
            yield str(value)
    saved = document.get("saved_settings") if isinstance(document, dict) else None
    if isinstance(saved, dict):
        yield from (str(key) for key in saved.get("openai.api_keys") or () if key)
