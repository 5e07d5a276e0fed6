"""A certificate that is served: renewed in time, and kept while that fails.

Tests that wait for several renewals, or for a wrong clock and a full disk to be reported, are marked long.
"""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from open_webui_edge.benchmarks.waiting import wait_until
from open_webui_edge.cli.certificate import DRY_RUN
from open_webui_edge.components.certificates import certbot
from open_webui_edge.runtime.certbot.key_pair import serial_of
from tests.acme.conftest import World
from tests.acme.engine import docker, inside
from tests.acme.site import TIMING, Site

OFTEN = {**TIMING, "shortest_check": 1}


def served_since_issue(site: Site) -> str:
    """Start it and wait until the certificate is there; return its serial number."""
    site.start()
    site.wait_until_well()
    return serial_of(site.served())


def assert_still_served(site: Site, serial: str, *words: str) -> None:
    """Assert that the old certificate is served, and that the health check says what stands in the way of a new one."""
    well, said = site.health()
    assert well, said
    assert all(word in said for word in words), said
    assert all(word in site.log() for word in words)
    assert serial_of(site.served()) == serial


@pytest.mark.long
def test_short_lived_certificates_are_renewed_and_one_that_cannot_be_is_kept(site: Site, world: World) -> None:
    site.wants("brief.example.test", issuers=[world.asked(world.staging, profile="brief")], timing=OFTEN)
    first = served_since_issue(site)
    site.wait_until_served(other_than=first)
    world.names.lead_nowhere("brief.example.test")
    site.wait_for_failure("has no A/AAAA record")
    # Not the second, perhaps: a renewal may have been under way when the name was lost.
    renewed = site.state()["serial"]
    assert renewed != first
    assert_still_served(site, renewed, "renewal at", "has no A/AAAA record")
    state = site.state()
    assert (state["serial"], state["last_attempt"]["kind"]) == (renewed, "renewal")
    assert state["attempts"] > 0
    world.names.lead("brief.example.test", site.address)
    site.wait_until_served(other_than=renewed)
    assert site.served().not_valid_after_utc > datetime.now(UTC)


@pytest.mark.long
def test_an_issuer_that_advises_to_renew_is_heard(site: Site, world: World) -> None:
    site.wants("advised.example.test", issuers=[world.asked(world.first)], timing={**TIMING, "shortest_check": 4})
    before = served_since_issue(site)
    rests = "grep ari_retry_after /etc/letsencrypt/renewal/edge.conf"
    wait_until(lambda: site.in_certbot(rests), what="the first question", ignoring=(AssertionError,))
    world.first.advise_to_renew_now(site.served())
    # Certbot heard that nothing is due, and rests for hours, or for as long as the issuer says.
    docker("restart", site.certbot)
    site.wait_until_served(other_than=before)
    assert site.state()["last_attempt"]["kind"] == "renewal"


def test_an_issuer_that_is_down_costs_nothing_but_the_renewal(site: Site, world: World) -> None:
    site.wants("down.example.test", issuers=[world.asked(world.staging, profile="default")])
    before = served_since_issue(site)
    # Another issuer than the one that it is from: a renewal is due.
    site.settings["issuers"] = [world.asked(world.first)]
    world.first.go_away()
    try:
        site.start()
        site.wait_for_failure("cannot be reached from this container")
        assert_still_served(site, before, "check this machine's internet access (firewall, DNS)")
    finally:
        world.first.come_back()
    site.wait_until_served(other_than=before)
    site.assert_trusted(world.first, "down.example.test")


@pytest.mark.long
def test_a_full_disk_is_said_and_burns_no_limit(new_site: Callable[..., Site], world: World) -> None:
    small = ("--driver=local", "--opt=type=tmpfs", "--opt=device=tmpfs", "--opt=o=size=6m")
    site = new_site(volume_options=small)
    site.wants("full.example.test", issuers=[world.asked(world.staging, profile="brief")], timing=OFTEN)
    before = served_since_issue(site)
    orders = world.staging.orders()
    site.in_certbot(f"dd if=/dev/zero of={certbot.HOME}/ballast bs=1M 2>/dev/null || true")
    site.wait_for_failure("The disk is full: free some space")
    assert_still_served(site, before, "No space left on device", "free some space")
    assert world.staging.orders() == orders
    site.in_certbot(f"rm {certbot.HOME}/ballast")
    site.wait_until_served(other_than=before)
    assert site.state()["last_attempt"]["error"] is None


