"""Pictures of a trained task as SVG, written by hand: they open in every browser and cost no library.

Of a class: ROC and precision over recall; of a number: what was predicted over what came. Always: which
features count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np

from trainers.kit.files import write
from trainers.stacking import scores
from trainers.stacking.settings import is_class
from trainers.stacking.table import Array

WIDTH, HEIGHT, EDGE = 460, 380, 56
COLOURS = ("#1b6ca8", "#c1440e", "#3a7d44", "#7b4b94", "#6b6b6b")
POINTS, BARS, TICKS = 400, 20, 5
Line = tuple[str, Array, Array]


def draw(
    folder: Path, task: str, target: Array, by_name: Mapping[str, Array], weight: Mapping[str, float]
) -> None:
    """`by_name`: scores of the rows that judge, the stack's first; `weight`: share by feature."""
    if is_class(task):
        ordered = {name: scores.roc(target, one) for name, one in by_name.items()}
        _save(
            folder / "roc.svg",
            _lines(_named(task, target, by_name, ordered), "false positives", "true positives"),
        )
        curves = {name: scores.precision_recall(target, one)[::-1] for name, one in by_name.items()}
        _save(
            folder / "precision_recall.svg",
            _lines([(n, *c) for n, c in curves.items()], "recall", "precision"),
        )
    else:
        _save(folder / "residuals.svg", _residuals(target, next(iter(by_name.values()))))
    _save(folder / "importances.svg", _bars(list(weight.items())[:BARS]))


def _named(
    task: str, target: Array, by_name: Mapping[str, Array], curves: Mapping[str, tuple[Array, Array]]
) -> list[Line]:
    return [(f"{n} {scores.auc(target, by_name[n]):.3f}", *curve) for n, curve in curves.items()]


def _save(path: Path, inside: Sequence[str]) -> None:
    height = HEIGHT
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}"'
        f' height="{height}" font-family="sans-serif" font-size="11">'
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>'
    )
    write(path, (head + "".join(inside) + "</svg>\n").encode())


class _Frame:
    """Values to places, with ticks and the two axes' names."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float], names: tuple[str, str]) -> None:
        self._x, self._y, self._names = x, y, names

    def place(self, x: Array, y: Array) -> tuple[Array, Array]:
        across = EDGE + (x - self._x[0]) / ((self._x[1] - self._x[0]) or 1) * (WIDTH - EDGE - 16)
        down = HEIGHT - EDGE - (y - self._y[0]) / ((self._y[1] - self._y[0]) or 1) * (HEIGHT - EDGE - 16)
        return across, down

    def drawn(self) -> list[str]:
        across, up = map(escape, self._names)
        turned = f"translate(14 {(HEIGHT - EDGE) / 2}) rotate(-90)"
        out = [
            f'<path d="M{EDGE} 16V{HEIGHT - EDGE}H{WIDTH - 16}" fill="none" stroke="#333"/>',
            f'<text x="{(WIDTH + EDGE) / 2}" y="{HEIGHT - 16}" text-anchor="middle">{across}</text>',
            f'<text transform="{turned}" text-anchor="middle">{up}</text>',
        ]
        for share in np.linspace(0, 1, TICKS):
            x = self._x[0] + share * (self._x[1] - self._x[0])
            y = self._y[0] + share * (self._y[1] - self._y[0])
            across, down = self.place(np.array(x), np.array(y))
            out.append(f'<text x="{across:.1f}" y="{HEIGHT - EDGE + 16}" text-anchor="middle">{x:.3g}</text>')
            out.append(f'<text x="{EDGE - 6}" y="{down + 4:.1f}" text-anchor="end">{y:.3g}</text>')
        return out


def _lines(lines: Sequence[Line], across: str, up: str) -> list[str]:
    frame = _Frame((0, 1), (0, 1), (across, up))
    out = frame.drawn()
    for at, (name, x, y) in enumerate(lines):
        some = np.unique(np.linspace(0, len(x) - 1, min(POINTS, len(x))).astype(int))
        places = zip(*frame.place(x[some], y[some]), strict=True)
        path = "L".join(f"{a:.1f} {b:.1f}" for a, b in places)
        colour = COLOURS[at % len(COLOURS)]
        out.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="{2 if at == 0 else 1}"/>')
        top = HEIGHT - EDGE - 12 - 15 * (len(lines) - 1 - at)
        out.append(
            f'<text x="{WIDTH - 20}" y="{top}" text-anchor="end" fill="{colour}">{escape(name)}</text>'
        )
    return out


def _residuals(target: Array, predicted: Array) -> list[str]:
    """Evenly chosen rows, and the line on which all of them should lie."""
    low = float(min(target.min(), predicted.min()))
    high = float(max(target.max(), predicted.max()))
    frame = _Frame((low, high), (low, high), ("predicted", "observed"))
    some = np.unique(np.linspace(0, len(target) - 1, min(3 * POINTS, len(target))).astype(int))
    points = zip(*frame.place(predicted[some], target[some]), strict=True)
    out = frame.drawn()
    out += [
        f'<circle cx="{a:.1f}" cy="{b:.1f}" r="1.6" fill="{COLOURS[0]}" fill-opacity="0.45"/>'
        for a, b in points
    ]
    (a, b), (c, d) = zip(*frame.place(np.array([low, high]), np.array([low, high])), strict=True)
    return [*out, f'<path d="M{a:.1f} {b:.1f}L{c:.1f} {d:.1f}" stroke="{COLOURS[1]}"/>']


def _bars(shares: Sequence[tuple[str, float]]) -> list[str]:
    most = max((share for _, share in shares), default=0.0) or 1.0
    step = (HEIGHT - 32) / max(len(shares), 1)
    out = []
    for at, (name, share) in enumerate(shares):
        top, long = 16 + at * step, share / most * (WIDTH - 200)
        shown = name if len(name) < 24 else name[:22] + "…"
        out.append(
            f'<rect x="150" y="{top:.1f}" width="{long:.1f}" height="{step * 0.7:.1f}" fill="{COLOURS[0]}"/>'
        )
        out.append(f'<text x="144" y="{top + step * 0.6:.1f}" text-anchor="end">{escape(shown)}</text>')
        out.append(f'<text x="{156 + long:.1f}" y="{top + step * 0.6:.1f}">{share:.3f}</text>')
    return out
