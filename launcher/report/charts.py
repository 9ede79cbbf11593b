"""Lines and bars as inline SVG: scales, ticks, thinning. Numbers in, markup out.

Knows nothing of runs, units of money or files. No script and no style attribute: colours are classes
(c0, c1 …) that the page's sheet explains, so that light and dark are the reader's choice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from launcher.report.markup import NAME, text

Point = tuple[float, float | None]  # None: there was no number, the line has a gap

WIDTH, HEIGHT = 480, 200
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 8, 24
COLOURS = 8
FARTHEST = 1e150  # beyond it differences are no numbers any more
X_TICKS, Y_TICKS = 5, 5
CLOCK_STEPS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 10800, 21600, 43200, 86400)


@dataclass(frozen=True)
class Line:
    name: str
    points: Sequence[Point]
    colour: int = 0
    last: str = ""  # how the legend tells its end


@dataclass(frozen=True)
class Scale:
    """From values to a stretch of the picture, and where its ticks are."""

    low: float
    high: float
    begin: float
    end: float
    ticks: tuple[tuple[float, str], ...]

    def __call__(self, value: float) -> float:
        return self.begin + (value - self.low) / (self.high - self.low) * (self.end - self.begin)


# --- scales ------------------------------------------------------------------------------------


def spread(low: float, high: float, room: float = 0.0) -> tuple[float, float]:
    """A range that has a length, with some air on both sides."""
    if high - low <= max(abs(low), abs(high)) * 1e-9 or high - low < 1e-290:
        air = max(abs(low), abs(high)) * 0.05 or 1.0
        return low - air, high + air
    return low - (high - low) * room, high + (high - low) * room


def nice(low: float, high: float, about: int) -> list[float]:
    """Round numbers within the range, at a step of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((k * power for k in (1, 2, 5) if k * power >= rough * 0.7), 10 * power)
    first = math.ceil(low / step - 1e-9)
    return [(first + i) * step for i in range(about * 3) if (first + i) * step <= high + step * 1e-9]


