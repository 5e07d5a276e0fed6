"""What an earlier version of this project left behind: the state and the stack file of some stacks, kept as files.

`python -m tests.support.recorded_states VERSION [COMMIT]` records them: it brings each stack up with the program of a
commit (default: the one checked out), keeps what `pulumi stack export` says in tests/states/VERSION, and removes
the stack. Secrets in it are encrypted, with a passphrase that is no secret (tests/support/stack.py).
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from open_webui_edge.engine.identity import is_identity
from tests.support.machine import pulumi_environment
from tests.support.stack import ROOT, StackUnderTest, Workshop

STATES = ROOT / "tests" / "states"
_ADMIN = {"admin": {"email": "admin@example.com"}}
_NO_MODELS = {"ollama": {"mode": "none"}}
# No test's own ports, which are from 20000 on.
STACKS: Mapping[str, Mapping[str, Any]] = {
    "local": {"site": {"listen": {"http_port": 18180, "https_port": 18543}}},
    "replicas": {
        "site": {"listen": {"http_port": 18181, "https_port": 18544}},
        "open_webui": {**_ADMIN, "replicas": 2, "drain": "10s"},
        "data": {"postgres": {"mode": "container"}, "redis": {"mode": "container"}},
        "models": _NO_MODELS,
    },
    "lets-encrypt": {
        "site": {
            "domain": "chat.example.org",
            "listen": {"address": "127.0.0.1", "http_port": 18182, "https_port": 18545},
        },
        "open_webui": _ADMIN,
        "models": _NO_MODELS,
        # Nothing answers there.
        "certificate": {"mode": "lets-encrypt", "lets_encrypt": {"directory": "https://acme.invalid/directory"}},
    },
}
AT_AWS = "aws"
"""A stack with an instance; tests/end_to_end/recorded_state.py records it."""
HOLDS_DATA = {
    "docker:index/volume:Volume",
    "tls:index/privateKey:PrivateKey",
    "tls:index/selfSignedCert:SelfSignedCert",
    "aws:ebs/volume:Volume",
    "aws:ec2/eip:Eip",
    "aws:route53/zone:Zone",
}
LEAVES = {"same", "update", "read", "refresh"}
"""What a preview may say of it."""


def name_of(stack: str) -> str:
    """Return the name in its state."""
    return f"recorded-{stack}"


def recorded_of(stack: str) -> Sequence[Path]:
    """Return the folders of the versions in which a stack was kept, the oldest first."""
    return [folder for folder in recorded() if (folder / f"{stack}.json").exists()]


def recorded() -> Sequence[Path]:
    """Return the folders of the versions that are kept, the oldest first."""
    folders = [folder for folder in STATES.iterdir() if folder.is_dir()]
    return sorted(folders, key=lambda folder: [int(part) for part in re.findall(r"\d+", folder.name)])


@contextmanager
def restored(workshop: Workshop, folder: Path, name: str) -> Generator[StackUnderTest]:
    """Lend a stack of what a version left behind, without anything behind it on the engine."""
    stack = StackUnderTest(workshop, name_of(name), {})
    stack.file.write_text((folder / f"{name}.yaml").read_text())
    stack.pulumi("stack", "init", stack.name).succeeded()
    stack.pulumi("stack", "import", "--stack", stack.name, "--file", str(folder / f"{name}.json")).succeeded()
    try:
        yield stack
    finally:
        # The state alone: there is nothing else.
        stack.pulumi("stack", "rm", "--force", "--yes", "--stack", stack.name).succeeded()


def assert_taken_over(workshop: Workshop, folder: Path, name: str, holding: set[str]) -> None:
    """Fail if today's program would lose something of a recorded stack that holds data, or leave it unprotected.

    `holding` are types of which the stack has something that is protected. Nothing of it is anywhere, and nothing is
    looked for.
    """
    state = json.loads((folder / f"{name}.json").read_text())
    held = {
        resource["urn"]: resource["type"]
        for resource in state["deployment"]["resources"]
        if resource.get("protect") and resource["type"] in HOLDS_DATA
    }
    assert set(held.values()) >= holding
    with restored(workshop, folder, name) as stack:
        ended = stack.preview("--json", "--refresh=false").succeeded()
    steps: list[dict[str, Any]] = json.loads(ended.output[ended.output.index("{") :])["steps"]
    seen = {step["urn"]: step["op"] for step in steps}
    # What stays as it is is in no step.
    assert {urn: seen[urn] for urn in held if seen.get(urn, "same") not in LEAVES} == {}
    assert len(steps) > 1, "the preview says nothing"
    assert [step["urn"] for step in steps if step["urn"] in held and not step["newState"].get("protect")] == []


def program_of(commit: str, folder: Path) -> Path:
    """Write the program of a commit into a new folder; raises CalledProcessError where this checkout has none such."""
    folder.mkdir()
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, capture_output=True)  # noqa: S603, S607
    subprocess.run(["tar", "-x"], cwd=folder, check=True, input=archive.stdout)  # noqa: S607
    return folder


def record(version: str, commit: str) -> None:
    """Bring the stacks up with the program of a commit, and keep what that leaves."""
    folder = STATES / version
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="recorded-states-") as place:
        program = program_of(commit, Path(place) / "program")
        workshop = Workshop.at(Path(place) / "workshop", pulumi_environment(), program)
        # What runs is removed at once, and whether it was healthy is in no state.
        workshop.wait_for_no_health()
        for name, config in STACKS.items():
            stack = StackUnderTest(workshop, name_of(name), json.loads(json.dumps(config)))
            try:
                stack.create().up().succeeded()
                keep(
                    folder, name, stack.pulumi("stack", "export", "--stack", stack.name).succeeded().output, stack.file
                )
            finally:
                stack.remove()


def keep(folder: Path, name: str, state: str, file: Path) -> None:
    """Write down the state and the file of a stack."""
    (folder / f"{name}.json").write_text(json.dumps(without_scripts(json.loads(state)), separators=(",", ":")) + "\n")
    (folder / f"{name}.yaml").write_text(file.read_text())


def without_scripts(state: Any) -> Any:
    """Leave out what makes a container large and holds no data: it may be replaced as it is.

    It also leaves out the path of the program on the machine that recorded the state.
    """
    for resource in state["deployment"]["resources"]:
        for key in ("sourcePosition", "stackTrace"):
            resource.pop(key, None)
        if is_identity(resource["urn"]):
            # Of an engine that no test runs on.
            resource["outputs"]["output"] = None
        if resource["type"] == "docker:index/container:Container":
            for side in ("inputs", "outputs"):
                # The last one is the provider's own, and says how the others were written.
                for key in ("uploads", "command", "healthcheck", "__pulumi_raw_state_delta"):
                    resource[side].pop(key, None)
    return state


if __name__ == "__main__":
    record(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "HEAD")
