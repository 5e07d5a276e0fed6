"""What a reader for weaknesses (gixy-ng) finds in the rendered configurations: nothing that has no reason."""

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from open_webui_edge.settings.proxy import FRONTEND_PATHS
from tests.support.case_files import case_files, read_case
from tests.support.rendered_cases import rendered

GIXY = Path(sys.executable).parent / "gixy"
CASES = {path.stem: rendered(read_case(path)) for path in case_files("rendered")}
CACHED = {"/_app/immutable/", "/_app/version.json", *FRONTEND_PATHS}
_PASSED = re.compile(r"location (?:= )?(\S+) \{\s+proxy_pass http://open_webui(\S+);")


@dataclass(frozen=True)
class Finding:
    """One of gixy's."""

    plugin: str
    reason: str
    configuration: str


def findings_in(configurations: Mapping[str, str], directory: Path) -> dict[str, list[Finding]]:
    """Return what gixy says to each."""
    (directory / "generation.conf").write_text('set $generation "1";\n')
    for name, text in configurations.items():
        (directory / f"{name}.nginx").write_text(text)
    files = [str(directory / f"{name}.nginx") for name in configurations]
    ended = subprocess.run([GIXY, "--format", "json", *files], capture_output=True, text=True, check=False)  # noqa: S603
    result: dict[str, list[Finding]] = {name: [] for name in configurations}
    for issue in json.loads(ended.stdout):
        result[Path(issue["path"]).stem].append(Finding(issue["plugin"], issue["reason"], issue["config"]))
    return result


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Finding]]:
    return findings_in(CASES, tmp_path_factory.mktemp("gixy"))


def has_a_reason(finding: Finding, whole: str) -> bool:
    match finding.plugin:
        case "proxy_pass_normalized":
            # On purpose: what Nginx decided by, and keeps an answer under, is what the application is asked for.
            passed = _PASSED.findall(finding.configuration)
            return bool(passed) and all(asked == given and asked in CACHED for asked, given in passed)
        case "hsts_header":
            # Off by setting; or on for all servers at once, which gixy does not see: it does not know the merging.
            said = "add_header Strict-Transport-Security" in whole
            return "No Strict-Transport-Security" in finding.reason and (
                not said or "    add_header_inherit merge;" in whole
            )
        case _:
            return False


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_found_that_has_no_reason(findings: dict[str, list[Finding]], name: str) -> None:
    assert [finding for finding in findings[name] if not has_a_reason(finding, CASES[name])] == []


WEAKNESSES = {
    "http_splitting": ("return 308 https://localhost:8443$request_uri;", "return 308 https://localhost:8443$uri;"),
    "host_spoofing": ("proxy_set_header Host localhost:8443;", "proxy_set_header Host $http_host;"),
    "version_disclosure": ("server_tokens off;", "server_tokens on;"),
    "proxy_pass_normalized": ("proxy_pass http://open_webui;", "proxy_pass http://open_webui/elsewhere/;"),
}


@pytest.mark.parametrize("plugin", WEAKNESSES)
def test_weakness_is_noticed(plugin: str, tmp_path: Path) -> None:
    strong, weak = WEAKNESSES[plugin]
    whole = CASES["local"].replace(strong, weak)
    assert whole != CASES["local"]
    (result,) = findings_in({"weak": whole}, tmp_path).values()
    assert plugin in {finding.plugin for finding in result if not has_a_reason(finding, whole)}