def written(values: Sequence[float]) -> list[str]:
    """Tick labels of one axis: all with the same number of decimals, and short."""
    step = min((b - a for a, b in pairwise(values)), default=abs(values[0]) if values else 0) or 1.0
    most = max(map(abs, values), default=0.0)
    for least, unit, letter in ((1e12, 1e12, "T"), (1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if least <= most < 1e15:
            return [_plain(v / unit, step / unit) + letter if v else "0" for v in values]
    if most >= 1e15 or most < 1e-4:
        return [f"{v:.2g}" for v in values]
    return [_plain(v, step) for v in values]


def _plain(value: float, step: float) -> str:
    decimals = min(6, max(0, -math.floor(math.log10(step) + 1e-9)))
    return f"{value:.{decimals}f}".replace("-0", "0") if abs(value) < step / 2 else f"{value:.{decimals}f}"


def number_ticks(low: float, high: float, about: int) -> tuple[tuple[float, str], ...]:
    values = nice(low, high, about)
    return tuple(zip(values, written(values), strict=True))


def step_ticks(low: float, high: float) -> tuple[tuple[float, str], ...]:
    """Steps are counted: no ticks between them."""
    values = [v for v in nice(low, high, X_TICKS) if high - low < 1 or v == round(v)]
    return tuple(zip(values, written(values), strict=True))


def clock_ticks(low: float, high: float) -> tuple[tuple[float, str], ...]:
    """Seconds at steps that a clock has."""
    rough = (high - low) / X_TICKS
    step = next((s for s in CLOCK_STEPS if s >= rough), math.ceil(rough / 86400) * 86400)
    unit, word = next((u, w) for u, w in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")) if step >= u)
    first = math.ceil(low / step - 1e-9)
    values = [(first + i) * step for i in range(X_TICKS + 2) if (first + i) * step <= high * (1 + 1e-9)]
    return tuple((float(v), f"{v / unit:g} {word}" if v else "0") for v in values)


# --- points ------------------------------------------------------------------------------------


def ordered(points: Sequence[Point]) -> list[Point]:
    """By x; of several at one place the last one said counts: a resumed trainer measures again."""
    said = {x: y for x, y in points if abs(x) < FARTHEST}
    return [(x, y if y is not None and abs(y) < FARTHEST else None) for x, y in sorted(said.items())]


@dataclass(frozen=True)
class Spot:
    """A point as it is drawn: of several that fall together the lowest, the mean and the highest."""

    x: float
    low: float
    mean: float
    high: float


def thinned(points: Sequence[Point], most: int) -> list[Spot | None]:
    """At most `most` spots, and None for a gap wherever one was. The points are in the order of x."""
    if len(points) <= most:
        return [Spot(x, y, y, y) if y is not None else None for x, y in points]
    first, length = points[0][0], points[-1][0] - points[0][0]
    buckets: dict[int, list[Point]] = {}
    for point in points:
        buckets.setdefault(min(most - 1, int((point[0] - first) / length * most)), []).append(point)
    return [spot for bucket in buckets.values() for spot in _together(bucket)]


def _together(bucket: Sequence[Point]) -> Iterator[Spot | None]:
    numbers = [(x, y) for x, y in bucket if y is not None]
    if numbers:
        ys = [y for _, y in numbers]
        yield Spot(_mean([x for x, _ in numbers]), min(ys), _mean(ys), max(ys))
    if len(numbers) < len(bucket):
        yield None


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def curve(spots: Sequence[Spot | None], x: Scale, y: Scale, colour: str) -> str:
    """Each stretch of numbers is a line of its own, its spread a band behind it; a lone one is a dot."""
    stretches: list[list[Spot]] = [[]]
    for spot in spots:
        if spot is None:
            stretches.append([])
        else:
            stretches[-1].append(spot)
    drawn = [s for s in stretches if len(s) > 1]
    dots = [s[0] for s in stretches if len(s) == 1]
    bands = "".join(_band(s, x, y) for s in drawn if any(p.low < p.high for p in s))
    lines = "".join("M" + _trail([(p.x, p.mean) for p in s], x, y) for s in drawn)
    lone = "".join(f"M{_trail([(p.x, p.mean)], x, y)}h0" for p in dots)
    kinds = (("band", bands), ("line", lines), ("dot", lone))
    return "".join(f'<path class="{kind} {colour}" d="{d}"/>' for kind, d in kinds if d)


def _band(stretch: Sequence[Spot], x: Scale, y: Scale) -> str:
    there = [(p.x, p.high) for p in stretch]
    back = [(p.x, p.low) for p in reversed(stretch)]
    return f"M{_trail(there + back, x, y)}Z"


def _trail(points: Sequence[tuple[float, float]], x: Scale, y: Scale) -> str:
    return "L".join(f"{_short(x(at))} {_short(y(value))}" for at, value in points)


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


# --- pictures ----------------------------------------------------------------------------------


def chart(
    title: str,
    lines: Sequence[Line],
    *,
    most: int,
    ticks: Callable[[float, float], tuple[tuple[float, str], ...]] = step_ticks,
    across: tuple[float, float] | None = None,
    upright: tuple[float, float] | None = None,
    aside: str = "",
) -> str:
    """One figure; `most` spots a line. Lines without any number are only named; without a single number
    there is no chart."""
    tidy = [(line, ordered(line.points)) for line in lines]
    xs = [x for _, points in tidy for x, _ in points]
    ys = [y for _, points in tidy for _, y in points if y is not None]
    if not ys:
        return ""
    low, high = spread(*(across or (min(xs), max(xs))))
    x = Scale(low, high, LEFT, WIDTH - RIGHT, ticks(low, high))
    bottom, top = spread(*upright) if upright else spread(min(ys), max(ys), 0.06)
    y = Scale(bottom, top, HEIGHT - BOTTOM, TOP, number_ticks(bottom, top, Y_TICKS))
    drawn = "".join(curve(thinned(points, most), x, y, f"c{line.colour % COLOURS}") for line, points in tidy)
    keys = [_key(line, points) for line, points in tidy]
    return _figure(title, aside, HEIGHT, _grid(x, y) + drawn, keys)


def _key(line: Line, points: Sequence[Point]) -> str:
    gaps = sum(1 for _, y in points if y is None)
    told = f"<b>{text(line.last)}</b>" if line.last else ""
    odd = f'<em class="odd">{gaps} without a number</em>' if gaps else ""
    return f'<li><i class="key c{line.colour % COLOURS}"></i>{text(line.name, NAME)} {told}{odd}</li>'


def _grid(x: Scale, y: Scale) -> str:
    right, floor = WIDTH - RIGHT, HEIGHT - BOTTOM
    rows = "".join(
        f'<path class="rule" d="M{LEFT} {_short(y(v))}H{right}"/>'
        f'<text class="tick" x="{LEFT - 7}" y="{_short(y(v) + 4)}" text-anchor="end">{text(label)}</text>'
        for v, label in y.ticks
    )
    return rows + _foot(x, floor)


def _foot(x: Scale, floor: float) -> str:
    right = WIDTH - RIGHT
    columns = "".join(
        f'<path class="axis" d="M{_short(x(v))} {floor}v4"/>'
        f'<text class="tick" x="{_short(x(v))}" y="{floor + 17}" text-anchor="{_anchor(x(v), right)}">'
        f"{text(label)}</text>"
        for v, label in x.ticks
    )
    return f'<path class="axis" d="M{LEFT} {floor}H{right}"/>{columns}'


def _anchor(at: float, right: float) -> str:
    return "end" if at > right - 12 else "middle"


def _figure(title: str, aside: str, height: int, inside: str, keys: Sequence[str]) -> str:
    small = f"<small>{text(aside)}</small>" if aside else ""
    legend = f'<ul class="legend">{"".join(keys)}</ul>' if keys else ""
    return (
        f'<figure class="chart"><figcaption>{text(title, NAME)} {small}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{text(title, NAME)}">{inside}</svg>'
        f"{legend}</figure>"
    )


@dataclass(frozen=True)
class Bar:
    name: str
    begin: float
    end: float
    colour: int
    told: str


@dataclass(frozen=True)
class Mark:
    name: str
    at: float
    odd: bool = False


def strip(title: str, bars: Sequence[Bar], marks: Sequence[Mark], across: tuple[float, float]) -> str:
    """What happened after what, on one line: bars for stretches, marks for moments."""
    low, high = spread(*across)
    x = Scale(low, high, LEFT, WIDTH - RIGHT, clock_ticks(low, high))
    drawn = "".join(
        f'<rect class="bar c{b.colour}" x="{_short(x(b.begin))}" y="20" height="26" '
        f'width="{_short(max(1.0, x(b.end) - x(b.begin)))}" rx="2"><title>{text(b.name, NAME)}</title></rect>'
        for b in bars
    )
    drawn += "".join(
        f'<path class="{"mark odd" if m.odd else "mark"}" d="M{_short(x(m.at))} 8l4 8h-8z">'
        f"<title>{text(m.name, NAME)}</title></path>"
        for m in marks
    )
    keys = [f'<li><i class="key c{b.colour}"></i>{text(b.name)} <b>{text(b.told)}</b></li>' for b in bars]
    kinds = {"warning" if m.odd else "checkpoint": sum(1 for n in marks if n.odd == m.odd) for m in marks}
    keys += [
        f'<li><i class="peak{" odd" * (k == "warning")}"></i>{k} <b>{n}</b></li>' for k, n in kinds.items()
    ]
    return _figure(title, "", 80, drawn + _foot(x, 56), keys)
