"""Compares the engine in a stack's state with today's: follows the same engine to a new address, refuses another one.

Pulumi refreshes at the address in the state. The engine may have moved since, or another engine may have that address,
without the stack's resources: an update would create everything there, with empty data.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from open_webui_edge.bootstrap import console
from open_webui_edge.bootstrap.console import ProblemError
from open_webui_edge.bootstrap.engine import DEFAULT_ADDRESS, Engine
from open_webui_edge.cli.stack import Stack
from open_webui_edge.engine.identity import another_engine, is_identity
from open_webui_edge.runtime.contract import DEPLOYMENT

_COMPONENT = "open-webui-edge:index:DockerHost"
_PROVIDER, _VOLUME = "pulumi:providers:docker", "docker:index/volume:Volume"
_PIN = "docker:index/tag:Tag"


@dataclass(frozen=True)
class Move:
    """A change of the engine in a stack's state."""

    target: Stack
    host: Engine
    identity: str | None
    said: str
    """Message for the user; "" if nothing changes for them."""
    leaves_data: bool
    """Whether it is another engine, and the data of the stack stays on the former one."""

    def record(self) -> None:
        """Write the change into the state."""
        if self.said:
            console.say(self.said)
        change = moved(self.host.address, self.host.ssh_options, self.identity, elsewhere=self.leaves_data)
        self.target.edit(change, "Recording where the engine is")


def follow(target: Stack, host: Engine, resources: Sequence[Mapping[str, Any]]) -> None:
    """Record the address of a stack's engine today in its state; raises as `compare`."""
    if move := compare(target, host, resources):
        move.record()


def compare(
    target: Stack, host: Engine, resources: Sequence[Mapping[str, Any]], *, accepts_another: bool = False
) -> Move | None:
    """Return the change to record before an update; None if the state, with these resources, is up to date.

    With `accepts_another` it may be another engine than the state's, and data on the former one stays there; else that
    raises a ProblemError. So does an engine that does not report its ID.
    """
    provider = next((one for one in resources if one["type"] == _PROVIDER), None)
    if provider is None:
        # The state has no resources on an engine yet.
        return None
    was_at = (provider.get("inputs") or {}).get("host") or DEFAULT_ADDRESS
    known_as = next(((one.get("outputs") or {}).get("output") for one in resources if is_identity(one["urn"])), None)
    volumes = ((one.get("inputs") or {}).get("labels") or () for one in resources if one["type"] == _VOLUME)
    deployments = (label["value"] for labels in volumes for label in labels if label["label"] == DEPLOYMENT)
    deployment = next(deployments, None)
    today, identity = f"{host.address} ({host.origin})", host.identity()
    has_volumes = deployment is not None and host.has_volumes_of(deployment)
    stays = was_at == host.address
    # An engine's ID may change, and the states of earlier releases have none. At another address, an engine with
    # another ID and the stack's volumes is a copy, or one that the stack has left.
    is_same = (has_volumes or stays) if known_as is None else (known_as == identity or (has_volumes and stays))
    # Without a volume there is no data to lose.
    if is_same or deployment is None:
        if stays and known_as in {None, identity}:
            return None
        moved_to = f"The engine of {target.name} moved from {was_at} to {today}"
        said = f"{moved_to}; it is the same engine, so nothing else changes."
        return Move(target, host, identity, "" if stays else said, leaves_data=False)
    if not accepts_another:
        raise ProblemError(another_engine(target.name, today, f"which was at {was_at}", has_volumes=has_volumes))
    said = f"{target.name} leaves the engine at {was_at} for the one at {today}, without its data."
    return Move(target, host, identity, said, leaves_data=True)


def moved(
    address: str, ssh_options: Sequence[str], identity: str | None, *, elsewhere: bool = False
) -> Callable[[str], str]:
    """Return a function that changes the engine's address in an exported state, or with `elsewhere` the engine.

    Another engine lacks the images that the state pins, so the next update pins its own.
    """

    def point(properties: dict[str, Any], option: str, value: object) -> None:
        properties.pop(option, None)
        properties.update({"host": address, option: value} if ssh_options else {"host": address})

    def change(state: str) -> str:
        document = json.loads(state)
        for resource in document["deployment"]["resources"]:
            if resource["type"] == _PROVIDER:
                for side in ("inputs", "outputs"):
                    # Properties of a provider that are no strings are JSON.
                    point(resource[side], "sshOpts", json.dumps(list(ssh_options), separators=(",", ":")))
            elif resource["type"] == _COMPONENT:
                # Previews show these inputs; nothing else uses them.
                point(resource["inputs"], "ssh_options", list(ssh_options))
            elif resource["type"] == _PIN and elsewhere:
                resource["taint"] = True
            elif is_identity(resource["urn"]) and identity is not None:
                resource["inputs"]["input"] = resource["outputs"]["input"] = resource["outputs"]["output"] = identity
        return json.dumps(document)

    return change
