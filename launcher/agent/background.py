"""Long reading and hashing beside the loop: answers come back in a queue, with a knock on the door."""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

LAST = 19  # the lowest priority there is


class Background:
    def __init__(self) -> None:
        self._answers: deque[tuple[Callable[[Any], None], Any]] = deque()
        self.door, self._bell = os.pipe()
        os.set_blocking(self.door, False)
        os.set_blocking(self._bell, False)

    @property
    def bell(self) -> int:
        """A descriptor: one byte written to it wakes the loop."""
        return self._bell

    def knock(self) -> None:
        with suppress(BlockingIOError):  # it rings already
            os.write(self._bell, b"!")

    def do(self, work: Callable[[], Any], deliver: Callable[[Any], None], *, gently: bool = False) -> None:
        """`deliver` is called with the answer by the loop, never by the thread. `gently`: after the trainer,
        on the processor and so on the disk too."""

        def run() -> None:
            if gently and sys.platform == "linux":  # only there a thread has a priority of its own
                with suppress(OSError):
                    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LAST)
            self._answers.append((deliver, work()))
            self.knock()

        threading.Thread(target=run, daemon=True).start()

    def deliver(self) -> bool:
        """Hand over what has come; True when something had."""
        came = bool(self._answers)
        while self._answers:
            take, answer = self._answers.popleft()
            take(answer)
        return came

    def silence(self) -> None:
        with suppress(BlockingIOError):  # all heard
            while os.read(self.door, 512):
                pass
