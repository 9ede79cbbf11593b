"""Asking a run's engine for something: a file by rename, answered by a fact with the same id."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
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


def answered(view: RunView, id: str, begin: Callable[[], None]) -> bool:
    """Whether an engine took it up in time. One that is about to leave may hear of nothing more: `begin` is
    called once where none lives, at once or meanwhile."""
    end, begun = time.monotonic() + ANSWER_S, False
    while time.monotonic() < end:
        view.refresh()
        if id in view.state.answered:
            return True
        if not begun and not view.engine_alive:
            begun = True
            begin()
        time.sleep(0.05)  # a view looks at files; the engine that writes them tells nobody
    return False
