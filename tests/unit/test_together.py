"""Several questions at once: each has its answer or its fault, and none ends in a traceback of a thread."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from launcher import together
from launcher.errors import AuthRefused, Unreachable, VendorBug


def raising(fault: Exception) -> Callable[[], str]:
    def question() -> str:
        raise fault

    return question


def test_each_has_its_own_answer_or_its_own_fault(capfd: pytest.CaptureFixture[str]) -> None:
    gone = FileNotFoundError(2, "No such file or directory", "/nonexistent")
    refused = AuthRefused("the key is not accepted")
    answers = together.ask(
        {
            "one": lambda: "yes",
            "disk": raising(gone),
            "key": raising(refused),
            "words": raising(KeyError("price")),
        },
        within_s=10,
    )
    assert list(answers) == ["one", "disk", "key", "words"]
    assert answers["one"] == "yes" and answers["key"] is refused
    assert isinstance(answers["disk"], Unreachable)
    assert "disk could not be asked" in str(answers["disk"]) and "No such file" in str(answers["disk"])
    assert isinstance(answers["words"], VendorBug)
    assert "Traceback" not in capfd.readouterr().err


def test_who_is_silent_keeps_nobody_waiting() -> None:
    over = threading.Event()
    begun = time.monotonic()
    answers = together.ask({"silent": lambda: str(over.wait(60)), "quick": lambda: "yes"}, within_s=0.2)
    assert time.monotonic() - begun < 10
    over.set()
    assert answers["quick"] == "yes" and "did not answer in time" in str(answers["silent"])


LOADED = """
import sys
{first}
assert "importlib.resources.abc" in sys.modules, "a thread would have to load it"
"""


def test_what_two_threads_must_not_load_at_once_is_there_before_them() -> None:
    """`importlib.abc` and `importlib.resources` load each other: in two threads that ends in a deadlock."""
    asks = "from launcher import together\ntogether.ask({}, 0)"
    for first in (asks, "import launcher.ssh.connection"):
        done = subprocess.run(
            [sys.executable, "-c", LOADED.format(first=first)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
