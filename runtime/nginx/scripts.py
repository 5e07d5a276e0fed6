"""Assembles the shell programs of the proxy's containers, which need coreutils, curl, flock and openssl."""

from collections.abc import Callable

from open_webui_edge.runtime import delivery

DIRECTORY = "/etc/open-webui-edge"
"""The generations of the configuration, and the active one."""
# A folder that no image has: a new volume inherits the owner of the image's folder, and root without its capabilities
# over files could not write into another user's.
CACHE = "/var/cache/open-webui-edge"
METRICS = "/run/open-webui-edge-metrics"
"""Volume with the proxy's metrics, for the containers that serve them."""
CERTIFICATES = "/var/lib/open-webui-edge"
"""Volume in which certbot publishes certificates and answers to challenges."""
CAPABILITIES = ("CHOWN", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID")
"""Nginx's master binds 80 and 443, hands its temporary folders to its workers, becomes them and signals them."""
PORTS, PORTS_FOR_IPV6 = (80, 443), (6080, 6443)
"""Ports of Nginx for HTTP and HTTPS inside its container, for those published at an IPv4 and at an IPv6 address. They
differ, since Pulumi's Docker provider compares published ports by the inner port: two addresses of one port are a list,
which engines from 27 on return in any order, so each update would replace the proxy."""
PORTS_INSIDE = (8080, 8443)
"""Ports of Nginx for HTTP and HTTPS on the container's own loopback address, without the limits of connections."""
TMPFS = {"/run/nginx": "mode=0755"}
ALERTS = "/run/nginx/alerts.log"
"""Nginx's messages of level alert and above; a container that starts has none."""


_PARTS = {
    "start": ("generation", "container_metrics", "watch", "start"),
    "install": ("generation", "install"),
    "health": ("generation", "health"),
    "functions": ("generation",),
}


def script(name: str, read: Callable[[str], str] = delivery.program) -> str:
    """Return a shell program: start, install, health, or the functions that they share.

    Args:
        name: one of these.
        read: returns the text of a file below runtime/.

    """
    folders = {
        "EDGE_DIRECTORY": DIRECTORY,
        "EDGE_METRICS": METRICS,
        "EDGE_CERTIFICATES": CERTIFICATES,
        "EDGE_ALERTS": ALERTS,
    }
    files = (read(f"nginx/{part}.sh") for part in _PARTS[name])
    return "\n".join([*(f"{variable}={folder}" for variable, folder in folders.items()), *files])


START = script("start")
"""The proxy's command."""
INSTALL = script("install")
"""The installer's command; it installs `candidate`, below DIRECTORY."""
HEALTH = script("health")
"""The proxy's health check."""
FUNCTIONS = script("functions")
"""The shared functions, for diagnostics in the proxy's container."""
