"""What an earlier version of this project made at AWS is taken over by today's: nothing that holds data is lost."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.cloud import Cloud
from tests.support.recorded_states import AT_AWS, assert_kept, recorded_of, restored
from tests.support.stack import Workshop


@pytest.mark.parametrize("folder", recorded_of(AT_AWS), ids=lambda folder: folder.name)
def test_nothing_that_holds_data_is_replaced_or_deleted(
    environment: Mapping[str, str], folder: Path, tmp_path: Path
) -> None:
    state = json.loads((folder / f"{AT_AWS}.json").read_text())
    types = {resource["type"] for resource in state["deployment"]["resources"] if resource.get("protect")}
    assert types >= {"aws:ebs/volume:Volume", "tls:index/privateKey:PrivateKey"}
    # Nothing of it is in this cloud, and no instance answers: neither is asked for what is in the state.
    with Cloud.open(tmp_path / "moto.log") as cloud:
        workshop = Workshop.at(tmp_path / "workshop", {**environment, **cloud.environment})
        with restored(workshop, folder, AT_AWS) as stack:
            ended = stack.preview("--json", "--refresh=false").succeeded()
    assert_kept(state, json.loads(ended.output[ended.output.index("{") :])["steps"])
