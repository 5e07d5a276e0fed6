"""A container whose network stands for that of an instance, for certbot's to share."""

import json
from pathlib import Path

from open_webui_edge.benchmarks.waiting import wait_until
from open_webui_edge.settings.images import CERTBOT, ImageSource
from tests.acme.engine import bring, docker, inside
from tests.support import metadata_service

_PROGRAM = """
import fcntl, json, socket, struct, sys, threading
from metadata_service import MetadataService

SERVICE, SET_ADDRESS = "169.254.169.254", 0x8916


def copy(source, target):
    while some := source.recv(65536):
        target.sendall(some)
    target.shutdown(socket.SHUT_WR)


def publish(listener):
    while True:
        client, _ = listener.accept()
        proxy = socket.create_connection((sys.argv[1], 443))
        for pair in ((client, proxy), (proxy, client)):
            threading.Thread(target=copy, args=pair, daemon=True).start()


request = struct.pack("16sH2s4s8s", b"lo:1", socket.AF_INET, b"", socket.inet_aton(SERVICE), b"")
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
    fcntl.ioctl(control, SET_ADDRESS, request)
with open("keys.json") as keys, MetadataService.open("eu-central-1", json.load(keys), at=(SERVICE, 80)):
    publish(socket.create_server(("127.0.0.1", 443)))
"""


class Host:
    """As on an instance, the metadata service answers there, and the proxy is published at port 443.

    The services are of this network alone: containers of other networks reach neither.
    """

    def __init__(self, container: str, network: str, proxy: str, keys: dict[str, str]) -> None:
        """Run it; `proxy` is the proxy's own address, and `keys` are those of the instance's role."""
        self.container = container
        docker(
            *("create", f"--name={container}", f"--network={network}", "--cap-drop=ALL", "--init"),
            *("--cap-add=NET_ADMIN", "--cap-add=NET_BIND_SERVICE", "--workdir=/opt", "--entrypoint=python3"),
            # An instance knows no container by its name.
            *("--add-host=nginx:192.0.2.1", CERTBOT.reference(ImageSource.BUILT, None), "-B", "host.py", proxy),
        )
        service = Path(metadata_service.__file__).read_text()
        files = {"host.py": _PROGRAM, "metadata_service.py": service, "keys.json": json.dumps(keys)}
        bring(container, {f"/opt/{name}": content for name, content in files.items()})
        docker("start", container)
        ask = "import socket; socket.create_connection(('127.0.0.1', 443), 1)"
        wait_until(lambda: inside(container, "python3", "-c", ask)[0] == 0, what="the host's services")
