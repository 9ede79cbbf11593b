"""What a host holds comes home whatever it is called: each under a name of its own that can be kept here."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.agent.names import NAME_BYTES
from launcher.artifacts import as_kept
from launcher.remote.base import Listed
from launcher.remote.fetching import name_fault


def kept(*paths: str) -> list[str]:
    return [f.path for f in as_kept(Listed(path, 1, "0" * 64) for path in paths)]


@pytest.mark.parametrize(
    ("there", "here"),
    [
        (["plain", "한글/x y", "100%"], ["plain", "한글/x y", "100%"]),
        (["manifest.json", ".launcher/x"], ["manifest.json", ".launcher/x"]),  # it will be no version
        (["caf\udce9"], ["caf%E9"]),
        (["a\nb/c\nd"], ["a%0Ab/c%0Ad"]),
        (["a\x01", "a%01"], ["a%01%2", "a%01"]),  # who may be called so is called so
        (["a\x01/x", "a%01", "a%01%2"], ["a%01%3/x", "a%01", "a%01%2"]),
        (["a\x01/x", "b/a\x01"], ["a%01/x", "b/a%01"]),
    ],
)
def test_mostly_as_it_is(there: list[str], here: list[str]) -> None:
    assert kept(*there) == here


def test_where_it_lies_and_what_is_in_it_stays() -> None:
    assert as_kept([Listed("a\nb", 7, "1" * 64)]) == (Listed("a%0Ab", 7, "1" * 64, source="a\nb"),)


@pytest.mark.parametrize("letter", ["a", "한"])
def test_long_names_stay_apart_and_no_longer_than_a_name_may_be(letter: str) -> None:
    stem = letter * (230 // len(letter.encode()))
    odd = [f"{stem}\x01{end}" for end in ("x" * 15, "y" * 15)]  # longer yet once they are written anew
    fresh = kept(*odd)
    again = kept(*odd, *fresh)
    assert len(set(again)) == 4 and again[2:] == fresh
    assert all(len(name.encode()) <= NAME_BYTES for name in again)


PART = st.binary(min_size=1, max_size=3).filter(lambda b: not {0, 47} & set(b) and b not in (b".", b".."))
TREES = st.recursive(st.none(), lambda below: st.dictionaries(PART, below, max_size=4), max_leaves=12)


def files(tree: Any, at: bytes = b"") -> list[str]:
    if tree is None:
        return [at.decode("utf-8", "surrogateescape")]
    return [f for name, below in tree.items() for f in files(below, at + b"/" + name if at else name)]


@given(st.dictionaries(PART, TREES, min_size=1, max_size=6))
def test_any_tree_keeps_its_files_and_its_folders(tree: dict[bytes, Any]) -> None:
    there = files(tree)
    here = kept(*there)
    assert len(set(here)) == len(there)
    assert [name_fault(path) for path in here] == [None] * len(here)
    parents = [[tuple(path.split("/")[:n]) for n in range(1, path.count("/") + 1)] for path in here]
    assert not {tuple(path.split("/")) for path in here} & {one for some in parents for one in some}
    raw = [[tuple(path.split("/")[:n]) for n in range(1, path.count("/") + 1)] for path in there]
    called = {
        one: other
        for some, those in zip(raw, parents, strict=True)
        for one, other in zip(some, those, strict=True)
    }
    assert len(called) == len({other for some in parents for other in some}) == len(set(called.values()))
