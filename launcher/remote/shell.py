"""A command in a container, with our own streams or our own terminal, until it ends.

By the engine's API and not by its command-line client, which may be absent or point at another engine. One
loop without threads: what comes is written, what is typed is sent, and a terminal that changes its size is
told. Knows descriptors; how a terminal is made raw is the caller's matter.
"""

from __future__ import annotations

import os
import selectors
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from launcher.dockerapi import NoAnswer, answered, connect
from launcher.errors import HostError, HostUnreachable
from launcher.models import Access

CONTROL_S = 25
PIECE = 1 << 16
LOOK_S = 0.25  # how soon a changed size is told
END_S = 5.0
_HEAD = 8
Size = Callable[[], tuple[int, int]]  # columns, lines


class ContainerShell:
    def __init__(self, access: Access, argv: Sequence[str], cwd: str, env: Mapping[str, str]) -> None:
        self._access = access
        self._argv = list(argv)
        self._cwd = cwd
        self._env = dict(env)

    def run(self, stdin: int, stdout: int, stderr: int, size: Size | None = None) -> int:
        """Its exit status. `size` = the streams are a terminal, which has been made raw."""
        from docker.errors import APIError

        try:
            with answered():
                client = connect(CONTROL_S)
                made = client.exec_create(
                    self._access.address,
                    self._argv,
                    stdin=True,
                    tty=size is not None,
                    workdir=self._cwd,
                    environment=self._env,
                )
                stream = client.exec_start(made["Id"], tty=size is not None, socket=True)
        except NoAnswer as why:
            raise HostUnreachable(f"the Docker engine does not answer: {why.reason}") from why
        except APIError as why:
            raise HostError(f"the Docker engine refused: {why.explanation}") from why
        wire: Any = getattr(stream, "_sock", stream)
        try:
            resize = _Resize(client, made["Id"], size)
            _Talk(wire, stdin, stdout, stderr, framed=size is None).until_its_end(resize)
            return _status(client, made["Id"])
        finally:
            stream.close()
            client.close()


class _Resize:
    def __init__(self, client: Any, id: str, size: Size | None) -> None:
        self._client = client
        self._id = id
        self._size = size
        self._told: tuple[int, int] | None = None

    def look(self) -> None:
        from docker.errors import APIError

        if self._size is None or (now := self._size()) == self._told:
            return
        with suppress(APIError):  # it has not begun, or has just ended: the next look tells
            self._client.exec_resize(self._id, height=now[1], width=now[0])
            self._told = now


class _Talk:
    def __init__(self, wire: Any, stdin: int, stdout: int, stderr: int, *, framed: bool) -> None:
        self._wire = wire
        self._stdin = stdin
        self._outs = {1: stdout, 2: stderr}
        self._framed = framed
        self._raw = bytearray()
        self._unsent = bytearray()
        self._typing = True

    def until_its_end(self, resize: _Resize) -> None:
        self._wire.setblocking(False)
        with selectors.SelectSelector() as eyes:  # the only one that takes plain files as input, too
            eyes.register(self._wire, selectors.EVENT_READ)
            eyes.register(self._stdin, selectors.EVENT_READ)
            while True:
                resize.look()
                ready = {key.fd for key, _ in eyes.select(LOOK_S)}
                if self._wire.fileno() in ready and not self._heard():
                    return
                if self._stdin in ready:
                    self._typed()
                self._send()
                self._mind_the_gap(eyes)

    def _mind_the_gap(self, eyes: selectors.BaseSelector) -> None:
        """While the other side does not take what was typed, nothing more is read from the keyboard."""
        more = selectors.EVENT_WRITE if self._unsent else 0
        eyes.modify(self._wire, selectors.EVENT_READ | more)
        wanted, known = self._typing and not self._unsent, self._stdin in eyes.get_map()
        if known and not wanted:
            eyes.unregister(self._stdin)
        elif wanted and not known:
            eyes.register(self._stdin, selectors.EVENT_READ)

    def _heard(self) -> bool:
        """False at the stream's end."""
        while True:
            try:
                data = self._wire.recv(PIECE)
            except (BlockingIOError, InterruptedError):
                return True
            except OSError:
                return False
            if not data:
                return False
            if self._framed:
                self._raw += data
                self._unframe()
            else:
                _put(self._outs[1], data)

    def _unframe(self) -> None:
        while len(self._raw) >= _HEAD:
            size = int.from_bytes(self._raw[4:_HEAD], "big")
            if len(self._raw) < _HEAD + size:
                return
            _put(self._outs.get(self._raw[0], self._outs[1]), bytes(self._raw[_HEAD : _HEAD + size]))
            del self._raw[: _HEAD + size]

    def _typed(self) -> None:
        data = os.read(self._stdin, PIECE)
        if data:
            self._unsent += data
            return
        self._typing = False
        with suppress(OSError):  # it has ended before its input did
            self._wire.shutdown(socket.SHUT_WR)

    def _send(self) -> None:
        while self._unsent:
            try:
                del self._unsent[: self._wire.send(self._unsent[:PIECE])]
            except (BlockingIOError, InterruptedError):
                return
            except OSError:  # it ended meanwhile; its last words are still to be read
                self._unsent.clear()
                return


def _put(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _status(client: Any, id: str) -> int:
    until = time.monotonic() + END_S
    while True:
        try:
            with answered():
                facts = client.exec_inspect(id)
        except NoAnswer as why:
            raise HostUnreachable(f"the Docker engine does not answer: {why.reason}") from why
        if facts["ExitCode"] is not None:
            return int(facts["ExitCode"])
        if time.monotonic() >= until:
            raise HostUnreachable("the container ended, and with it the command")
        time.sleep(LOOK_S)  # its stream has ended, and only a question tells how it did
