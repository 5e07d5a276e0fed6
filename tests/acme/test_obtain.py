"""The first certificate: from a placeholder to one that clients trust."""

from tests.acme.conftest import World
from tests.acme.site import Site, serial_of
from cryptography.hazmat.primitives.asymmetric import ec
from components.certificates import certbot


def test_a_certificate_for_several_names_is_obtained_and_served(site: Site, world: World) -> None:
    site.wants("one.example.test", "two.example.test", issuers=[world.asked(world.first, email="me@example.test")])
    site.start()
    site.wait_until_well()
    site.assert_trusted(world.first, "one.example.test", "two.example.test")
    certificate, key = site.offered()
    assert isinstance(key.curve, ec.SECP256R1)
    assert site.in_certbot(f"find {certbot.CERTIFICATES}/offered {certbot.HOME} -name 'priv*.pem' -type f ! -perm 600") == ""
    state = site.state()
    assert state["serial"] == serial_of(certificate)
    assert (state["attempts"], state["last_attempt"]["error"]) == (0, None)
