"""What a version of this project leaves behind at AWS, kept as a file (tests/support/recorded_states.py).

`python -m tests.end_to_end.recorded_state VERSION [COMMIT]` brings a site up with the program of a commit (default: the
one checked out) on a machine that boots, and keeps what `pulumi stack export` says in tests/states/VERSION.
"""

import sys
import tempfile
from pathlib import Path

from tests.end_to_end.conftest import environment_of_deployments
from tests.end_to_end.site import Site
from tests.support.recorded_states import AT_AWS, STATES, keep, name_of, program_of


def record(version: str, commit: str) -> None:
    """Bring the site up with the program of a commit, and keep what that leaves."""
    folder = STATES / version
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="recorded-states-") as name:
        place = Path(name)
        program = program_of(commit, place / "program")
        with Site.open(place, environment_of_deployments(), name_of(AT_AWS)) as site:
            site.stack.workshop.take(program)
            site.up().succeeded()
            exported = site.stack.pulumi("stack", "export", "--stack", site.stack.name).succeeded()
            keep(folder, AT_AWS, exported.output, site.stack.file)


if __name__ == "__main__":
    record(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "HEAD")
