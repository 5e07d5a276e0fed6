"""The stacks that the tests of this folder look at, and how several are worked on at once."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn, TypeVar

import pytest

from tests.aws.combinations import BROUGHT_UP, EXAMPLES, Combination
from tests.support.cloud import CloudStack
from tests.support.stack import Ended

T = TypeVar("T")
U = TypeVar("U")
AT_ONCE = 5
"""Stacks that are worked on at a time: each takes half a gigabyte."""
WANTED: dict[str, Combination] = {**EXAMPLES, **{each.label: each for each in BROUGHT_UP}}
ONE_OF_EACH = pytest.mark.parametrize("name", WANTED)


class ByName(dict[str, T]):
    """Something of each stack; what is asked of one that did not come up fails, and says so in one line."""

    def __missing__(self, name: str) -> NoReturn:
        pytest.fail(f"{name} did not come up; test_it_comes_up says why")


class Stacks(ByName[CloudStack]):
    """All of them that came up."""

    ended: dict[str, Ended]
    """How the update ended of each that was to come up."""

    def __init__(self, wanted: Mapping[str, CloudStack]) -> None:
        """Bring them up."""
        super().__init__(wanted)
        self.ended = self.each(CloudStack.up)
        for name, ended in self.ended.items():
            if ended.code:
                del self[name]

    def each(self, action: Callable[[CloudStack], U]) -> ByName[U]:
        """Do something with all of them, several at a time: they mostly wait."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return ByName(zip(self, pool.map(action, self.values()), strict=True))
