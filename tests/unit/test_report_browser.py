"""The page about a version as a real browser shows it, with nobody to ask and nothing allowed to run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.report import page
from tests.unit.browser import Browser, chromium
from tests.unit.report_bench import HOSTILE, Made

pytestmark = pytest.mark.need("chromium")

# Charts whose lines take up room on the screen.
DRAWN = """[...document.querySelectorAll('figure.chart')].filter(figure => {
  const box = figure.querySelector('svg').getBoundingClientRect();
  return box.width > 300 && box.height > 60 && [...figure.querySelectorAll('svg .line')].some(
    line => line.getTotalLength() > 50 && getComputedStyle(line).stroke.startsWith('rgb'));
}).map(figure => figure.querySelector('svg').getAttribute('aria-label'))"""
OUTSIDE = """[...document.querySelectorAll('svg text')].filter(label => {
  const box = label.getBBox(), frame = label.ownerSVGElement.viewBox.baseVal;
  return box.x < 0 || box.y < 0 || box.x + box.width > frame.width || box.y + box.height > frame.height;
}).map(label => label.textContent)"""
PAPER = "getComputedStyle(document.body).backgroundColor"
INK = "getComputedStyle(document.querySelector('h1')).color"
LINE = "getComputedStyle(document.querySelector('.line')).stroke"


@pytest.fixture
def shown(tmp_path: Path) -> Iterator[tuple[Browser, Path]]:
    version = Made(tmp_path, {"settings": {"note": HOSTILE}}, log=HOSTILE.encode()).write()
    file = page.save(version, None, None, tmp_path)
    with chromium(tmp_path) as browser:
        browser.open(file)
        yield browser, file


def test_a_browser_shows_the_charts_and_asks_nobody(shown: tuple[Browser, Path]) -> None:
    browser, file = shown
    assert browser.value(DRAWN) == ["loss", "auc", "GPU busy", "GPU memory", "CPU busy", "Memory", "Cost"]
    assert browser.value(OUTSIDE) == []
    asked = [sent["request"]["url"] for sent in browser.said("Network.requestWillBeSent")]
    assert asked == [file.as_uri()]
    assert browser.said("Log.entryAdded") == []  # where a breach of the policy would stand
    assert browser.said("Page.javascriptDialogOpening") == []
    assert HOSTILE in browser.value("document.querySelector('pre').textContent")
    assert browser.value("document.images.length + document.scripts.length") == 0


def test_what_would_run_or_fetch_is_stopped_by_the_policy_too(tmp_path: Path) -> None:
    """Should a word ever slip through unescaped, the page's own policy is the second wall."""
    version = Made(tmp_path).write()
    file = page.save(version, None, None, tmp_path)
    slipped = '<script>document.title = "ran"</script><img src="file:///x.png" onerror="document.title = 1">'
    file.write_text(file.read_text().replace("<pre>", slipped + "<pre>"))
    with chromium(tmp_path) as browser:
        browser.open(file)
        assert browser.value("document.title") == version.name
        assert len(browser.said("Log.entryAdded")) >= 2


def test_light_and_dark_are_the_readers_choice(shown: tuple[Browser, Path]) -> None:
    browser, _ = shown
    seen = {}
    for wish in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": wish}
        browser.ask("Emulation.setEmulatedMedia", features=[feature])
        seen[wish] = [sum(_rgb(browser.value(what))) for what in (PAPER, INK, LINE)]
    (light_paper, light_ink, light_line), (dark_paper, dark_ink, dark_line) = seen["light"], seen["dark"]
    assert light_paper - light_ink > 500 and dark_ink - dark_paper > 500
    assert light_line < dark_line


def test_a_narrow_window_shows_everything_without_sliding(shown: tuple[Browser, Path]) -> None:
    browser, _ = shown
    size = {"width": 380, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.ask("Emulation.setDeviceMetricsOverride", **size)
    assert browser.value("document.documentElement.scrollWidth") <= 380


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(","))
