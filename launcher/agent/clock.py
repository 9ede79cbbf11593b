"""The agent's two clocks: seconds since boot, which nobody can set, and the wall's time for people."""

from __future__ import annotations

import os
import sys
import time
from datetime import datetime, timezone


def boot_clock() -> float:
    """Counts on while the machine sleeps, where the system can. The boot guard uses the same one."""
    number = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if number is None else time.clock_gettime(number)


def iso(wall: float) -> str:
    at = datetime.fromtimestamp(wall, timezone.utc).isoformat(timespec="milliseconds")
    return at[:-6] + "Z"


def epoch(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def boot_name() -> str:
    """Changes when the machine, the container or this process was restarted."""
    pid = os.getpid()
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot = file.read().strip()
        with open("/proc/self/stat", "rb") as file:
            started = file.read().rpartition(b")")[2].split()[19].decode()
    except OSError:  # no /proc here: the wall's time of boot, good to a few seconds, and now
        boot, started = f"{sys.platform}-{time.time() - boot_clock():.0f}", f"{boot_clock():.3f}"
    return f"{boot}:{pid}:{started}"
