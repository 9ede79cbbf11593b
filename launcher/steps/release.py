"""End the machine and everything of it, and say so only when the provider's list proves it. Never gives up.
While somebody's results may still lie on it and it can be stopped, it is stopped instead, and kept.

uses: an attempt that is over, received, or stopped
produces: end-asked (before the call), discarded (output given up on purpose), gone (with proof, or kept);
before that rescued, where a trainer's output was never sealed and its place outlives the machine
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import cast

from launcher.errors import AuthRefused, Busy, Gone, HostError, KeyChanged, ProviderError, Unreachable
from launcher.models import Resource, ResourceState
from launcher.providers.base import Pausing, Provider
from launcher.runstate import Attempt
from launcher.steps import halting, rescue, sight
from launcher.steps.link import link
from launcher.world import World

SLOWEST_S = 60.0
DEAF = 3  # questions in a row that a provider left open: then the machine itself is told
IN_VAIN = 5  # times that a provider took an order to stop a machine, and it computes on
LEFT = "left-on-volume"  # where results lie that nobody fetched
AWAKE = "stays-awake"  # what was noticed of a machine that was to be stopped


def release(w: World) -> None:
    a = w.attempt()
    provider = w.provider(a.choice)
    _keep(w, a)
    if w.state.stop_now and w.state.wants_pull:
        w.record("discarded")
    if a.end_asked_at is None or a.asleep:  # it was asked to sleep then: that it goes is another end
        _note(w, a, "end-asked", proof_at=sight.proof_at(provider, w, a))
    if sight.pauses(provider) and _holds(w, a) and _put_to_sleep(w, a, provider):
        return
    failures = absent = 0
    lived = unseen = False
    since: datetime | None = None  # it has been missing ever since: later than its end
    while absent < 2 and not unseen:
        w.tick_quietly()
        proves = w.clock.now().timestamp() >= sight.visible_by(provider, w, a)  # as of before the look
        try:
            left = _seen(w, a, provider)
            lived = lived or any(r.kind == "instance" for r in left)
            _terminate(provider, left)
            absent = 0 if left else min(absent + 1, 2 if proves else 1)
            since = None if left else since or w.clock.now()
            failures = 0
            w.heard(a)
            halting.by_key(w, a, None)
        except ProviderError as e:
            failures, absent = failures + 1, 0
            _tell_agent(w, a, provider, e, failures)
            unseen = halting.ended_itself(w, a, provider, e)
            if isinstance(e, KeyChanged) and not unseen:
                halting.halt(w, halting.CHANGED, e.reason)
                return
            halting.tell_unheard(w, a, provider, e)
            if halting.by_key(w, a, e):
                return
        if absent < 2 and not unseen:
            w.wait_quietly(_pause(provider, failures, absent))
    if rescue.is_due(w, a, provider) and not unseen:
        rescue.rescue(w, a, provider)  # then this step begins anew
        return
    _tidy(w, a, provider)
    _tell_left(w, a)
    kept = provider.traits.keeps_output and not sight.pauses(provider) and w.state.wants_pull
    until = since or w.clock.now()
    until = until if lived else min(until, sight.billed_until(provider, w, a))
    seen = "twice not listed, and ended by its own id"
    evidence = "nobody could look: its own guard ended it at its deadline" if unseen else seen
    w.about(a, "gone", evidence=evidence, kept=kept, billed_until=until)


def _holds(w: World, a: Attempt) -> bool:
    """What it holds is nowhere else, or nobody could look."""
    return not w.state.stop_now and ((a.sealed is not None and w.state.wants_pull) or w.state.unseen(a))


def _put_to_sleep(w: World, a: Attempt, provider: Provider) -> bool:
    """Stopped, by its own id, twice, or nobody may look. False: there is nothing that could be kept, or it is
    past its end and cannot be stopped: then nothing that it holds is worth what nobody agreed to pay."""
    failures = asleep = told = 0
    while True:
        w.tick_quietly()
        if not _holds(w, w.attempt()):
            return True  # given up meanwhile: this step begins anew, and ends it
        try:
            resource = sight.stopped(provider, a)
            asleep = asleep + 1 if resource is not None else 0
            if resource is not None and asleep == 2:
                break
            if resource is None:
                if sight.absent(provider, w, a):  # and not merely asleep since the look above
                    return False
                again = f"it was told to {told} times and runs on"
                if told >= IN_VAIN and _past_its_end(w, provider, again):
                    return False
                cast(Pausing, provider).pause(a.instance or "")
                told += 1
            failures = 0
            halting.by_key(w, a, None)
        except (Gone, Busy):
            pass
        except ProviderError as e:
            failures, asleep = failures + 1, 0
            _tell_agent(w, a, provider, e, failures)
            if halting.by_key(w, a, e):
                return True
            if e.surely_no_effect and _past_its_end(w, provider, e.reason):
                return False
        w.wait_quietly(_pause(provider, failures, asleep))
    if w.state.pull_failed is None and a.woken:  # once is enough, unless somebody asks again
        w.record("pull-failed", message=a.over or "the machine had to be stopped again")
    w.drop_hosts()
    storage, now = resource.usd_per_hour, w.clock.now()
    evidence = "twice told to be stopped"
    w.about(
        a, "gone", evidence=evidence, kept=True, asleep=True, storage_usd_per_hour=storage, billed_until=now
    )
    return True


def _tell_agent(w: World, a: Attempt, provider: Provider, why: ProviderError, failures: int) -> None:
    """Its provider does not hear us, or not our key: the machine's own guard has another way. What waits
    there stays, and a trainer that nobody has given up may write its last checkpoint."""
    at_once = w.state.stop_now or a.sealed is not None or a.receipt_at is not None
    key = f"told-to-end:{a.n}:{at_once}"
    deaf = failures >= DEAF and isinstance(why, AuthRefused | Unreachable)
    if not (deaf and provider.traits.bills) or a.boot is None or key in w.memory:
        return
    w.memory[key] = True
    with suppress(HostError):  # nor does it: then its limits end it
        if at_once:
            link(w, a).send("end", pressing=True)
        else:
            link(w, a).send("stop", pressing=True, now=False, why="stop")
        w.memory[halting.told_itself(a)] = True


def _past_its_end(w: World, provider: Provider, why: str) -> bool:
    """Before that a person is told what stopping it in vain costs."""
    if sight.outlived(provider, w, w.attempt()):
        return True
    _tell_awake(w, w.attempt(), why)
    return False


def _tell_awake(w: World, a: Attempt, why: str) -> None:
    """Once: what bills on although its end was asked for is a person's to decide."""
    if a.noticed != AWAKE:
        told = f"{a.instance} cannot be stopped, so it bills until its end: {why}; `stop --now` ends it with"
        _note(w, a, "noticed", code=AWAKE, message=f"{told} what it holds")


