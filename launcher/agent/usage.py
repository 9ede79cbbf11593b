"""CPU, memory and disk of what this machine gives us: the container's share where there is one.

Where a figure cannot be read it is None: unknown, not zero.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

CGROUP = "/sys/fs/cgroup"
GB = 1e9


@dataclass
class Usage:
    cpu: float | None  # percent of all cores
    cores: float | None
    ram_used_gb: float | None
    ram_gb: float | None
    disk_free_gb: float | None


def _read(path: str) -> str | None:
    try:
        with open(path) as file:
            return file.read()
    except OSError:  # not on this system, or not for us
        return None


def _table(text: str | None) -> dict[str, int]:
    rows = [line.replace(":", " ").split() for line in (text or "").splitlines()]
    return {r[0]: int(r[1]) for r in rows if len(r) >= 2 and r[1].isdecimal()}


def cores() -> float | None:
    """What a container may use is less than what the machine has."""
    count = float(os.cpu_count() or 0) or None
    words = (_read(f"{CGROUP}/cpu.max") or "").split()
    if count is not None and len(words) == 2 and words[0].isdecimal():
        return min(count, int(words[0]) / int(words[1]))
    return count


class Meter:
    """CPU use is a difference: the first reading knows none."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._cores = cores()
        self._shared = (_read(f"{CGROUP}/cpu.max") or "max").split()[0] != "max"
        self._before = self._busy()

    def read(self) -> Usage:
        now, before = self._busy(), self._before
        self._before = now
        cpu = None
        if now is not None and before is not None and now[1] > before[1]:
            cpu = round(min(100.0, max(0.0, 100 * (now[0] - before[0]) / (now[1] - before[1]))), 1)
        used, total = _ram()
        return Usage(cpu, self._cores, used, total, self._disk())

    def _busy(self) -> tuple[float, float] | None:
        """(seconds worked, seconds there were to work), both over all cores."""
        if self._shared and self._cores is not None:
            worked = _table(_read(f"{CGROUP}/cpu.stat")).get("usage_usec")
            return None if worked is None else (worked / 1e6, time.monotonic() * self._cores)
        line = (_read("/proc/stat") or "").split("\n", 1)[0].split()
        if len(line) < 6:
            return None
        ticks = [int(word) for word in line[1:9]]  # guest time is in user time already
        total = float(sum(ticks))
        return total - ticks[3] - ticks[4], total  # less idle and waiting for disks

    def _disk(self) -> float | None:
        try:
            facts = os.statvfs(self._folder)
        except OSError:
            return None
        return round(facts.f_bavail * facts.f_frsize / GB, 2)


def _ram() -> tuple[float | None, float | None]:
    limit = (_read(f"{CGROUP}/memory.max") or "max").strip()
    used = (_read(f"{CGROUP}/memory.current") or "").strip()
    if limit.isdecimal() and used.isdecimal():
        # files read lately are given back when memory is needed
        cache = _table(_read(f"{CGROUP}/memory.stat")).get("inactive_file", 0)
        return round((int(used) - cache) / GB, 2), round(int(limit) / GB, 2)
    table = _table(_read("/proc/meminfo"))
    if "MemTotal" not in table or "MemAvailable" not in table:
        return None, None
    total = table["MemTotal"]
    return round((total - table["MemAvailable"]) * 1024 / GB, 2), round(total * 1024 / GB, 2)
