"""Large files by content: ranges over several channels, resumed after a cut, shown when the digest is right.

An sshd takes about 2 MB per round trip on one channel, whatever the line could carry; several channels fill
it. What is there in part lies beside its final name, with the numbers of the units that came whole.
"""

from __future__ import annotations

import base64
import functools
import importlib.resources
import os
import threading
import time
import zlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from launcher.errors import Corrupt, HostDiskFull, HostError, HostUnreachable
from launcher.remote.base import Progress, Sending, Tick, unseen
from launcher.remote.farshell import DROP, JUDGE, TAKE, TOO_OLD
from launcher.remote.packing import WORTH, squeezed
from launcher.remote.talk import PARTING_S, SLICE_S, Ended, Talk, refusal
from launcher.ssh.connection import Connection, still
from launcher.ssh.quoting import line

LEAST = 16 << 20  # smaller ones travel in the archive
BLOCK = 64 << 10
UNIT, LARGE_UNIT, LARGE = 512 << 10, 4 << 20, 128 << 20
HUGE_UNIT, HUGE = 16 << 20, 512 << 20  # over a short line: each unit costs the host three processes
PIECE = 1 << 20  # of a unit, in memory here
CHANNELS, FAR_CHANNELS, FAR_S = 3, 7, 0.02  # an sshd allows ten sessions: these, the judge, push and courier
NEAR_S = 0.003
TAKEN = 2 << 20  # by an sshd, on one channel, in one round trip
PACED = 8 << 20  # after so much the line's pace is known
SWIFT_S = 0.05  # that a host may take for a receipt
SAMPLES = 8
MOST_WORDS = 2000  # of what is asked in the command itself: dropbear takes 9,000 in all
MOST_RECEIPTS = 16 << 20


