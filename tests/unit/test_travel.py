"""What a person, a log and a program see of a transfer."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from launcher import journal, transfers
from launcher.cli.live import Block
from launcher.cli.travel import Travel, drawn
from launcher.codec import dump
from launcher.files import Disk, Held
from launcher.report import moving
from launcher.report.view import RunView
from launcher.store import RunFolder
from launcher.transfers import Transfer
from tests.unit.journals.stories import begin, plan

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
T = Transfer("push", "input season", 45_000_000, 100_000_000, 11e6, NOW - timedelta(seconds=9), NOW, 1)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (23_440_000, "23.4 MB"), (512e9, "512 GB")],
)
def test_bytes_in_words(count: float, text: str) -> None:
    assert moving.size(count) == text


def test_a_line_says_share_time_left_bytes_and_rate() -> None:
    assert moving.line(T, NOW) == "push input season · 45 % · 5 s left · 45.0 MB of 100 MB · 11.0 MB/s"


def test_one_that_stalls_is_told_to_stall() -> None:
    later = NOW + timedelta(seconds=90)
    assert "stalled for 1 min 30 s" in moving.line(T, later)
    assert "left" not in moving.line(T, later) and "/s" not in moving.line(T, later)
    told = moving.document(T, later)
    assert told is not None and (told["rate"], told["eta_s"], told["stalled_s"]) == (0.0, None, 90.0)


def test_before_the_first_word_nothing_is_made_up() -> None:
    young = replace(T, done=0, total=0, rate=None)
    assert moving.line(young, NOW + timedelta(seconds=60)) == "push input season · about to begin"


@pytest.mark.parametrize("width", range(12, 140, 3))
def test_the_bar_fits_every_terminal(width: int) -> None:
    line = drawn(T, NOW, width)
    assert len(line) <= width
    assert "\x1b" not in line  # stderr is no terminal here
    if width >= 40:
        assert "45 %" in line and line.count("━") > 0


def test_the_bar_is_as_full_as_the_transfer() -> None:
    def cells(done: int) -> tuple[int, int]:
        line = drawn(replace(T, done=done), NOW, 120)
        return line.count("━"), line.count("╺")

    assert cells(0)[0] == 0 and cells(100_000_000)[1] == 0
    full, empty = cells(50_000_000)
    assert abs(full - empty) <= 1


def test_colours_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[36m" in drawn(T, NOW, 100)
    assert "\x1b[33m" in drawn(T, NOW + timedelta(seconds=10), 100)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in drawn(T, NOW, 100)


# --- of a run ----------------------------------------------------------------------------------------


class Stage:
    """A run's folder with a note in it, and a living engine as long as `lock` is held."""

    def __init__(self, root: Path, *, events: bool = False) -> None:
        self.folder = RunFolder(root)
        disk, story = Disk(), begin(plan())
        disk.make_folder(root)
        disk.write(self.folder.plan, json.dumps(dump(story.plan)).encode())
        book = journal.Journal(disk, self.folder.journal)
        for fact in story.facts:
            book.append(fact.kind, fact.at, **fact.data)
        self.view = RunView(self.folder)
        self.engine = self.view.state.engines
        self.lock: Held | None = disk.lock(self.folder.lock, "engine")
        self.travel = Travel(self.view, Block(io.StringIO()), events=events)
        self.put(T)

    def put(self, t: Transfer) -> None:
        Disk().note(self.folder.transfer, json.dumps(dump(replace(t, engine=self.engine))).encode())

    def look(self, seconds: float) -> None:
        assert self.travel.lines(NOW + timedelta(seconds=seconds)) == []


def test_into_a_log_goes_a_plain_line_each_ten_seconds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = Stage(tmp_path / "demo-abcd")
    for tenth in range(0, 250, 2):
        stage.look(tenth / 10)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3
    assert said[0].startswith("· push input season · 45 %") and "stalled" in said[1]


def test_a_short_one_is_not_worth_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage = Stage(tmp_path / "demo-abcd")
    stage.put(replace(T, since=NOW))
    stage.look(0.9)
    assert capsys.readouterr().err == ""


def test_a_program_gets_an_event_a_second(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage = Stage(tmp_path / "demo-abcd", events=True)
    for tenth in range(30):
        stage.look(tenth / 10)
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert len(told) == 3
    assert told[0] == {
        "event": "transfer",
        "run": stage.view.plan.run,
        "what": "push",
        "part": "input season",
        "done": 45_000_000,
        "total": 100_000_000,
        "rate": 11e6,
        "eta_s": 5.0,
        "stalled_s": None,
    }


def test_a_dead_engine_transfers_nothing(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "demo-abcd")
    assert moving.now_of(stage.view) is not None
    assert stage.lock is not None
    stage.lock.release()
    assert stage.folder.transfer.exists() and moving.now_of(stage.view) is None


def test_the_note_of_an_engine_that_died_is_not_the_next_ones(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "demo-abcd")
    journal.Journal(Disk(), stage.folder.journal).append("engine", NOW, pid=2)
    stage.view.refresh()
    assert stage.view.engine_alive and moving.now_of(stage.view) is None
    assert transfers.read(stage.folder.transfer, stage.engine) is not None
