"""Downloads a file, even over a slow network: there is no limit while bytes arrive."""

import http.client
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import certifi

TIMEOUT = 20
"""Seconds to connect, and without any byte. The whole download may take any time."""
TRIES = 2
_PIECE = 1 << 16
_MEGABYTE = 10**6
_PARTIAL = 206


class DownloadError(Exception):
    """A download failed; the text says why."""


def fetch(address: str, file: Path, report: Callable[[str], None], *, timeout: float = TIMEOUT) -> None:
    """Download a URL to a file; a broken connection is retried once and resumed.

    Proxies are those of the environment, as for other programs (HTTPS_PROXY). `report` receives the progress.

    Raises:
        DownloadError: the download failed.

    """
    file.unlink(missing_ok=True)
    words = ""
    for _ in range(TRIES):
        try:
            _go_on(address, file, report, timeout)
        except urllib.error.HTTPError as refused:
            # A retry would get the same status.
            raise DownloadError(f"{address} answers {refused.code} {refused.reason}") from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            words = getattr(reason, "strerror", None) or str(reason) or type(error).__name__
        else:
            return
    raise DownloadError(f"{address}: {words}")


def _go_on(address: str, file: Path, report: Callable[[str], None], timeout: float) -> None:
    there = file.stat().st_size if file.exists() else 0
    request = urllib.request.Request(address, headers={"Range": f"bytes={there}-"} if there else {})  # noqa: S310 - ours
    with urllib.request.urlopen(request, timeout=timeout, context=_trust()) as answer:  # noqa: S310 - ours
        # A server may ignore the range and send the whole file.
        resumed = answer.status == _PARTIAL
        there = there if resumed else 0
        size = answer.headers.get("Content-Length")
        whole = None if size is None else there + int(size)
        with file.open("ab" if resumed else "wb") as target:
            while piece := answer.read(_PIECE):
                target.write(piece)
                there += len(piece)
                of = "" if whole is None else f" of {whole / _MEGABYTE:.1f}"
                report(f"{there / _MEGABYTE:.1f}{of} MB")
    if whole is not None and there < whole:
        raise ConnectionError(f"the connection ended with {(whole - there) / _MEGABYTE:.1f} MB to come")


def _trust() -> ssl.SSLContext:
    """Trust the CAs of this machine, a company's too, and Mozilla's: Python on macOS may have none."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context
