"""Champion and challenger: whether one version beats another, by what their trainers say of themselves.

A trainer whose versions may be compared names in `result.json` the rows that it was judged on and the metrics
that count there, by what is better: `"judged": {"holdout": DIGEST, "higher": [NAMES], "lower": [NAMES]}`.
Only figures of the same rows are held against each other. A version with several models beats another when
none of its figures is worse and one is better.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from launcher.models import Json


class Verdict(Enum):
    BETTER = "better"
    NOT_BETTER = "not better"
    UNLIKE = "unlike"  # not the same rows, or not the same metrics
    UNJUDGED = "unjudged"  # neither of the two says what it was judged on


@dataclass(frozen=True)
class Duel:
    verdict: Verdict
    lines: tuple[str, ...] = ()  # a figure each with both values, or why there is nothing to compare


@dataclass(frozen=True)
class _Judged:
    holdout: str
    scores: Mapping[str, tuple[float, bool]]  # value, and whether higher is better


def duel(challenger: Json, champion: Json) -> Duel:
    """Of two manifests."""
    new, old = _judged(challenger), _judged(champion)
    if new is None and old is None:
        return Duel(Verdict.UNJUDGED)
    if new is None or old is None:
        return Duel(Verdict.UNLIKE, (f"the {'new' if new is None else 'current'} one names no hold-out",))
    if new.holdout != old.holdout:
        return Duel(
            Verdict.UNLIKE, (f"judged on other rows: hold-out {new.holdout[:12]}, not {old.holdout[:12]}",)
        )
    if {n: s[1] for n, s in new.scores.items()} != {n: s[1] for n, s in old.scores.items()}:
        return Duel(Verdict.UNLIKE, (f"judged by {_names(new)}, not by {_names(old)}",))
    gains = {n: (s[0] - old.scores[n][0]) * (1 if s[1] else -1) for n, s in new.scores.items()}
    better = min(gains.values()) >= 0 and max(gains.values()) > 0
    lines = tuple(_line(name, new.scores[name], old.scores[name][0]) for name in new.scores)
    return Duel(Verdict.BETTER if better else Verdict.NOT_BETTER, lines)


def _judged(manifest: Json) -> _Judged | None:
    """None where the trainer named nothing that can be read, or no number for what it named."""
    said, values = manifest.get("judged"), manifest.get("metrics")
    if not isinstance(said, dict) or not isinstance(values, dict) or not isinstance(said.get("holdout"), str):
        return None
    named = {str(n): way == "higher" for way in ("higher", "lower") for n in _list(said.get(way))}
    scores = {n: (float(values[n]), up) for n, up in named.items() if _is_number(values.get(n))}
    return _Judged(said["holdout"], scores) if named and len(scores) == len(named) else None


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _names(one: _Judged) -> str:
    return ", ".join(f"{name} ({_way(score[1])})" for name, score in one.scores.items())


def _line(name: str, new: tuple[float, bool], old: float) -> str:
    value, up = new
    shown = [f"{x:.6g}" for x in (value, old)]
    if shown[0] == shown[1] and value != old:
        shown = [repr(value), repr(old)]
    return f"{name} {shown[0]} against {shown[1]}, {_way(up)} is better"


def _way(up: bool) -> str:
    return "higher" if up else "lower"
