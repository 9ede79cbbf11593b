"""The way to a machine: the host's verbs over a spool in memory, on a line that is cut, hangs or lies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from launcher.errors import Corrupt, HostDiskFull, HostError, HostUnreachable, NoFile
from launcher.remote.base import (
    Digests,
    Done,
    Listed,
    Pipe,
    Progress,
    Sending,
    Tick,
    Tree,
    Wanted,
    unprepared,
    unseen,
)
from tests.sim import large
from tests.sim.disk import SimFiles
from tests.sim.kernel import Sim
from tests.sim.machine import Machine
from tests.sim.trainer import sha
from tests.sim.weather import Weather

HANGS_S = 30.0
SLOW = 0.2  # the share of large files that take a while


class Line:
    """The state of the network between here and one machine."""

    def __init__(self) -> None:
        self.cut_until = 0.0


class SimHost:
    root = "/spool"

    def __init__(
        self, sim: Sim, weather: Weather, machine: Machine, line: Line, files: SimFiles, outlives: bool
    ) -> None:
        self._sim, self._weather, self._machine, self._line, self._files = sim, weather, machine, line, files
        self._outlives = outlives  # its disk can be read after its end

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", cwd: str = ".", timeout: float = 30) -> Done:
        self._go()
        self._back()
        return Done(0, b"", b"")

    def start(self, argv: Sequence[str], *, cwd: str = ".") -> None:
        self._go()
        self._back()

    def read(self, path: str, offset: int = 0, limit: int = 1 << 20) -> bytes:
        self._go()
        data = self._machine.read(path)
        self._back()
        if data is None:
            raise NoFile(path)
        found = bytes(data[offset : offset + limit])
        if path == "sealed.json" and found and self._weather.strikes("corrupt-read"):
            return b"?" + found[1:]
        return found

    def read_many(self, wanted: Sequence[Wanted]) -> list[bytes | None]:
        self._go()
        files = [self._machine.read(w.path) for w in wanted]
        found = [
            None if file is None else bytes(file[w.offset : w.offset + w.limit])
            for w, file in zip(wanted, files, strict=True)
        ]
        self._back()
        return found

    def digests(self, base: str, after: str | None, tick: Tick) -> Digests:
        """A few in each answer: it is cut in between, and gone on with."""
        tick()
        self._go()
        left = [f for f in large.lying(self._machine, base) if f.path > (after or "")]
        some = left[: self._sim.rng.randint(1, 2)]
        self._back()
        if some and self._weather.strikes("corrupt-read"):
            some[0] = replace(some[0], sha256=sha(b"?"))
        return Digests(tuple(some), (), some[-1].path if len(some) < len(left) else None)

    def write(self, path: str, data: bytes, mode: int = 0o600) -> None:
        self._go()
        self._room(path)
        self._machine.wrote(path, data)
        self._back()

    def put(self, files: Iterable[Sending], tick: Tick) -> None:
        for sending in files:
            tick()
            self._go()
            self._room(sending.to)
            if sending.data is not None:
                self._machine.wrote(sending.to, sending.data)
            self._back()

    expecting = staticmethod(unprepared)

    def put_tree(self, to: str, tree: Tree, tick: Tick, progress: Progress = unseen) -> None:
        self.put((file._replace(to=f"{to}/{file.to}") for file in tree.files), tick)

    def get(
        self,
        base: str,
        listing: Sequence[Listed],
        staging: Path,
        tick: Tick,
        progress: Progress = unseen,
    ) -> None:
        for listed in listing:
            tick()
            self._bring(f"{base}/{listed.source or listed.path}", listed, staging / listed.path, tick)

    def connect(self, port: int) -> Pipe:
        raise HostError(f"nothing listens on port {port} of a simulated machine")

    def close(self) -> None:
        pass

    # --- inside ------------------------------------------------------------------------------

    def _bring(self, source: str, listed: Listed, to: Path, tick: Tick) -> None:
        """Bytes are in the staging file, no more: whoever makes a version of them makes them last."""
        files = self._files
        if files.exists(to) and sha(files.read(to)) == listed.sha256:
            return
        self._go()
        data = self._machine.read(source)
        if data is None:
            raise Corrupt(f"{source} is not there")
        whole = bytes(data)
        if files.full:
            files.met("disk-full")
            raise OSError(28, "No space left on device", str(to))
        files.put(to, whole[: len(whole) // 2], synced=False)
        tick()
        if "/early/" in source and self._sim.rng.random() < SLOW:
            for _ in range(40):  # a large file on a slow line: much may happen meanwhile
                self._sim.spend(12)
                tick()
        self._back()
        if self._weather.strikes("corrupt-read"):
            whole = b"?" + whole[1:]
        if sha(whole) != listed.sha256:
            files.remove(to)
            raise Corrupt(f"{source} arrived with another sha256 than announced")
        files.put(to, whole, synced=False)
        self._sim.point()

    def _go(self) -> None:
        sim, weather, line = self._sim, self._weather, self._line
        sim.point()
        sim.note("host")
        sim.spend(0.3)
        if line.cut_until > sim.t:
            raise HostUnreachable("the line is cut")
        if weather.strikes("link-cut", 0.3):
            line.cut_until = sim.t + sim.rng.choice((1.0, 10.0, 60.0, 400.0))
            raise HostUnreachable("the line is cut")
        if weather.strikes("half-open", 0.15):
            sim.advance(HANGS_S)
            raise HostUnreachable("no answer within 30 s")
        machine = self._machine
        if not machine.kept or machine.booted is None or (not machine.alive and not self._outlives):
            raise HostUnreachable(f"{machine.id} does not answer")

    def _back(self) -> None:
        self._sim.point()
        if self._weather.strikes("link-lost-reply", 0.2):
            raise HostUnreachable("the answer was lost")

    def _room(self, path: str) -> None:
        if self._machine.full_until > self._sim.t:
            self._weather.met("host-disk-full")
            raise HostDiskFull(f"no space left for {path}")
        if self._weather.strikes("host-disk-full", 0.1):
            self._machine.full_until = self._sim.t + 60
            raise HostDiskFull(f"no space left for {path}")
