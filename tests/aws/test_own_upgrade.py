"""What an earlier version of this project made at AWS is taken over by today's: nothing that holds data is lost."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.cloud import Cloud
from tests.support.recorded_states import AT_AWS, assert_taken_over, recorded_of
from tests.support.stack import Workshop


@pytest.mark.parametrize("folder", recorded_of(AT_AWS), ids=lambda folder: folder.name)
def test_nothing_that_holds_data_is_replaced_or_deleted(
    environment: Mapping[str, str], folder: Path, tmp_path: Path
) -> None:
    with Cloud.open(tmp_path / "moto.log") as cloud:
        workshop = Workshop.at(tmp_path / "workshop", {**environment, **cloud.environment})
        assert_taken_over(workshop, folder, AT_AWS, {"aws:ebs/volume:Volume", "tls:index/privateKey:PrivateKey"})
