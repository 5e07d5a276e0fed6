"""`python3 -m open_webui_edge.diagnostics` and `make doctor URL=…`: what is typed, what is refused, what is written."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from open_webui_edge.bootstrap import paths
from open_webui_edge.bootstrap.console import ProblemError
from open_webui_edge.cli import doctor
from open_webui_edge.diagnostics import command_line
from open_webui_edge.diagnostics.__main__ import main
from open_webui_edge.diagnostics.finding import Finding, Hop, Severity
from open_webui_edge.diagnostics.question import Diagnosis
from open_webui_edge.diagnostics.subject import Subject

ROOT = Path(__file__).parents[3]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Subject]:
    """Whom the doctor would have asked; nothing is asked."""
    subjects: list[Subject] = []

    def examine(subject: Subject) -> Diagnosis:
        subjects.append(subject)
        return Diagnosis(subject, (Finding("a", Severity.WARNING, Hop.PROXY, "seen"), Hop.HOST.ok("b", "well")))

    monkeypatch.setattr(command_line, "examine", examine)
    return subjects


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("chat.example.com", "is no address of a site; write one such as https://chat.example.com"),
        ("ftp://chat.example.com", "is no address of a site"),
        ("https://", "is no address of a site"),
        ("https://chat.example.com:0", "is no address of a site"),
        ("https://chat.example.com:99999", "is no address of a site"),
        ("https://[::1", "is no address of a site"),
        ("https://chat.example.com/chat", "has a path"),
        ("https://chat.example.com/?q=1", "has a path"),
        ("https://user:secret@chat.example.com", "write it without"),
    ],
)
def test_what_is_no_site_is_refused(url: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command_line.run(["--url", url])
    assert ended.value.code == 64
    said = capsys.readouterr().err
    assert words in said
    assert "secret" not in said


def test_authority_and_token_come_from_files(
    asked: list[Subject], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token = tmp_path / "token"
    token.write_text("sk-invented\n")
    assert command_line.run(["--url", "https://chat.example.com/", "--token-file", str(token), "--long"]) == 1
    assert (asked[0].url, asked[0].token, asked[0].long) == ("https://chat.example.com", "sk-invented", True)
    assert "sk-invented" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "option", "words"),
    [
        (None, "--ca", "a file cannot be read"),
        ("no certificate", "--ca", "holds no certificate in PEM form"),
        ("", "--token-file", "the file of --token-file is empty"),
    ],
)
def test_file_that_is_of_no_use_is_refused(  # noqa: PLR0913, PLR0917 - fixtures and a table
    content: str | None,
    option: str,
    words: str,
    asked: list[Subject],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "file"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SystemExit):
        command_line.run(["--url", "https://chat.example.com", option, str(file)])
    assert words in capsys.readouterr().err
    assert not asked


def test_json_alone_is_on_standard_output(
    asked: list[Subject], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "new" / "doctor.html"
    assert command_line.run(["--url", "https://chat.example.com", "--json", "--html", str(file)]) == 1
    assert json.loads(capsys.readouterr().out)["verdict"] == "warning"
    assert file.read_text().startswith("<!doctype html>")
    assert len(asked) == 1


def test_html_file_that_cannot_be_written_is_said_after_the_answer(
    asked: list[Subject], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert command_line.run(["--url", "https://chat.example.com", "--html", str(tmp_path / "file" / "x.html")]) == 1
    captured = capsys.readouterr()
    assert "WARNING  a (proxy)" in captured.out
    assert "x.html could not be written" in captured.err
    assert len(asked) == 1


@pytest.mark.parametrize("no_color", [None, "", "1"])
def test_colour_is_for_terminals_that_want_it(
    no_color: str | None, asked: list[Subject], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color is not None:
        monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    command_line.run(["--url", "https://chat.example.com"])
    assert ("\x1b[" in capsys.readouterr().out) is (no_color != "1")
    assert asked


def test_make_doctor_asks_a_url(
    asked: list[Subject], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    monkeypatch.setenv("URL", "https://chat.example.com/")
    assert doctor.doctor("local") == 1
    assert asked[0].url == "https://chat.example.com"
    assert not asked[0].of_a_stack
    assert (tmp_path / "doctor-url.html").exists()
    assert "doctor-url.html" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"JSON": "1"}, "invalid JSON=1; use JSON=yes or omit it."),
        (
            {"FIX": "yes"},
            "FIX=yes fixes a stack of this project, and URL is only checked; remove one of them.",
        ),
    ],
)
def test_make_doctor_refuses_what_means_nothing(
    variables: dict[str, str], message: str, asked: list[Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("URL", "https://chat.example.com")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ProblemError) as refused:
        doctor.doctor("local")
    assert str(refused.value) == message
    assert not asked


def test_python_without_the_packages_goes_on_with_the_one_that_has_them() -> None:
    # -S: what is installed in the virtual environment is not there.
    words = [sys.executable, "-S", "-m", "open_webui_edge.diagnostics", "--url", "nonsense"]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    assert (ended.returncode, ended.stderr) == (
        64,
        "diagnostics: 'nonsense' is no address of a site; write one such as https://chat.example.com\n",
    )


def test_interrupted_diagnosis_ends_with_a_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_: Subject) -> Diagnosis:
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "examine", interrupted)
    monkeypatch.setattr("sys.argv", ["diagnostics", "--url", "https://chat.example.com"])
    assert main() == 130
    assert capsys.readouterr().err == "interrupted\n"
