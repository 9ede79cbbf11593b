"""What comes over a channel is read as it came, whatever the sizes; and our first words are said once."""

from __future__ import annotations

import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paramiko.buffered_pipe import PipeTimeout

from launcher.ssh.pulse import GULP, Pulse
from launcher.ssh.transport import Pieces


@given(st.lists(st.binary(max_size=50)), st.lists(st.integers(1, 70), min_size=1))
def test_any_pieces_in_any_bites(pieces: list[bytes], bites: list[int]) -> None:
    pipe = Pieces()
    for piece in pieces:
        pipe.feed(piece)
    pipe.close()
    assert len(pipe) == sum(map(len, pieces))
    got, n = b"", 0
    while bite := pipe.read(bites[n % len(bites)]):
        assert len(bite) <= bites[n % len(bites)]
        got, n = got + bite, n + 1
    assert got == b"".join(pieces)
    assert pipe.read(1) == b""


def test_a_reader_waits_as_long_as_it_says_and_is_woken() -> None:
    pipe, news = Pieces(), threading.Event()
    pipe.set_event(news)
    for timeout in (0.0, 0.01):
        with pytest.raises(PipeTimeout):
            pipe.read(1, timeout)
    threading.Timer(0.02, pipe.feed, (b"ab",)).start()
    assert pipe.read(1, 30) == b"a"
    assert pipe.read_ready() and news.is_set()
    assert pipe.empty() == b"b"
    assert not pipe.read_ready() and not news.is_set()
    threading.Timer(0.02, pipe.close).start()
    assert pipe.read(1, 30) == b"" and news.is_set()


def test_the_first_words_are_said_at_once_and_once() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        pulse = Pulse(ours, b"hello\r\n")
        assert theirs.recv(100) == b"hello\r\n"
        assert pulse.send(b"hello\r\n") == 7  # the library's own, which went already
        assert pulse.send(b"hello\r\n") == 7
        assert theirs.recv(100) == b"hello\r\n"


def test_what_lies_ready_is_taken_in_one_go_and_handed_out_as_asked() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"x" * 100 + b"y" * 7)
        pulse = Pulse(ours)
        assert [pulse.recv(4), pulse.recv(200)] == [b"xxxx", b"x" * 96 + b"y" * 7]
        theirs.shutdown(socket.SHUT_WR)
        assert pulse.recv(GULP) == b""
