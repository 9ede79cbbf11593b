"""The spool folder: the only way in and out. Every path in it is named here.

Commands come in by rename; events and samples leave as whole lines, also when the disk is full for a
while. It knows no meanings.
"""

from __future__ import annotations

import json
import os
import stat
import time
from contextlib import suppress
from typing import Any

from .past import unsealed
from .protocol import Event, Unsealed

COMMAND_BYTES = 1 << 20
FRESH_NS = 1_000_000_000  # a folder's own time is coarse: for so long after a change it is read again
TEAR = b"\n"
RESERVE_BYTES = 8 << 20  # for the list of some 80,000 results
NEARLY_FULL_BYTES = 64 << 10


class Lines:
    """An append-only file of JSON lines. What the disk does not take now is kept and written later."""

    def __init__(self, path: str, keep_bytes: int) -> None:
        self._keep = keep_bytes
        self._left = bytearray()
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        size = os.fstat(self._file).st_size
        if size and os.pread(self._file, 1, size - 1) != TEAR:
            self._left += TEAR  # an earlier life was cut in the middle of a line

    def append(self, record: Event) -> bool:
        """False when it was dropped: too much is waiting for the disk already."""
        line = json.dumps(record, separators=(",", ":"), allow_nan=False).encode() + TEAR
        if self._left and len(self._left) + len(line) > self._keep:
            self.flush()
            if self._left:
                return False
        self._left += line
        self.flush()
        return True

    def flush(self) -> bool:
        """Whether all is written."""
        while self._left:
            try:
                done = os.write(self._file, self._left)
            except OSError:  # a full disk: the lines stay here
                return False
            del self._left[:done]
        return True

    def sync(self) -> None:
        if self.flush():
            os.fsync(self._file)


class Inbox:
    """New command files, in order. What cannot be read is named once, and again when it changed."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._changed = -1
        self._read: set[str] = set()
        self._broken: dict[str, tuple[int, int]] = {}

    def poll(self) -> tuple[list[Event], list[tuple[str, str]]]:
        commands: list[Event] = []
        warnings: list[tuple[str, str]] = []
        try:
            changed = os.stat(self._folder).st_mtime_ns
            if changed == self._changed and abs(time.time_ns() - changed) > FRESH_NS:
                return commands, warnings
            self._changed = changed
            names = [n for n in os.listdir(self._folder) if n.endswith(".json") and n[:-5].isdecimal()]
        except OSError as fault:
            if self._changed != 0:
                self._changed = 0
                warnings.append(("no-inbox", f"no command can be read: {fault.strerror}"))
            return commands, warnings
        for name in sorted((n for n in names if n not in self._read), key=lambda n: int(n[:-5])):
            self._take(name, commands, warnings)
        return commands, warnings

    def _take(self, name: str, commands: list[Event], warnings: list[tuple[str, str]]) -> None:
        path = os.path.join(self._folder, name)
        mark = (0, 0)
        try:
            facts = os.lstat(path)
            mark = (facts.st_mtime_ns, facts.st_ino)
            if self._broken.get(name) == mark:
                return
            command = _load(path)
        except (OSError, ValueError) as fault:
            self._broken[name] = mark
            warnings.append(("bad-command", f"in/{name} was left out: {str(fault)[:200]}"))
            return
        self._read.add(name)
        commands.append(command)


def _load(path: str) -> Event:
    """Never waits: a pipe or a device lying there is refused."""
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise ValueError("not a plain file")
        data = os.read(file, COMMAND_BYTES + 1)
    finally:
        os.close(file)
    if len(data) > COMMAND_BYTES:
        raise ValueError("larger than a command may be")
    try:
        value: Any = json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("not a record")
    return value


class Spool:
    def __init__(self, root: str) -> None:
        self.root = os.path.realpath(root)
        self.inbox = os.path.join(self.root, "in")
        self.events = os.path.join(self.root, "events.jsonl")
        self.telemetry = os.path.join(self.root, "telemetry.jsonl")
        self.log = os.path.join(self.root, "log")
        self.setup_log = os.path.join(self.root, "setup.log")
        self.sealed = os.path.join(self.root, "sealed.json")
        self.secret = os.path.join(self.root, "secret.json")
        self.reserve = os.path.join(self.root, "reserve")

    def at(self, path: str) -> str:
        return os.path.normpath(os.path.join(self.root, path))

    def holds(self, path: str) -> bool:
        """Whether a place lies below the root with every link followed."""
        return os.path.realpath(path).startswith(self.root + os.sep)

    def hold_back(self) -> None:
        """Room that the trainer cannot fill, so that what it made can still be listed and told of."""
        with suppress(OSError), open(self.reserve, "wb") as file:  # on a full disk as much as there is
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)
            else:
                file.write(bytes(RESERVE_BYTES))

    def give_way(self) -> bool:
        """The reserve is needed now. Whether there was no other room left."""
        disk = os.statvfs(self.root)
        free = disk.f_bfree if os.geteuid() == 0 else disk.f_bavail
        full = free * disk.f_frsize < NEARLY_FULL_BYTES
        with suppress(FileNotFoundError):
            os.unlink(self.reserve)
        return full

    def note_end(self, moment: str) -> None:
        fresh = os.path.join(self.root, "ends_at.new")
        with open(fresh, "w", encoding="utf-8") as file:
            file.write(moment)
        os.replace(fresh, os.path.join(self.root, "ends_at"))

    def unsealed(self) -> Unsealed | None:
        """What an earlier life of this spool left to be sealed."""
        try:
            with open(self.events, "rb") as file:
                return unsealed(filter(None, map(_told, file)))
        except FileNotFoundError:
            return None  # the first life

    def taken(self) -> int:
        """The highest command of an earlier life of this spool: a restarted machine repeats none, and what
        that life did not come to read is not for this one."""
        highest = 0
        try:
            with open(self.events, "rb") as file:
                for line in file:
                    highest = max(highest, _took(line))
        except FileNotFoundError:
            return 0  # the first life
        names = os.listdir(self.inbox) if os.path.isdir(self.inbox) else []
        left = (int(n[:-5]) for n in names if n.endswith(".json") and n[:-5].isdecimal())
        return max(highest, *left, 0)


def _took(line: bytes) -> int:
    event = _told(line) if b'"took"' in line else None
    n = event.get("n") if event is not None and event.get("ev") == "took" else 0
    return n if isinstance(n, int) else 0


def _told(line: bytes) -> Event | None:
    """None: torn by the end of that life."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None
