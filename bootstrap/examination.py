"""What the doctor is told of a stack beforehand: its settings, its state, its engine. All of it plain."""

import hashlib
import json
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from bootstrap import command, engine, front_door, instance, places, stack
from bootstrap.problem import ProblemError
from bootstrap.stack import Stack
from components.docker.ssh import SshAccess
from components.reverse_proxy.scripts import DIRECTORY, FUNCTIONS
from diagnostics.inside.access import (
    Account,
    Change,
    Configured,
    Engine,
    Inside,
    Made,
    Publication,
)
from diagnostics.subject import Expectations, Subject
from stacks.aws import LoadBalancerKind
from stacks.certificate import CertificateMode
from stacks.data import BackingMode
from stacks.faults import SettingsError
from stacks.models import OllamaMode
from stacks.placement import placement_of
from stacks.proxy import AuthenticationMode
from stacks.settings import PROJECT, StackSettings, encrypted_paths, read_settings

_STACK = "pulumi:pulumi:Stack"
_CONTAINER = "docker:index/container:Container"
_INSTANCE = "aws:ec2/instance:Instance"
_BALANCER = "aws:lb/loadBalancer:LoadBalancer"
_INSTALLED = f"{DIRECTORY}/candidate/"
_APPLICATION_PORT = 8080
_SECRET_WORDS = ("KEY", "SECRET", "PASSWORD", "TOKEN")
_SECONDS_TO_ANSWER = 8
_SECONDS_FOR_A_PREVIEW = 55


def subject_of(target: Stack) -> Subject:
    """Return what is known of a stack; what cannot be known is left out, and said by a finding.

    Raises:
        ProblemError: nothing at all is known, and what to do about that.

    """
    name = target.name
    if not target.exists():
        message = f"There is no stack {name}, so there is nothing to look at; `make up STACK={name}` makes it."
        raise ProblemError(message)
    with ThreadPoolExecutor() as side_by_side:
        reading = side_by_side.submit(_settings, target)
        exported = target.resources(with_secrets=True)
        settings, faults = reading.result()
    resources = [_plain(resource) for resource in exported]
    outputs = next((resource["outputs"] for resource in resources if resource.get("type") == _STACK), {})
    made = tuple(made_of(resource) for resource in resources if resource.get("type") == _CONTAINER)
    inside = Inside(
        name,
        faults=faults,
        made=made,
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
            f"The stack {name} is not up, and its settings cannot be read: {'; '.join(faults)}. Mend the stack file and"
            f" run `make up STACK={name}`."
        )
        raise ProblemError(message)
    return Subject(
        url,
        address=_address(inside, outputs, url),
        trust=outputs.get("ca_certificate"),
        expected=Expectations() if settings is None else _expectations(settings, outputs, resources, made),
        inside=inside,
        direct=_direct(inside),
        proxy_protocol=settings is not None and placement_of(settings).proxy_protocol,
        http_port=None if settings is None else placement_of(settings).http_port,
    )


def _settings(target: Stack) -> tuple[StackSettings | None, tuple[str, ...]]:
    """Return the settings with their secrets, or what is wrong with them."""
    answer = command.attempt(
        [target.pulumi.executable, "config", "--show-secrets", "--json", "--stack", target.name, "--non-interactive"],
        environment=target.environment,
        folder=places.CHECKOUT,
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


def _add_settings(inside: Inside, settings: StackSettings, resources: Sequence[Mapping[str, Any]]) -> None:
    data, models, admin = settings.data, settings.models, settings.open_webui.admin
    inside.replicas = settings.open_webui.replicas
    inside.disk_percent = settings.monitoring.alarms.disk_percent
    if admin is not None:
        inside.admin = Account(admin.email, "" if admin.password is None else admin.password.get_secret_value())
    if data.postgres.mode is BackingMode.URL and data.postgres.url is not None:
        inside.database = Configured("data.postgres.url", without_password(data.postgres.url.get_secret_value()))
    if data.redis.mode is BackingMode.URL and data.redis.url is not None:
        inside.redis = Configured("data.redis.url", without_password(data.redis.url.get_secret_value()))
    if models.ollama.mode is OllamaMode.URL:
        inside.ollama = Configured("models.ollama.url", without_password(models.ollama.url))
    if models.providers is not None:
        inside.providers = tuple(
            Configured(f"models.providers[{number}]", without_password(provider.url))
            for number, provider in enumerate(models.providers)
        )
    inside.silences = dict(_silences(settings, resources))


def _silences(settings: StackSettings, resources: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, float]]:
    """Return each hop and for how many seconds it lets an answer be silent."""
    placement = placement_of(settings)
    if placement.behind is not LoadBalancerKind.NONE:
        # What stands at AWS, where the state says it, and not what the settings ask for.
        # Of a network load balancer the listener has it, and this says something else.
        found = next(
            (
                resource["outputs"].get("idleTimeout")
                for resource in resources
                if resource.get("type") == _BALANCER and placement.behind is LoadBalancerKind.ALB
            ),
            None,
        )
        wanted = placement.idle_timeout
        if found is not None or wanted is not None:
            yield "the load balancer", float(found) if found is not None else wanted.total_seconds()  # pyright: ignore[reportOptionalMemberAccess] - one of both is there
    yield "Nginx", settings.proxy.timeouts.read.total_seconds()


