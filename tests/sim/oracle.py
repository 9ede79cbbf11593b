"""The promises, checked whenever something happens. It reads facts, disks and bills; it decides nothing."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

from launcher import artifacts
from launcher.models import Fact, Order, Plan, State
from launcher.runstate import Attempt, RunState
from launcher.store import RunFolder, Versions
from tests.sim.disk import File, Folder, SimFiles
from tests.sim.kernel import EPOCH_S, Sim, Violation
from tests.sim.machine import Machine
from tests.sim.trainer import checkpoint_files, sha

ANSWER_S = 120.0  # with calls that hang for 30 s each; in calm weather it is the next tick
UNHEARD_S = 15.0  # between a seal and the next look, should a line be cut
NURSE_S = 400.0  # within which a living engine ends what should have ended itself


class Rental:
    """One machine and its meter."""

    def __init__(self, machine: Machine, rate: Decimal, bills: bool, overrun_s: float) -> None:
        self.machine, self.rate, self.bills, self.overrun_s = machine, rate, bills, overrun_s

    @property
    def order(self) -> Order:
        return self.machine.order

    def usd(self, until: float) -> float:
        return float(self.rate) * self.machine.billed_s / 3600


class Oracle:
    def __init__(self, sim: Sim, files: SimFiles, plan: Plan, folder: RunFolder, versions: Versions) -> None:
        self.sim, self.files, self.plan, self.folder, self.versions = sim, files, plan, folder, versions
        self.rentals: list[Rental] = []
        self.facts: list[Fact] = []  # every fact that the program was told is written
        self.ceiling = float(plan.consent.max_cost) if plan.consent else 0.0
        self.disk_was_full = False
        self.stopped = False
        self.lives = 0  # processes of the program so far
        self.hindered_until = 0.0  # it was suspended or its disk was full
        self.jumped_s = 0.0  # how wrong the client's clock was at the most
        self.state: RunState | None = None
        files.moved = self.moved

    def fail(self, promise: str, why: str) -> None:
        raise Violation(f"{promise}: {why}")

    # --- money -------------------------------------------------------------------------------

    def rented(self, machine: Machine, rate: Decimal, bills: bool, overrun_s: float) -> None:
        """A create call takes effect."""
        order = machine.order
        if f'"token":"{order.token}"'.encode() not in (self.files.durable(self.folder.journal) or b""):
            self.fail("P8", f"{machine.id} was created before its intent was on disk")
        others = [r for r in self.rentals if r.machine.alive or r.machine.asleep]
        if others:
            self.fail("P2", f"{machine.id} was created while {others[0].machine.id} still lives")
        rental = Rental(machine, rate, bills, overrun_s)
        self.rentals.append(rental)
        machine.on_limit, machine.on_terminate, machine.on_command = self.limited, self.ending, self.commanded
        self.limited(machine)
        self._committed()

    def limited(self, machine: Machine) -> None:
        """Its end of life was set: by then, and a little, it must be gone."""
        rental = self._rental(machine)
        for end in (machine.deadline, machine.boot_end if machine.trainer is None else machine.deadline):
            at = end + rental.overrun_s
            self.sim.at(at, lambda: self._due(machine, rental.overrun_s))
        self._committed()

    def _rental(self, machine: Machine) -> Rental:
        return next(r for r in self.rentals if r.machine is machine)

    def _due(self, machine: Machine, overrun_s: float) -> None:
        if not machine.alive:
            return
        if not machine.agent_alive or machine.booted is None:
            lives = self.lives
            self.sim.after(NURSE_S, lambda: self._nursed(machine, lives))
            return
        started = machine.trainer is not None
        limit = machine.deadline if started else min(machine.boot_end, machine.deadline)
        if self.sim.t >= limit + overrun_s:
            self.fail(
                "P1",
                f"{machine.id} lives {self.sim.t - limit:.0f} s past its {'D' if started else 'boot limit'}",
            )

    def _nursed(self, machine: Machine, lives: int) -> None:
        """Nobody on it could end it, but the engine lived all the time."""
        if machine.alive and self.at_work(lives, NURSE_S) and self.sim.t > machine.deadline + NURSE_S:
            self.fail("P1", f"{machine.id} has no agent and lives, and so does the engine")

    def _committed(self) -> None:
        """Spent, and what every living machine can still cost until it ends itself."""
        total, now = 0.0, self.sim.t
        for r in self.rentals:
            if not r.bills:
                continue
            agreed = min(r.rate, r.order.offer.usd_per_hour * Decimal("1.01"))
            m = r.machine
            seconds = m.billed_s
            if m.alive:
                left = m.deadline + r.overrun_s - now
                # Where nobody on it could end it, no more than until then was ever agreed to.
                seconds += left if m.booted is None or not m.agent_alive else max(0.0, left)
            total += float(agreed) * seconds / 3600
        slack = 0.01 + self.jumped_s * max((float(r.rate) for r in self.rentals), default=0.0) / 3600
        if total > self.ceiling + slack:
            self.fail("P7", f"${total:.4f} is committed, ${self.ceiling:.4f} was agreed to")

    def ending(self, machine: Machine, what: str) -> None:
        """A terminate call takes effect."""
        journal = self.files.durable(self.folder.journal) or b""
        n = machine.order.attempt
        asked = b'"kind":"end-asked"' in journal and any(
            f.kind == "end-asked" and f.data["attempt"] == n for f in self.facts
        )
        if not asked and not self.disk_was_full:
            self.fail("P8", f"{machine.id} is ended without that intent on disk")
        lost = what == "disk" or not self._outlives(machine)
        if (lost and (machine.alive or machine.asleep) and machine.sealed_at is not None) or what == "disk":
            self._keeps(machine, what)
        if what == "disk" and self.state is not None:
            self._rescued(machine, self.state)

    def _outlives(self, machine: Machine) -> bool:
        return not self._rental(machine).bills

    def _keeps(self, machine: Machine, what: str) -> None:
        """Results that nobody gave up are not thrown away."""
        state = self.state
        if state is None or not machine.sealed_files or machine.trainer is None:
            return
        a = next((a for a in state.attempts if a.n == machine.order.attempt), None)
        if machine.pausing:  # nothing excuses it but words: it could have been stopped
            given_up = state.discarded or (state.stop is not None and state.stop.now)
            taken = a is not None and a.sealed is not None and a.sealed.why == "preempted"
            taken = taken or (a is not None and self._unheard(machine, a))
            if not (given_up or taken or self._version_durable(machine)):
                self.fail("P5", f"{machine.id} is ended while its results are nowhere else")
            return
        if a is None or a.sealed is None or a.sealed.why == "preempted" or state.discarded or self.stopped:
            return
        if not self._version_durable(machine) and not (a.over or "").startswith("deadline"):
            self.fail("P5", f"the {what} of {machine.id} goes while its results are nowhere else")

    def _rescued(self, machine: Machine, state: RunState) -> None:
        """What nobody sealed is here as it was there, before its place goes."""
        n = machine.order.attempt
        written = {k[7:]: bytes(v) for k, v in machine.disk.items() if k.startswith("output/")}
        unsealed = any(a.n == n and a.sealed is None for a in state.attempts)
        if not (written and unsealed) or state.discarded or state.stop_now or state.version is not None:
            return
        here = self._folder(self.versions.rescued(self.plan.run, n, machine.order.token), durable=True) or {}
        if sorted(here.values()) != sorted(written.values()):  # however it may be called here
            self.fail("P5", f"the disk of {machine.id} goes, and what nobody sealed is here as {here}")

    def _unheard(self, machine: Machine, a: Attempt) -> bool:
        """It was taken away within moments of its trainer's end, and could not be started again."""
        took = any(f.kind == "over" and f.data["attempt"] == a.n and f.data.get("taken") for f in self.facts)
        return took and a.searched and machine.slept_at - (machine.sealed_at or 0) < UNHEARD_S

    # --- facts -------------------------------------------------------------------------------

    def fact(self, fact: Fact, state: RunState) -> None:
        self.facts.append(fact)
        self.state = state
        kind, data = fact.kind, fact.data
        self.sim.note("fact", kind, data.get("attempt"), data.get("why"))
        self._remember(fact)
        if kind in ("gone", "not-created"):
            self._gone(data["attempt"], kind)
        elif kind in ("create-asked", "started") and self.stopped:
            self.fail("stop", f"{kind} after a stop was asked for")
        elif kind == "checkpoint":
            self._checkpoint(data["name"])
        elif kind == "over" and str(data["why"]).startswith("internal"):
            self.fail("bug", str(data["why"]))
        elif kind == "deadline":
            self._same_deadline(state, data["attempt"])
        elif kind in ("versioned", "receipt"):
            self._sealed_is_here(data.get("version"))

    def _remember(self, fact: Fact) -> None:
        if fact.kind in ("stop", "reopened"):
            self.stopped = fact.kind == "stop"
        elif fact.kind == "extended":
            self.ceiling = max(self.ceiling, float(fact.data["max_cost"] or 0))

    def _gone(self, n: int, kind: str) -> None:
        token = next(
            f.data["token"] for f in self.facts if f.kind == "create-asked" and f.data["attempt"] == n
        )
        for r in self.rentals:
            kept = self.facts[-1].data.get("asleep") and r.machine.asleep
            if r.order.token == token and (r.machine.alive or (r.machine.asleep and not kept)):
                self.fail("P3", f"{r.machine.id} is called {kind} and lives")

    def _same_deadline(self, state: RunState, n: int) -> None:
        a = next(a for a in state.attempts if a.n == n)
        m = next((r.machine for r in self.rentals if r.machine.id == a.instance), None)
        if m is None or m.trainer is None or a.deadline is None or not (m.alive and m.agent_alive):
            return
        told = a.deadline.timestamp() - EPOCH_S
        if abs(told - m.deadline) > 60 + 2 * self.jumped_s:
            self.fail("D", f"the engine believes in {told:.0f}, the agent in {m.deadline:.0f}")

    def reopened(self, facts: list[Fact]) -> None:
        """The journal was read again: what was acknowledged is there, in order, and at most one fact more."""
        kept = [(f.kind, f.at, f.data) for f in facts]
        told = [(f.kind, f.at, f.data) for f in self.facts]
        if kept[: len(told)] != told or len(kept) > len(told) + 1:
            self.fail("P4", f"{len(told)} facts were acknowledged, {len(kept)} are there")
        for fact in facts[len(told) :]:  # written whole by a process that died before it knew
            self._remember(fact)
        self.facts = list(facts)

    def _checkpoint(self, name: str) -> None:
        found = self._folder(self.folder.checkpoints / name, durable=True)
        if found != checkpoint_files(name):
            self.fail("P5", f"the checkpoint {name} is recorded and is not there whole")

    def asked(self, id: str) -> None:
        """A living engine answers, whatever it is busy with."""
        lives = self.lives
        self.sim.after(ANSWER_S, lambda: self._answered(id, lives))

    def hinder(self, seconds: float) -> None:
        self.hindered_until = max(self.hindered_until, self.sim.t + seconds)

    def at_work(self, lives: int, seconds: float) -> bool:
        """The very same process lived and could act for so long."""
        return not self.sim.client_dead and self.lives == lives and self.hindered_until < self.sim.t - seconds

    def _answered(self, id: str, lives: int) -> None:
        if self.at_work(lives, ANSWER_S) and self.state is not None and id not in self.state.answered:
            self.fail("request", f"{id} was not answered within {ANSWER_S:.0f} s")

    # --- versions ----------------------------------------------------------------------------

    def moved(self, to: Path) -> None:
        if to.parent == self.versions.root:
            self.versions_sound()

    def _folder(self, path: Path, *, durable: bool) -> dict[str, bytes] | None:
        node: Folder | File = self.files.root
        for part in path.parts[1:]:
            if not isinstance(node, Folder):
                return None
            below = (node.synced if durable else node.names).get(part)
            if below is None:
                return None
            node = below
        found: dict[str, bytes] = {}

        def walk(at: Folder | File, name: str) -> None:
            if isinstance(at, File):
                found[name] = at.synced if durable else bytes(at.data)
                return
            for below, child in (at.synced if durable else at.names).items():
                walk(child, f"{name}/{below}" if name else below)

        walk(node, "")
        return found

    def versions_sound(self) -> None:
        """What is visible is whole, and is what an agent sealed."""
        for name in self.files.names(self.versions.root):
            if not name.startswith(".") and name != "latest.json":
                self._sound(name, durable=False)
        latest = self.versions.latest
        if self.files.exists(latest):
            name = json.loads(self.files.read(latest))["version"]
            if not self.files.exists(self.versions.manifest(name)):
                self.fail("P5", f"latest points at {name}, which is not there")

    def _sound(self, name: str, *, durable: bool) -> bool:
        found = self._folder(self.versions.version(name), durable=durable)
        if found is None or "manifest.json" not in found:
            if durable:
                return False
            self.fail("P5", f"{name} is visible and has no manifest")
        assert found is not None
        try:
            listed = {f["path"]: f for f in json.loads(found["manifest.json"])["files"]}
        except ValueError:
            if durable:
                return False
            self.fail("P5", f"{name} has a torn manifest")
        wrong = set(listed) ^ (set(found) - {"manifest.json"})
        wrong |= {k for k, f in listed.items() if k in found and sha(found[k]) != f["sha256"]}
        output = {k: v for k, v in found.items() if k != "manifest.json" and not k.startswith(".launcher/")}
        sealed = any(r.machine.sealed_files == output for r in self.rentals)
        if not wrong and sealed:
            return True
        if not durable:
            self.fail("P5", f"{name} is visible and not what was sealed: {sorted(wrong)[:3]}")
        return False

    def _sealed_is_here(self, version: str | None) -> None:
        if version is not None and not self._sound(version, durable=True):
            self.fail("P5", f"the version {version} is recorded before it lasts")

    def _version_durable(self, machine: Machine) -> bool:
        for name in self.files.names(self.versions.root):
            if name.startswith(".") or name == "latest.json":
                continue
            found = self._folder(self.versions.version(name), durable=True) or {}
            if all(found.get(k) == v for k, v in machine.sealed_files.items()) and "manifest.json" in found:
                return True
        return False

    def commanded(self, machine: Machine, command: dict[str, object]) -> None:
        """A command arrived in a machine's spool."""
        if command["verb"] == "receipt" and not self._version_durable(machine):
            self.fail("receipt", f"{machine.id} hears of a receipt before the version lasts")

    # --- streams and the end -----------------------------------------------------------------

    def streams(self) -> None:
        """What was brought home is what was written there, from its first byte on."""
        for r in self.rentals:
            m = r.machine
            folder = self.folder.attempt(m.order.attempt)
            pairs = (
                ("log", folder.log),
                ("events.jsonl", folder.events),
                ("telemetry.jsonl", folder.telemetry),
            )
            for name, path in pairs:
                home = self.files.read(path) if self.files.exists(path) else b""
                if not m.written(name).startswith(home):
                    self.fail("P6", f"{name} of {m.id} is no beginning of what it wrote")

    def whole_log(self, state: RunState) -> None:
        if state.version is None:
            return
        found = self._folder(self.versions.version(state.version), durable=False) or {}
        a = next((a for a in reversed(state.attempts) if a.sealed is not None), None)
        m = next((r.machine for r in self.rentals if a is not None and r.machine.id == a.instance), None)
        if m is not None and m.trainer is not None:
            have = found.get(".launcher/log", b"")
            if have != bytes(m.trainer.log):
                self.fail("P6", f"{len(have)} of {len(m.trainer.log)} bytes of the log are in the version")

    def over(self, state: RunState) -> None:
        """After the last resume, in calm weather."""
        living = [r.machine.id for r in self.rentals if r.machine.alive or r.machine.asleep]
        if state.ended is None:
            self.fail("liveness", f"the run did not end: {state.pull_failed}")
        if living:
            self.fail("orphan", f"{living} live on after the end")
        for r in self.rentals:
            if not r.bills and r.machine.kept and r.order.offer.target != "here":
                self.fail("orphan", f"the disk of {r.machine.id} is left")
        self.versions_sound()
        self.streams()
        self.whole_log(state)
        if state.ended is State.DONE and state.version is None:
            self.fail("P5", "it is done and there is no version")
        if state.ended is State.DONE and artifacts.latest(self.files, self.versions) != state.version:
            self.fail("P5", f"latest does not point at {state.version}")
        bill = sum(r.usd(self.sim.t) for r in self.rentals if r.bills)
        self.sim.note("over", state.ended, round(bill, 6))
