"""From words on the command line to one of the three things that run in the container."""

import sys

from . import health, loop, rehearsal

_COMMANDS = {"health": health.check, "dry-run": rehearsal.rehearse}

if __name__ == "__main__":
    sys.exit(_COMMANDS[sys.argv[1]]() if sys.argv[1:] else loop.main())
