"""What travels right now, in words: for the moving bar, for a plain line, and as JSON; and what came home
before the end.
"""

from __future__ import annotations

import stat
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from launcher import transfers
from launcher.errors import LauncherError
from launcher.models import Json
from launcher.report.view import RunView
from launcher.store import Home, RunFolder, Versions
from launcher.transfers import Transfer

UNITS = ("bytes", "kB", "MB", "GB", "TB")
LEAST_BAR, MOST_BAR = 8, 40


def now_of(view: RunView) -> Transfer | None:
    """Only a living engine transfers anything: what a killed one left in the folder is not looked at."""
    found = transfers.read(view.folder.transfer, view.state.engines)
    return found if found is not None and view.engine_alive else None


def size(count: float) -> str:
    at = 0
    while count >= 999.5 and at < len(UNITS) - 1:
        count, at = count / 1000, at + 1
    return f"{count:.0f} {UNITS[at]}" if at == 0 or count >= 99.95 else f"{count:.1f} {UNITS[at]}"


def span(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def name(t: Transfer) -> str:
    return f"{t.what} {t.part}".strip()


def figures(t: Transfer, now: datetime) -> list[str]:
    """Share, bytes, rate and what is left of it; the last ones are the first to go where room is short."""
    if not t.total:
        return ["about to begin"]
    done = [f"{100 * t.done // t.total} %", f"{size(t.done)} of {size(t.total)}"]
    if (still := t.stalled_s(now)) is not None:
        return [done[0], f"stalled for {span(still)}", *done[1:]]
    eta, rate = t.eta_s(now), t.rate_now(now)
    left = [f"{span(eta)} left"] if eta is not None and t.done < t.total else []
    return [done[0], *left, *done[1:], *([f"{size(rate)}/s"] if rate is not None else [])]


def line(t: Transfer, now: datetime) -> str:
    return " · ".join([name(t), *figures(t, now)])


def bar(t: Transfer, now: datetime, width: int) -> tuple[str, int, int, str]:
    """Words before, filled and empty cells, words after; together not wider than `width`."""
    said, before = figures(t, now), name(t)
    while len(before) + len(" · ".join(said)) + LEAST_BAR + 2 > width and len(said) > 2:
        said.pop()
    after = " · ".join(said)
    room = width - len(before) - len(after) - 2
    cells = min(MOST_BAR, room) if room >= LEAST_BAR else 0
    if not cells:
        return f"{before} {after}"[:width], 0, 0, ""
    filled = min(cells, cells * t.done // t.total) if t.total else 0
    return before, filled, cells - filled, after


@dataclass(frozen=True)
class Arrived:
    """Output that came home before its trainer's end. Only a version is whole."""

    folder: Path
    files: tuple[tuple[str, int], ...]

    @property
    def words(self) -> str:
        count = f"{len(self.files)} file{'s' if len(self.files) != 1 else ''}"
        return f"{count}, {size(sum(many for _, many in self.files))}"


def arrived(view: RunView) -> Arrived | None:
    return _held(Versions(Path(view.plan.project)).partial(view.plan.run))


def left_over(place: Versions, home: Home) -> tuple[Arrived, ...]:
    """What came home of machines that were lost, less what a run may still go on with."""
    told = place.leftovers()
    found = (_held(folder) for folder, run in told if run is None or _is_over(home.run(run)))
    return tuple(one for one in found if one is not None)


def _is_over(run: RunFolder) -> bool:
    try:
        return RunView(run).state.ended is not None
    except LauncherError:  # another data folder's, or damaged: nobody knows
        return False


def _held(folder: Path) -> Arrived | None:
    files: list[tuple[str, int]] = []
    for path in sorted(folder.rglob("*")):
        with suppress(OSError):  # it may be renamed into a version this very moment
            facts = path.lstat()
            if stat.S_ISREG(facts.st_mode):
                files.append((path.relative_to(folder).as_posix(), facts.st_size))
    return Arrived(folder, tuple(files)) if files else None


def document(t: Transfer | None, now: datetime) -> Json | None:
    """As in `status --json`."""
    if t is None:
        return None
    return {
        "what": t.what,
        "part": t.part,
        "done": t.done,
        "total": t.total,
        "rate": t.rate_now(now),
        "eta_s": t.eta_s(now),
        "stalled_s": t.stalled_s(now),
    }
