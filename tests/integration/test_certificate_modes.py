"""An update changes the issuer of the site's certificate, in either direction, and no request fails.

Changes of the mode that succeed are marked long: each takes two updates of a whole stack. tests/nginx shows what Nginx
does with the new certificate.
"""

import json
import re
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from open_webui_edge.benchmarks.waiting import wait_until
from tests.support.certificates import Issued, authority, server
from tests.support.load import Http1, Http2, Load, SocketIo
from tests.support.stack import NO_CHANGE, StackUnderTest

NAMES = ["localhost", "127.0.0.1"]


@pytest.fixture(scope="module")
def root() -> Issued:
    """An authority that no machine knows."""
    return authority("A company's root")


@pytest.fixture(scope="module")
def company(root: Issued) -> Issued:
    """The authority below it, which issues certificates for servers."""
    return authority("A company's issuing authority", root)


@pytest.fixture
def modes(side: StackUnderTest) -> Iterator[StackUnderTest]:
    """A stack with a certificate of its own, which it has again afterwards."""
    yield side
    side.config.pop("certificate", None)
    side.write()


@pytest.fixture
def trusted(modes: StackUnderTest, root: Issued, tmp_path: Path) -> Path:
    """The certificates of both authorities."""
    file = tmp_path / "both.pem"
    file.write_text(modes.ca_file.read_text() + root.pem)
    return file


def served(stack: StackUnderTest) -> x509.Certificate:
    """Return what a browser is shown."""
    return x509.load_pem_x509_certificate(ssl.get_server_certificate(("127.0.0.1", stack.https_port)).encode())


@pytest.mark.long
def test_modes_change_without_a_failed_request(modes: StackUnderTest, company: Issued, trusted: Path) -> None:
    proxy, own, authority_before = modes.container("nginx").id, served(modes), modes.ca_file.read_text()
    first, second = server(NAMES, company), server(NAMES, company)
    with Load(modes.url, trusted, Http1(), Http2(), SocketIo()) as load:
        for issued in (first, second, None):
            asked = load.requests
            if issued is None:
                del modes.config["certificate"]
            else:
                modes.provide(issued)
            modes.write()
            if issued is first:
                said = modes.workshop.run("make", "up", f"STACK={modes.name}").succeeded().output
                assert "This machine does not trust its certificate: unable to get local issuer certificate" in said
            else:
                modes.up().succeeded()
            outputs = modes.outputs()
            if issued is None:
                # The one from before, whose authority may be trusted already.
                assert served(modes) == own
                assert outputs["ca_certificate"] == authority_before
            else:
                assert served(modes) == issued.certificate
                assert "ca_certificate" not in outputs
                assert outputs["certificate"] == {"mode": "provided", "subject_names": NAMES}
            wait_until(lambda asked=asked: load.requests > asked + 50, what="requests after the reload")
    assert load.failures == [], str(load)
    assert load.requests > 300
    assert modes.container("nginx").id == proxy, "the proxy was replaced"


def days_are_over(stack: StackUnderTest, left: timedelta) -> None:
    """Let the state say that the certificate ends so soon: what the provider compares with the clock."""
    ended = stack.pulumi("stack", "export", "--stack", stack.name).succeeded()
    state = json.loads(ended.output)
    (signed,) = (one for one in state["deployment"]["resources"] if one["type"].endswith(":LocallySignedCert"))
    assert signed["outputs"]["earlyRenewalHours"] * 3 == signed["outputs"]["validityPeriodHours"]
    signed["outputs"]["validityEndTime"] = (datetime.now(UTC) + left).isoformat(timespec="seconds")
    stack.pulumi("stack", "import", "--stack", stack.name, given=json.dumps(state)).succeeded()


@pytest.mark.long
def test_any_update_in_its_last_third_renews_the_stack_s_own(modes: StackUnderTest) -> None:
    before, authority_before = served(modes), modes.ca_file.read_text()
    assert before.not_valid_after_utc - before.not_valid_before_utc == timedelta(days=397)
    days_are_over(modes, timedelta(days=133))
    assert NO_CHANGE.search(modes.up().succeeded().output)
    days_are_over(modes, timedelta(days=132))
    with Load(modes.url, modes.ca_file, Http1(connections=2)) as load:
        modes.up().succeeded()
    assert load.failures == [], str(load)
    after = served(modes)
    assert after.serial_number != before.serial_number
    assert after.not_valid_after_utc > before.not_valid_after_utc
    # Signed by whom people trust already.
    assert modes.outputs()["ca_certificate"] == authority_before
    root = x509.load_pem_x509_certificate(authority_before.encode())
    after.verify_directly_issued_by(root)
    assert root.not_valid_after_utc - root.not_valid_before_utc == timedelta(days=3650)


@pytest.mark.long
def test_what_is_served_is_shown(modes: StackUnderTest) -> None:
    said = modes.workshop.run("make", "certificate", f"STACK={modes.name}").succeeded().output
    assert re.search(r"^names +localhost, 127\.0\.0\.1$", said, re.MULTILINE), said
    assert re.search(r"^days left +39[67] \(a warning from 14 days on\)$", said, re.MULTILINE), said
    assert f"{served(modes).serial_number:x}" in said
    assert f"served at 127.0.0.1:{modes.https_port}" in said
    modes.container("nginx").stop()
    down = modes.workshop.run("make", "certificate", f"STACK={modes.name}").failed().output
    assert f"The proxy of {modes.name} is down (exited), so nothing is served" in down
    modes.container("nginx").start()


def test_a_certificate_that_is_refused_changes_nothing(modes: StackUnderTest, company: Issued) -> None:
    wait_until(lambda: served(modes), what="the proxy", ignoring=(OSError,))
    before = served(modes)
    modes.provide(server(["blog.example.com"], company, days=(-9, -1)))
    modes.write()
    said = modes.up().failed().output
    assert 'chain.pem" expired on ' in said
    assert "does not cover localhost, 127.0.0.1, but blog.example.com" in said
    assert "certificate.provided.certificate_file" in said
    assert served(modes) == before
