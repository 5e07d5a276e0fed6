"""What testssl.sh says about a server: its grade, and a report to look at."""

import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import docker
from docker.models.containers import Container

from open_webui_edge.settings.images import BENCH_TOOLS

_DEADLINE = 480
"""Seconds; it makes some thousand connections, one after another."""
_FOLDER = "/grade"


@dataclass(frozen=True)
class TlsGrade:
    """A verdict."""

    findings: Mapping[str, str]
    """Id -> what was found."""
    output: str
    """What a person would have read."""

    @property
    def grade(self) -> str:
        """The grade as a whole, such as A+; "" where there is none."""
        return self.findings.get("overall_grade", "")

    @property
    def reasons(self) -> list[str]:
        """What keeps it from being better."""
        return [result for key, result in self.findings.items() if key.startswith(("grade_cap", "grading_cap"))]


def grade(engine: docker.DockerClient, url: str, *, ca_file: Path, artefacts: Path, name: str) -> TlsGrade:
    """Have a server of this machine graded, which `ca_file` vouches for; the report is kept as HTML and JSON."""
    container = engine.containers.create(
        BENCH_TOOLS,
        [
            *("testssl", "--quiet", "--warnings=batch", "--color=0", "--nodns=none", "--ip=127.0.0.1"),
            *(f"--add-ca={_FOLDER}/ca.pem", f"--jsonfile={_FOLDER}/report.json"),
            *(f"--htmlfile={_FOLDER}/report.html", url),
        ],
        name=name,
        network_mode="host",
    )
    try:
        container.put_archive("/", _archive({f"{_FOLDER}/ca.pem": ca_file.read_bytes()}))
        container.start()
        container.wait(timeout=_DEADLINE)
        output = container.logs().decode(errors="replace")
        reports = {suffix: _read(container, f"{_FOLDER}/report.{suffix}") for suffix in ("json", "html")}
    finally:
        container.remove(force=True)
    artefacts.mkdir(parents=True, exist_ok=True)
    for suffix, content in reports.items():
        (artefacts / f"tls-grade.{suffix}").write_bytes(content)
    return TlsGrade({entry["id"]: entry["finding"] for entry in json.loads(reports["json"])}, output)


def _archive(files: Mapping[str, bytes]) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        for path, content in files.items():
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return written.getvalue()


def _read(container: Container, path: str) -> bytes:
    stream, _ = container.get_archive(path)
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
        opened = archive.extractfile(Path(path).name)
        assert opened is not None, path
        return opened.read()
