"""Pages that are made from the source are what the source makes; both languages say the same; the picture
needs nobody else.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from tests.docs import generated, picture
from tests.docs.pages import ROOT, blocks, read
from tests.laws import texts


@pytest.mark.parametrize("name", generated.PAGES)
def test_made_pages_are_up_to_date(name: str) -> None:
    made = generated.PAGES[name]()
    assert (ROOT / "docs" / name).read_text() == made, "run: python -m tests.docs.generated"


def test_statuses_are_all_told() -> None:
    from launcher.errors import Exit

    assert set(generated.STATUSES) == set(Exit)
    told = re.findall(r"(?:^|· |\n)(\d+) ", read("README.md").split("## Exit statuses")[1].split("##")[0])
    assert {int(status) for status in told} == {int(status) for status in Exit}


def test_the_korean_page_tells_the_same_commands() -> None:
    ours, theirs = list(blocks("README.md")), list(blocks("README.ko.md"))
    assert [(b.language, b.text, b.needs) for b in ours] == [(b.language, b.text, b.needs) for b in theirs]


def test_the_korean_page_has_the_same_parts_and_links() -> None:
    parts = [len(re.findall(r"^#+ ", read(page), re.MULTILINE)) for page in ("README.md", "README.ko.md")]
    assert parts[0] == parts[1]
    links = [sorted(re.findall(r"\]\(([^)]+)\)", read(page))) for page in ("README.md", "README.ko.md")]
    assert [x for x in links[0] if x != "README.ko.md"] == [x for x in links[1] if x != "README.md"]


def test_the_picture_is_whole_and_asks_nobody() -> None:
    text = picture.PICTURE.read_text()
    root = ET.fromstring(text)
    assert root.tag.endswith("svg")
    assert re.findall(r"https?://[^\"]*", text) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"href|url\(|<script|<image|font-face|@import", text)
    said = "".join(root.itertext())
    for words in ("./launch run", "device   ", "cost     $0.00", "models/", "nothing runs, nothing bills"):
        assert words in said


def test_the_picture_is_drawn_as_the_terminal_showed_it() -> None:
    rows = (
        "a · step 1 · x\r\x1b[Jline <1>",
        "a · step 2 · y\r\x1b[Jbest round 1",
        "\x1b[1;32mdone\x1b[0m",
        "",
    )
    said = "\r\n".join(rows)
    screen = picture.lines(said)
    assert screen == ["line <1>", "best round 1", "\x1b[ma · step 2 · y", "\x1b[1;32mdone\x1b[0m"]
    assert picture.spans(screen[-1]) == [(picture.GREEN, "done")]
    assert picture.spans(screen[2]) == [(picture.METER, "a · step 2 · y")]
    assert "line &lt;1&gt;" in picture.svg(screen)


def test_pages_speak_of_the_project_alone() -> None:
    found = {page: read(page) for page in ("README.md", "README.ko.md")}
    found |= {str(p.relative_to(ROOT)): p.read_text() for p in (ROOT / "docs").rglob("*") if p.is_file()}
    assert {law: list(texts.breaches(pattern, found)) for law, pattern in texts.LAWS.items()} == {
        law: [] for law in texts.LAWS
    }
