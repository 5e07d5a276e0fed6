"""What must hold for everything on AWS, whatever is added: read from the graph and from the SDK.

A resource that may carry tags must, one that may be encrypted must be; the lists below name what is allowed, so that
what is new is a fault until it was reviewed.
"""

import importlib
import inspect
import json
from collections.abc import Iterator, Mapping
from typing import Any

from tests.unit.graph import Graph, Resource

_EVERYBODY = {"0.0.0.0/0", "::/0"}
_DATA = {"Volume", "Vault", "Zone", "FileSystem", "Instance:rds", "PrivateKey"}
"""What holds data, or is known to others by what it is; it is kept."""
_WITHOUT_A_NAME = {
    "cloudwatch:PutMetricData",
    "route53:ListHostedZones",
    "ssm:UpdateInstanceInformation",
    "ssmmessages:CreateControlChannel",
    "ssmmessages:CreateDataChannel",
    "ssmmessages:OpenControlChannel",
    "ssmmessages:OpenDataChannel",
}
"""Actions for which AWS knows no resource but "*"."""
_ENCRYPTED_BY_DEFAULT = {"Vault", "LogGroup", "Parameter", "Topic"}
"""With AWS's own key, where none is named; what a topic says ends in a mail (components/aws/alarms.py)."""
_MADE_ANEW = {"edge-certificate-key"}
"""Keys that no client pins: the stack's CA signs the next one."""


def faults(graph: Graph) -> list[str]:
    """Return what is wrong, a line each."""
    return [
        f"{resource.name}: {fault}"
        for resource in graph.resources
        if resource.type.startswith("aws:")
        for fault in _faults(resource)
    ] + [
        f"{resource.name}: it is not kept"
        for resource in graph.resources
        if resource.type.startswith(("aws:", "tls:"))
        and _kind(resource) in _DATA
        and resource.name not in _MADE_ANEW
        and not (resource.protect and resource.retain)
    ]


def leaks(graph: Graph, *secrets: str) -> list[str]:
    """Return where a secret is in clear: in an input or an output that is not secret."""
    inputs = [
        (f"{resource.name}: {key}", value)
        for resource in graph.resources
        for key, value in resource.inputs.items()
        if key not in resource.secret_inputs
    ]
    outputs = [(f"output {key}", value) for key, value in graph.returned.items() if key not in graph.secret_outputs]
    return [
        where
        for where, value in [*inputs, *outputs]
        if any(secret in json.dumps(value, default=str, ensure_ascii=False) for secret in secrets)
    ]


def _faults(resource: Resource) -> Iterator[str]:
    yield from _tags(resource)
    yield from _encryption(resource)
    yield from _openness(resource)
    for key in ("policy", "assumeRolePolicy"):
        text = resource.inputs.get(key)
        # An unknown one is read in the graph of an update.
        if isinstance(text, str) and text.startswith("{"):
            yield from _permissions(json.loads(text), trust=key == "assumeRolePolicy")


def _tags(resource: Resource) -> Iterator[str]:
    if "tags" in _parameters(resource):
        missing = {"app", "stack", "component"} - set(resource.inputs.get("tags") or ())
        if missing:
            yield f"it lacks the tags {', '.join(sorted(missing))}"


def _encryption(resource: Resource) -> Iterator[str]:
    known, inputs = _parameters(resource), resource.inputs
    for parameter in known & {"encrypted", "storage_encrypted", "at_rest_encryption_enabled"}:
        if inputs.get(_camel(parameter)) is not True:
            yield "it is not encrypted"
    if known & {"kms_master_key_id", "kms_key_arn", "kms_key_id"} and not known & {"encrypted", "storage_encrypted"}:
        named = any(inputs.get(_camel(parameter)) for parameter in known if parameter.startswith("kms_"))
        if not named and _kind(resource) not in _ENCRYPTED_BY_DEFAULT:
            yield "no key is named to encrypt it with"
    if _kind(resource) == "Parameter" and inputs["type"] != "SecureString":
        yield "a parameter is in clear"
    if _kind(resource) == "Instance" and "ec2" in resource.type:
        if inputs.get("rootBlockDevice", {}).get("encrypted") is not True:
            yield "its root volume is not encrypted"
        asked = {"httpEndpoint": "enabled", "httpTokens": "required", "httpPutResponseHopLimit": 1}
        if inputs.get("metadataOptions") != asked:
            yield "its metadata service can be asked without a token, or from a container"


def _openness(resource: Resource) -> Iterator[str]:
    inputs = resource.inputs
    for flag in ("mapPublicIpOnLaunch", "associatePublicIpAddress", "publiclyAccessible", "directInternetAccess"):
        if inputs.get(flag) is True:
            yield f"it is public by {flag}"
    if str(inputs.get("acl", "")).startswith("public"):
        yield "its list of rights is public"
    open_to_all = _EVERYBODY & set(_texts(inputs))
    # A way out is no way in; the groups decide.
    if open_to_all and _kind(resource) != "Route":
        ports = {inputs.get("fromPort"), inputs.get("toPort")}
        # And the one port of each service elsewhere that the settings name is let out to.
        named = _kind(resource) == "SecurityGroupEgressRule" and len(ports) == 1
        if not named and not ("SecurityGroup" in resource.type and ports in ({80}, {443})):
            yield f"{' and '.join(sorted(open_to_all))} on other ports than 80 and 443"


def _permissions(policy: Mapping[str, Any], *, trust: bool) -> Iterator[str]:
    for statement in policy["Statement"]:
        if statement["Effect"] != "Allow":
            continue
        if statement.get("Principal") in ("*", {"AWS": "*"}):
            yield "its policy lets everybody in"
        if {"NotAction", "NotResource", "NotPrincipal"} & set(statement):
            yield "its policy allows what it does not name"
            continue
        actions = _list(statement["Action"])
        yield from (f"its policy allows {action}" for action in actions if "*" in action)
        if not trust and "*" in _list(statement.get("Resource", ())):
            yield from (
                f"its policy allows {action} on everything" for action in actions if action not in _WITHOUT_A_NAME
            )
        if "cloudwatch:PutMetricData" in actions and "Condition" not in statement:
            yield "its policy allows metrics in every namespace"
        if "route53:ChangeResourceRecordSets" in actions and "Condition" not in statement:
            yield "its policy allows records of every name"


def _parameters(resource: Resource) -> set[str]:
    """Return what a resource of this type can be given, as the SDK names it."""
    _, module, name = resource.type.split(":")
    package = module.partition("/")[0]
    result = importlib.import_module("pulumi_aws" if package == "index" else f"pulumi_aws.{package}")
    return set(inspect.signature(getattr(result, name)._internal_init).parameters)  # noqa: SLF001  # where they are


def _kind(resource: Resource) -> str:
    name = resource.type.rpartition(":")[2]
    return f"{name}:rds" if "rds/" in resource.type else name


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.title, others))


def _list(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value
