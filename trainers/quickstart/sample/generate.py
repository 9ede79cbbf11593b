"""Makes table.csv: shots at a goal with a hidden truth, so that a model can be judged against the best
any model could do. The same seed gives the same bytes on every machine (only `random.random` is used,
whose sequence Python guarantees).

    python -m trainers.quickstart.sample.generate > trainers/quickstart/sample/table.csv
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass

SEED = 20240817
ROWS = 6000
COLUMNS = (
    "distance", "angle", "defenders", "keeper_offset", "header", "counter",
    "pass_speed", "pressure", "minute", "score_diff", "wind", "goal",
)  # fmt: skip


@dataclass(frozen=True)
class Shot:
    values: tuple[float, ...]  # as COLUMNS without the last
    goal: int
    truth: float  # the chance of a goal that the outcome was drawn from; not in the table


def shots(seed: int = SEED, rows: int = ROWS) -> list[Shot]:
    draw = random.Random(seed).random
    return [_shot(draw) for _ in range(rows)]


def _shot(draw: Callable[[], float]) -> Shot:
    distance = round(4 + 32 * draw() ** 1.3, 1)
    angle = round(85 * draw(), 1)
    defenders = int(5 * draw() * draw() * 1.6)
    keeper_offset = round(3 * draw(), 2)
    header = int(draw() < 0.22)
    counter = int(draw() < 0.18)
    pass_speed = round(4 + 20 * draw(), 1)
    pressure = round(draw(), 2)
    minute = 1 + int(95 * draw())
    score_diff = int(5 * draw()) - 2
    wind = round(12 * draw(), 1)  # without any effect, as some columns of every real table
    truth = _truth(distance, angle, defenders, keeper_offset, header, counter, pass_speed, pressure, minute)
    values = (
        distance, angle, defenders, keeper_offset, header, counter,
        pass_speed, pressure, minute, score_diff, wind,
    )  # fmt: skip
    return Shot(values, int(draw() < truth), truth)


def _truth(
    distance: float, angle: float, defenders: int, keeper_offset: float, header: int, counter: int,
    pass_speed: float, pressure: float, minute: int,
) -> float:  # fmt: skip
    """Bends, thresholds and products: what trees find and a straight line does not."""
    opening = math.cos(math.radians(angle)) / (1 + distance / 9)
    score = -2.6 + 7.5 * opening - 0.55 * defenders + 0.7 * keeper_offset * (distance < 20)
    score -= 1.5 * header * (distance > 9) - 0.8 * header * (distance <= 6)
    score += 0.9 * counter * (defenders < 2) - 1.6 * pressure * (1 - 0.7 * counter)
    score -= 0.012 * (pass_speed - 12) ** 2
    score += 0.5 if minute > 80 else 0.0
    return 1 / (1 + math.exp(-1.4 * score))


def table(seed: int = SEED, rows: int = ROWS) -> str:
    lines = [",".join(COLUMNS)]
    lines += [",".join(f"{value:g}" for value in (*shot.values, shot.goal)) for shot in shots(seed, rows)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(table())
