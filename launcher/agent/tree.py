"""Every process of ours: found, asked to leave, killed, buried.

A child that left the trainer's session or cleared its environment stays our descendant, because orphans
come to the nearest subreaper: us. What was started for us from outside our tree carries the token in its
environment. What somebody put into this PID namespace from outside (a shell, a reader of files) is a
guest: it is left alone. Without /proc there is only what `ps` tells.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
FREEZE_ROUNDS = 20
TRAINER_OOM_SCORE = b"300"  # out of memory: the trainer goes first, the agent lives to say so


class Process(NamedTuple):
    pid: int
    parent: int
    group: int
    state: str = "?"
    cpu_ticks: int = 0
    rss_pages: int = 0


def processes() -> dict[int, Process]:
    found: dict[int, Process] = {}
    try:
        pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    except FileNotFoundError:
        return _by_ps()
    for pid in pids:
        with suppress(OSError):  # gone between the listing and the look
            file = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
            try:
                words = os.read(file, 2048).rpartition(b")")[2].split()
            finally:
                os.close(file)
            ticks, state = int(words[11]) + int(words[12]), words[0].decode()
            found[pid] = Process(pid, int(words[1]), int(words[2]), state, ticks, int(words[21]))
    return found


def _by_ps() -> dict[int, Process]:
    import subprocess

    # the exit status may be lost to our own reaping of children; the words are what counts
    columns = "pid=,ppid=,pgid=,state="
    asked = subprocess.run(["ps", "-Ao", columns], capture_output=True, text=True, check=False)
    rows = [line.split() for line in asked.stdout.splitlines()]
    return {int(r[0]): Process(int(r[0]), int(r[1]), int(r[2]), r[3][:1]) for r in rows if len(r) >= 4}


class Tree:
    def __init__(self, token: str) -> None:
        self.me = os.getpid()
        self.helpers: set[int] = set()  # our own children that are not the trainer's
        self._token = token
        self._prctl = _prctl()

    def adopt_orphans(self) -> str | None:
        """What is weaker here than it should be, in words; None when nothing is."""
        if self._prctl is None:
            return "this system has no subreaper: a child that leaves the trainer's tree may survive it"
        if self._prctl(PR_SET_CHILD_SUBREAPER, 1) != 0:
            return "the system refused to hand over orphans: a child that leaves the tree may survive it"
        return None

    def bind(self) -> Callable[[], None]:
        """What a child does between fork and exec: die with us, and be the first to go without memory."""
        prctl, parent = self._prctl, self.me

        def bound() -> None:
            if prctl is None:
                return
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(127)
            with suppress(OSError):  # a sandbox may forbid it: then the kernel chooses
                file = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
                os.write(file, TRAINER_OOM_SCORE)
                os.close(file)

        return bound

    def descendants(self) -> list[Process]:
        return _below(self.me, processes(), self.helpers)

    def ours(self) -> list[Process]:
        """Descendants, and whoever else carries the token without being a guest."""
        table = processes()
        found = _below(self.me, table, self.helpers)
        if self.me == 1:
            return found  # every orphan comes to us; all others are guests
        helping = {p.pid for helper in self.helpers for p in _below(helper, table, set())}
        known = {p.pid for p in found} | self.helpers | helping | self._ancestors(table)
        strangers = [p for p in table.values() if p.pid not in known and p.state not in "ZX"]
        return found + [p for p in strangers if is_marked(p.pid, self._token) and not _is_guest(p, table)]

    def term(self, leader: int) -> None:
        """Ask politely: the trainer's group first, then every group that a descendant leads."""
        groups = [leader] + [p.group for p in self.descendants() if p.pid == p.group and p.group != leader]
        for group in groups:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGTERM)

    def kill(self) -> bool:
        """True when nobody was left. Freezes all first, so that nobody forks away while being killed."""
        frozen: set[int] = set()
        for _ in range(FREEZE_ROUNDS):
            fresh = {p.pid for p in self.ours()} - frozen
            if not fresh:
                break
            _send(fresh, signal.SIGSTOP)
            frozen |= fresh
        _send(frozen, signal.SIGKILL)
        return not frozen

    def end_helpers(self) -> None:
        _send(self.helpers, signal.SIGKILL)

    def reap(self) -> dict[int, int]:
        """Bury the dead: ours, and as PID 1 everybody's. pid -> wait status."""
        dead: dict[int, int] = {}
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return dead
            if pid == 0:
                return dead
            self.helpers.discard(pid)
            dead[pid] = status

    def _ancestors(self, table: dict[int, Process]) -> set[int]:
        chain = {self.me, 1}
        at = table.get(self.me)
        while at is not None and at.parent not in chain:
            chain.add(at.parent)
            at = table.get(at.parent)
        return chain


def is_marked(pid: int, token: str) -> bool:
    mark = f"LAUNCHER_INSTANCE={token}".encode()
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return mark in file.read().split(b"\0")
    except OSError:  # another user's, or gone: not started by us
        return False


def _below(root: int, table: dict[int, Process], without: set[int]) -> list[Process]:
    children: dict[int, list[Process]] = {}
    for process in table.values():
        children.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    ask = [root]
    while ask:
        for child in children.get(ask.pop(), ()):
            if child.pid not in without:
                ask.append(child.pid)
                if child.state not in "ZX":
                    found.append(child)
    return found


def _is_guest(process: Process, table: dict[int, Process]) -> bool:
    """Its line ends in a process without a parent here that is not the first one."""
    at, seen = process, {process.pid}
    while at.parent in table and at.parent not in seen:
        at = table[at.parent]
        seen.add(at.pid)
    return at.parent == 0 and at.pid != 1


def _send(pids: set[int], number: int) -> None:
    for pid in list(pids):
        with suppress(ProcessLookupError, PermissionError):  # a setuid child: nobody here can end it
            os.kill(pid, number)


def _prctl() -> Callable[[int, int], int] | None:
    if sys.platform != "linux":
        return None
    try:
        call = ctypes.CDLL(None, use_errno=True).prctl
    except (OSError, AttributeError):
        return None
    call.restype = ctypes.c_int

    def prctl(option: int, value: int) -> int:
        words = [ctypes.c_ulong(word) for word in (value, 0, 0, 0)]
        return int(call(option, *words))

    return prctl
