"""What one finished version says of itself: everything a report tells, read from its folder and from the
run's own facts where this data folder still has them.

Every file may be missing, torn or foreign: what cannot be read is not there. Nothing is written here, and
nothing is made nice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from launcher import guard, telemetry
from launcher.artifacts import OWN
from launcher.codec import foreign_json, load, parse_iso
from launcher.errors import LauncherError
from launcher.events import parse_events
from launcher.models import Choice, Json, Plan
from launcher.report.charts import Point
from launcher.report.markup import lines
from launcher.report.versions import Version
from launcher.report.view import RunView
from launcher.runstate import RunState
from launcher.store import Home

LOG_BYTES = 1 << 18  # of its end; 200 lines are rarely more
NAMES = 500  # metrics, splits counted each: a trainer that names one per step has none
Course = dict[str, dict[str, list[Point]]]  # metric -> split -> points


@dataclass(frozen=True)
class Content:
    version: Version
    plan: Plan | None = None
    state: RunState | None = None
    samples: tuple[telemetry.Sample, ...] = ()
    events: tuple[Json, ...] = ()  # those that say when, each with its moment under "when"
    course: Course = field(default_factory=dict)
    log: tuple[str, ...] = ()

    @property
    def manifest(self) -> Json:
        return self.version.manifest

    @property
    def choice(self) -> Choice | None:
        """What was rented in the end; by its target where only the version is left to tell."""
        if self.state is not None and self.state.attempt is not None:
            return self.state.plan.choices[self.state.attempt.choice]
        if self.plan is None:
            return None
        target = self.manifest.get("target")
        return next((c for c in self.plan.choices if c.offer.target == target), None)

    @property
    def created(self) -> datetime | None:
        return moment(self.manifest.get("created"))

    @property
    def origin(self) -> datetime | None:
        """Where the machine's own time begins."""
        first = [e["when"] for e in self.events[:1]] + [m for s in self.samples[:1] if (m := moment(s.at))]
        return min(first, default=None)

    def first(self, kind: str) -> Json | None:
        return next((e for e in self.events if e["ev"] == kind), None)

    def last(self, kind: str) -> Json | None:
        return next((e for e in reversed(self.events) if e["ev"] == kind), None)


def moment(said: object) -> datetime | None:
    if not isinstance(said, str):
        return None
    try:
        return parse_iso(said)
    except (ValueError, OverflowError):  # the latter: the year 1, seen from another zone
        return None


def read(version: Version, home: Home | None) -> Content:
    own = version.path / OWN
    samples = tuple(s for s in telemetry.parse(rows(own / "telemetry.jsonl")) if moment(s.at))
    return Content(
        version,
        plan=_plan(own / "plan.json"),
        state=_state(version, home) if home is not None else None,
        samples=samples,
        events=tuple(
            {**e, "when": at} for e in parse_events(rows(own / "events.jsonl")) if (at := moment(e.get("at")))
        ),
        course=course(rows(version.path / "metrics.jsonl")) or sampled(samples),
        log=tuple(lines(_end(own / "log") or _end(version.path / "training.log"))),
    )


def rows(file: Path) -> Iterator[bytes]:
    """Line by line: a long training's file is not held whole."""
    if file.is_symlink() or not file.is_file():
        return
    with file.open("rb") as f:
        yield from f


def _end(file: Path) -> bytes:
    if file.is_symlink() or not file.is_file():
        return b""
    with file.open("rb") as f:
        size = f.seek(0, 2)
        f.seek(max(0, size - LOG_BYTES))
        data = f.read()
    return data if size <= LOG_BYTES else data.partition(b"\n")[2] or data


def _plan(file: Path) -> Plan | None:
    try:
        return load(Plan, foreign_json(b"".join(rows(file))))
    except (ValueError, TypeError):
        return None


def _state(version: Version, home: Home) -> RunState | None:
    """The run that made it. Another project's run may have the same name."""
    run = version.manifest.get("run")
    if run not in home.names():
        return None
    try:
        view = RunView(home.run(str(run)))
    except LauncherError:  # it cannot be read any more: then the version speaks alone
        return None
    path = view.state.version_path
    return view.state if path is not None and Path(path) == version.path else None


# --- what the trainer measured -------------------------------------------------------------------


def course(lines_: Iterable[bytes]) -> Course:
    """`{ts, step, split, name, value}` a line; without a step they are counted."""
    found: Course = {}
    known = 0
    for line in lines_:
        row = _row(line)
        if row is None:
            continue
        splits = found.get(row[0], {})
        if row[1] not in splits:
            if known == NAMES:
                continue
            known, splits = known + 1, found.setdefault(row[0], {})
        points = splits.setdefault(row[1], [])
        points.append((float(len(points)) if row[2] is None else row[2], row[3]))
    return found


def _row(line: bytes) -> tuple[str, str, float | None, float | None] | None:
    try:
        value = foreign_json(line)
    except ValueError:
        return None
    if not isinstance(value, dict) or not isinstance(value.get("name"), str) or "value" not in value:
        return None
    said = value["value"]
    if said is not None and not isinstance(said, str) and _number(said) is None:
        return None
    return value["name"], str(value.get("split") or ""), _number(value.get("step")), _number(said)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def sampled(samples: Iterable[telemetry.Sample]) -> Course:
    """Where the trainer's own file did not come home: the values that were seen while it ran."""
    found: Course = {}
    for s in samples:
        for name, value in s.metrics.items() if s.step is not None else ():
            split, _, rest = name.rpartition("/")
            if s.step is not None and (len(found) < NAMES or rest in found):
                found.setdefault(rest, {}).setdefault(split, []).append((s.step, value))
    return found


# --- what it cost ----------------------------------------------------------------------------------


def costs(content: Content) -> list[Point]:
    """Seconds since the first machine was asked for, and dollars. Straight between the moments at which a
    machine began or ended; by the hourly price alone where only the version is left to tell."""
    choice, end = content.choice, content.created
    if choice is None or not choice.offer.bills or end is None:
        return []
    state = content.state
    if state is not None and state.attempts:
        begin = state.attempts[0].asked_at
        shares = [
            (a.usd_per_hour, a.asked_at, max(a.asked_at, a.billed_until or end)) for a in state.attempts
        ]
        return [
            (
                (m - begin).total_seconds(),
                float(sum(guard.spent(rate, b, min(e, m)) for rate, b, e in shares)),
            )
            for m in sorted({m for _, b, e in shares for m in (b, e)})
        ]
    usd, rate = _number(content.manifest.get("usd")), float(choice.offer.usd_per_hour)
    if not usd or rate <= 0:
        return []
    begin = max(content.origin or end, end - timedelta(hours=min(usd / rate, 1e5)))
    seconds = (end - begin).total_seconds()
    return [(0.0, max(0.0, usd - rate * seconds / 3600)), (seconds, usd)]
