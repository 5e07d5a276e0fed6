"""What is shown first: the trouble that explains the others, and then the worst."""

import pytest

from diagnostics.finding import Finding, Hop, Severity
from diagnostics.question import Diagnosis, Ranked, ranked
from diagnostics.subject import Subject

FAILURE, WARNING, NOTE, OK, UNKNOWN = (
    Severity.FAILURE,
    Severity.WARNING,
    Severity.NOTE,
    Severity.OK,
    Severity.UNKNOWN,
)


def found(check: str, severity: Severity, *, causes: tuple[str, ...] = (), because: tuple[str, ...] = ()) -> Finding:
    return Finding(check, severity, Hop.PROXY, f"seen of {check}", causes=causes, because=because)


def order(*findings: Finding) -> list[str]:
    return [one.finding.check for one in ranked(findings)]


def test_worst_comes_first_and_of_equals_the_one_that_was_asked_first() -> None:
    findings = [found("a", OK), found("b", WARNING), found("c", FAILURE), found("d", NOTE), found("e", FAILURE)]
    assert order(*findings, found("f", UNKNOWN)) == ["c", "e", "b", "f", "d", "a"]


def test_cause_comes_before_what_is_worse_in_itself() -> None:
    cause = found("cause", WARNING, causes=("effect",))
    effect, other = found("effect", FAILURE), found("other", WARNING)
    first, second = ranked([other, effect, cause])
    assert first == Ranked(cause, (effect,))
    assert first.severity is FAILURE
    assert second == Ranked(other)


def test_star_stands_for_all_that_begin_so() -> None:
    first, second = ranked(
        [found("tls.a", FAILURE, causes=("web.*",)), found("web.b", FAILURE), found("webs", FAILURE)]
    )
    assert [one.check for one in first.explains] == ["web.b"]
    assert second.finding.check == "webs"


def test_what_is_well_explains_nothing_and_needs_no_explanation() -> None:
    assert order(found("a", OK, causes=("b",)), found("b", FAILURE)) == ["b", "a"]
    assert order(found("a", FAILURE, causes=("b",)), found("b", OK)) == ["a", "b"]


def test_chain_of_causes_ends_at_the_first_one() -> None:
    (one,) = ranked([found("c", FAILURE), found("b", FAILURE, causes=("c",)), found("a", WARNING, causes=("b",))])
    assert one.finding.check == "a"
    assert {each.check for each in one.explains} == {"b", "c"}


def test_two_that_explain_each_other_are_one_finding() -> None:
    (one,) = ranked([found("a", FAILURE, causes=("*",)), found("b", FAILURE, causes=("*",))])
    assert (one.finding.check, [each.check for each in one.explains]) == ("a", ["b"])


def test_three_that_explain_each_other_in_a_circle_lose_none() -> None:
    circle = [
        found("a", FAILURE, causes=("b",)),
        found("b", FAILURE, causes=("c",)),
        found("c", FAILURE, causes=("a",)),
    ]
    shown = {each.check for one in ranked(circle) for each in (one.finding, *one.explains)}
    assert shown == {"a", "b", "c"}


def test_what_was_not_asked_goes_with_its_reason_even_where_that_is_unknown() -> None:
    (one,) = ranked([found("door", UNKNOWN), found("behind", UNKNOWN, because=("door",))])
    assert (one.finding.check, [each.check for each in one.explains]) == ("door", ["behind"])


@pytest.mark.parametrize(
    ("severities", "code"),
    [((), 0), ((OK, NOTE, UNKNOWN), 0), ((OK, WARNING), 1), ((WARNING, FAILURE, UNKNOWN), 2)],
)
def test_exit_code_is_that_of_the_worst(severities: tuple[Severity, ...], code: int) -> None:
    findings = tuple(found(f"check-{number}", severity) for number, severity in enumerate(severities))
    assert Diagnosis(Subject("https://chat.example.com"), findings).exit_code == code
