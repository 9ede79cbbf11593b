"""The words of a view: a run's present state as short texts, the same for the meter, `watch` and a pipe."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from launcher import guard, telemetry
from launcher.models import Offer, State
from launcher.remote.channel import harmless
from launcher.report.view import RunView
from launcher.runstate import Attempt

PROOF_S = 20.0  # a wait that a person wonders about


def money(usd: Decimal | float) -> str:
    return f"${usd:.2f}" if usd == 0 or usd >= Decimal("0.01") else f"${usd:.4f}"


def device_used(told: object) -> str:
    """The trainer's own word for what it really used; empty where it said none."""
    if not isinstance(told, dict):
        return str(told or "")
    used, name = told.get("used"), told.get("name")
    if used is None:
        return ""
    return f"{used} ({name})" if name and name != used else str(used)


def duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def clock(at: datetime, now: datetime) -> str:
    """The reader's own time of day, with the date when it is another one."""
    mine = at.astimezone()
    return f"{mine:%H:%M}" if mine.date() == now.astimezone().date() else f"{mine:%m-%d %H:%M}"


def number(value: float) -> str:
    return f"{value:.4g}"


def progress(sample: telemetry.Sample | None) -> list[str]:
    """What the trainer says of itself: the step and up to three of its metrics."""
    if sample is None:
        return []
    step = [f"step {number(sample.step)}"] if sample.step is not None else []
    return step + [
        f"{k} {number(v) if v is not None else 'NaN'}" for k, v in list(sample.metrics.items())[:3]
    ]


def device(sample: telemetry.Sample | None) -> list[str]:
    if sample is None:
        return []
    parts = []
    for gpu in sample.gpu:
        if gpu.util is not None:
            parts.append(f"GPU {gpu.util:.0f} %")
        if gpu.mem_used_gb is not None and gpu.mem_gb is not None:
            parts.append(f"{gpu.mem_used_gb:.1f}/{gpu.mem_gb:.0f} GB")
    if sample.cpu is not None:
        parts.append(f"CPU {sample.cpu:.0f} %")
    if sample.ram_used_gb is not None and sample.ram_gb is not None:
        parts.append(f"RAM {sample.ram_used_gb:.1f}/{sample.ram_gb:.0f} GB")
    return parts


def cost(view: RunView, now: datetime) -> list[str]:
    """So far, the forecast for the time that is still allowed, and the ceiling."""
    a = view.attempt
    if a is None or not view.offer.bills:
        return ["$0.00"]
    so_far = view.usd(now)
    forecast = so_far + (guard.spent(a.usd_per_hour, now, a.d, 1) if a.open and now < a.d else Decimal(0))
    ceiling = f" of {money(view.state.max_cost)}" if view.state.max_cost is not None else ""
    return [f"{money(so_far)}{ceiling}", f"at most {money(forecast)}", f"{money(a.usd_per_hour)}/h"]


def end(view: RunView, now: datetime) -> list[str]:
    a = view.live
    return [f"ends by {clock(a.d, now)}"] if a is not None else []


def untimed(view: RunView, otherwise: str) -> str:
    """Of a trainer whose time nobody knows; `otherwise`: it never ran."""
    return "not known until its results are here" if view.state.started_at is not None else otherwise


def silence(view: RunView, now: datetime) -> str | None:
    """A line that is cut stops what is seen, and nothing else."""
    silent_s = view.silent_s(now)
    return f"{view.offer.target} not heard for {duration(silent_s)}" if silent_s is not None else None


def ending(view: RunView, now: datetime) -> str | None:
    """What is waited for once a rented machine was asked to end, where that takes its time."""
    a = view.attempt
    if a is None or not (a.open and view.offer.bills) or a.end_asked_at is None or a.proof_at is None:
        return None
    if (a.proof_at - a.end_asked_at).total_seconds() < PROOF_S:
        return None
    return f"asked to end; from {clock(a.proof_at, now)} on {view.offer.target}'s list can prove it"


def called(offer: Offer) -> str:
    """What was tried, told apart from the other offers of its target."""
    where = ", ".join(filter(None, (offer.cloud, offer.region)))
    if not where:
        return offer.target
    gpu = f"{offer.gpu_count} x {offer.gpu}" if offer.gpu_count > 1 else offer.gpu
    return " ".join(filter(None, (offer.target, gpu, f"({where})")))


def passed_over(view: RunView, first: int) -> list[str]:
    """Why each machine from that one on, the present one left out, did not do, and which is asked next."""
    found, attempts = [], view.state.attempts
    for a, after in zip(attempts[first:], attempts[first + 1 :], strict=False):
        offer, following = (view.plan.choices[one.choice].offer for one in (a, after))
        lost = "; `stop` ends the run itself" if a.started_at is not None and offer.bills else ""
        found.append(f"{_failed(offer, a)}; next: {called(following)}{lost}")
    return found


