"""The agent as a real process: runs, limits, stops, holds, receipts, commands."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from pathlib import Path

import psutil
import pytest

from tests.unit.agent_bench import Begin, Live, alive, nursery, until

DEAF = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
while True: time.sleep(60)
"""
POLITE = """
import os, signal, sys, time, pathlib
def leave(*_):
    folder = pathlib.Path("checkpoint/last.tmp")
    folder.mkdir()
    (folder / "weights").write_text("w" * 10)
    (folder / "complete").write_text("")
    folder.rename("checkpoint/last")
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
print("ready", flush=True)
while True: time.sleep(60)
"""


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    with nursery(tmp_path) as make:
        yield make


def count_is(live: Live, kind: str, count: int) -> bool:
    return live.kinds().count(kind) == count


def log_says(live: Live, word: str) -> None:
    until(lambda: (live.root / "log").exists() and word in (live.root / "log").read_text(), word)


def test_a_run_from_hello_to_receipt(begin: Begin) -> None:
    live = begin().armed()
    hello, armed = live.events()[:2]
    assert (hello["protocol"], hello["token"]) == (1, live.token)
    assert psutil.Process(live.agent).ppid() == live.process.pid, "its keeper"
    assert armed["layers"] == ["agent"]
    assert 0 < armed["boot_limit_s"] <= 60 < armed["ends_in_s"] <= 120
    assert (live.root.stat().st_mode & 0o777) == 0o700
    live.start("sh", "-c", "echo out; echo err >&2; echo $GREETING > output/r.txt", env={"GREETING": "hej"})
    files = live.sealed()
    assert files == {"r.txt": hashlib.sha256(b"hej\n").hexdigest()}
    assert (live.root / "log").read_text() == "out\nerr\n"
    exited = live.event("exited")
    assert (exited["exit_code"], exited["signal"], exited["why"]) == (0, None, None)
    live.receipt()
    assert live.ended() == 0
    assert live.kinds() == ["hello", "armed", "took", "started", "exited", "sealed", "took", "ending"]
    assert live.event("ending")["why"] == "receipt"
    assert (live.root / "console").read_text().splitlines()[0] == f"launcher boot {live.token}"


def test_what_an_earlier_boot_sealed_is_no_list_of_what_begins_now(begin: Begin) -> None:
    live = begin().armed()
    (live.root / "sealed.json").write_text('{"files": []}')
    live.python(DEAF)
    log_says(live, "deaf")
    assert not (live.root / "sealed.json").exists()
    live.say("stop", now=True, why="stop")
    live.sealed()


def test_a_polite_stop_leaves_a_checkpoint(begin: Begin) -> None:
    live = begin().armed()
    live.python(POLITE)
    log_says(live, "ready")
    live.say("stop", now=False, why="stop")
    told = live.event("checkpoint")
    assert (told["name"], told["complete"]) == ("last", True)
    assert {f["path"]: f["size"] for f in told["files"]} == {"weights": 10, "complete": 0}
    assert live.event("sealed")["why"] == "stop"
    assert live.event("exited")["exit_code"] == 0


def test_a_shell_that_dies_of_the_stop_does_not_take_its_trainer_with_it(begin: Begin) -> None:
    live = begin().armed()
    (live.root / "train.py").write_text(POLITE)
    live.start("sh", "-c", "python3 train.py; true")
    log_says(live, "ready")
    live.say("stop")
    assert live.event("checkpoint")["complete"] is True
    assert live.event("sealed")["why"] == "stop"


def test_stop_now_asks_nobody(begin: Begin) -> None:
    live = begin().armed()
    live.python(POLITE, grace_s=60)
    log_says(live, "ready")
    live.say("stop", now=True, why="stop")
    assert live.event("exited")["signal"] == signal.SIGKILL
    assert live.event("sealed")["why"] == "stop"
    assert "checkpoint" not in live.kinds()


@pytest.mark.alone
def test_the_time_limit_ends_a_trainer_that_ignores_sigterm(begin: Begin) -> None:
    live = begin().armed()
    live.python(DEAF, max_time_s=1.5, salvage_s=20, grace_s=0.5)
    sealed = live.event("sealed")
    assert (sealed["why"], sealed["signal"]) == ("limit", signal.SIGKILL)
    started, stopping, exited = (live.event(kind)["t"] for kind in ("started", "stopping", "exited"))
    assert 1.499 <= stopping - started < 2.5  # each is told to the millisecond
    assert exited - started < 3.5


def test_an_end_that_was_moved_is_noted_for_the_guard_above(begin: Begin) -> None:
    live = begin().armed()
    live.python(POLITE, max_time_s=60, salvage_s=20)
    log_says(live, "ready")
    noted = live.root / "ends_at"
    until(noted.exists, "the end")
    first = datetime.fromisoformat(noted.read_text())
    live.say("deadline", max_time_s=3600, salvage_s=20)
    until(lambda: datetime.fromisoformat(noted.read_text()) > first, "another end")
    moved = datetime.fromisoformat(noted.read_text()) - first
    assert abs(moved.total_seconds() - 3540) < 1
    live.say("end")
    assert live.ended() == 0


