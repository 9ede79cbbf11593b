"""What a version's machine and trainer did, as pictures and rows: curves, load, money, the order of events.

Knows what the samples and events mean, nothing of the page they stand on.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import partial

from launcher.models import Json
from launcher.report import charts
from launcher.report.charts import Bar, Line, Mark, Point
from launcher.report.content import Content, costs, moment
from launcher.report.lines import duration, money
from launcher.report.markup import more, number, table

LINES = 8  # of one chart
MOMENTS, MARKS = 60, 100
MOMENT_BYTES = 16_000
SPLITS = {"train": 0, "": 0, "valid": 1, "validation": 1, "val": 1, "test": 2}


@dataclass(frozen=True)
class Room:
    """How much may be drawn. A spot is drawn as a line and a band: about thirty bytes."""

    spots: int = 2400  # of all curves together
    most: int = 300  # of one curve
    readings: int = 90  # spots of one reading of the machine
    charts: int = 24

    def half(self) -> Room:
        return Room(self.spots // 2, max(1, self.most // 2), max(1, self.readings // 2), self.charts // 2)


# --- curves --------------------------------------------------------------------------------------


def curves(content: Content, room: Room) -> str:
    """A metric with several splits is one chart; a metric of one moment is a figure, no curve."""
    moving = {n: s for n, s in content.course.items() if any(len(points) > 1 for points in s.values())}
    shown = list(moving.items())[: room.charts]
    drawn_lines = sum(min(LINES, len(splits)) for _, splits in shown)
    share = max(10, min(room.most, room.spots // max(1, drawn_lines)))
    drawn = [
        charts.chart(name or "(no name)", list(_splits(splits)), most=share, aside="by step")
        for name, splits in shown
    ]
    return _grid(drawn) + more(room.charts, len(moving), "metrics.jsonl")


def _splits(splits: dict[str, list[Point]]) -> Iterator[Line]:
    """The usual splits have their colour on every chart."""
    free = iter(range(3, 3 + LINES))
    for split in sorted(splits, key=lambda s: (SPLITS.get(s, 9), s))[:LINES]:
        points = splits[split]
        last = next((y for _, y in reversed(charts.ordered(points)) if y is not None), None)
        colour = SPLITS[split] if split in SPLITS else next(free)
        yield Line(split or "value", points, colour, number(last) if last is not None else "none")


def _grid(figures: Iterable[str]) -> str:
    body = "".join(figures)
    return f'<div class="charts">{body}</div>' if body else ""


# --- the machine ---------------------------------------------------------------------------------


def machine(content: Content, room: Room) -> str:
    across = _span(content)
    if across is None:
        return ""
    picture = partial(charts.chart, most=room.readings, ticks=charts.clock_ticks, across=across)
    gpus = max((len(s.gpu) for s in content.samples), default=0)
    cards = range(min(gpus, LINES))
    largest = max((g.mem_gb for s in content.samples for g in s.gpu if g.mem_gb is not None), default=None)
    memory = max((s.ram_gb for s in content.samples if s.ram_gb is not None), default=None)
    return _grid(
        (
            picture(
                "GPU busy",
                [_card(content, i, "util", "{:.0f} %") for i in cards],
                upright=(0, 100),
                aside="%",
            ),
            picture(
                "GPU memory",
                [_card(content, i, "mem_used_gb", "{:.1f} GB") for i in cards],
                upright=(0, largest) if largest else None,
                aside=f"GB of {number(largest)}" if largest else "GB",
            ),
            picture(
                "CPU busy", [_seen(content, "all cores", "cpu", 0, "{:.0f} %")], upright=(0, 100), aside="%"
            ),
            picture(
                "Memory",
                [
                    _seen(content, "machine", "ram_used_gb", 0, "{:.1f} GB"),
                    _seen(content, "trainer", "rss_gb", 1, "{:.1f} GB"),
                ],
                upright=(0, _highest(content)),
                aside=f"GB of {number(memory)}" if memory else "GB",
            ),
        )
    )


def _span(content: Content) -> tuple[float, float] | None:
    """Of everything that the machine told, so that its charts lie above one another."""
    origin = content.origin
    told = [e["when"] for e in content.events] + [w for s in content.samples if (w := moment(s.at))]
    return (0.0, (max(told) - origin).total_seconds()) if origin is not None else None


def _highest(content: Content) -> float:
    used = [x for s in content.samples for x in (s.ram_used_gb, s.rss_gb) if x is not None]
    return max(used, default=1.0) * 1.1 or 1.0


def _card(content: Content, i: int, key: str, form: str) -> Line:
    name = next((s.gpu[i].mig or s.gpu[i].name for s in content.samples if len(s.gpu) > i), None)
    values = [getattr(s.gpu[i], key) if len(s.gpu) > i else None for s in content.samples]
    return _line(content, f"{i}: {name}" if name else str(i), values, i, form)


def _seen(content: Content, name: str, key: str, colour: int, form: str) -> Line:
    return _line(content, name, [getattr(s, key) for s in content.samples], colour, form)


def _line(content: Content, name: str, values: Sequence[float | None], colour: int, form: str) -> Line:
    """Told by its mean: the last moment of a machine says little. The first readings are often none."""
    at = [moment(s.at) for s in content.samples]
    begin = content.origin
    points = [
        ((when - begin).total_seconds(), value)
        for when, value in zip(at, values, strict=True)
        if when is not None and begin is not None
    ]
    first = next((i for i, (_, value) in enumerate(points) if value is not None), len(points))
    known = [value for _, value in points if value is not None]
    mean = "mean " + form.format(sum(known) / len(known)) if known else ""
    return Line(name, points[first:], colour, mean)


# --- what happened when --------------------------------------------------------------------------


def time_line(content: Content, room: Room) -> str:
    origin, across = content.origin, _span(content)
    if origin is None or across is None:
        return ""

    def at(event: Json) -> float:
        return float((event["when"] - origin).total_seconds())

    stretches = (("setting up", "hello", "started", 7), ("training", "started", "exited", 0))
    bars = [
        Bar(name, at(begin), at(end), colour, duration(max(0.0, at(end) - at(begin))))
        for name, first, last, colour in (*stretches, ("sealing", "exited", "sealed", 2))
        if (begin := content.first(first)) and (end := content.last(last))
    ]
    told = [e for e in content.events if _told(e)]
    marks = [Mark(_told(e), at(e), e["ev"] == "warned") for e in told if e["ev"] in ("checkpoint", "warned")]
    rows = [(f"{e['when']:%H:%M:%S}", duration(max(0.0, at(e))), _told(e)) for e in told]
    shown = rows if len(rows) <= MOMENTS else rows[: MOMENTS // 2] + rows[-MOMENTS // 2 :]
    return (
        _grid((charts.strip("The finishing machine", bars, marks[:MARKS], across), _cost(content, room)))
        + table(("UTC", "after", "what"), shown, ("n", "n", ""), MOMENT_BYTES)
        + more(len(shown), len(rows), ".launcher/events.jsonl")
        + _attempts(content)
    )


def _cost(content: Content, room: Room) -> str:
    bill = costs(content)
    spent = money(Decimal(str(round(bill[-1][1] or 0, 6)))) if bill else ""
    return charts.chart(
        "Cost",
        [Line("spent", bill, 2, spent)],
        most=room.readings,
        ticks=charts.clock_ticks,
        aside="USD since the first machine was asked for",
    )


def _told(event: Json) -> str:
    """A line of the agent in a person's words; empty for those that are between machines."""
    get = event.get
    words = {
        "hello": f"the machine answered ({get('platform')}, python {get('python')})",
        "armed": f"its guard was armed: {_list(get('layers'))}",
        "prepared": f"the environment was made, status {get('exit_code')}",
        "refused": f"refused to start: {get('message') or get('why')}",
        "started": f"the trainer started as process {get('pid')}",
        "checkpoint": f"checkpoint {get('name')}{'' if get('complete', True) else ', not complete'}",
        "warned": f"warning: {get('message')}",
        "stopping": f"asked to leave: {get('why')}",
        "exited": f"the trainer left, status {get('exit_code')}"
        + (f", signal {signal_words(get('signal'))}" if get("signal") is not None else ""),
        "sealed": f"the output was sealed: {get('count')} files, {_count(get('bytes'))} bytes",
        "ending": f"the machine's end: {get('why')}",
    }
    return words.get(event["ev"], "")


def _count(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _list(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _attempts(content: Content) -> str:
    """Every machine of the run, where its own facts are still in the data folder."""
    state = content.state
    if state is None:
        return ""
    rows = [
        (
            a.n,
            state.plan.choices[a.choice].offer.id,
            a.instance or "none",
            _clock(a.asked_at),
            _clock(a.started_at),
            _clock(a.gone_at),
            f"{money(a.usd_per_hour)}/h",
            a.over or "",
        )
        for a in state.attempts[-MOMENTS:]
    ]
    head = ("attempt", "offer", "instance", "asked for", "started", "gone", "rate", "why it ended")
    return "<h3>Attempts</h3>" + table(head, rows, ("n", "", "m", "n", "n", "n", "n", ""), MOMENT_BYTES)


def _clock(at: datetime | None) -> str:
    return f"{at:%H:%M:%S}" if at is not None else "–"


def signal_words(said: object) -> str:
    try:
        return f"{said} ({signal.Signals(int(str(said))).name})"
    except ValueError:
        return str(said)
