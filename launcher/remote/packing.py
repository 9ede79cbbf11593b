"""Files as one archive stream, made in a thread of its own so that the line is never idle.

Reads each file once: what is packed is what was hashed, or Corrupt is raised and nothing of it becomes
visible. Knows no transport.
"""

from __future__ import annotations

import hashlib
import os
import queue
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from launcher.errors import Corrupt, HostError
from launcher.remote import tarstream
from launcher.remote.base import Sending, Tick

PIECE = 256 << 10
AHEAD = 16  # pieces that may wait for the line
SLICE_S = 0.2
SAMPLES = 16
SAMPLE = 64 << 10
WORTH = 0.9
GZIP = 31  # the window, and a gzip head and tail

Files = Iterable[tuple[bytes, Sending]]


def compressor() -> Any:
    """gzip level 1: isal's where it is, four times as fast."""
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib.compressobj(1, zlib.DEFLATED, GZIP)
    return isal_zlib.compressobj(1, isal_zlib.DEFLATED, GZIP)


def squeezed(data: bytes) -> bytes:
    made = compressor()
    return bytes(made.compress(data)) + bytes(made.flush())


def squeezes(files: Sequence[Sending]) -> bool:
    """Whether a sample of what is to be sent gets smaller."""
    step = max(1, len(files) // SAMPLES)
    sample = bytearray()
    for file in files[::step]:
        if file.data is not None:
            sample += file.data[:SAMPLE]
        elif file.source is not None:
            with open(file.source, "rb") as opened:
                sample += opened.read(SAMPLE)
    return not sample or len(squeezed(bytes(sample))) < WORTH * len(sample)


def content(file: Sending) -> bytes:
    if file.data is not None:
        return file.data
    return _read(file)[0]


def _read(file: Sending) -> tuple[bytes, int]:
    """The bytes and their time."""
    assert file.source is not None
    fd = os.open(file.source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        info = os.fstat(fd)
        data = os.read(fd, info.st_size + 1)
        while more := os.read(fd, 1 << 20) if len(data) < info.st_size else b"":
            data += more
    finally:
        os.close(fd)
    return data, int(info.st_mtime)


class Packer:
    def __init__(self, files: Files, tail: Mapping[bytes, bytes], *, compress: bool) -> None:
        self.read = 0  # bytes of the files so far
        self._files = files
        self._tail = tail
        self._compress = compress
        self._ready: queue.Queue[bytes | Exception | None] = queue.Queue(AHEAD)
        self._given_up = threading.Event()
        self._thread = threading.Thread(target=self._run, name="packer", daemon=True)

    def __enter__(self) -> Packer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._given_up.set()

    def pieces(self, tick: Tick) -> Iterator[bytes]:
        while True:
            try:
                piece = self._ready.get(timeout=SLICE_S)
            except queue.Empty:
                tick()
                continue
            if piece is None:
                return
            if isinstance(piece, Exception):
                raise piece
            yield piece

    def _run(self) -> None:
        try:
            for piece in _sized(self._squeezed() if self._compress else self._members()):
                if not self._put(piece):
                    return
            self._put(None)
        except (OSError, HostError, ValueError) as e:
            self._put(e if isinstance(e, HostError) else Corrupt(f"a file went away while it was sent: {e}"))

    def _put(self, piece: bytes | Exception | None) -> bool:
        while not self._given_up.is_set():
            try:
                self._ready.put(piece, timeout=SLICE_S)
            except queue.Full:
                continue
            return True
        return False

    def _squeezed(self) -> Iterator[bytes]:
        made = compressor()
        for part in _sized(self._members()):
            yield made.compress(part)
        yield made.flush()

    def _members(self) -> Iterator[bytes]:
        written = 0
        for name, file in self._files:
            for part in self._member(b"tree/" + name, file):
                written += len(part)
                yield part
        for name, data in self._tail.items():
            for part in _plain(name, data, 0o600, 0):
                written += len(part)
                yield part
        yield tarstream.END + bytes(-(written + len(tarstream.END)) % tarstream.RECORD)

    def _member(self, name: bytes, file: Sending) -> Iterable[bytes]:
        if file.link is not None:
            return (tarstream.head(name, tarstream.LINK, mode=0o777, link=os.fsencode(file.link)),)
        if file.source is None and file.data is None:
            return (tarstream.head(name + b"/", tarstream.FOLDER, mode=0o755),)
        data, mtime = (file.data, 0) if file.data is not None else _read(file)
        if file.sha256 is not None and hashlib.sha256(data).hexdigest() != file.sha256:
            raise Corrupt(f"{file.to!r} changed while it was sent")
        self.read += len(data)
        return _plain(name, data, file.mode, mtime)


def _plain(name: bytes, data: bytes, mode: int, mtime: int) -> tuple[bytes, ...]:
    head = tarstream.head(name, tarstream.FILE, mode=mode, size=len(data), mtime=mtime)
    return head, data, tarstream.padding(len(data))


def _sized(parts: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces that are worth a message."""
    held: list[bytes] = []
    size = 0
    for part in parts:
        held.append(part)
        size += len(part)
        if size >= PIECE:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)
