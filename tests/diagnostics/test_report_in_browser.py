"""The report as a person sees it: Chromium looks at the page of a deployment that is broken."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from open_webui_edge.benchmarks.browser import chromium
from open_webui_edge.diagnostics import outside
from open_webui_edge.diagnostics.question import diagnose
from open_webui_edge.diagnostics.report import page as written
from tests.diagnostics.house import House
from tests.support.browser import ARTEFACTS

LIGHT: Literal["light"] = "light"
DARK: Literal["dark"] = "dark"
Scheme = Literal["light", "dark"]
# What a person can tell apart (WCAG 2.2, 1.4.3): text from what is behind it.
CONTRAST = 4.5


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium."""
    with sync_playwright() as playwright, chromium(playwright, ca_file=None) as made:
        yield made


@pytest.fixture(scope="module")
def file(house: House, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report about a proxy that drops the Upgrade header."""
    broken = next(each for each in house.deployments if each.name == "upgrade-stripped")
    made = tmp_path_factory.mktemp("report") / "doctor.html"
    made.write_text(written(diagnose(house.subject(broken), outside.QUESTIONS)), encoding="utf-8")
    return made


def seen(browser: Browser, file: Path, scheme: Scheme, *, width: int = 1280) -> tuple[Page, list[str]]:
    """Open it, and return what the browser complains of or asks for elsewhere."""
    complaints: list[str] = []
    opened = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 900})
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("request", lambda request: complaints.extend([] if request.url.startswith("file:") else [request.url]))
    opened.goto(file.as_uri())
    return opened, complaints


@pytest.mark.parametrize("scheme", [LIGHT, DARK])
def test_failing_hop_is_seen_at_a_glance(browser: Browser, file: Path, scheme: Scheme) -> None:
    opened, complaints = seen(browser, file, scheme)
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    opened.screenshot(path=ARTEFACTS / f"doctor-report-{scheme}.png", full_page=True)
    failing = opened.locator("svg g.failure")
    assert failing.count() == 1
    assert failing.locator("text").all_text_contents() == ["proxy", "\N{BALLOT X} fails"]
    assert failing.bounding_box() is not None
    assert opened.locator("article").first.inner_text().startswith("FAILURE")
    assert "websocket.upgrade" in opened.locator("article").first.inner_text()
    assert not complaints


@pytest.mark.parametrize("scheme", [LIGHT, DARK])
def test_every_word_can_be_read(browser: Browser, file: Path, scheme: Scheme) -> None:
    opened, _ = seen(browser, file, scheme)
    opened.locator("summary").click()
    poor = opened.evaluate(_POOR_CONTRAST, CONTRAST)
    assert poor == []


def test_page_fits_a_phone(browser: Browser, file: Path) -> None:
    opened, _ = seen(browser, file, LIGHT, width=390)
    opened.screenshot(path=ARTEFACTS / "doctor-report-phone.png", full_page=True)
    assert opened.evaluate("document.documentElement.scrollWidth") <= 390


_POOR_CONTRAST = """(least) => {
  const light = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map((each) => {
      const part = each / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const seen = (colour) => colour && colour !== "none" && !/, 0\\)$/.test(colour);
  const behind = (element) => {
    const box = element.ownerSVGElement && element.parentNode.querySelector("rect");
    if (box && seen(getComputedStyle(box).fill)) return getComputedStyle(box).fill;
    for (let each = element; each; each = each.parentElement) {
      const colour = getComputedStyle(each).backgroundColor;
      if (seen(colour)) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const poor = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || element.tagName === "title") continue;
    const style = getComputedStyle(element);
    const [one, other] = [light(element.ownerSVGElement ? style.fill : style.color), light(behind(element))];
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (contrast < least) poor.push(`${element.textContent.trim().slice(0, 40)}: ${contrast.toFixed(2)}`);
  }
  return poor;
}"""
