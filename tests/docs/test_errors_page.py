"""docs/errors.md has every code that the source can give, with its status, and no other."""

from __future__ import annotations

import re
from itertools import groupby

import pytest

from tests.docs import codes
from tests.docs.pages import read

PAGE = "docs/errors.md"
ENTRY = re.compile(r"^### ([a-z-]+)\n(.*?)(?=^#|\Z)", re.MULTILINE | re.DOTALL)
STATUS = re.compile(r"\*\*Status ([\d, or]+)\.?\*\*")
KNOWN_FORWARDERS = {
    "launcher/cli/ending.py: code",
    "launcher/errors.py: code",
    "launcher/runtimes.py: e.code",
}


def entries() -> dict[str, str]:
    return dict(ENTRY.findall(read(PAGE)))


def statuses(text: str) -> set[int]:
    said = STATUS.search(text)
    return {int(number) for number in re.findall(r"\d+", said[1])} if said else set()


def row_codes(heading: str) -> set[str]:
    section = read(PAGE).split(f"## {heading}\n")[1].split("\n## ")[0]
    return set(re.findall(r"^\| `([a-z-]+)` \|", section, re.MULTILINE))


def test_the_page_and_the_source_know_the_same_codes() -> None:
    raised = {one.code for one in codes.errors()}
    assert len(raised) > 40
    assert raised == set(entries())


def test_no_code_stands_twice() -> None:
    found = [code for code, _ in ENTRY.findall(read(PAGE))]
    assert sorted(found) == sorted(set(found))


def test_a_code_that_is_passed_on_comes_from_a_place_that_is_read() -> None:
    assert set(codes.forwarded()) == KNOWN_FORWARDERS


@pytest.mark.parametrize("code", sorted({one.code for one in codes.errors()}))
def test_the_status_is_the_one_of_the_source(code: str) -> None:
    fixed = {one.status for one in codes.errors() if one.code == code and one.status is not None}
    told = statuses(entries()[code])
    assert told, "an entry begins with its status"
    assert fixed <= told
    if all(one.status is not None for one in codes.errors() if one.code == code):
        assert told == fixed


@pytest.mark.parametrize("code", sorted({one.code for one in codes.errors()}))
def test_an_entry_says_what_to_do(code: str) -> None:
    assert "**Do:**" in entries()[code]


def test_refusals_warnings_and_environments_are_told() -> None:
    assert codes.refusals() == row_codes("What the agent refuses")
    assert codes.warnings() == row_codes("What the agent warns of")
    assert codes.environment_faults() == row_codes("What an environment fails of")


def test_codes_of_one_family_have_one_meaning() -> None:
    """One code, one kind of status: a code is permanent."""
    fixed = sorted((one.code, one.status) for one in codes.errors() if one.status is not None)
    for code, group in groupby(fixed, key=lambda pair: pair[0]):
        assert len({status for _, status in group}) == 1, code
