"""What `make certificate` asks is asked by TLS, of the listener itself."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from open_webui_edge.bootstrap.engine import Engine
from open_webui_edge.cli import certificate
from open_webui_edge.cli.certificate import CertificateConfig
from tests.support.certificates import Issued, authority, server

LOCAL = Engine("unix:///nobody", "a test", ("false",))


@contextmanager
def listening(issued: Issued, folder: Path, *, preamble: bool) -> Iterator[int]:
    """Serve a certificate, to one who says first who the client is where that is wanted."""
    file = folder / "server.pem"
    file.write_text(issued.chain_pem + issued.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                if preamble:
                    assert connection.recv(15, socket.MSG_WAITALL) == b"PROXY UNKNOWN\r\n"
                with context.wrap_socket(connection, server_side=True) as secure:
                    secure.recv(1)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(5)


@pytest.mark.parametrize("preamble", [False, True])
def test_it_is_asked_by_name_and_says_first_who_it_is_where_that_is_wanted(tmp_path: Path, *, preamble: bool) -> None:
    # Nobody's root: it is looked at all the same.
    issued = server(["chat.example.com"], authority("A company's root"))
    settings = {"site": {"domain": "chat.example.com"}, "proxy": {"proxy_protocol": preamble}}
    with listening(issued, tmp_path, preamble=preamble) as port:
        bindings = [{"HostIp": "0.0.0.0", "HostPort": str(port)}]
        container = {"Name": "/edge-nginx", "NetworkSettings": {"Ports": {"443/tcp": bindings}}}
        shown, how = certificate.served(LOCAL, container, CertificateConfig.from_settings(settings))
    assert shown == issued.certificate
    assert how == f"served at 127.0.0.1:{port}"
