"""HTTP/1.1 answers, read to their last byte."""

from typing import BinaryIO


class Broken(Exception):  # noqa: N818  # says what happened to a connection; the text becomes a Failure's reason
    """An answer that is wrong, or did not come."""


def read_http1(answers: BinaryIO) -> tuple[int, bool]:
    """Read one answer to its last byte; return its status and whether it announced that the connection closes."""
    status_line = _read_line(answers, "the answer began")
    headers: dict[str, str] = {}
    while line := _read_line(answers, "the headers ended"):
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip().lower()
    closes = headers.get("connection") == "close"
    if headers.get("transfer-encoding") == "chunked":
        while length := int(_read_line(answers, "a chunk began").partition(";")[0], 16):
            _read_exactly(answers, length + len("\r\n"))
        while _read_line(answers, "the trailers ended"):
            pass
    elif "content-length" in headers:
        _read_exactly(answers, int(headers["content-length"]))
    elif closes:
        answers.read()
    else:
        raise Broken(f"an answer without a length: {status_line}")
    return int(status_line.split()[1]), closes


def _read_line(answers: BinaryIO, what: str) -> str:
    line = answers.readline()
    if not line.endswith(b"\r\n"):
        raise Broken(f"the connection was closed before {what}")
    return line[:-2].decode("latin-1")


def _read_exactly(answers: BinaryIO, length: int) -> None:
    if (read := len(answers.read(length))) < length:
        raise Broken(f"the connection was closed after {read} of {length} bytes")
