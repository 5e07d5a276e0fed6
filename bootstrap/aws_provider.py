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

from bootstrap import command, places, pulumi_cli
from bootstrap.problem import ProblemError

STAND_IN = places.CHECKOUT / "bootstrap" / "toolchain" / "aws"
PROGRAM = "TERRAFORM_PROVIDER_AWS"
"""The environment variable that names Terraform's provider."""
RELEASE = "5"
"""The release of Terraform's provider whose protocol the stand-in speaks."""
# Where Terraform itself looks for providers, and where machines without a network keep a mirror.
_MIRRORS = ("/usr/local/share/terraform/plugins", "/usr/share/terraform/plugins", "/opt/*")
_IN_A_MIRROR = "registry.terraform.io/hashicorp/aws/{release}.*/{system}/terraform-provider-aws_v{release}.*"
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
    if shutil.which("pulumi-resource-aws", path=environment.get("PATH", "")):
        return AwsPlugin("on PATH")
    version = pulumi_cli.pinned("pulumi-aws")
    home = Path(environment.get("PULUMI_HOME") or Path.home() / ".pulumi")
    if (home / "plugins" / f"resource-aws-v{version}").is_dir():
        return AwsPlugin("official")
    upstream = terraform_provider(environment)
    if upstream is not None:
        return AwsPlugin(f"stand-in for {upstream.name}", {"PATH": str(STAND_IN), PROGRAM: str(upstream)})
    installing = command.attempt(
        ["pulumi", "plugin", "install", "resource", "aws", version],
        environment=environment,
        timeout=_SECONDS_TO_INSTALL,
    )
    if installing.returncode == 0:
        return AwsPlugin("official")
    reason = (installing.stderr.strip().splitlines() or ["no reason given"])[-1]
    message = (
        f"Pulumi's AWS provider {version} cannot be had ({reason}), and Terraform's {RELEASE}.x is not here either:"
        f" put a mirror of it into {_MIRRORS[0]} (`terraform providers mirror` makes one), or name its program in"
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
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    pattern = _IN_A_MIRROR.format(release=RELEASE, system=f"{platform.system().lower()}_{machine}")
    home = Path.home()
    own = (home / ".terraform.d/plugins", home / ".local/share/terraform/plugins")
    cached = environment.get("TF_PLUGIN_CACHE_DIR")
    for folder in (*map(str, own), *([cached] if cached else []), *_MIRRORS):
        root, _, below = folder.partition("/*")
        for found in Path(root).glob(f"*/{pattern}" if below or folder.endswith("*") else pattern):
            if os.access(found, os.X_OK):
                yield found


def _version(program: Path) -> tuple[int, ...]:
    found = re.search(r"_v(\d+)\.(\d+)\.(\d+)", program.name)
    return tuple(map(int, found.groups())) if found else ()
