"""What is sent comes in messages of a bounded size, in order, and loses nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.remote.base import Sending
from launcher.remote.sending import MOST_ITEMS, batches

MOST = 100


def together(files: list[Sending]) -> dict[str, bytes]:
    """As the other side puts them together."""
    whole: dict[str, bytes] = {}
    open_file: str | None = None
    for items, payload in batches(files, MOST):
        assert len(payload) <= MOST and len(items) <= MOST_ITEMS
        begin = 0
        for item in items:
            assert item["kind"] == "file"
            data = payload[begin : begin + item["size"]]
            begin += item["size"]
            assert open_file in (None, item["to"])
            assert item["at"] == len(whole.get(item["to"], b""))
            whole[item["to"]] = whole.get(item["to"], b"") + data
            open_file = None if item["last"] else item["to"]
        assert begin == len(payload)
    assert open_file is None
    return whole


@pytest.mark.parametrize("size", [0, 1, MOST - 1, MOST, MOST + 1, 2 * MOST, 5 * MOST + 3])
@pytest.mark.parametrize("from_disk", [True, False])
def test_every_size_arrives(tmp_path: Path, size: int, from_disk: bool) -> None:
    data = bytes(i % 251 for i in range(size))
    (tmp_path / "f").write_bytes(data)
    file = Sending("f", source=tmp_path / "f") if from_disk else Sending("f", data=data)
    files = [Sending("before", data=b"b"), file, Sending("after", data=b"a" * 60)]
    assert together(files) == {"before": b"b", "f": data, "after": b"a" * 60}


def test_many_small_ones_share_a_message_and_none_is_too_long() -> None:
    files = [Sending(f"{i}", data=b"") for i in range(2 * MOST_ITEMS + 1)]
    assert [len(items) for items, _ in batches(files, MOST)] == [MOST_ITEMS, MOST_ITEMS, 1]
    assert list(batches([], MOST)) == []


def test_folders_can_be_entered_by_whoever_may_read_them() -> None:
    modes = {"a": 0o644, "b": 0o600, "c": 0o755}
    ((items, _),) = batches([Sending(to, mode) for to, mode in modes.items()], MOST)
    assert [item["mode"] for item in items] == [0o755, 0o700, 0o755]


def test_links_keep_their_target() -> None:
    (message,) = batches([Sending("a", link="../b c")], MOST)
    assert message == ([{"kind": "link", "to": "a", "link": "../b c"}], b"")
