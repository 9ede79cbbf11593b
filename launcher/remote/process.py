"""This machine as a host: its root is a folder, its programs are processes.

The folder outlives the processes, so everything can be read after the machine "ended".
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from launcher.errors import HostDiskFull, HostError, NoFile
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
from launcher.remote.courier import Courier
from launcher.remote.couriered import sort
from launcher.remote.digests import understood
from launcher.remote.fetching import fetch, name_fault
from launcher.remote.sending import below, counted, enterable

COPY_CHUNK = 1 << 20
TICK_EVERY_S = 0.25
CONNECT_S = 5

# What was started to outlive us is still our child: it is reaped when it ends before we do.
_DETACHED: list[subprocess.Popen[bytes]] = []


class ProcessHost:
    def __init__(self, root: str) -> None:
        self.root = root
        self._hashing = Courier(root, "")  # who hashes on every other host, too

    def _inside(self, path: str) -> Path:
        fault = None if path == "." else name_fault(path, controls=True)
        if fault is not None:
            raise HostError(f"{path!r} is no path on the host: {fault}")
        full = Path(self.root) / os.fsdecode(path.encode("utf-8", "surrogateescape"))  # whatever the locale
        root, folder = os.path.realpath(self.root), os.path.realpath(full.parent)
        if path != "." and folder != root and not folder.startswith(root + os.sep):
            raise HostError(f"{path!r} leads out of the host's folder by a link")
        return full

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", cwd: str = ".", timeout: float = 30) -> Done:
        pipe, folder = subprocess.PIPE, self._inside(cwd)
        try:
            process = subprocess.Popen(
                list(argv), cwd=folder, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
            )
        except OSError as e:
            return Done(127, b"", f"{e.filename}: {e.strerror}\n".encode())
        with process:
            try:
                out, err = process.communicate(stdin, timeout)
            except subprocess.TimeoutExpired as e:
                raise HostError(f"{argv[0]} did not end within {timeout:g} s") from e
            finally:
                if process.returncode is None:  # with all that it started: they hold our pipes
                    os.killpg(process.pid, signal.SIGKILL)
        return Done(process.returncode, out, err)

    def start(self, argv: Sequence[str], *, cwd: str = ".") -> None:
        void = subprocess.DEVNULL
        folder = self._inside(cwd)
        try:
            process = subprocess.Popen(
                list(argv), cwd=folder, stdin=void, stdout=void, stderr=void, start_new_session=True
            )
        except OSError as e:
            raise HostError(f"{argv[0]} could not be started: {e.strerror}") from e
        _DETACHED[:] = [p for p in (*_DETACHED, process) if p.poll() is None]

    def read(self, path: str, offset: int = 0, limit: int = 1 << 20) -> bytes:
        try:
            # A pipe in place of a file would wait for its other end.
            fd = os.open(self._inside(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError) as e:
            raise NoFile(path) from e
        except OSError as e:
            raise HostError(f"{path}: {e.strerror}") from e
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise HostError(f"{path} is no plain file")
            return os.pread(fd, limit, offset)
        finally:
            os.close(fd)

    def read_many(self, wanted: Sequence[Wanted]) -> list[bytes | None]:
        return [self._read_or_none(w) for w in wanted]

    def _read_or_none(self, wanted: Wanted) -> bytes | None:
        try:
            return self.read(wanted.path, wanted.offset, wanted.limit)
        except NoFile:
            return None

    def digests(self, base: str, after: str | None, tick: Tick) -> Digests:
        tick()
        self._inside(base)
        ask = {"verb": "digests", "base": base, "after": after, "seconds": TICK_EVERY_S}
        reply, rows = self._hashing.answer(ask, b"")
        sort(reply)
        return understood(reply, rows, after)

    def write(self, path: str, data: bytes, mode: int = 0o600) -> None:
        to = self._inside(path)
        beside = to.with_name(f".launcher-part-{os.getpid()}")
        with _Disk(path):
            to.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            beside.unlink(missing_ok=True)
            fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            try:
                with os.fdopen(fd, "wb") as f:
                    f.write(data)
                os.chmod(beside, mode)
                os.rename(beside, to)
            except OSError:
                beside.unlink()
                raise

    def put(self, files: Iterable[Sending], tick: Tick) -> None:
        last = 0.0
        for sending in files:
            now = time.monotonic()
            if now - last >= TICK_EVERY_S:
                tick()
                last = now
            with _Disk(sending.to):
                self._put_one(sending, tick)

    def _put_one(self, sending: Sending, tick: Tick) -> None:
        to = self._inside(sending.to)
        to.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if sending.link is not None:
            to.unlink(missing_ok=True)
            os.symlink(sending.link, to)
        elif sending.source is not None:
            to.unlink(missing_ok=True)  # a link or a read-only file of an earlier try gives way
            _copy(Path(sending.source), to, tick)
            os.chmod(to, sending.mode)
        elif sending.data is not None:
            self.write(sending.to, sending.data, sending.mode)
        else:
            to.mkdir(exist_ok=True)
            os.chmod(to, enterable(sending.mode))

    expecting = staticmethod(unprepared)

    def put_tree(self, to: str, tree: Tree, tick: Tick, progress: Progress = unseen) -> None:
        self.put(counted(below(to, tree), tree.size, progress), tick)

    def get(
        self,
        base: str,
        listing: Sequence[Listed],
        staging: Path,
        tick: Tick,
        progress: Progress = unseen,
    ) -> None:
        fetch(self.read, base, listing, staging, tick, progress=progress)

    def connect(self, port: int) -> Pipe:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=CONNECT_S)  # its loopback is ours
        except OSError as e:
            raise HostError(f"nothing listens on port {port} of the host: {e.strerror or e}") from e

    def close(self) -> None:
        self._hashing.let_go()


class _Disk:
    """A disk's refusal in the words that the engine knows."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise HostDiskFull(f"no space left for {self._what}") from error
            raise HostError(f"{self._what}: {error.strerror}") from error


def _copy(source: Path, to: Path, tick: Tick) -> None:
    if source.stat().st_size <= COPY_CHUNK:
        shutil.copyfile(source, to)
        return
    with source.open("rb") as src, to.open("wb") as dst:
        while chunk := src.read(COPY_CHUNK):
            dst.write(chunk)
            tick()
