"""What IAM's policies have in common, whoever they are about."""

from collections.abc import Mapping


def policy_document(*statements: Mapping[str, object]) -> dict[str, object]:
    """Return a policy; its version is that of IAM's policy language."""
    return {"Version": "2012-10-17", "Statement": list(statements)}


def trust_in(service: str) -> dict[str, object]:
    """Return the policy of a role that a service of AWS's may take on, such as ec2.amazonaws.com."""
    return policy_document({"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": service}})
