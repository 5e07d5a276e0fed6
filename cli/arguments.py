"""From words on the command line to one function of `commands` or `checkout`, and from a problem to one sentence."""

import argparse
import errno
import io
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from open_webui_edge.bootstrap import console, paths, proxies, virtual_environment
from open_webui_edge.bootstrap.console import ProblemError

OF_A_STACK = {
    "up": ("prepare the machine and bring the stack up", "ENGINE"),
    "preview": ("show what `up` would change", ""),
    "pull": ("ask the registries for newer images under the same tags; the next `up` uses them", ""),
    "down": ("remove the stack; its data stays", "DATA YES ENGINE"),
    "import": ("write the stack file from a .env, compose file, `docker run` line or Nginx site", "FROM"),
    "status": ("list the stack's containers", ""),
    "logs": ("print their logs", "ROLE FOLLOW"),
    "doctor": ("check a running deployment from outside and inside, and say what to fix", "URL JSON FIX YES LONG"),
    "backup": ("back the stack up now", "TO"),
    "restore": ("replace its data by a backup", "FROM KEY_FILE YES"),
    "backup-verify": ("restore the newest backup into a scratch deployment and compare its contents", ""),
    "certificate": ("show the certificate: names, issuer, days left, next renewal, last attempt", ""),
    "certificate-dry-run": ("dry-run a renewal with the issuer", ""),
    "trust-ca": ("make this machine and its browsers trust the stack's own CA", "SYSTEM"),
    "untrust-ca": ("remove that CA from their trust stores", "SYSTEM"),
    "reset-admin-password": ("set an administrator's password", "ACCOUNT PASSWORD"),
    "env": ("print the exports for plain `pulumi`", ""),
}
"""Command -> its purpose, and the variables that it reads, in addition to STACK."""
OF_THE_CHECKOUT = {
    "test": ("run the tests, except the slow ones", "ARGS"),
    "test-long": ("run the slow tests", "ARGS"),
    "test-unit": ("run unit tests, without preparing engine, images or toolchain", "ARGS"),
    "bench": ("benchmark this proxy and others, and write docs/benchmarks.md", ""),
    "check": ("check format, lint, types and generated files", ""),
    "docs": ("write the generated files, and build the documentation into build/site", ""),
    "screenshots": ("take the documentation's screenshots from a temporary stack", ""),
    "fmt": ("format the code", ""),
    "lock": ("write requirements*.txt from requirements*.in", ""),
    "release": ("write CHANGELOG.md from changes/, and the new version", "VERSION DATE"),
    "help": ("print this", ""),
}
COMMANDS = {**OF_A_STACK, **OF_THE_CHECKOUT}
VARIABLES = {
    "STACK": ("local", "the stack; default: local"),
    "DATA": ("delete", "delete users, chats and files too, after a confirmation"),
    "ENGINE": ("new", "move to another engine; the data stays on the former one"),
    "YES": ("1", "confirm without asking, for automation"),
    "ROLE": ("nginx", "only this role's containers"),
    "FOLLOW": ("1", "follow the logs until Ctrl-C"),
    "SYSTEM": ("0", "change only the browsers' trust stores, not the system's"),
    "URL": ("https://…", "check this URL instead of a stack"),
    "JSON": ("yes", "print JSON"),
    "FIX": ("yes", "list safe fixes, then apply them"),
    "LONG": ("yes", "also measure how long a response may be silent, which takes minutes"),
    "FROM": ("…", "files or a folder to import; to restore: latest, an id, a folder, s3:… or before"),
    "TO": ("folder", "copy the backup into a folder of this machine"),
    "KEY_FILE": ("file", "file with the password of another stack's backup"),
    "ACCOUNT": ("me@example.com", "email of the account; default: the only administrator"),
    "PASSWORD": ("stdin", "read the password from standard input; default: generate one and show it once"),
    "VERSION": ("0.1.0", "the version to release"),
    "DATE": ("2026-01-31", "date of the release; default: today"),
    "ARGS": ("'tests/nginx -k cache'", "pytest's own arguments"),
}
"""Variables of `make` or of the environment that commands read: an example value and its meaning."""
_INTERRUPTED = 130
_USAGE_ERROR = 64
"""`EX_USAGE` of sysexits.h: 1 and 2 are the doctor's results."""


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot encode "…" gets a replacement character, and no traceback.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    parsed = _parser().parse_args(arguments)
    # For everything that is started from here.
    os.environ.update(proxies.exceptions(os.environ))
    if parsed.command == "help":
        sys.stdout.write(overview())
        return 0

    def command() -> int:
        for_tests = parsed.command in OF_THE_CHECKOUT
        requirements = virtual_environment.FOR_TESTS if for_tests else virtual_environment.FOR_UP
        if not virtual_environment.is_current(requirements):
            with console.step("virtual environment") as shown:
                virtual_environment.ensure(requirements, shown)
        if Path(sys.prefix).resolve() != paths.VIRTUAL_ENVIRONMENT.resolve():
            os.execv(paths.PYTHON, [str(paths.PYTHON), "-m", "open_webui_edge.cli", *arguments])  # noqa: S606  # no shell
        return _execute(parsed)

    return reported(command, on_problem=_USAGE_ERROR if parsed.command == "doctor" else 1)


