"""README.md and docs/: links lead somewhere, the source names pages that exist, and the doctor is quoted correctly."""

import ast
import re
import subprocess
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest

from open_webui_edge.settings.documents import settings_of

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_FENCE = re.compile(r"^( *)(```|~~~).*?^\1\2 *$", re.MULTILINE | re.DOTALL)
_YAML = re.compile(r"^( *)```yaml\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_SECTION_IN_SOURCE = re.compile(r"docs/(\w+\.md)(?:: ([A-Z][^)]*)|\s\(([A-Z][^)]*)\))")
_PAGE_IN_SOURCE = re.compile(r"(?<![\w/.-])docs/([\w/-]+\.md)")
_DECISION_IN_SOURCE = re.compile(r"docs/decisions/(\d{4})")
_DOCTORS_LINE = re.compile(r"`([a-z]+\.[a-z_.-]+)`(?: and others,)? \*([^*]+)\*")


def _prose(page: Path) -> str:
    return _CODE.sub("", _FENCE.sub("", page.read_text(encoding="utf-8")))


def _slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


@cache
def _anchors(page: Path) -> frozenset[str]:
    """Return the anchors of a page, made as GitHub and the site (mkdocs.yml) make them."""
    result: list[str] = []
    for heading in re.findall(r"^#+ (.+?) *$", _FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = _slug(text)
        result.append(f"{slug}-{result.count(slug)}" if slug in result else slug)
    return frozenset(result)


def _fault(page: Path, link: str) -> str | None:
    """Say what is wrong with a link of a page; None where it leads somewhere."""
    name, _, anchor = link.partition("#")
    target = (page.parent / unquote(name)).resolve() if name else page
    if not target.exists():
        return f"{link}: there is no such file"
    if page.is_relative_to(ROOT / "docs") and not target.is_relative_to(ROOT / "docs"):
        return f"{link}: leads out of docs/, where the site has no page"
    if anchor and anchor not in _anchors(target):
        return f"{link}: {target.name} has no such heading"
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = [link for link in _LINK.findall(_prose(page)) if not re.match(r"[a-z]+:", link)]
    assert [fault for link in links if (fault := _fault(page, link))] == []


def test_links_are_checked() -> None:
    page = ROOT / "docs/index.md"
    assert _fault(page, "operations.md#the-doctor") is None
    assert _fault(page, "operations.md#no-such-heading") == (
        "operations.md#no-such-heading: operations.md has no such heading"
    )
    assert _fault(page, "nothing.md") == "nothing.md: there is no such file"
    assert _fault(page, "../README.md") == "../README.md: leads out of docs/, where the site has no page"


def test_every_page_is_reached_from_the_index() -> None:
    reached: set[Path] = set()
    pending = [ROOT / "docs/index.md"]
    while pending:
        page = pending.pop()
        if page not in reached and page.suffix == ".md":
            reached.add(page)
            names = [link.partition("#")[0] for link in _LINK.findall(_prose(page)) if "://" not in link]
            pending += [(page.parent / name).resolve() for name in names if name]
    assert sorted(set(PAGES[1:]) - reached) == []


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def _strings(tree: ast.AST) -> Iterator[str]:
    """Return all strings of a file, those of an f-string with {} in the place of values."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _sources(*, of: str = "", naming: str = "") -> Iterator[tuple[str, str]]:
    """Return path and string for each string in the Python files below a folder that contain `naming`."""
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", f"{of}*.py"]
    listed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S603 - git on PATH
    for name in listed.stdout.split():
        if not (ROOT / name).exists():  # deleted, and not committed yet
            continue
        text = (ROOT / name).read_text(encoding="utf-8")
        if naming in text:
            yield from ((name, string) for string in _strings(ast.parse(text)))


def test_pages_and_sections_that_the_source_names_exist() -> None:
    missing: set[str] = set()
    for name, text in _sources(naming="docs/"):
        if name == Path(__file__).relative_to(ROOT).as_posix():
            continue
        for page, section, other in _SECTION_IN_SOURCE.findall(text):
            slug = _slug(" ".join((section or other).split()))
            if not (ROOT / "docs" / page).exists() or slug not in _anchors(ROOT / "docs" / page):
                missing.add(f"{name}: docs/{page}: {section or other}")
        for page in _PAGE_IN_SOURCE.findall(text):
            if not (ROOT / "docs" / page).exists():
                missing.add(f"{name}: docs/{page}")
        for decision in _DECISION_IN_SOURCE.findall(text):
            if not list((ROOT / "docs/decisions").glob(f"{decision}-*.md")):
                missing.add(f"{name}: docs/decisions/{decision}")
    assert sorted(missing) == []


def test_troubleshooting_quotes_what_the_doctor_says() -> None:
    said = {text for _, text in _sources(of="diagnostics/")}
    page = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    quoted = _DOCTORS_LINE.findall(page)
    assert len(quoted) > 30
    wrong = [f"{check}: {line}" for check, line in quoted if not any(line in text for text in said)]
    # Checks of saved settings are named after the setting; see diagnostics/inside/application.py.
    wrong += [check for check, _ in quoted if check not in said and not check.startswith("settings.")]
    assert wrong == []


def test_every_decision_is_in_their_index() -> None:
    index = (ROOT / "docs/decisions/index.md").read_text(encoding="utf-8")
    files = sorted(path.name for path in (ROOT / "docs/decisions").glob("0*.md"))
    assert sorted(re.findall(r"\]\((\d{4}-[\w-]+\.md)\)", index)) == files


def _examples() -> Iterator[tuple[str, str]]:
    """Return page and text of each example of a stack file; … stands for a value that each reader has."""
    for page in PAGES:
        for _, block in _YAML.findall(page.read_text(encoding="utf-8")):
            text = textwrap.dedent(block)
            if "open-webui-edge:" in text and "…" not in text:
                whole = text if text.startswith("config:") else f"config:\n{textwrap.indent(text, '  ')}"
                yield str(page.relative_to(ROOT)), whole


@pytest.mark.parametrize(("page", "text"), [pytest.param(*one, id=one[0]) for one in _examples()])
def test_examples_are_valid_stack_files(page: str, text: str) -> None:
    settings_of(text, source=page)