def _seen(w: World, a: Attempt, provider: Provider) -> tuple[Resource, ...]:
    """What is still there. What cannot be listed can be ended all the same: a list that is not to be had, or
    not to be understood, must not keep a machine running."""
    try:
        return _left(w, a, provider) or _unlisted(provider, a)
    except ProviderError:
        if provider.traits.bills and a.instance is not None:
            with suppress(ProviderError):  # the list's own fault is what is told
                provider.terminate(a.instance)
        raise


def _tell_left(w: World, a: Attempt) -> None:
    """Storage of the user's own outlives a machine, and no other of ours looks there."""
    volume = w.plan.need.network_volume
    if volume is not None and a.access is not None and _holds(w, w.attempt()):
        where = f"on the network volume {volume}, in {a.access.root} where it is mounted"
        told = f"what {a.instance} held and nobody fetched stays {where}; `pull` does not look there"
        _note(w, a, "noticed", code=LEFT, message=told)


def _unlisted(provider: Provider, a: Attempt) -> tuple[Resource, ...]:
    """A young machine lives before it is listed."""
    if a.instance is None:
        return ()
    try:
        resource = provider.get(a.instance)
    except Gone:
        return ()
    return () if resource.state is ResourceState.ENDED else (resource,)


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
    if (provider.traits.keeps_output and w.state.wants_pull) or rescue.is_due(w, a, provider):
        return tuple(r for r in left if r.kind in ("instance", "stray"))
    return left


def _terminate(provider: Provider, left: tuple[Resource, ...]) -> None:
    """Instances first. Busy means another one must go first: the next round asks again."""
    for resource in sorted(left, key=lambda r: r.kind != "instance"):
        with suppress(Gone, Busy):
            provider.terminate(resource.id)


def _note(w: World, a: Attempt, kind: str, **data: object) -> None:
    """Intent before effect; but a full disk must not keep a machine running."""
    with suppress(OSError):
        w.about(a, kind, **data)


def _tidy(w: World, a: Attempt, provider: Provider) -> None:
    """On this machine the spool folder is the disk of the machine that is gone."""
    if provider.traits.boots == "here" and not w.state.wants_pull:
        w.drop_hosts()
        w.files.remove(Path(w.attempt_folder(a).spool))
