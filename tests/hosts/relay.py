"""A TCP relay that makes a loopback feel like distance, and breaks it where it is told to.

    with Relay(("127.0.0.1", 22), delay_s=0.05, bytes_per_s=25e6) as relay:
        connect to relay.address

`delay_s` is each way. `bytes_per_s` holds for each direction over all connections together, as on a line.
A new connection first waits for the round trip that TCP's handshake would take. Bytes are cut off, swallowed
or refused by `cut_after`, `half_open`, `fall_silent`, `refuse`, at any moment and for connections under way.
There is no loss and no slow start. Knows nothing of what is carried; benchmarks use it as well.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from functools import partial
from types import TracebackType
from typing import Any

PIECE = 64 << 10
FREE_HOLDS = 64 << 20  # under way in one direction of one connection, when its capacity has no limit
LEAST_HOLDS = 1 << 20
LATER_S = 1e-4  # a wait shorter than that costs more than it is worth


class Line:
    """One direction's capacity, shared by its connections: who comes next starts when the line is free."""

    def __init__(self, bytes_per_s: float | None) -> None:
        self.bytes_per_s = bytes_per_s
        self._free_at = 0.0

    def through(self, count: int, now: float) -> float:
        """When the last of these bytes has left."""
        if self.bytes_per_s is None:
            return now
        self._free_at = max(self._free_at, now) + count / self.bytes_per_s
        return self._free_at


class Relay:
    """One listening port of 127.0.0.1 that leads to `to`."""

    def __init__(
        self, to: tuple[str, int], *, delay_s: float = 0.0, bytes_per_s: float | None = None
    ) -> None:
        self.to = to
        self.delay_s = delay_s
        # Twice what the line itself holds: a fuller one makes the sender wait, as a real one does.
        self._holds = FREE_HOLDS if bytes_per_s is None else LEAST_HOLDS + int(4 * delay_s * bytes_per_s)
        self.lines = {"up": Line(bytes_per_s), "down": Line(bytes_per_s)}
        self.carried = {"up": 0, "down": 0}
        self.connections = 0  # accepted so far
        self.address = ("127.0.0.1", 0)
        self._budget: int | None = None
        self._swallows = False
        self._silent = 0  # the connections up to that number
        self._refuses = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay", daemon=True)

    def __enter__(self) -> Relay:
        self._thread.start()
        self._asked(self._listen()).result(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._asked(self._end()).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    # --- what may happen to a line; from any thread -------------------------------------------

    def cut_after(self, count: int) -> None:
        """Every connection is reset once so many more bytes, of both directions together, have come out of
        the line at their time; later ones are carried again. What is behind them on the line is lost."""
        self._loop.call_soon_threadsafe(self._set_budget, count)

    def cut(self) -> None:
        """Every connection is reset now."""
        self._asked(self._reset_all()).result(10)

    def half_open(self, swallow: bool = True) -> None:
        """Nothing goes through any more and nobody is told: what a dead radio link looks like. Undone, what
        comes from then on goes through; what was swallowed stays lost."""
        self._swallows = swallow

    def fall_silent(self) -> None:
        """The same for the connections that there are, for ever; later ones are carried."""
        self._loop.call_soon_threadsafe(self._silence)

    def refuse(self, closed: bool = True) -> None:
        """New connections are reset as soon as they are made."""
        self._refuses = closed

    # --- the loop's thread --------------------------------------------------------------------

    def _asked(self, work: Coroutine[Any, Any, None]) -> Future[None]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _set_budget(self, count: int) -> None:
        self._budget = count

    def _silence(self) -> None:
        self._silent = self.connections

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0, limit=PIECE)
        host, port = self._server.sockets[0].getsockname()[:2]
        self.address = (host, port)

    async def _end(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._reset_all()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _reset_all(self) -> None:
        for writer in list(self._writers):
            _reset(writer)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        me = asyncio.current_task()
        assert me is not None
        self._tasks.add(me)
        both = [writer]
        try:
            if self._refuses:
                return
            await asyncio.sleep(2 * self.delay_s)
            far_reader, far_writer = await asyncio.open_connection(*self.to, limit=PIECE)
            both.append(far_writer)
            self._writers.update(both)
            for end in both:
                end.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            ways = [
                self._carry(number, "up", reader, far_writer),
                self._carry(number, "down", far_reader, writer),
            ]
            carrying = [asyncio.create_task(way) for way in ways]
            try:
                await asyncio.gather(*carrying)
            finally:
                for task in carrying:
                    task.cancel()
            for end in both:
                end.close()
                await end.wait_closed()
        except (OSError, asyncio.CancelledError):
            pass  # one side broke, nobody listens there, or the relay ends: both sides are told below
        finally:
            for end in both:
                _reset(end)
                self._writers.discard(end)
            self._tasks.discard(me)

    async def _carry(
        self, number: int, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """One direction until its end, which is passed on; a break ends both."""
        way = Way(self._loop.time, writer, partial(self._let_through, name), self._reset_all)
        delivering = asyncio.create_task(way.deliver())
        try:
            while not delivering.done():
                data = await reader.read(PIECE)
                if self._swallows or number <= self._silent:
                    if not data:
                        await asyncio.Event().wait()  # not even the end is told, until the relay ends
                    continue
                way.put(self.lines[name].through(len(data), self._loop.time()) + self.delay_s, data)
                if not data:
                    break
                while way.held > self._holds and not delivering.done():
                    await way.room()
            await delivering
        finally:
            delivering.cancel()

    def _let_through(self, name: str, data: bytes) -> tuple[bytes, bool]:
        """What of it still comes out, and whether the line breaks behind that."""
        breaks = self._budget is not None and len(data) >= self._budget
        if self._budget is not None:
            data, self._budget = data[: self._budget], None if breaks else self._budget - len(data)
        self.carried[name] += len(data)
        return data, breaks


class Way:
    """What is under way in one direction of one connection, each piece with the moment it is due."""

    def __init__(
        self,
        now: Callable[[], float],
        writer: asyncio.StreamWriter,
        let_through: Callable[[bytes], tuple[bytes, bool]],
        cut: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        self.held = 0
        self._now = now
        self._writer = writer
        self._let_through = let_through
        self._cut = cut
        self._pieces: deque[tuple[float, bytes]] = deque()
        self._news = asyncio.Event()
        self._room = asyncio.Event()

    def put(self, due: float, data: bytes) -> None:
        """b"" is the end."""
        self._pieces.append((due, data))
        self.held += len(data)
        self._news.set()

    async def room(self) -> None:
        self._room.clear()
        await self._room.wait()

    async def deliver(self) -> None:
        try:
            while True:
                while not self._pieces:
                    self._news.clear()
                    await self._news.wait()
                due, data = self._pieces[0]
                early = due - self._now()
                if early > LATER_S:
                    await asyncio.sleep(early)
                self._pieces.popleft()
                if not data:
                    self._writer.write_eof()
                    return
                out, breaks = self._let_through(data)
                self._writer.write(out)
                await self._writer.drain()
                if breaks:
                    await self._cut()
                    raise ConnectionResetError("cut as told")
                self.held -= len(data)
                self._room.set()
        finally:
            self._room.set()


def _reset(writer: asyncio.StreamWriter) -> None:
    """RST, not a friendly end: what is under way is lost, as on a line that breaks."""
    made = writer.get_extra_info("socket")
    if made is not None and made.fileno() >= 0:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
