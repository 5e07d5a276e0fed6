"""Parts that all IAM policies share."""

from collections.abc import Mapping


def policy_document(*statements: Mapping[str, object]) -> dict[str, object]:
    """Return a policy document; its version is that of IAM's policy language."""
    return {"Version": "2012-10-17", "Statement": list(statements)}


def trust_in(service: str) -> dict[str, object]:
    """Return the trust policy of a role that an AWS service may assume, such as ec2.amazonaws.com."""
    return policy_document({"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": service}})
