"""How long a run takes and what it costs on one offer: low, likely, high, line by line.

Pure. It knows no prices of its own, no provider and no past but the one handed in. The total is the sum
of its lines, exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal, localcontext

from launcher import guard
from launcher.models import Estimate, Limits, Line, Need, Offer, Range, Runtime, RuntimeKind

HOUR_S = Decimal(3600)
NOTHING = Range(Decimal(0), Decimal(0), Decimal(0))

# Machines boot and registries answer at very different speeds; half and twice the typical time is what a
# single typical figure honestly allows.
SPREAD = (Decimal("0.5"), Decimal(1), Decimal(2))

# One past run says little about the next: other data, other neighbours on the machine. The margin around
# what was seen shrinks with the number of runs, never to nothing.
FASTER = Decimal("0.3")
SLOWER = Decimal("0.6")
LEAST_MARGIN = Decimal("0.1")


@dataclass(frozen=True)
class Past:
    """How long a trainer once ran, from its start to its own end."""

    trainer: str  # or the folder's name, for a project of the user's own
    device: str  # "cpu" or the GPU's name as the catalogue writes it
    seconds: Decimal
    argv: tuple[str, ...] = ()


def estimate(offer: Offer, runtime: Runtime, trainer: Range | None, need: Need, limits: Limits) -> Estimate:
    """What the offer would take and cost. `trainer` is its own time in hours; None = nobody can tell."""
    training = _at_most(trainer, limits.max_time_s)
    phases = (
        ("start-up", _scaled(offer.boot_s, SPREAD)),
        ("environment" if runtime.kind is RuntimeKind.ENV else "image", _scaled(runtime.prepare_s, SPREAD)),
        ("training", training),
        ("results", _results(limits)),
    )
    compute = offer.usd_per_hour - offer.disk_usd_per_hour
    lines = [Line(name, hours, _usd(hours, compute)) for name, hours in phases]
    hours = total([line.hours for line in lines])
    lines.append(
        Line(f"disk {offer.disk_gb or need.disk_gb} GB", NOTHING, _usd(hours, offer.disk_usd_per_hour))
    )
    return Estimate(tuple(lines), hours, total([line.usd for line in lines]), known=trainer is not None)


def trainer_hours(
    pasts: Sequence[Past], trainer: str, device: str, argv: tuple[str, ...], bound: Range | None
) -> Range | None:
    """The trainer's own time: from past runs on the same device (with the same arguments, if there are
    any such), else what the recipe says."""
    mine = [p for p in pasts if p.trainer == trainer and p.device == device]
    same = [p for p in mine if p.argv == argv]
    seconds = sorted(p.seconds for p in (same or (mine if bound is not None else [])))
    if not seconds:
        return bound
    with localcontext() as exact:
        exact.prec = 40
        root = Decimal(len(seconds)).sqrt()
        low = seconds[0] * (1 - max(LEAST_MARGIN, FASTER / root))
        high = seconds[-1] * (1 + max(LEAST_MARGIN, SLOWER / root))
        return Range(in_hours(low), in_hours(_median(seconds)), in_hours(high))


def total(parts: Sequence[Range]) -> Range:
    """Added up one by one: low with low, likely with likely, high with high."""
    zero = Decimal(0)
    return Range(
        sum((part.low for part in parts), zero),
        sum((part.likely for part in parts), zero),
        sum((part.high for part in parts), zero),
    )


def in_hours(seconds: Decimal) -> Decimal:
    """Hours with a hundredth of a second's resolution, rounded up."""
    return (seconds / HOUR_S).quantize(guard.MICRO, ROUND_CEILING)


def _at_most(trainer: Range | None, max_time_s: int) -> Range:
    """Training ends at T whatever was foreseen; unforeseen, all of T may be used."""
    bound = in_hours(Decimal(max_time_s))
    if trainer is None:
        return Range(Decimal(0), bound, bound)
    return Range(min(trainer.low, bound), min(trainer.likely, bound), min(trainer.high, bound))


def _results(limits: Limits) -> Range:
    """The last checkpoint and the pull: usually short, S at the longest."""
    return _scaled(limits.salvage_s, (Decimal(0), Decimal("0.1"), Decimal(1)))


def _scaled(seconds: int, shares: tuple[Decimal, Decimal, Decimal]) -> Range:
    low, likely, high = (in_hours(seconds * share) for share in shares)
    return Range(low, likely, high)


def _usd(hours: Range, rate: Decimal) -> Range:
    low, likely, high = (guard.money(rate, part * HOUR_S) for part in (hours.low, hours.likely, hours.high))
    return Range(low, likely, high)


def _median(ordered: Sequence[Decimal]) -> Decimal:
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
