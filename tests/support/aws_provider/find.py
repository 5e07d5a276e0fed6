"""Pulumi's AWS provider for the tests: the official one, else Terraform's behind a stand-in.

`make up` never comes here: what deploys to a real cloud is the official provider alone.
"""

import os
import platform
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from open_webui_edge.bootstrap import command, pulumi_cli
from open_webui_edge.bootstrap.console import ProblemError
from open_webui_edge.bootstrap.images import archive

STAND_IN = Path(__file__).parent
PROGRAM = "TERRAFORM_PROVIDER_AWS"
"""The environment variable that names Terraform's provider."""
RELEASE = "5"
"""The release of Terraform's provider whose protocol the stand-in speaks."""
# Where Terraform itself looks for providers, and where machines without a network keep a mirror.
SYSTEM_WIDE = Path("/usr/local/share/terraform/plugins")
MIRRORS = [
    SYSTEM_WIDE,
    Path("/usr/share/terraform/plugins"),
    *(folder.parent for folder in Path("/opt").glob("*/registry.terraform.io")),
]
_OF_A_PERSON = (".terraform.d/plugins", ".local/share/terraform/plugins")
_SECONDS_TO_INSTALL = 120


@dataclass(frozen=True)
class AwsPlugin:
    """A provider that the engine will find."""

    origin: str
    environment: dict[str, str] = field(default_factory=dict[str, str])
    """What a shell needs on top of what `pulumi` needs; PATH holds only the folder to put first."""


def find(environment: Mapping[str, str]) -> AwsPlugin:
    """Return the provider for the Pulumi of an environment.

    Raises:
        ProblemError: there is none, and none can be had.

    """
    search_path = environment.get("PATH", "")
    if shutil.which("pulumi-resource-aws", path=search_path):
        return AwsPlugin("on PATH")
    version = pulumi_cli.pinned("pulumi-aws")
    home = Path(environment.get("PULUMI_HOME") or Path.home() / ".pulumi")
    if (home / "plugins" / f"resource-aws-v{version}").is_dir():
        return AwsPlugin("official")
    upstream = terraform_provider(environment)
    if upstream is not None:
        return AwsPlugin(f"stand-in for {upstream.name}", {"PATH": str(STAND_IN), PROGRAM: str(upstream)})
    installing = command.attempt(
        [shutil.which("pulumi", path=search_path) or "pulumi", "plugin", "install", "resource", "aws", version],
        environment=environment,
        timeout=_SECONDS_TO_INSTALL,
    )
    if installing.returncode == 0:
        return AwsPlugin("official")
    reason = (installing.stderr.strip().splitlines() or ["no reason given"])[-1]
    message = (
        f"Pulumi's AWS provider {version} cannot be had ({reason}), and Terraform's {RELEASE}.x is not here either:"
        f" put a mirror of it into {SYSTEM_WIDE} (`terraform providers mirror` makes one), or name its program in"
        f" {PROGRAM}."
    )
    raise ProblemError(message)


def terraform_provider(environment: Mapping[str, str]) -> Path | None:
    """Return the newest program of Terraform's provider on this machine, wherever Terraform would find it."""
    given = environment.get(PROGRAM)
    if given:
        return Path(given)
    return max(_in_mirrors(environment), key=_version, default=None)


def _in_mirrors(environment: Mapping[str, str]) -> Iterator[Path]:
    machine = archive.architecture(platform.machine())
    below = f"registry.terraform.io/hashicorp/aws/{RELEASE}.*/{platform.system().lower()}_{machine}"
    folders = [*(Path.home() / folder for folder in _OF_A_PERSON), *MIRRORS]
    if environment.get("TF_PLUGIN_CACHE_DIR"):
        folders.append(Path(environment["TF_PLUGIN_CACHE_DIR"]))
    for folder in folders:
        for result in folder.glob(f"{below}/terraform-provider-aws_v{RELEASE}.*"):
            if os.access(result, os.X_OK):
                yield result


def _version(program: Path) -> tuple[int, ...]:
    result = re.search(r"_v(\d+)\.(\d+)\.(\d+)", program.name)
    return tuple(map(int, result.groups())) if result else ()
