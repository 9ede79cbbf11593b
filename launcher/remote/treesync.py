"""Putting a tree on a host that keeps what it was sent: only what it lacks travels, in one archive.

The far side is treesync.sh, which needs no more than a POSIX shell, tar, gzip, find, sort and sha256sum. What
it says of itself is only compared with what is here: names that come back name nothing on this side. A cut
leaves what arrived for the next call. Large files go by content (blobs.py). Where things lie and why a
run gets a copy: docs/sync.md.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
import os
import re
import stat
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from launcher.errors import HostError, HostUnreachable
from launcher.remote import blobs
from launcher.remote.base import Progress, Sending, Tick, Tree
from launcher.remote.packing import Packer, content, squeezed, squeezes
from launcher.remote.talk import SLICE_S, Ended, Talk, refusal
from launcher.remote.treedelta import FOLDER, Records, arrived, delta, packed, record, unpacked
from launcher.ssh.connection import Connection
from launcher.ssh.ending import let_go
from launcher.ssh.quoting import line

if TYPE_CHECKING:
    from launcher.ssh import Channel

NOTHING = 24  # bytes that a gzip makes of an empty list, and a few more
AHEAD = 4 << 20  # of what a cut tree lacks, sent before its list is read
NEAR_S = 0.003  # a line that short outruns the far gunzip
MOST_LISTED = 256 << 20  # of names that a host may answer with
HELD = re.compile(rb"(?:\A|\0)\s*(\d{1,18}) \./([^\0]+)(?=\0)")  # a file that arrived, with its size


@dataclass(frozen=True)
class Whole:
    """A tree with what its list says of each name."""

    tree: Tree
    files: Mapping[bytes, Sending]
    records: Records
    sizes: Mapping[bytes, int]  # of those that have content
    listed: bytes

    @property
    def want(self) -> str:
        return hashlib.sha256(self.listed).hexdigest()[:32]

    @functools.cached_property
    def list_gz(self) -> bytes:
        return squeezed(self.listed)


@dataclass(frozen=True)
class Offer:
    """What the host says it has: the records of a former tree, and the sizes of what arrived of this one."""

    old: Records
    there: bool  # whether there is a former tree at all
    held: bytes  # the latter as they came

    @property
    def is_cut(self) -> bool:
        return not self.there and len(self.held) > NOTHING

    def missing(self, names: Iterable[bytes], whole: Whole) -> set[bytes]:
        places = 1 if self.there or whole.tree.data else 2  # a first tree is written twice as it comes
        return set(names) - arrived(_sizes(_inflated(self.held)), whole.sizes, places)


class _TakenUp:
    """Of a first tree that a cut left in pieces: its last files surely did not arrive, since they go in their
    order; they are on their way while it is found out what did. After a second cut these travel twice."""

    def __init__(self, whole: Whole, offer: Offer) -> None:
        self._whole, self._offer = whole, offer
        self.at_rest = 0  # bytes that need not travel, once it is known

    def __iter__(self) -> Iterator[tuple[bytes, Sending]]:
        whole = self._whole
        ahead = self._last()
        yield from ((n, whole.files[n]) for n in ahead)
        missing = self._offer.missing(whole.records, whole).difference(ahead)
        sent = sum(whole.sizes.get(n, 0) for n in (*ahead, *missing))
        self.at_rest = whole.tree.size - sent
        yield from ((n, whole.files[n]) for n in sorted(missing))

    def _last(self) -> list[bytes]:
        names, room = sorted(self._whole.records), min(AHEAD, self._whole.tree.size // 8)
        found: list[bytes] = []
        for name in reversed(names[-len(names) // 8 :]):
            room -= self._whole.sizes.get(name, 0)
            if room < 0:
                break
            found.append(name)
        return found


class Begun:
    """A push of which no more is known yet than the tree's key: a thread of its own starts the far side,
    which looks at what it has while the tree is looked at here. Where that fails, only time is lost."""

    def __init__(self, connection: Connection, base: str, key: str) -> None:
        self._connection = connection
        self._words = [base, "trees", key]
        self._wanted: tuple[str, ...] = ()
        self._asked = False
        self._over = False
        self._lock = threading.Lock()
        self._made: list[Channel] = []
        self._thread = threading.Thread(target=self._open, name="a push ahead", daemon=True)
        self._thread.start()

    def _open(self) -> None:
        with suppress(HostError):
            channel = self._connection.open_session(self._command)
            with self._lock:
                if not self._over:
                    self._made.append(channel)
                    return
            let_go(channel)

    def _command(self) -> bytes:
        """With what is wanted, when that is known by now: a round trip less than telling it afterwards."""
        with self._lock:
            self._asked = True
            return _command(*self._words, *self._wanted)

    def talk(self, connection: Connection, words: list[str], tick: Tick) -> Talk | None:
        """With the far side, once; None when it was begun for another tree, or could not be."""
        known = len(self._words)
        if (connection, words[:known]) != (self._connection, self._words) or "\n" in words[-1]:
            return None
        with self._lock:
            late = self._asked
            self._wanted = tuple(words[known:])
        while self._thread.is_alive():
            self._thread.join(SLICE_S)
            tick()
        if not self._made:
            return None
        talk = Talk(connection, self._made.pop(), tick)
        if late:
            talk.send("".join(f"{word}\n" for word in self._wanted).encode("utf-8", "surrogateescape"))
        return talk

    def close(self) -> None:
        """Of what nobody took."""
        with self._lock:
            self._over = True
            unused = [self._made.pop()] if self._made else []
        for channel in unused:
            let_go(channel)


def send(
    connection: Connection,
    base: str,
    to: str,
    tree: Tree,
    tick: Tick,
    progress: Progress,
    begun: Begun | None = None,
) -> None:
    """Make the tree's files lie below `to`. Both are absolute paths on the host; `base` is where it keeps
    what it was sent."""
    whole = _whole(tree)
    with (
        _carrying(connection, base, whole) as large,
        _far_side(connection, base, to, whole, tick, begun) as talk,
    ):
        try:
            _ = whole.list_gz  # made while the host looks at what it has
            answer = _answer(talk)
            if answer[0] != "done":
                _bring(talk, connection, large, whole, _offer(talk, answer), tick, progress)
            talk.part()
        except Ended as e:
            raise _sorted(talk, e) from e
    progress(tree.size, tree.size)


def _carrying(
    connection: Connection, base: str, whole: Whole
) -> AbstractContextManager[blobs.Carrying | None]:
    """For what is large in the tree; which of it the host lacks is not known yet."""
    large = [n for n, size in whole.sizes.items() if size >= blobs.LEAST]
    if not large:
        return nullcontext()
    return blobs.Carrying(connection, base, _blobs(connection, whole, large), copies=not whole.tree.data)


def _blobs(connection: Connection, whole: Whole, names: Iterable[bytes]) -> list[blobs.Blob]:
    near = connection.rtt_s <= NEAR_S
    return [blobs.Blob(whole.files[n], whole.sizes[n], near) for n in sorted(names)]


def _far_side(
    connection: Connection, base: str, to: str, whole: Whole, tick: Tick, begun: Begun | None
) -> Talk:
    kind = "data" if whole.tree.data else "trees"
    token = hashlib.sha256(os.fsencode(to)).hexdigest()[:12]
    words = [base, kind, whole.tree.key, whole.want, token, to]
    talk = begun.talk(connection, words, tick) if begun is not None else None
    return talk or Talk(connection, _command(*words), tick)


def _command(*words: str) -> bytes:
    return line(["sh", "-c", script(), "sh", *words])


def _bring(
    talk: Talk,
    connection: Connection,
    carrying: blobs.Carrying | None,
    whole: Whole,
    offer: Offer,
    tick: Tick,
    progress: Progress,
) -> None:
    """What the host lacks: large files first, by content, then the archive."""
    if carrying is None and offer.is_cut:
        rest = _TakenUp(whole, offer)
        sample = list(whole.files.values())
        _deliver(
            talk,
            connection,
            whole,
            rest,
            sample,
            lambda: rest.at_rest,
            _tail(whole, (), frozenset()),
            progress,
        )
        return
    lacks = delta(offer.old, whole.records)
    missing = offer.missing(lacks.send, whole)
    large = frozenset(n for n in missing if whole.sizes.get(n, 0) >= blobs.LEAST)
    if large and carrying is not None:
        at_rest = whole.tree.size - sum(whole.sizes.get(n, 0) for n in missing)
        carrying.send(
            _blobs(connection, whole, large), tick, lambda done, _: progress(at_rest + done, whole.tree.size)
        )
    small = [(n, whole.files[n]) for n in sorted(missing - large)]
    at_rest = whole.tree.size - sum(whole.sizes.get(n, 0) for n, _ in small)
    tail = _tail(whole, lacks.drop, large)
    _deliver(talk, connection, whole, small, [f for _, f in small], lambda: at_rest, tail, progress)


def _tail(whole: Whole, drop: tuple[bytes, ...], large: frozenset[bytes]) -> dict[bytes, bytes]:
    gone = b"".join(b"./%s\0" % n for n in drop)
    return {b"del": gone, b"blobs": _links(whole, large), b"list.gz": whole.list_gz}


def _deliver(
    talk: Talk,
    connection: Connection,
    whole: Whole,
    files: Iterable[tuple[bytes, Sending]],
    sample: Sequence[Sending],
    at_rest: Callable[[], int],
    tail: Mapping[bytes, bytes],
    progress: Progress,
) -> None:
    """The archive, and the far side's word that all of it is in place."""
    form = "gz" if connection.rtt_s > NEAR_S and squeezes(sample) else "raw"
    talk.send(f"{form}\n".encode())
    with Packer(files, tail, compress=form == "gz") as packer:
        for piece in packer.pieces(talk.tick):
            talk.send(piece)
            progress(at_rest() + packer.read, whole.tree.size)
    talk.end()
    if _answer(talk)[0] != "done":
        raise HostError("the host's answer is none of ours")


