"""The commands of a stack: each function is one target of `make`. Runs in `.venv`, which `__main__` has made.

What loads Pulumi's SDK or all settings is imported where it is used: no other command waits for it.
"""

import os
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

from open_webui_edge.bootstrap import command, console, engine, images, paths
from open_webui_edge.bootstrap.console import ProblemError, step
from open_webui_edge.bootstrap.engine import Engine
from open_webui_edge.bootstrap.images import rootfs
from open_webui_edge.cli import certificate as served
from open_webui_edge.cli import containers, engine_address, instance, protected, session, site, stack, trust
from open_webui_edge.cli.backup.one_off_containers import OneOffRunner
from open_webui_edge.cli.stack import Stack
from open_webui_edge.cli.user_input import confirm_by_name, is_requested, variable
from open_webui_edge.runtime.contract import TRIAL_ROLE

_DATA_LEFT = (
    "Everything but the data is gone: `make up STACK={0}` brings it back,"
    " `make down STACK={0} DATA=delete` deletes the data too."
)
_INSTANCE_GONE = (
    "The instance, its address and its network are gone. Still there, and billed: the data volume (and its backups,"
    " and a zone that this stack created). `make up STACK={0}` recreates the rest,"
    " `make down STACK={0} DATA=delete` deletes the data too."
)
_ALL_GONE = (
    "The stack {0} and its data are gone; its file and its history stay. To remove these as well:"
    ' (eval "$(make -s env STACK={0})"; pulumi stack rm --yes {0})'
)


def up(name: str) -> int:
    """Bring a stack up, whatever state the machine is in, and print how to use it."""
    target, host, move = session.ready_stack(name, accepts_another=_accepts_another_engine())
    settings = stack.settings_of(name)
    if host is not None:
        with step("images") as shown:
            source = images.ensure(host, stack.required_images(settings), shown)
            if stack.setting(settings, "images.source") != source:
                target.set("images.source", source)
    refresh = session.refresh_args(target, instance.aws_urns)
    if move is not None:
        move.record()
    target.run("up", "--yes", "--skip-preview", *refresh)
    _print_summary(target, host)
    return 0


def preview(name: str) -> int:
    """Preview the changes of `up`."""
    target, _, move = session.ready_stack(name)
    if move is not None:
        move.record()
    target.run("preview", *session.refresh_args(target))
    return 0


def down(name: str) -> int:
    """Remove a stack; delete its data only with DATA=delete and a confirmation."""
    with_data = is_requested("DATA", "delete", purpose=" to delete the data too,", default="keep")
    accepts_another = _accepts_another_engine()
    target = session.stack_of(name)
    if not target.exists():
        console.say(f"There is no stack {name}; nothing to remove.")
        return 0
    resources = session.resources_of(target)
    on_instance = instance.is_used(stack.settings_of(name))
    if not with_data:
        # An interrupted `make down DATA=delete` leaves data unprotected in the state.
        target.protect(protected.unprotected(resources, on_instance=on_instance))
    if on_instance:
        return _down_with_instance(target, with_data=with_data)
    host = session.reachable_engine(name)
    target.unlock()
    move = engine_address.compare(target, host, resources, accepts_another=accepts_another)
    if with_data:
        confirm(name, leaves_data=move is not None and move.leaves_data)
    if move is not None:
        move.record()
    own_volume = stack.setting(stack.settings_of(name), "data.volume")
    if with_data and own_volume is not None:
        console.say(f"The volume {own_volume} (data.volume), with its users and chats, is yours and is not deleted.")
    # Containers of interrupted runs are in no state, and would hold the volumes and the network.
    OneOffRunner(host, name).clear(containers.BACKUP_TASK, TRIAL_ROLE)
    _destroy(target, with_data=with_data)
    if with_data:
        # Volumes of `make backup` that the stack does not manage.
        OneOffRunner(host, name).clear("backup", "backup-work")
    containers.untag_images(host, name)
    console.say((_ALL_GONE if with_data else _DATA_LEFT).format(name))
    return 0


