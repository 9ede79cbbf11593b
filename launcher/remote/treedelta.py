"""What a tree holds as a list of records, and what one such list lacks of another. Pure.

A record is what must be equal for a thing to be left where it is: kind, mode, size and digest. Implied
folders are in no list; those that nothing implies any more are dropped with what was in them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

Records = dict[bytes, bytes]  # name -> record
FOLDER = b"d "
DIGITS = 20  # of a sha256, in hex: enough to tell one content from another, and little to send


@dataclass(frozen=True)
class Delta:
    send: frozenset[bytes]
    drop: tuple[bytes, ...]  # before anything of it is put there


def record(kind: str, mode: int, size: int, digest: str) -> bytes:
    return f"{kind} {mode:o} {size} {digest[:DIGITS]}".encode()


def packed(records: Records) -> bytes:
    """As bytes, the same for the same tree."""
    return b"".join([b"%s\t%s\0" % (records[name], name) for name in sorted(records)])


def unpacked(data: bytes) -> Records:
    """ValueError when that is no list of ours."""
    if data and not data.endswith(b"\0"):
        raise ValueError("the list breaks off")
    found: Records = {}
    for part in data.split(b"\0")[:-1]:
        what, tab, name = part.partition(b"\t")
        if not tab:
            raise ValueError("the list has a line without a name")
        found[name] = what
    return found


def delta(old: Records, new: Records) -> Delta:
    send = frozenset(name for name, _ in new.items() - old.items()) if old else frozenset(new)
    gone = {name for name in send if name in old}
    if old and old.keys() != new.keys():
        kept = folders(new)
        gone |= {n for n in old.keys() - new.keys() if not (n in kept and old[n].startswith(FOLDER))}
        gone |= folders(old) - kept
    return Delta(send, tuple(sorted(_topmost(gone))))


def _topmost(names: set[bytes]) -> Iterator[bytes]:
    """Without what goes with a folder above it."""
    for name in names:
        if not any(above in names for above in _above(name)):
            yield name


def folders(names: Iterable[bytes]) -> set[bytes]:
    """Every folder that the names imply."""
    found: set[bytes] = set()
    for name in names:
        for above in _above(name):
            if above in found:
                break
            found.add(above)
    return found


def _above(name: bytes) -> Iterator[bytes]:
    """The folders a name lies in, the deepest first."""
    while (cut := name.rfind(b"/")) > 0:
        name = name[:cut]
        yield name


def arrived(sizes: Iterable[tuple[bytes, int]], wanted: Mapping[bytes, int], places: int) -> set[bytes]:
    """Of the files that must come, those that lie whole in so many places: a cut one is shorter."""
    found = Counter(name for name, size in sizes if wanted.get(name) == size)
    return {name for name, times in found.items() if times >= places}
