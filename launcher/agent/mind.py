"""What the agent decides, and when: no clock, no disk, no process, no randomness.

`wake(now, sight)` takes what is seen and answers what to do; `next_wake(now)` says when it must be asked
again at the latest. Whoever carries out an action wakes the mind when its answer is there. The real loop
and the simulator drive this same code. The session is here (hello, limits before a start, commands, how
long results wait); the course of its job is in course.py.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from .course import Course
from .protocol import (
    PROTOCOL,
    Action,
    BadCommand,
    Boot,
    Event,
    Job,
    Leave,
    Prepare,
    Prepared,
    Rate,
    Sight,
    Signal,
    inside,
    number,
    pairs,
    text,
    words,
)
from .voice import Voice

RATE_FOR_S = 15.0


class Mind:
    def __init__(self, boot: Boot) -> None:
        self.course: Course | None = None
        self.ends = boot.ends_in  # D as it stands
        self._ended = False
        self._boot = boot
        self._voice = Voice()
        self._greeted = False
        self._taken = boot.taken
        self._boot_end = boot.boot_limit
        self._preparing = False
        self._waiting: Job | None = None  # to be started once the environment is prepared
        self._hold_end = 0.0
        self._keep_end: float | None = None
        self._verbs: dict[str, Callable[[Event], None]] = {
            "lease": self._lease,
            "prepare": self._prepare,
            "start": self._start,
            "deadline": self._deadline,
            "stop": self._stop,
            "rate": self._rate,
            "hold": self._hold,
            "receipt": self._receipt,
            "end": self._end,
        }

    @property
    def phase(self) -> str:
        """boot, then the course's own phases (over: results wait), at last ended."""
        if self._ended:
            return "ended"
        return "boot" if self.course is None else self.course.phase

    def wake(self, now: float, sight: Sight) -> list[Action]:
        if self._ended:
            return []
        self._voice.begin(now, sight.wall)
        if not self._started():  # the wall clock counts only until the trainer's own D replaces it
            self.ends = min(self._boot.ends_in, now + self._boot.ends_at - sight.wall)
        if not self._greeted:
            self._hello()
        if now >= self.ends:
            self._finish("deadline")
        else:
            self._listen(sight)
        if not self._ended:
            self._facts(sight)
            self._timers(sight)
        return self._voice.actions

    def next_wake(self, now: float) -> float:
        """When to be woken at the latest: never before now, infinite when all is over."""
        if self._ended:
            return inf
        at = self.ends
        if not self._started() and self.phase != "starting":
            at = min(at, self._boot_end)
        if self.course is not None:
            at = min(at, self.course.next_at())
            if self.course.phase == "over":
                at = min(at, self._leave_at())
        return max(now, at)

    # ── commands ──────────────────────────────────────────────────────────────────────────────────

    def _listen(self, sight: Sight) -> None:
        for code, message in sight.warnings:
            self._voice.warn(code, message)
        for command in sight.commands:
            if not self._ended:
                self._take(command)
        if sight.term and not self._ended:
            self._term()

    def _take(self, command: Event) -> None:
        n = command.get("n")
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            self._voice.warn("bad-command", "a command without a number was left out")
            return
        if n <= self._taken:
            return
        self._taken = n
        self._voice.emit("took", n=n)
        try:
            verb = self._verbs.get(text(command, "verb"))
            if verb is None:
                raise BadCommand(f"unknown verb {command['verb'][:40]!r}")
            verb(command)
        except BadCommand as fault:
            self._voice.warn("bad-command", f"command {n}: {fault}")

    def _lease(self, command: Event) -> None:
        seconds = number(command, "seconds")
        if not self._started():
            self._boot_end = self._voice.now + seconds  # D wins over it wherever both are asked

    def _prepare(self, command: Event) -> None:
        action = Prepare(words(command, "argv"), inside(command, "cwd", "."), pairs(command, "env"))
        if self.course is None and self._waiting is None and not self._preparing:
            self._preparing = True
            self._voice.do(action)

    def _start(self, command: Event) -> None:
        if self.course is not None or self._waiting is not None:
            return
        try:
            job = Job.parse(command.get("job"))
        except BadCommand as fault:
            self._refuse(None, "bad-job", str(fault))
            return
        if self._preparing:
            self._waiting = job
        else:
            self._begin(job)

    def _deadline(self, command: Event) -> None:
        most, salvage = number(command, "max_time_s"), number(command, "salvage_s")
        if self.course is not None:
            self.course.deadline(most, salvage)

    def _stop(self, command: Event) -> None:
        why = text(command, "why", "stop")
        if self.course is None:
            self.course = Course(self._waiting, self._voice)
            self.course.abandon(why)
        else:
            self.course.stop(why, command.get("now") is True)

    def _rate(self, command: Event) -> None:
        self._voice.do(Rate(max(0.1, number(command, "seconds", 1)), RATE_FOR_S))

    def _hold(self, command: Event) -> None:
        self._hold_end = self._voice.now + number(command, "seconds")

    def _receipt(self, command: Event) -> None:
        digest = text(command, "digest")
        sealed = self.course.sealed if self.course is not None else None
        if sealed is None or sealed.digest != digest:
            self._voice.warn(
                "receipt-differs", f"the receipt names {digest[:64]}, which is not what is sealed"
            )
        elif self._keep_end is None:
            assert self.course is not None
            self._keep_end = self._voice.now + (self.course.job.keep_s if self.course.job else 0)

    def _end(self, _: Event) -> None:
        self._finish("end")

    def _term(self) -> None:
        """SIGTERM to the agent: the platform takes the machine back, or somebody stops the container."""
        if self.course is None or self.course.phase == "over":
            self._finish("end")
        else:
            self.course.stop("preempted", False)

    # ── what happened, what is due ────────────────────────────────────────────────────────────────

    def _facts(self, sight: Sight) -> None:
        if self.course is None and self._preparing and sight.prepared is not None:
            self._prepared(sight.prepared)
        if self.course is not None:
            self.course.facts(sight)

    def _prepared(self, done: Prepared) -> None:
        self._preparing = False
        tail = list(done.tail)
        self._voice.emit("prepared", exit_code=done.exit_code, seconds=round(done.seconds, 3), tail=tail)
        if self._waiting is not None and done.exit_code == 0:
            self._begin(self._waiting)
        elif self._waiting is not None:
            message = f"setting up the environment ended with {done.exit_code}"
            self._refuse(self._waiting, "prepare-failed", message)

    def _begin(self, job: Job) -> None:
        self.course = Course(job, self._voice)
        self.course.start()

    def _refuse(self, job: Job | None, why: str, message: str) -> None:
        self.course = Course(job, self._voice)
        self.course.refuse(why, message)

    def _timers(self, sight: Sight) -> None:
        now = self._voice.now
        if self._started():
            assert self.course is not None
            self.ends = self.course.ends
        elif now >= self._boot_end and self.phase != "starting":
            self._finish("boot-limit")
            return
        if self.course is None:
            return
        waited = self.course.phase == "over"
        self.course.timers(sight)
        if self.course.phase == "over":
            if not waited:
                self._hold_end = max(self._hold_end, now + self._boot.hold)
            if now >= self._leave_at():
                self._finish("hold" if self._keep_end is None else "receipt")

    def _leave_at(self) -> float:
        return self._hold_end if self._keep_end is None else self._keep_end

    def _finish(self, why: str) -> None:
        self._ended = True
        self._voice.emit("ending", why=why)
        self._voice.do(Signal("kill"), Leave(why))

    def _started(self) -> bool:
        return self.course is not None and self.course.started is not None

    def _hello(self) -> None:
        boot, now = self._boot, self._voice.now
        self._greeted = True
        self._voice.emit(
            "hello",
            protocol=PROTOCOL,
            token=boot.token,
            boot=boot.boot,
            pid=boot.pid,
            python=boot.python,
            executable=boot.executable,
            platform=boot.platform,
            gpus=boot.gpus,
        )
        ends, limit = round(self.ends - now, 3), round(min(self.ends, self._boot_end) - now, 3)
        more = {"seals": True} if boot.unsealed is not None else {}
        self._voice.emit("armed", ends_in_s=ends, boot_limit_s=limit, layers=["agent"], **more)
        if boot.unsealed is not None:
            self.course = Course(None, self._voice)
            self.course.take_up(boot.unsealed)
