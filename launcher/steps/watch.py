"""See the trainer to its end: streams home, what is complete home, requests answered, the deadline kept.

uses: started
produces: checkpoint (verified here), sealed, or over (the machine was lost, or outlived its deadline)
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from launcher import guard
from launcher.errors import HostDiskFull, HostError, HostUnreachable, KeyChanged, ProviderError, Stopped
from launcher.models import Json, Limits
from launcher.providers.base import Provider
from launcher.remote.base import Tick
from launcher.runstate import Attempt
from launcher.steps import anew, early, halting, sight, wake
from launcher.steps.link import Link, link
from launcher.world import World

GLANCE_S = 0.5  # between two looks while something comes home
TAKEN_S = 10.0  # since it was heard: then it had sealed nothing that we did not hear of
STARTS_AGAIN_S = 15.0  # within which a stop shows whether it was one
MOST_S = 1e9  # of a time that another machine tells
ASK_S = 5.0  # between two questions to a provider that bills; what is here is asked each second


def watch(w: World) -> None:
    a = w.attempt()
    provider = w.provider(a.choice)
    if a.sealed is not None:
        _hold(w, a, provider)
        return
    if a.woken:
        _search(w, a, provider)
        return
    look = _Watching(w, a, provider, link(w, a))
    while _under_way(w):
        w.tick_quietly()
        if w.state.stop_now:
            return
        if look.is_time_to_ask():
            look.ask()
            continue
        try:
            look.glance()
            early.bring(w, a, look.line, look.meanwhile)
        except HostError as e:
            w.drop_hosts()  # the next look connects anew; until then the agent goes on by itself
            if halting.is_elsewhere(w, a, provider, e):
                return
        except Stopped:
            pass  # what was being fetched gives way; the rest of it comes later
        if look.line.last("sealed") is not None:
            if not _starts_again(w, a, provider, look.line):
                record_sealed(w, a, look.line)
            return
        w.clock.wait(w.pace_s)


def _under_way(w: World) -> bool:
    a = w.attempt()
    return a.sealed is None and a.over is None and a.under_way and w.state.halted is None


class _Watching:
    """What is to be seen while a trainer runs, also while a file that takes long comes home beside it."""

    def __init__(self, w: World, a: Attempt, provider: Provider, line: Link) -> None:
        self._w, self._a, self._provider, self.line = w, a, provider, line
        self._looked = w.clock.now().timestamp()
        # What was rented may have been stopped while no engine lived: then knocking there is in vain.
        self._asked = 0.0 if provider.traits.bills else self._looked
        self._every = ASK_S if provider.traits.bills else 1.0
        self._heard: float | None = None  # by this process: what an earlier one heard is no news

    def glance(self) -> None:
        with suppress(HostDiskFull):  # told again at the next glance; what it says is heard all the same
            _steer(self._w, self._a, self.line)
        if self.line.disk_full:
            self._tell_full()
        self.line.sync()
        self._looked = self._heard = self._w.clock.now().timestamp()

    def _tell_full(self) -> None:
        """Once: whoever reads it can make room, or stop the run."""
        w, a = self._w, self._w.attempt()
        if a.noticed is None:
            target = w.plan.choices[a.choice].offer.target
            told = f"{target}: its disk is full; what the trainer writes there is lost while it is"
            w.about(a, "noticed", code="disk-full", message=told)

    def is_time_to_ask(self) -> bool:
        now = self._w.clock.now().timestamp()
        due = now - self._asked >= self._every
        if due:
            self._asked = now
        return due or self.line.began_anew

    def ask(self) -> None:
        """Only positive evidence ends an attempt: gone by the provider's word, or past every deadline."""
        w, a, provider, line = self._w, self._a, self._provider, self.line
        if anew.follow(w, a, provider):
            return
        fresh, taken = self._fresh(), self._was_taken()  # as of now: proofs take their time
        unheard: str | None = None
        try:
            if not sight.computes(provider, a):
                rests = sight.stopped(provider, a) is not None
                if rests and not fresh:
                    w.about(a, "over", why="the machine stopped", blame=False)
                    return
                if rests or (sight.surely_gone(provider, w, a) and not self._speaks()):
                    _last_look(w, a, provider, line, taken=taken)
                    return
        except KeyChanged as e:
            halting.halt(w, halting.CHANGED, e.reason)
            return
        except ProviderError as e:
            unheard = e.reason  # no answer is no evidence; the deadline below still counts
        if sight.outlived(provider, w, w.attempt()) and not halting.out_of_reach(w, a, provider, unheard):
            _last_look(w, a, provider, line)

    def _speaks(self) -> bool:
        """What is rented and answers is not gone, whatever its provider lists; of what is here the disk may
        answer, too."""
        if not self._provider.traits.bills:
            return False
        try:
            self.line.sync(("events.jsonl",))
        except HostError:
            self._w.drop_hosts()
            return False
        return True

    def _was_taken(self) -> bool:
        """It ran a moment ago, and none of its own reasons to end had come."""
        return self._fresh() and self._w.clock.now() < self._w.attempt().d

    def _fresh(self) -> bool:
        return self._heard is not None and self._w.clock.now().timestamp() - self._heard < TAKEN_S

    def meanwhile(self) -> None:
        """The tick of a transfer. It gives way to whatever is more than a glance."""
        w = self._w
        _patient(w)()
        if w.clock.now().timestamp() - self._looked < GLANCE_S:
            return
        try:
            self.glance()
        except HostError as e:
            raise Stopped("the way is cut") from e
        if self.line.last("sealed") is not None:
            raise Stopped("the trainer has ended")
        if self.is_time_to_ask() and self._in_doubt():
            self._asked = 0.0
            raise Stopped("the machine may have ended")

    def _in_doubt(self) -> bool:
        w, a, provider = self._w, self._w.attempt(), self._provider
        try:
            return not sight.computes(provider, a) or sight.outlived(provider, w, a)
        except ProviderError:
            return sight.outlived(provider, w, a)


