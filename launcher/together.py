"""Several questions at once: who does not answer in time keeps nobody else waiting.

Each question runs in a thread that is abandoned, never joined, when its time is over.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from launcher.errors import LauncherError, ProviderError, Unreachable
from launcher.providers.wrap import MISREAD, misread

T = TypeVar("T")
Question = Callable[[], T]
Fault = ProviderError | LauncherError | ImportError  # the last: a library of one provider is not there


class Asked(threading.Thread, Generic[T]):
    def __init__(self, name: str, question: Question[T]) -> None:
        super().__init__(name=f"asks {name}", daemon=True)
        self._of, self._question = name, question
        self.answer: T | None = None
        self.fault: Fault | None = Unreachable(f"{name} did not answer in time")

    def run(self) -> None:
        try:
            self.answer = self._question()
            self.fault = None
        except (ProviderError, LauncherError, ImportError) as fault:
            self.fault = fault
        except OSError as why:  # this machine's own files and processes were in the way
            self.fault = Unreachable(f"{self._of} could not be asked: {why}")
        except MISREAD as fault:  # what a stranger answered ends no thread with a traceback
            self.fault = misread(self._of, fault)


def ask(questions: Mapping[str, Question[T]], within_s: float) -> dict[str, T | Fault]:
    """Each answer, or why there is none, in the order of the questions."""
    # Loading these two at once, two threads may each wait for the other (Python 3.11 and older).
    import importlib.resources  # noqa: F401 - loaded, so that no thread has to

    threads = {name: Asked(name, question) for name, question in questions.items()}
    for thread in threads.values():
        thread.start()
    until = time.monotonic() + within_s
    found: dict[str, T | Fault] = {}
    for name, thread in threads.items():
        thread.join(max(0.0, until - time.monotonic()))
        fault = thread.fault
        if fault is not None:
            found[name] = fault
        else:
            answer: T = thread.answer  # type: ignore[assignment]  # set before the fault was taken away
            found[name] = answer
    return found
