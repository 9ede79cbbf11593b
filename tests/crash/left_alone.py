"""A rented run whose client was killed and never came back: what it bills, and what can still be fetched."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from launcher.codec import parse_iso
from tests.crash.life import Left, Life
from tests.emulators.runpod.pods import Pod, Status

OVERRUN_S = 60
LOOK_S = 0.2


def faults(life: Life, undisturbed: Left) -> list[str]:
    """Of a life that was killed just now. Nothing is done until no GPU bills; then results are fetched."""
    killed = datetime.now(UTC)
    until = _ends(life, killed)
    while _bills_a_gpu(life):
        if datetime.now(UTC) > until:
            return [f"a GPU bills {OVERRUN_S} s after its end: {[pod.status for pod in life.pods()]}"]
        time.sleep(LOOK_S)  # nobody here is told: that is what is tested
    trained = bool(life.facts("started"))
    waiting = [pod for pod in life.pods() if pod.status is Status.EXITED]
    if not (trained or waiting):
        return []
    here = bool(life.facts("versioned"))
    if not (here or waiting):
        return ["it trained, and its results are nowhere"]
    return _fetched(life, undisturbed)


def _fetched(life: Life, undisturbed: Left) -> list[str]:
    if not life.say("pull"):
        return ["a pull ended without an answer"]
    if (life.answer["exit"], life.answer["state"]) != (0, "done"):
        return [f"the pull came to {life.answer}"]
    left = life.left()
    wrong = (
        [] if (left.files, left.manifest) == (undisturbed.files, undisturbed.manifest) else ["other results"]
    )
    return wrong + life.owes()


def _ends(life: Life, killed: datetime) -> datetime:
    """Training: its deadline. Before: the boot limit, which a living client may just have renewed."""
    started = life.facts("started")
    if started:
        return parse_iso(str(started[-1]["deadline"])) + timedelta(seconds=OVERRUN_S)
    assert life.boot_limit_s is not None
    return killed + timedelta(seconds=life.boot_limit_s + OVERRUN_S)


def _bills_a_gpu(life: Life) -> list[Pod]:
    assert life.target.cloud is not None
    bills = set(life.target.cloud.cloud.ledger.billing_a_gpu())
    return [pod for pod in life.pods() if pod.id in bills]
