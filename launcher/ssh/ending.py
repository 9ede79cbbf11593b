"""How channels end, with care for dropbear (2022.83), which breaks there in three ways.

It closes a channel on which no command runs yet when another one's command ends that very moment; a request
that reaches such a channel ends its whole session, by an assertion of its own; and a channel that is closed
under a running command takes the connection, or the next channel, along.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paramiko import Channel, Transport

LEAVE_S = 0.25  # for a command whose stdin has ended


def is_fragile(transport: Transport) -> bool:
    return "dropbear" in transport.remote_version


def let_end(transport: Transport) -> None:
    """Commands that are about to end do so before the next one begins, if it is soon."""
    until = time.monotonic() + LEAVE_S
    for channel in transport._channels.values():  # type: ignore[attr-defined]  # not public, so the stubs leave it out
        if channel.eof_sent or channel.eof_received:
            _await(channel, until)


def let_go(channel: Channel) -> None:
    """Nothing more is said or heard on it. With a fragile host it is left to end with its command, or with
    the connection."""
    if is_fragile(channel.get_transport()) and not _is_over(channel):
        with suppress(OSError, EOFError):  # it has ended by now, or the connection has
            channel.shutdown_write()
        _await(channel, time.monotonic() + LEAVE_S)
        if not _is_over(channel):
            return
    shut(channel)


def shut(channel: Channel) -> None:
    try:
        channel.close()
    except (OSError, EOFError):
        return  # its connection broke: so it is closed


def _await(channel: Channel, until: float) -> None:
    while not _is_over(channel) and (left := until - time.monotonic()) > 0:
        channel.status_event.wait(left)


def _is_over(channel: Channel) -> bool:
    return channel.closed or channel.exit_status_ready()
