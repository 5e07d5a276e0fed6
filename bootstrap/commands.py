"""What `make` offers: each function is one target. Runs in `.venv`, which `__main__` has made.

What loads Pulumi's SDK or all settings is imported where it is used: no other command waits for it.
"""

import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bootstrap import certificate as served
from bootstrap import (
    command,
    console,
    containers,
    debian,
    engine,
    front_door,
    images,
    instance,
    kept,
    places,
    pulumi_cli,
    stack,
    testing,
    trust,
    virtual_environment,
)
from bootstrap import release as releases
from bootstrap.console import step
from bootstrap.engine import Engine
from bootstrap.images import rootfs
from bootstrap.problem import ProblemError
from bootstrap.stack import Stack
from components.docker.ssh import SshAccess

if TYPE_CHECKING:
    from bootstrap.backup.deployed import Deployed

TEST_PACKAGES = places.CHECKOUT / "bootstrap" / "test-packages.txt"
BUILD = places.CHECKOUT / "build"
_ALL_GONE = "The stack {} and its data are gone; its file and its history stay."


def up(name: str) -> int:
    """Bring a stack up from whatever there is, and say how to use it."""
    target, host = _ready_stack(name)
    settings = stack.settings_of(name)
    if host is not None:
        with step("images") as shown:
            source = images.ensure(host, stack.wanted_images(settings), shown)
            if stack.setting(settings, "images.source") != source:
                target.set("images.source", source)
    told = _of_silent_instance(target, instance.of_aws)
    target.run("up", "--yes", "--skip-preview", *told)
    _greet(target, host)
    return 0


def preview(name: str) -> int:
    """Show what `up` would change."""
    target, _ = _ready_stack(name)
    target.run("preview", *_of_silent_instance(target))
    return 0


def down(name: str) -> int:
    """Remove a stack; its data only when DATA=delete says so and the person confirms it."""
    with_data = _asked_to_delete_data()
    target = _stack(name)
    if not target.exists():
        console.say(f"There is no stack {name}; nothing to remove.")
        return 0
    if instance.is_wanted(stack.settings_of(name)):
        return _down_with_instance(target, with_data=with_data)
    host = _reach(name)
    if not with_data:
        _clear_away(host, name)
        target.run("destroy", "--yes", "--skip-preview", "--exclude-protected")
        containers.untag_images(host, name)
        console.say(
            f"Everything but the data is gone: `make up STACK={name}` brings it back, "
            f"`make down STACK={name} DATA=delete` removes that too."
        )
        return 0
    settings = stack.settings_of(name)
    brought = stack.setting(settings, "data.volume")
    if brought is not None:
        console.say(f"The volume {brought} (data.volume), with its users and chats, belongs to who made it and stays.")
    confirm(name, certified=stack.setting(settings, "certificate.mode") == "lets-encrypt")
    _clear_away(host, name)
    _delete_with_data(target)
    _clear_away_backups(host, name)
    containers.untag_images(host, name)
    return 0


def _clear_away(host: Engine, name: str) -> None:
    """Remove what was cut and stands in no state: it holds the volumes and the network that are to go."""
    from bootstrap.backup.tasks import ROLE, Tasks  # noqa: PLC0415
    from components.docker import trial  # noqa: PLC0415

    for role in (ROLE, trial.ROLE):
        Tasks(host, name).clear(role)


def _clear_away_backups(host: Engine, name: str) -> None:
    """Remove what `make backup` made where the stack itself makes none."""
    from bootstrap.backup.tasks import Tasks  # noqa: PLC0415

    for role in ("backup", "backup-work"):
        Tasks(host, name).clear(role)


def _down_with_instance(target: Stack, *, with_data: bool) -> int:
    """Remove a stack whose containers go with their instance, whether that answers or not."""
    name = target.name
    settings = stack.settings_of(name)
    if stack.setting(settings, "platform.aws.load_balancer.deletion_protection") is True:
        message = (
            "platform.aws.load_balancer.deletion_protection is true, so nothing was removed: write false in the stack "
            f"file, run `make up STACK={name}`, and then this again."
        )
        raise ProblemError(message)
    # The instance itself stays in the state: what it holds goes with it, and is not asked for one by one.
    told = _of_silent_instance(target, instance.held_by_it)
    if with_data:
        confirm(name, certified=stack.setting(settings, "certificate.mode") == "lets-encrypt")
    target.run("destroy", "--yes", "--skip-preview", "--exclude-protected", *told)
    if with_data:
        with rootfs.workplace("down") as folder:
            target.release(folder)
        target.run("destroy", "--yes", "--skip-preview")
        console.say(_ALL_GONE.format(name))
        return 0
    console.say(
        "The instance, its address and all around it are gone. What is kept, and costs: the data volume (and copies of "
        "it, and a zone that this stack made). "
        f"`make up STACK={name}` brings the rest back, `make down STACK={name} DATA=delete` removes that too."
    )
    return 0


