"""Waiting for a condition instead of sleeping."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(
    condition: Callable[[], T],
    *,
    what: str,
    deadline: float = 30,
    every: float = 0.1,
    ignoring: tuple[type[Exception], ...] = (),
) -> T:
    """Call `condition` until it answers something true, and return that.

    `deadline` and `every` are seconds. An exception of a type in `ignoring` counts as "not yet"; any other passes
    through. Raises TimeoutError that says what was awaited and what the last try came to.
    """
    give_up_at = time.monotonic() + deadline
    while True:
        try:
            answer = condition()
            if answer:
                return answer
            last = repr(answer)
        except ignoring as error:
            last = repr(error)
        if time.monotonic() + every > give_up_at:
            raise TimeoutError(f"waited {deadline:g} s for {what}; the last try came to {last}")
        time.sleep(every)