def _down_with_instance(target: Stack, *, with_data: bool) -> int:
    """Remove a stack on an instance, which need not answer: its containers go with it."""
    name = target.name
    if stack.setting(stack.settings_of(name), "platform.aws.load_balancer.deletion_protection") is True:
        raise ProblemError(
            "platform.aws.load_balancer.deletion_protection is true, so nothing was removed: write false in the stack "
            f"file, run `make up STACK={name}`, and then this again."
        )
    # Only attachments are refreshed: everything on the instance is deleted with it.
    refresh = session.refresh_args(target, instance.attachment_urns)
    if with_data:
        confirm(name)
    _destroy(target, *refresh, with_data=with_data)
    console.say((_ALL_GONE if with_data else _INSTANCE_GONE).format(name))
    return 0


def pull(name: str) -> int:
    """Pull the images behind the stack's tags again, for the next `up`."""
    from open_webui_edge.cli import republished  # noqa: PLC0415

    settings = stack.settings_of(name)
    republished.refuse_built(name, settings)
    deployed = session.deployed(name)
    republished.pull(deployed.stack, deployed.engine, settings)
    return 0


def import_(name: str) -> int:
    """Write a stack file from the configuration of an existing deployment, which stays unchanged."""
    from open_webui_edge.cli.importing import command as importing  # noqa: PLC0415
    from open_webui_edge.cli.importing import stack_file  # noqa: PLC0415
    from open_webui_edge.cli.importing.engine_facts import DockerFacts  # noqa: PLC0415

    file = stack.file_of(name)
    importing.refuse_existing(name, file)
    given = importing.given_sources()
    host = engine.resolve()
    made, said = importing.translate(given, Path.cwd(), name, DockerFacts(host, engine.ping_error(host)))
    with rootfs.workplace("import") as folder:
        stack_file.write(made, session.stack_of(name), file, folder)
    console.put(said)
    return 0


def status(name: str) -> int:
    """List the stack's containers; return 1 if one is unhealthy or there are none."""
    host = session.reachable_engine(name)
    everything = containers.of_stack(host, name)
    listed = [one for one in everything if one["Config"]["Labels"].get("role") != containers.BACKUP_TASK]
    if not listed:
        raise ProblemError(f"There are no containers of the stack {name}; `make up STACK={name}` starts it.")
    console.put(containers.table(listed))
    return 0 if all(containers.is_healthy(container) for container in listed) else 1


def logs(name: str) -> int:
    """Print the logs of the stack's containers: ROLE filters, FOLLOW=1 follows."""
    role = variable("ROLE")
    host = session.reachable_engine(name)
    listed = containers.of_stack(host, name, role)
    if not listed:
        of_role = f"{name} with the role {role}" if role else name
        raise ProblemError(f"There is no container of the stack {of_role}; `make status STACK={name}` lists them.")
    containers.show_logs(host, listed, follow=os.environ.get("FOLLOW") == "1")
    return 0


def certificate(name: str) -> int:
    """Show the certificate that the stack serves; return 1 if none is served or it is expired."""
    host = session.reachable_engine(name)
    proxies = containers.of_stack(host, name, "nginx")
    if not proxies:
        raise ProblemError(f"There is no proxy of the stack {name}; `make up STACK={name}` starts it.")
    proxy = proxies[0]
    if proxy["State"]["Status"] != "running":
        raise ProblemError(
            f"The proxy of {name} is down ({proxy['State']['Status']}), so nothing is served;"
            f" `make up STACK={name}` starts it, `make logs STACK={name} ROLE=nginx` may say why it ended."
        )
    config = served.CertificateConfig.from_settings(stack.settings_of(name))
    try:
        shown, how = served.served(host, proxy, config)
    except (OSError, ValueError) as fault:
        message = f"The proxy of {name} runs but presents no certificate: {fault}; see `make status STACK={name}`."
        raise ProblemError(message) from None
    certbot = containers.of_stack(host, name, "certbot")
    state = served.state_of(host, certbot[-1]["Name"].lstrip("/")) if certbot else None
    console.put(served.table(shown, config, how=how, state=state))
    return 1 if served.is_outside_validity(shown) else 0


