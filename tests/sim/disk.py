"""A disk that keeps launcher.files' promises and nothing more.

Each file knows its bytes and how many of them were synced, each folder its names and which of them were
synced. A power cut forgets the rest, or some of it: a name may last while the bytes it stands for do not.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

from tests.sim.kernel import Killed, Sim


class File:
    __slots__ = ("data", "lasting", "name", "parent", "synced")

    def __init__(self, data: bytes = b"") -> None:
        self.data = bytearray(data)
        self.synced = b""
        self.parent: Folder | None = None
        self.name = ""
        self.lasting: tuple[Folder, str] | None = None  # where a power cut would find it


class Folder:
    __slots__ = ("lasting", "name", "names", "parent", "synced")

    def __init__(self) -> None:
        self.names: dict[str, Node] = {}
        self.synced: dict[str, Node] = {}
        self.parent: Folder | None = None
        self.name = ""
        self.lasting: tuple[Folder, str] | None = None  # where a power cut would find it


Node = File | Folder


class SimLock:
    def __init__(self, files: SimFiles, path: str) -> None:
        self._files = files
        self._path = path

    def release(self) -> None:
        self._files.held.discard(self._path)


class SimFiles:
    def __init__(self, sim: Sim) -> None:
        self._sim = sim
        self.root = Folder()
        self.held: set[str] = set()
        self.full = False
        self.met: Callable[[str], None] = lambda fault: None
        self.moved: Callable[[Path], None] = lambda to: None
        self.removed: Callable[[Path], None] = lambda path: None

    # --- what the program calls --------------------------------------------------------------

    def read(self, path: Path) -> bytes:
        node = self._find(path)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
        if isinstance(node, Folder):
            raise IsADirectoryError(errno.EISDIR, "a folder", str(path))
        return bytes(node.data)

    def size(self, path: Path) -> int:
        node = self._find(path)
        return len(node.data) if isinstance(node, File) else 0

    def exists(self, path: Path) -> bool:
        return self._find(path) is not None

    def is_folder(self, path: Path) -> bool:
        return isinstance(self._find(path), Folder)

    def names(self, path: Path) -> tuple[str, ...]:
        node = self._find(path)
        return tuple(sorted(node.names)) if isinstance(node, Folder) else ()

    def append(self, path: Path, data: bytes, *, sync: bool) -> None:
        sim = self._sim
        sim.point()
        folder = self._folder(path)
        node = folder.names.get(path.name)
        fresh = node is None
        if node is None:
            node = self._link(folder, path.name, File())
        assert isinstance(node, File)
        if self.full:
            self.met("disk-full")
            node.data += data[: sim.rng.randrange(len(data))]
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        if sim.tears():
            self.met("torn-append")
            node.data += data[: sim.rng.randrange(len(data) + 1)]
            raise Killed
        sim.point()
        node.data += data
        sim.point()
        if sync:
            node.synced = bytes(node.data)
            sim.point()
            if fresh:
                self._sync(folder)
        sim.spend(0.02)

    def cut(self, path: Path, size: int) -> None:
        self._sim.point()
        node = self._find(path)
        assert isinstance(node, File)
        del node.data[size:]
        node.synced = bytes(node.data)

    def write(self, path: Path, data: bytes, mode: int = 0o600) -> None:
        sim = self._sim
        sim.point()
        folder = self._folder(path)
        self._room(path)
        beside = f".{path.name}.7.new"
        new = self._link(folder, beside, File(data))
        sim.point()
        assert isinstance(new, File)
        new.synced = bytes(data)
        sim.point()
        self._rename(new, folder, path.name)
        sim.point()
        self._sync(folder)
        self.moved(path)
        sim.spend(0.02)

    def note(self, path: Path, data: bytes) -> None:
        self._sim.point()
        self._room(path)
        self.put(path, data, synced=False)
        self._sim.point()

    def move(self, source: Path, to: Path) -> None:
        sim = self._sim
        sim.point()
        node, target = self._find(source), self._folder(to)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", str(source))
        if to.name in target.names:
            raise FileExistsError(errno.EEXIST, "taken", str(to))
        before = node.parent
        assert before is not None
        self._rename(node, target, to.name)
        self.moved(to)
        sim.point()
        self._sync(target)
        self._sync(before)
        sim.spend(0.02)

    def sync_tree(self, path: Path) -> None:
        self._sim.point()
        node = self._find(path)
        assert node is not None
        self._sync_tree(node)
        if node.parent is not None:
            self._sync(node.parent)
        self._sim.spend(0.02)

    def make_folder(self, path: Path, *, private: bool = True) -> None:
        self._sim.point()
        at = self.root
        for part in path.parts[1:]:
            below = at.names.get(part)
            if below is None:
                self._room(path)
                below = self._link(at, part, Folder())
                self._sync(at)
            if isinstance(below, File):
                raise NotADirectoryError(errno.ENOTDIR, "in the way", str(path))
            at = below

    def remove(self, path: Path) -> None:
        self._sim.point()
        node = self._find(path)
        if node is not None and node.parent is not None:
            if isinstance(node, Folder) and self._sim.dies_next and node.names:
                node.names.pop(sorted(node.names)[0])  # half of a tree is gone when one dies in between
                self._sim.point()
            del node.parent.names[node.name]
            node.parent = None
        self.removed(path)
        self._sim.point()

    def lock(self, path: Path, note: str) -> SimLock | None:
        key = str(path)
        if key in self.held:
            return None
        self.held.add(key)
        return SimLock(self, key)

    # --- for the simulation ------------------------------------------------------------------

    def put(self, path: Path, data: bytes, *, synced: bool = True) -> None:
        """Another process, or a transfer, wrote this."""
        at = self.root
        for part in path.parts[1:-1]:
            below = at.names.get(part)
            if below is None:
                below = self._link(at, part, Folder())
                if synced:
                    self._sync(at)
            assert isinstance(below, Folder)
            at = below
        new = File(data)
        if synced:
            new.synced = bytes(data)
        old = at.names.get(path.name)
        if old is not None:
            old.parent = None
        self._link(at, path.name, new)
        if synced:
            self._sync(at)

    def durable(self, path: Path) -> bytes | None:
        """What a power cut right now would leave for certain."""
        node: Node = self.root
        for part in path.parts[1:]:
            below = node.synced.get(part) if isinstance(node, Folder) else None
            if below is None:
                return None
            node = below
        return node.synced if isinstance(node, File) else None

    def die(self) -> None:
        """The process is gone: its locks are, what it wrote is not."""
        self.held.clear()

    def lose_power(self) -> None:
        """Names and bytes that were not synced are gone, or not: by luck."""
        self.die()
        self._forget(self.root)

    # --- inside ------------------------------------------------------------------------------

    def _find(self, path: Path) -> Node | None:
        node: Node = self.root
        for part in path.parts[1:]:
            if not isinstance(node, Folder):
                return None
            below = node.names.get(part)
            if below is None:
                return None
            node = below
        return node

    def _folder(self, path: Path) -> Folder:
        node: Node | None = self.root
        for part in path.parts[1:-1]:
            node = node.names.get(part) if isinstance(node, Folder) else None
        if not isinstance(node, Folder):
            raise FileNotFoundError(errno.ENOENT, "no such folder", str(path.parent))
        return node

    def _room(self, path: Path) -> None:
        if self.full:
            self.met("disk-full")
            raise OSError(errno.ENOSPC, "No space left on device", str(path))

    def _link(self, folder: Folder, name: str, node: Node) -> Node:
        node.parent, node.name = folder, name
        folder.names[name] = node
        return node

    def _rename(self, node: Node, to: Folder, name: str) -> None:
        assert node.parent is not None
        del node.parent.names[node.name]
        old = to.names.get(name)
        if old is not None:
            old.parent = None
        self._link(to, name, node)

    def _sync(self, folder: Folder) -> None:
        """A rename is one: once it is written down in one folder it is so in the other."""
        for node in folder.synced.values():
            if node.parent is not None and node.parent is not folder:
                node.parent.synced[node.name] = node
                node.lasting = (node.parent, node.name)
        for name, node in folder.names.items():
            if node.lasting is not None and node.lasting[0] is not folder:
                before, old = node.lasting
                if before.synced.get(old) is node:
                    del before.synced[old]
            node.lasting = (folder, name)
        folder.synced = dict(folder.names)

    def _sync_tree(self, node: Node) -> None:
        if isinstance(node, File):
            node.synced = bytes(node.data)
            return
        for below in node.names.values():
            self._sync_tree(below)
        self._sync(node)

    def _forget(self, node: Node) -> None:
        rng = self._sim.rng
        if isinstance(node, File):
            if len(node.data) > len(node.synced) and rng.random() < 0.5:
                keep = rng.randrange(len(node.synced), len(node.data))
                node.synced = bytes(node.data[:keep]) if node.data.startswith(node.synced) else node.synced
            node.data = bytearray(node.synced)
            return
        if node.names != node.synced and rng.random() < 0.5:
            self._sync(node)
        for name in sorted(node.synced):
            below = node.synced[name]
            below.parent, below.name = node, name
            self._forget(below)
        node.names = dict(node.synced)
