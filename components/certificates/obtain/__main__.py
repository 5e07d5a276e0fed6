"""From words on the command line to one of the three things that run in the container."""

import sys


def _run(what: str) -> int:
    # The health check runs every few seconds, and needs little of it.
    if what == "health":
        from .health import check as run  # noqa: PLC0415
    elif what == "dry-run":
        from .rehearsal import rehearse as run  # noqa: PLC0415
    else:
        from .loop import main as run  # noqa: PLC0415
    return run()


if __name__ == "__main__":
    sys.exit(_run("".join(sys.argv[1:])))
