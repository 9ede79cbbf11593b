"""Asking a run's engine for something: a file by rename, answered by a fact with the same id."""

from __future__ import annotations

import json
import secrets
import time
from typing import Any

from launcher.files import Disk
from launcher.report.view import RunView
from launcher.store import RunFolder

ANSWER_S = 15.0


def write(folder: RunFolder, verb: str, **data: Any) -> str:
    id = secrets.token_hex(6)
    files = Disk()
    files.make_folder(folder.requests)
    files.write(folder.requests / f"{id}.json", json.dumps({"verb": verb, **data}).encode())
    return id


def answered(view: RunView, id: str, timeout_s: float = ANSWER_S) -> bool:
    """Whether the engine took it up in time."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        view.refresh()
        if id in view.state.answered:
            return True
        time.sleep(0.05)  # a view looks at files; the engine that writes them tells nobody
    return False
