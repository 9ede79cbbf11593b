"""The engine's end of the spool: commands in, events, log and telemetry out, by byte offset.

What was read lies in the attempt's folder byte for byte, and its size is the offset to go on from: so
nothing is lost or doubled by a dead engine. Knows files only; how they travel is the host's matter.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from launcher.errors import HostDiskFull, HostUnreachable
from launcher.events import parse_events
from launcher.models import Json
from launcher.remote.base import Host, Wanted
from launcher.runstate import Attempt
from launcher.world import World

CHUNK = 1 << 18
HEARD_EVERY_S = 1.0
# A few blocks of what the agent holds back for the list of results: far more is left for that.
_ROOM = "import os; os.truncate('reserve', max(0, os.path.getsize('reserve') - 65536))"
STREAMS = ("events.jsonl", "telemetry.jsonl", "log", "setup.log")


class Link:
    def __init__(self, world: World, a: Attempt) -> None:
        self._w = world
        self._a = a
        self._folder = world.attempt_folder(a)
        self._leased_at: float | None = None
        self._heard_at = 0.0
        self.disk_full = False  # a command did not fit there
        self.events: list[Json] = []
        self._rest = b""
        # A machine that is used: its present boot's words count. One that is woken to be read: all of them.
        self._one_boot = a.boot is not None and not a.woken
        self._ours = not self._one_boot
        self.began_anew = False  # another boot's agent speaks here by now
        world.files.make_folder(self._folder.root)
        self._local = {
            "events.jsonl": self._folder.events,
            "telemetry.jsonl": self._folder.telemetry,
            "log": self._folder.log,
            "setup.log": self._folder.setup_log,
        }
        self._offset = {name: world.files.size(path) for name, path in self._local.items()}
        self._take(world.files.read(self._folder.events) if world.files.exists(self._folder.events) else b"")

    @property
    def host(self) -> Host:
        """By the way as it is known now: a machine that was started again is reached by another."""
        attempts = self._w.state.attempts
        return self._w.host(next((a for a in attempts if a.n == self._a.n), self._a))

    # --- commands ----------------------------------------------------------------------------

    def send(self, verb: str, *, pressing: bool = False, **data: object) -> None:
        """Numbers rise over engines too: the count of engines is in the journal. What presses is told on a
        full disk, too."""
        memory, key = self._w.memory, f"sent:{self._a.n}"
        memory[key] = memory.get(key, 0) + 1
        n = self._w.state.engines * 1_000_000 + memory[key]
        body = json.dumps({"n": n, "verb": verb, **data}).encode()
        try:
            self.host.write(f"in/{n:012d}.json", body)
        except HostDiskFull:
            self.disk_full = True
            if not pressing:
                raise
            self.host.run(["python3", "-I", "-c", _ROOM])
            self.host.write(f"in/{n:012d}.json", body)

    def lease(self) -> None:
        """A living client keeps the machine alive while it is made ready: renewed at a third of the limit."""
        limit = self._w.plan.limits.boot_limit_s
        now = self._w.clock.now().timestamp()
        if self._leased_at is None or now - self._leased_at >= limit / 3:
            self.send("lease", seconds=limit)
            self._leased_at = now

    # --- streams -----------------------------------------------------------------------------

    def sync(self, names: tuple[str, ...] = STREAMS) -> bool:
        """Bring home what is new. True when something came. An agent that began anew is another one."""
        wanted = [Wanted(name, self._offset[name], CHUNK) for name in names]
        found = self.host.read_many(wanted)
        self._heard()
        came = [self._keep(name, data) for name, data in zip(names, found, strict=True)]
        if self.began_anew:
            raise HostUnreachable("its agent began anew")
        return any(came)

    def _heard(self) -> None:
        """For whoever watches: a line that is silent looks like a trainer that is."""
        now = self._w.clock.now().timestamp()
        if abs(now - self._heard_at) >= HEARD_EVERY_S:
            self._heard_at = now
            self._w.heard(self._a)

    def drain(self) -> None:
        """Everything there is, for the last time."""
        while self.sync():
            self._w.tick_quietly()  # a stop must not cut what is already written off at a line

    def _keep(self, name: str, data: bytes | None) -> bool:
        if not data:
            return False
        local, files = self._local[name], self._w.files
        if files.size(local) > self._offset[name]:
            files.cut(local, self._offset[name])  # a full disk took half of an earlier chunk
        files.append(local, data, sync=False)
        self._offset[name] += len(data)
        if name == "events.jsonl":
            self._take(data)
        return True

    def _take(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for event in parse_events(lines):
            if event["ev"] == "hello" and self._one_boot:
                ours = event.get("boot") == self._a.boot
                self.began_anew, self._ours = self._ours and not ours, ours
            if self._ours:
                self.events.append(event)

    def last(self, *kinds: str) -> Json | None:
        return next((e for e in reversed(self.events) if e.get("ev") in kinds), None)


def link(world: World, a: Attempt) -> Link:
    """One per machine and boot in this process. To one that was woken there is a new one: of its new boot
    nothing may have been heard yet, and its old words are what it was woken for."""
    key = f"link:{a.n}:{a.boot}:{a.woken}"
    if key not in world.memory:
        world.memory[key] = Link(world, a)
    found = world.memory[key]
    assert isinstance(found, Link)
    return found


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def partial(path: Path) -> Path:
    """Where something is gathered before it is renamed into place."""
    return path.with_name(f".{path.name}.partial")