def import_(name: str) -> int:
    """Make a stack's file of what a deployment that is there was started with; touch nothing."""
    from bootstrap.importing import command as importing  # noqa: PLC0415
    from bootstrap.importing import stack_file  # noqa: PLC0415
    from bootstrap.importing.old import AskedEngine  # noqa: PLC0415

    file = stack.file_of(name)
    importing.refuse_existing(name, file)
    given = importing.given_sources()
    host = engine.chosen()
    made, said = importing.translated(given, Path.cwd(), name, AskedEngine(host, engine.unanswered(host)))
    with rootfs.workplace("import") as folder:
        stack_file.write(made, _stack(name), file, folder)
    console.put(said)
    return 0


def status(name: str) -> int:
    """Show the stack's containers; 1 when one of them is not well, or there are none."""
    found = [one for one in containers.of_stack(_reach(name), name) if not containers.is_passing(one)]
    if not found:
        console.say(f"No containers of the stack {name} are here; `make up STACK={name}` starts it.")
        return 1
    console.put(containers.table(found))
    return 0 if all(containers.is_well(container) for container in found) else 1


def logs(name: str) -> int:
    """Show what the stack's containers wrote: ROLE chooses, FOLLOW=1 goes on."""
    role = os.environ.get("ROLE") or None
    host = _reach(name)
    found = containers.of_stack(host, name, role)
    if not found:
        with_role = f" with the role {role}" if role else ""
        message = f"No container of the stack {name}{with_role} is here; `make status STACK={name}` lists them."
        raise ProblemError(message)
    containers.show_logs(host, found, follow=os.environ.get("FOLLOW") == "1")
    return 0


def certificate(name: str) -> int:
    """Show the certificate that the stack serves; 1 when none is served that browsers would take."""
    host = _reach(name)
    found = containers.of_stack(host, name, "nginx")
    if not found:
        console.say(f"No proxy of the stack {name} is here; `make up STACK={name}` starts it.")
        return 1
    (proxy, *_) = found
    if proxy["State"]["Status"] != "running":
        console.say(
            f"The proxy of {name} is down ({proxy['State']['Status']}), so nothing is served;"
            f" `make up STACK={name}` starts it, `make logs STACK={name} ROLE=nginx` may say why it ended."
        )
        return 1
    wanted = served.Wanted.by(stack.settings_of(name))
    try:
        shown, how = served.served(host, proxy, wanted)
    except (OSError, ValueError) as fault:
        console.say(
            f"The proxy of {name} runs and shows no certificate: {fault}; `make status STACK={name}` says more."
        )
        return 1
    state = None
    for certbot in containers.of_stack(host, name, "certbot"):
        state = served.state_of(host, certbot["Name"].lstrip("/"))
    console.put(served.table(shown, wanted, how=how, state=state))
    return 1 if served.is_over(shown) else 0


def certificate_dry_run(name: str) -> int:
    """Have certbot practise a renewal, where there is an issuer to practise with."""
    wanted = served.Wanted.by(stack.settings_of(name))
    if wanted.mode != "lets-encrypt":
        why = {
            "self-signed": "this stack's own authority signs it, in any `make up` that finds it in its last third",
            "provided": "somebody brings it, and `make up` looks at it before anything is touched",
        }.get(wanted.mode, "no issuer is asked for it")
        console.say(f"There is nothing to try: the certificate of {name} is {wanted.mode}, so {why}.")
        return 0
    host = _reach(name)
    found = [one for one in containers.of_stack(host, name, "certbot") if one["State"]["Status"] == "running"]
    if not found:
        console.say(f"No container of {name} runs that asks an issuer; `make up STACK={name}` starts it.")
        return 1
    return command.pass_through([*host.client, "exec", found[0]["Name"].lstrip("/"), *served.DRY_RUN])


