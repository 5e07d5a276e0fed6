"""No update deletes what holds data, whatever the settings say and whatever they said before."""

import functools
import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from open_webui_edge.cli import protected
from open_webui_edge.settings.recorded_state import VOLUME, former_names, holds_data, renamed
from open_webui_edge.settings.stack import deprecated
from tests.support.generated_settings import read
from tests.unit.aws import deployments
from tests.unit.graph import STACK, Graph, Resource

Tree = Mapping[str, Any]
URLS = {"postgres": "postgresql://owui:hunter22@db.example.com:5432/owui", "redis": "redis://:a@cache.example.com:6379"}
ADMIN = {"email": "admin@example.com"}
_FEW = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def _service(name: str) -> st.SearchStrategy[Any]:
    url = {"mode": "url", "url": URLS[name]}
    return st.sampled_from([{"mode": "none"}, {"mode": "container"}, url])


_DATA = st.fixed_dictionaries(
    {"postgres": _service("postgres"), "redis": _service("redis")}, optional={"keep": st.booleans()}
)
_TOPICS = st.fixed_dictionaries(
    {
        "data": _DATA,
        "models": st.sampled_from([{"ollama": {"mode": "none"}}, {"ollama": {"mode": "container"}}]),
        "open_webui": st.sampled_from(
            [{}, {"admin": ADMIN}, {"admin": {**ADMIN, "password": "correct horse; battery"}}]
        ),
        "certificate": st.builds(lambda number: {"self_signed": {"generation": number}}, st.integers(1, 3)),
        "monitoring": st.builds(lambda expected: {"prometheus": {"enabled": expected}}, st.booleans()),
    },
    optional={"backup": st.builds(lambda expected: {"enabled": expected}, st.booleans())},
)
_AWS_TOPICS = ("platform", "site", "dns")


def _on(platform: Mapping[str, Any], topics: Mapping[str, Any]) -> dict[str, Any]:
    # Who comes over the internet must not find an unclaimed instance.
    claimed = {"open_webui": {"admin": ADMIN}} if platform and not topics["open_webui"] else {}
    return {**platform, **topics, **claimed}


def _aws(dns: str, region: str) -> dict[str, Any]:
    whole = deployments.settings_of(f"none-new-{dns}-self-signed")
    settings = {topic: whole[topic] for topic in _AWS_TOPICS}
    settings["platform"] = {**settings["platform"], "aws": {**settings["platform"]["aws"], "region": region}}
    return settings


_STACKS = st.one_of(
    st.builds(_on, st.just({}), _TOPICS),
    st.builds(
        _on,
        st.builds(_aws, st.sampled_from(["created", "none"]), st.sampled_from(["eu-central-1", "eu-west-1"])),
        _TOPICS,
    ),
)


@functools.cache
def _graph(written: str) -> Graph:
    return deployments.graph_with(json.loads(written))


def graph_with(tree: Tree) -> Graph:
    return _graph(json.dumps(tree, sort_keys=True))


def state_of(graph: Graph) -> list[dict[str, Any]]:
    """Return what a state would hold of a graph."""
    return [
        {
            "urn": one.urn,
            "type": one.type,
            "protect": one.protect,
            "retainOnDelete": one.retain,
            "outputs": {**one.inputs, **_zone_of(one, graph)},
        }
        for one in graph.resources
        if one.custom
    ]


def _zone_of(one: Resource, graph: Graph) -> dict[str, str]:
    """Return where a disk is: the mocks know one region."""
    (region,) = {
        provider.inputs["region"] for provider in graph.resources if provider.type == "pulumi:providers:aws"
    } or {""}
    return {"availabilityZone": f"{region}a"} if one.type == "aws:ebs/volume:Volume" else {}


@_FEW
@given(_STACKS)
def test_what_holds_data_is_protected_and_retained_whatever_the_settings(tree: Tree) -> None:
    graph = graph_with(tree)
    on_instance = "platform" in tree
    held = [one for one in graph.resources if one.custom and holds_data(one.type, one.name, one.inputs)]
    assert len(held) >= len({"identity", "CA", "its key", "secret key", "data", "certificates"})
    for one in held:
        # What an instance's engine holds goes with it, on a disk that is protected.
        protected_by_disk = on_instance and one.type == VOLUME
        assert (one.protect, one.retain) == (not protected_by_disk, True), one.name
    # And whatever else is kept is known as such: the role that deletes copies.
    others = {one.name for one in graph.resources if one.custom and one.protect and one not in held}
    assert others <= _deleting_copies()
    assert protected.unprotected(state_of(graph), on_instance=on_instance) == []


