"""Prometheus, and the container that counts the requests in Nginx's log."""

from collections.abc import Mapping, Sequence
from typing import TypedDict

import pulumi
import pulumi_docker as docker

from open_webui_edge.components.container_group import ContainerGroup, mount
from open_webui_edge.components.docker.container import container, volume
from open_webui_edge.components.monitoring.rendering import PAGE, page, render_prometheus, rules
from open_webui_edge.runtime import delivery
from open_webui_edge.runtime.nginx.scripts import METRICS
from open_webui_edge.runtime.open_webui.request_counter import PORT as COUNTER_PORT

_PORT = 9090
# The image lacks these folders, so new volumes belong to root. Prometheus runs as root without capabilities, since its
# files are readable for root alone.
_CONFIG_DIR = "/run/open-webui-edge-monitoring"
_DATA = "/var/lib/open-webui-edge-metrics"
_USER = "0:0"
_COUNTER = "request-counter"
_COUNTER_USER = "65534:65534"
"""An unprivileged user (Debian's `nobody`): the log is readable for all users."""
_COUNTER_MEMORY = 64 << 20
_LOG = f"{METRICS}/requests.log"


class PrometheusArgs(TypedDict):
    """Targets, retention and limits."""

    image: pulumi.Input[str]
    """ID of Prometheus' image."""
    counter_image: pulumi.Input[str]
    """ID of an image with Python and curl."""
    network: pulumi.Input[str]
    """Network of the proxy and the replicas."""
    log_volume: pulumi.Input[str]
    """Name of the volume with the proxy's log."""
    proxy: str
    """host:port of Nginx's own metrics."""
    replicas: Mapping[str, str]
    """Name of each replica -> host:port of its launcher."""
    stack: str
    port: int
    """On 127.0.0.1 of the host."""
    interval: int
    """Seconds between two scrapes."""
    retention: int
    """Retention in seconds."""
    max_size: int
    """Maximum size of the data, in bytes."""
    memory: int
    """Limit in bytes."""
    alertmanagers: Sequence[str]
    """URLs."""


class Prometheus(ContainerGroup):
    """Prometheus with its rules and the status page, for the host alone."""

    status_page: str
    """URL of the status page, on the host."""

    def __init__(self, name: str, args: PrometheusArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Create the volumes and the containers."""
        super().__init__("open-webui-edge:index:Prometheus", name, {}, opts)
        child = pulumi.ResourceOptions(parent=self)
        # Not protected: metrics are not users' data, and go when monitoring is disabled.
        data = mount(volume(f"{name}-data", "prometheus", child).name, _DATA)
        config = mount(volume(f"{name}-given", "prometheus-given", child).name, _CONFIG_DIR)
        log = mount(args["log_volume"], METRICS, read_only=True)
        counter = container(
            f"{name}-{_COUNTER}",
            child,
            role=_COUNTER,
            image=args["counter_image"],
            memory=_COUNTER_MEMORY,
            # As an argument: Docker cannot copy files into a read-only container.
            entrypoint=["python3", "-I", "-c", delivery.program("open_webui/request_counter.py")],
            command=[_LOG],
            user=_COUNTER_USER,
            read_only=True,
            init=True,
            volumes=[log],
            network=args["network"],
            aliases=[_COUNTER],
            health=[
                "CMD",
                *("curl", "--fail", "--silent", "--max-time", "4", "--output", "/dev/null"),
                f"http://127.0.0.1:{COUNTER_PORT}/metrics",
            ],
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
                f"--config.file={_CONFIG_DIR}/prometheus.yml",
                f"--storage.tsdb.path={_DATA}",
                f"--storage.tsdb.retention.time={args['retention']}s",
                f"--storage.tsdb.retention.size={args['max_size']}B",
                f"--web.console.templates={_CONFIG_DIR}/consoles",
                f"--web.console.libraries={_CONFIG_DIR}/consoles",
                # Default .*: any website in a browser on this machine could read all metrics.
                "--web.cors.origin=none",
                # Default 4 minutes, in which it neither answers nor ends.
                "--query.timeout=30s",
            ],
            user=_USER,
            volumes=[data, config],
            files={
                f"{_CONFIG_DIR}/prometheus.yml": configuration,
                **{f"{_CONFIG_DIR}/rules/{file}": text for file, text in rules().items()},
                f"{_CONFIG_DIR}/consoles/{PAGE}": page(),
            },
            network=args["network"],
            aliases=["prometheus"],
            ports=[docker.ContainerPortArgs(internal=_PORT, external=args["port"], ip="127.0.0.1")],
            health=["CMD", "promtool", "check", "ready", f"--url=http://127.0.0.1:{_PORT}"],
            # It replays its write-ahead log, which is long after a crash.
            start_period="5m0s",
            stop_timeout=30,
        )
        self.status_page = f"http://127.0.0.1:{args['port']}/consoles/{PAGE}"
        self._register(counter, server)
