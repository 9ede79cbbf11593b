"""A far side that lies about its files: nothing of it is asked for, and whoever listens comes to an end."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from launcher.errors import Corrupt, HostError, HostUnreachable
from launcher.remote import courier
from launcher.remote.base import Digests, Listed
from launcher.remote.courier import Courier
from launcher.remote.digests import understood
from launcher.remote.shellsums import ShellSums

SUM = "0" * 64


def told(rows: object, after: str | None = "", **reply: Any) -> Digests:
    return understood(reply, json.dumps(rows).encode(), after)


def test_what_is_honest_is_believed() -> None:
    rows = [["a", 1, SUM], ["link", None, None], ["z/caf\udce9", 2, SUM]]
    files = (Listed("a", 1, SUM), Listed("z/caf\udce9", 2, SUM))
    assert told(rows, over=True) == Digests(files, ("link",), None)
    assert told(rows) == Digests(files, ("link",), "z/caf\udce9")
    assert told([], "a") == Digests((), (), "a") and told([], None) == Digests((), (), "")
    assert told([[".", None, None]], over=True).left_out == (".",)


@pytest.mark.parametrize(
    "rows",
    [
        [1],
        [["a", 1]],
        [["a", "many", SUM]],
        [["a", [], SUM]],
        [["a", float("inf"), SUM]],
        [["/etc/passwd", 1, SUM]],
        [["a/../../b", 1, SUM]],
        [["", 1, SUM]],
        [["a//b", None, None]],
        [["b", 1, SUM], ["a", 1, SUM]],
        [["a", 1, SUM], ["a", 1, SUM]],
        [["a.b", 1, SUM], ["a/b", 1, SUM]],  # a folder's files come where the folder would
        [["\ud800", 1, SUM]],
    ],
)
def test_a_lie_is_refused(rows: object) -> None:
    with pytest.raises(Corrupt) as refused:
        told(rows)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("rows", [b"", b"\xff", b"[" * 100_000, b"no"])
def test_no_list_is_none(rows: bytes) -> None:
    with pytest.raises(Corrupt):
        understood({}, rows, None)


def test_what_was_told_is_not_told_again() -> None:
    with pytest.raises(Corrupt, match="out of order"):
        told([["b", 1, SUM]], "b")


class Endless:
    """A session that lists names for ever: of its end it tells nothing."""

    complaint = b""

    def __init__(self) -> None:
        self.wire = self
        self.closed = False

    def some(self, most: int, until: float, tick: Any) -> bytes:
        return b"f./name\0" * (most // 8)

    def status(self, until: float, tick: Any) -> int:
        raise HostUnreachable("the connection broke before the command's end was told")

    def close(self) -> None:
        self.closed = True


def test_a_shell_that_lists_for_ever_is_not_taken_for_a_cut_line() -> None:
    session = Endless()
    sums = ShellSums("/root", lambda *_, **__: (session, ""), "", ())  # type: ignore[arg-type]  # as much of one as is asked
    with pytest.raises(HostError, match="more names than") as refused:
        sums.digests("out", None, lambda: None)
    assert not isinstance(refused.value, HostUnreachable) and session.closed


# --- the courier's side --------------------------------------------------------------------------


def asked(
    it: Courier, after: str | None = None, seconds: float = 9
) -> tuple[dict[str, Any], list[list[Any]]]:
    reply, rows = it.answer({"verb": "digests", "base": "out", "after": after, "seconds": seconds}, b"")
    return reply, json.loads(rows)


def test_a_large_file_is_gone_on_with_and_let_go(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "large").write_bytes(bytes(5 * courier.PIECE))
    (tmp_path / "out" / "next").write_bytes(b"1")
    it = Courier(str(tmp_path), "")
    answers = [asked(it, seconds=0) for _ in range(6)]
    assert [rows for _, rows in answers[:5]] == [[]] * 5
    assert answers[5][1] == [["large", 5 * courier.PIECE, answers[5][1][0][2]]] and not answers[5][0]["over"]
    assert it.half is None
    assert asked(it, "large", seconds=9)[0] == {"over": True}


def test_a_folder_is_looked_through_once_however_many_answers_its_files_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    for name in "abcd":
        (tmp_path / "out" / name).write_bytes(b"1")
    it, real, over = Courier(str(tmp_path), ""), os.scandir, False
    looks: list[Any] = []
    told: list[str] = []

    def looked(path: Any) -> Any:
        looks.append(path)
        return real(path)

    monkeypatch.setattr(os, "scandir", looked)
    while not over:
        reply, rows = asked(it, told[-1] if told else None, seconds=0)
        told += [row[0] for row in rows]
        over = reply["over"]
    assert told == ["a", "b", "c", "d"] and len(looks) == 1
    assert [row[0] for row in asked(it, "b")[1]] == ["c", "d"]  # another place, another look


def test_an_answer_is_no_longer_than_can_be_taken(tmp_path: Path) -> None:
    for folder in range(3):
        (tmp_path / "out" / ("d" * 200) / str(folder)).mkdir(parents=True)
        for name in range(250):
            os.symlink("x", tmp_path / "out" / ("d" * 200) / str(folder) / (f"{name:03}" + "n" * 200))
    it, last, count, answers = Courier(str(tmp_path), ""), None, 0, 0
    over = False
    while not over:
        reply, rows = asked(it, last)
        assert len(json.dumps(rows)) <= 1 << 20
        count, answers, last, over = count + len(rows), answers + 1, rows[-1][0], reply["over"]
    assert count == 750 and answers > 1


def test_what_goes_away_or_becomes_something_else_meanwhile_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out" / "sub").mkdir(parents=True)
    for name in ("a", "b", "sub/c"):
        (tmp_path / "out" / name).write_bytes(b"1")
    it, real = Courier(str(tmp_path), ""), os.open

    def meddles(path: Any, *words: Any) -> int:
        if path.endswith(b"/a"):
            os.unlink(path)
        if path.endswith(b"/b"):
            os.unlink(path)
            os.symlink("/etc/passwd", path)
        return real(path, *words)

    monkeypatch.setattr(os, "open", meddles)
    _, rows = asked(it)
    assert [row[:2] for row in rows] == [["a", None], ["b", None], ["sub/c", 1]]


def test_a_folder_as_deep_as_the_system_lets_it_be(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    at = os.open(tmp_path / "out", os.O_RDONLY)
    for _ in range(3000):  # far below what a whole path may name
        os.mkdir("d", dir_fd=at)
        below = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)
    reply, rows = asked(Courier(str(tmp_path), ""))
    assert reply == {"over": True} and [row[1] for row in rows] == [None]
    assert os.path.basename(rows[0][0]) == "d"
    subprocess.run(["rm", "-rf", str(tmp_path / "out")], check=True)  # too deep for who tidies up after tests
