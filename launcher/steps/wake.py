"""Start a machine that was stopped with results on it, only to read them: within the money, and not for long.

uses: an attempt that sleeps
produces: woken (before the call), or pull-failed (it sleeps on, and costs its storage)
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import cast

from launcher import guard, runstate
from launcher.errors import Busy, ProviderError
from launcher.providers.base import Pausing, Provider
from launcher.runstate import Attempt
from launcher.world import World


def wake(w: World, a: Attempt) -> bool:
    """Whether it may be started. Its guard knows the boot limit alone from then on, counted from its boot."""
    limits, now, ceiling = w.plan.limits, w.clock.now(), w.ceiling()
    limit_s = limits.ready_within_s + limits.boot_limit_s
    overrun_s = w.provider(a.choice).traits.overrun_s
    worst = guard.money(a.usd_per_hour, Decimal(limit_s + overrun_s))
    if ceiling is not None and w.state.spent(now) + worst > ceiling:
        over = w.state.spent(now) + worst
        why = f"to start the machine again may take ${over:.2f} in all, above the ceiling of ${ceiling:.2f}"
        w.record("pull-failed", message=f"{why}: `extend --max-cost` allows more, then `pull`")
        return False
    w.about(a, "woken", deadline=now + timedelta(seconds=limit_s))
    return True


def start_again(w: World, a: Attempt, provider: Provider) -> str | None:
    """Asked for once more with each look that finds it stopped. Why it will not be, if that is sure."""
    try:
        cast(Pausing, provider).unpause(a.instance or "")
    except Busy:
        pass
    except ProviderError as e:
        return e.reason if e.surely_no_effect else None
    return None


def gives_up(w: World, a: Attempt, why: str) -> None:
    """It goes to sleep again with what it holds."""
    w.record("pull-failed", message=why)
    w.about(a, "over", why=why, blame=False)


def is_refused(w: World, a: Attempt, why: str) -> None:
    """It cannot be started. What was taken from us in the middle of its work holds no more than the
    checkpoints since the last one that is here: where another machine can go on, it does."""
    if a.taken and runstate.may_try_again(w.state):
        w.about(a, "over", why=f"the machine was taken away: {why}", blame=False, searched=True)
    else:
        gives_up(w, a, why)
