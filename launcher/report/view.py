"""A run as a person sees it: plan, facts and streams of one run folder, read and never written.

Reading is by offset, so a view that stays open reads only what is new.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from operator import attrgetter
from pathlib import Path

from launcher import journal, runstate, telemetry
from launcher.attempt import STAYS
from launcher.codec import load
from launcher.errors import Exit, LauncherError, usage
from launcher.events import parse_events
from launcher.files import held
from launcher.models import Offer, Plan, State
from launcher.remote.channel import harmless
from launcher.runstate import Attempt, RunState
from launcher.store import AttemptFolder, Home, RunFolder

SILENT_S = 5.0
COURSE = ("started", "exited", "sealed")  # what an agent says of its trainer
LINE_BYTES, LINE = 4096, 120  # of the last line that a trainer printed


@dataclass
class Tail:
    """A stream of the run by byte offset, over all attempts: coming back loses and repeats nothing."""

    folder: RunFolder
    stream: Callable[[AttemptFolder], Path] = attrgetter("log")
    attempt: int = 1
    offset: int = 0

    def read(self, attempts: int, limit: int = 1 << 20) -> bytes:
        """What is new; goes on to the next attempt once this one's is read and a newer one exists."""
        while True:
            path = self.stream(self.folder.attempt(self.attempt))
            try:
                with path.open("rb") as f:
                    f.seek(self.offset)
                    data = f.read(limit)
            except FileNotFoundError:
                data = b""
            self.offset += len(data)
            if data or self.attempt >= attempts:
                return data
            self.attempt, self.offset = self.attempt + 1, 0


@dataclass
class RunView:
    folder: RunFolder
    plan: Plan = field(init=False)
    state: RunState = field(init=False)
    answers: dict[str, str] = field(default_factory=dict)  # by request id
    driven_since: datetime | None = None  # by the engine that was there last
    _good: int = 0
    _crc: int = 0
    _warned: list[str] = field(default_factory=list)
    _events: Tail = field(init=False)
    _torn: bytes = b""

    def __post_init__(self) -> None:
        self._events = Tail(self.folder, attrgetter("events"))
        try:
            self.plan = load(Plan, json.loads(self.folder.plan.read_bytes()))
        except (OSError, ValueError, TypeError, KeyError) as e:
            raise LauncherError(
                "run-damaged",
                f"the plan of {self.folder.name} cannot be read: {e}",
                exit=Exit.USAGE,
                hint="doctor",
                details=(f"It lies in {self.folder.plan}.",),
                billed="unknown: the machine, if there is one, ends itself at its deadline",
            ) from e
        self.state = runstate.fold(self.plan, ())
        self.refresh()

    def refresh(self) -> None:
        """Fold what was appended since the last look. A torn tail is the writer's to repair."""
        try:
            with self.folder.journal.open("rb") as f:
                f.seek(self._good)
                data = f.read()
        except FileNotFoundError:
            return
        reading = journal.read(data, self._crc)
        self._good += reading.good
        self._crc = reading.crc
        for fact in reading.facts:
            self.state = runstate.apply(self.state, fact)
            if fact.kind == "answered":
                self.answers[fact.data["id"]] = str(fact.data.get("outcome"))
            elif fact.kind == "engine":
                self.driven_since = fact.at
            elif fact.kind in ("noticed", "rescued") and fact.data.get("message"):
                self._warned.append(str(fact.data.get("message")))

    @property
    def engine_alive(self) -> bool:
        return held(self.folder.lock)

    @property
    def attempt(self) -> Attempt | None:
        return self.state.attempt

    @property
    def live(self) -> Attempt | None:
        """Whose machine may be at work, and ends by itself: not where nothing runs and its output stays."""
        a, halted = self.state.attempt, self.state.halted
        return a if a is not None and a.open and (halted is None or halted.code != STAYS) else None

    @property
    def offer(self) -> Offer:
        """Of the attempt that counts, or the one that would be tried first."""
        a = self.state.attempt
        return self.plan.choices[a.choice if a is not None else 0].offer

    def shown(self, now: datetime) -> State:
        """A dead engine is only called dead after its last words were read: it may have ended well since."""
        alive = self.engine_alive
        if not alive:
            self.refresh()
        state = runstate.shown(self.state, engine_alive=alive, now=now)
        return State.WAITING if state is State.INTERRUPTED and self._sealed_since() else state

    def _sealed_since(self) -> bool:
        """The trainer ended after its engine had died: its host is this machine, or a look at it said so."""
        a = self.state.attempt
        if a is None or a.started_at is None:
            return False
        folder = self.folder.attempt(a.n)
        return (folder.spool / "sealed.json").exists() or folder.sealed.exists()

    def warnings(self) -> tuple[str, ...]:
        """What engines noticed and agents warned of, oldest first. Reads only what is new."""
        while data := self._events.read(len(self.state.attempts)):
            *lines, self._torn = (self._torn + data).split(b"\n")
            self._warned += [str(e.get("message")) for e in parse_events(lines) if e["ev"] == "warned"]
        return tuple(self._warned)

    def silent_s(self, now: datetime) -> float | None:
        """For how long a running trainer's machine has not answered, once that is longer than a breath."""
        if not self.engine_alive or self.shown(now) is not State.RUNNING:
            return None
        still = self.unheard_s(now)
        if still is not None and self.driven_since is not None:  # before that nobody listened
            still = min(still, (now - self.driven_since).total_seconds())
        return round(still, 1) if still is not None and still >= SILENT_S else None

    def unheard_s(self, now: datetime) -> float | None:
        """Since its machine last answered, if it ever did."""
        a = self.state.attempt
        if a is None:
            return None
        try:
            return now.timestamp() - self.folder.attempt(a.n).heard.stat().st_mtime
        except FileNotFoundError:
            return None

    def told_of_end(self) -> bool:
        """Its machine said that the trainer is gone, which may not be a fact here yet."""
        a = self.state.attempt
        try:
            with self.folder.attempt(a.n if a is not None else 1).events.open("rb") as f:
                f.seek(max(0, f.seek(0, 2) - LINE_BYTES))
                *_, last = ("", *(e["ev"] for e in parse_events(f.read().split(b"\n")) if e["ev"] in COURSE))
        except FileNotFoundError:
            return False
        return last in COURSE[1:]

    def sample(self) -> telemetry.Sample | None:
        a = self.state.attempt
        return telemetry.last(self.folder.attempt(a.n).telemetry) if a is not None else None

    def last_line(self) -> str | None:
        """What the trainer printed last, while it says nothing of steps."""
        a = self.state.attempt
        try:
            with self.folder.attempt(a.n if a is not None else 1).log.open("rb") as f:
                f.seek(max(0, f.seek(0, 2) - LINE_BYTES))
                said = [harmless(line) for line in f.read().replace(b"\r", b"\n").split(b"\n")]
        except FileNotFoundError:
            return None
        return next((line[:LINE] for line in reversed(said) if line), None)

    def why(self) -> str | None:
        """The last thing that went wrong, in its own words."""
        s = self.state
        if s.ended is State.DONE:
            return None
        if s.halted is not None:
            return s.halted.why
        if s.pull_failed is not None:
            return s.pull_failed
        if s.sealed is not None and s.sealed.refused is not None:
            return s.sealed.refused
        return next((a.over for a in reversed(s.attempts) if a.over and a.receipt_at is None), None)

    def seconds(self, now: datetime) -> float | None:
        """The trainer's time, over all machines. Of one that was found asleep nobody knows when it ended."""
        last = self.state.attempt
        if last is not None and last.asleep and last.sealed is None:
            return None
        total, seen = 0.0, False
        for a in self.state.attempts:
            if a.started_at is not None:
                end = a.sealed.at if a.sealed else a.gone_at or now
                told = a.sealed.ran_s if a.sealed else None
                total += (end - a.started_at).total_seconds() if told is None else told
                seen = True
        return round(total, 3) if seen else None

    def usd(self, now: datetime) -> Decimal:
        return self.state.spent(now)


