"""The first certificate: from a placeholder to one that clients trust, whatever gets in between.

Some tests of interrupted and repeated attempts are marked long: others here end an attempt at another moment.
"""

from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from open_webui_edge.benchmarks.waiting import wait_until
from open_webui_edge.components.certificates import certbot
from open_webui_edge.runtime.certbot.key_pair import serial_of
from open_webui_edge.runtime.certbot.state import METRICS_FILE, TMP_COPY
from tests.acme.conftest import World
from tests.acme.engine import docker
from tests.acme.issuer import HMAC_KEY, KEY_ID
from tests.acme.site import OFFERED, TIMING, Site


def fails(site: Site) -> int:
    """Return what Prometheus is told: whether the last attempt came to nothing."""
    text = site.in_certbot(f"cat {METRICS_FILE}")
    return int(text.splitlines()[-1].removeprefix("open_webui_edge_renewal_failing "))


def test_a_certificate_for_several_names_is_obtained_and_served(site: Site, world: World) -> None:
    names = ("one.example.test", "two.example.test")
    site.wants(*names, issuers=[world.asked(world.first, email="me@example.test")])
    site.start()
    site.wait_until_well()

    site.assert_trusted(world.first, *names)
    certificate, key = site.offered()
    assert isinstance(key.curve, ec.SECP256R1)
    readable = f"find {certbot.CERTIFICATES}/offered {certbot.HOME} -name 'priv*.pem' -type f ! -perm 600"
    assert site.in_certbot(readable) == ""
    assert site.in_certbot(f"stat -c %a {OFFERED} {certbot.CERTIFICATES}/state.json") == "700\n644"
    state = site.state()
    assert state["serial"] == state["served"]["serial"] == serial_of(certificate)
    assert state["wanted"] == state["names"] == list(names)
    assert (state["attempts"], state["last_attempt"]["kind"], state["last_attempt"]["error"]) == (0, "issue", None)
    assert state["not_before"] < state["renew_from"] < state["not_after"]
    assert site.health() == (True, "one.example.test, two.example.test: 89 days left")
    assert fails(site) == 0


def test_secrets_are_in_no_argument_and_no_variable(site: Site, world: World) -> None:
    site.wants("bound.example.test", issuers=[world.asked(world.second)])
    site.start()
    processes = "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' ' '"
    seen = ""
    while not site.health()[0]:
        seen += site.in_certbot(processes)
    assert "certonly" in seen
    assert HMAC_KEY not in seen
    assert HMAC_KEY not in docker("inspect", site.certbot)
    assert HMAC_KEY not in site.log()


def test_an_issuer_that_wants_to_know_whose_account_it_is_gets_told(site: Site, world: World) -> None:
    unbound = {**world.asked(world.second), "external_account": None}
    site.wants("unbound.example.test", issuers=[unbound], timing={**TIMING, "rehearsals": [600, 600]})
    site.start()
    refused = site.wait_for_failure("certificate.lets_encrypt.external_account")
    assert "external account binding" in refused["error"]

    # The corrected setting is tried at once, without the back-off.
    site.settings["issuers"] = [world.asked(world.second)]
    site.start()
    site.wait_until_well()
    site.assert_trusted(world.second, "unbound.example.test")
    assert f'Successful newAccount Binding with CA using kid "{KEY_ID}"' in world.second.log()


def test_a_refused_challenge_is_practised_before_it_is_asked_again(site: Site, world: World) -> None:
    staging = world.staging.directory
    site.wants("absent.example.test", issuers=[world.asked(world.first, profile="default", staging_directory=staging)])
    world.names.lead_nowhere("absent.example.test")
    orders, rehearsals = world.first.orders(), world.staging.orders()
    site.start()
    refused = site.wait_for_failure("has no A/AAAA record")
    assert (refused["kind"], refused["directory"]) == ("issue", world.first.directory)
    assert fails(site) == 1
    again = wait_until(
        lambda: [attempt for attempt in [site.state()["last_attempt"]] if attempt["kind"] == "dry run"],
        what="a dry run",
    )
    assert again[0]["directory"] == staging
    well, words = site.health()
    assert not well
    assert "create an A record with this machine's public address" in words
    assert "create an A record with this machine's public address" in site.log()
    site.assert_ordered(world.first, 1, since=orders)
    assert world.staging.orders() > rehearsals

    world.names.lead("absent.example.test", site.address)
    site.wait_until_well()
    site.assert_trusted(world.first, "absent.example.test")
    site.assert_ordered(world.first, 2, since=orders)
    assert site.state()["last_attempt"]["error"] is None
    assert fails(site) == 0