def _deleting_copies() -> set[str]:
    return {"edge-vm-backup-role", "edge-vm-backup-role-back-up", "edge-vm-backup-role-restore"}


@_FEW
@given(_STACKS, _STACKS)
def test_what_other_settings_would_drop_is_said_before_and_nothing_else(before: Tree, after: Tree) -> None:
    was, will_be = graph_with(before), graph_with(after)
    dropped = {one.urn for one in was.resources if one.custom and one.protect} - {one.urn for one in will_be.resources}
    said = protected.protected_leftovers(STACK, after, state_of(was))
    moves = _place(before) != _place(after)
    assert bool(said) == (bool(dropped) or moves), (dropped, said)
    if not moves:
        for urn in dropped:
            named = urn.rpartition("::")[2]
            topic = next(topic for start, topic in TOPICS.items() if named.startswith(start))
            assert any(line.startswith(topic) for line in said), (named, said)


TOPICS = {
    "edge-postgres-": "data.postgres.mode: ",
    "edge-redis-": "data.redis.mode: ",
    "edge-ollama-": "models.ollama.mode: ",
    "edge-admin-password-": "open_webui.admin: ",
    "edge-certificate-ca": "certificate.self_signed.generation: ",
    "edge-vm-zone": "dns.create: ",
    "edge-vm-backup": "backup: ",
}
"""What the names of dropped resources begin with -> the setting that a line is about."""


def _place(tree: Tree) -> str:
    return tree["platform"]["aws"]["region"] if "platform" in tree else ""


@pytest.mark.parametrize("written", [True, False])
def test_keep_is_deprecated_and_changes_nothing(written: bool) -> None:  # noqa: FBT001 - a case
    bare = {"data": {"postgres": {"mode": "container"}}}
    with_keep = {"data": {**bare["data"], "keep": written}}
    assert graph_with(with_keep).identities() == graph_with(bare).identities()
    (fault,) = deprecated(read(with_keep))
    assert str(fault) == (
        "data.keep: is deprecated and has no effect: data is always protected, and only `make down DATA=delete` removes"
        " it; remove the setting"
    )
    assert list(deprecated(read(bare))) == []


@pytest.mark.parametrize("tree", [{}, _aws("created", "eu-central-1")], ids=["docker", "aws"])
def test_a_renamed_stack_is_known_by_what_its_data_is_marked_with(tree: Tree) -> None:
    state = state_of(graph_with({**tree, "open_webui": {"admin": ADMIN}}))
    # A rename changes the URNs alone.
    resources = [(one["urn"].replace(f":{STACK}::", ":other::"), one["outputs"]) for one in state]
    assert former_names(STACK, resources) == []
    assert former_names("other", resources) == [STACK]


def test_what_holds_no_data_says_no_name() -> None:
    """A program before this one replaced what carries the new name, and failed at the data."""
    volume = "urn:pulumi:new::open-webui-edge::edge:index:OpenWebUI$docker:index/volume:Volume::edge-open-webui"
    labels = {"app": "open-webui-edge", "stack": "old"}
    marked = {
        role: {"labels": [{"label": key, "value": value} for key, value in {**labels, "role": role}.items()]}
        for role in ("open-webui-data", "open-webui-given")
    }
    assert former_names("new", [(f"{volume}-given", marked["open-webui-given"])]) == []
    assert former_names("new", [(f"{volume}-data", marked["open-webui-data"])]) == ["old"]
    assert (
        former_names("new", [("urn:pulumi:new::open-webui-edge::pulumi:pulumi:Stack::open-webui-edge-new", {})]) == []
    )


def test_who_renamed_a_stack_is_told_how_to_go_on() -> None:
    assert renamed("new", "old") == (
        "Nothing was changed. The stack new was created as old: its volumes and other resources have that name, and an"
        " update would create new ones without the data. Rename the stack back: (eval"
        ' "$(make -s env STACK=new)"; pulumi stack rename --stack new old). To change the name, move the'
        " data into a new stack (docs/operations.md: Another name for a stack)."
    )