def trust_ca(name: str) -> int:
    """Have this machine and its browsers trust the stack's own authority."""
    target = _stack(name)
    if not target.exists():
        console.say(f"There is no stack {name}, so it has no authority; `make up STACK={name}` makes both.")
        return 1
    authority = target.outputs().get("ca_certificate")
    if not isinstance(authority, str):
        console.say(f"The certificate of {name} is not signed by an authority of its own; there is nothing to trust.")
        return 1
    code = trust.report(trust.add(name, authority, trust.stores_here(system_store=_with_system_store())))
    console.say(f"Browsers that are open learn of it when they start again. `make untrust-ca STACK={name}` undoes it.")
    return code


def untrust_ca(name: str) -> int:
    """Have this machine and its browsers forget the stack's own authority; the stack itself may be gone."""
    stack.file_of(name)
    code = trust.report(trust.remove(name, trust.stores_here(system_store=_with_system_store())))
    console.say("Browsers that are open learn of it when they start again.")
    return code


def backup(name: str) -> int:
    """Back the stack up now."""
    from bootstrap.backup import saving  # noqa: PLC0415

    return saving.backup(_deployed(name))


def restore(name: str) -> int:
    """Put a backup in the place of the stack's data."""
    from bootstrap.backup import restoring  # noqa: PLC0415

    return restoring.restore(_deployed(name))


def backup_verify(name: str) -> int:
    """Bring the newest backup up beside the stack, and compare what is in it."""
    from bootstrap.backup import verifying  # noqa: PLC0415

    return verifying.verify(_deployed(name))


def doctor(name: str) -> int:
    """Ask a running deployment what a user would ask; 0 well, 1 warnings, 2 failures."""
    from bootstrap.doctor import doctor as examine  # noqa: PLC0415  # no other command needs its packages

    return examine(name)


def reset_admin_password(name: str) -> int:
    """Give an administrator a new password and show it once, or take it from standard input."""
    from bootstrap import admin_password  # noqa: PLC0415

    email = os.environ.get("ACCOUNT") or stack.setting(stack.settings_of(name), "open_webui.admin.email")
    host = _reach(name)
    password, made = admin_password.wanted(os.environ.get("PASSWORD", ""))
    said = admin_password.set_for(host, name, email, password)
    console.say(f"{said['email']} has a new password." + (" It is shown this once:" if made else ""))
    if made:
        console.put(password)
    console.say(admin_password.left_to_know(said))
    return 0


def env(name: str) -> int:
    """Print the exports with which plain `pulumi` works in the shell that evaluates them."""
    for line in exports(_stack(name).given, os.environ.get("PATH", "")):
        console.put(line)
    return 0


def exports(given: dict[str, str], search_path: str) -> list[str]:
    """Return the lines for a shell; a folder that is on PATH already is not put there again."""
    lines = []
    for key, value in given.items():
        if key != "PATH":
            lines.append(f"export {key}={shlex.quote(value)}")
        elif value not in search_path.split(os.pathsep):
            lines.append(f'export PATH={shlex.quote(value)}:"$PATH"')
    return lines


def test(*arguments: str) -> int:
    """Run all tests, after making the machine ready for them; `arguments` are pytest's."""
    runs = testing.divide(arguments)
    given = _pulumi_for_tests()
    # Those need no engine and no images, which may take minutes.
    with testing.beside(runs.beside, given, BUILD / "tests-aws.log") as others:
        codes: list[int] = []
        if runs.first is not None:
            codes.append(_python("-m", "pytest", *runs.first, environment={**given, **_engine_for_tests()}))
        if others is not None:
            codes.append(others.finish())
    return testing.together(codes)


def bench() -> int:
    """Measure the proxy beside others, and write down what came of it."""
    with step("packages for the browser") as shown:
        wanted = rootfs.packages_in(TEST_PACKAGES)
        if debian.missing(wanted) and not debian.can_install():
            message = f"Only root on Debian installs what this needs: {' '.join(debian.missing(wanted))}"
            raise ProblemError(message)
        debian.install(wanted, shown)
        shown.done("there")
    with step("Docker engine") as shown:
        host = engine.chosen()
        if not host.is_local:
            message = (
                f"The clients must reach the containers, so the engine must be on this machine, not {host.address}."
            )
            raise ProblemError(message)
        engine.ensure(host, shown)
        shown.done(host.address)
    with step("images") as shown:
        source = images.ensure(host, images.Wanted(source=images.there(host)), shown)
    with step("tools") as shown:
        images.ensure_tools(host, shown)
    given = {"OPEN_WEBUI_EDGE_IMAGES": source.value, "DOCKER_HOST": host.address}
    return _python("-m", "benchmarks", environment=given)


