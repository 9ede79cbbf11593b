"""The small program on a host that says what is there of large files, and judges them while they come.

Its source travels in a command (`python3 -I -c SOURCE FOLDER LIST`); a host without python3 does the same in
its shell (farshell.py), less well. LIST has a line for each file: id, size, unit; when it is empty, the lines
come first on stdin, up to one of "-". Of each it says what is there. Then it is told which are wanted, up to
the next "-": a unit is read once its receipt is there, hashed, and copied for who wants a copy, so that with
the last byte nearly all is done. When stdin ends there is nobody left to tell. Standard library only,
Python >= 3.7, imports nothing of ours.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import sys
import threading
import time

PIECE = 1 << 20
PAUSE_S = 0.02  # other sessions write the receipts, and no system tells that to all of us


def say(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


def is_whole(name: str, size: int) -> bool:
    try:
        info = os.stat(name)
    except OSError:
        return False
    return stat.S_ISREG(info.st_mode) and info.st_size == size


def contents(name: str) -> bytes:
    try:
        with open(name, "rb") as f:
            return f.read()
    except OSError:
        return b""


def tell(blob: str, size: int, unit: str) -> None:
    part = blob + "." + unit
    if is_whole(blob, size):
        say(b"there 0\n")
    elif os.path.isfile(part + ".part") and os.path.isfile(part + ".done"):
        receipts = contents(part + ".done")
        say(b"part %d\n" % len(receipts) + receipts)
    else:
        forget(part + ".done")
        say(b"none 0\n")


def forget(name: str) -> None:
    with contextlib.suppress(OSError):  # it was not there
        os.unlink(name)


class Copy:
    """One for the run, which may change its own. Whether the disk had room shows when it is needed."""

    def __init__(self, blob: str) -> None:
        self.to = blob + ".spare"
        self.part = self.to + "." + str(os.getpid())
        forget(self.part)
        self.file = None
        try:
            self.file = open(self.part, "wb", buffering=0)  # noqa: SIM115 - closed where it is kept or dropped
        except OSError:
            return

    def write(self, data: bytes) -> None:
        try:
            while self.file is not None and data:
                data = data[self.file.write(data) or 0 :]
        except OSError:
            self.drop()

    def keep(self, mode: int) -> None:
        if self.file is not None:
            self.file.close()
            os.chmod(self.part, mode)
            os.rename(self.part, self.to)

    def drop(self) -> None:
        if self.file is not None:
            self.file.close()
            self.file = None
            forget(self.part)


def come(receipts: str, n: int, seen: set[int]) -> None:
    while n not in seen:
        lines = contents(receipts)
        seen.update(int(line) for line in lines[: lines.rfind(b"\n") + 1].split() if line.isdigit())
        if n not in seen:
            time.sleep(PAUSE_S)


def judge(blob: str, size: int, unit: int, copy: Copy | None) -> bool:
    ready = is_whole(blob, size)
    part = f"{blob}.{unit}"
    name = blob if ready else part + ".part"
    digest, file = hashlib.sha256(), -1
    seen: set[int] = set()
    try:
        for n in range(-(-size // unit)):
            if not ready:
                come(part + ".done", n, seen)
            if file < 0:
                file = os.open(name, os.O_RDONLY)
            at, end = n * unit, min(n * unit + unit, size)
            while at < end:
                data = os.pread(file, min(PIECE, end - at), at)
                if not data:
                    return False
                digest.update(data)
                if copy is not None:
                    copy.write(data)
                at += len(data)
    finally:
        if file >= 0:
            os.close(file)
    mode, _, wanted = blob.partition("-")
    if digest.hexdigest() != wanted:
        forget(name)
        forget(part + ".done")
        return False
    if not ready:
        show(name, blob, int(mode, 8))
        forget(part + ".done")
    if copy is not None:
        copy.keep(int(mode, 8))
    return True


def show(part: str, blob: str, mode: int) -> None:
    try:
        os.chmod(part, mode)
        os.rename(part, blob)
    except FileNotFoundError:
        if not os.path.isfile(blob):  # else another push of the same file was first
            raise


def lines() -> list[list[str]]:
    found: list[list[str]] = []
    while True:
        line = readline()
        if line == "-":
            return found
        found.append(line.split(" "))


def readline() -> str:
    """Not a byte more than the line: the thread that waits for the end reads on."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            os._exit(0)
        line += byte
    return line[:-1].decode("ascii")


def leave_with_the_client() -> None:
    while os.read(0, PIECE):
        pass
    os._exit(0)


def main() -> None:
    os.umask(0o022)
    os.chdir(sys.argv[1])
    told = [line.split(" ") for line in sys.argv[2].splitlines()] or lines()
    for blob, size, unit in told:
        tell(blob, int(size), unit)
    wanted = lines()
    threading.Thread(target=leave_with_the_client, daemon=True).start()
    for blob, size, unit, how in wanted:
        copy = Copy(blob) if how == "copy" else None
        right = judge(blob, int(size), int(unit), copy)
        if copy is not None and not right:
            copy.drop()
        say(b"whole\n" if right else b"broken\n")


if __name__ == "__main__":
    main()