def other_refusals(view: RunView) -> list[str]:
    """Of a run that no machine would have: what each one before the last said. The last one's words stand
    above, and may be the least telling."""
    last = view.why() or ""
    told = dict.fromkeys(
        _failed(view.plan.choices[a.choice].offer, a) for a in view.state.attempts[:-1] if a.over
    )
    return [one for one in told if one != last and last not in one]


def _failed(offer: Offer, a: Attempt) -> str:
    """Of which machine it is told; one target may have several kinds of them."""
    why, name = (a.over or "given up").rstrip("."), called(offer)
    why = "the machine was told to stop, and not by this run" if why == "preempted" else why
    if name != offer.target:
        return f"{name}: {why}"
    of = offer.target if offer.gpu is None else f"{offer.target}, {offer.gpu}"
    if offer.target not in why:
        return f"{of}: {why}"
    return why if offer.gpu is None or offer.gpu in why else f"{offer.gpu}: {why}"


def tried(view: RunView) -> list[str]:
    """Every machine that did not do, the last one too."""
    return [
        _failed(view.plan.choices[a.choice].offer, a)
        for a in view.state.attempts
        if a.over is not None and a.sealed is None
    ]


def storage(view: RunView) -> Decimal | None:
    """USD per day of a machine that sleeps with what may be results."""
    a = view.attempt
    return a.storage_usd_per_hour * 24 if a is not None and a.asleep else None


def billed(view: RunView) -> str | None:
    """What the provider's own books say, beside what was counted here."""
    told = view.state.billed
    if told is None:
        return None
    counted = view.state.counted
    difference = told - counted
    if abs(difference) < Decimal("0.005"):
        return f"{money(told)} in the provider's books so far, as counted here"
    more = "more" if difference > 0 else "less"
    return f"{money(told)} in the provider's books so far, {money(abs(difference))} {more} than counted here"


def meter(view: RunView, now: datetime, width: int | None = None) -> str:
    """One line that says it all. Where it does not fit, money and end stay and metrics go, the last first."""
    state = view.shown(now)
    always = [*cost(view, now)[:1], *end(view, now)]
    if state is not State.RUNNING:
        return " · ".join([view.plan.run, ending(view, now) or state.value, *always])
    sample = view.sample()
    said, used = progress(sample), device(sample)[:3]
    if quiet := silence(view, now):
        said, used = [quiet], []
    while True:
        line = " · ".join([view.plan.run, *said, *used, *always])
        if width is None or len(line) <= width or not (said or used):
            return line
        (said if len(said) > 1 or not used else used).pop()


def board(view: RunView, now: datetime) -> list[str]:
    """`watch`: a few labelled lines."""
    sample = view.sample()
    seconds = view.seconds(now)
    took = [duration(seconds)] if seconds is not None else []
    rows = [
        ("run", f"{view.plan.run}  {view.shown(now).value}  on {view.offer.target}"),
        ("progress", " · ".join(progress(sample)) or view.last_line() or "nothing said yet"),
        ("machine", " · ".join(device(sample)) or "no sample yet"),
        ("money", " · ".join(cost(view, now))),
        ("time", " · ".join([*took, *end(view, now)]) or untimed(view, "not started")),
    ]
    if quiet := silence(view, now):
        rows.append(("line", f"{quiet}; the run goes on there"))
    if view.state.halted is not None:
        rows.append(("stopped", "nobody drives it: a person has to look first"))
    if (kept := storage(view)) is not None:
        rows.append(("stopped", f"{view.offer.target} keeps the machine's disk for {money(kept)}/day"))
    if (books := billed(view)) is not None:
        rows.append(("billed", books))
    if warned := view.warnings():
        rows.append(("warning", warned[-1]))
    return [f"  {name:<9} {text}" for name, text in rows]


def is_unknown(view: RunView) -> bool:
    """Of a machine that may bill: whether it was made at all."""
    a = view.attempt
    return a is not None and a.instance is None and a.end_asked_at is None


def attention(view: RunView, now: datetime, prog: str) -> str | None:
    """A run without a living engine: what it is, what it costs, when it ends by itself, how to go on."""
    name, state, a = view.plan.run, view.shown(now), view.live
    halted = view.state.halted
    if state is State.WAITING and halted is None:
        kept = storage(view)
        where = f" on a stopped machine ({money(kept)}/day of storage)" if kept is not None else ""
        return f"{name}: results wait{where}; fetch: {prog} pull {name}"
    if state is State.MAYBE_BILLING:
        why = f" ({harmless(halted.why.encode())})" if halted is not None else ""
        what = "look again" if is_unknown(view) else "end it"
        return f"{name}: may still be billing{why}; {what}: {prog} resume {name}"
    if state not in (State.INTERRUPTED, State.WAITING):
        return None
    end = ""
    if a is not None:
        # Nobody was asked: it may sleep by now, or be gone.
        rate = f"{money(a.usd_per_hour)}/h while it runs" if view.offer.bills else "$0"
        end = f"; its machine, {rate}, {'ends' if now < a.d else 'was to end'} itself by {clock(a.d, now)}"
    why = harmless(halted.why.encode()) if halted is not None else "its engine died"
    return f"{name}: {why}{end}; go on: {prog} resume {name}"
