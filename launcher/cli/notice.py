"""One line for each run that nobody drives and that is not over, said by every command; by one that shows
such a run, of the others."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from launcher.errors import LauncherError
from launcher.files import held
from launcher.store import Home, RunFolder, open_home

TAIL = 1 << 12


def notice(but: str | None = None) -> None:
    """On stderr. What cannot be read is the command's own matter to tell."""
    with suppress(LauncherError, OSError):
        place = open_home(dict(os.environ))
        _sweep(place)
        if left := [name for name in _undriven(place) if name != but]:
            _tell(place, left)


def _sweep(home: Home) -> None:
    """What leads to machines that are no more, where an engine was killed before it could tidy up."""
    if not home.ssh.exists():
        return
    from launcher import sshfiles
    from launcher.cli.machine import over
    from launcher.report.view import RunView

    for name in sshfiles.offered(home):
        if not home.run(name).plan.exists() or over(RunView(home.run(name))):
            sshfiles.forget(home, name)


def _undriven(home: Home) -> list[str]:
    """Cheaply, from each journal's last line: nearly every run is over."""
    return [name for name in home.names() if not _over(home.run(name)) and not held(home.run(name).lock)]


def _over(folder: RunFolder) -> bool:
    return _last_line(folder.journal).find(b'"kind":"ended"') >= 0


def _last_line(path: Path) -> bytes:
    try:
        with path.open("rb") as f:
            f.seek(max(0, f.seek(0, 2) - TAIL))
            return f.read().rstrip(b"\n").rsplit(b"\n", 1)[-1]
    except OSError:
        return b""


def _tell(home: Home, names: list[str]) -> None:
    from launcher.cli.prog import prog
    from launcher.report.lines import attention
    from launcher.report.view import RunView

    for name in names:
        with suppress(LauncherError):  # `ps` and `doctor` tell what is damaged
            line = attention(RunView(home.run(name)), datetime.now(UTC), prog())
            if line is not None:
                print(line, file=sys.stderr)
