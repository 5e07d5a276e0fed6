"""A certificate changes in a stack that is in use: no request is lost, and the proxy goes on.

Marked long: tests/nginx/test_certificates.py swaps certificates under load with Nginx alone. Only this file shows it
with Pulumi and a whole stack.
"""

import json
import ssl
from collections.abc import Iterator

import httpx
import pytest
from cryptography import x509

from open_webui_edge.benchmarks.waiting import wait_until
from tests.support.load import Http1, Http2, Load, SocketIo
from tests.support.stack import NO_CHANGE, StackUnderTest, Workshop, free_port

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def stack(workshop: Workshop) -> Iterator[StackUnderTest]:
    """One that shows its numbers too."""
    proxy = {"metrics": {"enabled": True, "port": free_port()}}
    made = StackUnderTest(workshop, "sw-swap", {"models": {"ollama": {"mode": "none"}}, "proxy": proxy})
    with made.running():
        made.wait_until_ready()
        yield made


def served(stack: StackUnderTest) -> x509.Certificate:
    pem = ssl.get_server_certificate(("127.0.0.1", stack.https_port), ca_certs=str(stack.ca_file))
    return x509.load_pem_x509_certificate(pem.encode())


def urn(stack: StackUnderTest, name: str) -> str:
    exported = json.loads(stack.pulumi("stack", "export", "--stack", stack.name).succeeded().output)
    return next(
        resource["urn"] for resource in exported["deployment"]["resources"] if resource["urn"].endswith(f"::{name}")
    )


def numbers(stack: StackUnderTest) -> dict[str, float]:
    text = httpx.get(f"http://127.0.0.1:{stack.config['proxy']['metrics']['port']}/metrics").raise_for_status().text
    lines = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


def test_a_new_certificate_costs_no_request_and_no_socket(stack: StackUnderTest) -> None:
    proxy, before = stack.container("nginx"), served(stack)
    with Load(stack.url, stack.ca_file, Http1(connections=2), Http2(connections=1), SocketIo()) as load:
        stack.up("--replace", urn(stack, "edge-certificate-certificate")).succeeded()
        wait_until(lambda: served(stack).serial_number != before.serial_number, what="the new certificate")
        asked = load.requests
        wait_until(lambda: load.requests > asked + 50, what="requests after the swap")
    assert load.failures == [], str(load)
    after = stack.container("nginx")
    assert (after.id, after.attrs["State"]["StartedAt"]) == (proxy.id, proxy.attrs["State"]["StartedAt"])
    assert NO_CHANGE.search(stack.up().succeeded().output)


def test_the_days_that_are_left_are_said_wherever_somebody_looks(stack: StackUnderTest) -> None:
    def health() -> str:
        return stack.container("nginx").attrs["State"]["Health"]["Log"][-1]["Output"]

    ends = served(stack).not_valid_after_utc.timestamp()
    wait_until(lambda: health().startswith("ok: the certificate has 396 days left: localhost, 127.0.0.1; "), what="it")
    assert b"[notice] certificate: 396 days left: localhost, 127.0.0.1; " in stack.container("nginx").logs()

    def reported() -> bool:
        result = numbers(stack)
        return result["nginx_up"] == 1 and result["open_webui_edge_certificate_expiry_timestamp_seconds"] == ends

    wait_until(reported, what="the numbers", ignoring=(httpx.HTTPError, KeyError))
    result = numbers(stack)
    assert result["open_webui_edge_certificate_days_left"] == 396
    assert result["open_webui_edge_certificate_warning"] == 0
    assert result["nginx_http_requests_total"] > 0
