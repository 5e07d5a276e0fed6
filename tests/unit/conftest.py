"""Unit tests: pure functions, and the resource graph under Pulumi's mocks. No socket can be opened here."""

import pytest
from pytest_socket import disable_socket


@pytest.fixture(autouse=True)
def _no_sockets() -> None:
    # An event loop talks to itself over a socket pair.
    disable_socket(allow_unix_socket=True)