def check() -> int:
    """Format, lint, types, generated files, unit tests: all of them, so that one run shows all faults."""
    parts: list[tuple[str, tuple[str, ...]]] = [
        ("format", ("-m", "ruff", "format", "--check", ".")),
        ("lint", ("-m", "ruff", "check", ".")),
        ("types", ("-m", "pyright")),
        ("generated files", ("-m", "stacks.documents", "--check")),
        ("unit tests", ("-m", "pytest", "-q", "tests/unit")),
    ]
    failed = []
    for name, words in parts:
        console.say(f"--- {name}")
        if _python(*words):
            failed.append(name)
    console.say(f"failed: {', '.join(failed)}" if failed else "all well")
    return 1 if failed else 0


def docs() -> int:
    """Write the generated files anew."""
    # What follows from the resource graph is known where that is made: in the tests.
    drawn = ("tests/unit/test_pictures.py", "tests/unit/aws/test_rights.py")
    only = "pictures_show or policy_allows"
    return _python("-m", "stacks.documents") or _python("-m", "pytest", "-q", "--update", *drawn, "-k", only)


def fmt() -> int:
    """Format the code, and mend what the linter can mend."""
    return _python("-m", "ruff", "check", "--fix", "--exit-zero", "--quiet", ".") or _python(
        "-m", "ruff", "format", "."
    )


def release() -> int:
    """Move changes/ into CHANGELOG.md and write the new version; what is committed and tagged is left to the person."""
    version = os.environ.get("VERSION") or releases.current()
    releases.cut(version, releases.day_of(os.environ.get("DATE")))
    console.say(
        f"CHANGELOG.md has a section on {version}. Read it; then: git add -A && git commit -m 'release: {version}' &&"
        f" git tag {version}, and what docs/operations.md says of its states."
    )
    return 0


def _with_system_store() -> bool:
    return os.environ.get("SYSTEM", "1") != "0"


def stack_of(name: str) -> Stack:
    """Return a stack and the Pulumi that runs it, with all that both need in place."""
    return _stack(name)


def _stack(name: str) -> Stack:
    stack.file_of(name)  # a name that cannot be is refused before anything is made
    settings = stack.settings_of(name)
    if instance.is_wanted(settings) and not virtual_environment.is_current(virtual_environment.FOR_AWS):
        with step("packages for AWS") as shown:
            virtual_environment.ensure(virtual_environment.FOR_AWS, shown)
    with step("Pulumi") as shown:
        pulumi = pulumi_cli.find(shown)
        shown.done(f"{pulumi.origin}: {pulumi.executable}")
    used = engine.chosen()
    # Pulumi's provider knows that variable, but no contexts: the images would be in one engine, the stack in another.
    given = {"DOCKER_HOST": used.address} if used.origin.startswith("the docker context") else {}
    target = Stack(name, pulumi, {**stack.environment(pulumi), **given})
    engine.prepare(_access_of_instance(target) if instance.is_wanted(settings) else _access(name))
    return target


def _ready_stack(name: str) -> tuple[Stack, Engine | None]:
    """Return the stack and the engine that its images must be in; None where they are none of this machine's."""
    made = stack.make_file(name)
    settings = stack.settings_of(name)
    pulled_there = instance.is_wanted(settings) and stack.setting(settings, "images.source") != "built"
    host = None if pulled_there else _engine(name, install=True)
    target = _stack(name)
    with step("stack") as shown:
        shown.done(f"{name}, its file made from the example" if made else name)
        if not target.exists():
            target.create()
            if stack.setting(settings, "images.source") is None:
                shown.done(f"{name}, new")
        elif instance.is_wanted(settings):
            faults = kept.given_up(name, settings, target.resources())
            if faults:
                raise ProblemError("\n".join(["Nothing was touched.", *faults]))
    return target, host


def _engine(name: str, *, install: bool) -> Engine:
    settings = stack.settings_of(name)
    found = engine.chosen(stack.setting(settings, "platform.docker.host"), _access(name))
    if not install:
        return found
    with step("Docker engine") as shown:
        engine.ensure(found, shown)
        shown.done(f"{found.address} ({found.origin})")
    return found


def _access(name: str) -> SshAccess | None:
    settings = stack.settings_of(name)
    host, host_key = (stack.setting(settings, f"platform.docker.{key}") for key in ("host", "host_key"))
    return engine.known_beforehand(name, host, host_key)


def _access_of_instance(target: Stack) -> SshAccess | None:
    """Return how the stack's instance is reached; None before there is one."""
    return instance.access(target.name, target.resources(with_secrets=True)) if target.exists() else None