@pytest.mark.alone
def test_d_ends_everything_within_its_overrun(begin: Begin) -> None:
    """The client is dead, the trainer is deaf, its grandchild left session and environment."""
    live = begin().armed()
    stray = "import os,time; os.setsid(); open('stray','w').write(f'{os.getpid()}\\n'); time.sleep(600)"
    source = "import signal, subprocess, sys\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    source += f"subprocess.Popen(['env', '-i', sys.executable, '-c', {stray!r}])\n" + DEAF
    live.python(source, max_time_s=2, salvage_s=2, grace_s=60)
    started = time.monotonic()
    pid = live.pid_in("stray")
    assert alive(pid)
    assert live.ended() == 0
    assert time.monotonic() - started < 4 + 5
    assert not alive(pid)
    assert live.event("ending")["why"] in ("deadline", "hold")
    assert live.event("ending")["t"] - live.event("started")["t"] <= 4.5


def test_a_child_that_left_the_session_does_not_survive_its_trainer(begin: Begin) -> None:
    live = begin().armed()
    live.start("sh", "-c", "setsid env -i sh -c 'echo $$ > stray; exec sleep 600' & sleep 0.5; cat stray")
    pid = live.pid_in("stray")
    live.event("sealed")
    assert not alive(pid)


def test_nobody_comes(begin: Begin) -> None:
    live = begin(LAUNCHER_BOOT_LIMIT="0.5")
    assert live.ended() == 75
    live = begin(LAUNCHER_ENDS_IN="0.5")
    assert live.ended() == 75


def test_a_guard_that_knows_no_limit_does_not_wait(begin: Begin) -> None:
    live = begin(LAUNCHER_BOOT_LIMIT="soon")
    assert live.ended() == 1


def test_the_guard_hears_sigterm(begin: Begin) -> None:
    live = begin()
    until((live.root / "console").exists, "the guard's first word")
    live.process.terminate()
    assert live.ended() == 0


@pytest.mark.alone
def test_an_armed_agent_without_a_client_ends_at_its_boot_limit(begin: Begin) -> None:
    live = begin(LAUNCHER_BOOT_LIMIT="1.5").armed()
    assert live.ended() == 0
    ending = live.event("ending")
    assert ending["why"] == "boot-limit"
    assert 1.5 <= ending["t"] < 2.5


@pytest.mark.alone
def test_a_lease_keeps_it_and_the_absolute_end_does_not_care(begin: Begin) -> None:
    live = begin(LAUNCHER_BOOT_LIMIT="1.5", LAUNCHER_ENDS_IN="3").armed()
    live.say("lease", seconds=60)
    assert live.ended() == 0
    ending = live.event("ending")
    assert ending["why"] == "deadline"
    assert 2 < ending["t"] < 4


def test_hold_over(begin: Begin) -> None:
    live = begin(LAUNCHER_HOLD="0.5").armed()
    live.start("true")
    assert live.ended() == 0
    assert live.event("ending")["why"] == "hold"


def test_a_wrong_receipt_ends_nothing(begin: Begin) -> None:
    live = begin().armed()
    live.start("true")
    live.event("sealed")
    live.say("receipt", digest="0" * 64)
    live.event("warned", code="receipt-differs")
    assert live.process.poll() is None
    live.receipt()
    assert live.ended() == 0


def test_sigterm_to_the_agent_is_a_preemption_and_then_an_end(begin: Begin) -> None:
    live = begin().armed()
    live.python(POLITE)
    log_says(live, "ready")
    live.process.terminate()
    assert live.event("sealed")["why"] == "preempted"
    assert live.event("checkpoint")["name"] == "last"
    live.process.terminate()
    assert live.ended() == 0
    assert live.event("ending")["why"] == "end"


def test_end_kills_and_leaves(begin: Begin) -> None:
    live = begin().armed()
    live.python(DEAF)
    log_says(live, "deaf")
    live.say("end")
    assert live.ended() == 0


def test_garbage_among_the_commands_is_named_and_passed_over(begin: Begin) -> None:
    live = begin().armed()
    for number, data in enumerate(
        [b"", b'{"n": 1, "verb"', b"[1]", b"\xff\xfe", b"9" * 5000, b"[" * 100_000]
    ):
        live.put(data, f"{number + 1:06d}.json")
        live.event("warned", code="bad-command")
        until(partial(count_is, live, "warned", number + 1), "one warning each")
    os.mkfifo(live.root / "in" / "000050.json")
    (live.root / "in" / "000051.json").symlink_to("/dev/zero")
    (live.root / "in" / "000052.json").mkdir()
    until(lambda: live.kinds().count("warned") == 9, "pipes, links and folders are no commands")
    live.put('{"n": 2, "verb": "lease", "seconds": 100}', "000002.json")  # whole at last
    live.event("took", n=2)
    live.n = 60
    live.say("end")
    assert live.ended() == 0
    assert live.kinds().count("warned") == 9


