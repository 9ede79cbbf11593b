"""The real loop: looks, asks the mind, does what it says. Nothing here decides.

It sleeps until a child dies, an answer comes, a command file is there or the mind's next date, and looks
into `in/` ten times a second, which costs one stat. A second thread ends everything should this loop hang
past D.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from contextlib import suppress
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from . import protocol as p
from .background import Background
from .clock import boot_clock, boot_name, epoch
from .keeper import keep
from .mind import Mind
from .spool import Inbox, Lines, Spool
from .tree import Tree

if TYPE_CHECKING:
    from .sampler import Sampler

POLL_S = 0.1
LOOK_S = 1.0  # the mind sees the wall clock at least so often: it may have been set
LEAVE_S = 3.0  # what cannot be killed for so long keeps the agent no more
HANGS_S = 3.0  # past D: then the loop is dead, and the second thread acts
HANGING = 70
KEEP_BYTES = 16 << 20


def run(token: str) -> int:
    keep(token)
    boot_at, env = boot_clock(), os.environ
    booted = float(env.get("LAUNCHER_BOOTED", repr(boot_at)))
    spool = Spool(env["LAUNCHER_SPOOL"])
    boot = p.Boot(
        token=token,
        ends_at=epoch(env["LAUNCHER_ENDS_AT"]),
        ends_in=float(env["LAUNCHER_ENDS_IN"]),
        boot_limit=float(env["LAUNCHER_BOOT_LIMIT"]),
        hold=float(env["LAUNCHER_HOLD"]),
        boot=boot_name(),
        pid=os.getpid(),
        python="{}.{}.{}".format(*sys.version_info),
        platform=f"{sys.platform} {os.uname().machine}",
        taken=spool.taken(),
        executable=sys.executable,
        gpus=env.get("CUDA_VISIBLE_DEVICES"),
        unsealed=spool.unsealed(),
    )
    return Agent(spool, Mind(boot), Tree(token), booted).run()


class Agent:
    def __init__(self, spool: Spool, mind: Mind, tree: Tree, booted: float) -> None:
        self._spool, self._mind, self._tree, self._booted = spool, mind, tree, booted
        self._inbox = Inbox(spool.inbox)
        self._events = Lines(spool.events, KEEP_BYTES)
        self._back = Background()
        self._sampler: Sampler | None = None
        self._sight = p.Sight(wall=0.0)
        self._news = True
        self._term = False
        self._left = False
        self._job: p.Job | None = None
        self._noted_end: float | None = None
        self._preparing: tuple[int, float, int] | None = None  # pid, since, where its output begins
        self._warnings: list[tuple[str, str]] = []

    def run(self) -> int:
        self._arm()
        wake_at = 0.0
        try:
            while True:
                now = self._now()
                if self._look() or now >= wake_at:
                    self._sight.wall, self._news = time.time(), False
                    self._ask_activity()
                    actions = self._mind.wake(now, self._sight)
                    self._forget()
                    for action in actions:
                        self._perform(action)
                    self._note_end(now)
                    wake_at = min(self._mind.next_wake(now), now + LOOK_S)
                if self._left:
                    return 0
                self._events.flush()
                self._telemetry()
                if not self._news:
                    self._sleep(wake_at)
        finally:
            self._bury_all()  # whatever ends this loop, a bug too, nobody is left unwatched

    def _note_end(self, now: float) -> None:
        """D as it was moved, for whoever guards this machine from above and knows the first one alone."""
        if self._job is None or self._mind.phase == "starting" or self._mind.ends == self._noted_end:
            return
        ends = datetime.fromtimestamp(time.time() + self._mind.ends - now, timezone.utc)
        with suppress(OSError):  # a full disk: the first D stands, and it comes earlier
            self._spool.note_end(ends.isoformat())
            self._noted_end = self._mind.ends

    # ── seeing ────────────────────────────────────────────────────────────────────────────────────

    def _now(self) -> float:
        return boot_clock() - self._booted

    def _look(self) -> bool:
        """Fill the sight; True when there is something new in it."""
        commands, warnings = self._inbox.poll()
        self._sight.commands = tuple(commands)
        while self._sampler is not None and self._sampler.warnings:
            warnings.append(self._sampler.warnings.popleft())
        self._sight.warnings = (*self._warnings, *warnings)
        self._warnings.clear()
        self._sight.term, self._term = self._term, False
        for pid, status in self._tree.reap().items():
            self._died(pid, status)
        came = self._back.deliver()
        seen = self._sight
        return bool(came or self._news or seen.commands or seen.warnings or seen.term)

    def _ask_activity(self) -> None:
        """Once a wake, never between two: what the mind was not told of would be forgotten."""
        if self._job is not None and self._job.idle_s and isinstance(self._sight.trainer, p.Running):
            self._sight.activity = self._telemetry().activity()

    def _forget(self) -> None:
        """Facts are handed over once; states stay."""
        sight = self._sight
        sight.commands, sight.warnings, sight.hashed, sight.term = (), (), (), False
        sight.prepared = sight.sealed = sight.checkpoints = sight.outputs = None
        sight.hashed_outputs = ()

    def _died(self, pid: int, status: int) -> None:
        from .child import outcome, tail

        code, number = outcome(status)
        if isinstance(self._sight.trainer, p.Running) and self._sight.trainer.pid == pid:
            self._sight.trainer = p.Exited(pid, code, number)
            self._telemetry().now()
        elif self._preparing is not None and self._preparing[0] == pid:
            _, since, offset = self._preparing
            ended = -number if number is not None else code or 0
            lines = tail(self._spool.setup_log, offset)
            self._preparing, self._sight.prepared = None, p.Prepared(ended, self._now() - since, lines)
        else:
            return
        self._news = True

    def _telemetry(self) -> Sampler:
        """Begins at its first use: it loads much, and the first words are not kept waiting for it."""
        if self._sampler is None:
            from .sampler import Sampler

            self._sampler = Sampler(self._spool, self._tree, self._booted, self._sampled)
            self._sampler.begin()
        return self._sampler

    def _sampled(self) -> None:
        self._back.knock()
        self._news = True

    # ── doing ─────────────────────────────────────────────────────────────────────────────────────

    def _perform(self, action: p.Action) -> None:
        if isinstance(action, p.Emit):
            self._events.append(action.event)
            if action.sync:
                self._events.sync()
        elif isinstance(action, p.Prepare):
            self._prepare(action)
        elif isinstance(action, p.Start):
            self._start(action.job)
        elif isinstance(action, p.Signal):
            self._signal(action.kind)
        elif isinstance(action, p.Look):
            self._sight.tree_empty = self._news = not self._tree.descendants()
        elif isinstance(action, p.Rate):
            self._telemetry().rate(action.interval_s, action.for_s)
        elif isinstance(action, p.Leave):
            self._leave(action.why)
        else:
            self._read(action)

    def _prepare(self, wish: p.Prepare) -> None:
        from .child import CannotStart, size_of, start_preparation

        offset = size_of(self._spool.setup_log)
        try:
            self._preparing = (start_preparation(wish, self._spool, self._tree), self._now(), offset)
        except CannotStart as fault:
            self._sight.prepared = p.Prepared(127, 0.0, (fault.refused.message,))
            self._news = True

    def _start(self, job: p.Job) -> None:
        self._job = job
        with suppress(FileNotFoundError):  # an earlier boot's list is not of what begins now
            os.unlink(self._spool.sealed)
        if job.require_gpu:
            from .gpu import is_there

            self._back.do(is_there, lambda there: self._launch(job, there))
        else:
            self._launch(job, True)

    def _launch(self, job: p.Job, has_gpu: bool) -> None:
        from .child import CannotStart, start_trainer

        self._news = True
        if self._left:
            return
        try:
            if not has_gpu:
                raise CannotStart("gpu-missing", "neither NVML nor nvidia-smi shows a GPU on this machine")
            self._spool.hold_back()
            self._sight.trainer = p.Running(start_trainer(job, self._spool, self._tree))
            self._telemetry().follow(job)
        except CannotStart as fault:
            self._sight.trainer = fault.refused
        self._drop_secrets()

    def _signal(self, kind: str) -> None:
        if kind == "kill":
            self._sight.tree_empty = self._news = self._tree.kill()
        elif isinstance(self._sight.trainer, p.Running):
            self._tree.term(self._sight.trainer.pid)

    def _read(self, action: p.Action) -> None:
        """What takes long is done beside the loop."""
        from . import checkpoints, output, seal

        job, spool = self._job, self._spool
        folder = spool.at(job.checkpoint) if job is not None and job.checkpoint is not None else ""
        place = job.output if job is not None else "output"
        if isinstance(action, p.Seal):
            sealed = action.place
            self._back.do(lambda: seal.seal(spool, sealed), self._take_seal)
        elif isinstance(action, p.ScanCheckpoints):
            self._back.do(lambda: checkpoints.scan(folder), self._take_scan)
        elif isinstance(action, p.HashCheckpoint):
            name, mark = action.name, action.fingerprint
            self._back.do(lambda: checkpoints.hash_one(folder, name, mark), self._take_hash)
        elif isinstance(action, p.ScanOutput):
            self._back.do(lambda: output.scan(spool, place), self._take_outputs, gently=True)
        elif isinstance(action, p.HashOutput):
            file, print_then = action.name, action.fingerprint
            self._back.do(
                lambda: output.hash_one(spool, place, file, print_then), self._take_output, gently=True
            )

    def _take_seal(self, answer: p.Sealed | p.SealFailed) -> None:
        self._sight.sealed = answer

    def _take_scan(self, answer: tuple[p.Seen, ...]) -> None:
        self._sight.checkpoints = answer

    def _take_hash(self, answer: p.Hashed) -> None:
        self._sight.hashed += (answer,)

    def _take_outputs(self, answer: tuple[p.Seen, ...]) -> None:
        self._sight.outputs = answer

    def _take_output(self, answer: p.Hashed) -> None:
        self._sight.hashed_outputs += (answer,)

    # ── beginning and end ─────────────────────────────────────────────────────────────────────────

    def _arm(self) -> None:
        """Before anybody is told that this machine ends by itself, it does."""
        signal.signal(signal.SIGTERM, self._on_term)
        signal.signal(signal.SIGINT, self._on_term)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # only so that it rings the bell
        signal.set_wakeup_fd(self._back.bell, warn_on_full_buffer=False)
        weaker = self._tree.adopt_orphans()
        if weaker is not None:
            self._warnings.append(("weak-tree", weaker))
        threading.Thread(target=self._second, name="second", daemon=True).start()

    def _on_term(self, *_: object) -> None:
        self._term = True

    def _second(self) -> None:
        """The loop hangs in a full disk or a broken mount: D counts all the same."""
        while self._now() < self._mind.ends + HANGS_S:
            # D may move while it waits, and a sleeping machine's clock goes on: so it looks each second.
            time.sleep(min(LOOK_S, max(0.05, self._mind.ends + HANGS_S - self._now())))
        self._tree.kill()
        self._tree.end_helpers()
        os._exit(HANGING)

    def _sleep(self, wake_at: float) -> None:
        wait = max(0.0, min(POLL_S, wake_at - self._now()))
        if select.select([self._back.door], [], [], wait)[0]:
            self._back.silence()

    def _leave(self, why: str) -> None:
        self._left = True
        self._drop_secrets()
        self._events.sync()
        with suppress(OSError):  # nobody may be listening
            os.write(1, f"launcher ends: {why}\n".encode())

    def _drop_secrets(self) -> None:
        names = {self._spool.secret}
        if self._job is not None and self._job.secret_file is not None:
            names.add(self._spool.at(self._job.secret_file))
        for name in names:
            with suppress(FileNotFoundError):
                os.unlink(name)

    def _bury_all(self) -> None:
        until = boot_clock() + LEAVE_S
        while not self._tree.kill() and boot_clock() < until:
            self._tree.reap()
            time.sleep(0.01)  # the kernel takes its time to end what was killed
        self._tree.end_helpers()
        self._tree.reap()
