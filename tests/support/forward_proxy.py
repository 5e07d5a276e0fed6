"""A company's proxy: it tunnels by CONNECT for those who sign in, and can inspect TLS. A program of its own.

Its arguments: user:password, and the paths of a certificate and its key if it inspects. What it sees goes to its log.
"""

import base64
import socket
import socketserver
import ssl
import sys
import threading

PORT = 3128
_ERROR = b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code><Message>none here</Message></Error>'
_NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Type: application/xml\r\nConnection: close\r\n\r\n" + _ERROR


class Tunnel(socketserver.StreamRequestHandler):
    """One connection of a client."""

    def handle(self) -> None:
        method, target, *_ = self.rfile.readline().decode().split()
        headers: dict[str, str] = {}
        while line := self.rfile.readline().decode().strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        expected = base64.b64encode(sys.argv[1].encode()).decode()
        if headers.get("proxy-authorization") != f"Basic {expected}":
            self._answer("407 Proxy Authentication Required")
            return
        _log(f"{method} {target}")
        if method != "CONNECT":
            self._answer("405 Method Not Allowed")
        elif len(sys.argv) > 2:
            self._answer("200 Connection established")
            self._inspect()
        else:
            self._tunnel(*target.rsplit(":", 1))

    def _tunnel(self, host: str, port: str) -> None:
        try:
            upstream = socket.create_connection((host, int(port)), timeout=10)
        except OSError:
            self._answer("502 Bad Gateway")
            return
        self._answer("200 Connection established")
        there = threading.Thread(target=_copy, args=(self.connection, upstream))
        there.start()
        _copy(upstream, self.connection)
        there.join()

    def _inspect(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[2], sys.argv[3])
        try:
            with context.wrap_socket(self.connection, server_side=True) as secured:
                request = secured.recv(1 << 16).decode(errors="replace")
                _log(f"inside: {request.splitlines()[0] if request else ''}")
                head = (
                    f"HTTP/1.1 404 Not Found\r\nContent-Type: application/xml\r\nContent-Length: {len(_NOT_FOUND)}\r\n"
                )
                secured.sendall(f"{head}Connection: close\r\n\r\n".encode() + _NOT_FOUND)
        except OSError as refused:
            _log(f"inside: {refused}")

    def _answer(self, status: str) -> None:
        self.wfile.write(f"HTTP/1.1 {status}\r\n\r\n".encode())


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while piece := source.recv(1 << 16):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return


def _log(words: str) -> None:
    print(words, flush=True)  # noqa: T201 - its log


if __name__ == "__main__":
    socketserver.ThreadingTCPServer.daemon_threads = True
    socketserver.ThreadingTCPServer(("", PORT), Tunnel).serve_forever()
