"""This stack's settings: read from Pulumi's configuration, checked against the machine, before anything is made."""

import re
from pathlib import Path
from typing import cast

import pulumi
import yaml
from pulumi.runtime.config import CONFIG

from components.docker.chosen import engine_of
from components.docker.engine import EngineError
from components.docker.preflight import faults_of_source, faults_on, wanted_images
from components.images import ImageSource
from stacks.faults import Fault, SettingsError
from stacks.platform import PlatformKind
from stacks.settings import StackSettings, encrypted_paths, read_settings

# What is a valid part of the name of a container, a volume and an image alike.
_STACK = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*")
_STACK_RULE = "name the stack with small letters and digits, with single '-', '_' or '.' between"


def settings_of_this_stack() -> StackSettings:
    """Return the settings of the stack that this program runs for.

    Raises:
        pulumi.RunError: with every fault, a line each.

    """
    stack = pulumi.get_stack()
    source = f"stacks/Pulumi.{stack}.yaml"
    config = dict(CONFIG.get())
    if not _STACK.fullmatch(stack):
        raise pulumi.RunError(f"The name {stack} cannot be part of a container's and an image's; {_STACK_RULE}.")
    try:
        settings = read_settings(
            config,
            secret_keys=[key for key in config if pulumi.runtime.is_config_secret(key)],
            source=source,
            encrypted_paths=_encrypted_paths(Path(source)),
        )
        faults = _faults_of_the_machine(settings, stack)
    except (SettingsError, EngineError) as error:
        raise pulumi.RunError(str(error)) from None
    if faults:
        raise pulumi.RunError(str(SettingsError(source, faults)))
    return settings


def _faults_of_the_machine(settings: StackSettings, stack: str) -> list[Fault]:
    # Who removes data needs no free port and no image for it.
    if not settings.data.keep:
        return []
    brought = _faults_of_the_provided_certificate(settings)
    if settings.platform.kind is PlatformKind.AWS_VM:
        # There may be no instance yet; what an update needs of it, the update asks for.
        return [*brought, *faults_of_source(settings)]
    source = settings.images.source
    # A preview asks no registry.
    asks = source is ImageSource.BUILT or not pulumi.runtime.is_dry_run()
    wanted = {str(source): wanted_images(settings)} if asks else {}
    brought_volume = None if settings.data.volume is None else (settings.data.volume, stack)
    facts = engine_of(settings, stack).facts(**wanted, volume=brought_volume)
    on_engine = faults_on(facts, settings, stack)
    return [*brought, *on_engine]


def _faults_of_the_provided_certificate(settings: StackSettings) -> tuple[Fault, ...]:
    provided = settings.certificate.provided
    if provided is None:
        return ()
    # Here, and not above: reading takes 30 ms to load, which who brings none need not wait for.
    from components.certificates.provided import read_provided  # noqa: PLC0415

    return read_provided(provided, settings.certificate_names, warn_before=settings.certificate.warn_before).faults


def _encrypted_paths(file: Path) -> set[str] | None:
    """Read which settings are encrypted: Pulumi itself only says which topics hold a secret somewhere."""
    try:
        document: object = yaml.safe_load(file.read_text())
    except (OSError, yaml.YAMLError):
        # Another file was named on the command line.
        return None
    return encrypted_paths(cast("dict[str, object]", document).get("config")) if isinstance(document, dict) else None
