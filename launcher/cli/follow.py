"""Showing a run while its engine works: terminals only look. Leaving the view never ends paid work unseen.

First Ctrl-C before the trainer started: undo. After it: leave, and say how to come back. A second one
within two seconds stops the run.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from types import FrameType
from typing import TextIO

from launcher.cli import requests
from launcher.cli.live import Block, Lines, harmless
from launcher.cli.travel import Travel
from launcher.models import State
from launcher.report import lines
from launcher.report.view import RunView, Tail

SLICE_S = 0.15  # between two looks at files whose writers tell nobody
LOG_SLICE_S = 0.5
SECOND_PRESS_S = 2.0
ENGINE_START_S = 10.0
FINAL = {State.DONE, State.FAILED, State.STOPPED, State.LIMIT}


class Interrupts:
    """Counts Ctrl-C instead of dying of it, while a view is open."""

    def __init__(self) -> None:
        self.count = 0
        self._before: object = None

    def __enter__(self) -> Interrupts:
        self._before = signal.signal(signal.SIGINT, self._press)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)  # type: ignore[arg-type]  # what signal() gave us

    def _press(self, number: int, frame: FrameType | None) -> None:
        self.count += 1


class Follower:
    """`silent` shows how far the run is, and nothing of what its trainer prints."""

    def __init__(
        self,
        view: RunView,
        prog: str,
        out: TextIO,
        *,
        board: bool = False,
        silent: bool = False,
        as_json: bool = False,
    ) -> None:
        self._view = view
        self._prog = prog
        self._out = out
        self._block = Block()
        self._travel = Travel(view, self._block, events=as_json)
        self._lines = Lines()
        self._tail = _where_left(view)
        self._warned = 0
        self._board = board
        self._silent = silent
        self._said: str | None = None
        self._quiet = False
        self._ending = 0  # of which attempt it was told
        # Whoever comes while it runs is not told how it came to run there.
        self._passed = 0 if view.state.started_at is None else max(0, len(view.state.attempts) - 1)
        self._interrupts = 0
        self.left = False  # the person went, the run goes on
        self.met = False  # what was waited for came

    def run(self, until: Callable[[RunView, State], bool] | None = None) -> State:
        """Until the run's end, or `until`, or until the person leaves. Returns what was shown last."""
        began = time.monotonic()
        with Interrupts() as presses:
            while True:
                now = datetime.now(UTC)
                self._view.refresh()
                state = self._view.shown(now)
                self._show(state, now)
                self.met = until is not None and until(self._view, state)
                if self.met or self._over(state, time.monotonic() - began):
                    break
                if presses.count > self._interrupts:
                    self._interrupts = presses.count
                    if self._pressed(presses):
                        break
                time.sleep(SLICE_S)
        now = datetime.now(UTC)
        if not self.left:
            self._show(self._view.shown(now), now)
            self._show_rest()
            self._block.clear()
            if self._view.state.ended is not None:
                self._block.above(self._lines.flush(), self._out)
                self._remember()
        return self._view.shown(now)

    def _over(self, state: State, waited: float) -> bool:
        if state in FINAL:
            return True
        if state is State.MAYBE_BILLING:
            return True
        return not self._view.engine_alive and (self._view.state.engines > 0 or waited > ENGINE_START_S)

    # --- what is seen ------------------------------------------------------------------------

    def _show(self, state: State, now: datetime) -> None:
        if not self._silent:
            self._show_log()
        warned = self._view.warnings()
        self._block.above([f"warning: {harmless(text)}" for text in warned[self._warned :]], sys.stderr)
        self._warned = len(warned)
        passed = lines.passed_over(self._view, self._passed)
        self._block.above([f"· {harmless(text)}" for text in passed], sys.stderr)
        self._passed += len(passed)
        if state.value != self._said and state not in FINAL and state is not State.PLANNED:
            self._said = state.value
            if not self._block.moving:
                self._block.above([f"· {self._phase(state)}"], sys.stderr)
        self._tell_silence(now)
        self._tell_ending(now)
        fitting = [lines.meter(self._view, now, self._block.width)]
        board = lines.board(self._view, now) if self._board else fitting
        self._block.update([*board, *self._travel.lines(now)], lines.meter(self._view, now))

    def _tell_silence(self, now: datetime) -> None:
        """Where nothing is drawn: once when it begins, and once when it is over."""
        quiet = lines.silence(self._view, now)
        if not self._block.moving and (quiet is not None) != self._quiet:
            target = self._view.offer.target
            told = f"{quiet}; the run goes on there" if quiet else f"{target} is heard again"
            self._block.above([f"· {told}"], sys.stderr)
        self._quiet = quiet is not None

    def _tell_ending(self, now: datetime) -> None:
        """Where nothing is drawn: once for each machine that takes its time."""
        a = self._view.attempt
        told = lines.ending(self._view, now)
        if told is not None and a is not None and a.n != self._ending and not self._block.moving:
            self._block.above([f"· {told}"], sys.stderr)
            self._ending = a.n

    def _show_log(self) -> None:
        """As much as one slice of a view takes; what a flood leaves over comes with the next one."""
        _touch(self._view)
        end = time.monotonic() + LOG_SLICE_S
        while time.monotonic() < end and (data := self._tail.read(len(self._view.state.attempts))):
            self._block.above(self._lines.feed(data), self._out)
            self._remember()

    def _show_rest(self) -> None:
        while not self._silent and (data := self._tail.read(len(self._view.state.attempts))):
            self._block.above(self._lines.feed(data), self._out)

    def _remember(self) -> None:
        """Up to the last whole line: whoever comes back goes on there. Written beside, so never torn."""
        note = f"{self._tail.attempt} {self._tail.offset - self._lines.held}"
        beside = self._view.folder.shown.with_suffix(f".{os.getpid()}")
        with suppress(OSError):  # a full disk costs the place, not the view
            beside.write_text(note)
            beside.replace(self._view.folder.shown)

    def _phase(self, state: State) -> str:
        told = {
            State.PREPARING: "preparing: project and environment",
            State.RUNNING: "running",
            State.PULLING: "fetching and checking the results",
            State.RENTING: f"asking {self._view.offer.target} for a machine",
        }
        return told.get(state, state.value)

    # --- Ctrl-C ------------------------------------------------------------------------------

    def _pressed(self, presses: Interrupts) -> bool:
        """True = the view ends here."""
        if self._view.state.started_at is None:
            if self._view.state.stop is None:
                self._block.above(
                    ["stopping: nothing has started yet, undoing what was asked for"], sys.stderr
                )
                requests.write(self._view.folder, "stop", now=True)
            return False
        self._block.clear()
        print(self.leaving(), file=sys.stderr)
        end = time.monotonic() + SECOND_PRESS_S
        while time.monotonic() < end:
            if presses.count > self._interrupts:
                self._interrupts = presses.count
                requests.write(self._view.folder, "stop", now=False)
                print("stopping the run: checkpoint, fetch, end", file=sys.stderr)
                return False
            time.sleep(0.05)  # a second press is counted by its handler, which must not wake who holds a lock
        self.left = True
        return True

    def leaving(self) -> str:
        """Rate, end, and the lines to come back and to stop."""
        view, prog = self._view, self._prog
        a = view.attempt
        rate = f"{lines.money(a.usd_per_hour)}/h" if a is not None and view.offer.bills else "$0"
        end = f", ends by {lines.clock(a.d, datetime.now(UTC))} at the latest" if a is not None else ""
        storage = view.offer.storage_usd_per_day
        kept = (
            f"  results that nobody fetches wait on the stopped machine for {lines.money(storage)}/day\n"
            if storage
            else ""
        )
        return (
            f"left the view; {view.plan.run} goes on ({rate}{end})\n{kept}"
            f"  come back: {prog} watch {view.plan.run}\n"
            f"  stop it:   {prog} stop {view.plan.run}    (or press Ctrl-C again now)"
        )


def _where_left(view: RunView) -> Tail:
    """The trainer's output from where the last view of this run ended; `logs` has it whole."""
    with suppress(OSError, ValueError):
        attempt, offset = map(int, view.folder.shown.read_text().split())
        return Tail(view.folder, attempt=attempt, offset=offset)
    return Tail(view.folder)


def _touch(view: RunView) -> None:
    """Somebody looks: the agent samples each second while this is fresh."""
    with suppress(OSError):  # a full disk costs the finer samples, not the view
        view.folder.watched.touch()
