"""Prometheus beside the site, and mtail, which counts for it what Nginx logs."""

from collections.abc import Mapping, Sequence
from typing import TypedDict

import pulumi
import pulumi_docker as docker

from components.docker.container import container, volume
from components.monitoring.rendering import COUNTER_PORT, PAGE, counting, page, render_prometheus, rules
from components.reverse_proxy.scripts import METRICS

_PORT = 9090
# No image has these folders, so that a new volume is root's there; and the programs run as root without its rights,
# since what they are given is readable for root alone.
_GIVEN = "/run/open-webui-edge-monitoring"
_DATA = "/var/lib/open-webui-edge-metrics"
_USER = "0:0"
_COUNTER = "mtail"
_COUNTER_MEMORY = 128 << 20
_LOG = f"{METRICS}/requests.log"


class PrometheusArgs(TypedDict):
    """Whom it asks, and what it keeps."""

    image: pulumi.Input[str]
    """Id of Prometheus' image."""
    mtail_image: pulumi.Input[str]
    """Id of an image with mtail."""
    network: pulumi.Input[str]
    """Network on which the proxy and the replicas are."""
    log_volume: pulumi.Input[str]
    """Name of the volume with the proxy's log for the counts."""
    proxy: str
    """host:port of what Nginx knows of itself."""
    replicas: Mapping[str, str]
    """Name of each replica -> host:port of its launcher."""
    stack: str
    port: int
    """On 127.0.0.1 of the host."""
    interval: int
    """Seconds between two questions."""
    retention: int
    """Seconds for which numbers are kept."""
    max_size: int
    """Bytes that they may take."""
    memory: int
    """Limit in bytes."""
    alertmanagers: Sequence[str]
    """URLs."""


class Prometheus(pulumi.ComponentResource):
    """Numbers of the site with their rules, and the page that shows them: for the host alone."""

    status_page: str
    """Where the page is, on the host."""
    containers: pulumi.Output[Sequence[str]]
    container_ids: pulumi.Output[Sequence[str]]

    def __init__(self, name: str, args: PrometheusArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the volumes and the containers."""
        super().__init__("open-webui-edge:index:Prometheus", name, {}, opts)
        child = pulumi.ResourceOptions(parent=self)
        # Numbers are not what a person made: they go when nobody wants them any more.
        data = volume(f"{name}-data", "prometheus", child)
        given = _mount(volume(f"{name}-given", "prometheus-given", child), _GIVEN)
        log = docker.ContainerVolumeArgs(volume_name=args["log_volume"], container_path=METRICS, read_only=True)
        counter = container(
            f"{name}-mtail",
            child,
            role="mtail",
            image=args["mtail_image"],
            memory=_COUNTER_MEMORY,
            entrypoint=["/usr/bin/mtail"],
            command=[
                f"--progs={_GIVEN}/requests.mtail",
                f"--logs={_LOG}",
                f"--port={COUNTER_PORT}",
                "--emit_prog_label=false",
                "--http_debugging_endpoint=false",
                "--http_info_endpoint=false",
                "--logtostderr",
            ],
            user=_USER,
            volumes=[log, given],
            files={f"{_GIVEN}/requests.mtail": counting()},
            network=args["network"],
            aliases=[_COUNTER],
            # Its image holds nothing else that could ask it; whether it answers is what Prometheus says.
            health=["CMD", "/usr/bin/mtail", "--version"],
        )
        configuration = render_prometheus(
            stack=args["stack"],
            seconds=args["interval"],
            proxy=args["proxy"],
            counter=f"{_COUNTER}:{COUNTER_PORT}",
            replicas=args["replicas"],
            alertmanagers=args["alertmanagers"],
        )
        server = container(
            f"{name}-server",
            child,
            role="prometheus",
            image=args["image"],
            memory=args["memory"],
            entrypoint=["prometheus"],
            command=[
                f"--config.file={_GIVEN}/prometheus.yml",
                f"--storage.tsdb.path={_DATA}",
                f"--storage.tsdb.retention.time={args['retention']}s",
                f"--storage.tsdb.retention.size={args['max_size']}B",
                f"--web.console.templates={_GIVEN}/consoles",
                f"--web.console.libraries={_GIVEN}/consoles",
                # Default .*: any page that somebody on this machine looks at could read everything here.
                "--web.cors.origin=none",
                # Default 4 minutes, in which it neither answers nor ends.
                "--query.timeout=30s",
            ],
            user=_USER,
            volumes=[_mount(data, _DATA), given],
            files={
                f"{_GIVEN}/prometheus.yml": configuration,
                **{f"{_GIVEN}/rules/{file}": text for file, text in rules().items()},
                f"{_GIVEN}/consoles/{PAGE}": page(),
            },
            network=args["network"],
            aliases=["prometheus"],
            ports=[docker.ContainerPortArgs(internal=_PORT, external=args["port"], ip="127.0.0.1")],
            health=["CMD", "promtool", "check", "ready", f"--url=http://127.0.0.1:{_PORT}"],
            # It reads what it had not yet put in order, and may have been killed.
            start_period="5m0s",
            stop_timeout=30,
        )
        self.status_page = f"http://127.0.0.1:{args['port']}/consoles/{PAGE}"
        self.containers = pulumi.Output.all(counter.name, server.name)
        self.container_ids = pulumi.Output.all(counter.id, server.id)
        self.register_outputs({"containers": self.containers})


def _mount(volume: docker.Volume, path: str) -> docker.ContainerVolumeArgs:
    return docker.ContainerVolumeArgs(volume_name=volume.name, container_path=path)