def _of_silent_instance(
    target: Stack, asked: Callable[[Sequence[Mapping[str, Any]]], list[str]] | None = None
) -> list[str]:
    """Return what Pulumi is told where the stack's instance does not answer; nothing where it does, or there is none.

    Pulumi would begin with asking what is on it, and end there. So AWS alone is asked, about those resources of the
    state that `asked` names: an instance that is gone is made anew by an update, and one that is closed to this machine
    may be opened by it.
    """
    if not instance.is_wanted(stack.settings_of(target.name)):
        return []
    found = _access_of_instance(target)
    if found is None:
        return []
    with step("instance") as shown:
        words = instance.unanswered(found)
        if words is None:
            shown.done(found.host)
            return []
        shown.done(f"{found.host} does not answer ({words.splitlines()[-1]}); what is on it counts as the state says")
    known = [] if asked is None else asked(target.resources())
    if known:
        target.run("refresh", "--yes", "--skip-preview", *(word for urn in known for word in ("--target", urn)))
    return ["--refresh=false"]


def _reach(name: str) -> Engine:
    """Return the stack's engine, which must answer; nothing is installed for a question."""
    found = _on_instance(name) if instance.is_wanted(stack.settings_of(name)) else _engine(name, install=False)
    words = engine.unanswered(found)
    if words is not None:
        raise ProblemError(engine.explanation(found, words))
    return found


def _deployed(name: str) -> "Deployed":
    from bootstrap.backup.deployed import Deployed  # noqa: PLC0415

    target = _stack(name)
    if not target.exists():
        message = f"There is no stack {name}; `make up STACK={name}` makes it."
        raise ProblemError(message)
    return Deployed(target, _reach(name))


def _on_instance(name: str) -> Engine:
    access = _access_of_instance(_stack(name))
    if access is None:
        message = f"The stack {name} has no instance yet; `make up STACK={name}` makes it."
        raise ProblemError(message)
    return engine.chosen(access=access, known_from=instance.TOLD_BY)


def _greet(target: Stack, host: Engine | None) -> None:
    outputs = target.outputs()
    url, certificate = outputs.get("url"), outputs.get("ca_certificate")
    if not isinstance(url, str):
        message = "The stack has no output `url`; its program should export one."
        raise ProblemError(message)
    settings = stack.settings_of(target.name)
    address = outputs.get("load_balancer") or outputs.get("host")
    here = host is not None and host.is_local and not instance.is_wanted(settings)
    if here and host is not None:
        address = front_door.listening_address(containers.of_stack(host, target.name), url)
    door = front_door.FrontDoor(
        url, address, certificate, proxy_protocol=bool(stack.setting(settings, "proxy.proxy_protocol"))
    )
    # A company's authority, say, which its people's machines know and this one need not.
    distrusted = "" if certificate else door.distrusted()
    if distrusted:
        door = replace(door, unverified=True)
    with step("ready") as shown:
        closed = _closed_to_us(settings)
        if closed:
            shown.done(closed)
        else:
            shown.now(f"waiting for {url}/ready")
            door.wait_until_ready()
            shown.done("Open WebUI answers through the proxy")
    lines = ["", f"Open WebUI is at {url}", *front_door.left_to_do(outputs)]
    lines += front_door.status_page(outputs, here=here)
    if certificate:
        file = front_door.write_ca(certificate, BUILD, target.name).relative_to(places.CHECKOUT)
        lines += [
            f"Its certificate is signed by this stack's own CA ({file}).",
            f"`make trust-ca STACK={target.name}` has this machine and its browsers trust it; others need that file.",
        ]
    if distrusted:
        lines.append(f"This machine does not trust its certificate: {distrusted}. `make certificate` shows it.")
    lines += front_door.next_thing(
        stack=target.name,
        url=url,
        admin=stack.setting(settings, "open_webui.admin.email"),
        no_account_yet=door.has_no_account_yet(),
        has_models=bool(stack.setting(settings, "models.providers")),
    )
    for line in lines:
        console.put(line)


def _closed_to_us(settings: dict[str, Any]) -> str:
    """Return why nobody without a further key can ask the deployment how it is; "" where anybody can."""
    if stack.setting(settings, "proxy.maintenance"):
        return "its containers are healthy; proxy.maintenance answers everybody"
    if stack.setting(settings, "proxy.authentication.mode") == "client-certificates":
        return "its containers are healthy; the proxy lets in only who has a client certificate"
    return ""


