"""The command line behind the Makefile: `python3 -m bootstrap up [STACK]`.

This file must be readable for any Python 3, so that an old one gets a sentence and no traceback.
"""

import os
import shutil
import sys

OLDEST = (3, 11)
_NEWER = ("python3.13", "python3.12", "python3.11")


def main():  # noqa: ANN201  # see above
    """Find a Python that is new enough, then go on with it."""
    if sys.version_info < OLDEST:
        # The marker keeps a broken installation from starting itself for ever.
        newer = None if os.environ.get("BOOTSTRAP_PYTHON") else next(filter(None, map(shutil.which, _NEWER)), None)
        if newer is None:
            found = sys.version.split()[0]
            sys.stderr.write("Python 3.11 or later is needed, and python3 here is {}; install it.\n".format(found))  # noqa: UP032  # see above
            return 1
        os.environ["BOOTSTRAP_PYTHON"] = newer
        os.execv(newer, [newer, "-m", "bootstrap", *sys.argv[1:]])  # noqa: S606  # a list of arguments, no shell
    from bootstrap.command_line import run  # noqa: PLC0415  # only now is it known that it can be read

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
