"""Whose a container or volume is: a label on all that a deployment makes, and room made for what is about to be."""

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi

from components.docker.engine import REMADE, Engine, EngineError

_KINDS = {
    "docker:index/container:Container": "container",
    "docker:index/volume:Volume": "volume",
    "docker:index/network:Network": "network",
}


class Ownership:
    """Marks everything on an engine as one deployment's.

    Container names are the same for every update, so that people find them; and two deployments with the same stack
    name, from two backends, may meet on one engine. The label tells theirs from ours.
    """

    def __init__(self, engine: Engine, deployment: pulumi.Input[str]) -> None:
        """Register the hook; `deployment` is unique to it and never changes."""
        self._engine = engine
        self._deployment = deployment
        self._late = not engine.known
        self._silent = False
        self._hook = pulumi.ResourceHook("clear-the-way", self._clear_the_way)

    def claim(self, args: pulumi.ResourceTransformArgs) -> pulumi.ResourceTransformResult | None:
        """Transform a resource: label it, and have the engine asked before it is made."""
        kind = _KINDS.get(args.type_)
        if kind is None:
            return None
        labels: Sequence[Mapping[str, Any]] = args.props["labels"]  # pyright: ignore[reportAssignmentType] - ours are plain
        added: list[Mapping[str, pulumi.Input[str]]] = [{"label": "deployment", "value": self._deployment}]
        if kind == "container" and (half_made := self._remade_after(str(args.props["name"]))):
            added.append({"label": REMADE, "value": half_made})
        props = {**args.props, "labels": [*labels, *added]}
        args.opts.hooks = pulumi.ResourceHookBinding(before_create=[self._hook])
        return pulumi.ResourceTransformResult(props=props, opts=args.opts)

    def _remade_after(self, name: str) -> str | None:
        if self._silent:
            return None
        try:
            return self._engine.remade_after(name)
        except EngineError:
            if not self._late or not pulumi.runtime.is_dry_run():
                raise
            # A preview of what is made together with its machine needs no machine that runs.
            self._silent = True
            return None

    def _clear_the_way(self, args: pulumi.ResourceHookArgs) -> None:
        inputs: Mapping[str, Any] = args.new_inputs or {}
        labels = {label["label"]: label["value"] for label in inputs.get("labels", ())}
        kind = _KINDS[args.type]
        self._engine.clear_the_way(kind, inputs["name"], labels["deployment"])
        if kind == "container":
            self._engine.require_image(inputs["image"])