def test_a_server_that_answers_in_its_place_is_named(site: Site, world: World) -> None:
    site.wants("elsewhere.example.test", issuers=[world.asked(world.first)])
    # It answers at port 80 that it knows nothing of the challenge.
    site.in_nginx(
        "mv /etc/site/nginx.conf /etc/site/right.conf; sed 's|root [^;]*|return 404|'"
        " /etc/site/right.conf > /etc/site/nginx.conf; nginx -c /etc/site/nginx.conf -s reload"
    )
    site.start()
    refused = site.wait_for_failure("Another server answers for elsewhere.example.test")
    assert "returned 404" in refused["error"]


def test_a_closed_port_is_named(site: Site, world: World) -> None:
    site.wants("closed.example.test", issuers=[world.asked(world.first)])
    # A machine on which nothing answers.
    world.names.lead("closed.example.test", world.names.address)
    world.names.lead_nowhere("closed.example.test")
    world.names.lead("closed.example.test", world.names.address)
    site.start()
    refused = site.wait_for_failure("port 80 must be open from the internet")
    assert "connection refused" in refused["error"]


def test_a_name_that_the_issuer_refuses_is_named(site: Site, world: World) -> None:
    site.wants("blocked.example.test", issuers=[world.asked(world.first)])
    site.start()
    refused = site.wait_for_failure("check site.domain, site.aliases and certificate.additional_names")
    assert "blocked.example.test" in refused["error"]


def test_a_profile_that_the_issuer_does_not_have_is_named(site: Site, world: World) -> None:
    site.wants("profile.example.test", issuers=[world.asked(world.first, profile="tlsclient")])
    site.start()
    site.wait_for_failure("certificate.lets_encrypt.profile must be one that it lists")


def test_a_directory_that_nobody_vouches_for_is_named(site: Site, world: World) -> None:
    site.wants("doubtful.example.test", issuers=[{"directory": world.first.directory}])
    site.start()
    refused = site.wait_for_failure("into certificate.lets_encrypt.directory_ca")
    assert "certificate verify failed" in refused["error"]


def test_a_second_issuer_takes_over(site: Site, world: World) -> None:
    down = {"directory": "https://first:14001/dir", "directory_ca": world.authority_pem}
    site.wants("second.example.test", issuers=[down, world.asked(world.second)])
    site.start()
    site.wait_until_well()
    site.assert_trusted(world.second, "second.example.test")
    assert "https://first:14001/dir cannot be reached from this container" in site.log()


def test_an_issue_that_was_cut_off_goes_on_at_the_next_start(site: Site, world: World) -> None:
    accounts = world.first.accounts()
    site.wants("cut.example.test", issuers=[world.asked(world.first)])
    site.start()
    tokens = f"ls {certbot.CERTIFICATES}/webroot/.well-known/acme-challenge"
    wait_until(
        lambda: site.in_certbot(tokens), what="an answer to the challenge", every=0.01, ignoring=(AssertionError,)
    )
    docker("kill", site.certbot)
    docker("start", site.certbot)
    site.wait_until_well()
    assert site.in_certbot(tokens) == ""
    assert world.first.accounts() == accounts + 1


@pytest.mark.long
def test_files_that_were_left_unfinished_are_made_anew_under_the_same_name(site: Site, world: World) -> None:
    site.wants("unfinished.example.test", issuers=[world.asked(world.first)])
    site.start()
    site.wait_until_well()
    # As a certbot that was killed between two files leaves them.
    site.in_certbot(f"rm {certbot.HOME}/archive/edge/fullchain1.pem; : > {certbot.HOME}/renewal/edge.conf")
    before = serial_of(site.served())
    docker("restart", site.certbot)
    site.wait_until_served(other_than=before)
    assert site.in_certbot(f"ls {certbot.HOME}/renewal") == "edge.conf"


