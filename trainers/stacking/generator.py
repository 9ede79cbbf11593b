"""Tables with a hidden truth: price moves whose chance and size are known before noise is drawn, so that a
model can be judged against the best that any model could do.

    python -m trainers.stacking.generator [ROWS] > table.csv
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainers.stacking.table import Array, Schema

SEED = 20240817
ROWS = 6000
SAMPLE_ROWS = 400
NAMES = (
    "momentum", "trend", "volatility", "spread", "volume", "imbalance",
    "gap", "skew", "hour", "weekday", "depth", "age",
)  # fmt: skip
SCHEMA = Schema(time="at", group="symbol")
NOISE = {"up": 0.6, "down": 0.6, "high": 0.8}


@dataclass(frozen=True)
class Made:
    columns: Mapping[str, Array]  # features, targets, `at` and `symbol`
    truth: Mapping[str, Array]  # by task: the chance, and the three expected values

    def arrow(self) -> Any:
        import pyarrow as pa

        return pa.table(dict(self.columns))


def made(
    rows: int = ROWS, seed: int = SEED, columns: int = len(NAMES), missing: float = 0.03, share: float = 0.35
) -> Made:
    """`columns` beyond the named ones are without any effect; `share` is about how often the class is 1."""
    draw = np.random.default_rng(seed)
    more = max(0, columns - len(NAMES))
    values = draw.standard_normal((rows, len(NAMES) + more), dtype=np.float32)
    names = [*NAMES, *(f"other_{at + 1}" for at in range(more))]
    feature = dict(zip(names, values.T, strict=True))
    feature["hour"] = draw.integers(0, 24, rows).astype(np.float32)
    feature["weekday"] = draw.integers(0, 5, rows).astype(np.float32)
    feature["volatility"] = np.exp(0.4 * feature["volatility"])
    truth = _truth(feature, share)
    noise = {task: size * draw.standard_normal(rows) for task, size in NOISE.items()}
    targets = {task: truth[task] + noise[task] for task in NOISE}
    targets["classifier"] = (draw.random(rows) < truth["classifier"]).astype(np.float64)
    symbol = draw.integers(0, max(8, min(60, rows // 50)), rows)
    for name in NAMES[: len(NAMES) // 2]:  # values are lost after the truth was made of them
        feature[name] = np.where(draw.random(rows) < missing, np.float32(np.nan), feature[name])
    table = {**feature, **targets, "at": np.arange(rows), "symbol": np.char.add("S", symbol.astype(str))}
    return Made(table, truth)


def _truth(x: Mapping[str, Array], share: float) -> dict[str, Array]:
    """Straight parts for the ridge; bends, thresholds and products for the trees."""
    wild = x["volatility"]
    pull = 0.9 * x["momentum"] + 0.5 * x["trend"] - 0.4 * x["spread"]
    pull += 0.8 * x["imbalance"] * (x["volume"] > 0.3) - 0.7 * (x["gap"] ** 2 > 1.5)
    pull += 0.5 * np.sin(x["hour"] / 24 * 2 * np.pi) + 0.4 * (x["weekday"] == 4)
    bias = float(np.log(share / (1 - share)))
    return {
        "classifier": 1 / (1 + np.exp(-(1.3 * pull + bias))).astype(np.float64),
        "up": (wild * (0.8 + 0.5 * np.tanh(pull)) + 0.2 * np.abs(x["skew"])).astype(np.float64),
        "down": (wild * (0.8 - 0.5 * np.tanh(pull)) + 0.2 * np.abs(x["gap"])).astype(np.float64),
        "high": (0.9 * pull + 0.6 * wild * (x["momentum"] > 0) + 0.3 * x["depth"]).astype(np.float64),
    }


def as_csv(columns: Mapping[str, Array]) -> str:
    def shown(value: Any) -> str:
        if isinstance(value, str):
            return value
        return "" if value != value else f"{value:.6g}"

    lines = [",".join(columns)]
    lines += [",".join(map(shown, row)) for row in zip(*(c.tolist() for c in columns.values()), strict=True)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(as_csv(made(int(sys.argv[1]) if sys.argv[1:] else SAMPLE_ROWS).columns))
