"""Trees that are pushed to real hosts: what they are made of, where they go and how they look there."""

from __future__ import annotations

import hashlib
import io
import os
import random
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

from launcher.remote import blobs, treesync
from launcher.remote.base import Sending, Tree
from launcher.ssh.connection import Connection, connect
from tests.hosts.boxes import HOME, Box
from tests.hosts.relay import Relay

Content = bytes | str | None | tuple[bytes]  # a file · a link · an empty folder · an executable
Shape = Mapping[str, Content]
ODD = {
    "new\nline": b"1",
    "a 'single' \"double\" `back` $HOME \\": b"2",
    "훈련/모델.py": b"3",
    os.fsdecode(b"not-utf8-\xff\xfe"): b"4",
    "-rf": b"5",
    " lead and trail ": b"6",
    "*": b"7",
    "deep/" * 30 + "x" * 120: b"8",
    "tab\there": b"9",
    "empty file": b"",
    "empty folder": None,
    "folder/also empty": None,
    "run.sh": (b"#!/bin/sh\n",),
    "link": "run.sh",
    "link with a long end": "../" * 60 + "x",
    "dead": "/nowhere/at all",
    ".hidden/.file": b"10",
}


def tree_of(shape: Shape, folder: Path, *, key: str = "k", data: bool = False) -> Tree:
    """As the push set would make it: small things from memory, large ones from disk."""
    files = []
    for to, what in shape.items():
        body = what[0] if isinstance(what, tuple) else what
        if not isinstance(body, bytes):
            files.append(Sending(to, 0o755, link=body))
            continue
        mode = 0o444 if data else 0o755 if isinstance(what, tuple) else 0o644
        digest = hashlib.sha256(body).hexdigest()
        source = folder / digest
        source.write_bytes(body)
        files.append(Sending(to, mode, source=source, sha256=digest, size=len(body)))
    size = sum(f.size or 0 for f in files)
    return Tree(key, "digest", tuple(files), size, data)


def seen(connection: Connection, to: str) -> dict[str, tuple[object, ...]]:
    """What lies there, by the host's own tar."""
    done = connection.run(["tar", "-cf", "-", "-C", to, "."], timeout=60, most=256 << 20)
    assert done.exit_code == 0, done.stderr
    found: dict[str, tuple[object, ...]] = {}
    with tarfile.open(fileobj=io.BytesIO(done.stdout), errors="surrogateescape", encoding="utf-8") as tar:
        for m in tar:
            body = None if m.issym() else tar.extractfile(m)
            found[m.name.removeprefix("./")] = (
                m.type,
                m.mode & 0o777 if m.isreg() else 0,
                m.linkname if m.issym() else body.read() if body is not None else b"",
            )
    return {n: w for n, w in found.items() if n != "."}


def told(shape: Shape) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    for name, what in shape.items():
        for cut in range(1, name.count("/") + 1):
            found["/".join(name.split("/")[:cut])] = (tarfile.DIRTYPE, 0, b"")
        if isinstance(what, str):
            found[name] = (tarfile.SYMTYPE, 0, what)
        elif what is None:
            found[name] = (tarfile.DIRTYPE, 0, b"")
        else:
            body, mode = (what[0], 0o755) if isinstance(what, tuple) else (what, 0o644)
            found[name] = (tarfile.REGTYPE, mode, body)
    return found


class Place:
    """A base folder of its own on a host, and a way to push there."""

    def __init__(self, box: Box, folder: Path) -> None:
        self.box = box
        self.folder = folder
        self.base = f"{HOME}/.t-{uuid4().hex[:8]}"
        self.connection = connect(box.route)
        self.runs = 0

    def push(
        self,
        shape: Shape,
        *,
        over: Connection | None = None,
        tick: Callable[[], None] = lambda: None,
        key: str = "k",
        data: bool = False,
        to: str | None = None,
        begun: treesync.Begun | None = None,
    ) -> str:
        self.runs += 1
        to = to or f"{self.base}/runs/{self.runs}/project/d"
        tree = tree_of(shape, self.folder, key=key, data=data)
        treesync.send(over or self.connection, self.base, to, tree, tick, lambda done, total: None, begun)
        return to

    def begin(self) -> treesync.Begun:
        return treesync.Begun(self.connection, self.base, "k")

    def rest(self) -> None:
        """The copy for the next run lies ready, in the newest generation (busybox sorts by whole seconds)."""
        self.comes("g.*/spare")
        self.sh(f"cd {self.base}/trees/k; for g in g.*; do [ -e $g/spare ] || touch -t 202601010000 $g; done")

    def comes(self, names: str) -> None:
        """Wait until there is such a thing in what is kept of the tree."""
        self.sh(
            f"cd {self.base}/trees/k; for n in $(seq 400); do ls -d {names} && exit; sleep 0.05; done; exit 1"
        )

    def pushed(self, shape: Shape) -> dict[str, tuple[object, ...]]:
        return seen(self.connection, self.push(shape))

    def sh(self, script: str) -> str:
        return self.box.sh(script, user="dev")

    def kill(self, words: str) -> None:
        """What of dev's has this pattern in its command; spelt so that it does not match itself."""
        told = "tr '\\0' ' ' <$p/cmdline 2>/dev/null"
        kill = f"[ -O $p ] && {told} | grep -q '{words}' && kill -9 ${{p#/proc/}}"
        self.sh(f"for p in /proc/[0-9]*; do {kill}; done; true")

    def clear(self) -> None:
        """A copy for the next run may still be in the making."""
        self.sh(f"for n in $(seq 100); do rm -rf {self.base} 2>/dev/null && exit; sleep 0.1; done; exit 1")

    def kept(self) -> list[str]:
        return sorted(self.sh(f"cd {self.base}/trees/k && ls -d g.*").split())


@contextmanager
def place_on(box: Box, folder: Path) -> Iterator[Place]:
    made = Place(box, folder)
    yield made
    made.connection.close()
    made.clear()


def through(relay: Relay, place: Place) -> Connection:
    return connect(replace(place.box.route, address=relay.address[0], port=relay.address[1]))


def noisy(size: int = 40_000, count: int = 40, seed: int = 3) -> dict[str, Content]:
    dice = random.Random(seed)
    return {f"d{n % 5}/f{n}": dice.randbytes(size) for n in range(count)} | {"l": "d0/f0", "e": None}


def large(seed: int = 5) -> dict[str, Content]:
    dice = random.Random(seed)
    body = dice.randbytes(blobs.LEAST + 123_457)
    return {
        "small": b"1",
        "dir/big": body,
        "same": body,
        "run": (body,),
        "text": b"words " * (blobs.LEAST // 5),
    }
