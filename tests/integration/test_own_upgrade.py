"""What earlier versions of this project made is taken over by today's: nothing that holds data is lost."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.recorded_states import STACKS, recorded, restored
from tests.support.stack import Workshop

HOLDS_DATA = {
    "docker:index/volume:Volume",
    "tls:index/privateKey:PrivateKey",
    "tls:index/selfSignedCert:SelfSignedCert",
    "aws:ebs/volume:Volume",
    "aws:route53/zone:Zone",
}
LEAVES = {"same", "update", "read", "refresh"}
"""What a preview may say of it."""


@pytest.mark.parametrize("name", STACKS)
@pytest.mark.parametrize("folder", recorded(), ids=lambda folder: folder.name)
def test_nothing_that_holds_data_is_replaced_or_deleted(workshop: Workshop, folder: Path, name: str) -> None:
    state = json.loads((folder / f"{name}.json").read_text())
    held = {
        resource["urn"]: resource["type"]
        for resource in state["deployment"]["resources"]
        if resource.get("protect") and resource["type"] in HOLDS_DATA
    }
    assert set(held.values()) >= {"docker:index/volume:Volume", "tls:index/privateKey:PrivateKey"}

    with restored(workshop, folder, name) as stack:
        # Nothing of it is on this machine's engine, and nothing is to be looked for there.
        ended = stack.preview("--json", "--refresh=false").succeeded()
    steps: list[dict[str, Any]] = json.loads(ended.output[ended.output.index("{") :])["steps"]
    seen = {step["urn"]: step["op"] for step in steps}

    # What stays as it is is in no step.
    assert {urn: seen[urn] for urn in held if seen.get(urn, "same") not in LEAVES} == {}
    assert len(steps) > 1, "the preview says nothing"
    unprotected = [step["urn"] for step in steps if step["urn"] in held and not step["newState"].get("protect")]
    assert unprotected == []


def test_a_volume_of_another_name_would_be_noticed(workshop: Workshop) -> None:
    component = workshop.directory / "components/open_webui.py"
    before = component.read_text()
    component.write_text(before.replace('volume(f"{name}-data", ', 'volume(f"{name}-moved", '))
    try:
        with restored(workshop, recorded()[-1], "local") as stack:
            ended = stack.preview("--refresh=false").failed()
    finally:
        component.write_text(before)
    assert "edge-open-webui-data" in ended.output
    assert "is protected" in ended.output or "cannot be deleted" in ended.output
