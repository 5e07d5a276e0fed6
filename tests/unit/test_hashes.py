"""Hash tables of Nginx, built as Nginx builds them, on processors with other lines of cache than this one's."""

import itertools

import pytest

from open_webui_edge.components.reverse_proxy.hashes import HashSize, hash_size

LEAST = HashSize(128, 2048)
CACHE_LINES = [32, 64, 128]
_BITS = {4: 32, 8: 64}


def complaint(names: list[str], size: HashSize, cache_line: int, pointer: int) -> str | None:
    """Return what Nginx says to such a table (src/core/ngx_hash.c, ngx_hash_init); None where it builds it."""
    largest = -(-size.bucket_size // cache_line) * cache_line
    elements = [pointer + -(-(len(name) + 2) // pointer) * pointer for name in names]
    if largest > 65536 - cache_line:
        return "too large bucket_size"
    if max(elements, default=0) + pointer > largest:
        return "increase bucket_size"
    room = largest - pointer
    keys = [_key(name, _BITS[pointer]) for name in names]
    first = max(len(names) // (room // (2 * pointer)), 1)
    if size.max_size > 10_000 and names and size.max_size // len(names) < 100:
        first = size.max_size - 1000
    for buckets in range(first, size.max_size + 1):
        filled: dict[int, int] = {}
        for key, element in zip(keys, elements, strict=True):
            filled[key % buckets] = filled.get(key % buckets, 0) + element
            if filled[key % buckets] > room:
                break
        else:
            return None
    return "not optimal"


def _key(name: str, bits: int) -> int:
    key = 0
    for byte in name.lower().encode():
        key = (key * 31 + byte) % (1 << bits)
    return key


NAMES = {
    "none": [],
    "one of the longest": ["a" * 255],
    "300 of the longest": [f"{number:063d}." + "b" * 190 for number in range(300)],
    "5000 of 50": [f"identity_x_{number:039d}" for number in range(5000)],
    "one long among short ones": [*map(str, range(200)), "x" * 137],
}


@pytest.mark.parametrize(("cache_line", "pointer"), [*itertools.product(CACHE_LINES, _BITS)])
@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_any_names_fit_on_any_processor(names: list[str], cache_line: int, pointer: int) -> None:
    assert complaint(names, hash_size(names, least=LEAST), cache_line, pointer) is None


@pytest.mark.parametrize("cache_line", CACHE_LINES)
def test_nginx_would_refuse_the_sizes_that_were_there(cache_line: int) -> None:
    # A header's name of 118 characters in 128 bytes, a variable's of 50 in 64, and many names of the site in 512.
    assert complaint(["x" * 118], HashSize(128, 2048), cache_line, 8) == "increase bucket_size"
    assert complaint(["x" * 50], HashSize(64, 2048), min(cache_line, 64), 8) == "increase bucket_size"
    assert complaint(NAMES["300 of the longest"], HashSize(512, 300), cache_line, 8) == "not optimal"


def test_names_that_fit_change_nothing() -> None:
    assert hash_size(["localhost"], least=LEAST) == LEAST
