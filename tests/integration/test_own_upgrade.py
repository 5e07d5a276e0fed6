"""What earlier versions of this project made is taken over by today's: nothing that holds data is lost."""

from pathlib import Path

import pytest

from tests.support.recorded_states import STACKS, assert_taken_over, recorded, restored
from tests.support.stack import Workshop


@pytest.mark.parametrize("name", STACKS)
@pytest.mark.parametrize("folder", recorded(), ids=lambda folder: folder.name)
def test_nothing_that_holds_data_is_replaced_or_deleted(workshop: Workshop, folder: Path, name: str) -> None:
    assert_taken_over(workshop, folder, name, {"docker:index/volume:Volume", "tls:index/privateKey:PrivateKey"})


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
