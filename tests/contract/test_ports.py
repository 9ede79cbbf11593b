"""What every host promises of its loopback: a connection to what listens there, as a socket would be."""

from __future__ import annotations

import hashlib
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import partial

import pytest

from launcher.errors import HostError, NoFile
from launcher.remote.base import Host, Pipe
from launcher.remote.tunnel import Tunnel
from tests.contract.conftest import eventually

MUCH = 10 << 20
WAITS = f"-{'l' * 64}"  # twice is for ever; as many callers as there are wait in its queue, others are lost

# On the host: says back what it hears, tells its port and ends by a file.
ECHO = """
import os, socket, sys, threading
door = socket.create_server(("127.0.0.1", 0), backlog=128)
def serve(line):
    with line:
        while data := line.recv(1 << 16):
            line.sendall(data)
def accept():
    while True:
        threading.Thread(target=serve, args=(door.accept()[0],), daemon=True).start()
threading.Thread(target=accept, daemon=True).start()
os.makedirs(sys.argv[1])
with open(sys.argv[1] + "/part", "w") as out:
    out.write(str(door.getsockname()[1]))
os.rename(sys.argv[1] + "/part", sys.argv[1] + "/port")
ends = threading.Event()
while not os.path.exists(sys.argv[1] + "/leave"):
    ends.wait(0.05)
"""

# On the host: says its word to one caller and leaves, whatever the caller does.
BYE = """
import os, socket, sys
door = socket.create_server(("127.0.0.1", 0))
os.makedirs(sys.argv[1])
with open(sys.argv[1] + "/part", "w") as out:
    out.write(str(door.getsockname()[1]))
os.rename(sys.argv[1] + "/part", sys.argv[1] + "/port")
with door.accept()[0] as line:
    line.sendall(b"bye\\n")
"""


@pytest.fixture
def echo(host: Host, spot: str) -> Iterator[int]:
    python = sys.executable if type(host).__name__ == "ProcessHost" else "python3"
    if host.run([python, "-c", ""]).exit_code != 0:
        host.start(["nc", WAITS, "-p", "7007", "-e", "cat"])
        eventually(lambda: _listens(host, 7007))
        yield 7007
        host.run(["sh", "-c", "kill $(pidof nc)"])
        return
    host.start([python, "-I", "-c", ECHO, spot])
    eventually(lambda: _told(host, spot))
    yield int(host.read(f"{spot}/port"))
    host.write(f"{spot}/leave", b"")


def _told(host: Host, spot: str) -> bool:
    try:
        return bool(host.read(f"{spot}/port"))
    except NoFile:
        return False


def _listens(host: Host, port: int) -> bool:
    try:
        host.connect(port).close()
    except HostError:
        return False
    return True


def everything(pipe: Pipe | socket.socket) -> bytes:
    parts = []
    while data := pipe.recv(1 << 16):
        parts.append(data)
    return b"".join(parts)


def sent(pipe: Pipe, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[pipe.send(view) :]
    pipe.shutdown(socket.SHUT_WR)


def test_words_go_there_and_back(host: Host, echo: int) -> None:
    pipe = host.connect(echo)
    sent(pipe, b"hello")
    assert everything(pipe) == b"hello"
    pipe.close()


def test_much_in_both_directions_at_once(host: Host, echo: int) -> None:
    data, pipe = os.urandom(MUCH), host.connect(echo)
    pipe.settimeout(None)
    sender = threading.Thread(target=sent, args=(pipe, data))
    sender.start()
    assert hashlib.sha256(everything(pipe)).digest() == hashlib.sha256(data).digest()
    sender.join()
    pipe.close()


def test_the_servers_good_bye_arrives_though_the_caller_has_more_to_say(host: Host, spot: str) -> None:
    """As a plain web server does it: the answer's end is the connection's."""
    python = sys.executable if type(host).__name__ == "ProcessHost" else "python3"
    if host.run([python, "-c", ""]).exit_code != 0:
        host.start(["nc", "-l", "-p", "7008", "-e", "echo", "bye"])  # and is gone
        pipe = _once(host, 7008)
    else:
        host.start([python, "-I", "-c", BYE, spot])
        eventually(lambda: _told(host, spot))
        pipe = host.connect(int(host.read(f"{spot}/port")))
    assert everything(pipe) == b"bye\n"
    pipe.close()


def _once(host: Host, port: int) -> Pipe:
    """The first connection that is taken: this server takes no other."""
    made: list[Pipe] = []

    def tried() -> bool:
        with suppress(HostError):
            made.append(host.connect(port))
        return bool(made)

    eventually(tried)
    return made[0]


def test_where_nothing_listens_it_says_so(host: Host, echo: int) -> None:
    with pytest.raises(HostError, match="nothing listens on port 1 "):
        host.connect(1)


def test_many_at_once_through_a_tunnel(host: Host, echo: int) -> None:
    said: dict[int, bytes] = {}

    def talk(n: int, port: int) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as line:
            line.sendall(f"{n}".encode())
            line.shutdown(socket.SHUT_WR)
            said[n] = everything(line)

    with Tunnel(partial(host.connect, echo)) as made:
        people = [threading.Thread(target=talk, args=(n, made.port)) for n in range(12)]
        for one in people:
            one.start()
        for one in people:
            one.join()
    assert said == {n: f"{n}".encode() for n in range(12)}
    assert not made.troubles


def test_a_tunnel_that_is_closed_lets_go_of_the_host(host: Host, echo: int) -> None:
    with Tunnel(partial(host.connect, echo)) as made:
        line = socket.create_connection(("127.0.0.1", made.port), timeout=60)
        line.sendall(b"x")
        assert line.recv(1) == b"x"
    assert line.recv(1) == b""
    line.close()
    assert host.run(["true"]).exit_code == 0
