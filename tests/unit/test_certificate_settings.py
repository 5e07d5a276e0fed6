"""What the settings of a certificate come to, once they are accepted; tests/cases/refused has what is not."""

import json
from typing import Any

import pytest

from open_webui_edge.settings.certificate import LETS_ENCRYPT, LETS_ENCRYPT_STAGING, CertificateMode
from open_webui_edge.settings.reading import read_settings
from open_webui_edge.settings.stack import StackSettings

ANOTHER = "https://ca.example.com/acme/directory"
ACCOUNT = {"key_id": "kid-1", "hmac_key": "c29tZXRoaW5nIGxvbmcgZW5vdWdo"}


def settings(certificate: dict[str, Any], **site: Any) -> StackSettings:
    config = {"site": {"domain": "chat.example.com"} | site, "certificate": certificate}
    return read_settings(
        {f"open-webui-edge:{topic}": json.dumps(value) for topic, value in config.items()},
        secret_keys=["open-webui-edge:certificate"],
        source="a test",
    )


def acme(**lets_encrypt: Any) -> StackSettings:
    return settings({"mode": "lets-encrypt", "lets_encrypt": lets_encrypt})


@pytest.mark.parametrize("mode", ["self-signed", "lets-encrypt"])
def test_a_certificate_covers_the_site_s_names_and_the_additional_ones(mode: str) -> None:
    lets_encrypt = {"lets_encrypt": {"challenge": "dns-01"}} if mode == "lets-encrypt" else {}
    names = settings(
        {"mode": mode, "additional_names": ["*.example.com", "API.example.net"], **lets_encrypt},
        aliases=["www.example.com"],
    ).certificate_names
    # A wildcard may cover a name of the site.
    assert names == ("chat.example.com", "www.example.com", "*.example.com", "api.example.net")


def test_who_chooses_lets_encrypt_need_say_no_more() -> None:
    certificate = settings({"mode": "lets-encrypt"}).certificate
    assert certificate.lets_encrypt.directory_in_use == LETS_ENCRYPT
    assert certificate.lets_encrypt.directory_for_dry_runs == LETS_ENCRYPT_STAGING
    assert certificate.is_trusted


def test_staging_is_trusted_by_nobody() -> None:
    certificate = acme(staging=True).certificate
    assert certificate.lets_encrypt.directory_in_use == LETS_ENCRYPT_STAGING
    assert not certificate.is_trusted


def test_another_issuer_is_tried_at_its_staging_directory_where_it_has_one() -> None:
    staging = "https://staging.example.com/acme/directory"
    assert acme(directory=ANOTHER, staging_directory=staging).certificate.lets_encrypt.directory_for_dry_runs == staging
    assert acme(directory=ANOTHER).certificate.lets_encrypt.directory_for_dry_runs == ANOTHER


@pytest.mark.parametrize("directory", [ANOTHER, f"{ANOTHER}/", "https://192.0.2.1:14000/dir?kind=tls"])
def test_a_directory_is_asked_for_as_it_is_written(directory: str) -> None:
    assert acme(directory=directory).certificate.lets_encrypt.directory == directory


def test_another_issuer_may_certify_what_is_private() -> None:
    certificate = {"mode": "lets-encrypt", "lets_encrypt": {"directory": ANOTHER}}
    assert settings(certificate, domain="chat.corp.internal", aliases=["192.0.2.1"]).certificate_names


def test_zerossl_is_taken_with_an_external_account() -> None:
    lets_encrypt = acme(fallback={"directory": "https://acme.zerossl.com/v2/DV90", "external_account": ACCOUNT})
    issuers = lets_encrypt.certificate.lets_encrypt.issuers
    assert [issuer.is_lets_encrypt for issuer in issuers] == [True, False]


def test_no_secret_is_in_what_settings_print() -> None:
    provided = {"certificate_file": "a.pem", "private_key": "hunter22", "passphrase": "correct-horse"}
    provided_settings = settings({"mode": "provided", "provided": provided})
    assert provided_settings.certificate.mode is CertificateMode.PROVIDED
    assert provided_settings.certificate.is_trusted
    for text in (repr(provided_settings), repr(acme(directory=ANOTHER, external_account=ACCOUNT))):
        assert not {"hunter22", "correct-horse", ACCOUNT["hmac_key"]} & set(text.split("'"))
