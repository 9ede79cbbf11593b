"""What is still there although no run of ours needs it. Only what carries our label is looked at, and only
what is surely ours is ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from launcher import together
from launcher.errors import AuthRefused, ProviderError
from launcher.models import Resource, ResourceState
from launcher.providers.base import Provider
from launcher.runstate import RunState

WITHIN_S = 30.0
CONFIRMED_S, LOOK_S = 15.0, 0.5  # how long an end may take to be seen, and between two looks


@dataclass(frozen=True)
class Stray:
    target: str
    resource: Resource
    why: str
    ours: bool


@dataclass(frozen=True)
class Sweep:
    strays: tuple[Stray, ...]
    silent: tuple[tuple[str, str], ...]  # provider, reason: whom we could not ask
    needed: tuple[tuple[str, Resource], ...] = ()  # provider, what a run of this data folder counts on


def wanted(states: Iterable[RunState]) -> frozenset[str]:
    """The tokens of machines and of kept outputs that runs of this data folder still count on."""
    return frozenset(a.token for s in states for a in s.attempts if a.open or (a.kept and s.wants_pull))


def rented_on(states: Iterable[RunState]) -> frozenset[str]:
    """The providers that runs of this data folder ever asked for a machine."""
    return frozenset(s.plan.choices[a.choice].offer.provider for s in states for a in s.attempts)


def sweep(
    providers: Iterable[Provider],
    owner: str,
    known: Callable[[], frozenset[str]],
    now: datetime,
    rented: frozenset[str] | None = None,
) -> Sweep:
    """An orphan carries our label and is past its end of life, or is ours and no run here knows it (`known`:
    asked once the lists are there, as a run writes down what it asks for before it does). Who cannot be asked
    for want of a key, and was never rented on (`rented`), has nothing of ours."""
    strays: list[Stray] = []
    silent: list[tuple[str, str]] = []
    needed: list[tuple[str, Resource]] = []
    everybody = {provider.name: provider for provider in providers}
    answers = together.ask({name: provider.list for name, provider in everybody.items()}, WITHIN_S)
    tokens = known()
    for name, listed in answers.items():
        provider = everybody[name]
        if isinstance(listed, AuthRefused) and listed.missing and rented is not None and name not in rented:
            continue
        if not isinstance(listed, tuple):
            silent.append((name, listed.reason if isinstance(listed, ProviderError) else str(listed)))
            continue
        for r in listed:
            why = _why(r, owner, tokens, now, provider.traits.overrun_s)
            if r.token in tokens and r.owner == owner:
                needed.append((provider.name, r))
            elif why is not None:
                strays.append(Stray(provider.name, r, why, r.owner == owner))
    return Sweep(tuple(strays), tuple(silent), tuple(needed))


def _why(r: Resource, owner: str, known: frozenset[str], now: datetime, overrun_s: int) -> str | None:
    if r.token in known and r.owner == owner:
        return None
    if r.owner == owner:
        return "no run of this data folder knows it"
    if (
        r.state is not ResourceState.ENDED
        and r.ends_at is not None
        and now > r.ends_at + timedelta(seconds=overrun_s)
    ):
        return "past its end of life"
    return None


def end(
    providers: Iterable[Provider],
    strays: Iterable[Stray],
    *,
    all_owners: bool,
    patience_s: float = CONFIRMED_S,
) -> tuple[list[str], list[str]]:
    """Ended and not ended, each by id. Instances go before what hangs on them. What bills has ended once it
    is listed no more."""
    by_name = {p.name: p for p in providers}
    asked: list[Stray] = []
    failed: list[str] = []
    for stray in sorted(strays, key=lambda s: s.resource.kind != "instance"):
        if not (stray.ours or all_owners):
            continue
        try:
            by_name[stray.target].terminate(stray.resource.id)
            asked.append(stray)
        except ProviderError as e:
            failed.append(f"{stray.resource.id}: {e.reason}")
    there = _listed_on(by_name, [s for s in asked if by_name[s.target].traits.bills], patience_s)
    failed += [f"{s.resource.id}: its end was asked for and is not confirmed" for s in there]
    return [s.resource.id for s in asked if s not in there], failed


def _listed_on(by_name: Mapping[str, Provider], asked: list[Stray], patience_s: float) -> list[Stray]:
    """Those that are still there when patience is over, or whose provider does not say."""
    until = time.monotonic() + patience_s
    while asked:
        names = {s.target for s in asked}
        lists = together.ask({name: by_name[name].list for name in names}, WITHIN_S)
        asked = [s for s in asked if _is_listed(s, lists[s.target])]
        if time.monotonic() >= until:
            break
        if asked:
            time.sleep(LOOK_S)  # no provider tells of an end by itself
    return asked


def _is_listed(stray: Stray, answer: object) -> bool:
    return not isinstance(answer, tuple) or any(r.id == stray.resource.id for r in answer)
