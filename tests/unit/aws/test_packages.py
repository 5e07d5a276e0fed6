"""Who runs nothing on AWS has none of its packages."""

import sys

import pulumi
import pytest

from tests.unit.aws.deployments import deployed


def test_without_its_package_nothing_is_made_and_the_message_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in [name for name in sys.modules if name.startswith("open_webui_edge.components.aws")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "pulumi_aws", None)
    with pytest.raises(pulumi.RunError) as raised:
        deployed.__wrapped__("staging")
    assert str(raised.value) == (
        "platform.kind: aws-vm needs the package pulumi-aws, which is not installed here; `make up` installs it, as"
        " does .venv/bin/pip install -r requirements-aws.txt"
    )
