"""From words on the command line to one function of `commands`, and from a problem to one sentence."""

import argparse
import errno
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bootstrap import console, places, virtual_environment
from bootstrap.problem import ProblemError

OF_A_STACK = {
    "up": "make the machine ready and bring the stack up",
    "preview": "show what `up` would change",
    "down": "remove the stack but its data; DATA=delete removes that too",
    "status": "list the stack's containers",
    "logs": "show what they wrote (ROLE=…, FOLLOW=1)",
    "certificate": "show the certificate: names, issuer, days left, next renewal, last attempt",
    "certificate-dry-run": "practise a renewal with the issuer",
    "trust-ca": "have this machine and its browsers trust the stack's own authority (SYSTEM=0: browsers alone)",
    "untrust-ca": "have them forget it (SYSTEM=0: browsers alone)",
    "reset-admin-password": "give an administrator a new password (EMAIL=…; PASSWORD=stdin: your own)",
    "env": "print the exports for plain `pulumi`",
}
OF_THE_CHECKOUT = {
    "test": "run the tests, but the long ones (ARGS=… are pytest's)",
    "test-long": "run the long ones",
    "bench": "measure the proxy beside others and write docs/benchmarks.md",
    "check": "format, lint, types, generated files, unit tests",
    "docs": "write the generated files anew",
    "fmt": "format the code",
    "release": "write CHANGELOG.md from changes/ and the new version (VERSION=…)",
}
_INTERRUPTED = 130


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; a problem becomes a sentence."""
    asked = _parser().parse_args(arguments)
    # `kill` unwinds like Ctrl-C, so that half-made folders are removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_INTERRUPTED))
    try:
        for_tests = asked.command in OF_THE_CHECKOUT
        requirements = virtual_environment.FOR_TESTS if for_tests else virtual_environment.FOR_UP
        if not virtual_environment.is_current(requirements):
            with console.step("virtual environment") as shown:
                virtual_environment.ensure(requirements, shown)
        if Path(sys.prefix).resolve() != places.VIRTUAL_ENVIRONMENT.resolve():
            os.execv(places.PYTHON, [str(places.PYTHON), "-m", "bootstrap", *arguments])  # noqa: S606  # no shell
        return _command(asked)()
    except ProblemError as problem:
        console.say(str(problem))
    except KeyboardInterrupt:
        console.say("interrupted")
        return _INTERRUPTED
    except OSError as fault:
        console.say(_sentence(fault))
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bootstrap", description="What `make` calls.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, purpose in OF_A_STACK.items():
        commands.add_parser(name, help=purpose).add_argument("stack", nargs="?", default="local")
    for name, purpose in OF_THE_CHECKOUT.items():
        commands.add_parser(name, help=purpose)
    return parser


def _command(asked: argparse.Namespace) -> Callable[[], int]:
    from bootstrap import commands  # noqa: PLC0415  # it needs the packages of the virtual environment

    if asked.command in OF_A_STACK:
        of_stack: Callable[[str], int] = getattr(commands, asked.command.replace("-", "_"))
        return lambda: of_stack(asked.stack)
    if asked.command.startswith("test"):
        given = shlex.split(os.environ.get("ARGS", ""))
        return lambda: commands.test("-m", "long" if asked.command == "test-long" else "not long", *given)
    of_checkout: Callable[[], int] = getattr(commands, asked.command)
    return of_checkout


def _sentence(fault: OSError) -> str:
    where = f" ({fault.filename})" if fault.filename else ""
    if fault.errno in {errno.ENOSPC, errno.EDQUOT}:
        return f"The disk is full{where}; free some space and run it again."
    return f"{(fault.strerror or str(fault)).capitalize()}{where}."
