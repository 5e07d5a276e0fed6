"""`python3 -m diagnostics --url https://…`: the doctor for somebody else's deployment."""

import sys

from diagnostics.command_line import run

if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