def test_a_repeated_number_is_heard_once(begin: Begin) -> None:
    live = begin().armed()
    live.say("lease", seconds=50)
    live.event("took", n=1)
    live.put('{"n": 1, "verb": "end"}', "000009.json")
    live.n = 9
    live.say("lease", seconds=50)
    live.event("took", n=10)
    assert [e["n"] for e in live.events() if e["ev"] == "took"] == [1, 10]


@pytest.mark.parametrize(
    ("argv", "cwd", "words"),
    [
        (["no-such-program"], ".", "No such file"),
        (["./train.txt"], ".", "ermission denied"),
        (["true"], "nowhere", "nowhere"),
        ([], ".", "no command"),
    ],
)
def test_a_command_that_cannot_run_is_refused(begin: Begin, argv: list[str], cwd: str, words: str) -> None:
    live = begin().armed()
    (live.root / "train.txt").write_text("no program")
    live.start(*argv, cwd=cwd)
    refused = live.event("refused")
    assert refused["why"] == "no-command"
    assert words in refused["message"]
    assert live.event("sealed")["exit_code"] is None
    live.receipt()
    assert live.ended() == 0


def test_an_end_by_signal_is_told_as_one(begin: Begin) -> None:
    live = begin().armed()
    live.start("sh", "-c", "kill -SEGV $$")
    exited = live.event("exited")
    assert (exited["exit_code"], exited["signal"], exited["why"]) == (None, signal.SIGSEGV, None)


def test_ten_megabytes_of_log_arrive_whole(begin: Begin) -> None:
    live = begin().armed()
    source = "import sys\nfor i in range(10): sys.stdout.write(chr(97 + i) * (1 << 20))\nsys.exit(3)\n"
    live.python(source)
    assert live.event("sealed")["exit_code"] == 3
    data = (live.root / "log").read_bytes()
    assert data == b"".join(bytes([97 + i]) * (1 << 20) for i in range(10))


def test_preparation_reports_and_a_restart_repeats_nothing(begin: Begin) -> None:
    live = begin().armed()
    live.say("prepare", argv=["sh", "-c", "seq 30; echo $X >&2; exit 4"], cwd=".", env={"X": "last"})
    told = live.event("prepared")
    assert told["exit_code"] == 4
    assert told["tail"] == [str(n) for n in range(12, 31)] + ["last"]
    live.say("prepare", argv=["sh", "-c", "kill -9 $$"])
    assert live.event("prepared", exit_code=-9)["tail"] == []
    live.say("prepare", argv=["no-such"])
    assert "No such file" in live.event("prepared", exit_code=127)["tail"][0]
    os.kill(live.agent, signal.SIGKILL)
    assert live.process.wait() == -signal.SIGKILL, "its keeper goes as it went"
    with (live.root / "events.jsonl").open("ab") as file:
        file.write(b'{"ev":"took","n":')  # it was cut in the middle of a line
    stale = {"n": 4, "verb": "start", "job": {"argv": ["true"], "cwd": ".", "env": {}}}
    (live.root / "in" / f"{4:012d}.json").write_text(json.dumps(stale))  # nobody was there to read it
    again = Live(live.root.parent, {})
    try:
        until(lambda: live.root.joinpath("events.jsonl").read_bytes().count(b'"armed"') == 2, "a second life")
        again.n = 4
        again.say("end")
        assert again.ended() == 0
    finally:
        again.clean()
    lines = (live.root / "events.jsonl").read_bytes().split(b"\n")
    whole = [json.loads(line) for line in lines if line.endswith(b"}")]
    assert [e["n"] for e in whole if e["ev"] == "took"] == [1, 2, 3, 5]
    assert "started" not in [e["ev"] for e in whole], "it was meant for an earlier life"
    assert [e["ev"] for e in whole].count("prepared") == 3


def test_what_an_earlier_life_did_not_come_to_seal_is_sealed_by_the_next(begin: Begin) -> None:
    """Its trainer had ended: the disk was full, or its end of life came first."""
    live = begin().armed()
    live.python("open('out/kept', 'w').write('trained')", output="out")
    live.sealed()
    os.kill(live.agent, signal.SIGKILL)
    live.process.wait()
    events = live.root / "events.jsonl"
    lines = events.read_bytes().splitlines(keepends=True)
    events.write_bytes(b"".join(line for line in lines if b'"sealed"' not in line))
    (live.root / "sealed.json").unlink()
    again = Live(live.root.parent, {})
    try:
        until(lambda: b'"sealed"' in events.read_bytes(), "the list")
        last = [json.loads(line) for line in events.read_bytes().splitlines()][-3:]
        assert [e["ev"] for e in last] == ["hello", "armed", "sealed"]
        assert last[1]["seals"] and (last[2]["exit_code"], last[2]["why"]) == (0, None)
        files = json.loads((live.root / "sealed.json").read_bytes())["files"]
        assert [f["path"] for f in files] == ["kept"]
        again.n = live.n
        again.say("receipt", digest=last[2]["digest"])
        assert again.ended() == 0
    finally:
        again.clean()
