"""How far a transfer is, as its engine writes it down and a view reads it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from launcher import transfers
from launcher.files import Disk
from launcher.transfers import Told, Transfer

MB = 1 << 20


class Watch:
    """A clock that is set by hand, and a disk that counts its notes."""

    def __init__(self, path: Path) -> None:
        self.at, self.path, self.notes = datetime(2026, 3, 1, tzinfo=UTC), path, 0
        self.told = Told(self, path, self.now, 2, "pull", "model.bin")  # type: ignore[arg-type]  # notes only

    def now(self) -> datetime:
        return self.at

    def note(self, path: Path, data: bytes) -> None:
        self.notes += 1
        Disk().note(path, data)

    def remove(self, path: Path) -> None:
        Disk().remove(path)

    def after(self, seconds: float, done: int, total: int = 100 * MB) -> None:
        self.at += timedelta(seconds=seconds)
        self.told(done, total)

    def read(self, engine: int = 2) -> Transfer:
        found = transfers.read(self.path, engine)
        assert found is not None
        return found


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    return Watch(tmp_path / "transfer.json")


def test_it_is_there_from_the_beginning_and_gone_at_the_end(watch: Watch) -> None:
    assert (watch.read().what, watch.read().part, watch.read().rate) == ("pull", "model.bin", None)
    watch.told.over()
    assert transfers.read(watch.path, 2) is None
    watch.told.over()


def test_many_words_make_few_notes(watch: Watch) -> None:
    for n in range(1000):
        watch.after(0.01, n * 1000)
    assert 49 <= watch.notes <= 51


def test_the_rate_is_that_of_the_last_seconds(watch: Watch) -> None:
    for n in range(1, 21):
        watch.after(1, n * MB)
    assert watch.read().rate == pytest.approx(MB, rel=0.01)
    for n in range(1, 7):
        watch.after(1, (20 + 10 * n) * MB)
    told = watch.read()
    assert told.rate == pytest.approx(10 * MB, rel=0.01)
    assert told.eta_s(watch.at) == pytest.approx(2.0, abs=0.1)
    assert told.stalled_s(watch.at) is None


def test_one_that_stands_still_says_so(watch: Watch) -> None:
    watch.after(1, MB)
    watch.after(1, 2 * MB)
    told, later = watch.read(), watch.at + timedelta(seconds=12)
    assert (told.stalled_s(later), told.rate_now(later), told.eta_s(later)) == (12.0, 0.0, None)
    watch.after(20, 2 * MB)
    assert watch.read().stalled_s(watch.at) == 20.0


@pytest.mark.parametrize("engine", [1, 3])
def test_what_another_engine_left_is_no_transfer(watch: Watch, engine: int) -> None:
    assert transfers.read(watch.path, engine) is None


@pytest.mark.parametrize("spoil", [b"", b"{", b"[]", b'{"what": 3}', b'{"what": "pull"}', b"\xff"])
def test_a_broken_note_is_none(watch: Watch, spoil: bytes) -> None:
    watch.path.write_bytes(spoil)
    assert transfers.read(watch.path, 2) is None


def test_a_clock_that_is_set_back_harms_nobody(watch: Watch) -> None:
    watch.after(1, MB)
    watch.after(-3600, 2 * MB)
    watch.after(1, 3 * MB)
    assert watch.read().done == 3 * MB


def test_a_disk_that_takes_no_note_keeps_nothing_from_arriving(tmp_path: Path) -> None:
    nowhere = tmp_path / "no" / "folder" / "transfer.json"
    told = Told(Disk(), nowhere, lambda: datetime(2026, 3, 1, tzinfo=UTC), 1, "push", "project")
    told(1, 2)
    told.over()
