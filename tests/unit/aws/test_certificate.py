"""A certificate of AWS: whose names it proves, by which records, and what waits for it."""

from collections.abc import Sequence
from typing import Any

import pulumi
import pulumi_aws as aws
import pytest

from open_webui_edge.components.aws.certificate import AcmCertificate, AcmCertificateArgs, proven_names
from open_webui_edge.components.aws.dns import CaaRecords, CaaRecordsArgs
from tests.unit.graph import UNKNOWN, Graph, graph_of

NAMES = ["example.com", "*.example.com", "chat.example.org"]


def options(names: Sequence[str]) -> list[dict[str, str]]:
    return [
        {
            "domainName": name,
            "resourceRecordName": f"_0.{name.removeprefix('*.')}.",
            "resourceRecordType": "CNAME",
            "resourceRecordValue": "_1.acm-validations.aws.",
        }
        for name in names
    ]


def certificate(names: Sequence[str] = NAMES, *, preview: bool = False) -> Graph:
    def program() -> dict[str, Any]:
        made = AcmCertificate("edge-acm", AcmCertificateArgs(names=names, zone_id="Z"))
        return {"arn": made.arn}

    # AWS answers in an order of its own.
    said = {"arn": "arn:certificate", "domainValidationOptions": options(list(reversed(names)))}
    return graph_of(program, preview=preview, computed={"aws:acm/certificate:Certificate": said})


def test_the_first_name_is_the_subject() -> None:
    (made,) = certificate().of("Certificate")
    assert made.inputs["domainName"] == "example.com"
    assert made.inputs["subjectAlternativeNames"] == ["*.example.com", "chat.example.org"]
    assert made.inputs["validationMethod"] == "DNS"
    # Another one is there before this one goes: a listener uses it.
    assert not made.removed_first


@pytest.mark.parametrize("preview", [False, True])
def test_each_name_has_a_record_that_is_there_before_aws_says_anything(*, preview: bool) -> None:
    assert [one.name for one in certificate(preview=preview).of("Record")] == [
        "edge-acm-example.com-validation",
        "edge-acm-chat.example.org-validation",
    ]


def test_records_say_what_aws_wants_for_that_name() -> None:
    (record,) = (one for one in certificate().of("Record") if "chat" in one.name)
    assert record.inputs == {
        "zoneId": "Z",
        "name": "_0.chat.example.org.",
        "type": "CNAME",
        "ttl": 300,
        "records": ["_1.acm-validations.aws."],
        "allowOverwrite": True,
    }


@pytest.mark.parametrize(
    ("names", "proven"),
    [
        (["a.example"], ["a.example"]),
        (["a.example", "*.a.example"], ["a.example"]),
        (["*.a.example", "a.example"], ["a.example"]),
        (["*.a.example"], ["a.example"]),
        (["b.a.example", "*.a.example"], ["b.a.example", "a.example"]),
    ],
    ids=str,
)
def test_a_wildcard_shares_the_record_of_its_parent(names: list[str], proven: list[str]) -> None:
    assert proven_names(names) == proven
    assert len(certificate(names).of("Record")) == len(proven)


def test_another_name_changes_no_record_of_the_others() -> None:
    before, after = (
        {one.name: one.inputs for one in certificate(names).of("Record")}
        for names in (["a.example"], ["a.example", "b.example"])
    )
    assert before.items() <= after.items()


def test_nobody_gets_the_certificate_before_it_is_issued() -> None:
    graph = certificate()
    (validation,) = graph.of("CertificateValidation")
    assert validation.inputs["certificateArn"] == "arn:certificate"
    assert {one.name for one in graph.of("Record")} <= validation.after
    assert graph.returned == {"arn": "arn:certificate"}


def test_a_preview_does_not_know_it() -> None:
    graph = certificate(preview=True)
    assert graph.identities() == certificate().identities()
    assert graph.returned == {"arn": UNKNOWN}


def test_it_is_asked_for_when_authorities_know_who_may_issue() -> None:
    def program() -> None:
        args = CaaRecordsArgs(
            zone_id="Z", names=["example.com"], issuers=["amazon.com"], certificate_names=["example.com"]
        )
        caa = CaaRecords("edge-caa", args)
        AcmCertificate(
            "edge-acm",
            AcmCertificateArgs(names=["example.com"], zone_id="Z"),
            opts=pulumi.ResourceOptions(depends_on=[caa]),
        )

    said = {"arn": "arn:certificate", "domainValidationOptions": options(["example.com"])}
    graph = graph_of(program, computed={"aws:acm/certificate:Certificate": said})
    assert "edge-caa-example.com" in graph.named("edge-acm-certificate").after


def test_the_sdk_knows_the_record_under_these_names() -> None:
    result = {"domain_name", "resource_record_name", "resource_record_type", "resource_record_value"}
    assert result <= set(dir(aws.acm.outputs.CertificateDomainValidationOption))