def certificate_dry_run(name: str) -> int:
    """Dry-run a renewal with certbot, if an issuer is configured."""
    config = served.CertificateConfig.from_settings(stack.settings_of(name))
    if config.mode != "lets-encrypt":
        why = {
            "self-signed": "this stack's own CA renews it in any `make up` during the last third of its lifetime",
            "provided": "you provide it, and `make up` validates it before it changes anything",
        }.get(config.mode, "no issuer is involved")
        console.say(f"There is nothing to renew: the certificate of {name} is {config.mode}, so {why}.")
        return 0
    host = session.reachable_engine(name)
    running = [one for one in containers.of_stack(host, name, "certbot") if one["State"]["Status"] == "running"]
    if not running:
        raise ProblemError(f"certbot's container of {name} does not run; `make up STACK={name}` starts it.")
    return command.pass_through([*host.client, "exec", running[0]["Name"].lstrip("/"), *served.DRY_RUN])


def trust_ca(name: str) -> int:
    """Make this machine and its browsers trust the stack's own CA."""
    target = session.stack_of(name)
    if not target.exists():
        raise ProblemError(f"There is no stack {name}, so it has no CA; `make up STACK={name}` creates both.")
    ca_pem = target.outputs().get("ca_certificate")
    if not isinstance(ca_pem, str):
        raise ProblemError(f"The certificate of {name} is not signed by a CA of its own; there is nothing to trust.")
    code = trust.report(trust.add(name, ca_pem, trust.stores_here(system_store=_with_system_store())))
    console.say(f"Restart open browsers so that they notice. `make untrust-ca STACK={name}` undoes this.")
    return code


def untrust_ca(name: str) -> int:
    """Remove the stack's own CA from the trust stores of this machine and its browsers; the stack may be gone."""
    stack.file_of(name)
    code = trust.report(trust.remove(name, trust.stores_here(system_store=_with_system_store())))
    console.say("Restart open browsers so that they notice.")
    return code


def backup(name: str) -> int:
    """Back the stack up now."""
    from open_webui_edge.cli.backup import save  # noqa: PLC0415

    return save.backup(session.deployed(name))


def restore(name: str) -> int:
    """Replace the stack's data by a backup."""
    from open_webui_edge.cli.backup import restore  # noqa: PLC0415

    return restore.restore(session.deployed(name))


def backup_verify(name: str) -> int:
    """Restore the newest backup into a scratch deployment and compare its contents."""
    from open_webui_edge.cli.backup import verify  # noqa: PLC0415

    return verify.verify(session.deployed(name))


def doctor(name: str) -> int:
    """Check a running deployment from outside and inside; return 0 for OK, 1 for warnings, 2 for failures."""
    from open_webui_edge.cli.doctor import doctor as examine  # noqa: PLC0415  # no other command needs its packages

    return examine(name)


def reset_admin_password(name: str) -> int:
    """Set an administrator's password: a generated one, shown once, or one from standard input."""
    from open_webui_edge.cli import admin_password  # noqa: PLC0415

    email = variable("ACCOUNT") or stack.setting(stack.settings_of(name), "open_webui.admin.email")
    host = session.reachable_engine(name)
    password, made = admin_password.new_password(os.environ.get("PASSWORD", ""))
    said = admin_password.set_for(host, name, email, password)
    console.say(f"{said['email']} has a new password." + (" It is shown this once:" if made else ""))
    if made:
        console.put(password)
    console.say(admin_password.follow_up(said))
    return 0


def env(name: str) -> int:
    """Print the exports that pin plain `pulumi` to this stack in the shell that evaluates them."""
    target = session.stack_of(name)
    # `pulumi stack select` is global; this variable is one shell's, and `--stack` still overrides it.
    for line in exports({**target.given, "PULUMI_STACK": name}, os.environ.get("PATH", "")):
        console.put(line)
    try:
        settings = stack.settings_of(name)
        # Plain `pulumi` finds the engine by its address in the state.
        if settings and not instance.is_used(settings):
            host = session.engine_of(name)
            if engine.ping_error(host) is None and target.exists():
                engine_address.follow(target, host, target.resources())
    except ProblemError as problem:
        # The exports are needed all the same, for example to unlock or inspect a stack.
        console.say(str(problem))
    return 0


