"""The environment's proxies: loopback goes past them, whichever spelling a program reads."""

import pytest

from open_webui_edge.bootstrap import proxies

_LOOPBACK = "localhost,127.0.0.1,::1"


@pytest.mark.parametrize(
    "variable", ["http_proxy", "https_proxy", "grpc_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"]
)
def test_loopback_goes_past_every_proxy_in_both_spellings(variable: str) -> None:
    assert proxies.exceptions({variable: "http://proxy:3128"}) == {"no_proxy": _LOOPBACK, "NO_PROXY": _LOOPBACK}


def test_without_a_proxy_nothing_is_set() -> None:
    assert proxies.exceptions({"http_proxy": "", "NO_PROXY": "intranet.example.com"}) == {}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"NO_PROXY": ".example.com"}, dict.fromkeys(("no_proxy", "NO_PROXY"), f".example.com,{_LOOPBACK}")),
        (
            {"no_proxy": "a.example.com, 127.0.0.1", "NO_PROXY": "b.example.com"},
            {"no_proxy": "a.example.com,127.0.0.1,localhost,::1", "NO_PROXY": f"b.example.com,{_LOOPBACK}"},
        ),
        ({"no_proxy": "*"}, {"no_proxy": "*", "NO_PROXY": "*"}),
    ],
    ids=["one spelling is copied to the other", "two that differ stay so", "no proxy at all"],
)
def test_exceptions_of_the_user_stay(given: dict[str, str], expected: dict[str, str]) -> None:
    made = proxies.exceptions({"http_proxy": "http://proxy:3128", **given})
    assert made == expected
    assert proxies.exceptions({"http_proxy": "http://proxy:3128", **made}) == made