def test_a_kept_volume_needs_no_new_account_and_no_new_order(site: Site, world: World) -> None:
    site.wants("kept.example.test", issuers=[world.asked(world.first)])
    accounts, orders = world.first.accounts(), world.first.orders()
    site.start()
    site.wait_until_well()
    before = serial_of(site.served())
    site.assert_ordered(world.first, 1, since=orders)
    orders = world.first.orders()
    site.forget_all_but_what_is_kept()
    assert serial_of(site.served()) != before
    site.start()
    site.wait_until_well()
    assert serial_of(site.served()) == before
    assert (world.first.accounts(), world.first.orders()) == (accounts + 1, orders)


def test_restarts_burn_no_limit(site: Site, world: World) -> None:
    site.wants("restarted.example.test", issuers=[world.asked(world.first)], timing={**TIMING, "attempts": [600, 600]})
    world.names.lead_nowhere("restarted.example.test")
    orders = world.first.orders()
    site.start()
    site.wait_for_failure("has no A/AAAA record")
    for _ in range(3):
        docker("restart", site.certbot)
        # Its own copy, which starts from scratch: it has decided what comes next.
        wait_until(
            lambda: '"next_attempt": "' in site.in_certbot(f"cat {TMP_COPY}"),
            what="the restarted container",
            ignoring=(AssertionError,),
        )
    site.assert_ordered(world.first, 1, since=orders)
    assert not site.health()[0]
    assert site.log().count("issue at") == 1


def test_other_names_keep_the_old_certificate_until_the_new_one_is_there(site: Site, world: World) -> None:
    site.wants("old.example.test", issuers=[world.asked(world.first)])
    site.start()
    site.wait_until_well()
    before = serial_of(site.served())
    site.wants("old.example.test", "new.example.test", issuers=[world.asked(world.first)])
    world.names.lead_nowhere("new.example.test")
    site.start()
    site.wait_for_failure("new.example.test has no A/AAAA record")
    assert serial_of(site.served()) == before
    well, words = site.health()
    assert not well
    assert words.startswith("no certificate for new.example.test yet; ")

    world.names.lead("new.example.test", site.address)
    site.wait_until_well()
    site.assert_trusted(world.first, "old.example.test", "new.example.test")
    assert "revoke" not in world.first.log().lower()


@pytest.mark.long
def test_another_issuer_in_the_settings_is_asked_at_once(site: Site, world: World) -> None:
    site.wants("moved.example.test", issuers=[world.asked(world.staging, profile="default")])
    site.start()
    site.wait_until_well()
    before = serial_of(site.served())
    site.settings["issuers"] = [world.asked(world.first)]
    site.start()
    site.wait_until_served(other_than=before)
    site.assert_trusted(world.first, "moved.example.test")


@pytest.mark.long
@pytest.mark.parametrize("when", ["under way", "waiting"])
def test_it_ends_when_it_is_told_to(site: Site, world: World, when: str) -> None:
    site.wants("ending.example.test", issuers=[world.asked(world.first)])
    site.start()
    tokens = f"ls {certbot.CERTIFICATES}/webroot/.well-known/acme-challenge"
    if when == "waiting":
        site.wait_until_well()
    else:
        wait_until(lambda: site.in_certbot(tokens), what="an attempt", every=0.01, ignoring=(AssertionError,))
    docker("stop", "--time=60", site.certbot)
    assert docker("inspect", "--format={{.State.ExitCode}}", site.certbot).strip() == "0"
    # Certbot itself took its answers away.
    assert site.in_nginx(tokens.replace("ls", "ls -A")) == ""


def test_an_offer_that_the_proxy_does_not_take_is_said(site: Site, world: World, new_site: Callable[..., Site]) -> None:
    del new_site
    site.wants("held.example.test", issuers=[world.asked(world.first)])
    site.in_nginx("touch /etc/site/hold")
    site.start()
    failed = site.wait_for_failure("its log says why it did not")
    assert (failed["kind"], "is offered, and the proxy serves" in failed["error"]) == ("offer", True)
    assert not site.health()[0]
    site.in_nginx("rm /etc/site/hold")
    site.wait_until_well()
    assert site.state()["last_attempt"]["error"] is None
