"""Draws what a stack is made of, from its resource graph."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.unit.graph import Graph, Resource

_OURS = "open-webui-edge:index:"
# They hold others, and are drawn as frames or not at all.
_FRAMES = {f"{_OURS}OpenWebUIDeployment", f"{_OURS}AwsVm"}
# Parts of the component that they are in.
_INSIDE = {f"{_OURS}GeneratedSecret", f"{_OURS}AccessLogs"}
_IMAGES = {"RemoteImage", "Tag"}
_WIDTH = 34


@dataclass
class Part:
    """A box of the picture: a component, or what the deployment itself makes of one kind."""

    name: str
    resources: list[Resource] = field(default_factory=list[Resource])

    @property
    def place(self) -> str:
        """Where it is drawn."""
        kinds = {one.type.partition(":")[0] for one in self.resources}
        if "aws" in kinds or self.name.startswith("edge-vm"):
            return "aws"
        return "engine" if "docker" in kinds else "state"

    @property
    def holds_data(self) -> bool:
        """Whether something in it outlives `make down`."""
        return any(one.retain for one in self.resources if not one.type.startswith("tls:"))

    @property
    def made_of(self) -> str:
        """What is in it, by kind."""
        kinds = Counter(
            _words(one.type.rpartition(":")[2])
            for one in self.resources
            if one.custom and not one.type.startswith("pulumi:")
        )
        return ", ".join(kind if count == 1 else f"{count} {_plural(kind)}" for kind, count in sorted(kinds.items()))


def document(stacks: Mapping[str, Graph]) -> str:
    """Write a page with a picture and a table for each stack."""
    pages = [
        "# What each example stack is made of",
        "",
        "Drawn from the resource graphs of the example stacks by `make docs`; CI says when a picture is stale. An",
        "arrow leads from what is there first to what needs it, where no longer way leads there. In a cylinder is",
        "something that `make down` leaves; [aws.md](aws.md) says what that costs.",
    ]
    for name, graph in stacks.items():
        parts = _parts(graph)
        count = len([one for one in graph.resources if one.custom])
        pages += ["", f"## {name}: {count} resources", "", "```mermaid", *_picture(parts, graph), "```", ""]
        pages += ["| part | made of | kept |", "|---|---|---|"]
        for part in parts:
            kept = ", ".join(sorted(_words(one.type.rpartition(":")[2]) for one in part.resources if _is_kept(one)))
            pages.append(f"| {_title(part.name)} | {part.made_of or 'looked up'} | {kept} |")
    return "\n".join(pages) + "\n"


def _is_kept(one: Resource) -> bool:
    return one.custom and one.retain


def _parts(graph: Graph) -> list[Part]:
    """Return the boxes: what needs least comes first, whatever order the program happened to make them in."""
    by_urn = {one.urn: one for one in graph.resources}
    found: dict[str, Part] = {}
    for one in graph.resources:
        above = one
        while above.type not in _FRAMES and (not above.type.startswith(_OURS) or above.type in _INSIDE):
            parent = by_urn.get(
                next((urn for urn in above.keeps if urn in by_urn and _is_above(by_urn[urn], above)), "")
            )
            if parent is None or parent.type in _FRAMES:
                break
            above = parent
        if one.type in _FRAMES:
            continue
        if above.type.startswith(_OURS) and above.type not in _FRAMES | _INSIDE:
            name = above.name
        elif above.type.rpartition(":")[2] in _IMAGES:
            name = "images"
        elif above.type.startswith("pulumi:providers"):
            continue
        else:
            name = above.name
        found.setdefault(name, Part(name)).resources.append(one)
    parts = [found[name] for name in sorted(found)]
    needs = _needs(parts, graph)
    return sorted(parts, key=lambda part: (len(_all_below(part.name, needs)), part.name))


def _is_above(parent: Resource, child: Resource) -> bool:
    return parent.name == child.parent and parent.type.startswith(_OURS)


def _picture(parts: Sequence[Part], graph: Graph) -> Iterable[str]:
    yield "flowchart TD"
    titles = {
        "aws": "AWS",
        "engine": "Docker engine on the instance" if any(part.place == "aws" for part in parts) else "Docker engine",
        "state": "Pulumi state",
    }
    for place, title in titles.items():
        inside = [part for part in parts if part.place == place]
        if not inside:
            continue
        yield f'    subgraph {place} ["{title}"]'
        for part in inside:
            left, right = ("[(", ")]") if part.holds_data else ("[", "]")
            label = "<br>".join([f"<b>{_title(part.name)}</b>", *_lines(part.made_of)])
            yield f'        {_id(part.name)}{left}"{label}"{right}'
        yield "    end"
    for first, then in _edges(parts, graph):
        yield f"    {_id(first)} --> {_id(then)}"


def _needs(parts: Sequence[Part], graph: Graph) -> dict[str, set[str]]:
    """Return what each part depends on."""
    part_of = {one.urn: part.name for part in parts for one in part.resources}
    needs: dict[str, set[str]] = {part.name: set() for part in parts}
    by_urn = {one.urn: one for one in graph.resources}
    for part in parts:
        for one in part.resources:
            # A container is on the engine because its provider is.
            pending = [
                urn for urn in one.keeps if not urn.rpartition("::")[0].endswith(("OpenWebUIDeployment", "AwsVm"))
            ]
            for urn in pending:
                if "pulumi:providers:docker" in urn and urn in by_urn:
                    needs[part.name] |= {part_of[below] for below in by_urn[urn].keeps if below in part_of}
                elif urn in part_of:
                    needs[part.name].add(part_of[urn])
    for name, below in needs.items():
        below.discard(name)
    return needs


def _edges(parts: Sequence[Part], graph: Graph) -> list[tuple[str, str]]:
    """Return what depends on what, without what follows from the rest."""
    needs = _needs(parts, graph)
    far = {name: _all_below(name, needs) for name in needs}
    return [
        (first, name)
        for name, below in needs.items()
        for first in sorted(below)
        if not any(first in far[other] for other in below if other != first)
    ]


def _all_below(name: str, needs: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    pending = [*needs[name]]
    while pending:
        one = pending.pop()
        if one not in found:
            found.add(one)
            pending += needs[one]
    return found


def _lines(text: str) -> list[str]:
    lines = [""]
    for word in text.split(", "):
        if lines[-1] and len(lines[-1]) + len(word) > _WIDTH:
            lines.append("")
        lines[-1] += f"{', ' if lines[-1] else ''}{word}"
    return [line for line in lines if line]


def _title(name: str) -> str:
    return name.removeprefix("edge-vm-").removeprefix("edge-").replace("-", " ")


def _words(kind: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", kind).lower()


def _plural(kind: str) -> str:
    return f"{kind[:-1]}ies" if kind.endswith(("cy", "ty")) else f"{kind}s"


def _id(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "_", name.lower())
