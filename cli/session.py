"""A command's session with its stack: prepares settings, Pulumi and the engine."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from open_webui_edge.bootstrap import backend, engine, proxies, pulumi_cli, virtual_environment
from open_webui_edge.bootstrap.console import ProblemError, step
from open_webui_edge.bootstrap.engine import Engine
from open_webui_edge.cli import engine_address, instance, protected, stack
from open_webui_edge.cli.stack import Stack
from open_webui_edge.engine.ssh import SshAccess
from open_webui_edge.settings.recorded_state import former_names, renamed

if TYPE_CHECKING:
    from open_webui_edge.cli.backup.deployed import Deployed


def stack_of(name: str) -> Stack:
    """Return a stack and the Pulumi that runs it, with everything that both need installed."""
    stack.file_of(name)  # refuses an invalid name before anything is made
    settings = stack.settings_of(name)
    if instance.is_used(settings) and not virtual_environment.is_current(virtual_environment.FOR_AWS):
        with step("packages for AWS") as shown:
            virtual_environment.ensure(virtual_environment.FOR_AWS, shown)
    with step("Pulumi") as shown:
        pulumi = pulumi_cli.find(shown)
        shown.done(f"{pulumi.origin}: {pulumi.executable}")
    used = engine.resolve()
    # Pulumi's provider reads these variables but ignores the active docker context: the images would be in one engine
    # and the stack in another. It prefers DOCKER_CONTEXT to any address, even to the settings'.
    given = {"DOCKER_HOST": used.address} if used.origin.startswith("the docker context") else {}
    if os.environ.get("DOCKER_CONTEXT"):
        given["DOCKER_CONTEXT"] = ""
    # Also for plain `pulumi` in a shell that evaluates `make env`.
    given |= proxies.exceptions(os.environ)
    target = Stack(name, pulumi, {**pulumi.environment, **backend.environment(), **given})
    engine.prepare(access_of_instance(target) if instance.is_used(settings) else access_of(name))
    return target


def ready_stack(name: str, *, accepts_another: bool = False) -> tuple[Stack, Engine | None, engine_address.Move | None]:
    """Return the stack, the engine that needs its images, and a change of engine to record before Pulumi runs.

    The engine is None if an instance pulls the images itself. With `accepts_another`, the engine may differ from the
    one that the stack is on.
    """
    move = None
    made = stack.make_file(name)
    settings = stack.settings_of(name)
    pulled_there = instance.is_used(settings) and stack.setting(settings, "images.source") != "built"
    host = None if pulled_there else engine_of(name)
    if host is not None:
        with step("Docker engine") as shown:
            engine.ensure(host, shown)
    target = stack_of(name)
    with step("stack") as shown:
        shown.done(f"{name}, its file copied from the example" if made else name)
        if not target.exists():
            target.create()
            if stack.setting(settings, "images.source") is None:
                shown.done(f"{name}, new")
        else:
            resources = resources_of(target)
            if faults := protected.protected_leftovers(name, settings, resources):
                raise ProblemError("\n".join(["Nothing was touched.", *faults]))
            target.unlock()
            if host is not None and not instance.is_used(settings):
                move = engine_address.compare(target, host, resources, accepts_another=accepts_another)
    return target, host, move


def engine_of(name: str) -> Engine:
    """Return the engine of the stack's file, which may not run."""
    return engine.resolve(stack.setting(stack.settings_of(name), "platform.docker.host"), access_of(name))


def access_of(name: str) -> SshAccess | None:
    """Return the ssh access to the stack's host from its file; None if the file has no host key."""
    settings = stack.settings_of(name)
    host, host_key = (stack.setting(settings, f"platform.docker.{key}") for key in ("host", "host_key"))
    return engine.pinned_access(name, host, host_key)


def access_of_instance(target: Stack) -> SshAccess | None:
    """Return the ssh access to the stack's instance; None before there is one."""
    return instance.access(target.name, target.resources(with_secrets=True)) if target.exists() else None


def refresh_args(target: Stack, urns_of: Callable[[Sequence[Mapping[str, Any]]], list[str]] | None = None) -> list[str]:
    """Return Pulumi's options for an instance that does not answer; none if it does, or if there is none.

    A refresh of the containers on it would fail. So only AWS is refreshed, for those resources of the state that
    `urns_of` returns: an update recreates a missing instance, and may open one that is closed to this machine.
    """
    access = access_of_instance(target) if instance.is_used(stack.settings_of(target.name)) else None
    if access is None:
        return []
    with step("instance") as shown:
        words = instance.ping_error(access)
        if words is None:
            shown.done(access.host)
            return []
        shown.done(f"{access.host} does not answer ({words.splitlines()[-1]}); what is on it counts as the state says")
    known = [] if urns_of is None else urns_of(target.resources())
    if known:
        target.run("refresh", "--yes", "--skip-preview", *(word for urn in known for word in ("--target", urn)))
    return ["--refresh=false"]


def reachable_engine(name: str) -> Engine:
    """Return the stack's engine, which must answer; this installs nothing."""
    if instance.is_used(stack.settings_of(name)):
        access = access_of_instance(stack_of(name))
        if access is None:
            raise ProblemError(f"The stack {name} has no instance yet; `make up STACK={name}` makes it.")
        host = engine.resolve(access=access, known_from=instance.KEY_SOURCE)
    else:
        host = engine_of(name)
    words = engine.ping_error(host)
    if words is not None:
        raise ProblemError(engine.explanation(host, words))
    engine.require_docker(host)
    return host


def deployed(name: str) -> "Deployed":
    """Return a stack that is up, with its engine, which must be the one in its state."""
    from open_webui_edge.cli.backup.deployed import Deployed  # noqa: PLC0415

    target = stack_of(name)
    if not target.exists():
        raise ProblemError(f"There is no stack {name}; `make up STACK={name}` makes it.")
    resources = resources_of(target)
    host = reachable_engine(name)
    if not instance.is_used(stack.settings_of(name)):
        engine_address.follow(target, host, resources)
    return Deployed(target, host)


def resources_of(target: Stack) -> list[dict[str, Any]]:
    """Return the resources in a stack's state; raises ProblemError if it was renamed after it had created them."""
    resources = target.resources()
    if former := former_names(target.name, ((one["urn"], one.get("outputs") or {}) for one in resources)):
        raise ProblemError(renamed(target.name, former[0]))
    return resources
