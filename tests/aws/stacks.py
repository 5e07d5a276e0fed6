"""The stacks that the tests of this folder look at, and how several are worked on at once.

A stack takes minutes to come up. Every run brings up one, which has a network, a load balancer, DNS records and a
certificate. The other combinations are marked long: tests/unit/aws checks the resources of each of them.
"""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn, TypeVar

import pytest

from tests.aws.combinations import DEPLOYED, EXAMPLES, Combination
from tests.support.cloud import CloudStack
from tests.support.stack import Ended

T = TypeVar("T")
U = TypeVar("U")
AT_ONCE = 5
"""Stacks that are worked on at a time: each takes half a gigabyte."""
COMBINATIONS: dict[str, Combination] = {**EXAMPLES, **{each.label: each for each in DEPLOYED}}
ALWAYS = "production"
"""The stack that is brought up in every run."""


def each_of(names: Iterable[str]) -> pytest.MarkDecorator:
    """Run a test with each of these stacks as `name`: in every run with one, in a long one with the others."""
    long = pytest.mark.long
    return pytest.mark.parametrize("name", [pytest.param(each, marks=() if each == ALWAYS else long) for each in names])


ONE_OF_EACH = each_of(COMBINATIONS)


def asked_of(request: pytest.FixtureRequest) -> list[Mapping[str, Any]]:
    """Return the parameters of each test that uses a fixture and is to run."""
    return [
        item.callspec.params
        for item in request.session.items
        if isinstance(item, pytest.Function) and request.fixturename in item.fixturenames
    ]


class ByName(dict[str, T]):
    """Something of each stack; what is asked of one that did not come up fails, and says so in one line."""

    def __missing__(self, name: str) -> NoReturn:
        pytest.fail(f"{name} did not come up; test_it_comes_up says why")


class Stacks(ByName[CloudStack]):
    """All of them that came up."""

    ended: dict[str, Ended]
    """How the update ended of each that was to come up."""

    def __init__(self, expected: Mapping[str, CloudStack]) -> None:
        """Bring them up."""
        super().__init__(expected)
        self.ended = self.each(CloudStack.up)
        for name, ended in self.ended.items():
            if ended.code:
                del self[name]

    def each(self, action: Callable[[CloudStack], U]) -> ByName[U]:
        """Do something with all of them, several at a time: they mostly wait."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return ByName(zip(self, pool.map(action, self.values()), strict=True))
