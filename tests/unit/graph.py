"""Runs a program under Pulumi's mocks and returns what it registered, as plain data."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import pulumi
from google.protobuf import struct_pb2
from pulumi.runtime import mocks, rpc

from open_webui_edge.components.docker.upgrade_trial import VersionChange
from open_webui_edge.engine.engine import Engine
from open_webui_edge.engine.ssh import SshAccess

STACK = "unit"
PROJECT = "open-webui-edge"


@dataclass(frozen=True)
class Resource:
    """One registration."""

    type: str
    name: str
    parent: str
    """Name of its parent; "" for the stack."""
    inputs: Mapping[str, Any]
    secret_inputs: frozenset[str]
    protect: bool
    retain: bool
    provider: str
    hooks: bool
    after: frozenset[str]
    """Names of what it depends on, and is removed before."""
    removed_first: bool
    """Whether it and what hangs on it go before its replacement comes."""
    deleted_with: str
    """Name of what it goes with, without being asked; "" if nothing."""
    ignored: frozenset[str]
    """Properties that stay as they were first."""
    urn: str
    keeps: tuple[str, ...]
    """URNs of all without which it cannot be."""

    @property
    def custom(self) -> bool:
        """Whether a provider makes it, and not this program."""
        return not self.type.startswith("open-webui-edge:")

    @property
    def labels(self) -> dict[str, str]:
        """Labels of a Docker resource."""
        return {label["label"]: label["value"] for label in self.inputs.get("labels", ())}


@dataclass(frozen=True)
class Graph:
    """All registrations, and what the program returned."""

    resources: Sequence[Resource]
    returned: Mapping[str, Any]
    secret_outputs: frozenset[str]
    look_ups: frozenset[str]
    """What was asked for that is no resource of the stack, by token."""

    def of(self, type_: str) -> list[Resource]:
        """Return the resources of a type, by its last part: Container."""
        return [resource for resource in self.resources if resource.type.rpartition(":")[2] == type_]

    def needed_by(self, resource: Resource) -> list[Resource]:
        """Return all that is there for as long as a resource is: what it depends on, its provider, what is above it."""
        by_urn = {one.urn: one for one in self.resources}
        actual: dict[str, Resource] = {}
        pending = [resource.urn]
        while pending:
            one = by_urn.get(pending.pop())
            if one is not None and one.urn not in actual:
                actual[one.urn] = one
                pending += one.keeps
        return [one for one in actual.values() if one is not resource]

    def named(self, name: str) -> Resource:
        """Return the one resource of that logical name."""
        (actual,) = (resource for resource in self.resources if resource.name == name)
        return actual

    def identities(self) -> str:
        """Write one line a resource: what an existing stack knows it by."""
        rows = sorted(
            f"{resource.type} {resource.name} parent={resource.parent or '-'}"
            f"{' protect' if resource.protect else ''}{' retain' if resource.retain else ''}"
            for resource in self.resources
        )
        return "\n".join(rows) + "\n"


class _Cloud(mocks.Mocks):
    """Providers that invent what a real one would compute, and nothing in a preview."""

    def __init__(self, *, preview: bool, computed: Mapping[str, Mapping[str, Any]]) -> None:
        self._preview = preview
        self.asked: set[str] = set()
        self._computed = {**_COMPUTED, **computed}

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        inputs = dict(args.inputs)
        if self._preview:
            return None, inputs
        if args.typ == "pulumi:index:Stash":
            inputs["output"] = inputs["input"]
        if args.typ == "aws:acm/certificate:Certificate":
            inputs["domainValidationOptions"] = _proofs([inputs["domainName"], *inputs["subjectAlternativeNames"]])
        return f"{args.name}-id", {**inputs, **self._computed.get(args.typ, {}), **args.inputs}

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[str, Any], list[tuple[str, str]] | None]:
        if args.token not in _ANSWERS:
            raise AssertionError(f"the program calls {args.token}; teach the mocks what it answers")
        self.asked.add(args.token)
        return {"id": "looked-up", **_ANSWERS[args.token], **self._computed.get(args.token, {}), **args.args}, []


def _proofs(names: Sequence[str]) -> list[dict[str, str]]:
    return [
        {
            "domainName": name,
            "resourceRecordName": f"_0.{name.removeprefix('*.')}.",
            "resourceRecordType": "CNAME",
            "resourceRecordValue": "_1.acm-validations.aws.",
        }
        for name in names
    ]


_COMPUTED: Mapping[str, Mapping[str, Any]] = {
    "tls:index/privateKey:PrivateKey": {
        "privateKeyPem": "PRIVATE KEY",
        "privateKeyOpenssh": "OPENSSH PRIVATE KEY",
        "publicKeyOpenssh": "ssh-ed25519 AAAA\n",
        "publicKeyFingerprintSha256": "SHA256:fingerprint",
    },
    "tls:index/selfSignedCert:SelfSignedCert": {"certPem": "CA CERTIFICATE"},
    "tls:index/certRequest:CertRequest": {"certRequestPem": "REQUEST"},
    "tls:index/locallySignedCert:LocallySignedCert": {"certPem": "CERTIFICATE"},
    "docker:index/network:Network": {"ipamConfigs": [{"subnet": "172.30.0.0/16"}]},
    "docker:index/tag:Tag": {"sourceImageId": "sha256:0123"},
    "docker:index/container:Container": {"exitCode": 0, "containerLogs": "serving generation 0123"},
    "aws:ebs/volume:Volume": {"arn": "arn:aws:ec2:eu-central-1:123456789012:volume/vol-0a"},
    "aws:ec2/eip:Eip": {"publicIp": "192.0.2.80", "allocationId": "eipalloc-0a"},
    "aws:ssm/parameter:Parameter": {"arn": "arn:aws:ssm:eu-central-1:123456789012:parameter/host-key"},
    "aws:ec2/vpc:Vpc": {"ipv6CidrBlock": "2001:db8:1234:5600::/56"},
    "aws:acm/certificate:Certificate": {"arn": "arn:certificate"},
    "aws:backup/vault:Vault": {"arn": "arn:vault"},
    "aws:iam/role:Role": {"arn": "arn:role", "name": "role"},
    "aws:lb/loadBalancer:LoadBalancer": {
        "arn": "arn:load-balancer",
        "arnSuffix": "app/edge/0123",
        "dnsName": "edge.elb.example.net",
        "zoneId": "Z-ELB",
    },
    "aws:lb/targetGroup:TargetGroup": {"arn": "arn:target-group", "arnSuffix": "targetgroup/edge/0123"},
    "aws:route53/record:Record": {"fqdn": "record.example.com"},
    "aws:route53/zone:Zone": {
        "zoneId": "Z-MADE",
        "arn": "arn:aws:route53:::hostedzone/Z-MADE",
        "nameServers": ["ns-2.example.net"],
    },
    "aws:s3/bucket:Bucket": {"arn": "arn:aws:s3:::logs", "bucket": "logs"},
    "aws:sns/topic:Topic": {"arn": "arn:topic", "owner": "123456789012"},
}
_ANSWERS: Mapping[str, Mapping[str, Any]] = {
    "aws:index/getAvailabilityZones:getAvailabilityZones": {
        "names": ["eu-central-1c", "eu-central-1a", "eu-central-1b"],
    },
    "aws:ssm/getParameter:getParameter": {"insecureValue": "ami-0newest"},
    "aws:ec2/getSubnet:getSubnet": {"availabilityZone": "eu-central-1b", "ipv6CidrBlock": "2001:db8:5::/64"},
    "aws:ec2/getVpcEndpointService:getVpcEndpointService": {"serviceName": "com.amazonaws.eu-central-1.s3"},
    "aws:index/getCallerIdentity:getCallerIdentity": {"accountId": "123456789012"},
    "aws:index/getPartition:getPartition": {"partition": "aws-cn"},
    "aws:route53/getZone:getZone": {
        "zoneId": "Z-FOUND",
        "arn": "arn:aws:route53:::hostedzone/Z-FOUND",
        "nameServers": ["ns-1.example.net"],
    },
}
"""What a look-up finds."""


class _RecordingMonitor(mocks.MockMonitor):
    def __init__(self, cloud: _Cloud, registered: list[Resource] | None) -> None:
        super().__init__(cloud)
        self.recorded: list[Resource] = [] if registered is None else registered
        self._protected: dict[str, bool] = {}
        self._transforms: dict[str, list[Callable[..., Any]]] = {}
        self._urns: dict[str, str] = {}

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802 - the protocol's name
        """Record what the engine would see, transforms of the parents applied as the engine would."""
        if request.type == "pulumi:pulumi:Stack":
            return super().RegisterResource(request)
        transforms = [
            *mocks._resolve_callbacks(request.transforms),  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
            *self._transforms.get(request.parent, ()),
        ]
        urn = self.make_urn(request.parent, request.type, request.name)
        self._urns[request.name] = urn
        self._transforms[urn] = transforms
        inputs = rpc.deserialize_properties(request.object, keep_unknowns=True)
        options = pulumi.ResourceOptions(protect=request.protect, retain_on_delete=request.retainOnDelete)
        # protect is inherited; retainOnDelete is not.
        options.protect = bool(options.protect) or self._protected.get(request.parent, False)
        for transform in transforms:
            plain = _plain(inputs)
            result = transform(
                pulumi.ResourceTransformArgs(request.custom, request.type, request.name, plain, options),
            )
            if result is not None:
                inputs, options = dict(result.props), result.opts
        self._protected[urn] = bool(options.protect)
        self.recorded.append(
            Resource(
                type=request.type,
                name=request.name,
                parent=request.parent.rpartition("::")[2] if "Stack::" not in request.parent else "",
                inputs=_plain(inputs),
                secret_inputs=frozenset(_secret_keys(request.object)),
                protect=bool(options.protect),
                retain=bool(options.retain_on_delete),
                provider=request.provider,
                hooks=options.hooks is not None,
                after=frozenset(urn.rpartition("::")[2] for urn in request.dependencies),
                removed_first=request.deleteBeforeReplace,
                # Another resource of this program, if it is a transform's.
                deleted_with="" if options.deleted_with is None else options.deleted_with._name,  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
                ignored=frozenset(request.ignoreChanges),
                urn=urn,
                keeps=(
                    *request.dependencies,
                    request.parent,
                    request.provider.rpartition("::")[0],
                    *(() if options.deleted_with is None else (self._urns[options.deleted_with._name],)),  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
                ),
            ),
        )
        return super().RegisterResource(request)


def _plain(value: Any) -> Any:
    if rpc.is_rpc_secret(value):
        return _plain(rpc.unwrap_rpc_secret(value))
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def _secret_keys(value: struct_pb2.Struct) -> set[str]:
    return {key for key, item in value.fields.items() if _holds_secret(item)}


def _holds_secret(value: struct_pb2.Value) -> bool:
    if value.HasField("struct_value"):
        fields = value.struct_value.fields
        signature = fields.get(rpc._special_sig_key)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        return (
            signature is not None and signature.string_value == rpc._special_secret_sig  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        ) or any(map(_holds_secret, fields.values()))
    return value.HasField("list_value") and any(map(_holds_secret, value.list_value.values))


def graph_of(  # noqa: PLR0913 - keywords, each a thing of its own
    program: Callable[[], Mapping[str, Any] | None],
    *,
    preview: bool = False,
    computed: Mapping[str, Mapping[str, Any]] | None = None,
    registered: list[Resource] | None = None,
    shows_ipv6_clients: bool = False,
    wait_until_healthy: Callable[..., None] = lambda *_: None,
) -> Graph:
    """Run `program` once and return its graph.

    Args:
        program: builds resources; what it returns are outputs to resolve.
        preview: leave everything unknown that a provider computes.
        computed: type, or what is asked for -> properties, over those that the mocks invent.
        registered: filled with what was registered, for a program that fails.
        shows_ipv6_clients: what the engine would say.
        wait_until_healthy: what asking the engine comes to.

    """
    # A test before this one may have closed the loop that the SDK looks for.
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    cloud = _Cloud(preview=preview, computed=computed or {})
    monitor = _RecordingMonitor(cloud, registered)
    pulumi.runtime.set_mocks(monitor.mocks, project=PROJECT, stack=STACK, preview=preview, monitor=monitor)
    resolved: dict[str, Any] = {}
    secrets: set[str] = set()

    async def resolve(outputs: Mapping[str, Any]) -> None:
        for key, value in outputs.items():
            output = pulumi.Output.from_input(value)
            known = await output.is_known()
            resolved[key] = await output.future() if known else UNKNOWN
            if await output.is_secret():
                secrets.add(key)

    @pulumi.runtime.test
    def run() -> Any:
        outputs = program() or {}
        return pulumi.Output.from_input(resolve(outputs))

    # No engine is there to be asked.
    with (
        patch.object(Engine, "restart_unhealthy"),
        patch.object(Engine, "wait_until_healthy", wait_until_healthy),
        patch.object(Engine, "replaces_incomplete", return_value=None),
        patch.object(Engine, "identity", return_value="ENGINE"),
        patch.object(Engine, "shows_ipv6_clients", return_value=shows_ipv6_clients),
        patch("open_webui_edge.components.deployment.wait_for_engine", _answering),
        patch.object(VersionChange, "needs_upgrade", return_value=False),
    ):
        try:
            run()
        finally:
            loop.close()
    return Graph(tuple(monitor.recorded), resolved, frozenset(secrets), frozenset(cloud.asked))


def _answering(engine: Engine, access: pulumi.Output[SshAccess], **_: Any) -> pulumi.Output[str]:
    return pulumi.Output.unsecret(access.apply(lambda known: engine.bind(known.host)))


UNKNOWN = "<unknown>"
"""What an output is in a preview."""