def _starts_again(w: World, a: Attempt, provider: Provider, line: Link) -> bool:
    """A rented machine that was told to stop may only be started again: its next boot then goes on from
    where this one stood."""
    sealed = line.last("sealed") or {}
    if a.pinned is None or sealed.get("why") != "preempted":
        return False
    with suppress(HostError, Stopped):  # it has seconds left, and what is here need not be made again
        _bring_all(w, line)
    until = w.clock.now().timestamp() + STARTS_AGAIN_S
    while w.clock.now().timestamp() < until and w.state.stop is None:
        with suppress(ProviderError):
            if not sight.computes(provider, a):
                return False
            if anew.follow(w, a, provider):
                return True
        w.wait_quietly(1)
    return False


def _hold(w: World, a: Attempt, provider: Provider) -> None:
    """Its results could not be fetched. Its agent holds them for a while and then ends the machine; we stay,
    for whoever asks for another pull, and to end it should nobody else do so."""
    while w.state.pull_failed is not None:
        if sight.vanished(provider, w, a):
            w.about(a, "over", why="the machine ended before its results were here", blame=False)
            return
        if sight.outlived(provider, w, a):
            w.about(a, "over", why="deadline", blame=False)
            return
        w.wait(ASK_S)


def _search(w: World, a: Attempt, provider: Provider) -> None:
    """A machine that was started again trains nothing: what it wrote until it stopped is all there is."""
    line = link(w, a)
    try:
        _bring_all(w, line)
    except HostError:
        w.drop_hosts()
        if sight.vanished(provider, w, a) or sight.outlived(provider, w, a):
            w.about(a, "over", why="the machine stopped before it could be read", blame=False)
        else:
            w.wait(1)
        return
    if line.last("sealed") is not None:
        record_sealed(w, a, line)
    elif _was_to_seal(line):  # what its earlier boot did not come to
        ended = line.last("armed", "ending") != line.last("armed")
        if ended or sight.outlived(provider, w, a):
            wake.gives_up(w, a, "the list of its results was not made in time")
        else:
            w.wait(1)
    else:
        w.about(a, "over", why=_ended_by(line), blame=False, searched=True)


def _was_to_seal(line: Link) -> bool:
    return bool((line.last("armed") or {}).get("seals"))


