"""Where the AWS provider of the tests comes from."""

import os
import platform
from pathlib import Path

import pytest

from open_webui_edge.bootstrap import pulumi_cli
from open_webui_edge.bootstrap.console import ProblemError
from tests.support.aws_provider import find

MACHINE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
SYSTEM = f"{platform.system().lower()}_{MACHINE}"


@pytest.fixture(autouse=True)
def no_mirrors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine has, the test does not."""
    monkeypatch.setattr(find, "MIRRORS", [tmp_path / "mirror"])


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\necho no network >&2\nexit 1\n")
    path.chmod(0o755)
    return path


def terraforms(root: Path, version: str) -> Path:
    name = f"terraform-provider-aws_v{version}_x5"
    return program(root / "registry.terraform.io/hashicorp/aws" / version / SYSTEM / name)


def test_a_plugin_on_path_is_taken(tmp_path: Path) -> None:
    program(tmp_path / "pulumi-resource-aws")
    assert find.find({"PATH": str(tmp_path)}) == find.AwsPlugin("on PATH")


def test_the_official_one_comes_before_the_stand_in(tmp_path: Path) -> None:
    terraforms(tmp_path / "mirror", "5.100.0")
    (tmp_path / f"home/plugins/resource-aws-v{pulumi_cli.pinned('pulumi-aws')}").mkdir(parents=True)
    assert find.find({"PULUMI_HOME": str(tmp_path / "home")}) == find.AwsPlugin("official")


def test_the_newest_of_terraforms_is_taken_but_not_of_another_release(tmp_path: Path) -> None:
    for version in ("4.67.0", "5.99.1", "6.2.0"):
        terraforms(tmp_path / "mirror", version)
    newest = terraforms(tmp_path / "mirror", "5.100.0")
    provider = find.find({})
    assert provider.origin == "stand-in for terraform-provider-aws_v5.100.0_x5"
    assert provider.environment == {"PATH": str(find.STAND_IN), "TERRAFORM_PROVIDER_AWS": str(newest)}


def test_one_of_a_persons_own_is_found_where_terraform_keeps_it(home: Path) -> None:
    own = terraforms(home / ".terraform.d/plugins", "5.100.0")
    assert find.terraform_provider({}) == own


def test_a_named_program_is_taken(tmp_path: Path) -> None:
    terraforms(tmp_path / "mirror", "5.100.0")
    assert find.terraform_provider({"TERRAFORM_PROVIDER_AWS": "/a/program"}) == Path("/a/program")


def test_without_any_one_sentence_says_what_would_do(tmp_path: Path) -> None:
    program(tmp_path / "pulumi")
    with pytest.raises(ProblemError) as refused:
        find.find({"PATH": f"{tmp_path}{os.pathsep}{os.defpath}"})
    assert str(refused.value) == (
        f"Pulumi's AWS provider {pulumi_cli.pinned('pulumi-aws')} cannot be had (no network), and Terraform's 5.x is"
        " not here either: put a mirror of it into /usr/local/share/terraform/plugins (`terraform providers mirror`"
        " makes one), or name its program in TERRAFORM_PROVIDER_AWS."
    )
