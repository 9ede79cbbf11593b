"""One rented machine: it boots, its guard waits for the agent, and the agent's own mind decides on virtual
time. Around the mind is only what would carry out its actions: a spool in memory and a modelled trainer.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from launcher.agent import protocol as p
from launcher.agent.mind import Mind
from launcher.agent.past import unsealed
from launcher.models import Access, Order, ResourceState, Traits
from tests.sim import large, misfortune
from tests.sim.kernel import EPOCH_S, Sim
from tests.sim.misfortune import Fate
from tests.sim.trainer import Trainer, checkpoint_files, listed, sha
from tests.sim.weather import Weather


class Machine:
    def __init__(self, sim: Sim, order: Order, id: str, fate: Fate, weather: Weather, traits: Traits) -> None:
        self.sim, self.order, self.id, self.fate, self.weather = sim, order, id, fate, weather
        self.access: Access | None = Access(kind="container", address=id, root="/spool")
        self.began = sim.t
        self.ended: float | None = None
        self.pausing = "pause" in traits.verbs
        self.asleep, self.slept_at = False, 0.0
        self.boots = 1
        self.ran_s = 0.0  # in earlier boots
        self.boot_from = sim.t  # this one is billed from then on
        self.booted: float | None = None
        self.agent_alive = True
        self.mind: Mind | None = None
        self.trainer: Trainer | None = None
        self.disk: dict[str, bytes | bytearray] = {}
        self._streams: dict[str, bytearray] = {}
        self._samples = 0
        self._flushed: tuple[float, float | None] = (-1.0, None)
        self.last_command = 0
        self.kept = True  # the disk is still there
        self.full_until = 0.0
        self.leave_why: str | None = None
        self.receipt = False
        self.sealed_at: float | None = None
        self.sealed_files: dict[str, bytes] = {}
        self.on_terminate: Callable[[Machine, str], None] = lambda machine, what: None
        self.on_command: Callable[[Machine, dict[str, Any]], None] = lambda machine, command: None
        self.on_limit: Callable[[Machine], None] = lambda machine: None
        # The end of life as a reader of the protocol would reckon it, apart from the mind's own sums.
        self.deadline = order.ends_at.timestamp() - EPOCH_S
        self.boot_end = self.deadline
        self._woken_at = -1.0
        self.sight = p.Sight(0.0)
        self.answered = False
        self._tree_empty = False
        self._state: p.Running | p.Exited | p.Refused | None = None
        if not fate.never_boots:
            sim.after(fate.boot_s, self._boot)
        misfortune.plan(self)

    # --- what the provider and the host see --------------------------------------------------

    def state(self) -> ResourceState:
        if self.ended is not None:
            return ResourceState.ENDED
        if self.asleep:
            return ResourceState.STOPPED
        return ResourceState.BOOTING if self.booted is None else ResourceState.RUNNING

    @property
    def alive(self) -> bool:
        """It computes, and bills for it."""
        return self.ended is None and not self.asleep

    @property
    def billed_s(self) -> float:
        return self.ran_s + (self.sim.t - self.boot_from if self.alive else 0.0)

    def met(self, name: str) -> None:
        self.weather.met(name)

    def pause(self) -> None:
        if not self.alive:
            return
        self.ran_s, self.asleep, self.slept_at = self.billed_s, True, self.sim.t
        self.mind, self.booted = None, None
        self._kill_trainer()
        self.sim.note("asleep", self.id)

    def unpause(self) -> None:
        """Another boot on the same disk, which lasts for its boot limit alone."""
        if self.ended is not None or not self.asleep:
            return
        self.asleep, self.agent_alive, self.boot_from = False, True, self.sim.t
        self.boots += 1
        self.sight, self._state = p.Sight(0.0), None
        boots = self.boots
        boot_s = min(self.fate.boot_s, 20) if self.weather.calm else self.fate.boot_s
        self.sim.after(boot_s, lambda: self._boot_again() if boots == self.boots else None)

    def _boot_again(self) -> None:
        if not self.alive:
            return
        self.booted = self.sim.t
        self.sim.note("booted", self.id, self.boots)
        self.deadline = self.boot_end = self.booted + self.order.boot_limit_s
        self.sim.at(self.boot_end, self._guard_over)
        self.on_limit(self)
        if "agent.pyz" in self.disk:
            self._begin()

    def _kill_trainer(self) -> None:
        if self.trainer is not None and self.trainer.ended is None:
            large.write(self)
            self.trainer.end(self.sim.t, None, 9)
            self._flush()

    def over(self, why: str) -> None:
        """Whoever guards it here ends it: with what nobody has fetched it is only stopped."""
        if self.pausing and self.trainer is not None and self.leave_why != "receipt":
            self.pause()
        else:
            self.end(why)

    def end(self, why: str = "terminated") -> None:
        if self.ended is None:
            if why == "terminated":
                self.on_terminate(self, "instance")
            self.ran_s, self.ended, self.asleep = self.billed_s, self.sim.t, False
            self.leave_why = self.leave_why or why
            self._kill_trainer()
            self.sim.note("ended", self.id, why)

    def drop_disk(self) -> None:
        self.on_terminate(self, "disk")
        self.kept = False
        self.disk = {}

    def console(self) -> str:
        return f"launcher boot {self.order.token}\n" if self.booted is not None else ""

    def wrote(self, path: str, data: bytes) -> None:
        """A file arrived in the spool."""
        self.disk[path] = data
        command = json.loads(data) if path.startswith("in/") else {}
        if command:
            self.last_command = max(self.last_command, command["n"] if self.agent_alive and self.alive else 0)
            self.on_command(self, command)
        if not self.alive or not self.agent_alive or self.booted is None:
            return
        if path == "agent.pyz" and self.mind is None:
            self._begin()
        elif command and self.mind is not None:
            self.sight.commands = (*self.sight.commands, command)
            self._watch_command(command)
            self.wake()

    def written(self, stream: str) -> bytes:
        """All of a stream, whatever became of the disk."""
        self._flush()
        return bytes(self._streams.get(stream, b""))

    def _flush(self) -> None:
        """The streams up to now."""
        trainer = self.trainer
        if trainer is not None and self._flushed != (self.sim.t, trainer.ended):
            self._flushed = (self.sim.t, trainer.ended)
            trainer.write_until(self.sim.t)
            self._stream("log", trainer.log)
            samples = int(((trainer.ended or self.sim.t) - trainer.started) / 30)
            while self._samples < samples:
                self._samples += 1
                self._stream("telemetry.jsonl").extend(b'{"t": %d}\n' % self._samples)

    def _stream(self, name: str, data: bytearray | None = None) -> bytearray:
        if name not in self._streams:
            self._streams[name] = bytearray() if data is None else data
            self.disk[name] = self._streams[name]
        return self._streams[name]

    def read(self, path: str) -> bytes | bytearray | None:
        self._flush()
        if path.startswith("output/early/"):
            large.write(self)
        return self.disk.get(path)

    # --- its life ----------------------------------------------------------------------------

    def _boot(self) -> None:
        if not self.alive or self.boots > 1:
            return
        self.booted = self.sim.t
        self.sim.note("booted", self.id)
        self.boot_end = min(self.deadline, self.booted + self.order.boot_limit_s)
        self.deadline = min(self.deadline, self.booted + self.order.ends_in_s)
        self.sim.at(self.boot_end, self._guard_over)
        self.on_limit(self)

    def _guard_over(self) -> None:
        if self.alive and self.mind is None and self.agent_alive and self.sim.t >= self.boot_end:
            self.over("boot-limit")

    def _begin(self) -> None:
        assert self.booted is not None
        order = self.order
        boot = p.Boot(
            token=order.token,
            ends_at=order.ends_at.timestamp() if self.boots == 1 else EPOCH_S + self.deadline,
            ends_in=order.ends_in_s if self.boots == 1 else order.boot_limit_s,
            boot_limit=order.boot_limit_s,
            hold=order.hold_s,
            boot=f"boot-{self.boots}",
            pid=1,
            python="3",
            platform="sim",
            taken=self.last_command,
            unsealed=unsealed(map(json.loads, self.written("events.jsonl").splitlines())),
        )
        self.mind = Mind(boot)
        self.wake()

    def _watch_command(self, command: dict[str, Any]) -> None:
        """What the protocol says a command does to the end of life."""
        verb = command["verb"]
        if verb == "lease" and (self.trainer is None):
            self.boot_end = min(self.deadline, self.sim.t + command["seconds"])
            self.on_limit(self)
        elif verb == "deadline" and self.trainer is not None and self.boots == 1:
            self.deadline = self.trainer.started + command["max_time_s"] + command["salvage_s"]
            self.on_limit(self)

    # --- the mind's body ---------------------------------------------------------------------

    def wake(self) -> None:
        mind, sim = self.mind, self.sim
        if mind is None or not self.alive or not self.agent_alive:
            return
        assert self.booted is not None
        for _ in range(50):
            sight, now = self.sight, sim.t - self.booted
            sight.wall = EPOCH_S + sim.t
            sight.trainer, sight.tree_empty = self._state, self._tree_empty
            hung = self.trainer is not None and self.trainer.manners.hangs
            sight.activity = not hung
            self.sight, self.answered = p.Sight(0.0), False
            for action in mind.wake(now, sight):
                self._do(action)
            if self.state() is not ResourceState.RUNNING:
                return
            if not self.answered:
                break
        due = self.booted + mind.next_wake(sim.t - self.booted)
        if due != float("inf"):
            due = max(due, sim.t + 0.001)
            self._woken_at = due
            sim.at(due, lambda: self.wake() if self._woken_at == due else None)

    def _do(self, action: p.Action) -> None:
        if isinstance(action, p.Emit):
            self._stream("events.jsonl").extend(json.dumps(action.event).encode() + b"\n")
            self.sim.note("agent", self.id, action.event["ev"], action.event.get("why"))
        elif isinstance(action, p.Leave):
            self.leave_why = action.why
            self.over("left")
        else:
            _DO[type(action)](self, action)

    def later(self, seconds: float, do: Callable[[], None]) -> None:
        boots = self.boots

        def then() -> None:
            if boots == self.boots and self.alive and self.agent_alive:
                do()
                self.wake()

        self.sim.after(seconds, then)

    def _prepare(self, action: p.Prepare) -> None:
        code = self.fate.manners.setup_exit
        if code:
            self.met("setup-fails")

        def done() -> None:
            tail = ('{"python": "/env/bin/python"}',) if code == 0 else ("no such package",)
            self.sight.prepared = p.Prepared(code, 3.0, tail)

        self.later(3.0, done)

    def _start(self, action: p.Start) -> None:
        self.later(0.2, lambda: self._started(action.job))

    def _started(self, job: p.Job) -> None:
        manners, sim = self.fate.manners, self.sim
        steps = [n.split("/")[1] for n in self.disk if n.startswith("checkpoint/") and n.count("/") > 1]
        done = max((int(name.removeprefix("step-")) for name in steps), default=0)
        self.trainer = trainer = Trainer(manners, sim.t, self.order.token[:6], done)
        self._state = p.Running(7)
        self.deadline = sim.t + job.max_time_s + job.salvage_s
        self.boot_end = self.deadline
        self.on_limit(self)
        if trainer.due is not None:
            sim.at(trainer.due, self._trainer_ends)
        large.plan(self)
        if manners.nan:
            sim.after(manners.seconds / 2, self._nan)

    def _nan(self) -> None:
        if self.alive and self.agent_alive and self.trainer is not None and self.trainer.ended is None:
            self.met("nan")
            self.sight.warnings = (("nan-metric", "loss is NaN"),)
            self.wake()

    def _trainer_ends(self, code: int | None = None, signal: int | None = None) -> None:
        trainer = self.trainer
        if trainer is None or trainer.ended is not None or not self.alive:
            return
        if code is None and signal is None:
            code = trainer.manners.exit_code
            if code:
                self.met("trainer-fails")
        trainer.end(self.sim.t, code, signal)
        for name in [n for n in self.disk if n.startswith("output/")]:
            del self.disk[name]
        self._state = p.Exited(7, code, signal)
        for name, data in trainer.output().items():
            self.disk[f"output/{name}"] = data
        self._flush()
        self.wake()

    def _signal(self, action: p.Signal) -> None:
        trainer = self.trainer
        self._tree_empty = trainer is None or trainer.ended is not None
        self.answered = True
        if trainer is None or trainer.ended is not None:
            return
        if action.kind == "kill":
            self.sim.after(0.01, lambda: self._trainer_ends(None, 9))
        elif trainer.manners.ignores_term:
            self.met("ignores-term")
        elif trainer.manners.hangs:
            self.met("trainer-hangs")
        else:
            self.sim.after(trainer.manners.term_s, lambda: self._trainer_ends(0, None))

    def _look(self, action: p.Look) -> None:
        self._tree_empty = self.trainer is None or self.trainer.ended is not None
        self.answered = True

    def _scan(self, action: p.ScanCheckpoints) -> None:
        self.sight.checkpoints = () if self.trainer is None else self.trainer.checkpoints(self.sim.t)
        self.answered = True

    def _hash(self, action: p.HashCheckpoint) -> None:
        assert self.trainer is not None
        files = checkpoint_files(action.name)
        for name, data in files.items():
            self.disk[f"checkpoint/{action.name}/{name}"] = data
        found = tuple(listed(name, data) for name, data in files.items())
        self.sight.hashed = (*self.sight.hashed, p.Hashed(action.name, action.fingerprint, found))
        self.answered = True

    def _seal(self, action: p.Seal) -> None:
        def done() -> None:
            if self.full_until > self.sim.t:
                self.met("host-disk-full")
                self.sight.sealed = p.SealFailed("no space left")
                return
            output = {k[7:]: bytes(v) for k, v in sorted(self.disk.items()) if k.startswith("output/")}
            files = [{"path": k, "size": len(v), "sha256": sha(v)} for k, v in output.items()]
            data = json.dumps({"files": files}).encode()
            self.disk["sealed.json"] = data
            if fault := self.fate.after_seal:
                self.sim.after(self.sim.rng.uniform(0.1, 1.5), lambda: misfortune.strike(self, fault))
            self.sealed_at, self.sealed_files = self.sim.t, output
            size = sum(len(v) for v in output.values())
            self.sight.sealed = p.Sealed(sha(data), len(files), size)

        self.later(0.5, done)

    def _ignore(self, action: p.Action) -> None:
        pass


_DO: dict[type, Callable[[Machine, Any], None]] = {
    p.Prepare: Machine._prepare,
    p.Start: Machine._start,
    p.Signal: Machine._signal,
    p.Look: Machine._look,
    p.ScanCheckpoints: Machine._scan,
    p.HashCheckpoint: Machine._hash,
    p.ScanOutput: large.scan,
    p.HashOutput: large.hash_one,
    p.Seal: Machine._seal,
    p.Rate: Machine._ignore,
}