def _ended_by(line: Link) -> str:
    ending = line.last("ending")
    over = ending is not None and ending.get("why") in ("deadline", "boot-limit")
    return "deadline" if over else "the machine was lost"


def _steer(w: World, a: Attempt, line: Link) -> None:
    """Tell the agent what changed: a stop, another deadline, somebody who looks."""
    memory = w.memory
    stop = w.state.stop
    if stop is not None and memory.get(f"stop-sent:{a.n}") is None:
        line.send("stop", pressing=True, now=False, why="stop")
        memory[f"stop-sent:{a.n}"] = True
    wanted = (a.n, w.state.max_time_s, w.state.max_cost)
    if memory.get("granted") != wanted:
        _grant(w, a, line)
        memory["granted"] = wanted
    now = w.clock.now().timestamp()
    if now - memory.get("rate-sent", 0.0) >= 10 and w.watched():
        line.send("rate", seconds=1)
        memory["rate-sent"] = now


def _grant(w: World, a: Attempt, line: Link) -> None:
    assert a.begun is not None
    limits = granted(w, a, a.begun)
    deadline = guard.ends_at_start(a.begun, limits)
    if deadline != w.attempt().deadline:
        line.send("deadline", max_time_s=limits.max_time_s, salvage_s=limits.salvage_s)
        w.about(a, "deadline", deadline=deadline)


def granted(w: World, a: Attempt, begun: datetime) -> Limits:
    """T and S for a trainer that begins then: what is wanted by now, as far as the money goes. A machine that
    was long in getting ready has eaten into it."""
    limits = replace(w.plan.limits, max_time_s=w.state.max_time_s)
    ceiling = w.ceiling()
    if not w.plan.choices[a.choice].offer.bills or ceiling is None:
        return limits
    left = ceiling - w.state.spent_besides(a, w.clock.now())
    overrun_s = w.provider(a.choice).traits.overrun_s
    return guard.limits_at_start(begun, limits, guard.paid_until(a.asked_at, a.usd_per_hour, left, overrun_s))


def _last_look(w: World, a: Attempt, provider: Provider, line: Link, *, taken: bool = False) -> None:
    """Where output outlives the machine, its last words may still be read."""
    try:
        _bring_all(w, line)
    except HostUnreachable as e:
        w.drop_hosts()
        if halting.out_of_reach(w, a, provider, str(e)):
            return
    except HostError:
        pass  # nothing outlived it
    if line.last("sealed") is not None:
        record_sealed(w, a, line)
    elif taken:
        w.about(a, "over", why="the machine was taken away", blame=False, taken=True)
    else:
        w.about(a, "over", why=_ended_by(line), blame=False)


def _bring_all(w: World, line: Link) -> None:
    """For the last time: what it said, and the checkpoints that are not here."""
    line.drain()
    early.checkpoints(w, line, line.host, _patient(w))


def _patient(w: World) -> Tick:
    def tick() -> None:
        w.tick_quietly()
        if w.state.stop_now:
            raise Stopped("now")

    return tick


def record_sealed(w: World, a: Attempt, line: Link) -> None:
    """The trainer is gone: what it left is vouched for by the agent's list."""
    event = line.last("sealed")
    assert event is not None
    with suppress(HostError):  # the pull reads the rest, or says why it cannot
        _bring_all(w, line)
    refused = line.last("refused")
    w.about(
        a,
        "sealed",
        digest=str(event["digest"]),
        count=int(event["count"]),
        size=int(event["bytes"]),
        exit_code=event.get("exit_code"),
        signal=event.get("signal"),
        why=event.get("why"),
        left_out=[str(name) for name in event.get("skipped") or ()],
        refused=str(refused.get("message") or refused.get("why")) if refused else None,
        ran_s=ran_s(line.last),
    )
    if event.get("why") == "preempted":
        w.about(a, "over", why="preempted", blame=False)


def ran_s(last: Callable[[str], Json | None]) -> float | None:
    """From the trainer's start to its end, as the agent saw it; None where its words are not there."""
    began, ended = last("started") or {}, last("exited") or {}
    try:
        took = float(ended["t"]) - float(began["t"])
    except (KeyError, TypeError, ValueError):
        return None
    return round(took, 3) if 0 <= took < MOST_S else None
