"""What was seen of files when they were last read: a file that looks the same is not read again.

Looking the same means size, both times, inode and mode. A file that was touched so shortly before it was read
that a second change could bear the same time is not remembered as read. Losing all of this costs a read.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import suppress
from pathlib import Path

from launcher.files import Disk

RACY_NS = 2_000_000_000  # the coarsest clock of a file system in use
OLDEST_S = 90 * 86400.0
FORM = 1
SMALL = 64 << 10
DIGITS = 64


class Scans:
    """Digests of files by path, kept in one file of the data folder."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._began_ns = time.time_ns()
        self._known = _read(path) if path is not None else {}
        self._now: dict[str, str] = {}

    def sha256(self, path: str, info: os.stat_result) -> str:
        looks = _looks(info)
        known = self._known.get(path)
        if known is not None and known.startswith(looks):
            self._now[path] = known
            return known[len(looks) :]
        digest, after = _digest(path, info.st_size)
        if _looks(after) == looks and max(info.st_mtime_ns, info.st_ctime_ns) < self._began_ns - RACY_NS:
            self._now[path] = looks + digest
        return digest

    def keep(self) -> None:
        """For the next time; a data folder that cannot be written to costs only that."""
        if self._path is None or self._now == self._known:
            return
        body = {"form": FORM, "files": self._now}
        with suppress(OSError):
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            Disk().write(self._path, json.dumps(body, separators=(",", ":")).encode())
            _tidy(self._path.parent)


def _looks(info: os.stat_result) -> str:
    return f"{info.st_size} {info.st_mtime_ns} {info.st_ctime_ns} {info.st_ino} {info.st_mode} "


def _digest(path: str, size: int) -> tuple[str, os.stat_result]:
    """Of small files by one read: a buffer for each would take longer than the files."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if size > SMALL:
            with open(fd, "rb", closefd=False) as f:
                digest = hashlib.file_digest(f, "sha256").hexdigest()
        else:
            whole = hashlib.sha256(os.read(fd, SMALL))
            while more := os.read(fd, SMALL):
                whole.update(more)
            digest = whole.hexdigest()
        return digest, os.fstat(fd)
    finally:
        os.close(fd)


def _read(path: Path) -> dict[str, str]:
    """Nothing, when it is not there or none of ours."""
    try:
        body = json.loads(path.read_bytes())
        files = body["files"] if body["form"] == FORM else {}
        return files if all(isinstance(seen, str) and len(seen) > DIGITS for seen in files.values()) else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _tidy(folder: Path) -> None:
    for name in os.listdir(folder):
        with suppress(FileNotFoundError):
            if time.time() - os.stat(folder / name).st_mtime > OLDEST_S:
                os.unlink(folder / name)
