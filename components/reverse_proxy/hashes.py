"""Sizes of Nginx's hash tables, computed from the names in them, so that no setting can overflow one.

Nginx refuses a table whose longest name does not fit into a bucket, and warns if no number of buckets up to the maximum
spreads the names (src/core/ngx_hash.c: ngx_hash_init). The default bucket size is a cache line of the processor for
some tables and 64 for others. `types_hash` and the tables without a directive only hold names of this program.
"""

from collections.abc import Collection
from typing import NamedTuple

_POINTER = 8
"""Bytes of a pointer on 64-bit systems."""
_LENGTH_AND_END = 2
"""Bytes that a bucket needs per name in addition to it (NGX_HASH_ELT_SIZE)."""
_LONGEST_IN_A_BUCKET = 4
_BUCKETS_FOR_A_NAME = 16


class HashSize(NamedTuple):
    """The directives of one table."""

    bucket_size: int
    """Bytes."""
    max_size: int
    """Buckets, at most."""


def hash_size(names: Collection[str], *, least: HashSize) -> HashSize:
    """Return sizes that hold all `names`, several of the longest in a bucket.

    Args:
        names: names from the settings.
        least: enough for the names of Nginx and the templates.

    """
    longest = max((len(name.encode()) for name in names), default=0)
    aligned = -(-(longest + _LENGTH_AND_END) // _POINTER) * _POINTER
    element = _POINTER + aligned
    return HashSize(
        max(least.bucket_size, _power_of_two(_LONGEST_IN_A_BUCKET * element + _POINTER)),
        max(least.max_size, _power_of_two(_BUCKETS_FOR_A_NAME * len(names))),
    )


def _power_of_two(least: int) -> int:
    return 1 << (least - 1).bit_length()
