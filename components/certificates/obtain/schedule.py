"""When to ask next."""

import random
from collections.abc import Sequence
from datetime import datetime, timedelta

from .settings import Timing


def next_check(not_before: datetime, not_after: datetime, timing: Timing) -> timedelta:
    """Return how long to wait until certbot is asked again whether it is time to renew.

    Certbot decides, by what the issuer advises (ARI) or by its own rule; asked often enough, it is early.
    """
    fitting = (not_after - not_before).total_seconds() / timing.checks_per_lifetime
    return spread(min(max(fitting, timing.shortest_check), timing.longest_check), timing)


def back_off(failures: int, first_and_longest: Sequence[float], timing: Timing) -> timedelta:
    """Return how long to wait after so many failures in a row, each time twice as long."""
    first, longest = first_and_longest
    # Two to the thousandth is no number of seconds.
    return spread(min(first * 2.0 ** min(failures - 1, 60), longest), timing)


def spread(seconds: float, timing: Timing) -> timedelta:
    """Vary a time a little."""
    return timedelta(seconds=seconds * random.uniform(1 - timing.jitter, 1 + timing.jitter))  # noqa: S311 - no secret
