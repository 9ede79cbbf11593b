"""The relay that stands for distance and for broken lines in tests and benchmarks."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.hosts.relay import Relay


@pytest.fixture
def echo() -> Iterator[tuple[str, int]]:
    """Answers each connection with what it said, until its end."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve(client: socket.socket) -> None:
        with client:
            try:
                while data := client.recv(1 << 16):
                    client.sendall(data)
            except OSError:
                return

    def accept() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield server.getsockname()
    server.shutdown(socket.SHUT_RDWR)
    server.close()


def _all(client: socket.socket) -> bytes:
    said = bytearray()
    while data := client.recv(1 << 16):
        said += data
    return bytes(said)


def _echoed(address: tuple[str, int], data: bytes) -> bytes:
    with socket.create_connection(address, timeout=10) as client:
        sender = threading.Thread(target=_said, args=(client, data))
        sender.start()
        said = _all(client)
        sender.join()
    return said


def _said(client: socket.socket, data: bytes) -> None:
    with suppress(ConnectionResetError, BrokenPipeError):  # whoever reads is told
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)


def test_everything_arrives_in_order_and_ends(echo: tuple[str, int]) -> None:
    data = bytes(range(256)) * 40_000
    with Relay(echo) as relay:
        assert _echoed(relay.address, data) == data
        assert relay.carried == {"up": len(data), "down": len(data)}


@pytest.mark.alone
def test_distance_is_waited_for_each_way_and_by_the_handshake(echo: tuple[str, int]) -> None:
    with Relay(echo, delay_s=0.05) as relay:
        began = time.monotonic()
        assert _echoed(relay.address, b"hello") == b"hello"
        first = time.monotonic() - began
    assert 0.2 <= first < 0.4


@pytest.mark.alone
def test_capacity_is_shared_and_holds_for_each_direction(echo: tuple[str, int]) -> None:
    data = b"x" * 500_000
    with Relay(echo, bytes_per_s=2e6) as relay:
        began = time.monotonic()
        both = [threading.Thread(target=_echoed, args=(relay.address, data)) for _ in range(2)]
        for one in both:
            one.start()
        for one in both:
            one.join()
        took = time.monotonic() - began
    assert 0.5 <= took < 0.9  # a megabyte each way at once, not two one after the other


@pytest.mark.parametrize("count", [1, 1000, 100_000])
def test_a_cut_falls_on_its_byte(echo: tuple[str, int], count: int) -> None:
    def talk() -> None:
        while client.recv(1 << 16):
            client.sendall(b"x" * 1000)

    with Relay(echo) as relay, socket.create_connection(relay.address, timeout=10) as client:
        relay.cut_after(count)
        client.sendall(b"x" * 1000)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            talk()
        assert sum(relay.carried.values()) == count
        assert _echoed(relay.address, b"again") == b"again"


def test_half_open_tells_nobody(echo: tuple[str, int]) -> None:
    with Relay(echo) as relay, socket.create_connection(relay.address, timeout=10) as client:
        client.sendall(b"one")
        assert client.recv(10) == b"one"
        relay.half_open()
        client.sendall(b"two")
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(10)
        relay.half_open(False)
        client.sendall(b"three")
        client.settimeout(10)
        assert client.recv(10) == b"three"


def test_refused_and_cut_connections_are_reset(echo: tuple[str, int]) -> None:
    with Relay(echo) as relay:
        with socket.create_connection(relay.address, timeout=10) as client:
            client.sendall(b"one")
            assert client.recv(10) == b"one"
            relay.cut()
            with pytest.raises(ConnectionResetError):
                client.recv(10)
        relay.refuse()
        with (
            pytest.raises(ConnectionResetError),
            socket.create_connection(relay.address, timeout=10) as client,
        ):
            client.recv(10)
        relay.refuse(False)
        assert _echoed(relay.address, b"again") == b"again"


def test_a_line_falls_silent_and_later_ones_are_carried(echo: tuple[str, int]) -> None:
    with Relay(echo) as relay, socket.create_connection(relay.address, timeout=10) as first:
        first.sendall(b"a")
        assert first.recv(1) == b"a"
        relay.fall_silent()
        assert _echoed(relay.address, b"later") == b"later"
        first.sendall(b"b")
        first.settimeout(0.2)
        with pytest.raises(TimeoutError):
            first.recv(1)
