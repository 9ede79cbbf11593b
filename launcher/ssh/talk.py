"""One command's whole conversation: all of stdin in, both outputs and the status back."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from launcher.errors import HostUnreachable
from launcher.remote.base import Done, Tick
from launcher.ssh.waiting import SLICE_S, Ticker

if TYPE_CHECKING:
    from paramiko import Channel

PIECE = 256 << 10
AT_ONCE = 32 << 10  # goes out without waiting, once the host has granted room (OpenSSH does it late)


class News(threading.Event):
    """Something came or ended on one of the outputs. They share it, so only who looks may clear it."""

    def clear(self) -> None:
        pass

    def seen(self) -> None:
        super().clear()


def converse(channel: Channel, stdin: bytes, until: float, tick: Tick, most: int) -> Done:
    news = News()
    channel.in_buffer.set_event(news)
    channel.in_stderr_buffer.set_event(news)
    channel.settimeout(None)
    feed = threading.Thread(target=_fed, args=(channel, stdin), name="stdin by ssh", daemon=True)
    if len(stdin) <= min(AT_ONCE, channel.out_window_size):
        _fed(channel, stdin)
    else:  # the other side may want us to read before it reads on
        feed.start()
    out, err = bytearray(), bytearray()
    due = Ticker(tick)
    while True:
        news.seen()
        over = channel.closed or (channel.eof_received and channel.exit_status_ready())
        _drain(channel, out, err, most)
        if over:
            break
        due()
        if time.monotonic() >= until:
            raise HostUnreachable(_late(channel))
        news.wait(min(SLICE_S, max(0.0, until - time.monotonic())))
    return Done(_status(channel), bytes(out), bytes(err))


def _status(channel: Channel) -> int:
    """-1 = a signal ended it: the library tells no more."""
    if channel.exit_status < 0:
        if not channel.get_transport().is_active():
            raise HostUnreachable("the connection broke before the command's end was told")
        if not (channel.eof_received and channel.event_ready):  # the second: its yes
            raise HostUnreachable("the host would not run the command")
    return channel.exit_status


def _drain(channel: Channel, out: bytearray, err: bytearray, most: int) -> None:
    while channel.recv_ready():
        out += channel.recv(PIECE)
    while channel.recv_stderr_ready():
        err += channel.recv_stderr(PIECE)
    if len(out) + len(err) > most:
        raise HostUnreachable("the host answered with more than can be meant")


def _late(channel: Channel) -> str:
    if channel.exit_status_ready():
        return "the command has ended, and something that it left behind holds its output open"
    return "the host did not answer in time"


def _fed(channel: Channel, stdin: bytes) -> None:
    """Whoever does not want it all says how it ended in another way."""
    with suppress(OSError, EOFError):
        for at in range(0, len(stdin), PIECE):
            channel.sendall(stdin[at : at + PIECE])
        channel.shutdown_write()
