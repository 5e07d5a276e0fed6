"""What other machines have otherwise: engines without root, long temporary folders."""

from dataclasses import replace
from pathlib import Path

import pytest

from open_webui_edge.components.preflight import warnings_on
from open_webui_edge.engine import ssh
from open_webui_edge.engine.engine import EngineFacts
from open_webui_edge.settings.models import ModelSettings, OllamaMode, OllamaSettings
from open_webui_edge.settings.stack import StackSettings

_WITH_OLLAMA = StackSettings()
_WITHOUT = StackSettings(models=ModelSettings(ollama=OllamaSettings(mode=OllamaMode.NONE)))
_ROOTLESS = EngineFacts(local=True, rootless=True)


@pytest.mark.parametrize(
    ("facts", "settings", "beginnings"),
    [
        (EngineFacts(local=True), _WITH_OLLAMA, []),
        (
            _ROOTLESS,
            _WITH_OLLAMA,
            [
                "This Docker engine is rootless, so host.docker.internal is not this machine,",
                "This Docker engine is rootless, and by default Nginx then sees one address for all clients:",
            ],
        ),
        (
            replace(_ROOTLESS, limits_memory=False),
            _WITHOUT,
            [
                "This Docker engine is rootless, and by default Nginx then sees one address for all clients:",
                "This Docker engine cannot limit memory, so a container can use all of this machine's;",
            ],
        ),
    ],
    ids=["with root", "without root", "without root and systemd"],
)
def test_what_an_engine_without_root_does_otherwise_is_said(
    facts: EngineFacts, settings: StackSettings, beginnings: list[str]
) -> None:
    said = list(warnings_on(facts, settings))
    assert len(said) == len(beginnings)
    assert all(text.startswith(beginning) for text, beginning in zip(said, beginnings, strict=True)), said


def test_a_socket_has_a_short_path_where_the_temporary_folder_has_a_long_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    longest = tmp_path / ("x" * 100)
    longest.mkdir()
    monkeypatch.setattr(ssh.tempfile, "tempdir", str(longest))
    folder = ssh.folder_for_a_socket("docker.sock")
    try:
        assert len(str(folder / "docker.sock")) <= 85
        assert folder.stat().st_mode & 0o777 == 0o700
        assert list(longest.iterdir()) == []
    finally:
        folder.rmdir()
