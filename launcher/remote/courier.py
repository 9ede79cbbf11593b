"""The small program that runs on the host's side of a channel: files and commands below one root.

Its source travels with the call that starts it (`python3 -I -c SOURCE ROOT TOKEN`, or ahead of all else on
stdin); it speaks over its own stdin and stdout and leaves when stdin ends, so nothing of it outlives the
client but what `start` was asked for. Standard library only, Python >= 3.8, imports nothing of ours.
One message = 4 bytes length, that much JSON, then `size` bytes of payload; every request gets exactly one
reply. Only `stream` answers otherwise, and last: file after file, each behind a line of its own. Names
travel as text and are used as UTF-8 bytes, whatever the locale here.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
import stat
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    Ask = dict[str, Any]
    Answer = tuple[dict[str, Any], bytes]

PIECE = 1 << 18
MOST_ROWS = 1 << 19  # bytes of them in one answer


def to_bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


class Refused(Exception):
    def __init__(self, word: str) -> None:
        super().__init__(word)
        self.word = word


class Hashing:
    """A file while it is hashed, over several requests if it is large."""

    def __init__(self, path: str, file: int) -> None:
        self.path, self.file = path, file
        self.at, self.digest = 0, hashlib.sha256()

    def until(self, end: float) -> bool:
        """Whether all of it was hashed by then; a piece of it is in any case."""
        while data := os.pread(self.file, PIECE, self.at):
            self.digest.update(data)
            self.at += len(data)
            if time.monotonic() >= end:
                return False
        return True


class Courier:
    def __init__(self, root: str, token: str) -> None:
        self.root = os.path.realpath(to_bytes(root))
        self.token = token
        self.name = ""  # what the current request is about, for its error
        self.part = b".launcher-part-%d" % os.getpid()
        self.started: list[subprocess.Popen[bytes]] = []
        self.half: Hashing | None = None
        self.rest: tuple[str, str | None, Iterator[tuple[bytes, bool]]] | None = None

    def inside(self, path: str) -> bytes:
        """The absolute name, once its folder is known to lie below the root with every link followed."""
        name = to_bytes(path)
        if name.startswith(b"/") or b".." in name.split(b"/"):
            raise PermissionError(errno.EPERM, "outside of the root")
        full = os.path.normpath(os.path.join(self.root, name))
        folder = full if full == self.root else os.path.realpath(os.path.dirname(full))
        if folder != self.root and not folder.startswith(self.root + b"/"):
            raise PermissionError(errno.EPERM, "outside of the root")
        return full

    def opened(self, path: str, base: str | None) -> int:
        """A plain file, open for reading. With a base, no link lies on the way from there down."""
        full = self.inside(path)
        real = os.path.realpath(full)
        if base is not None:
            top = self.inside(base)
            if os.path.realpath(top) + full[len(top) :] != real:
                raise Refused("link")
        if real != full and not real.startswith(self.root + b"/"):
            raise PermissionError(errno.EPERM, "outside of the root")
        file = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise Refused("not a plain file")
        return file

    def read(self, ask: Ask, payload: bytes) -> Answer:
        file = self.opened(ask["path"], ask.get("base"))
        try:
            return {}, os.pread(file, ask["limit"], ask["offset"])
        finally:
            os.close(file)

    def reads(self, ask: Ask, payload: bytes) -> Answer:
        answers, data = [], b""
        for one in ask["files"]:
            reply, piece = self.answer(dict(one, verb="read"), b"")
            answers.append(dict(reply, size=len(piece)))
            data += piece
        return {"answers": answers}, data

    def digests(self, ask: Ask, payload: bytes) -> Answer:
        """Rows of name, size and sha256, from behind `after` on; without a size what is left out. `over`:
        there are no more. One that is not done in time is gone on with by the next request."""
        rows: list[list[object]] = []
        end, told = time.monotonic() + ask["seconds"], 0
        base, last = ask["base"], ask["after"]
        rest = self.behind(base, last)
        for raw, plain in rest:
            name, row = raw.decode("utf-8", "surrogateescape"), None
            if not rows or (time.monotonic() < end and told < MOST_ROWS):
                row = self.hashed(base, name, end) if plain else left_out(name)
            if row is None:
                self.rest = (base, last, itertools.chain([(raw, plain)], rest))
                return {"over": False}, json.dumps(rows).encode()
            rows.append(row)
            last = name
            told += 100 + 6 * len(raw)  # in the longest way to write it
        return {"over": True}, json.dumps(rows).encode()

    def behind(self, base: str, after: str | None) -> Iterator[tuple[bytes, bool]]:
        """Whoever goes on where the last answer ended waits for no second look at a folder of many files."""
        known, self.rest = self.rest, None
        if known is not None and known[:2] == (base, after):
            return known[2]
        top = self.inside(base)
        real = os.path.realpath(top)
        held = (real == self.root or real.startswith(self.root + b"/")) and os.path.isdir(real)
        return below(top, to_bytes(after).split(b"/") if after else []) if held else iter(())

    def hashed(self, base: str, name: str, end: float) -> list[object] | None:
        path = f"{base}/{name}"
        try:
            if self.half is None or self.half.path != path:
                self.let_go()
                self.half = Hashing(path, self.opened(path, base))
            if not self.half.until(end):
                return None
            row: list[object] = [name, self.half.at, self.half.digest.hexdigest()]
        except (Refused, OSError):  # not for us to read, or a bad disk
            row = left_out(name)
        self.let_go()
        return row

    def let_go(self) -> None:
        if self.half is not None:
            os.close(self.half.file)
            self.half = None

    def stream(self, ask: Ask) -> None:
        """Each file from its offset on, at most its limit, behind a line with a word and a size."""
        os.nice(ask["nice"])
        for one in ask["files"]:
            try:
                file = self.opened(one["path"], ask["base"])
            except Refused as why:
                say(b"%s 0\n" % (b"link" if why.word == "link" else b"odd"))
                continue
            except OSError as why:
                say(b"%s 0\n" % (b"gone" if why.errno in (errno.ENOENT, errno.ENOTDIR) else b"shut"))
                continue
            try:
                at = one["offset"]
                left = max(0, min(os.fstat(file).st_size - at, one["limit"]))
                say(b"ok %d\n" % left)
                while left:
                    data = os.pread(file, min(left, PIECE), at)
                    if not data:
                        sys.exit("a file became shorter while it was sent")
                    say(data)
                    at, left = at + len(data), left - len(data)
            finally:
                os.close(file)

    def write(self, ask: Ask, payload: bytes) -> Answer:
        full = self.inside(ask["path"])
        os.makedirs(os.path.dirname(full), exist_ok=True)
        self.fill(full, payload, ask["mode"], 0, True, True)
        return {}, b""

    def fill(self, full: bytes, data: bytes, mode: int, at: int, last: bool, sync: bool) -> None:
        part = os.path.join(os.path.dirname(full), self.part)
        if at == 0 and os.path.lexists(part):
            os.unlink(part)
        flags = os.O_WRONLY | os.O_NOFOLLOW | (os.O_CREAT | os.O_EXCL if at == 0 else 0)
        file = os.open(part, flags, 0o600)
        try:
            view = memoryview(data)
            while view:
                done = os.pwrite(file, view, at)
                view, at = view[done:], at + done
            if last:
                os.fchmod(file, mode)
                if sync:
                    os.fsync(file)
        except OSError:
            os.unlink(part)
            raise
        finally:
            os.close(file)
        if last:
            os.rename(part, full)

    def put(self, ask: Ask, payload: bytes) -> Answer:
        """Many things in one message; a file larger than a message comes in parts, in order."""
        begin = 0
        for item in ask["items"]:
            self.name = item["to"]
            full = self.inside(item["to"])
            if item["kind"] == "folder":
                os.makedirs(full, exist_ok=True)
                os.chmod(full, item["mode"])
                continue
            os.makedirs(os.path.dirname(full), exist_ok=True)
            self.inside(item["to"])  # now that all of its folders are there
            if item["kind"] == "link":
                part = os.path.join(os.path.dirname(full), self.part)
                if os.path.lexists(part):
                    os.unlink(part)
                os.symlink(to_bytes(item["link"]), part)
                os.rename(part, full)
                continue
            data = payload[begin : begin + item["size"]]
            begin += item["size"]
            self.fill(full, data, item["mode"], item["at"], item["last"], False)
        return {}, b""

    def begun(self, ask: Ask, stdio: int) -> subprocess.Popen[bytes]:
        import subprocess

        environment = dict(os.environ)
        environment.pop("LAUNCHER_INSTANCE", None)
        if self.token:  # by it the agent finds what was left running
            environment["LAUNCHER_INSTANCE"] = self.token
        return subprocess.Popen(
            [to_bytes(word) for word in ask["argv"]],
            stdin=stdio,
            stdout=stdio,
            stderr=stdio,
            cwd=self.inside(ask["cwd"]),
            env=environment,
            start_new_session=True,
        )

    def run(self, ask: Ask, payload: bytes) -> Answer:
        import signal
        import subprocess

        with self.begun(ask, subprocess.PIPE) as child:
            try:
                out, err = child.communicate(payload, timeout=ask["timeout"])
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                return {"error": "timeout"}, b""
        if len(out) + len(err) > ask["most"]:
            return {"error": f"it printed {len(out) + len(err)} bytes, which is too much"}, b""
        return {"exit_code": child.returncode, "out": len(out)}, out + err

    def start(self, ask: Ask, payload: bytes) -> Answer:
        """It lives on; while we are its parent, it is reaped when it ends."""
        import subprocess

        child = self.begun(ask, subprocess.DEVNULL)
        self.started = [one for one in (*self.started, child) if one.poll() is None]
        return {}, b""

    def answer(self, ask: Ask, payload: bytes) -> Answer:
        self.name = ask.get("path") or ask.get("base") or (ask.get("argv") or [""])[0]
        verbs = {"read": self.read, "reads": self.reads, "write": self.write, "put": self.put}
        verbs.update(run=self.run, start=self.start, digests=self.digests)
        try:
            return verbs[ask["verb"]](ask, payload)
        except Refused as why:
            return {"error": why.word, "name": self.name}, b""
        except OSError as why:
            return {"error": "errno", "errno": why.errno, "text": why.strerror, "name": self.name}, b""


def left_out(name: str) -> list[object]:
    return [name, None, None]


def below(top: bytes, after: list[bytes]) -> Iterator[tuple[bytes, bool]]:
    """(name below the folder, whether it is a plain file) of all that is no folder and lies behind `after`,
    in the order of the names' parts. What cannot be looked into is told as no plain file."""
    waiting: list[tuple[list[bytes], bool, bool]] = [([], True, False)]
    while waiting:
        parts, folder, plain = waiting.pop()
        if not folder:
            if parts > after:
                yield b"/".join(parts), plain
            continue
        if parts < after[: len(parts)]:
            continue
        try:
            with os.scandir(os.path.join(top, *parts)) as found:
                inside = sorted(found, key=lambda entry: entry.name, reverse=True)
        except OSError:
            waiting.append((parts or [b"."], False, False))
            continue
        waiting += [
            ([*parts, e.name], e.is_dir(follow_symlinks=False), e.is_file(follow_symlinks=False))
            for e in inside
        ]


def exactly(count: int) -> bytes:
    data = sys.stdin.buffer.read(count)
    if len(data) < count:
        sys.exit(0)
    return data


def say(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


def main() -> None:
    courier = Courier(sys.argv[1], sys.argv[2])
    while True:
        ask = json.loads(exactly(int.from_bytes(exactly(4), "big")))
        payload = exactly(ask["size"])
        if ask["verb"] == "stream":
            return courier.stream(ask)
        reply, data = courier.answer(ask, payload)
        head = json.dumps(dict(reply, size=len(data))).encode()
        say(len(head).to_bytes(4, "big") + head + data)


if __name__ == "__main__":
    main()
