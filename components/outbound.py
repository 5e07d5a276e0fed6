"""Outbound connections of a container: a proxy, and CAs to trust in addition to the public ones."""

from collections.abc import Mapping
from typing import NotRequired, TypedDict

import pulumi

from open_webui_edge.settings.outbound import AUTHORITIES_FILE, PROXY_FILE, lines_of


class OutboundArgs(TypedDict):
    """What a container needs for its outbound connections. Left out: the network leads to the internet."""

    environment: NotRequired[pulumi.Input[Mapping[str, str]]]
    """Variables that name the proxy; secret, since they may hold its password."""
    certificate_authorities: NotRequired[pulumi.Input[str]]
    """PEM."""


def files_of(args: OutboundArgs) -> dict[str, pulumi.Input[str]]:
    """Return the files that a shell reads before it starts a program in Go: name -> content."""
    files: dict[str, pulumi.Input[str]] = {}
    if "environment" in args:
        files[PROXY_FILE] = pulumi.Output.secret(args["environment"]).apply(lines_of)
    if "certificate_authorities" in args:
        files[AUTHORITIES_FILE] = args["certificate_authorities"]
    return files
