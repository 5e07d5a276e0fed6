"""How questions are asked: in order, side by side, and whatever happens to one, the others are answered."""

import threading
from collections.abc import Callable, Iterable, Iterator

import pytest

from open_webui_edge.diagnostics.finding import Finding, Hop, Severity
from open_webui_edge.diagnostics.question import Diagnosis, Question, diagnose
from open_webui_edge.diagnostics.subject import Expectations, Subject

PATIENCE = 10.0


def subject() -> Subject:
    return Subject("https://chat.example.com")


def question(
    name: str,
    *needs: str,
    ask: Callable[[Subject], Iterable[Finding]] | None = None,
    seconds: float = PATIENCE,
    alone: bool = False,
) -> Question:
    return Question(
        name, Hop.PROXY, f"title of {name}", needs, ask or (lambda _: [Hop.PROXY.ok(name, "well")]), seconds, alone
    )


def failing(
    name: str, severity: Severity = Severity.FAILURE, explains: tuple[str, ...] = ()
) -> Callable[..., list[Finding]]:
    return lambda _: [Finding(f"{name}.trouble", severity, Hop.PROXY, "broken", explains=explains)]


def of(diagnosis: Diagnosis) -> dict[str, Finding]:
    return {finding.check: finding for finding in diagnosis.findings}


def test_answers_stand_in_the_order_of_the_questions_whoever_answers_first() -> None:
    second_is_done = threading.Event()

    def slow(_: Subject) -> Iterator[Finding]:
        assert second_is_done.wait(PATIENCE)
        yield Hop.PROXY.ok("a", "late")

    def quick(_: Subject) -> Iterator[Finding]:
        yield Hop.PROXY.ok("b", "early")
        second_is_done.set()

    diagnosis = diagnose(subject(), [question("a", ask=slow), question("b", ask=quick)])
    assert [finding.check for finding in diagnosis.findings] == ["a", "b"]


def test_question_waits_for_what_it_needs_and_is_asked_in_any_order() -> None:
    asked: list[str] = []

    def note(name: str) -> Callable[[Subject], Iterable[Finding]]:
        def ask(_: Subject) -> list[Finding]:
            asked.append(name)
            return [Hop.PROXY.ok(name, "well")]

        return ask

    diagnose(subject(), [question("b", "a", ask=note("b")), question("a", ask=note("a"))])
    assert asked == ["a", "b"]


def test_need_that_is_not_among_the_questions_keeps_nobody_waiting() -> None:
    assert of(diagnose(subject(), [question("a", "of another set")]))["a"].severity is Severity.OK


def test_what_needs_a_broken_thing_is_not_asked_and_goes_with_it() -> None:
    questions = [question("a", ask=failing("a")), question("b", "a"), question("c", "b")]
    diagnosis = diagnose(subject(), questions)
    result = of(diagnosis)
    assert (result["b"].severity, result["b"].seen) == (Severity.UNKNOWN, "Not asked, because a did not pass.")
    (only,) = diagnosis.ranked
    assert (only.finding.check, [each.check for each in only.explained]) == ("a.trouble", ["b", "c"])


def test_warning_keeps_back_only_what_it_explains() -> None:
    ask = failing("a", Severity.WARNING, explains=("b",))
    result = of(diagnose(subject(), [question("a", ask=ask), question("b", "a"), question("c", "a")]))
    assert (result["b"].severity, result["c"].severity) == (Severity.UNKNOWN, Severity.OK)


def test_note_keeps_nobody_back() -> None:
    ask = lambda _: [Hop.PROXY.note("a", "by the way")]  # noqa: E731 - as short as it is said
    assert of(diagnose(subject(), [question("a", ask=ask), question("b", "a")]))["b"].severity is Severity.OK


def test_fault_of_a_question_is_unknown_and_no_traceback() -> None:
    def faulty(_: Subject) -> Iterator[Finding]:
        yield Hop.PROXY.ok("a.first", "well")
        raise KeyError("what was\nmissing")

    result = of(diagnose(subject(), [question("a", ask=faulty), question("b")]))
    assert result["a"].severity is Severity.UNKNOWN
    assert result["a"].seen == "It could not be asked: KeyError: 'what was\\nmissing'"
    assert result["b"].severity is Severity.OK


