"""Metrics of the proxy for Prometheus: F5's exporter for Nginx, and the proxy's own metrics."""

from typing import TypedDict

import pulumi
import pulumi_docker as docker

from open_webui_edge.components.container_group import ContainerGroup
from open_webui_edge.components.docker.container import container, labels, physical_name
from open_webui_edge.runtime import delivery
from open_webui_edge.runtime.nginx.scripts import METRICS

_PORT = 9113
_PROGRAM = "/usr/bin/nginx-prometheus-exporter"
_MEMORY = 64 << 20
_RUN = "/run/nginx"
_USER = "101:101"
"""Nginx's user, in the official and in the built image."""
ENDPOINT = delivery.configuration(f"""\
cat > {_RUN}/nginx.conf << 'END'
# The exporter cannot serve other metrics, so they are appended to its response.
worker_processes 1;
pid {_RUN}/nginx.pid;
# Without errors for each failed connection to the exporter, which the response shows.
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
    # The exporter's address changes when it is replaced.
    resolver 127.0.0.11 valid=5s ipv6=off;
    upstream exporter {{
        zone exporter 64k;
        server exporter:{_PORT} resolve max_fails=0;
    }}
    server {{
        listen {_PORT};
        # The added metrics are in Prometheus' text format, so the response must be neither compressed nor in another
        # format.
        proxy_set_header Accept text/plain;
        proxy_set_header Accept-Encoding "";
        location / {{
            proxy_pass http://exporter;
        }}
        location = /metrics {{
            proxy_pass http://exporter;
            add_after_body /certificate.prom;
            # A type here would have to match the whole Content-Type, with its version.
            addition_types *;
        }}
        location = /certificate.prom {{
            internal;
            root {METRICS};
            # Empty until the proxy has written the file.
            error_page 403 404 = @nothing;
        }}
        location @nothing {{
            return 200 "";
        }}
    }}
}}
END
exec nginx -c {_RUN}/nginx.conf -g 'daemon off;'
""")
"""The program of the published container."""


class NginxMetricsArgs(TypedDict):
    """The images, the proxy's volume and the port."""

    image: pulumi.Input[str]
    """ID of the exporter's image."""
    nginx_image: pulumi.Input[str]
    """ID of the proxy's image, which serves the metrics of the exporter and of the proxy."""
    volume: pulumi.Input[str]
    """Name of the volume with the proxy's socket and metrics."""
    port: int
    """On 127.0.0.1 of the host."""


class NginxMetrics(ContainerGroup):
    """The exporter and the endpoint in front of it, on a separate network that only the host reaches."""

    def __init__(self, name: str, args: NginxMetricsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Create the network and the containers."""
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
            # The official image only has this program, which has no health check; this proves that it starts.
            health=["CMD", _PROGRAM, "--version"],
        )
        endpoint = container(
            f"{name}-endpoint",
            # Until it is replaced, an exporter of an earlier release holds the port.
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
        self._register(exporter, endpoint)