def _expectations(
    settings: StackSettings,
    outputs: Mapping[str, Any],
    resources: Sequence[Mapping[str, Any]],
    made: Sequence[Made],
) -> Expectations:
    """Return what the settings promise to who comes from outside."""
    placement, proxy, certificate = placement_of(settings), settings.proxy, settings.certificate
    address = outputs.get("load_balancer") or outputs.get("host")
    behind = placement.behind is not LoadBalancerKind.NONE
    mode = str(certificate.mode)
    embedded = bool(proxy.embedding.allowed_origins)
    return Expectations(
        names=settings.site.hosts,
        addresses=(str(address),) if address else None,
        redirects_http=True,
        certificate_mode=mode,
        # A load balancer that ends TLS has a certificate of its own.
        certificate_pem=None if placement.behind is LoadBalancerKind.ALB else _certificate_pem(resources),
        days_left=max(certificate.warn_before.days, 1),
        http3=placement.http3,
        hsts=proxy.headers.hsts.enabled if proxy.headers.hsts.enabled is not None else certificate.trusted,
        websocket=proxy.websocket.enabled,
        max_upload=proxy.limits.max_upload,
        read_timeout=proxy.timeouts.read.total_seconds(),
        allowed_origins=proxy.cors.allowed_origins,
        embedded=embedded,
        authentication=str(proxy.authentication.mode)
        if proxy.authentication.mode is not AuthenticationMode.NONE
        else "none",
        maintenance=proxy.maintenance,
        outer_proxy=behind or bool(proxy.trusted_proxies),
        extra={
            "replicas": settings.open_webui.replicas,
            "trusted_proxies": placement.trusted_proxies,
            "version": settings.open_webui.version,
            "containers": len(made),
            "metrics": proxy.metrics.enabled,
            "lets_encrypt": certificate.mode is CertificateMode.LETS_ENCRYPT,
        },
    )


def made_of(resource: Mapping[str, Any]) -> Made:
    """Return a container as the state has it."""
    outputs = resource.get("outputs") or {}
    labels = {label["label"]: label["value"] for label in outputs.get("labels") or ()}
    networks = {network["name"] for network in outputs.get("networksAdvanced") or ()}
    mode = str(outputs.get("networkMode") or "")
    if not networks and not mode.startswith("container:"):
        networks = {mode or "bridge"}
    return Made(
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
            upload["file"]: _mark(upload["content"])
            for upload in outputs.get("uploads") or ()
            if isinstance(upload.get("content"), str)
        },
    )


def _installed(inside: Inside, resources: Sequence[Mapping[str, Any]]) -> None:
    """Note what the last update had installed into the proxy."""
    for made in inside.of("nginx-installer"):
        inside.configuration = made.files.get(f"{_INSTALLED}nginx.conf")
        own = _uploaded(resources, made.urn, f"{_INSTALLED}certificate_source") == "own"
        inside.certificate = made.files.get(f"{_INSTALLED}tls/certificate.pem") if own else None


def _certificate_pem(resources: Sequence[Mapping[str, Any]]) -> str | None:
    for resource in resources:
        if resource.get("type") == _CONTAINER and made_of(resource).role == "nginx-installer":
            if _uploaded(resources, resource["urn"], f"{_INSTALLED}certificate_source") != "own":
                return None
            return _uploaded(resources, resource["urn"], f"{_INSTALLED}tls/certificate.pem")
    return None


def _uploaded(resources: Sequence[Mapping[str, Any]], urn: str, path: str) -> str | None:
    for resource in resources:
        if resource["urn"] == urn:
            for upload in (resource.get("outputs") or {}).get("uploads") or ():
                if upload["file"] == path:
                    return str(upload["content"])
    return None