def by_age(home: Home, damaged: Callable[[str, LauncherError], None]) -> list[RunView]:
    """Every run that can be read, oldest first. One that cannot is told of and hides no other."""
    views: list[RunView] = []
    for name in home.names():
        try:
            views.append(RunView(home.run(name)))
        except LauncherError as e:
            damaged(name, e)
    return views


def _newest(home: Home, names: Sequence[str], project: Path) -> RunView:
    elsewhere = None
    for name in reversed(names):
        with suppress(LauncherError):  # a damaged run hides no other
            view = RunView(home.run(name))
            if Path(view.plan.project) == project:
                return view
            elsewhere = elsewhere or view
    none = f"there is no run of {project} yet"
    if elsewhere is None:
        raise usage("no-run", none, hint="run")
    told = f"The newest of other folders is {elsewhere.plan.run}, of {elsewhere.plan.project}."
    raise usage("no-run", none, hint="ps", details=(told,))


def find(home: Home, wanted: str | None, project: Path) -> RunView:
    """By name or unique prefix; left out = the newest run of this project."""
    names = home.names()
    if wanted is None:
        return _newest(home, names, project)
    if wanted in names:
        return RunView(home.run(wanted))
    hits = [n for n in names if n.startswith(wanted)]
    if len(hits) == 1:
        return RunView(home.run(hits[0]))
    if hits:
        raise usage("ambiguous-run", f"{wanted!r} could be {', '.join(hits[:5])}", hint="ps")
    from difflib import get_close_matches

    near = get_close_matches(wanted, names, n=1)
    raise usage(
        "unknown-run",
        f"there is no run {wanted!r}" + (f", did you mean {near[0]}?" if near else ""),
        hint="ps",
    )
