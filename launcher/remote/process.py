"""This machine as a host: its root is a folder, its programs are processes.

The folder outlives the processes, so everything can be read after the machine "ended".
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from launcher.errors import HostDiskFull, HostError, NoFile
from launcher.remote.base import Done, Listed, Sending, Tick
from launcher.remote.fetching import fetch, name_fault

COPY_CHUNK = 1 << 20
TICK_EVERY_S = 0.25


class ProcessHost:
    def __init__(self, root: str) -> None:
        self.root = root

    def _inside(self, path: str) -> Path:
        fault = None if path == "." else name_fault(path, controls=True)
        if fault is not None:
            raise HostError(f"{path!r} is no path on the host: {fault}")
        return Path(self.root) / path

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", cwd: str = ".", timeout: float = 30) -> Done:
        try:
            done = subprocess.run(
                list(argv), input=stdin, capture_output=True, cwd=self._inside(cwd), timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired as e:
            raise HostError(f"{argv[0]} did not end within {timeout:g} s") from e
        except FileNotFoundError as e:
            return Done(127, b"", f"{e.filename}: not found\n".encode())
        return Done(done.returncode, done.stdout, done.stderr)

    def start(self, argv: Sequence[str], *, cwd: str = ".") -> None:
        subprocess.Popen(
            list(argv),
            cwd=self._inside(cwd),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def read(self, path: str, offset: int = 0, limit: int = 1 << 20) -> bytes:
        try:
            fd = os.open(self._inside(path), os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError as e:
            raise NoFile(path) from e
        except OSError as e:
            raise HostError(f"{path}: {e.strerror}") from e
        try:
            return os.pread(fd, limit, offset)
        finally:
            os.close(fd)

    def write(self, path: str, data: bytes, mode: int = 0o600) -> None:
        to = self._inside(path)
        beside = to.with_name(f".{to.name}.new")
        with _disk(path):
            to.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            beside.unlink(missing_ok=True)
            fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with os.fdopen(fd, "wb") as f:
                f.write(data)
            os.chmod(beside, mode)
            os.rename(beside, to)

    def put(self, files: Iterable[Sending], tick: Tick) -> None:
        last = 0.0
        for sending in files:
            now = time.monotonic()
            if now - last >= TICK_EVERY_S:
                tick()
                last = now
            with _disk(sending.to):
                self._put_one(sending, tick)

    def _put_one(self, sending: Sending, tick: Tick) -> None:
        to = self._inside(sending.to)
        to.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if sending.link is not None:
            to.unlink(missing_ok=True)
            os.symlink(sending.link, to)
        elif sending.source is not None:
            _copy(sending.source, to, tick)
            os.chmod(to, sending.mode)
        elif sending.data is not None:
            self.write(sending.to, sending.data, sending.mode)
        else:
            to.mkdir(exist_ok=True)
            os.chmod(to, sending.mode)

    def get(self, base: str, listing: Sequence[Listed], staging: Path, tick: Tick) -> None:
        fetch(self.read, base, listing, staging, tick)

    def forward(self, port: int) -> int:
        return port  # its loopback is ours

    def close(self) -> None:
        pass  # nothing is held


class _disk:
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
