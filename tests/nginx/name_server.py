"""A name server whose answers a test changes, in place of Docker's."""

import socket
import struct
import threading
from typing import Self

_HEADER = struct.Struct("!6H")
_QUESTION_END = 4
_ANSWERED, _FAILED, _NO_SUCH_NAME = 0x8180, 0x8182, 0x8183
_TYPE_A, _CLASS_IN = 1, 1
_POINTER_TO_QUESTION = 0xC00C


class NameServer:
    """Answers questions for IPv4 addresses (RFC 1035) over UDP, as a context manager."""

    def __init__(self, address: str) -> None:
        """Listen on any port of `address`."""
        self.addresses: dict[str, str | tuple[str, ...]] = {}
        """Name -> its address, or several; any other name does not exist."""
        self.at_a_loss = 0
        """How many questions from now on are answered with the word that the server itself has failed."""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, 0))
        self.address, self.port = self._socket.getsockname()
        self._thread = threading.Thread(target=self._serve, name="name server", daemon=True)

    @property
    def resolver(self) -> str:
        """What Nginx's `resolver` takes."""
        return f"{self.address}:{self.port}"

    def __enter__(self) -> Self:
        """Start to answer."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Answer no longer."""
        # What it waits for is a question: this one, which is empty, is the last.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", (self.address, self.port))
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            question, client = self._socket.recvfrom(512)
            if not question:
                return
            self._socket.sendto(self._answer(question), client)

    def _answer(self, message: bytes) -> bytes:
        identity, *_ = _HEADER.unpack_from(message)
        labels: list[str] = []
        at = _HEADER.size
        while message[at]:
            labels.append(message[at + 1 : at + 1 + message[at]].decode())
            at += 1 + message[at]
        question = message[_HEADER.size : at + 1 + _QUESTION_END]
        if self.at_a_loss > 0:
            self.at_a_loss -= 1
            return _HEADER.pack(identity, _FAILED, 1, 0, 0, 0) + question
        known = self.addresses.get(".".join(labels), ())
        addresses = (known,) if isinstance(known, str) else known
        if not addresses:
            return _HEADER.pack(identity, _NO_SUCH_NAME, 1, 0, 0, 0) + question
        records = [
            struct.pack("!3HIH", _POINTER_TO_QUESTION, _TYPE_A, _CLASS_IN, 600, 4) + socket.inet_aton(address)
            for address in addresses
        ]
        return _HEADER.pack(identity, _ANSWERED, 1, len(records), 0, 0) + question + b"".join(records)
