"""What runs in the proxy's containers: shell, with what the images of Nginx have (coreutils, curl, flock, openssl)."""

from pathlib import Path

DIRECTORY = "/etc/open-webui-edge"
"""The generations of the configuration, and which one is in force."""
# A folder that no image has: a new volume takes over the owner of the image's, and root without its rights over files
# could not write into another user's.
CACHE = "/var/cache/open-webui-edge"
METRICS = "/run/open-webui-edge-metrics"
"""Where the containers that show the proxy's numbers find them."""
CERTIFICATES = "/var/lib/open-webui-edge"
"""Where others offer certificates, and what proves to an issuer whose the names are."""
CAPABILITIES = ("CHOWN", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID")
"""Nginx's master binds 80 and 443, hands its temporary folders to its workers, becomes them and signals them."""
TMPFS = {"/run/nginx": "mode=0755"}


def _script(*names: str) -> str:
    places = {"EDGE_DIRECTORY": DIRECTORY, "EDGE_METRICS": METRICS, "EDGE_CERTIFICATES": CERTIFICATES}
    files = (Path(__file__).with_name(f"{name}.sh").read_text() for name in names)
    return "\n".join([*(f"{name}={place}" for name, place in places.items()), *files])


START = _script("generation", "watch", "start")
"""The proxy's command."""
INSTALL = _script("generation", "install")
"""The installer's; what it installs is in `candidate`, below DIRECTORY."""
HEALTH = _script("generation", "health")
"""The proxy's health check."""
FUNCTIONS = _script("generation")
"""What they share, for who looks into the proxy's container."""
