"""Ports that are named before anybody listens there. Knows nothing of the launcher.

The kernel may give one that was free a moment ago to any connection, so these lie below the kernel's own; and
what one test process has named none of the others names.
"""

from __future__ import annotations

import os
import random
import socket
from collections import deque
from contextlib import suppress
from pathlib import Path

KERNELS_OWN = Path("/proc/sys/net/ipv4/ip_local_port_range")
FIRST, LAST = 10_000, 20_000  # where the kernel leaves none to us, its own are taken: they are many
# Each is held until that many others were named: by then somebody listens there or has long been gone.
HELD = 100
_held: deque[int] = deque()  # descriptors: they go with the process, and nobody need close them


def named_port() -> int:
    """One of this machine's loopback that is free and stays so."""
    end = max(LAST, int(KERNELS_OWN.read_text().split()[0]))
    for port in random.SystemRandom().sample(range(FIRST, end), end - FIRST):
        with suppress(OSError):
            _hold(port)
            return port
    raise AssertionError("no port of this machine is free")


def _hold(port: int) -> None:
    """By a name of the kernel's that only one process can have, and that goes with it."""
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0launcher-test-port-{port}")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
    except OSError:
        claim.close()
        raise
    _held.append(claim.detach())
    if len(_held) > HELD:
        os.close(_held.popleft())