def _links(whole: Whole, large: frozenset[bytes]) -> bytes:
    """A blob that has two names in one tree is copied: a copy of that tree would make them one file."""
    if not large:
        return b""
    named = Counter(what for n, what in whole.records.items() if whole.sizes.get(n, 0) >= blobs.LEAST)
    how = {n: "copy" if named[whole.records[n]] > 1 else "link" for n in sorted(large)}
    return b"".join(
        b"%s:%s\0%s\0" % (w.encode(), blobs.name(whole.files[n]).encode(), n) for n, w in how.items()
    )


def _answer(talk: Talk) -> list[str]:
    """`done` or `need …`; what it could not do is raised."""
    words = talk.line().decode("utf-8", "replace").split(" ")
    while words[0] != "launcher:":  # a shell's greeting may come before
        words = talk.line().decode("utf-8", "replace").split(" ")
    if words[1:2] == ["fail"]:
        talk.hear_out()
        raise refusal(" ".join(words[2:]), talk.words)
    return words[1:]


def _offer(talk: Talk, answer: list[str]) -> Offer:
    """Nothing in it is believed further than that sending the wrong things would follow."""
    try:
        _, old, listed, have = answer
        sizes = int(listed), int(have)
    except ValueError as e:
        raise HostError("the host's answer is none of ours") from e
    if max(sizes) > MOST_LISTED:
        raise HostError("the host lists more than can be meant")
    records, held = _inflated(talk.exactly(sizes[0])), talk.exactly(sizes[1])
    try:
        return Offer(unpacked(records), old != "-", held)
    except ValueError as e:
        raise HostError(f"the host's list cannot be read: {e}") from e


