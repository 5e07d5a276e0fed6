"""The command line behind the Makefile: `python3 -m open_webui_edge.cli up [STACK]`.

This file must be readable for any Python 3, so that an old one gets a sentence and no traceback.
"""

import os
import shutil
import subprocess
import sys

from open_webui_edge.bootstrap import NEWEST, OLDEST

_KNOWN = ("python3.14", "python3.13", "python3.12", "python3.11")


def _runs(program):  # noqa: ANN001, ANN202  # see above
    # Where several versions are managed a name may stand for one that is not installed.
    return program is not None and subprocess.call([program, "-c", ""], stderr=subprocess.DEVNULL) == 0  # noqa: S603


def main():  # noqa: ANN201  # see above
    """Find a Python that the program is known to run on, then go on with it."""
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        # The marker keeps a broken installation from starting itself for ever.
        known = None if os.environ.get("BOOTSTRAP_PYTHON") else next(filter(_runs, map(shutil.which, _KNOWN)), None)
        if known is not None:
            os.environ["BOOTSTRAP_PYTHON"] = known
            os.execv(known, [known, "-m", "open_webui_edge.cli", *sys.argv[1:]])  # noqa: S606  # a list of arguments, no shell
    if sys.version_info[:2] < OLDEST:
        version = sys.version.split()[0]
        sys.stderr.write("Python 3.11 or later is needed, and python3 here is {}; install it.\n".format(version))  # noqa: UP032  # see above
        return 1
    from open_webui_edge.cli.arguments import run  # noqa: PLC0415  # only now is it known that it can be read

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
