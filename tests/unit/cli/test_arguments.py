"""The help of each command states its purpose and the variables that it reads."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from open_webui_edge.cli.arguments import COMMANDS, OF_A_STACK, OF_THE_CHECKOUT, VARIABLES, overview, variables_of

ROOT = Path(__file__).parents[3]
MAKEFILE = (ROOT / "Makefile").read_text()


def words_of_makefile(name: str) -> set[str]:
    match = re.search(rf"^{name} = (.*)$", MAKEFILE.replace("\\\n", " "), re.MULTILINE)
    assert match is not None
    return set(match[1].split())


def test_make_knows_the_commands_that_bootstrap_knows() -> None:
    assert words_of_makefile("of_a_stack") == set(OF_A_STACK)
    assert words_of_makefile("of_the_checkout") == set(OF_THE_CHECKOUT)


def test_make_hands_on_every_variable_that_a_command_reads_and_no_other() -> None:
    handed_on = re.search(r"^export (.*)$", MAKEFILE, re.MULTILINE)
    assert handed_on is not None
    assert set(handed_on[1].split()) == set(VARIABLES)
    assert {variable for name in COMMANDS for variable in variables_of(name)} == set(VARIABLES)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_says_what_it_does_and_which_variables_it_reads(name: str) -> None:
    shown = subprocess.run(  # noqa: S603 - a command of our own
        [sys.executable, "-m", "open_webui_edge.cli", name, "--help"],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
    ).stdout
    said = " ".join(shown.split())
    assert COMMANDS[name][0][1:] in said
    for variable in variables_of(name):
        assert "{}={} {}".format(variable, *VARIABLES[variable]) in said


def test_the_overview_holds_every_command_with_its_variables() -> None:
    shown = overview()
    for name, (purpose, _) in COMMANDS.items():
        assert re.search(rf"^  {re.escape(name)} +{re.escape(purpose)}$", shown, re.MULTILINE)
    for variable, (value, meaning) in VARIABLES.items():
        assert f"{variable}={value}  {meaning}" in shown
    assert max(map(len, shown.splitlines())) <= 120


def test_help_needs_nothing_but_python() -> None:
    shown = subprocess.run(
        ["/usr/bin/env", "-i", "PATH=/usr/local/bin:/usr/bin:/bin", "python3", "-m", "open_webui_edge.cli", "help"],
        check=True, capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert shown.stdout == overview()


def test_make_hands_its_words_on_to_the_tests() -> None:
    words = ["make", "test-unit", "ARGS=tests/unit/support/test_load.py --collect-only -q"]
    shown = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603 - a command of ours
    assert (shown.returncode, shown.stderr) == (0, "")
    collected = [line for line in shown.stdout.splitlines() if "::" in line]
    assert collected != []
    assert all(line.startswith("tests/unit/support/test_load.py::") for line in collected)


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_a_terminal_without_all_signs_gets_others(encoding: str) -> None:
    words = [sys.executable, "-m", "open_webui_edge.cli", "help"]
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    shown = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, check=False)  # noqa: S603 - ours
    assert (shown.returncode, shown.stderr) == (0, b"")
    assert b"make COMMAND [VARIABLE=value ?]" in shown.stdout
