"""The name the user typed, so that every printed command can be pasted."""

from __future__ import annotations

import os
import sys


def prog() -> str:
    typed = os.environ.get("LAUNCHER_PROG") or sys.argv[0]
    base = os.path.basename(typed)
    if base in ("__main__.py", "", "-c", "-m"):
        return "launcher"
    return typed if typed.startswith("./") else base
