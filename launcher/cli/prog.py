"""The name the user typed, so that every printed command can be pasted."""

from __future__ import annotations

import os
import shlex
import shutil
import sys


def prog() -> str:
    """A script gets to know its whole path, however it was called: what PATH finds is called by its name."""
    typed = os.environ.get("LAUNCHER_PROG") or sys.argv[0]
    base = os.path.basename(typed)
    if base in ("__main__.py", "", "-c", "-m"):
        return "launcher"
    return base if base == typed or shutil.which(base) == typed else shlex.quote(typed)
