"""Every place a page points to exists: files, headings, functions; and no page leads out of the project by
accident.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.docs.pages import LINK, ROOT, anchors, pages, prose

OUTSIDE = ("https://github.com/skypilot-org/skypilot", "https://github.com/dstackai/dstack")
NAMED = re.compile(r"`((?:[\w.-]+/)*[\w.-]+\.(?:py|sh|yaml|json|toml|md|svg|txt))(?::([A-Za-z_][\w.]*))?`")
FOLDERS = ("launcher", "trainers", "tests", "docs", "bench", "images", "profiles", ".ci")


@pytest.mark.parametrize("page", pages())
def test_links_lead_somewhere(page: str) -> None:
    lost = []
    for link in LINK.findall(prose(page)):
        place, _, anchor = link.partition("#")
        if "://" in link:
            if link not in OUTSIDE:
                lost.append(f"{link}: not on the list of addresses outside")
            continue
        target = (ROOT / page).parent / place if place else ROOT / page
        if not target.exists():
            lost.append(f"{link}: no such file")
        elif anchor and anchor not in anchors(str(target.resolve().relative_to(ROOT))):
            lost.append(f"{link}: no such heading")
    assert lost == []


@pytest.mark.parametrize("page", pages())
def test_named_code_is_there(page: str) -> None:
    """`launcher/engine.py` and `launcher/engine.py:drive` are held against the tree."""
    lost = []
    for path, name in NAMED.findall(prose(page)):
        if path.split("/")[0] not in FOLDERS:
            continue
        if not (ROOT / path).exists():
            lost.append(path)
        elif name and name not in _names(ROOT / path):
            lost.append(f"{path}:{name}")
    assert lost == []


def _names(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {
                f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)
            }
        if isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return found


def test_errors_of_the_command_line_link_to_a_page_that_exists() -> None:
    from launcher.cli import show

    assert (ROOT / show.DOCS).is_file()
