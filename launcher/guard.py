"""The bounds of a run in time and money: when a machine must be gone, what it can cost at the worst.

Pure arithmetic on Decimal and aware datetimes. It knows no clock, no provider and no journal; whoever
asks hands in the moment, the rate and what was spent. Every rounding goes against us: a bill is rounded
up, time that money can buy is rounded down.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, localcontext

from launcher.models import Limits

SALVAGE_SHARE = 10  # one part in ten of T
SALVAGE_LEAST_S = 20
SALVAGE_MOST_S = 900
MAX_TIME_S = 24 * 3600  # the longest T that is chosen without being asked for

CENT = Decimal("0.01")
MILL = Decimal("0.001")
MICRO = Decimal("0.000001")  # the meter's own resolution: finer than any provider's bill
HOUR_S = 3600


def salvage_s(max_time_s: int) -> int:
    """S: the time for a last checkpoint and the pull after the trainer's own time is over."""
    share = -(-max_time_s // SALVAGE_SHARE)
    return max(SALVAGE_LEAST_S, min(SALVAGE_MOST_S, share))


def span_s(limits: Limits) -> int:
    """The longest a machine may live from the create call on."""
    return limits.boot_limit_s + limits.max_time_s + limits.salvage_s


def money(rate: Decimal, seconds: Decimal) -> Decimal:
    """What `seconds` cost at `rate` USD per hour, rounded up to a millionth of a dollar."""
    with localcontext() as exact:
        exact.prec = 60
        return (rate * seconds / HOUR_S).quantize(MICRO, ROUND_CEILING)


def usd(amount: Decimal, finest: Decimal = CENT) -> str:
    """Dollars, never understated: cents, or a finer last digit where a rate has one."""
    written = f"{amount.quantize(finest, ROUND_CEILING):f}"
    whole, _, digits = written.partition(".")
    return f"{whole}.{digits.rstrip('0'):0<2}"


def _billed_s(seconds: Decimal, billing_step_s: int) -> Decimal:
    steps = (seconds / billing_step_s).to_integral_value(ROUND_CEILING)
    return steps * billing_step_s


def spent(rate: Decimal, begin: datetime, end: datetime, billing_step_s: int = 1) -> Decimal:
    """What a machine billed from begin to end; started steps are billed whole, a clock that went
    backwards bills nothing."""
    seconds = Decimal((end - begin) // timedelta(microseconds=1)) / 1_000_000
    return money(rate, _billed_s(max(Decimal(0), seconds), billing_step_s))


def worst_cost(rate: Decimal, limits: Limits, overrun_s: int, billing_step_s: int = 1) -> Decimal:
    """The most one attempt can cost when everything goes wrong: it lives to its end and overruns it."""
    return money(rate, _billed_s(Decimal(span_s(limits) + overrun_s), billing_step_s))


def smallest_ceiling(rate: Decimal, limits: Limits, overrun_s: int, billing_step_s: int = 1) -> Decimal:
    """The smallest --max-cost, in whole cents, under which one attempt may be asked for."""
    return worst_cost(rate, limits, overrun_s, billing_step_s).quantize(CENT, ROUND_CEILING)


def may_ask(
    spent_usd: Decimal,
    rate: Decimal,
    limits: Limits,
    overrun_s: int,
    ceiling: Decimal,
    billing_step_s: int = 1,
) -> bool:
    """A next attempt is asked for only when its worst case on top of what is spent keeps the ceiling."""
    return spent_usd + worst_cost(rate, limits, overrun_s, billing_step_s) <= ceiling


def paid_until(
    asked_at: datetime, rate: Decimal, left_usd: Decimal, overrun_s: int = 0, billing_step_s: int = 1
) -> datetime | None:
    """The last moment at which a machine asked for at `asked_at` must end, so that even its overrun is
    covered by what is left; never before `asked_at`. None where nothing bills."""
    if rate <= 0:
        return None
    with localcontext() as exact:
        exact.prec = 60
        steps = (left_usd * HOUR_S / rate / billing_step_s).to_integral_value(ROUND_FLOOR)
        seconds = min(max(Decimal(0), steps * billing_step_s - overrun_s), Decimal(10 * 365 * 86400))
    return asked_at + timedelta(seconds=int(seconds))


def ends_at_create(
    asked_at: datetime,
    limits: Limits,
    rate: Decimal,
    left_usd: Decimal | None,
    overrun_s: int = 0,
    billing_step_s: int = 1,
) -> datetime:
    """D as it is given in the create call: asked + boot limit + T + S, earlier when money ends earlier."""
    whole = asked_at + timedelta(seconds=span_s(limits))
    if left_usd is None:
        return whole
    return _earlier(whole, paid_until(asked_at, rate, left_usd, overrun_s, billing_step_s))


def ends_at_start(started_at: datetime, limits: Limits, not_after: datetime | None = None) -> datetime:
    """D once the trainer has started; `not_after` is what paid_until answered for this machine, because a
    boot limit that was renewed may have eaten into the trainer's money."""
    return _earlier(started_at + timedelta(seconds=limits.max_time_s + limits.salvage_s), not_after)


def limits_at_start(started_at: datetime, limits: Limits, not_after: datetime | None) -> Limits:
    """The limits with T shortened until started + T + S fits before `not_after`; S keeps its length as
    long as it can, since results that are not saved were paid for nothing."""
    room = int((ends_at_start(started_at, limits, not_after) - started_at).total_seconds())
    salvage = max(0, min(limits.salvage_s, room))
    return replace(limits, max_time_s=max(0, room - salvage), salvage_s=salvage)


def ends_unmet(asked_at: datetime, limits: Limits, d: datetime) -> datetime:
    """The end of a machine that nobody of ours has met: what is to come up within `ready_within` has its boot
    limit then, and no longer than D."""
    return min(d, asked_at + timedelta(seconds=limits.ready_within_s + limits.boot_limit_s))


def _earlier(moment: datetime, other: datetime | None) -> datetime:
    return moment if other is None else min(moment, other)