def test_question_that_takes_too_long_is_given_up() -> None:
    never = threading.Event()

    def hangs(_: Subject) -> list[Finding]:
        never.wait(PATIENCE)
        return []

    result = of(diagnose(subject(), [question("a", ask=hangs, seconds=0.05), question("b", "a"), question("c")]))
    never.set()
    assert result["a"].seen == "No answer within 0.05 s, so it was given up."
    assert (result["b"].severity, result["c"].severity) == (Severity.UNKNOWN, Severity.OK)


def test_question_that_is_asked_alone_has_no_other_beside_it() -> None:
    beside: list[int] = []
    running = 0
    lock = threading.Lock()

    def counted(name: str) -> Callable[[Subject], Iterable[Finding]]:
        def ask(_: Subject) -> list[Finding]:
            nonlocal running
            with lock:
                running += 1
            if name == "alone":
                beside.append(running)
            with lock:
                running -= 1
            return [Hop.PROXY.ok(name, "well")]

        return ask

    questions = [question(name, ask=counted(name), alone=name == "alone") for name in ("a", "b", "alone", "c")]
    diagnose(subject(), questions)
    assert beside == [1]


def test_circle_of_needs_is_an_error_and_not_a_wait_for_ever() -> None:
    with pytest.raises(ValueError, match="questions wait for each other: a, b"):
        diagnose(subject(), [question("a", "b"), question("b", "a")])


@pytest.mark.parametrize(
    ("expected", "setting", "shown"),
    [
        (None, "site.domain", None),
        (None, "CORS_ALLOW_ORIGIN", "CORS_ALLOW_ORIGIN"),
        (Expectations(), "site.domain", "site.domain"),
    ],
)
def test_who_has_no_stack_is_told_of_no_setting_of_one(
    expected: Expectations | None, setting: str, shown: str | None
) -> None:
    def ask(_: Subject) -> list[Finding]:
        return [Finding("a", Severity.FAILURE, Hop.PROXY, "broken", setting=setting, value="value")]

    result = of(diagnose(Subject("https://chat.example.com", expected=expected), [question("a", ask=ask)]))["a"]
    assert (result.setting, result.value) == (shown, "value" if shown else None)


def test_progress_hears_of_every_question() -> None:
    ended: list[str] = []
    questions = [question("a", ask=failing("a")), question("b", "a"), question("c")]
    diagnose(subject(), questions, lambda each: ended.append(each.id))
    assert sorted(ended) == ["a", "b", "c"]


def test_what_is_asked_once_is_not_asked_again_and_fails_the_same_way_for_all() -> None:
    asked = subject()
    answers = iter(["first", "second"])
    assert [asked.once("key", lambda: next(answers)) for _ in range(2)] == ["first", "first"]

    def fails() -> None:
        raise OSError("gone")

    for _ in range(2):
        with pytest.raises(OSError, match="gone"):
            asked.once("other", fails)


@pytest.mark.parametrize(
    ("url", "name", "port", "origin"),
    [
        ("https://chat.example.com", "chat.example.com", 443, "https://chat.example.com"),
        ("https://chat.example.com:443", "chat.example.com", 443, "https://chat.example.com"),
        ("https://chat.example.com:8443", "chat.example.com", 8443, "https://chat.example.com:8443"),
        ("http://localhost:3000", "localhost", 3000, "http://localhost:3000"),
        ("https://käse.example.com", "xn--kse-qla.example.com", 443, "https://xn--kse-qla.example.com"),
        ("https://[2001:db8::1]:8443", "2001:db8::1", 8443, "https://[2001:db8::1]:8443"),
    ],
)
def test_parts_of_a_url_are_those_that_a_browser_shows(url: str, name: str, port: int, origin: str) -> None:
    asked = Subject(url)
    assert (asked.name, asked.port, asked.origin) == (name, port, origin)