@dataclass(frozen=True)
class Blob:
    file: Sending
    size: int
    near: bool = False

    @property
    def id(self) -> str:
        return name(self.file)

    @property
    def unit(self) -> int:
        if self.near and self.size >= HUGE:
            return HUGE_UNIT
        return UNIT if self.size < LARGE else LARGE_UNIT

    @property
    def units(self) -> int:
        return -(-self.size // self.unit)

    def length(self, n: int) -> int:
        return min(self.unit, self.size - n * self.unit)


@dataclass(frozen=True)
class Found:
    """What the host has of one."""

    there: bool
    units: frozenset[int]


def name(file: Sending) -> str:
    """Its place on the host: one content with two modes lies there twice, as links share their mode."""
    return f"{file.mode & 0o777:o}-{file.sha256}"


class Carrying:
    """Large files on their way, begun before it is known which of them the host lacks: threads open the
    channels meanwhile. `copies`: the host is to make one of each as well."""

    def __init__(self, connection: Connection, base: str, items: Sequence[Blob], copies: bool) -> None:
        self._connection = connection
        self._base = base
        self._folder = f"{base}/blobs"
        self._items = list({b.id: b for b in items}.values())
        self._copies = copies
        self._work = _Work(connection.rtt_s)
        self._wanted: list[Blob] = []
        self._tick: Tick = still
        self._progress: Progress = unseen
        self._judge: list[Talk | HostError] = []
        self._opening = threading.Thread(target=self._open, name="large files", daemon=True)
        count = FAR_CHANNELS if connection.rtt_s > FAR_S else CHANNELS
        self._threads = [
            threading.Thread(target=_take, args=(connection, self._folder, self._work), daemon=True)
            for _ in range(min(count, sum(b.units for b in self._items)))
        ]

    def __enter__(self) -> Carrying:
        self._opening.start()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._tick, self._wanted = still, []
        if kind is not None:
            _let_go(self._work, self._threads)
            for talk in self._judge:
                if isinstance(talk, Talk):
                    talk.close()
            return
        if not self._work.begun:
            self._work.begin([], {})  # nothing is wanted: each of them says so to its far side
        threading.Thread(target=self._part, name="large files", daemon=True).start()

    def _open(self) -> None:
        """The judge first: a host may not allow many sessions."""
        asked = "".join(f"{b.id} {b.size} {b.unit}\n" for b in self._items)
        here = asked if len(asked) <= MOST_WORDS else ""
        try:
            command = line(["sh", "-c", JUDGE, "sh", self._folder, here, verdicts()])
            talk = Talk(self._connection, command, self._ticked)
            self._judge.append(talk)
            for thread in self._threads:
                thread.start()
            if not here:
                talk.send(f"{asked}-\n".encode())
        except HostError as e:
            self._judge.append(e)

    def _part(self) -> None:
        """In peace, and with nobody waiting for it."""
        self._opening.join()
        for talk in self._judge:
            if isinstance(talk, Talk):
                with talk, suppress(HostError):
                    talk.end()
                    talk.part()

    def _ticked(self) -> None:
        self._tick()
        if self._wanted:
            self._progress(self._work.came, sum(b.size for b in self._wanted))
            self._work.raise_failed(any(t.is_alive() for t in self._threads))

    def send(self, wanted: Sequence[Blob], tick: Tick, progress: Progress) -> None:
        """Every one of them lies in the host's folder afterwards, its content verified there."""
        self._tick, self._progress = tick, progress
        ids = {b.id for b in wanted}
        try:
            broken = self._sent([b for b in self._items if b.id in ids])
            if broken:  # what lay there from before may turn out to be broken: then it is sent
                self._part()
                with Carrying(self._connection, self._base, broken, self._copies) as again:
                    again._tick, again._progress = tick, progress
                    broken = again._sent(again._items)
        except Ended as e:  # one of ours: whoever waits for these files is still there
            raise HostUnreachable(f"large files: {e}") from e
        if broken:
            raise Corrupt(f"{broken[0].file.to!r} is not what it was: it changed while it was sent")

    def _sent(self, wanted: list[Blob]) -> list[Blob]:
        """Those that turned out to be something else."""
        try:
            while self._opening.is_alive():
                self._opening.join(SLICE_S)
                self._tick()
            judge = self._judge[-1]
            if isinstance(judge, HostError):
                raise judge
            self._work.begin(wanted, {b.id: self._found(judge, b) for b in self._items})
            self._wanted = wanted
            how = "copy" if self._copies else "link"
            judge.send("".join([*(f"{b.id} {b.size} {b.unit} {how}\n" for b in wanted), "-\n"]).encode())
            said = [self._line(judge) for _ in wanted]
        except HostDiskFull:
            _let_go(self._work, self._threads)
            _drop(self._connection, self._folder, wanted, self._tick)
            raise
        self._progress(self._work.came, self._work.came)
        return [b for b, verdict in zip(wanted, said, strict=True) if verdict != b"whole"]

    def _line(self, judge: Talk) -> bytes:
        try:
            return judge.line()
        except Ended as e:
            judge.hear_out()
            if judge.words and not judge.cut:
                raise refusal(f"{self._folder} cannot be used", judge.words) from e
            raise

    def _found(self, judge: Talk, blob: Blob) -> Found:
        word, _, count = self._line(judge).partition(b" ")
        if not count.isdigit() or int(count) > MOST_RECEIPTS:
            raise HostError("the host's answer is none of ours")
        receipts = judge.exactly(int(count)).split()
        if word == b"there":
            return Found(True, frozenset(range(blob.units)))
        return Found(False, frozenset(int(w) for w in receipts if w.isdigit() and int(w) < blob.units))


@functools.cache
def verdicts() -> str:
    """verdicts.py as one short word: dropbear takes no command above 9,000 bytes."""
    source = importlib.resources.files("launcher.remote").joinpath("verdicts.py").read_bytes()
    packed = base64.b64encode(zlib.compress(source, 9)).decode()
    old = f"import sys;sys.version_info<(3,7) and sys.exit({TOO_OLD})"
    return f"{old};import base64,zlib;exec(zlib.decompress(base64.b64decode('{packed}')))"


def _let_go(work: _Work, threads: list[threading.Thread]) -> None:
    """Whoever still sends stops at its next tick."""
    work.given_up.set()
    until = time.monotonic() + PARTING_S
    for thread in threads:
        if thread.is_alive():
            thread.join(max(0.0, until - time.monotonic()))


def _drop(connection: Connection, folder: str, wanted: list[Blob], tick: Tick) -> None:
    """What came of them goes: it will not be taken up, and the space may be needed."""
    parts = "".join(f"{b.id} {b.unit}\n" for b in wanted).encode()
    with suppress(HostError):  # it has told why already, which matters more
        connection.run(["sh", "-c", DROP, "sh", folder], stdin=parts, tick=tick, timeout=60)


class _Work:
    """What is to be sent, shared by the channels."""

    def __init__(self, rtt_s: float) -> None:
        self._rtt_s = rtt_s
        self._since = 0.0  # the first receipt: until then the line only fills
        self._told = 0  # bytes that receipts came for since then
        self._under_way = 0  # bytes that none came for yet
        self._unit = UNIT
        self.given_up = threading.Event()
        self.failed: list[HostError] = []
        self.waiting: deque[tuple[Blob, int]] = deque()
        self.came = 0
        self._far = rtt_s > NEAR_S
        self._begun = threading.Event()
        self._lock = threading.Lock()
        self._blobs: dict[str, Blob] = {}
        self._came: set[tuple[str, int]] = set()
        self._gz: dict[str, bool] = {}

    @property
    def begun(self) -> bool:
        return self._begun.is_set()

    def begin(self, wanted: list[Blob], found: Mapping[str, Found]) -> None:
        """What is there of each is known: the rest may go."""
        self._blobs = {b.id: b for b in wanted}
        self._came = {(b.id, n) for b in wanted for n in found[b.id].units}
        self.came = sum(self._blobs[id].length(n) for id, n in self._came)
        self.waiting += [(b, n) for b in wanted for n in range(b.units) if (b.id, n) not in self._came]
        lacking = {b.id for b, _ in self.waiting}
        self._gz = {b.id: self._far and b.id in lacking and _squeezes(b) for b in wanted}
        self._unit = max((b.unit for b in wanted), default=UNIT)
        self._begun.set()

    def tick(self) -> None:
        if self.given_up.is_set():
            raise HostUnreachable("no longer wanted")

    def next(self) -> Iterator[bytes] | None:
        """A unit as it is told to the far side, as soon as it is known what is to be sent."""
        while not self._begun.wait(SLICE_S):
            self.tick()
        with self._lock:
            if not self.waiting:
                return None
            blob, n = self.waiting.popleft()
            self._under_way += blob.length(n)
        return _told(blob, n, squeeze=self._gz[blob.id])

    def ack(self, said: bytes) -> None:
        id, _, n = said.decode("ascii", "replace").partition(" ")
        if id not in self._blobs or not n.isdigit() or int(n) >= self._blobs[id].units:
            raise HostError("the host's answer is none of ours")
        with self._lock:
            if (id, int(n)) not in self._came:
                self._came.add((id, int(n)))
                self.came += self._blobs[id].length(int(n))
                if self._since:
                    self._told += self._blobs[id].length(int(n))
                else:
                    self._since = time.monotonic()
                self._under_way -= self._blobs[id].length(int(n))

    def may_go(self) -> bool:
        """A cut loses what is under way: that is kept to what the line holds, once its pace is known. A unit
        larger than what a channel takes at once is under way for longer."""
        pace = self._told / max(0.001, time.monotonic() - self._since)
        took_s = self._rtt_s * (1 + self._unit / TAKEN) + SWIFT_S
        return self._told < PACED or self._under_way < 2 * pace * took_s

    def raise_failed(self, going_on: bool) -> None:
        if self.failed:
            raise self.failed[0]
        if not going_on and self.waiting:
            raise HostUnreachable("the host lets no channel be opened for large files")


def _take(connection: Connection, folder: str, work: _Work) -> None:
    """One channel's thread: units as long as there are any."""
    try:
        try:
            talk = Talk(connection, line(["sh", "-c", TAKE, "sh", folder]), work.tick)
        except HostUnreachable:
            if not connection.alive:
                raise
            return  # as many channels as the host allows will do
        with talk:
            _feed(talk, work)
    except HostError as e:
        work.failed.append(e)
    except OSError as e:
        work.failed.append(Corrupt(f"a file went away while it was sent: {e}"))


def _feed(talk: Talk, work: _Work) -> None:
    owed = 0
    try:
        while (unit := work.next()) is not None:
            for piece in unit:
                talk.send(piece)
            owed += 1
            for said in talk.lines_now():
                work.ack(said)
                owed -= 1
            while owed and not work.may_go():
                work.ack(talk.line())
                owed -= 1
        while owed:
            work.ack(talk.line())
            owed -= 1
        talk.end()
        talk.part()
    except HostUnreachable as e:
        talk.hear_out()
        if talk.words and not talk.cut:
            raise refusal("a large file could not be written", talk.words) from e
        raise


def _told(blob: Blob, n: int, *, squeeze: bool) -> Iterator[bytes]:
    at, size = n * blob.unit // BLOCK, blob.length(n)
    if squeeze:
        data = squeezed(b"".join(_range(blob, n)))
        yield f"{blob.id} {blob.unit} {n} {at} {len(data)} gz\n".encode() + data + b"whole\n"
        return
    yield f"{blob.id} {blob.unit} {n} {at} {size} raw\n".encode()
    yield from _range(blob, n)
    yield b"whole\n"


def _range(blob: Blob, n: int) -> Iterator[bytes]:
    assert blob.file.source is not None
    fd = os.open(blob.file.source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        at, left = n * blob.unit, blob.length(n)
        while left:
            data = os.pread(fd, min(left, PIECE), at)
            if not data:
                raise Corrupt(f"{blob.file.to!r} changed while it was sent")
            at, left = at + len(data), left - len(data)
            yield data
    finally:
        os.close(fd)


def _squeezes(blob: Blob) -> bool:
    assert blob.file.source is not None
    step = blob.size // SAMPLES
    with open(blob.file.source, "rb") as f:
        sample = b"".join(os.pread(f.fileno(), BLOCK, i * step) for i in range(SAMPLES))
    return len(squeezed(sample)) < WORTH * len(sample)
