"""What a push that was cut sends next, by what the host says of it."""

from __future__ import annotations

import gzip

import pytest

from launcher.errors import HostError
from launcher.remote.base import Sending, Tree
from launcher.remote.treesync import Offer, _sizes, _TakenUp, _whole

NAMES = [f"part{n // 10}/module{n:03}.py" for n in range(160)]
TREE = Tree("key", "digest", tuple(Sending(n, data=b"x" * 1000) for n in NAMES), 160_000)


def held(*names: str, size: int = 1000, places: int = 2) -> bytes:
    return gzip.compress(b"".join(f"{size} ./{n}\0".encode() for n in names) * places)


def test_the_last_files_go_before_the_list_is_read() -> None:
    rest = iter(_TakenUp(_whole(TREE), Offer({}, False, b"no list at all, and longer than none")))
    ahead = [next(rest)[0].decode() for _ in range(20)]
    assert ahead == sorted(NAMES)[:-21:-1]
    with pytest.raises(HostError, match="cannot be read"):
        next(rest)


def test_then_what_did_not_arrive_and_nothing_twice() -> None:
    there = sorted(NAMES)[:70]
    taken = _TakenUp(_whole(TREE), Offer({}, False, held(*there)))
    names = [name.decode() for name, _ in taken]
    assert sorted(names) == sorted(NAMES)[70:] and len(set(names)) == len(names)
    assert names[20:] == sorted(NAMES)[70:140]
    assert taken.at_rest == 70_000


def test_what_lies_in_one_of_two_places_or_is_shorter_goes_again() -> None:
    once, short = sorted(NAMES)[:3], sorted(NAMES)[3:6]
    list_ = gzip.compress(gzip.decompress(held(*once, places=1)) + gzip.decompress(held(*short, size=999)))
    taken = _TakenUp(_whole(TREE), Offer({}, False, list_))
    assert {name.decode() for name, _ in taken} == set(NAMES)


def test_of_a_first_push_nothing_is_taken_up() -> None:
    assert not Offer({}, False, gzip.compress(b"")).is_cut
    assert not Offer({}, False, b"").is_cut
    assert not Offer({}, True, held("a")).is_cut  # a former tree decides
    assert Offer({}, False, held("a")).is_cut


def test_a_list_that_is_none_of_ours_names_nothing_that_is_not_there() -> None:
    assert _sizes(b"12 ./a\0 7 ./b c\0") == ((b"a", 12), (b"b c", 7))  # `wc` and `stat` pad their numbers
    assert _sizes(b"12 ./a\0x 12 ./b\0") == ((b"a", 12),)
    assert _sizes(b"12 ./a") == () and _sizes(b"-1 ./a\0 1 /a\0 1 a\0") == ()
    assert _sizes(b"3 ./a\n4 ./b\0") == ((b"a\n4 ./b", 3),)
