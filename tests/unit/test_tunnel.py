"""The tunnel over this machine as a host: many connections, much data, every kind of end."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from launcher.errors import HostError
from launcher.remote.process import ProcessHost
from launcher.remote.tunnel import Tunnel
from tests.contract.conftest import eventually

MUCH = 10 << 20
Serve = Callable[[socket.socket], None]


@contextmanager
def server(serve: Serve) -> Iterator[int]:
    """A server on the loopback, each connection in a thread of its own."""
    door = socket.create_server(("127.0.0.1", 0), backlog=128)
    served: list[tuple[socket.socket, threading.Thread]] = []

    def accept() -> None:
        while True:
            try:
                line, _ = door.accept()
            except OSError:
                return
            one = threading.Thread(target=serve, args=(line,), daemon=True)
            served.append((line, one))
            one.start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield door.getsockname()[1]
    finally:
        door.shutdown(socket.SHUT_RDWR)
        door.close()
        thread.join()
        for line, one in served:
            # Who still sends to a caller that is gone, and had no room, would hear of it in a minute: the
            # kernel answers for the dead. Closing wakes nobody.
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
            one.join()
            line.close()


@contextmanager
def tunnel(serve: Serve, folder: Path) -> Iterator[Tunnel]:
    before = threading.active_count()
    with server(serve) as port, Tunnel(partial(ProcessHost(str(folder)).connect, port)) as made:
        yield made
        made.close()
        assert not [t for t in threading.enumerate() if t.name.startswith("tunnel")]
    eventually(lambda: threading.active_count() <= before)


def everything(line: socket.socket) -> bytes:
    parts = []
    while data := line.recv(1 << 16):
        parts.append(data)
    return b"".join(parts)


def echo(line: socket.socket) -> None:
    """Says again what it heard, and nothing more once the other has ended."""
    with line:
        while data := line.recv(1 << 16):
            line.sendall(data)


def digest(line: socket.socket) -> None:
    """Answers only once the other has said all: a half-closed connection is what it waits for."""
    with line:
        line.sendall(hashlib.sha256(everything(line)).hexdigest().encode())


def silent(line: socket.socket) -> None:
    """Takes everything and never answers."""
    try:
        while line.recv(1 << 16):
            pass
    except OSError:
        return


def call(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def say(port: int, words: bytes) -> bytes:
    with call(port) as line:
        line.sendall(words)
        line.shutdown(socket.SHUT_WR)
        return everything(line)


def test_a_thousand_connections_one_after_the_other(tmp_path: Path) -> None:
    with tunnel(echo, tmp_path) as made:
        for n in range(1000):
            words = f"hello {n}".encode()
            assert say(made.port, words) == words
        eventually(lambda: made.lines == 0)


def test_fifty_at_once_are_carried_side_by_side(tmp_path: Path) -> None:
    together = threading.Barrier(50, timeout=20)

    def meet(line: socket.socket) -> None:
        with line:
            words = line.recv(64)
            together.wait()  # answered only when all fifty are here
            line.sendall(words)

    with tunnel(meet, tmp_path) as made, ThreadPoolExecutor(50) as people:
        said = [f"{n:03}".encode() for n in range(50)]
        assert list(people.map(partial(say, made.port), said)) == said


def test_much_in_both_directions_at_once(tmp_path: Path) -> None:
    data = os.urandom(MUCH)
    with tunnel(echo, tmp_path) as made, call(made.port) as line:

        def pour() -> None:
            line.sendall(data)
            line.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=pour)
        sender.start()
        assert hashlib.sha256(everything(line)).digest() == hashlib.sha256(data).digest()
        sender.join()


def test_no_more_from_me_is_passed_on(tmp_path: Path) -> None:
    with tunnel(digest, tmp_path) as made:
        data = os.urandom(MUCH)
        assert say(made.port, data).decode() == hashlib.sha256(data).hexdigest()


def test_a_reader_that_does_not_read_holds_the_writer_up(tmp_path: Path) -> None:
    """What nobody takes is not gathered in our memory: the server's own send stands still."""
    sent = [0]

    def pour(line: socket.socket) -> None:
        with line:
            line.settimeout(1)
            try:
                while sent[0] < 1 << 30:
                    sent[0] += line.send(bytes(1 << 16))
            except OSError:
                stuck.set()

    stuck = threading.Event()
    with tunnel(pour, tmp_path) as made, call(made.port):
        assert stuck.wait(20)
        assert 0 < sent[0] < 64 << 20


def test_a_server_that_never_answers_keeps_nobody_from_leaving(tmp_path: Path) -> None:
    with tunnel(silent, tmp_path) as made:
        line = call(made.port)
        line.sendall(b"is anybody there?")
        eventually(lambda: made.lines == 1)
        made.close()
        assert line.recv(1) == b""
        line.close()


def test_a_stop_in_the_middle_of_a_flood(tmp_path: Path) -> None:
    def pour(line: socket.socket) -> None:
        try:
            while True:
                line.sendall(bytes(1 << 16))
        except OSError:
            return

    with tunnel(pour, tmp_path) as made:
        lines = [call(made.port) for _ in range(10)]
        for line in lines:
            assert line.recv(1)
        made.close()
        assert made.lines == 0
        for line in lines:
            line.close()


def test_a_caller_that_breaks_off_ends_its_line_alone(tmp_path: Path) -> None:
    with tunnel(echo, tmp_path) as made, call(made.port) as other:
        rude = call(made.port)
        rude.sendall(b"x")
        assert rude.recv(1) == b"x"
        rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, no good-bye
        rude.close()
        eventually(lambda: made.lines == 1)
        other.sendall(b"still here")
        assert other.recv(64) == b"still here"


def test_where_nothing_listens_the_caller_is_let_go_and_the_reason_told(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = free.getsockname()[1]
        with Tunnel(partial(ProcessHost(str(tmp_path)).connect, nobody)) as made:
            with call(made.port) as line:
                assert line.recv(1) == b""
            eventually(lambda: bool(made.troubles))
            assert f"port {nobody}" in made.troubles[0]


def test_a_port_that_was_asked_for_is_taken_or_refused(tmp_path: Path) -> None:
    connect = partial(ProcessHost(str(tmp_path)).connect, 1)
    with Tunnel(connect) as first:
        with pytest.raises(OSError, match="in use"):
            Tunnel(connect, first.port)
        port = first.port
    with Tunnel(connect, port) as again:
        assert again.port == port


def test_closing_twice_is_silent_and_nothing_listens_any_more(tmp_path: Path) -> None:
    made = Tunnel(partial(ProcessHost(str(tmp_path)).connect, 1))
    made.close()
    made.close()
    with pytest.raises(OSError, match="refused"):
        call(made.port)


def test_a_host_that_is_closed_while_it_is_asked_ends_only_that_line(tmp_path: Path) -> None:
    asked, answer = threading.Event(), threading.Event()

    def slow() -> socket.socket:
        asked.set()
        answer.wait(20)
        raise HostError("gone meanwhile")

    with Tunnel(slow) as made:
        line = call(made.port)
        assert asked.wait(20)
        answer.set()
        assert line.recv(1) == b""
        line.close()
        eventually(lambda: made.lines == 0)
