"""Stack files for combinations, and what a person brings to them."""

import copy
from pathlib import Path
from typing import Any

import yaml

from open_webui_edge.settings.aws import LoadBalancerKind
from tests.aws.combinations import Certificate, Combination, Dns, Network
from tests.support.certificates import Issued, authority, server
from tests.support.cloud import Cloud
from tests.support.stack import ROOT

ZONE = "example.com"
NAMES = ["chat.example.com", "www.chat.example.com"]
CIDR = "10.20.0.0/16"
SSH_FROM = "203.0.113.7/32"


def config_of(combination: Combination, cloud: Cloud) -> dict[str, Any]:
    """Return what a stack file says for a combination; what must be there already is made in the cloud."""
    aws: dict[str, Any] = {
        "region": "eu-central-1",
        "instance": {"type": "t3.large", "ssh_from": [SSH_FROM]},
        "load_balancer": {"kind": str(combination.load_balancer)},
    }
    if combination.network is Network.EXISTING:
        aws["vpc"] = existing_network(cloud, load_balancer=combination.load_balancer)
    site: dict[str, Any] = {"domain": NAMES[0], "aliases": NAMES[1:]}
    if combination.network is Network.EXISTING and combination.load_balancer is not LoadBalancerKind.NONE:
        site["listen"] = {"ipv6": False}  # that network has none
    config: dict[str, Any] = {
        "platform": {"kind": "aws-vm", "aws": aws},
        "site": site,
        "certificate": {"mode": str(combination.certificate)},
        "open_webui": {"admin": {"email": "admin@example.com"}},
        "images": {"source": "pulled"},
        "backup": {"enabled": True, "at": "22:30", "keep": "7d"},
        "monitoring": {"alarms": {"enabled": True, "email": "ops@example.com"}},
    }
    if combination.dns is not Dns.NONE:
        config["dns"] = {"provider": "route53", "zone": ZONE, "create": combination.dns is Dns.CREATED}
    if combination.dns is Dns.EXISTING:
        existing_zone(cloud)
    if combination.certificate is Certificate.ACM and combination.dns is Dns.NONE:
        config["certificate"]["acm"] = {"arn": existing_certificate(cloud)}
    return config


def config_of_example(name: str, cloud: Cloud) -> dict[str, Any]:
    """Return what a shipped example says; its zone is made in the cloud."""
    document = yaml.safe_load((ROOT / "stacks" / "examples" / f"{name}.yaml").read_text())
    config = {key.partition(":")[2]: copy.deepcopy(value) for key, value in document["config"].items()}
    existing_zone(cloud)
    return {**config, "images": {"source": "pulled"}}


def existing_network(cloud: Cloud, *, load_balancer: LoadBalancerKind) -> dict[str, Any]:
    """Create an existing VPC with two public subnets."""
    ec2 = cloud.client("ec2")
    vpc = ec2.create_vpc(CidrBlock=CIDR)["Vpc"]["VpcId"]
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.20.{number}.0/24", AvailabilityZone=f"eu-central-1{zone}")[
            "Subnet"
        ]["SubnetId"]
        for number, zone in enumerate("ab")
    ]
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
    reported = {"id": vpc, "public_subnets": subnets}
    return reported if load_balancer is LoadBalancerKind.NONE else {**reported, "cidr": CIDR}


def existing_zone(cloud: Cloud) -> str:
    """Make the zone of the site's domain, if it is not there."""
    route53 = cloud.client("route53")
    zones = route53.list_hosted_zones_by_name(DNSName=ZONE)["HostedZones"]
    zone, *_ = zones or [route53.create_hosted_zone(Name=ZONE, CallerReference="a person's")["HostedZone"]]
    return zone["Id"].rpartition("/")[2]


def existing_certificate(cloud: Cloud) -> str:
    """Put a certificate into ACM and return its ARN."""
    issued = _issued()
    made = cloud.client("acm").import_certificate(Certificate=issued.pem.encode(), PrivateKey=issued.key_pem.encode())
    return made["CertificateArn"]


def provide(config: dict[str, Any], project: Path) -> None:
    """Write a user's own certificate to the project's folder, if the settings need one."""
    if config["certificate"]["mode"] != "provided":
        return
    issued = _issued()
    folder = project / "tls"
    folder.mkdir(exist_ok=True)
    for name, text in (("chain.pem", issued.chain_pem), ("key.pem", issued.key_pem)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    config["certificate"]["provided"] = {
        "certificate_file": "tls/chain.pem",
        "private_key_file": "tls/key.pem",
    }


def _issued() -> Issued:
    return server(NAMES, authority("a company's"))
