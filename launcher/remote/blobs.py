"""Large files by content: ranges over several channels, resumed after a cut, shown when the digest is right.

An sshd takes about 2 MB per round trip on one channel, whatever the line could carry; several channels fill
it. What is there in part lies beside its final name, with the numbers of the units that came whole.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from launcher.errors import Corrupt, HostDiskFull, HostError, HostUnreachable
from launcher.remote.base import Progress, Sending, Tick
from launcher.remote.packing import WORTH, squeezed
from launcher.remote.talk import PARTING_S, SLICE_S, Talk, refusal
from launcher.ssh.connection import Connection
from launcher.ssh.quoting import line

LEAST = 16 << 20  # smaller ones travel in the archive
BLOCK = 64 << 10
UNIT, LARGE_UNIT, LARGE = 512 << 10, 4 << 20, 128 << 20
CHANNELS, FAR_CHANNELS, FAR_S = 3, 6, 0.02  # an sshd allows ten sessions; others need some as well
NEAR_S = 0.003
SAMPLES = 8

LOOK = """
cd "$1" 2>/dev/null || { mkdir -p "$1" && cd "$1"; } || exit 3
[ -w . ] || { echo "$1 cannot be written" >&2; exit 3; }
while IFS=' ' read -r id size unit; do
  if [ -f "$id" ] && [ "$(wc -c <"$id")" -eq "$size" ]; then echo there
  elif [ -f "$id.$unit.part" ] && [ -f "$id.$unit.done" ]; then echo "part $(tr '\\n' ' ' <"$id.$unit.done")"
  else rm -f "$id.$unit.done" && echo none; fi
done
"""

# One unit after another: a line of what it is, its bytes, and a line that proves that they were all of them.
TAKE = """
mkdir -p "$1" && cd "$1" || exit 3
while IFS=' ' read -r id unit n at len form; do
  part=$id.$unit.part
  if [ "$form" = gz ]; then
    why=$(dd bs="$len" count=1 iflag=fullblock 2>/dev/null | gzip -dc |
      dd of="$part" bs=65536 seek="$at" conv=notrunc 2>&1)
  elif [ $((len % 65536)) -eq 0 ]; then
    why=$(dd of="$part" bs=65536 count=$((len / 65536)) seek="$at" conv=notrunc iflag=fullblock 2>&1)
  else
    why=$(dd bs="$len" count=1 iflag=fullblock 2>/dev/null |
      dd of="$part" bs=65536 seek="$at" conv=notrunc 2>&1)
  fi || { echo "$why" >&2; exit 4; }
  IFS= read -r end && [ "$end" = whole ] || exit 0
  echo "$n" >>"$id.$unit.done" || exit 4
  echo "$id $n"
done
"""

# Follows what has come, so that the last byte's arrival is nearly the end.
CHECK = """
mkdir -p "$1" && cd "$1" || exit 3
umask 022
sum() { sha256sum; }
if openssl dgst -sha256 -r </dev/null >/dev/null 2>&1; then sum() { openssl dgst -sha256 -r; }; fi
while IFS=' ' read -r id unit file; do
  got=$(while IFS=' ' read -r at count && [ "$at" != - ]; do
    dd if="$file" bs=65536 skip="$at" count="$count" 2>/dev/null
  done | sum)
  IFS= read -r end && [ "$end" = told ] || exit 0 # or the line broke, and what came is as good as it was
  if [ "${got%% *}" = "${id#*-}" ]; then
    if [ "$file" != "$id" ]; then
      chmod "${id%%-*}" "$file" && mv -f "$file" "$id" && rm -f "$id.$unit.done" || exit 4
    fi
    echo whole
  else
    rm -f "$file" "$id.$unit.done"
    echo broken
  fi