def _asked_to_delete_data() -> bool:
    value = os.environ.get("DATA", "")
    if value not in {"", "keep", "delete"}:
        message = f"DATA={value} says nothing: DATA=delete removes the data too, and without it the data stays."
        raise ProblemError(message)
    return value == "delete"


def confirm(name: str, *, certified: bool = False) -> None:
    """Ask whether the data may go; `certified` says that an issuer counts what it gave.

    Raises:
        ProblemError: it may not.

    """
    if os.environ.get("YES") == "1":
        return
    if sys.stdin is None or not sys.stdin.isatty():
        message = "Deleting the data asks first, and nobody is there to answer; YES=1 answers for automation."
        raise ProblemError(message)
    if certified:
        sys.stderr.write(
            "Its certificates and the account with their issuer go too: the next ones count against the issuer's limits"
            " (Let's Encrypt: five for the same names in a week).\n"
        )
    sys.stderr.write(
        f"This deletes all users, chats, files, keys, backups on its engine and the CA of {name}."
        f" Type {name} to go on: "
    )
    sys.stderr.flush()
    if sys.stdin.readline().strip() != name:
        message = "That is not its name; nothing was deleted."
        raise ProblemError(message)


def _delete_with_data(target: Stack) -> None:
    """Lift what protects the data by an update, then remove everything.

    A volume that the state says to retain would outlive a destroy that reports it deleted. The lifted setting stands
    in a copy of the stack file, so that the file stays as it is whatever happens.
    """
    # First what is not protected: an update would fail, and keep the data, for as long as a container is not well.
    target.run("destroy", "--yes", "--skip-preview", "--exclude-protected")
    with rootfs.workplace("down") as folder:
        lifted = folder / "settings.yaml"
        lifted.write_bytes(stack.file_of(target.name).read_bytes())
        target.set("data.keep", "false", file=lifted)
        kept = [
            resource["urn"]
            for resource in target.resources()
            if resource.get("protect") or resource.get("retainOnDelete")
        ]
        if kept:
            targets = [word for urn in kept for word in ("--target", urn)]
            target.run("up", "--yes", "--skip-preview", "--config-file", str(lifted), *targets)
        target.run("destroy", "--yes", "--skip-preview", "--config-file", str(lifted))
    console.say(_ALL_GONE.format(target.name))


def _pulumi_for_tests() -> dict[str, str]:
    with step("packages for the tests") as shown:
        wanted = rootfs.packages_in(TEST_PACKAGES)
        if debian.can_install():
            debian.install(wanted, shown)
            shown.done("there")
        else:
            _miss(f"only root on Debian installs them: {' '.join(wanted)}", shown.done)
    with step("Pulumi") as shown:
        pulumi = pulumi_cli.find(shown)
        shown.done(pulumi.origin)
    # Neither the backend nor the passphrase of this person: a test cannot touch their stacks.
    return {
        **pulumi.environment,
        "PATH": f"{pulumi.environment.get('PATH', '')}:{os.environ.get('PATH', '')}".lstrip(":"),
    }


def _engine_for_tests() -> dict[str, str]:
    given: dict[str, str] = {}
    with step("Docker engine") as shown:
        host = engine.chosen()
        try:
            engine.ensure(host, shown)
        except ProblemError as problem:
            _miss(str(problem), shown.done)
            return given
        shown.done(host.address)
    with step("images") as shown:
        wanted = images.Wanted(
            source=images.there(host),
            postgres=True,
            redis=True,
            metrics=True,
            prometheus=True,
            certbot=True,
            backup=True,
        )
        given["OPEN_WEBUI_EDGE_IMAGES"] = images.ensure(host, wanted, shown).value
    made = {
        "tools": images.ensure_tools,
        "ACME server": images.ensure_acme_tools,
        "instance": images.ensure_instance,
    }
    for name, ensure in made.items():
        with step(name) as shown:
            try:
                ensure(host, shown)
            except ProblemError as problem:
                _miss(str(problem), shown.done)
    return given


def _miss(what: str, otherwise: Callable[[str], None]) -> None:
    """Go on without something that only some tests need; in CI, where no test may be left out, that is a failure."""
    if os.environ.get("CI") == "1":
        raise ProblemError(what)
    otherwise(f"going on without: {what}")


def _python(*arguments: str, environment: dict[str, str] | None = None) -> int:
    return command.pass_through([places.PYTHON, *arguments], environment=environment, folder=Path(places.CHECKOUT))
