"""Questions asked at once, each in a thread of its own."""

from __future__ import annotations

import subprocess
import sys

LOADED = """
import sys
{first}
assert "importlib.resources.abc" in sys.modules, "a thread would have to load it"
"""


def test_what_two_threads_must_not_load_at_once_is_there_before_them() -> None:
    """`importlib.abc` and `importlib.resources` load each other: in two threads that ends in a deadlock."""
    asks = "from launcher import together\ntogether.ask({}, 0)"
    for first in (asks, "import launcher.ssh.connection"):
        done = subprocess.run(
            [sys.executable, "-c", LOADED.format(first=first)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