def _inflated(data: bytes) -> bytes:
    if not data:
        return b""
    stream = zlib.decompressobj(31)
    try:
        out = stream.decompress(data, MOST_LISTED)
    except zlib.error as e:
        raise HostError(f"the host's list cannot be read: {e}") from e
    if stream.unconsumed_tail:
        raise HostError("the host lists more than can be meant")
    return out


def _sizes(data: bytes) -> tuple[tuple[bytes, int], ...]:
    return tuple([(name, int(size)) for size, name in HELD.findall(data)])


def _sorted(talk: Talk, why: Ended) -> HostError:
    """A far program that ended of itself says why; a broken line says nothing."""
    talk.hear_out()
    for said in talk.lines_now():
        if said.startswith(b"launcher: fail "):
            return refusal(said.decode("utf-8", "replace")[len("launcher: fail ") :], talk.words)
    if "No space left" in talk.words:
        return refusal("the host's disk is full", talk.words)
    if talk.cut:
        return why
    last = talk.words.splitlines()[-1] if talk.words else "it gave no reason"
    return HostUnreachable(f"the host broke off: {last}")


def _whole(tree: Tree) -> Whole:
    files = {os.fsencode(f.to): f for f in tree.files}
    records: Records = {}
    sizes: dict[bytes, int] = {}
    for name, file in files.items():
        if file.link is not None:
            records[name] = record("l", 0, 0, hashlib.sha256(os.fsencode(file.link)).hexdigest())
        elif file.source is None and file.data is None:
            records[name] = record(FOLDER.decode().strip(), 0o755, 0, "-")
        else:
            size, digest = _content(file)
            sizes[name] = size
            records[name] = record("f", stat.S_IMODE(file.mode), size, digest)
    return Whole(tree, files, records, sizes, packed(records))


def _content(file: Sending) -> tuple[int, str]:
    if file.data is None and file.sha256 is not None:
        assert file.source is not None
        return os.stat(file.source).st_size if file.size is None else file.size, file.sha256
    data = content(file)
    return len(data), hashlib.sha256(data).hexdigest()


@functools.cache
def script() -> str:
    """The far side without its comments and whatever only readers need: dropbear takes no command above
    9,000 bytes."""
    text = importlib.resources.files("launcher.remote").joinpath("treesync.sh").read_text("utf-8")
    lines = (re.sub(r"(^|\s)# .*", "", part.strip()) for part in text.splitlines())
    short = "\n".join(part for part in lines if part and part != "#")
    return re.sub(r"; (?=[a-z}])", ";", re.sub(r" (\|\||&&|\||;;) ?", r"\1", short))