@pytest.mark.long
@pytest.mark.parametrize("shift", ["+400d", "-400d"])
def test_a_wrong_clock_is_named(site: Site, world: World, shift: str) -> None:
    site.wants("clock.example.test", issuers=[world.asked(world.staging, profile="default")])
    before = served_since_issue(site)
    orders = world.first.orders()
    site.settings["issuers"] = [world.asked(world.first)]
    site.start_with_clock(shift, world.first)
    failed = site.wait_for_failure("correct the clock (`timedatectl` shows it)")
    assert "certificate" in failed["error"]
    assert "correct the clock" in site.health()[1]
    assert "correct the clock" in site.log()
    assert serial_of(site.served()) == before
    assert world.first.orders() == orders


def test_a_renewal_that_was_cut_off_goes_on_and_the_old_one_is_served_meanwhile(site: Site, world: World) -> None:
    site.wants("middle.example.test", issuers=[world.asked(world.staging, profile="default")])
    before = served_since_issue(site)
    site.settings["issuers"] = [world.asked(world.first)]
    site.start()
    tokens = f"ls {certbot.CERTIFICATES}/webroot/.well-known/acme-challenge"
    wait_until(lambda: site.in_certbot(tokens), what="a renewal", every=0.01, ignoring=(AssertionError,))
    docker("restart", site.certbot)
    assert serial_of(site.served()) == before
    site.wait_until_served(other_than=before)
    site.assert_trusted(world.first, "middle.example.test")


def test_a_dry_run_says_whether_a_renewal_would_succeed(site: Site, world: World) -> None:
    practised = world.asked(world.first, staging_directory=world.staging.directory, profile="default")
    site.wants("practised.example.test", issuers=[practised])
    before = served_since_issue(site)
    orders = world.first.orders()
    code, words = inside(site.certbot, *DRY_RUN)
    # Refused nonces are told before it.
    *_, last = words.splitlines()
    assert (code, last) == (0, f"{world.staging.directory}: the dry run succeeded for practised.example.test.")
    world.names.lead_nowhere("practised.example.test")
    code, words = inside(site.certbot, *DRY_RUN)
    assert code == 1
    assert "the dry run failed" in words
    assert "create an A record" in words
    assert world.first.orders() == orders
    assert serial_of(site.served()) == before
    assert site.health()[0]


def test_without_a_staging_directory_a_dry_run_says_that_there_is_none(site: Site, world: World) -> None:
    site.wants("unpractised.example.test", issuers=[world.asked(world.first)])
    served_since_issue(site)
    orders = world.first.orders()
    code, words = inside(site.certbot, *DRY_RUN)
    assert code == 1
    assert "no staging directory is known" in words
    assert world.first.orders() == orders


def test_checks_that_find_nothing_due_order_nothing_and_need_nobody(site: Site, world: World) -> None:
    site.wants("calm.example.test", issuers=[world.asked(world.first)], timing=OFTEN)
    before = served_since_issue(site)
    orders = world.first.orders()
    wait_for_checks(site, 3)
    world.first.go_away()
    try:
        wait_until(lambda: "could not be asked whether to renew already" in site.log(), what="a check")
        wait_for_checks(site, 2)
    finally:
        world.first.come_back()
    assert (world.first.orders(), serial_of(site.served())) == (orders, before)
    assert site.state()["last_attempt"]["error"] is None
    assert site.health() == (True, "calm.example.test: 89 days left")


def wait_for_checks(site: Site, number: int) -> None:
    """Wait until so many checks have passed, by the times at which it announces the next."""
    seen = set[str]()

    def passed() -> bool:
        seen.add(site.state()["next_attempt"])
        return len(seen) > number

    wait_until(passed, what=f"{number} checks")


def test_an_issuer_that_has_forgotten_the_account_gets_a_new_one(site: Site, world: World) -> None:
    site.wants("forgotten.example.test", issuers=[world.asked(world.second)])
    before = served_since_issue(site)
    # It keeps everything in memory.
    docker("restart", "--time=1", world.second.container)
    world.second.wait_until_it_answers()
    site.wants("forgotten.example.test", "more.example.test", issuers=[world.asked(world.second)])
    site.start()
    site.wait_until_served(other_than=before)
    assert "the next attempt creates a new one" in site.log()
