"""A client behind a NAT or a firewall that forgets silent connections, as those of offices and mobile networks do."""

import subprocess
from concurrent.futures import ThreadPoolExecutor

from open_webui_edge.settings.images import INSTANCE
from tests.nginx.conftest import Variants
from tests.nginx.nginx_under_test import NginxUnderTest
from tests.support.machine import image_here

FORGETS, SILENT, PROBES, PATIENCE = 10, 14, 3, 20
"""Seconds. In life a NAT may forget after five minutes, and a model think for thirty."""


def answer_behind_a_forgetful_firewall(nginx: NginxUnderTest, *protocol: str) -> str:
    """Return what a client got of an answer that comes after a silence; its firewall lets in what it knows of alone."""
    address = nginx.run_inside("hostname -I").split()[0]
    shell = f"""
        iptables -A INPUT -i eth0 -m conntrack --ctstate ESTABLISHED -j ACCEPT && iptables -A INPUT -i eth0 -j DROP &&
        exec curl --silent --insecure --max-time {PATIENCE} {" ".join(protocol)} \\
            --connect-to ::{address}:443 --request POST https://{nginx.domain}/api/silent?seconds={SILENT}
    """
    words = [
        *("docker", "run", "--rm", "--cap-add=NET_ADMIN", f"--network={nginx.network}"),
        f"--sysctl=net.netfilter.nf_conntrack_tcp_timeout_established={FORGETS}",
        # What comes of a connection that is not known is no beginning of one.
        "--sysctl=net.netfilter.nf_conntrack_tcp_loose=0",
        *("--entrypoint=/bin/sh", image_here(INSTANCE), "-c", shell),
    ]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603
    assert ended.stderr == ""
    return ended.stdout


def test_silent_answer_survives_a_nat_that_forgets_connections(variants: Variants) -> None:
    probing = variants.of(proxy={"timeouts": {"tcp_keepalive": f"{PROBES}s"}})
    silent = variants.of(proxy={"timeouts": {"tcp_keepalive": "1h"}})
    cases = [(nginx, protocol) for nginx in (probing, silent) for protocol in ("--http1.1", "--http2")]
    with ThreadPoolExecutor() as clients:
        answers = [clients.submit(answer_behind_a_forgetful_firewall, *case) for case in cases]
        assert [answer.result() for answer in answers] == ["ends\n", "ends\n", "", ""]
