"""The documentation's site needs nothing from other servers."""

import pytest

from open_webui_edge.cli.docs_site import loaded_from_elsewhere


@pytest.mark.parametrize(
    "element",
    [
        '<script async src="https://unpkg.com/mermaid.js"',
        '<link rel="stylesheet" href="//fonts.googleapis.com/css?family=Roboto"',
        "<img alt=badge src=http://img.shields.io/badge.svg",
    ],
)
def test_what_a_page_loads_from_another_server_is_found(element: str) -> None:
    assert loaded_from_elsewhere(f"<p>{element}></p>") == [element.rstrip('"')]


def test_own_files_and_links_for_people_are_fine() -> None:
    page = '<script src="assets/bundle.js"></script><a href="https://restic.net">restic</a><img src="images/chat.png">'
    assert loaded_from_elsewhere(page) == []
