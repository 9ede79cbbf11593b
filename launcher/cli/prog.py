"""The name the user typed, so that every printed command can be pasted."""

from __future__ import annotations

import os
import shlex
import sys


def prog() -> str:
    """A script gets to know its whole path, however it was called: what PATH finds is called by its name."""
    typed = os.environ.get("LAUNCHER_PROG") or sys.argv[0]
    base = os.path.basename(typed)
    if base in ("__main__.py", "", "-c", "-m"):
        return "launcher"
    return base if base == typed or _found(base) == typed else shlex.quote(typed)


def _found(name: str) -> str | None:
    """As shutil has it, without loading what packs archives: each command asks."""
    there = (os.path.join(folder, name) for folder in os.get_exec_path())
    return next((path for path in there if os.path.isfile(path) and os.access(path, os.X_OK)), None)
