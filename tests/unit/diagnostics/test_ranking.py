"""What is shown first: the trouble that explains the others, and then the worst."""

import pytest

from open_webui_edge.diagnostics.finding import Finding, Hop, Severity
from open_webui_edge.diagnostics.question import Diagnosis, Ranked, ranked
from open_webui_edge.diagnostics.subject import Subject

FAILURE, WARNING, NOTE, OK, UNKNOWN = (
    Severity.FAILURE,
    Severity.WARNING,
    Severity.NOTE,
    Severity.OK,
    Severity.UNKNOWN,
)


def a_finding(
    check: str, severity: Severity, *, explains: tuple[str, ...] = (), explained_by: tuple[str, ...] = ()
) -> Finding:
    return Finding(check, severity, Hop.PROXY, f"seen of {check}", explains=explains, explained_by=explained_by)


def order(*findings: Finding) -> list[str]:
    return [one.finding.check for one in ranked(findings)]


def test_worst_comes_first_and_of_equals_the_one_that_was_asked_first() -> None:
    findings = [
        a_finding("a", OK),
        a_finding("b", WARNING),
        a_finding("c", FAILURE),
        a_finding("d", NOTE),
        a_finding("e", FAILURE),
    ]
    assert order(*findings, a_finding("f", UNKNOWN)) == ["c", "e", "b", "f", "d", "a"]


def test_cause_comes_before_what_is_worse_in_itself() -> None:
    cause = a_finding("cause", WARNING, explains=("effect",))
    effect, other = a_finding("effect", FAILURE), a_finding("other", WARNING)
    first, second = ranked([other, effect, cause])
    assert first == Ranked(cause, (effect,))
    assert first.severity is FAILURE
    assert second == Ranked(other)


def test_star_stands_for_all_that_begin_so() -> None:
    first, second = ranked(
        [a_finding("tls.a", FAILURE, explains=("web.*",)), a_finding("web.b", FAILURE), a_finding("webs", FAILURE)]
    )
    assert [one.check for one in first.explained] == ["web.b"]
    assert second.finding.check == "webs"


def test_what_is_well_explains_nothing_and_needs_no_explanation() -> None:
    assert order(a_finding("a", OK, explains=("b",)), a_finding("b", FAILURE)) == ["b", "a"]
    assert order(a_finding("a", FAILURE, explains=("b",)), a_finding("b", OK)) == ["a", "b"]


def test_chain_of_causes_ends_at_the_first_one() -> None:
    (one,) = ranked(
        [a_finding("c", FAILURE), a_finding("b", FAILURE, explains=("c",)), a_finding("a", WARNING, explains=("b",))]
    )
    assert one.finding.check == "a"
    assert {each.check for each in one.explained} == {"b", "c"}


def test_two_that_explain_each_other_are_one_finding() -> None:
    (one,) = ranked([a_finding("a", FAILURE, explains=("*",)), a_finding("b", FAILURE, explains=("*",))])
    assert (one.finding.check, [each.check for each in one.explained]) == ("a", ["b"])


def test_three_that_explain_each_other_in_a_circle_lose_none() -> None:
    circle = [
        a_finding("a", FAILURE, explains=("b",)),
        a_finding("b", FAILURE, explains=("c",)),
        a_finding("c", FAILURE, explains=("a",)),
    ]
    shown = {each.check for one in ranked(circle) for each in (one.finding, *one.explained)}
    assert shown == {"a", "b", "c"}


def test_what_was_not_asked_goes_with_its_reason_even_where_that_is_unknown() -> None:
    (one,) = ranked([a_finding("door", UNKNOWN), a_finding("behind", UNKNOWN, explained_by=("door",))])
    assert (one.finding.check, [each.check for each in one.explained]) == ("door", ["behind"])


@pytest.mark.parametrize(
    ("severities", "code"),
    [((), 0), ((OK, NOTE, UNKNOWN), 0), ((OK, WARNING), 1), ((WARNING, FAILURE, UNKNOWN), 2)],
)
def test_exit_code_is_that_of_the_worst(severities: tuple[Severity, ...], code: int) -> None:
    findings = tuple(a_finding(f"check-{number}", severity) for number, severity in enumerate(severities))
    assert Diagnosis(Subject("https://chat.example.com"), findings).exit_code == code