def reported(command: Callable[[], int], *, on_problem: int = 1) -> int:
    """Run a command and return its exit code; print a problem as one sentence."""
    # `kill` unwinds like Ctrl-C, so that half-made folders are removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_INTERRUPTED))
    try:
        return command()
    except ProblemError as problem:
        console.say(str(problem))
        return on_problem
    except KeyboardInterrupt:
        console.say("interrupted")
        return _INTERRUPTED
    except OSError as fault:
        console.say(_sentence(fault))
        return 1


def variables_of(name: str) -> tuple[str, ...]:
    """Return the variables that a command reads."""
    own = COMMANDS[name][1].split()
    return ("STACK", *own) if name in OF_A_STACK else tuple(own)


def overview() -> str:
    """Return every command with its variables, for people."""
    lines = ["make COMMAND [VARIABLE=value …]"]
    for title, commands in (("Of a stack", OF_A_STACK), ("Of this checkout", OF_THE_CHECKOUT)):
        width = max(map(len, commands)) + 2
        lines += ["", title]
        for name, (purpose, variables) in commands.items():
            lines.append(f"  {name:<{width}}{purpose}")
            lines += [f"  {'':<{width}}  {line}" for line in _explained(variables.split())]
    lines += ["", f"Of a stack: {_explained(['STACK'])[0]}."]
    return "\n".join([*lines, "docs/operations.md describes what each prints and what can go wrong.", ""])


def _explained(variables: Sequence[str]) -> list[str]:
    return ["{}={}  {}".format(name, *VARIABLES[name]) for name in variables]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make", description="What `make` calls; `make help` shows all of it.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (purpose, _) in COMMANDS.items():
        # Variables are no arguments here, but the help lists them.
        variables = [f"  {line}" for line in _explained(variables_of(name))]
        known = commands.add_parser(
            name,
            help=purpose,
            description=f"{purpose[0].upper()}{purpose[1:]}.",
            epilog="\n".join(["variables:", *variables]) if variables else None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name in OF_A_STACK:
            known.add_argument("stack", nargs="?", default="local", help="which stack")
    return parser


def _execute(parsed: argparse.Namespace) -> int:
    # `import` is a word of Python's own.
    name = "import_" if parsed.command == "import" else parsed.command.replace("-", "_")
    # Both modules need the packages of the virtual environment.
    if parsed.command in OF_A_STACK:
        from open_webui_edge.cli import commands as module  # noqa: PLC0415

        words = [parsed.stack]
    else:
        from open_webui_edge.cli import checkout as module  # noqa: PLC0415

        words = shlex.split(os.environ.get("ARGS", "")) if parsed.command.startswith("test") else []
    return getattr(module, name)(*words)


def _sentence(fault: OSError) -> str:
    where = f" ({fault.filename})" if fault.filename else ""
    if fault.errno in {errno.ENOSPC, errno.EDQUOT}:
        return f"The disk is full{where}; free some space and run it again."
    return f"{(fault.strerror or str(fault)).capitalize()}{where}."
