"""How a stranger who is paid to find fault grades the deployment's TLS.

Marked long: testssl takes minutes. tests/nginx/test_tls.py tests protocols and ciphers one by one.
"""

from collections.abc import Iterator

import docker
import docker.errors
import pytest

from open_webui_edge.settings.images import BENCH_TOOLS
from tests.support.browser import ARTEFACTS
from tests.support.certificates import authority, server
from tests.support.machine import lacks
from tests.support.stack import StackUnderTest, Workshop
from tests.support.tls_grade import grade

pytestmark = pytest.mark.long


@pytest.fixture
def strict(workshop: Workshop) -> Iterator[StackUnderTest]:
    """A stack with a certificate that an authority issued, as a company's does; browsers come by HTTPS only then."""
    root = authority("A company's root")
    stack = StackUnderTest(workshop, "it-tls", {})
    names = ["localhost", "127.0.0.1"]
    stack.provide(server(names, authority("A company's issuing authority", root), common_name="localhost"))
    stack.ca_file.write_text(root.pem)
    with stack.running():
        yield stack


def test_testssl_grades_it_a_plus(engine: docker.DockerClient, strict: StackUnderTest) -> None:
    try:
        engine.images.get(BENCH_TOOLS)
    except docker.errors.ImageNotFound:
        lacks(f"no image {BENCH_TOOLS}")
    result = grade(engine, strict.url, ca_file=strict.ca_file, artefacts=ARTEFACTS, name="it-tls-grader")
    assert (result.grade, result.reasons) == ("A+", []), result.output
    assert result.findings["cert_chain_of_trust"] == "passed.", result.output
