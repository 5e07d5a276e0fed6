"""`python3 -m open_webui_edge.diagnostics --url https://…`: the doctor for any deployment."""

import os
import sys
from pathlib import Path

_OWN = Path(__file__).resolve().parent.parent / ".venv"
_INTERRUPTED = 130
_USAGE = 64
"""Nothing was asked; 1 and 2 say what was found. `EX_USAGE` of sysexits.h."""


def main() -> int:
    """Go on with the Python that has what this needs, wherever it was called from."""
    try:
        from open_webui_edge.diagnostics.command_line import run  # noqa: PLC0415  # it needs the packages of the virtual environment
    except ImportError as missing:
        python = _OWN / "bin" / "python"
        if python.exists() and Path(sys.prefix).resolve() != _OWN.resolve():
            os.execv(python, [str(python), "-m", "open_webui_edge.diagnostics", *sys.argv[1:]])  # noqa: S606  # no shell
        sys.stderr.write(f"{missing.name} is not installed here; `make doctor URL=…` installs what the doctor needs.\n")
        return _USAGE
    try:
        return run(sys.argv[1:])
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader closed the pipe; without this Python reports it again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(main())
