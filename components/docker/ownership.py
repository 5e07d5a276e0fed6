"""Labels every resource on an engine with its deployment, and removes leftovers before one is created."""

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi

from open_webui_edge.engine.engine import REPLACES_INCOMPLETE, Engine, EngineError
from open_webui_edge.runtime.contract import DEPLOYMENT

_KINDS = {
    "docker:index/container:Container": "container",
    "docker:index/volume:Volume": "volume",
    "docker:index/network:Network": "network",
}


class Ownership:
    """Marks everything on an engine as one deployment's.

    Container names are the same for every update, so that people find them. Two deployments with the same stack name,
    from two backends, may share one engine: the label tells them apart.
    """

    def __init__(self, engine: Engine, deployment: pulumi.Input[str]) -> None:
        """Register the hook; `deployment` is unique to a deployment and never changes."""
        self._engine = engine
        self._deployment = deployment
        self._late = not engine.known
        self._silent = False
        # States record the hook's name, so it stays.
        self._hook = pulumi.ResourceHook("clear-the-way", self._remove_leftovers)

    def claim(self, args: pulumi.ResourceTransformArgs) -> pulumi.ResourceTransformResult | None:
        """Transform a resource: label it, and remove its leftovers before it is created."""
        kind = _KINDS.get(args.type_)
        if kind is None:
            return None
        labels: Sequence[Mapping[str, Any]] = args.props["labels"]  # pyright: ignore[reportAssignmentType] - ours are plain
        added: list[Mapping[str, pulumi.Input[str]]] = [{"label": DEPLOYMENT, "value": self._deployment}]
        if kind == "container" and (incomplete := self._replaces_incomplete(str(args.props["name"]))):
            added.append({"label": REPLACES_INCOMPLETE, "value": incomplete})
        props = {**args.props, "labels": [*labels, *added]}
        args.opts.hooks = pulumi.ResourceHookBinding(before_create=[self._hook])
        return pulumi.ResourceTransformResult(props=props, opts=args.opts)

    def _replaces_incomplete(self, name: str) -> str | None:
        if self._silent:
            return None
        try:
            return self._engine.replaces_incomplete(name)
        except EngineError:
            if not self._late or not pulumi.runtime.is_dry_run():
                raise
            # A preview works without a running machine if the update creates the machine too.
            self._silent = True
            return None

    def _remove_leftovers(self, args: pulumi.ResourceHookArgs) -> None:
        inputs: Mapping[str, Any] = args.new_inputs or {}
        labels = {label["label"]: label["value"] for label in inputs.get("labels", ())}
        kind = _KINDS[args.type]
        self._engine.remove_leftovers(kind, inputs["name"], labels[DEPLOYMENT])
        if kind == "container":
            self._engine.require_image(inputs["image"])
