"""A load balancer of the cloud: a real proxy does what was ordered there.

One that ends TLS is Nginx, one that passes TCP through is HAProxy. Each stands in the network of the instances and in
one of its own, where browsers come from.
"""

import json
import secrets
import subprocess
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

from open_webui_edge.settings import images
from open_webui_edge.settings.images import BENCH_TOOLS, ImageSource
from tests.acme.engine import bring, docker, log_of, remove
from tests.end_to_end.instance.hardware import Hardware
from tests.support.certificates import Issued
from tests.support.cloud import Cloud

NGINX = images.NGINX.reference(ImageSource.BUILT, None)
_APPLICATION = """
events {{}}
error_log stderr;
http {{
    access_log off;
    map $http_upgrade $connection_to_target {{
        default upgrade;
        "" "";
    }}
    upstream target {{
        server {target};
        keepalive 32;
    }}
    server {{
        listen 80;
        return {redirect} https://$host:443$request_uri;
    }}
    server {{
        listen 443 ssl;
        http2 on;
        ssl_certificate /site.pem;
        ssl_certificate_key /key.pem;
        client_max_body_size 0;
        location / {{
            proxy_pass https://target;
            proxy_http_version 1.1;
            proxy_ssl_verify off;
            proxy_buffering off;
            proxy_request_buffering off;
            proxy_read_timeout {idle}s;
            proxy_send_timeout {idle}s;
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Port $server_port;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_to_target;
        }}
    }}
}}
"""
# It checks at a port of its own choice, and sends no request to a target before that was healthy.
_NETWORK = """
global
    log stderr format raw local0
defaults
    mode tcp
    log global
    timeout connect 10s
    timeout client {idle}s
    timeout server {idle}s
"""
_PASSED = """
listen port-{port}
    bind :{port}
    option httpchk GET {path}
    server target {target} send-proxy-v2 check check-send-proxy port {check_port} inter 500ms init-state fully-down
"""


@dataclass(frozen=True)
class Ordered:
    """What the cloud says of its only load balancer."""

    idle: int
    """Seconds that a silent connection is kept."""
    listeners: Mapping[int, Mapping[str, Any]]
    """By their ports."""
    groups: Mapping[str, Mapping[str, Any]]
    """Target groups by their ARNs."""
    targets: Mapping[str, str]
    """Target group's ARN -> host:port."""

    @classmethod
    def of(cls, cloud: Cloud, hardware: Hardware) -> Self:
        """Ask the cloud, and wait for the instance that it names."""
        elb = cloud.client("elbv2")
        (balancer,) = elb.describe_load_balancers()["LoadBalancers"]
        arn = balancer["LoadBalancerArn"]
        listeners = {each["Port"]: each for each in elb.describe_listeners(LoadBalancerArn=arn)["Listeners"]}
        attributes = {
            each["Key"]: each["Value"]
            for each in elb.describe_load_balancer_attributes(LoadBalancerArn=arn)["Attributes"]
        }
        groups = {each["TargetGroupArn"]: each for each in elb.describe_target_groups()["TargetGroups"]}
        targets: dict[str, str] = {}
        for group in groups:
            (result,) = elb.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]
            machine = hardware.machine(result["Target"]["Id"])
            targets[group] = f"{machine.address}:{result['Target']['Port']}"
        # moto knows no such time of a listener, and AWS's own default is this.
        return cls(int(attributes.get("idle_timeout.timeout_seconds", "350")), listeners, groups, targets)


class Balancer:
    """It runs."""

    def __init__(self, name: str, network: str) -> None:
        """Be a container in a network where browsers are."""
        self.name, self.network = name, network

    @property
    def address(self) -> str:
        """Where browsers find it."""
        return self._attached()["IPAddress"]

    @property
    def client(self) -> str:
        """The address that a browser of this test has there."""
        return self._attached()["Gateway"]

    def _attached(self) -> Mapping[str, str]:
        return json.loads(docker("inspect", "--format={{json .NetworkSettings.Networks}}", self.name))[self.network]

    @classmethod
    @contextmanager
    def application(cls, cloud: Cloud, hardware: Hardware, certificate: Issued) -> Generator[Self]:
        """Run one that answers browsers itself, with a certificate."""
        ordered = Ordered.of(cloud, hardware)
        (target,) = ordered.targets.values()
        ((redirect,),) = (ordered.listeners[80]["DefaultActions"],)
        configuration = _APPLICATION.format(
            target=target,
            idle=ordered.idle,
            redirect=redirect["RedirectConfig"]["StatusCode"].removeprefix("HTTP_"),
        )
        files = {"/balancer.conf": configuration, "/site.pem": certificate.chain_pem, "/key.pem": certificate.key_pem}
        with cls._running(hardware, NGINX, ["nginx", "-c", "/balancer.conf", "-g", "daemon off;"], files) as balancer:
            yield balancer

    @classmethod
    @contextmanager
    def passing(cls, cloud: Cloud, hardware: Hardware) -> Generator[Self]:
        """Run one that passes TCP through, and says by PROXY protocol v2 who comes."""
        ordered = Ordered.of(cloud, hardware)
        parts = [_NETWORK.format(idle=ordered.idle)]
        for port, listener in ordered.listeners.items():
            (action,) = listener["DefaultActions"]
            group = ordered.groups[action["TargetGroupArn"]]
            parts.append(
                _PASSED.format(
                    port=port,
                    target=ordered.targets[group["TargetGroupArn"]],
                    path=group["HealthCheckPath"],
                    check_port=group["HealthCheckPort"],
                )
            )
        files = {"/balancer.conf": "".join(parts)}
        with cls._running(hardware, BENCH_TOOLS, ["haproxy", "-f", "/balancer.conf"], files) as balancer:
            yield balancer

    @classmethod
    @contextmanager
    def _running(cls, hardware: Hardware, image: str, words: list[str], files: Mapping[str, str]) -> Generator[Self]:
        name = f"edge-balancer-{secrets.token_hex(3)}"
        browsers = f"{name}-browsers"
        docker("network", "create", browsers)
        try:
            entry, *others = words
            docker(
                "create", f"--name={name}", f"--network={browsers}", f"--entrypoint={entry}", "--user=0", image, *others
            )
            docker("network", "connect", hardware.network, name)
            bring(name, files)
            docker("start", name)
            yield cls(name, browsers)
        except BaseException:
            print(log_of(name))  # noqa: T201 - shown with the failure
            raise
        finally:
            remove(name)
            subprocess.run(["docker", "network", "rm", browsers], capture_output=True, check=False)  # noqa: S603, S607
