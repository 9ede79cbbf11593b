"""Why there is no plan: no offer, a price or a ceiling that does not fit, what would spend without a bound.

Pure. Each names what would do, in a line to paste.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from launcher.ask import Ask, Target, Way
from launcher.errors import Exit, LauncherError, usage
from launcher.guard import MILL, usd
from launcher.models import Limits, Offer, Refusal
from launcher.values import written_duration


def per_gpu(offer: Offer) -> Decimal:
    """What --max-price speaks of: one GPU for one hour, without disks and address."""
    return (offer.usd_per_hour - offer.disk_usd_per_hour) / max(1, offer.gpu_count)


def too_dear(offer: Offer, highest: Decimal) -> Refusal:
    kind = "as spot" if offer.spot else "on demand"
    what = offer.gpu or offer.instance_type or offer.target
    reason = f"{what} costs ${usd(per_gpu(offer), MILL)}/h {kind}, above ${usd(highest, MILL)}"
    return Refusal(offer.id, reason)


def _gpus(ask: Ask) -> str:
    """Which, and how many, as they were typed."""
    said = "".join(f" --gpu '{name}'" for name in ask.need.gpu_words or ask.need.gpus)
    return said + (f" --gpus {ask.need.gpu_count}" if ask.need.gpu_count > 1 else "")


def careless(ask: Ask, paid: str) -> None:
    """What would spend money without a bound that the user set."""
    if ask.yes and ask.wishes.max_cost is None:
        raise usage(
            "yes-needs-ceiling",
            f"--yes on {paid}, which costs money, needs a ceiling: --max-cost USD",
            hint=f"run {ask.words} --on {paid}{_gpus(ask)} --yes --max-cost 1{ask.command}",
        )
    if ask.trainer is not None:
        return
    if not ask.need.gpus:
        raise usage(
            "project-needs-gpu",
            f"a project of your own on {paid} needs --gpu: nothing here says which GPU it is made for",
            hint=f"plan {ask.words} --on {paid} --gpu any-24gb --max-cost 1{ask.command}",
        )
    if ask.wishes.max_cost is None and ask.wishes.max_time_s is None:
        raise usage(
            "project-needs-limit",
            f"a project of your own on {paid} needs --max-cost or --max-time: its length is unknown",
            hint=f"plan {ask.words} --on {paid}{_gpus(ask)} --max-cost 1{ask.command}",
        )


def nothing(ask: Ask, asked: Sequence[Target], refused: Sequence[Refusal]) -> LauncherError:
    """No target that was asked for has anything: why, and what would do."""
    dear = [(target, way.offer) for target in asked for way in target.ways]
    if dear:
        return _no_such_price(ask, *min(dear, key=lambda one: per_gpu(one[1])), refused)
    faults = [target.fault for target in asked if target.fault is not None]
    return faults[0] if faults else _no_offer(ask, asked, refused)


def _no_such_price(ask: Ask, target: Target, offer: Offer, refused: Sequence[Refusal]) -> LauncherError:
    """Every offer was above the highest price: this one, the cheapest, is named with what would do."""
    highest = ask.need.max_price or Decimal(0)
    bids = f"; {target.no_bids}" if target.no_bids and not offer.spot else ""
    gpu = f" --gpu '{offer.gpu}'" if offer.gpu else ""
    least = usd(per_gpu(offer), MILL)
    details = []
    if target.instead:
        others = ", ".join(f"{one.gpu} at ${usd(per_gpu(one), MILL)}/h" for one in target.instead)
        details.append(f"At or below ${usd(highest, MILL)} there: {others}.")
    if target.fault is not None:
        details.append(f"That price is from {offer.price_source}: {target.fault.message}.")
    details += [f"{one.offer}: {one.reason}" for one in refused if one.offer != offer.id]
    return LauncherError(
        "no-offer",
        f"{too_dear(offer, highest).reason}{bids}",
        exit=Exit.NO_OFFER,
        hint=f"plan {ask.words} --on {target.name}{gpu} --max-price {least}{ask.tail}",
        details=tuple(details),
    )


def _no_offer(ask: Ask, asked: Sequence[Target], refused: Sequence[Refusal]) -> LauncherError:
    names = " or ".join(target.name for target in asked) or "this machine"
    anything = "GPU" if ask.job.needs_gpu else "offer for this need"
    if ask.need.gpu_count > 1:
        anything = f"{ask.need.gpu_count} GPUs of one kind"
    wanted = " or ".join(ask.need.gpus) or anything
    return LauncherError(
        "no-offer",
        f"{names} has no {wanted}",
        exit=Exit.NO_OFFER,
        hint=f"plan {ask.words} --gpu any-24gb{ask.tail}",
        details=tuple(f"{refusal.offer}: {refusal.reason}" for refusal in refused),
    )


def blocked(ask: Ask, target: Target) -> LauncherError:
    """Why a target whose prices are known cannot be run on."""
    return target.fault or usage(
        "target-not-available",
        f"this build cannot run anything on {target.name} yet; `plan` shows its prices",
        hint=f"plan {ask.words} --on {target.name}{ask.tail}",
    )


def too_small(ask: Ask, way: Way, limits: Limits, needed: Decimal, ceiling: Decimal) -> LauncherError:
    offer = way.offer
    what = f"{offer.gpu} on {offer.target}" if offer.gpu else offer.target
    phases = (
        (limits.boot_limit_s, "to start"),
        (limits.max_time_s, "to train"),
        (limits.salvage_s, "to save"),
        (way.overrun_s, "until it is surely gone"),
    )
    parts = ", ".join(f"{written_duration(seconds)} {purpose}" for seconds, purpose in phases)
    longest = ask.wishes.max_time_s
    time = f" --max-time {written_duration(longest)}" if longest is not None else ""
    return LauncherError(
        "ceiling-too-small",
        f"${usd(ceiling)} does not cover {what} at ${usd(offer.usd_per_hour, MILL)}/h: the smallest ceiling "
        f"that does is ${usd(needed)}",
        exit=Exit.LIMIT,
        hint=f"plan {ask.words} --on {offer.target}{_gpus(ask)} --max-cost {usd(needed)}{time}{ask.command}",
        details=(f"It must cover {parts}.",),
    )
