"""Numbers of the proxy for Prometheus: the exporter of Nginx's makers, and beside it what the proxy knows by itself."""

from collections.abc import Sequence
from typing import TypedDict

import pulumi
import pulumi_docker as docker

from components.docker.container import container, labels, physical_name
from components.reverse_proxy.scripts import METRICS

_PORT = 9113
_PROGRAM = "/usr/bin/nginx-prometheus-exporter"
_MEMORY = 64 << 20
_RUN = "/run/nginx"
_USER = "101:101"
"""Nginx's own, in the official image as in the one that is built."""
ENDPOINT = f"""\
cat > {_RUN}/nginx.conf << 'END'
# The exporter has no place for numbers of others, so they are appended to its answer.
worker_processes 1;
pid {_RUN}/nginx.pid;
# Not whenever the exporter is away, which the answer says.
error_log /dev/stderr crit;
events {{
}}
http {{
    access_log off;
    server_tokens off;
    proxy_connect_timeout 2s;
    proxy_read_timeout 4s;
    client_body_temp_path {_RUN}/client_body;
    proxy_temp_path {_RUN}/proxy;
    fastcgi_temp_path {_RUN}/fastcgi;
    uwsgi_temp_path {_RUN}/uwsgi;
    scgi_temp_path {_RUN}/scgi;
    # The exporter's address changes when it is made anew.
    resolver 127.0.0.11 valid=5s ipv6=off;
    upstream exporter {{
        zone exporter 64k;
        server exporter:{_PORT} resolve max_fails=0;
    }}
    server {{
        listen {_PORT};
        # What is added is in Prometheus' text format, and cannot stand in another, nor in what is packed.
        proxy_set_header Accept text/plain;
        proxy_set_header Accept-Encoding "";
        location / {{
            proxy_pass http://exporter;
        }}
        location = /metrics {{
            proxy_pass http://exporter;
            add_after_body /certificate.prom;
            # Nginx would compare the whole type, with its version.
            addition_types *;
        }}
        location = /certificate.prom {{
            internal;
            root {METRICS};
            # Until the proxy has written it there is nothing to add.
            error_page 403 404 = @nothing;
        }}
        location @nothing {{
            return 200 "";
        }}
    }}
}}
END
exec nginx -c {_RUN}/nginx.conf -g 'daemon off;'
"""
"""What the container that is published runs."""


class NginxMetricsArgs(TypedDict):
    """What is read, and where it is shown."""

    image: pulumi.Input[str]
    """Id of the exporter's image."""
    nginx_image: pulumi.Input[str]
    """Id of the proxy's image, which shows what the exporter says and what the proxy knows by itself."""
    volume: pulumi.Input[str]
    """Name of the volume with the proxy's socket and numbers."""
    port: int
    """On 127.0.0.1 of the host."""


class NginxMetrics(pulumi.ComponentResource):
    """The exporter and what shows its answer, on a network of their own: only the host reaches them."""

    containers: pulumi.Output[Sequence[str]]
    container_ids: pulumi.Output[Sequence[str]]

    def __init__(self, name: str, args: NginxMetricsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the network and the containers."""
        super().__init__("open-webui-edge:index:NginxMetrics", name, {}, opts)
        child = pulumi.ResourceOptions(parent=self)
        network = docker.Network(
            f"{name}-network",
            name=physical_name("metrics-network"),
            labels=[docker.NetworkLabelArgs(label=key, value=value) for key, value in labels("network").items()],
            opts=child,
        )
        volumes = [docker.ContainerVolumeArgs(volume_name=args["volume"], container_path=METRICS, read_only=True)]
        exporter = container(
            f"{name}-exporter",
            child,
            role="nginx-exporter",
            image=args["image"],
            memory=_MEMORY,
            entrypoint=[_PROGRAM],
            command=[
                f"--nginx.scrape-uri=unix:{METRICS}/nginx.sock:/connections",
                f"--web.listen-address=:{_PORT}",
            ],
            read_only=True,
            volumes=volumes,
            network=network.name,
            aliases=["exporter"],
            # The official image holds this one program, which has no check of itself: that it runs is all that it says.
            health=["CMD", _PROGRAM, "--version"],
        )
        endpoint = container(
            f"{name}-endpoint",
            # An exporter of before this container has its port until it is replaced.
            pulumi.ResourceOptions(parent=self, depends_on=[exporter]),
            role="nginx-metrics",
            image=args["nginx_image"],
            memory=_MEMORY,
            entrypoint=["/bin/sh", "-c"],
            command=[ENDPOINT],
            user=_USER,
            read_only=True,
            tmpfs={_RUN: "mode=1777"},
            volumes=volumes,
            network=network.name,
            ports=[docker.ContainerPortArgs(internal=_PORT, external=args["port"], ip="127.0.0.1")],
            health=["CMD", "curl", "--fail", "--silent", "--max-time", "4", f"http://127.0.0.1:{_PORT}/metrics"],
        )
        self.containers = pulumi.Output.all(exporter.name, endpoint.name)
        self.container_ids = pulumi.Output.all(exporter.id, endpoint.id)
        self.register_outputs({"containers": self.containers})
