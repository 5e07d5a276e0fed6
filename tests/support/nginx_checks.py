"""Reads in an nginx.conf which ways lead to Open WebUI, and which checks each of them makes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import crossplane

Block = list[dict[str, Any]]

HEALTH = {"/health", "/health/db", "/ready"}
"""Paths that anybody may ask."""
QUESTION = "/_edge/known"
"""The question of who sends a large body, which is no check of a request without one."""
_STRANGERS = "@body_of_stranger"
"""Where its no leads to, once all other checks were made."""
_APPLICATION = "http://open_webui"
_CHECKS = {
    *("auth_request", "auth_basic", "allow", "deny", "satisfy", "limit_except", "limit_conn", "limit_req", "if"),
    *("internal", "error_log", "proxy_method", "ssl_verify_client"),
}
"""What a location may check, or must observe, that another one in its place would not."""


def parsed(text: str, directory: Path) -> Block:
    """Read an nginx.conf back as Nginx would."""
    file = directory / "nginx.conf"
    file.write_text(text)
    payload = crossplane.parse(str(file), single=True, catch_errors=False, check_ctx=False)
    assert payload["status"] == "ok", payload["errors"]
    return payload["config"][0]["parsed"]


def within(block: Block, *names: str) -> Iterator[dict[str, Any]]:
    """Walk to the directives at the end of a path of names, such as http, server."""
    for directive in block:
        if directive["directive"] == names[0]:
            if len(names) == 1:
                yield directive
            else:
                yield from within(directive["block"], *names[1:])


def unchecked_ways(configuration: Block) -> list[str]:
    """Return each way to Open WebUI on which a check is left out, in a sentence."""
    return [
        fault
        for server in within(configuration, "http", "server")
        for fault in _of_server(server["block"], configuration)
    ]


def _of_server(server: Block, configuration: Block) -> Iterator[str]:
    locations = {location["args"][-1]: location["block"] for location in within(server, "location")}
    asked = {uri for block in (server, *locations.values()) for uri in _values(block, "auth_request")} - {"off"}
    ways_on = {way for block in locations.values() for way in _ways_on(block)}
    retries = (
        {name for name, block in locations.items() if name.startswith("@") and _passes_on(block)}
        - ways_on
        - {_STRANGERS}
    )
    for name, block in locations.items():
        pages = {page["args"][-1] for page in within(block, "error_page")} | {*_last(block, "try_files")}
        yield from (f"location {name} leads to {way} without a question" for way in pages & ways_on - _ways_on(block))
    guarded = any(uri != "off" for uri in _values(server, "auth_request"))
    # An authenticator's yes suffices.
    asked_at = set[str]() if guarded else {QUESTION}
    for name, block in locations.items():
        takes_large_bodies = any(within(block, "client_max_body_size")) or any(within(block, "proxy_request_buffering"))
        if (
            name != QUESTION
            and _passes_on(block)
            and takes_large_bodies
            and {*_values(block, "auth_request")} != asked_at
        ):
            yield f"location {name} takes large bodies and does not ask who sends them"
        if guarded and _passes_on(block) and name not in HEALTH and "off" in _values(block, "auth_request"):
            yield f"location {name} passes requests on and asks no authenticator"
        if name in retries:
            yield from (f"location {name} has {check} of its own" for check in sorted(_own_checks(block)))
            continue
        reached = _pages(block, server, retries)
        if name in asked and reached:
            yield f"a question to the authenticator at {name} that fails leads to {', '.join(sorted(reached))}"
        elif reached and _may_be_repeated(block):
            spared = {"limit_except", "proxy_method"} if name in HEALTH and not guarded else set[str]()
            left_out = _own_checks(block) - spared
            yield from (f"location {name} has {check}, and leads where it is not made" for check in sorted(left_out))
    if retries:
        yield from _careless_maps(configuration, retries)


def _ways_on(block: Block) -> set[str]:
    """Return where a location that asks for the user leads to after the answer: for a known one, and for others."""
    if not {*_values(block, "auth_request")} - {"off"}:
        return set()
    others = (page["args"] for page in within(block, "error_page"))
    return {*_last(block, "try_files"), *(target for status, *_, target in others if status == "401")}


def _last(block: Block, name: str) -> list[str]:
    return [directive["args"][-1] for directive in within(block, name)]


def _pages(block: Block, server: Block, retries: set[str]) -> set[str]:
    """Return which of the locations that pass requests on an error of this one may lead to."""
    pages = {page["args"][-1] for page in list(within(block, "error_page")) or within(server, "error_page")}
    # What a variable leads to is not in the text.
    return retries if any("$" in page and not page.endswith("_$kind") for page in pages) else pages & retries


def _careless_maps(configuration: Block, retries: set[str]) -> Iterator[str]:
    """Say which map leads to a second try from a location that does not allow it."""
    names = {name.removeprefix("@") for name in retries}
    leading = [
        (one["args"], entry["directive"])
        for one in within(configuration, "http", "map")
        for entry in one["block"]
        if entry["args"][:1] and entry["args"][0] in names
    ]
    if not leading:
        yield f"no map leads to {', '.join(sorted(retries))}"
    for (key, variable), pattern in leading:
        if not key.startswith("$repeatable:") or not pattern.startswith("~^(?:yes:"):
            yield f"map {variable} leads to a second try whatever a location allows"
        if not key.endswith(":$uri") or not pattern.endswith("(?!_edge/)"):
            yield f"map {variable} leads to a second try in place of a question to the authenticator"


def _passes_on(block: Block) -> bool:
    return any(value.startswith(_APPLICATION) for value in _values(block, "proxy_pass"))


def _own_checks(block: Block) -> set[str]:
    return {directive["directive"] for directive in block if directive["args"][:1] != [QUESTION]} & _CHECKS


def _may_be_repeated(block: Block) -> bool:
    return any(directive["args"][0] == "$repeatable" for directive in within(block, "set"))


def _values(block: Block, name: str) -> list[str]:
    return [directive["args"][0] for directive in within(block, name)]
