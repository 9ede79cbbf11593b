"""The course of one job, from asking for its start to its sealed output: pure decisions.

starting  asked for, not yet seen
run       the trainer lives: T, D and idleness hold
clear     the trainer is gone or never came: its last processes are found and killed
close     a last look at the checkpoints
seal      every file of the output is hashed
over      results wait; the session decides how long
"""

from __future__ import annotations

from math import inf

from .outbook import Outbook
from .protocol import (
    Action,
    Event,
    Exited,
    Job,
    Look,
    Refused,
    Running,
    Seal,
    Sealed,
    Sight,
    Signal,
    Start,
    Unsealed,
)
from .voice import Voice
from .watchbook import Watchbook

LAST_KILL_S = 1.0  # before D: whoever still lives is killed, so that D finds nobody
KILL_AGAIN_S = 0.05
LOOK_AGAIN_S = 0.1
CLEAR_LIMIT_S = 10.0  # what cannot be killed for so long keeps the results from nobody
CLOSE_LIMIT_S = 15.0  # results never wait longer for the last checkpoints' hashes
SEAL_AGAIN_S = 5.0
RENAMED_SHOWN = 5
IDLE_SOON = 0.75  # share of the idle limit after which a warning is due


class Course:
    def __init__(self, job: Job | None, voice: Voice) -> None:
        self.job = job
        self.phase = "starting"
        self.why: str | None = None  # what stopped the trainer; None = its own end
        self.started: float | None = None
        self.ends = inf  # D, known once started
        self.sealed: Sealed | None = None
        self._voice = voice
        self._since = voice.now  # when this phase began
        self._t_end = inf
        self._kill_at = inf
        self._again_at = inf  # the next repeated kill, look or seal
        self._stop_wanted: tuple[str, bool] | None = None
        self._last_busy = 0.0
        self._idle_said = False
        self._exit: tuple[int | None, int | None] = (None, None)
        self._gone_at = 0.0
        self._place = "output" if job is None else job.output
        self._watch: Watchbook | None = None
        self._early: Outbook | None = None

    # ── what the session asks ─────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        assert self.job is not None
        self._voice.do(Start(self.job))

    def take_up(self, left: Unsealed) -> None:
        """An earlier life saw its trainer to the end and no further."""
        self.why, self._exit, self._place = left.why, (left.code, left.signal), left.place
        self._seal()

    def refuse(self, why: str, message: str) -> None:
        self._voice.emit("refused", why=why, message=message)
        self._clear()

    def abandon(self, why: str) -> None:
        """Stopped before anything was started."""
        self.why = why
        self._voice.emit("stopping", why=why)
        self._clear()

    def deadline(self, max_time_s: float, salvage_s: float) -> None:
        if self.started is not None:
            self._t_end = self.started + max_time_s
            self.ends = self._t_end + salvage_s

    def stop(self, why: str, at_once: bool) -> None:
        now = self._voice.now
        if self.phase == "starting":
            self._stop_wanted = (why, at_once)
        elif self.phase == "run" and self.why is None:
            assert self.job is not None
            self.why = why
            self._voice.emit("stopping", why=why)
            self._kill_at = now if at_once else now + self.job.grace_s
            if not at_once:
                self._voice.do(Signal("term"))
        elif self.phase in ("run", "clear") and at_once:
            self._kill_at = min(self._kill_at, now)
            self._again_at = min(self._again_at, now)

    # ── what happened ─────────────────────────────────────────────────────────────────────────────

    def facts(self, sight: Sight) -> None:
        trainer = sight.trainer
        if self.phase == "starting":
            if isinstance(trainer, Refused):
                self.refuse(trainer.why, trainer.message)
            elif trainer is not None:
                self._is_started(trainer)
        if self.phase == "run" and isinstance(trainer, Exited):
            self._gone_at = self._voice.now
            self._exit = (trainer.code, trainer.signal)
            self._voice.emit("exited", exit_code=trainer.code, signal=trainer.signal, why=self.why)
            self._clear()
        if self._early is not None:
            self._early_facts(self._early, sight)
        if self._watch is not None:
            if sight.checkpoints is not None:
                self._voice.do(*self._watch.seen(self._voice.now, sight.checkpoints))
            for answer in sight.hashed:
                event = self._watch.hashed(answer)
                if event is not None:
                    self._voice.emit(**event)

    def _early_facts(self, book: Outbook, sight: Sight) -> None:
        told: list[tuple[list[Event], list[Action]]] = []
        if sight.outputs is not None:
            told.append(book.seen(self._voice.now, sight.outputs))
        told += [book.hashed(answer) for answer in sight.hashed_outputs]
        for events, actions in told:
            for event in events:
                self._voice.emit(**event)
            self._voice.do(*actions)

    def _is_started(self, trainer: Running | Exited) -> None:
        assert self.job is not None
        now = self._voice.now
        self._enter("run")
        self.started = self._last_busy = now
        self.deadline(self.job.max_time_s, self.job.salvage_s)
        if self.job.checkpoint is not None:
            self._watch = Watchbook(now, self.job.checkpoint_every_s)
        if self.job.early_every_s is not None:
            self._early = Outbook(now, self.job.early_every_s)
        self._voice.emit("started", pid=trainer.pid, argv0=self.job.argv[0], output=self.job.output)
        if self._stop_wanted is not None:
            self.stop(*self._stop_wanted)

    def _clear(self) -> None:
        self._enter("clear")
        if self._early is not None:
            self._early.close()
        if self._kill_at == inf:  # its own end: what it left running is not wanted
            self._kill_at = self._voice.now

    # ── what is due ───────────────────────────────────────────────────────────────────────────────

    def timers(self, sight: Sight) -> None:
        if self.phase == "run":
            self._while_running(sight.activity)
        if self.phase == "clear":
            self._while_clearing(sight.tree_empty)
        if self.phase == "close" and self._closed():
            self._seal()
        elif self.phase == "seal":
            self._while_sealing(sight)

    def next_at(self) -> float:
        """When the next decision is due, inf when only a fact can bring one."""
        at = self._again_at
        if self.phase == "run":
            if self.why is None:
                at = min(at, self._t_end, self._idle_at())
            if self._again_at == inf:
                at = min(at, self._kill_time())
            if self._watch is not None:
                at = min(at, self._watch.next_at())
            if self._early is not None:
                at = min(at, self._early.next_at())
        elif self.phase == "close":
            at = self._close_end()
        return at

    def _while_running(self, activity: bool | None) -> None:
        now = self._voice.now
        if activity is not False:  # unreadable counts as busy
            self._last_busy, self._idle_said = now, False
        if now >= self.ends - LAST_KILL_S:
            self.stop("deadline", self._again_at == inf)
        elif now >= self._t_end:
            self.stop("limit", False)
        elif now >= self._idle_at():
            self._idle()
        if now >= (self._kill_time() if self._again_at == inf else self._again_at):
            self._voice.do(Signal("kill"))
            self._again_at = now + KILL_AGAIN_S
        if self._watch is not None:
            self._voice.do(*self._watch.due(now))
        if self._early is not None:
            self._voice.do(*self._early.due(now))

    def _while_clearing(self, tree_empty: bool) -> None:
        now = self._voice.now
        if tree_empty and self._again_at != inf:  # the look was ours, not an older one
            self._close()
        elif self._again_at == inf or now >= self._again_at:
            patient = now < self._kill_time()  # after a polite stop its children may finish, too
            if not patient and now >= max(self._since, self._kill_time()) + CLEAR_LIMIT_S:
                self._voice.warn("processes-left", f"some processes outlived {CLEAR_LIMIT_S:.0f} s of kills")
                self._close()
                return
            self._voice.do(Look() if patient else Signal("kill"))
            self._again_at = now + (LOOK_AGAIN_S if patient else KILL_AGAIN_S)

    def _close(self) -> None:
        self._enter("close")
        if self._watch is not None:
            self._voice.do(*self._watch.close(self._gone_at, self._exit == (0, None)))

    def _closed(self) -> bool:
        return self._voice.now >= self._close_end() or self._watch is None or not self._watch.busy

    def _close_end(self) -> float:
        return self._since + min(CLOSE_LIMIT_S, (self.ends - self._since) / 3)  # sealing needs time, too

    def _seal(self) -> None:
        self._enter("seal")
        self._voice.do(Seal(self._place))

    def _while_sealing(self, sight: Sight) -> None:
        if isinstance(sight.sealed, Sealed):
            self._is_sealed(sight.sealed)
        elif sight.sealed is not None:
            self._voice.warn("seal-failed", sight.sealed.message)
            self._again_at = self._voice.now + SEAL_AGAIN_S
        elif self._voice.now >= self._again_at:
            self._again_at = inf
            self._voice.do(Seal(self._place))

    def _is_sealed(self, facts: Sealed) -> None:
        self.sealed = facts
        self._enter("over")
        if facts.full:
            self._voice.warn("disk-full", "the machine's disk was full when the trainer had ended")
        if facts.renamed:
            names = ", ".join(facts.renamed[:RENAMED_SHOWN])
            more = f" and {len(facts.renamed) - RENAMED_SHOWN} more" if facts.renamed[RENAMED_SHOWN:] else ""
            self._voice.warn(
                "names-escaped", f"names that no version can hold are kept escaped: {names}{more}"
            )
        self._voice.emit(
            "sealed",
            sync=True,
            digest=facts.digest,
            count=facts.count,
            bytes=facts.bytes,
            exit_code=self._exit[0],
            signal=self._exit[1],
            why=self.why,
            skipped=list(facts.skipped),
        )

    def _idle_at(self) -> float:
        """When idleness has lasted long enough for the next word about it."""
        if self.job is None or not self.job.idle_s or self.why is not None:
            return inf
        return self._last_busy + self.job.idle_s * (1 if self._idle_said else IDLE_SOON)

    def _idle(self) -> None:
        assert self.job is not None and self.job.idle_s
        left = self._last_busy + self.job.idle_s - self._voice.now
        if left <= 0:
            self.stop("idle", False)
        else:
            self._idle_said = True
            self._voice.warn("idle-soon", f"nothing happens: it is stopped in {left:.0f} s")

    def _kill_time(self) -> float:
        return min(self._kill_at, self.ends - LAST_KILL_S)

    def _enter(self, phase: str) -> None:
        self.phase, self._since, self._again_at = phase, self._voice.now, inf
