"""The rendered configurations of tests/cases/rendered: one whole, the others as what they have other than that one."""

from collections.abc import Iterator
from difflib import SequenceMatcher
from functools import cache

from open_webui_edge.components.reverse_proxy.rendering import render_configuration
from open_webui_edge.settings.reading import read_settings
from tests.support.case_files import CASES, Case, read_case

STACK = "unit"
WHOLE = CASES / "rendered" / "local.yaml"
_AROUND = 2
"""Lines that are shown before and after a change."""


def rendered(case: Case) -> str:
    """Return a case's configuration."""
    settings = read_settings(case.config, secret_keys=case.secret_keys, source="a case")
    return render_configuration(
        settings,
        stack=STACK,
        upstreams=case.upstreams,
        replicas=case.replicas,
        ipv6=case.ipv6,
        rsa_certificate=case.rsa_certificate,
        acme_challenges=case.acme_challenges,
    )


def shown(case: Case) -> str:
    """Return what a case's file says of its configuration: all of it, or the differences from the whole one."""
    if case.path == WHOLE:
        return rendered(case)
    result = "\n".join(differences(_whole().splitlines(), rendered(case).splitlines()))
    return f"{result.rstrip()}\n"


@cache
def _whole() -> str:
    return rendered(read_case(WHOLE))


def differences(before: list[str], after: list[str]) -> Iterator[str]:
    """Return a unified diff whose hunks are headed by the block that they are in.

    Line numbers would change in each file with every line that all have.
    """
    for group in SequenceMatcher(None, before, after, autojunk=False).get_grouped_opcodes(_AROUND):
        first = group[0][1]
        yield f"@@ {_block_of(before, first)}"
        for what, old, old_end, new, new_end in group:
            if what == "equal":
                yield from (f" {line}".rstrip() for line in before[old:old_end])
            else:
                yield from (f"-{line}" for line in before[old:old_end])
                yield from (f"+{line}" for line in after[new:new_end])


def _block_of(lines: list[str], number: int) -> str:
    """Return the lines that open the blocks in which a line is, outermost first."""
    depth = len(lines[number]) - len(lines[number].lstrip()) if lines[number] else 1
    opened: list[str] = []
    for line in reversed(lines[:number]):
        indentation = len(line) - len(line.lstrip())
        if line.endswith("{") and indentation < depth:
            opened.insert(0, line.strip(" {"))
            depth = indentation
    return ": ".join(opened) or "outside of all blocks"
