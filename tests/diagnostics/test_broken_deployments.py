"""Each deployment that is broken on purpose gets the right finding first; one that is well gets none."""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from open_webui_edge.diagnostics import outside
from open_webui_edge.diagnostics.finding import Severity
from open_webui_edge.diagnostics.question import Diagnosis, diagnose
from tests.diagnostics.house import NAME, Deployment, House, all_deployments

SIDE_BY_SIDE = 3
"""Most of a diagnosis is waiting."""


def summary(diagnosis: Diagnosis) -> str:
    """Return what a failed comparison should show."""
    return "\n".join(f"{one.severity} {one.finding.check}: {one.finding.seen}" for one in diagnosis.ranked)


@pytest.fixture(scope="module")
def diagnoses(house: House, request: pytest.FixtureRequest) -> Iterator[Mapping[str, Future[Diagnosis]]]:
    """The diagnosis of each deployment that is asked for, by its name."""
    expected = {item.name for item in request.session.items}
    chosen = [each for each in house.deployments if any(f"[{each.name}]" in name for name in expected)]
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        yield {each.name: pool.submit(diagnose, house.subject(each), outside.QUESTIONS) for each in chosen}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("deployment", all_deployments(), ids=lambda each: each.name)
def test_first_finding_is_the_right_one(diagnoses: Mapping[str, Future[Diagnosis]], deployment: Deployment) -> None:
    diagnosis = diagnoses[deployment.name].result()
    first, *_ = diagnosis.ranked
    expected = deployment.says("first")
    if expected:
        assert first.finding.check == expected, summary(diagnosis)
        for words in deployment.directives.get("fix", []):
            assert words.replace("NAME", NAME) in first.finding.fix
        for words in deployment.directives.get("seen", []):
            assert words in f"{first.finding.seen} {first.finding.why}"
        assert first.finding.why
        others = [one.finding for one in diagnosis.ranked[1:] if one.severity is not Severity.OK]
        assert not any(finding.is_trouble for finding in others), summary(diagnosis)
    else:
        assert not any(finding.is_trouble for finding in diagnosis.findings), summary(diagnosis)
    assert diagnosis.exit_code == int(deployment.says("exit")), summary(diagnosis)
    assert not [finding for finding in diagnosis.findings if "It could not be asked" in finding.seen], summary(
        diagnosis
    )
