"""A host's verbs over couriers, whatever channel leads to them.

One courier answers call by call; while a call waits, its tick() may ask for another, which then gets a
courier of its own. Knows the courier's language, nothing of engines or of SSH.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator, Sequence

from launcher.errors import Corrupt, HostDiskFull, HostError, HostUnreachable, NoFile
from launcher.models import Json
from launcher.remote.base import Digests, Done, Sending, Tick, Wanted
from launcher.remote.channel import Broken, Channel, harmless
from launcher.remote.digests import SECONDS, understood
from launcher.remote.fetching import name_fault
from launcher.remote.sending import batches

ANSWER_S = 30  # one answer of the courier
CHUNK = 1 << 20
MOST_OUTPUT = 64 << 20  # of one command; files come by read and get
TOKEN = "LAUNCHER_INSTANCE"  # noqa: S105 - a label, not a secret


class Couriered:
    def __init__(
        self, open_channel: Callable[[], Channel], *, message: int = CHUNK, tick: Tick | None = None
    ) -> None:
        self._open_channel = open_channel
        self._tick = tick  # for calls that bring none
        self._channel: Channel | None = None
        self._message = message  # how many bytes of files go in one round trip

    def meet(self) -> None:
        """Whoever opens the channel may find that there is no courier to be had."""
        self._free_channel(changes=False)

    def run(self, argv: Sequence[str], *, stdin: bytes, cwd: str, timeout: float) -> Done:
        ask = {"verb": "run", "argv": list(argv), "cwd": cwd, "timeout": timeout, "most": MOST_OUTPUT}
        reply, data = self._call(ask, stdin, timeout=timeout + 5, changes=True, most=MOST_OUTPUT)
        if reply.get("error") == "timeout":
            raise HostError(f"{argv[0]} did not end within {timeout:g} s")
        if reply.get("errno") in (errno.ENOENT, errno.EACCES):  # what a shell would answer
            status = 127 if reply["errno"] == errno.ENOENT else 126
            return Done(status, b"", f"{reply.get('name')}: {reply.get('text')}\n".encode())
        sort(reply)
        out = _number(reply, "out", len(data))
        return Done(_number(reply, "exit_code", 255, least=-255), data[:out], data[out:])

    def start(self, argv: Sequence[str], *, cwd: str) -> None:
        ask = {"verb": "start", "argv": list(argv), "cwd": cwd}
        try:
            sort(self._call(ask, b"", timeout=ANSWER_S, changes=True)[0])
        except NoFile as why:
            raise HostError(f"{argv[0]} could not be started: {why}") from why

    def read(
        self, path: str, offset: int, limit: int, *, base: str | None = None, tick: Tick | None = None
    ) -> bytes:
        """`base`: a file of a listing below it, which no link may lead to."""
        ask = {"verb": "read", "path": checked(path), "offset": offset, "limit": limit}
        if base is not None:
            ask["base"] = base
        reply, data = self._call(ask, b"", timeout=ANSWER_S, again=True, tick=tick, most=limit)
        if reply.get("error") == "link":
            raise Corrupt(f"{path!r} is a link or lies behind one")
        sort(reply)
        return data

    def read_many(self, wanted: Sequence[Wanted]) -> list[bytes | None]:
        files = [{"path": checked(w.path), "offset": w.offset, "limit": w.limit} for w in wanted]
        most = sum(w.limit for w in wanted)
        reply, data = self._call(
            {"verb": "reads", "files": files}, b"", timeout=ANSWER_S, again=True, most=most
        )
        sort(reply)
        answers = reply.get("answers")
        if not isinstance(answers, list) or len(answers) != len(wanted):
            raise HostUnreachable("the helper program answers what was not asked")
        found: list[bytes | None] = []
        at = 0
        for want, answer in zip(wanted, answers, strict=True):
            if not isinstance(answer, dict):
                raise HostUnreachable("the helper program answers what was not asked")
            try:
                sort(answer)
            except NoFile:
                found.append(None)
                continue
            size = _number(answer, "size", min(want.limit, len(data) - at))
            found.append(data[at : at + size])
            at += size
        return found

    def digests(self, base: str, after: str | None, tick: Tick) -> Digests:
        ask = {"verb": "digests", "base": checked(base), "after": after, "seconds": SECONDS}
        reply, rows = self._call(ask, b"", timeout=ANSWER_S, again=True, tick=tick, most=CHUNK)
        sort(reply)
        return understood(reply, rows, after)

    def write(self, path: str, data: bytes, mode: int) -> None:
        ask = {"verb": "write", "path": checked(path), "mode": mode}
        sort(self._call(ask, data, timeout=ANSWER_S, again=True, changes=True)[0])

    def put(self, files: Iterable[Sending], tick: Tick) -> None:
        for items, payload in batches(_vetted(files), self._message):
            tick()
            ask = {"verb": "put", "items": items}
            sort(self._call(ask, payload, timeout=ANSWER_S, tick=tick, changes=True)[0])
        tick()

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _call(
        self,
        ask: Json,
        payload: bytes,
        *,
        timeout: float,
        tick: Tick | None = None,
        again: bool = False,
        changes: bool = False,
        most: int = 0,
    ) -> tuple[Json, bytes]:
        """`again`: repeating it does no harm, so a courier that died is replaced once."""
        channel, tick = self._free_channel(changes), tick or self._tick
        try:
            return channel.call(ask, payload, timeout=timeout, tick=tick, most=most)
        except Broken:
            if not again:
                raise
        finally:
            if channel is not self._channel:
                channel.close()
        fresh = self._free_channel(changes)
        try:
            return fresh.call(ask, payload, timeout=timeout, tick=tick, most=most)
        finally:
            if fresh is not self._channel:
                fresh.close()

    def _free_channel(self, changes: bool) -> Channel:
        channel = self._channel
        if channel is None or not channel.open:
            channel = self._channel = self._open_channel()
        elif channel.busy:
            channel = self._open_channel()
        if changes and channel.read_only is not None:
            raise HostUnreachable(channel.read_only)
        return channel


def checked(path: str) -> str:
    fault = name_fault(path, controls=True)
    if fault is not None:
        raise HostError(f"{path!r} is no path on the host: {fault}")
    return path


def _vetted(files: Iterable[Sending]) -> Iterator[Sending]:
    for file in files:
        checked(file.to)
        yield file


def _number(reply: Json, name: str, most: int, *, least: int = 0) -> int:
    value = reply.get(name)
    if not isinstance(value, int) or not least <= value <= most:
        raise HostUnreachable("the helper program answers what was not asked")
    return value


def sort(reply: Json) -> None:
    """The courier's refusals as the closed set of hosts."""
    error = reply.get("error")
    if error is None:
        return
    number = reply.get("errno")
    kinds: dict[object, type[HostError]] = {
        errno.ENOENT: NoFile,
        errno.ENOTDIR: NoFile,
        errno.ENOSPC: HostDiskFull,
        errno.EDQUOT: HostDiskFull,
    }
    words = f"{reply.get('name', '')}: {reply.get('text', error)}"
    kind = kinds.get(number, HostError) if isinstance(number, int) else HostError
    raise kind(harmless(words.encode("utf-8", "replace")))
