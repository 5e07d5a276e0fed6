"""How a stranger who is paid to find fault grades the deployment's TLS."""

from collections.abc import Iterator

import docker
import docker.errors
import pytest

from components.images import BENCH_TOOLS
from tests.support.browser import ARTEFACTS
from tests.support.machine import lacks
from tests.support.stack import StackUnderTest, Workshop
from tests.support.tls_grade import grade


@pytest.fixture
def strict(workshop: Workshop) -> Iterator[StackUnderTest]:
    """A stack that tells browsers to come by HTTPS only."""
    with StackUnderTest(workshop, "it-tls", {"proxy": {"headers": {"hsts": {"enabled": True}}}}).running() as stack:
        yield stack


def test_testssl_grades_it_a_plus(engine: docker.DockerClient, strict: StackUnderTest) -> None:
    try:
        engine.images.get(BENCH_TOOLS)
    except docker.errors.ImageNotFound:
        lacks(f"no image {BENCH_TOOLS}")
    found = grade(engine, strict.url, ca_file=strict.ca_file, artefacts=ARTEFACTS, name="it-tls-grader")
    assert (found.grade, found.reasons) == ("A+", []), found.output
