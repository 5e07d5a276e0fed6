"""This stack's settings: read from Pulumi's configuration, checked against the machine, before anything is made."""

import pulumi
from pulumi.runtime.config import CONFIG

from components.docker.engine import Engine, EngineError
from components.docker.preflight import faults_on
from stacks.faults import SettingsError
from stacks.settings import StackSettings, read_settings


def settings_of_this_stack() -> StackSettings:
    """Return the settings of the stack that this program runs for.

    Raises:
        pulumi.RunError: with every fault, a line each.

    """
    stack = pulumi.get_stack()
    source = f"stacks/Pulumi.{stack}.yaml"
    config = dict(CONFIG.get())
    try:
        settings = read_settings(
            config,
            secret_keys=[key for key in config if pulumi.runtime.is_config_secret(key)],
            source=source,
        )
        faults = faults_on(Engine(settings.platform.docker.host).facts(), settings, stack)
    except (SettingsError, EngineError) as error:
        raise pulumi.RunError(str(error)) from None
    if faults:
        raise pulumi.RunError(str(SettingsError(source, faults)))
    return settings
