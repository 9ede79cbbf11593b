"""A machine of the user's own over SSH: one connection, one courier over it, one more stream for a fetch.

Where there is no python3 the same verbs go by its shell. The connection is opened when first needed and
again after it broke; a machine that could not be reached is left alone for a while, longer each time. Knows
no runs and no providers.
"""

from __future__ import annotations

import importlib.resources
import posixpath
import shlex
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from launcher.errors import HostError, HostUnreachable
from launcher.models import Access, Route
from launcher.remote import inside, treesync
from launcher.remote.base import Digests, Done, Listed, Pipe, Progress, Sending, Tick, Tree, Wanted, unseen
from launcher.remote.channel import TAIL, Channel, Wire, harmless, message
from launcher.remote.couriered import ANSWER_S, Couriered, checked
from launcher.remote.fetching import Rest, fetch
from launcher.remote.sessions import ARRIVED, Session, opened
from launcher.remote.shelled import Shelled
from launcher.remote.streaming import Feed
from launcher.ssh.connection import Connection, connect, still
from launcher.ssh.errors import KeyMismatch, LoginRefused

MESSAGE = 4 << 20  # of files in one round trip: a long way has few of them
PIECE = 1 << 20  # of a stream, between two ticks
LOW = 5  # a fetch gives way to what is trained there; at 19 it starves where all cores are busy
SHORTEST_S, LONGEST_S = 0.5, 15.0  # how long a machine is left alone after a try in vain,
_PAUSES = ((KeyMismatch, 60.0), (LoginRefused, 5.0))  # at least, where trying again mends nothing

PYTHONS = ("python3", *(f"python3.{minor}" for minor in range(16, 7, -1)), "python")
_TOO_OLD = 97
_LOAD = (  # in words that even an old python can read
    f"import sys; sys.version_info < (3, 8) and sys.exit({_TOO_OLD}); "
    f"sys.stdout.write(chr(10) + {ARRIVED!r} + sys.argv.pop(1) + chr(10)); sys.stdout.flush(); "
    "exec(sys.stdin.buffer.read(int(sys.argv.pop(1))))"
)
_FIND = (
    f'for p in {" ".join(PYTHONS)}; do command -v "$p" >/dev/null || continue; '
    f'"$p" -I -c {shlex.quote(_LOAD)} "$p" "$@"; '
    f"case $? in {_TOO_OLD}|126|127) ;; *) exit ;; esac; done; echo; echo {ARRIVED}"
)
_KNOWN = f'exec "$0" -I -c {shlex.quote(_LOAD)} "$0" "$@"'


class NoPython(HostError):
    """There is none on the host; its shell has to do."""


