"""Waiting with an ear open: whoever wants to stop is heard twice a second, and no wait is without an end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from launcher.errors import HostUnreachable
from launcher.remote.base import Tick

SLICE_S = 0.25  # how long a wait may last before tick() is due
GRACE_S = 1.0  # what is waited for has the same end: it may say by itself why it failed

Made = TypeVar("Made")


def left(until: float) -> float:
    return max(0.1, until - time.monotonic())


class Ticker:
    """`tick`, as often as due and not more: loops turn faster than stops are asked for."""

    def __init__(self, tick: Tick) -> None:
        self._tick = tick
        self._next = 0.0

    def __call__(self) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + SLICE_S
            self._tick()


def patiently(
    work: Callable[[], Made], dispose: Callable[[Made], None], until: float, tick: Tick, what: str
) -> Made:
    """What `work` makes, in a thread of its own: the library waits deaf. What comes too late, or after a
    tick that raised, is disposed of."""
    made: list[Made] = []
    failed: list[BaseException] = []
    abandoned = threading.Event()

    def go() -> None:
        try:
            made.append(work())
        except BaseException as e:  # noqa: BLE001 - handed to the caller's thread, whatever it is
            failed.append(e)
        if abandoned.is_set():
            _dispose_all(made, dispose)

    thread = threading.Thread(target=go, name=what, daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(SLICE_S)
            tick()
            if time.monotonic() >= until + GRACE_S:
                raise HostUnreachable(f"{what}: no answer in time")
    except BaseException:
        abandoned.set()
        _dispose_all(made, dispose)
        raise
    if failed:
        raise failed[0]
    return made[0]


def _dispose_all(made: list[Made], dispose: Callable[[Made], None]) -> None:
    """By either thread, each thing once."""
    with suppress(IndexError):
        while True:
            dispose(made.pop())