def _mark(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _instance(resources: Sequence[Mapping[str, Any]]) -> str | None:
    return next((str(resource.get("id")) for resource in resources if resource.get("type") == _INSTANCE), None)


def _engine(target: Stack, resources: Sequence[Mapping[str, Any]]) -> tuple[Engine | None, str | None]:
    """Return how the stack's engine is asked, or why it cannot be."""
    settings = stack.settings_of(target.name)
    try:
        if instance.is_wanted(settings):
            access = instance.access(target.name, resources)
            if access is None:
                return None, f"The stack {target.name} has no instance yet; `make up STACK={target.name}` makes it."
            words = instance.unanswered(access)
            if words is not None:
                return None, f"The engine of the instance does not answer: {words.strip().splitlines()[-1]}."
            found = engine.chosen(access=access, known_from=instance.TOLD_BY)
        else:
            found = engine.chosen(stack.setting(settings, "platform.docker.host"), _access(target.name, settings))
        answer = found.ask("version", "--format", "{{.Server.Version}}", timeout=_SECONDS_TO_ANSWER)
        if answer.returncode:
            return None, engine.explanation(found, answer.stderr.strip() or "no reason given")
    except ProblemError as problem:
        return None, str(problem)
    return Engine(found.client, found.address, found.is_local), None


def _access(name: str, settings: Mapping[str, Any]) -> SshAccess | None:
    host, host_key = (stack.setting(settings, f"platform.docker.{key}") for key in ("host", "host_key"))
    return engine.known_beforehand(name, host, host_key)


def _address(inside: Inside, outputs: Mapping[str, Any], url: str) -> str | None:
    """Return where to connect to: the name need not lead here from this machine."""
    known = outputs.get("load_balancer") or outputs.get("host")
    if known:
        return str(known)
    if inside.engine is None or not inside.engine.local:
        return None
    found = [
        {"Name": made.name, "Config": {"Labels": dict(made.labels)}, "NetworkSettings": {"Ports": _ports_of(made)}}
        for made in inside.made
    ]
    return front_door.listening_address(found, url)


def _ports_of(made: Made) -> dict[str, list[dict[str, str]]]:
    ports: dict[str, list[dict[str, str]]] = {}
    # IPv4 first: what listens on both is the same.
    for one in sorted(made.publications, key=lambda one: (":" in one.address, str(one))):
        bindings = ports.setdefault(f"{one.internal}/{one.protocol}", [])
        bindings.append({"HostIp": one.address, "HostPort": str(one.external)})
    return ports


def _direct(inside: Inside) -> str | None:
    """Return where this machine reaches the application past the proxy; None where it does not."""
    if inside.engine is None or not inside.engine.local:
        return None
    for made in inside.of("open-webui"):
        shown = inside.engine.run(
            "inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}", made.name
        )
        for address in shown.output.split():
            try:
                socket.create_connection((address, _APPLICATION_PORT), timeout=1).close()
            except OSError:
                continue
            return f"http://{address}:{_APPLICATION_PORT}"
    return None


def _pending(target: Stack) -> list[Change]:
    """Ask Pulumi what an update would change.

    Raises:
        RuntimeError: it does not say.

    """
    answer = command.attempt(
        [target.pulumi.executable, "preview", "--json", "--stack", target.name, "--non-interactive"],
        environment=target.environment,
        folder=places.CHECKOUT,
        timeout=_SECONDS_FOR_A_PREVIEW,
    )
    if answer.returncode:
        words = [line.strip() for line in f"{answer.stdout}\n{answer.stderr}".splitlines() if "error" in line.lower()]
        raise RuntimeError((words or answer.stderr.strip().splitlines() or ["it said nothing"])[0][:300])
    document = json.loads(answer.stdout)
    steps = [step for step in document.get("steps", ()) if step["op"] not in {"same", "refresh", "read"}]
    # A replacement is three steps of one resource.
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
        # Standard output is for what was asked for: the diagnosis.
        with redirect_stdout(sys.stderr):
            target.run("up", "--yes", "--skip-preview", *(word for urn in urns for word in ("--replace", urn)))
    except ProblemError as problem:
        raise RuntimeError(str(problem)) from None
    return "the stack is updated"


def without_password(url: str) -> str:
    """Return an address that may be shown."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))


def _plain(resource: Mapping[str, Any]) -> dict[str, Any]:
    return {**resource, "outputs": instance.plain(resource.get("outputs") or {})}


def secrets_in(resources: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Return every text in a state that is marked as secret."""
    for resource in resources:
        for part in ("inputs", "outputs"):
            yield from _secret_texts(resource.get(part) or {}, inside=False)


def _secret_texts(value: object, *, inside: bool) -> Iterator[str]:
    if isinstance(value, dict):
        if instance.is_secret(value):
            yield from _secret_texts(instance.plain(value), inside=True)
            return
        # Where a secret lies in a container is none.
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
    """Whether hiding it hides something: neither a switch, nor an address that stands beside a key."""
    return text.lower() not in {"true", "false"} and not text.isdigit() and not text.startswith(("ssh://", "ssh-"))


def _parts(text: str) -> Iterator[str]:
    """Return a secret, and what is secret in it where it is an address or a document with secrets in it."""
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
