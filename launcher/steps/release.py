"""End the machine and everything of it, and say so only when the provider's list proves it. Never gives up.

uses: an attempt that is over, received, or stopped
produces: end-asked (before the call), discarded (output given up on purpose), gone (with proof)
"""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from launcher.errors import Busy, Gone, ProviderError
from launcher.models import Resource
from launcher.providers.base import Provider
from launcher.runstate import Attempt
from launcher.steps import sight
from launcher.world import World

SLOWEST_S = 60.0


def release(w: World) -> None:
    a = w.attempt()
    provider = w.provider(a.choice)
    _keep(w, a)
    if w.state.stop is not None and w.state.stop.now and w.state.wants_pull:
        w.record("discarded")
    if a.end_asked_at is None:
        _note(w, a, "end-asked")
    failures = absent = 0
    lived = False
    while absent < 2:
        w.tick_quietly()
        proves = w.clock.now().timestamp() >= sight.visible_by(provider, w, a)  # as of before the look
        try:
            left = _left(w, a, provider)
            lived = lived or any(r.kind == "instance" for r in left)
            _terminate(provider, left)
            gone = not left and sight.instance_ended(provider, a)
            absent = min(absent + 1, 2 if proves else 1) if gone else 0
            failures = 0
        except ProviderError:
            failures, absent = failures + 1, 0
        if absent < 2:
            w.wait_quietly(_pause(provider, failures, absent))
    _tidy(w, a, provider)
    kept = provider.traits.keeps_output and w.state.wants_pull
    until = w.clock.now() if lived else sight.billed_until(provider, w, a)
    evidence = "twice not listed, and ended by its own id"
    w.about(a, "gone", evidence=evidence, kept=kept, billed_until=until)


def _pause(provider: Provider, failures: int, absent: int) -> float:
    if failures:
        return min(SLOWEST_S, 0.5 * 2.0 ** min(failures, 8))
    return sight.gap_s(provider) if absent else min(2.0, sight.gap_s(provider) / 4)


def _keep(w: World, a: Attempt) -> None:
    """`--keep`: the machine stays reachable that long after the end, unless somebody stops it."""
    keep = w.plan.limits.keep_s
    if not keep or a.receipt_at is None:
        return
    until = min(a.receipt_at + timedelta(seconds=keep), a.d)
    while w.clock.now() < until and w.state.stop is None:
        w.wait(min(1.0, max(0.05, (until - w.clock.now()).total_seconds())))


def _left(w: World, a: Attempt, provider: Provider) -> tuple[Resource, ...]:
    """What still has to go: all that runs. Where output outlives the machine and is still wanted, its
    place stays."""
    left = sight.alive(provider, w, a)
    if provider.traits.keeps_output and w.state.wants_pull:
        return tuple(r for r in left if r.kind in ("instance", "stray"))
    return left


def _terminate(provider: Provider, left: tuple[Resource, ...]) -> None:
    """Instances first. Busy means another one must go first: the next round asks again."""
    for resource in sorted(left, key=lambda r: r.kind != "instance"):
        with suppress(Gone, Busy):
            provider.terminate(resource.id)


def _note(w: World, a: Attempt, kind: str) -> None:
    """Intent before effect; but a full disk must not keep a machine running."""
    with suppress(OSError):
        w.about(a, kind)


def _tidy(w: World, a: Attempt, provider: Provider) -> None:
    """On this machine the spool folder is the disk of the machine that is gone."""
    if provider.traits.boots == "here" and not w.state.wants_pull:
        w.drop_hosts()
        w.files.remove(Path(w.attempt_folder(a).spool))
