"""What the pages tell people to type is typed: every `sh` block, in its page's order, in a folder of its own
with nothing but `launch`, on one data folder for all pages, so that an environment is made once.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import scrubbed
from tests.docs.pages import ROOT, Block, blocks, pages
from tests.needs import NEEDS

# The suite cannot run itself within itself; that the line works is seen by collecting a part of it.
INSTEAD = {"./launch test": "./launch test -q --collect-only tests/docs/test_links.py"}
TRANSLATED = "README.ko.md"  # has the blocks of README.md, held equal in test_pages.py
TOLD = [block for page in pages() if page != TRANSLATED for block in blocks(page) if block.language == "sh"]
MACHINE = ("DOCKER_HOST", "LAUNCHER_BASE_IMAGE")


def test_the_pages_have_something_to_type() -> None:
    assert {block.page for block in TOLD} >= {"README.md", "docs/settings.md", "docs/trainers.md"}
    assert {need for block in TOLD for need in block.needs} <= NEEDS.keys()


@pytest.fixture(scope="session")
def household(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("docs")
    yield folder
    assert not left_running(folder), "a block left something running"


@pytest.fixture(scope="module")
def desk(household: Path) -> dict[str, Path]:
    """Each page's own folder, made when its first block is met."""
    return {}


def left_running(folder: Path) -> list[int]:
    mark = f"LAUNCHER_HOME={folder / 'launcher'}".encode()
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in environ.read_bytes().split(b"\0"):
                found.append(int(environ.parent.name))
        except OSError:
            continue  # ended meanwhile, or another user's
    return [pid for pid in found if pid != os.getpid()]


def typed(block: Block) -> str:
    lines = [INSTEAD.get(line, line) for line in block.text.splitlines()]
    return "\n".join([block.before, *lines])


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "block", [pytest.param(b, id=b.id, marks=[pytest.mark.need(n) for n in b.needs]) for b in TOLD]
)
def test_a_block_does_what_it_says(block: Block, household: Path, desk: dict[str, Path]) -> None:
    if block.page not in desk:
        desk[block.page] = household / re.sub(r"\W", "-", block.page)
        desk[block.page].mkdir()
        (desk[block.page] / "launch").symlink_to(ROOT / "launch")
    env = scrubbed(household, **{name: os.environ[name] for name in MACHINE if name in os.environ})
    if "docker" in block.needs and "LAUNCHER_BASE_IMAGE" not in env:
        from tests.engines.base import base_image

        env["LAUNCHER_BASE_IMAGE"] = base_image()
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", typed(block)],
        cwd=desk[block.page],
        env={**env, "LAUNCHER_PROG": ""},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=280,
    )
    assert done.returncode == block.status, f"{done.stdout}\n{done.stderr}"


def test_a_block_that_uses_docker_says_so() -> None:
    asks = [b for b in TOLD if re.search(r"\brun\b.*--on docker", b.text)]
    assert asks
    assert [b.id for b in asks if "docker" not in b.needs] == []