class SshHost:
    def __init__(self, access: Access, tick: Tick = still) -> None:
        if access.route is None:
            raise ValueError("a host by SSH needs a route")
        self.root = access.root
        self._route = access.route
        self._container = access.container
        self._connection: Connection | None = None
        self._opening = threading.RLock()  # a tunnel's threads share the connection
        self._under_way = False
        self._python: str | None = None  # its name there, once it is known
        self._tick = tick  # for calls that bring none of their own
        self._courier = Couriered(self._open_channel, message=MESSAGE, tick=tick)
        self._shell: Shelled | None = None
        self._begun: treesync.Begun | None = None

    # The verbs of a host.

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", cwd: str = ".", timeout: float = 30) -> Done:
        return self._verbs().run(argv, stdin=stdin, cwd=cwd, timeout=timeout)

    def start(self, argv: Sequence[str], *, cwd: str = ".") -> None:
        """Where the run lives: inside its container, if it has one there."""
        if self._container is None:
            self._verbs().start(argv, cwd=cwd)
            return
        done = self.run(inside.left_there(self._container, argv, posixpath.join(self.root, cwd)))
        if done.exit_code:
            raise HostError(f"{argv[0]} could not be started in the container: {harmless(done.stderr)}")

    def read(self, path: str, offset: int = 0, limit: int = 1 << 20) -> bytes:
        return self._verbs().read(checked(path), offset, limit)

    def read_many(self, wanted: Sequence[Wanted]) -> list[bytes | None]:
        return self._verbs().read_many(wanted)

    def digests(self, base: str, after: str | None, tick: Tick) -> Digests:
        return self._verbs(tick).digests(checked(base), after, tick)

    def write(self, path: str, data: bytes, mode: int = 0o600) -> None:
        self._verbs().write(checked(path), data, mode)

    def put(self, files: Iterable[Sending], tick: Tick) -> None:
        self._verbs(tick).put(files, tick)

    @contextmanager
    def expecting(self, key: str) -> Iterator[None]:
        begun = treesync.Begun(self._connected(), self._base, key)
        self._begun = begun
        try:
            yield
        finally:
            self._begun = None
            begun.close()

    def put_tree(self, to: str, tree: Tree, tick: Tick, progress: Progress = unseen) -> None:
        there = f"{self.root}/{checked(to)}"
        treesync.send(self._connected(tick), self._base, there, tree, tick, progress, self._begun)

    @property
    def _base(self) -> str:
        """What runs of this user share."""
        return posixpath.dirname(posixpath.dirname(self.root))

    def get(
        self,
        base: str,
        listing: Sequence[Listed],
        staging: Path,
        tick: Tick,
        progress: Progress = unseen,
    ) -> None:
        feed = Feed(partial(self._stream, base, tick), partial(self._single, base, tick), tick)
        try:
            fetch(feed.read, base, listing, staging, tick, chunk=PIECE, progress=progress, ahead=feed.ahead)
        finally:
            feed.close()

    def connect(self, port: int) -> Pipe:
        connection = self._connected()
        if self._container is not None:
            until = time.monotonic() + ANSWER_S
            session, _ = opened(connection, inside.relay(self._container, port), until, still)
            return inside.led_on(session, port, ANSWER_S)
        try:
            return Session(connection.open_port(port))
        except HostUnreachable as why:
            if not connection.alive:
                raise
            raise HostError(f"nothing listens on port {port} of the host: {why}") from why

    def close(self) -> None:
        self._courier.close()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # The way there.

    def _connected(self, tick: Tick | None = None) -> Connection:
        with self._opening:
            if self._connection is None or not self._connection.alive:
                if self._under_way:  # a tick() of our own that wants something of the host
                    raise HostUnreachable("the host is being connected to")
                if self._connection is not None:
                    self._connection.close()
                self._under_way = True
                try:
                    self._connection = _knocked(self._route, tick or self._tick)
                finally:
                    self._under_way = False
            return self._connection

    def _opened(
        self, argv: Sequence[str], until: float, tick: Tick, *, keep: int = TAIL, ahead: bytes = b""
    ) -> tuple[Session, str]:
        """Over another connection, when it only turns out now that the one there was broke."""
        connection = self._connected(tick)
        try:
            return opened(connection, argv, until, tick, keep=keep, ahead=ahead)
        except HostUnreachable:
            if connection.alive:
                raise
        return opened(self._connected(tick), argv, until, tick, keep=keep, ahead=ahead)

    def _verbs(self, tick: Tick | None = None) -> Couriered | Shelled:
        """The courier; or the shell, once it was seen that there is no python."""
        self._connected(tick)
        if self._shell is None and self._python is None:
            try:
                self._courier.meet()
            except NoPython:
                self._shell = Shelled(self.root, self._opened)
        return self._shell or self._courier

    def _open_channel(self) -> Channel:
        return Channel(self._courier_wire(self._tick), lambda: None)

    def _courier_wire(self, tick: Tick, first: bytes = b"") -> Wire:
        """A courier under way, its source sent to it: a command line has no room for it everywhere. `first`:
        what it is asked at once."""
        source, token = _source(), posixpath.basename(self.root)
        words = [str(len(source)), self.root, token]
        asked = ["sh", "-c", _KNOWN, self._python] if self._python else ["sh", "-c", _FIND, "sh"]
        until = time.monotonic() + ANSWER_S
        session, found = self._opened([*asked, *words], until, tick, ahead=source + first)
        if found not in PYTHONS:
            session.close()
            raise NoPython("the host has no python3")
        self._python = found
        return session.wire

    def _single(self, base: str, tick: Tick, path: str, offset: int, limit: int) -> bytes:
        return self._verbs(tick).read(path, offset, limit, base=base, tick=tick)

    def _stream(self, base: str, tick: Tick, rests: Sequence[Rest]) -> Wire:
        if self._shell is None:
            files = [{"path": rest.source, "offset": rest.offset, "limit": rest.size + 1} for rest in rests]
            ask = {"verb": "stream", "base": base or ".", "files": files, "nice": LOW}
            try:
                return self._courier_wire(tick, message(ask))
            except NoPython:
                self._shell = Shelled(self.root, self._opened)
        return self._shell.stream(base, rests, tick)


@cache
def _source() -> bytes:
    return importlib.resources.files("launcher.remote").joinpath("courier.py").read_bytes()


# --- knocking ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Knock:
    """The last time in vain."""

    until: float  # before that it is not tried again
    pause_s: float
    error: HostUnreachable


# Over all hosts of this process: an engine makes a new one after every failure.
_IN_VAIN: dict[Route, _Knock] = {}


def _knocked(route: Route, tick: Tick) -> Connection:
    last = _IN_VAIN.get(route)
    if last is not None and time.monotonic() < last.until:
        raise last.error.with_traceback(None)
    try:
        made = connect(route, tick=tick)
    except HostUnreachable as why:
        pause_s = next((s for kind, s in _PAUSES if isinstance(why, kind)), SHORTEST_S)
        if last is not None:
            pause_s = max(pause_s, min(2 * last.pause_s, LONGEST_S))
        _IN_VAIN[route] = _Knock(time.monotonic() + pause_s, pause_s, why)
        raise
    _IN_VAIN.pop(route, None)
    return made
