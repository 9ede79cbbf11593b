"""What may reach a terminal, and how lines and moving lines share it."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.cli.live import MAX_LINE, Block, Lines, harmless


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("plain é 한", "plain é 한"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bPq#0\x1b\\after", "after"),
        ("a\x07b\x08c", "a·b·c"),
        ("\x9b2Jx", "·2Jx"),
        ("tab\there", "tab\there"),
        ("\u202egnp.exe", "gnp.exe"),
        ("\x1b[", "·["),
    ],
)
def test_nothing_moves_the_cursor_or_turns_the_text(written: str, shown: str) -> None:
    assert harmless(written) == shown


@given(st.text())
def test_whatever_is_written_no_control_is_left(text: str) -> None:
    assert not [c for c in harmless(text) if c != "\t" and (c < " " or "\x7f" <= c < "\xa0")]


def test_an_endless_line_is_cut() -> None:
    assert len(harmless("x" * (MAX_LINE + 10))) == MAX_LINE


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5))
def test_lines_are_the_same_whatever_the_cut(data: bytes, cuts: list[int]) -> None:
    whole, pieces = Lines(), Lines()
    expected = [*whole.feed(data), *whole.flush()]
    at, got = 0, []
    for cut in sorted({c for c in cuts if c < len(data)}):
        got += pieces.feed(data[at:cut])
        at = cut
    got += pieces.feed(data[at:])
    assert pieces.held == len(data) - (data.rfind(b"\n") + 1)
    assert [*got, *pieces.flush()] == expected


def test_a_progress_bar_leaves_its_last_state() -> None:
    assert Lines().feed(b" 10%\r 50%\r100%\n") == ["100%"]
    assert Lines().feed(b"windows\r\n") == ["windows"]


def test_bytes_that_are_no_text_are_marked() -> None:
    assert Lines().feed(b"\xff\xfe!\n") == ["\ufffd\ufffd!"]


class Screen(io.StringIO):
    def __init__(self, tty: bool) -> None:
        super().__init__()
        self._tty = tty

    def isatty(self) -> bool:
        return self._tty


def test_into_a_pipe_goes_one_plain_line_a_minute() -> None:
    out = Screen(tty=False)
    block = Block(out)
    for n in range(50):
        block.update([f"drawn {n}"], f"plain {n}")
    block.clear()
    assert out.getvalue() == "plain 0\n"


def test_the_moving_lines_are_drawn_again_only_when_they_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    out = Screen(tty=True)
    block = Block(out)
    block.update(["a", "b"], "")
    once = out.getvalue()
    block.update(["a", "b"], "")
    assert out.getvalue() == once == "a\nb"


def test_lines_that_stay_go_above_the_moving_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    out = Screen(tty=True)
    block = Block(out)
    block.update(["meter", "second"], "")
    block.above(["one", "two"], out)
    block.above([], out)
    block.clear()
    up_and_away = "\r\x1b[A\x1b[J"
    assert out.getvalue() == f"meter\nsecond{up_and_away}one\ntwo\nmeter\nsecond{up_and_away}"


def test_a_dumb_terminal_is_no_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    out = Screen(tty=True)
    Block(out).update(["drawn"], "plain")
    assert out.getvalue() == "plain\n"


def test_moving_lines_are_never_wider_than_the_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "20")
    out = Screen(tty=True)
    Block(out).update(["x" * 100], "")
    assert out.getvalue() == "x" * 19
