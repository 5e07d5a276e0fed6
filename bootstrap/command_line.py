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
    "down": "remove the stack but its data",
    "import": "make the stack's file of a .env, compose file, `docker run` line or Nginx site",
    "status": "list the stack's containers",
    "logs": "show what they wrote",
    "doctor": "ask a running deployment what its users would ask, and say what to change",
    "backup": "back the stack up now",
    "restore": "put a backup in the place of its data",
    "backup-verify": "bring the newest backup up beside it and compare what is in it",
    "certificate": "show the certificate: names, issuer, days left, next renewal, last attempt",
    "certificate-dry-run": "practise a renewal with the issuer",
    "trust-ca": "have this machine and its browsers trust the stack's own authority",
    "untrust-ca": "have them forget it",
    "reset-admin-password": "give an administrator a new password",
    "env": "print the exports for plain `pulumi`",
}
OF_THE_CHECKOUT = {
    "test": "run the tests, but the long ones",
    "test-long": "run the long ones",
    "bench": "measure the proxy beside others and write docs/benchmarks.md",
    "check": "format, lint, types, generated files, unit tests",
    "docs": "write the generated files anew",
    "fmt": "format the code",
    "release": "write CHANGELOG.md from changes/, and the new version",
}
OF_ANYBODY = {"help": "print this"}
VARIABLES = {
    "STACK": ("local", "which one; left out: local"),
    "DATA": ("delete", "with everything that people made, after asking"),
    "YES": ("1", "nobody is there to ask, and the answer is yes"),
    "ROLE": ("nginx", "this role's containers alone"),
    "FOLLOW": ("1", "go on with what they will write, until Ctrl-C"),
    "SYSTEM": ("0", "leave this machine's own store alone, and take the browsers'"),
    "URL": ("https://…", "somebody else's deployment, in place of a stack"),
    "JSON": ("yes", "for machines"),
    "FIX": ("yes", "show what is safe to mend, then mend it"),
    "LONG": ("yes", "measure also how long a silent answer may take, which takes minutes"),
    "FROM": ("…", "files or a folder to import; to restore: latest, an id, a folder, s3:… or before"),
    "TO": ("folder", "into a folder of this machine"),
    "KEY_FILE": ("file", "holds the password of a backup of another stack"),
    "ACCOUNT": ("me@example.com", "whose; left out: the administrator's, where there is one"),
    "PASSWORD": ("stdin", "your own, read from standard input; left out: one is made and shown once"),
    "VERSION": ("0.1.0", "which one"),
    "DATE": ("2026-01-31", "its day; left out: today"),
    "ARGS": ("'tests/nginx -k cache'", "pytest's own arguments"),
}
"""What a command is told beside its name, as variables of `make` or of the environment: a value, and what it does."""
TOLD = {
    "down": ("DATA", "YES"),
    "import": ("FROM",),
    "logs": ("ROLE", "FOLLOW"),
    "doctor": ("URL", "JSON", "FIX", "YES", "LONG"),
    "backup": ("TO",),
    "restore": ("FROM", "KEY_FILE", "YES"),
    "trust-ca": ("SYSTEM",),
    "untrust-ca": ("SYSTEM",),
    "reset-admin-password": ("ACCOUNT", "PASSWORD"),
    "release": ("VERSION", "DATE"),
    "test": ("ARGS",),
    "test-long": ("ARGS",),
}
"""Which command reads which of them, beside STACK."""
_INTERRUPTED = 130
_NOTHING_ASKED = 64
"""1 and 2 say what the doctor found. `EX_USAGE` of sysexits.h."""


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; a problem becomes a sentence."""
    asked = _parser().parse_args(arguments)
    if asked.command == "help":
        sys.stdout.write(overview())
        return 0
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
        if asked.command == "doctor":
            return _NOTHING_ASKED
    except KeyboardInterrupt:
        console.say("interrupted")
        return _INTERRUPTED
    except OSError as fault:
        console.say(_sentence(fault))
    return 1


def told(name: str) -> tuple[str, ...]:
    """Return the variables that a command reads."""
    return (*(("STACK",) if name in OF_A_STACK else ()), *TOLD.get(name, ()))


def overview() -> str:
    """Return every command with its variables, for people."""
    lines = ["make COMMAND [VARIABLE=value …]"]
    for title, commands in (("Of a stack", OF_A_STACK), ("Of this checkout", {**OF_THE_CHECKOUT, **OF_ANYBODY})):
        width = max(map(len, commands)) + 2
        lines += ["", title]
        lines += [
            f"  {name:<{width}}{purpose}"
            + "".join(f"\n  {'':<{width}}  {line}" for line in _explained(TOLD.get(name, ())))
            for name, purpose in commands.items()
        ]
    lines += [
        "",
        f"Of a stack: {_explained(['STACK'])[0]}.",
        "docs/operations.md says what each prints, and what can go wrong.",
    ]
    return "\n".join(lines) + "\n"


def _explained(variables: Sequence[str]) -> list[str]:
    return [f"{name}={value}  {meaning}" for name, (value, meaning) in ((name, VARIABLES[name]) for name in variables)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bootstrap", description="What `make` calls; `make help` shows all of it.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, purpose in {**OF_A_STACK, **OF_THE_CHECKOUT, **OF_ANYBODY}.items():
        # What is read from variables is no argument here, and people should find it all the same.
        known = commands.add_parser(
            name,
            help=purpose,
            description=f"{purpose[0].upper()}{purpose[1:]}.",
            epilog="\n".join(["variables:", *(f"  {line}" for line in _explained(told(name)))]) if told(name) else None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name in OF_A_STACK:
            known.add_argument("stack", nargs="?", default="local", help="which stack")
    return parser


def _command(asked: argparse.Namespace) -> Callable[[], int]:
    from bootstrap import commands  # noqa: PLC0415  # it needs the packages of the virtual environment

    if asked.command in OF_A_STACK:
        # `import` is a word of Python's own.
        name = "import_" if asked.command == "import" else asked.command.replace("-", "_")
        of_stack: Callable[[str], int] = getattr(commands, name)
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