done
"""

DROP = """
cd "$1" || exit 0
while IFS=' ' read -r id unit; do rm -f "$id.$unit.part" "$id.$unit.done"; done
"""


@dataclass(frozen=True)
class Blob:
    file: Sending
    size: int

    @property
    def id(self) -> str:
        return name(self.file)

    @property
    def unit(self) -> int:
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


def send(connection: Connection, base: str, items: Sequence[Blob], tick: Tick, progress: Progress) -> None:
    """Every one of them lies in `base`/blobs afterwards, its content verified there."""
    wanted = list({b.id: b for b in items}.values())
    for _ in range(2):  # what lay there from before may turn out to be broken: then it is sent
        broken = _sent(connection, f"{base}/blobs", wanted, tick, progress)
        if not broken:
            return
        wanted = broken
    raise Corrupt(f"{wanted[0].file.to!r} is not what it was: it changed while it was sent")


def _sent(
    connection: Connection, folder: str, wanted: list[Blob], tick: Tick, progress: Progress
) -> list[Blob]:
    work = _Work(wanted, connection.rtt_s > NEAR_S)
    count = min(FAR_CHANNELS if connection.rtt_s > FAR_S else CHANNELS, sum(b.units for b in wanted))
    threads = [
        threading.Thread(target=_take, args=(connection, folder, work), name=f"range {n}", daemon=True)
        for n in range(count)
    ]
    try:
        with Talk(connection, line(["sh", "-c", CHECK, "sh", folder]), tick) as check:
            for thread in threads:
                thread.start()  # their channels open while the host looks what it has
            found = _look(connection, folder, wanted, tick)
            work.begin(found)
            for order in _in_order(wanted, found, work, threads, tick, progress):
                check.send(order)
            verdicts = [check.line() for _ in wanted]
            check.end()
            check.part()
    except HostDiskFull:
        _let_go(work, threads)
        _drop(connection, folder, wanted, tick)
        raise
    finally:
        _let_go(work, threads)
    return [b for b, verdict in zip(wanted, verdicts, strict=True) if verdict != b"whole"]


def _let_go(work: _Work, threads: list[threading.Thread]) -> None:
    """Whoever still sends stops at its next tick."""
    work.given_up.set()
    until = time.monotonic() + PARTING_S
    for thread in threads:
        if thread.is_alive():
            thread.join(max(0.0, until - time.monotonic()))


def _look(connection: Connection, folder: str, wanted: list[Blob], tick: Tick) -> list[Found]:
    asked = "".join(f"{b.id} {b.size} {b.unit}\n" for b in wanted).encode()
    done = connection.run(["sh", "-c", LOOK, "sh", folder], stdin=asked, tick=tick, timeout=60)
    answers = done.stdout.splitlines()
    if done.exit_code or len(answers) != len(wanted):
        raise refusal(f"{folder} cannot be used", done.stderr.decode("utf-8", "replace"))
    return [_found(b, answer.split()) for b, answer in zip(wanted, answers, strict=True)]


def _drop(connection: Connection, folder: str, wanted: list[Blob], tick: Tick) -> None:
    """What came of them goes: it will not be taken up, and the space may be needed."""
    parts = "".join(f"{b.id} {b.unit}\n" for b in wanted).encode()
    with suppress(HostError):  # it has told why already, which matters more
        connection.run(["sh", "-c", DROP, "sh", folder], stdin=parts, tick=tick, timeout=60)


def _found(blob: Blob, words: list[bytes]) -> Found:
    if words[:1] == [b"there"]:
        return Found(True, frozenset(range(blob.units)))
    return Found(False, frozenset(int(w) for w in words[1:] if w.isdigit() and int(w) < blob.units))


def _in_order(
    wanted: list[Blob],
    found: list[Found],
    work: _Work,
    threads: list[threading.Thread],
    tick: Tick,
    progress: Progress,
) -> Iterator[bytes]:
    """What the check is told: each file, and its units as far as they have come without a gap."""
    total = sum(b.size for b in wanted)
    for blob, has in zip(wanted, found, strict=True):
        place = blob.id if has.there else f"{blob.id}.{blob.unit}.part"
        yield f"{blob.id} {blob.unit} {place}\n".encode()
        for n in range(blob.units):
            while not work.has(blob, n):
                work.news.wait(0.2)
                work.news.clear()
                tick()
                progress(work.came, total)
                work.raise_failed(any(t.is_alive() for t in threads))
            blocks = blob.unit // BLOCK
            yield f"{n * blocks} {-(-blob.length(n) // BLOCK)}\n".encode()
        yield b"- -\ntold\n"
    progress(work.came, total)


class _Work:
    """What is to be sent, shared by the channels."""

    def __init__(self, wanted: list[Blob], far: bool) -> None:
        self.given_up = threading.Event()
        self.news = threading.Event()
        self.failed: list[HostError] = []
        self.waiting: deque[tuple[Blob, int]] = deque()
        self.came = 0
        self._far = far
        self._begun = threading.Event()
        self._lock = threading.Lock()
        self._blobs = {b.id: b for b in wanted}
        self._came: set[tuple[str, int]] = set()
        self._gz: dict[str, bool] = {}

    def begin(self, found: list[Found]) -> None:
        """What is there of each is known: the rest may go."""
        wanted = list(self._blobs.values())
        self._came = {(b.id, n) for b, f in zip(wanted, found, strict=True) for n in f.units}
        self.came = sum(self._blobs[id].length(n) for id, n in self._came)
        self.waiting += [(b, n) for b in wanted for n in range(b.units) if (b.id, n) not in self._came]
        lacking = {b.id for b, _ in self.waiting}
        self._gz = {b.id: self._far and b.id in lacking and _squeezes(b) for b in wanted}
        self._begun.set()

    def tick(self) -> None:
        if self.given_up.is_set():
            raise HostUnreachable("no longer wanted")

    def next(self) -> bytes | None:
        """A unit as it is told to the far side, as soon as it is known what is to be sent."""
        while not self._begun.wait(SLICE_S):
            self.tick()
        with self._lock:
            if not self.waiting:
                return None
            blob, n = self.waiting.popleft()
        data, form = _range(blob, n), "raw"
        if self._gz[blob.id]:
            data, form = squeezed(data), "gz"
        at = n * blob.unit // BLOCK
        return f"{blob.id} {blob.unit} {n} {at} {len(data)} {form}\n".encode() + data + b"whole\n"

    def ack(self, said: bytes) -> None:
        id, _, n = said.decode("ascii", "replace").partition(" ")
        if id not in self._blobs or not n.isdigit() or int(n) >= self._blobs[id].units:
            raise HostError("the host's answer is none of ours")
        with self._lock:
            if (id, int(n)) not in self._came:
                self._came.add((id, int(n)))
                self.came += self._blobs[id].length(int(n))
        self.news.set()

    def has(self, blob: Blob, n: int) -> bool:
        return (blob.id, n) in self._came

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
    finally:
        work.news.set()


def _feed(talk: Talk, work: _Work) -> None:
    owed = 0
    try:
        while (unit := work.next()) is not None:
            talk.send(unit)
            owed += 1
            for said in talk.lines_now():
                work.ack(said)
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


def _range(blob: Blob, n: int) -> bytes:
    assert blob.file.source is not None
    fd = os.open(blob.file.source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        data = os.pread(fd, blob.length(n), n * blob.unit)
    finally:
        os.close(fd)
    if len(data) != blob.length(n):
        raise Corrupt(f"{blob.file.to!r} changed while it was sent")
    return data


def _squeezes(blob: Blob) -> bool:
    assert blob.file.source is not None
    step = blob.size // SAMPLES
    with open(blob.file.source, "rb") as f:
        sample = b"".join(os.pread(f.fileno(), BLOCK, i * step) for i in range(SAMPLES))
    return len(squeezed(sample)) < WORTH * len(sample)
