"""The agent as PID 1, its price at rest, and how fast it answers."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.agent.tree import Process, Tree, _below, _by_ps, _is_guest, processes
from tests.unit.agent_bench import Begin, nursery, until

TICKS = os.sysconf("SC_CLK_TCK")


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    with nursery(tmp_path) as make:
        yield make


@pytest.mark.need("namespaces")
def test_as_pid_1_it_buries_orphans_and_hears_sigterm(begin: Begin) -> None:
    live = begin(("unshare", "-rfp", "--mount-proc", "--kill-child")).armed()
    assert live.event("hello")["pid"] == 1
    orphans = "for i in 1 2 3 4 5; do (setsid sleep 0.05 &) ; done; sleep 0.5; "
    buried = "while grep -qs '^sleep' /proc/[0-9]*/comm; do sleep 0.1; done; echo all > buried; "
    live.start("sh", "-c", orphans + buried + "setsid env -i sleep 600 & echo on; sleep 600")
    assert live.written("buried") == "all"
    live.say("stop", why="stop")
    assert live.event("sealed")["why"] == "stop"
    (inner,) = Path(f"/proc/{live.process.pid}/task/{live.process.pid}/children").read_text().split()
    os.kill(int(inner), 15)
    assert live.ended() == 0
    assert live.event("ending")["why"] == "end"


@pytest.mark.need("namespaces")
def test_as_pid_1_the_guard_ends_at_its_limit(begin: Begin) -> None:
    live = begin(("unshare", "-rfp", "--mount-proc", "--kill-child"), LAUNCHER_BOOT_LIMIT="0.3")
    assert live.ended() == 75


def cpu_seconds(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / TICKS


@pytest.mark.alone
def test_at_rest_it_costs_next_to_nothing(begin: Begin) -> None:
    live = begin().armed()
    live.start("sleep", "600")
    live.event("started")
    until(lambda: len(live.samples()) >= 2, "its first samples")
    before, since = cpu_seconds(live.agent), time.monotonic()
    first = len(live.samples())
    until(lambda: len(live.samples()) >= first + 2, "two more samples")
    share = (cpu_seconds(live.agent) - before) / (time.monotonic() - since)
    assert share <= 0.015  # one tick of the clock is 0.1 % of ten seconds
    status = Path(f"/proc/{live.agent}/status").read_text()
    rss_kb = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    assert rss_kb <= 30_000
    rollup = Path(f"/proc/{live.process.pid}/smaps_rollup").read_text()
    own_kb = sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Private"))
    assert own_kb <= 8_000, "what its keeper costs besides"


@pytest.mark.alone
def test_it_is_armed_after_little_work(begin: Begin) -> None:
    """The processor's time, not the wall's: tests share their cores with others."""
    live = begin().armed()
    assert cpu_seconds(live.process.pid) + cpu_seconds(live.agent) <= 0.25


@pytest.mark.alone
def test_it_answers_a_command_quickly(begin: Begin) -> None:
    live = begin().armed()
    waits = []
    for n in range(1, 6):
        asked = time.monotonic()
        live.say("lease", seconds=60)
        live.event("took", n=n)
        waits.append(time.monotonic() - asked)
    assert sorted(waits)[2] <= 0.3


def test_a_client_s_own_program_is_ended_with_the_rest(begin: Begin) -> None:
    """What was started for the run from outside the agent's tree carries the token."""
    import subprocess

    live = begin().armed()
    helper = subprocess.Popen(["sleep", "600"], env={**live.env}, start_new_session=True)
    try:
        live.say("end")
        assert helper.wait(10) == -9
        assert live.ended() == 0
    finally:
        if helper.poll() is None:
            helper.kill()
            helper.wait()


# ── the tree in values ────────────────────────────────────────────────────────────────────────────


def table(*rows: tuple[int, int]) -> dict[int, Process]:
    return {pid: Process(pid, parent, pid, "S") for pid, parent in rows}


def test_descendants_are_found_at_any_depth_without_helpers_and_the_dead() -> None:
    rows = table((1, 0), (5, 1), (6, 5), (7, 6), (8, 5), (9, 8))
    rows[7] = Process(7, 6, 7, "Z")
    assert {p.pid for p in _below(5, rows, {8})} == {6}


def test_a_guest_is_who_was_put_in_from_outside() -> None:
    rows = table((1, 0), (5, 1), (40, 0), (41, 40))
    assert _is_guest(rows[41], rows)
    assert _is_guest(rows[40], rows)
    assert not _is_guest(rows[5], rows)
    assert not _is_guest(rows[1], rows)


def test_without_proc_ps_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ps").write_text("#!/bin/sh\necho '    1     0     1 Ss'; echo ' 7 1 7 Z+'; echo 'broken'\n")
    (tmp_path / "ps").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert _by_ps() == {1: Process(1, 0, 1, "S"), 7: Process(7, 1, 7, "Z")}


def test_processes_of_this_machine_are_read() -> None:
    me = processes()[os.getpid()]
    assert (me.parent, me.group) == (os.getppid(), os.getpgid(0))
    assert me.rss_pages > 0
    assert Tree("nobody-has-this-token").me == os.getpid()
