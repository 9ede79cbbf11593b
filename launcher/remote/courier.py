"""The small program that runs on the host's side of a channel: files and commands below one root.

Its source travels as `python3 -I -c SOURCE ROOT TOKEN`; it speaks over its own stdin and stdout and
leaves when stdin ends, so nothing of it outlives the client. Standard library only, Python >= 3.10,
imports nothing of ours. One message = 4 bytes length, that much JSON, then `size` bytes of payload;
every request gets exactly one reply. Names travel as text and are used as UTF-8 bytes, whatever the
locale here.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
from typing import Any

Ask = dict[str, Any]
Answer = tuple[dict[str, Any], bytes]


def to_bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


class Courier:
    def __init__(self, root: str, token: str) -> None:
        self.root = os.path.realpath(to_bytes(root))
        self.token = token
        self.name = ""  # what the current request is about, for its error
        self.part = b".launcher-part-%d" % os.getpid()

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

    def read(self, ask: Ask, payload: bytes) -> Answer:
        full = self.inside(ask["path"])
        real = os.path.realpath(full)
        if real != full and not real.startswith(self.root + b"/"):
            raise PermissionError(errno.EPERM, "outside of the root")
        base = ask.get("base")
        if base is not None:  # a file of a listing: no link on the way from the base down
            top = self.inside(base)
            if os.path.realpath(top) + full[len(top) :] != real:
                return {"error": "link"}, b""
        file = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                return {"error": "not a plain file"}, b""
            return {}, os.pread(file, ask["limit"], ask["offset"])
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

    def run(self, ask: Ask, payload: bytes) -> Answer:
        import signal
        import subprocess

        environment = dict(os.environ)
        environment.pop("LAUNCHER_INSTANCE", None)
        if self.token:  # by it the agent finds what was left running
            environment["LAUNCHER_INSTANCE"] = self.token
        pipe = subprocess.PIPE
        with subprocess.Popen(
            [to_bytes(word) for word in ask["argv"]],
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            cwd=self.inside(ask["cwd"]),
            env=environment,
            start_new_session=True,
        ) as child:
            try:
                out, err = child.communicate(payload, timeout=ask["timeout"])
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                return {"error": "timeout"}, b""
        return {"exit_code": child.returncode, "out": len(out)}, out + err

    def answer(self, ask: Ask, payload: bytes) -> Answer:
        self.name = ask.get("path") or (ask.get("argv") or [""])[0]
        verbs = {"read": self.read, "write": self.write, "put": self.put, "run": self.run}
        try:
            return verbs[ask["verb"]](ask, payload)
        except OSError as why:
            return {"error": "errno", "errno": why.errno, "text": why.strerror, "name": self.name}, b""


def exactly(count: int) -> bytes:
    data = sys.stdin.buffer.read(count)
    if len(data) < count:
        sys.exit(0)
    return data


def main() -> None:
    courier = Courier(sys.argv[1], sys.argv[2])
    while True:
        ask = json.loads(exactly(int.from_bytes(exactly(4), "big")))
        reply, data = courier.answer(ask, exactly(ask["size"]))
        head = json.dumps(dict(reply, size=len(data))).encode()
        sys.stdout.buffer.write(len(head).to_bytes(4, "big") + head + data)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
