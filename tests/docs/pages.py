"""Reading our own pages: blocks, links, headings and the names of code in them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOTE = re.compile(r"<!-- (\w+): (.*?) -->\n", re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    page: str
    number: int
    language: str
    text: str
    needs: tuple[str, ...] = ()
    before: str = ""  # what a reader has already, and the test makes first
    status: int = 0  # of the block's last command

    @property
    def id(self) -> str:
        return f"{self.page}:{self.number}"


def pages() -> list[str]:
    """Every page that git keeps, or would keep once added, of the project's own folder and of docs/."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    return sorted(name for name in listed if "/" not in name or name.startswith("docs/"))


def read(page: str) -> str:
    return (ROOT / page).read_text()


def blocks(page: str) -> Iterator[Block]:
    """Fenced blocks with the notes that stand directly above them."""
    text = read(page)
    for number, fence in enumerate(FENCE.finditer(text), 1):
        notes = dict(_notes_above(text[: fence.start()]))
        needs = tuple(filter(None, notes.get("needs", "").replace(" ", "").split(",")))
        status = int(notes.get("status", 0))
        yield Block(page, number, fence[1], fence[2], needs, notes.get("before", ""), status)


def _notes_above(text: str) -> Iterator[tuple[str, str]]:
    while (found := list(NOTE.finditer(text))) and found[-1].end() == len(text):
        yield found[-1][1], found[-1][2]
        text = text[: found[-1].start()]


def prose(page: str) -> str:
    """Without fenced blocks: what looks like a link in code is none."""
    return FENCE.sub("", read(page))


def anchors(page: str) -> set[str]:
    """As the usual renderers make them from headings."""
    found: dict[str, int] = {}
    for heading in HEADING.findall(prose(page)):
        bare = re.sub(r"[`*]|\[|\]\([^)]*\)", "", heading).strip().lower()
        name = re.sub(r"[^\w\- ]", "", bare).replace(" ", "-")
        found[name] = found.get(name, 0) + 1
    return {f"{n}-{i}" if i else n for n, count in found.items() for i in range(count)}