def exports(given: dict[str, str], search_path: str) -> list[str]:
    """Return the lines for a shell, without a folder that is on PATH already."""
    lines = []
    for key, value in given.items():
        if key != "PATH":
            lines.append(f"export {key}={shlex.quote(value)}")
        elif value not in search_path.split(os.pathsep):
            lines.append(f'export PATH={shlex.quote(value)}:"$PATH"')
    return lines


def _with_system_store() -> bool:
    return os.environ.get("SYSTEM", "1") != "0"


def _print_summary(target: Stack, host: Engine | None) -> None:
    outputs = target.outputs()
    url, certificate = outputs.get("url"), outputs.get("ca_certificate")
    if not isinstance(url, str):
        raise ProblemError("The stack has no output `url`; its program should export one.")
    settings = stack.settings_of(target.name)
    address = outputs.get("load_balancer") or outputs.get("host")
    here = host is not None and host.is_local and not instance.is_used(settings)
    if here and host is not None:
        address = site.listening_address(containers.of_stack(host, target.name), url)
    proxy_protocol = bool(stack.setting(settings, "proxy.proxy_protocol"))
    client = site.SiteClient(url, address, certificate, proxy_protocol=proxy_protocol)
    # For example a company's CA, which its own machines trust and this one may not.
    untrusted = "" if certificate else client.verify_error()
    if untrusted:
        client = replace(client, unverified=True)
    with step("ready") as shown:
        if closed := _access_restriction(settings):
            shown.done(closed)
        else:
            shown.now(f"waiting for {url}/ready")
            client.wait_until_ready()
            shown.done("Open WebUI responds through the proxy")
    lines = ["", f"Open WebUI is at {url}", *site.pending_dns(outputs), *site.status_page(outputs, here=here)]
    if certificate:
        file = site.write_ca(certificate, paths.BUILD, target.name).relative_to(paths.CHECKOUT)
        lines += [
            f"Its certificate is signed by this stack's own CA ({file}).",
            f"`make trust-ca STACK={target.name}` makes this machine and its browsers trust it; others need that file.",
        ]
    if untrusted:
        lines.append(f"This machine does not trust its certificate: {untrusted}. `make certificate` shows it.")
    lines += site.next_steps(
        stack=target.name,
        url=url,
        admin=stack.setting(settings, "open_webui.admin.email"),
        no_account_yet=client.has_no_account_yet(),
        has_models=bool(stack.setting(settings, "models.providers")),
    )
    for line in lines:
        console.put(line)


def _access_restriction(settings: dict[str, Any]) -> str:
    """Return why this machine cannot query the deployment; "" if it can."""
    if stack.setting(settings, "proxy.maintenance"):
        return "its containers are healthy; proxy.maintenance answers every request"
    if stack.setting(settings, "proxy.authentication.mode") == "client-certificates":
        return "its containers are healthy; the proxy requires a client certificate"
    return ""


def _accepts_another_engine() -> bool:
    return is_requested("ENGINE", "new", purpose=" to move to another engine without the data,", default="")


def confirm(name: str, *, leaves_data: bool = False) -> None:
    """Ask the user to confirm that a stack's data is deleted, or stays on an engine that it leaves; else raise."""
    warning = f"This deletes all users, chats, files, keys, backups on its engine and the CA of {name}."
    if leaves_data:
        warning = (
            f"This deletes {name}, its keys and its CA from the state; its data on the former engine stays there, and"
            " cannot be read without these keys."
        )
    if stack.setting(stack.settings_of(name), "certificate.mode") == "lets-encrypt":
        warning = (
            "This also deletes its certificates and its account at the issuer: new ones count against the issuer's rate"
            f" limits (Let's Encrypt: five for the same names in a week).\n{warning}"
        )
    confirm_by_name(name, warning, reason="Deleting data needs confirmation", otherwise="deleted")


def _destroy(target: Stack, *options: str, with_data: bool) -> None:
    # Unprotected resources go first: if this is interrupted, the data is still in the state, and protected.
    target.run("destroy", "--yes", "--skip-preview", "--exclude-protected", *options)
    if with_data:
        # Pulumi reports a retained volume as deleted and leaves it on the engine, so this lifts retention as well.
        target.unprotect()
        target.run("destroy", "--yes", "--skip-preview")
