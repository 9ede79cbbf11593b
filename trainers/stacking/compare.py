"""The same training with USE_GPU=0 and with USE_GPU=1, side by side: time, quality, dollars.

    python -m trainers.stacking bench [--usd-per-hour X] [--output DIR] [what else a training is told]

Each is a process of its own. Where no GPU works there is nothing to compare: that is said, and the processor
stands alone. Dollars are time by this machine's price (LAUNCHER_USD_PER_HOUR inside a run).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from argparse import ArgumentTypeError
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainers.kit.arguments import Arguments, dashed, number
from trainers.kit.files import write_json
from trainers.stacking import command, devices

CHOSEN = ("--device", "--require-gpu", "--checkpoint")  # by the comparison itself
DECIDING = ("DEVICE", "USE_GPU", "RETRAINING_USE_GPU", "LAUNCHER_REQUIRE_GPU")
BOOSTERS = ("xgboost", "lightgbm")


def run(argv: Sequence[str]) -> int:
    own = Arguments("stacking bench", "The same training with a GPU and without.")
    own.add_argument("--usd-per-hour", type=number(0, 10_000), help="price (default: LAUNCHER_USD_PER_HOUR)")
    own.add_argument("--output", help="folder for both results and bench.json (default: nothing is kept)")
    flags, rest = own.parse_known_args([dashed(word) for word in argv])
    taken = [word for word in rest if word.partition("=")[0] in CHOSEN]
    if taken:
        own.error(f"{taken[0]} is chosen by the comparison")
    command.arguments().read(rest)  # what is wrong there is said before anything runs
    usd = _price(own, flags.usd_per_hour)
    environ = {name: value for name, value in os.environ.items() if name not in DECIDING}
    seen = devices.look(environ)
    ways = {"USE_GPU=0": ()} if seen.xgboost == "cpu" else {"USE_GPU=0": (), "USE_GPU=1": ("--require-gpu",)}
    with tempfile.TemporaryDirectory(prefix="stacking-bench-") as scratch:
        place = Path(flags.output or scratch)
        rows = {}
        for way, more in ways.items():
            print(f"-- {way}", flush=True)
            status = _train(way, [*rest, *more], place / way, environ)
            if status:
                return status
            rows[way] = _row(place / way, usd)
        if flags.output:
            write_json(
                place / "bench.json", {"usd_per_hour": usd, "why_no_gpu": seen.why or None, "ways": rows}
            )
    for line in told(rows, seen.why):
        print(line, flush=True)
    return 0


def _price(own: Arguments, said: float | None) -> float | None:
    given = os.environ.get("LAUNCHER_USD_PER_HOUR")
    if said is not None or not given:
        return said
    try:
        return number(0, 10_000)(given)
    except ArgumentTypeError as wrong:
        own.error(f"LAUNCHER_USD_PER_HOUR: {wrong}")


def _train(way: str, words: Sequence[str], output: Path, environ: Mapping[str, str]) -> int:
    name, _, value = way.partition("=")
    line = [sys.executable, "-m", "trainers.stacking", *words, "--output", str(output)]
    line += ["--checkpoint", str(output / "checkpoints")]
    return subprocess.run(line, env={**environ, name: value}).returncode


def _row(output: Path, usd: float | None) -> dict[str, Any]:
    held = json.loads((output / "result.json").read_text())
    judged = held["judged"]
    seconds = float(held["seconds"])
    return {
        "device": held["device"]["name"] if held["device"]["used"] != "cpu" else "cpu",
        "used": held["devices"]["used"],
        "seconds": seconds,
        "booster_seconds": round(
            sum(task[learner]["seconds"] for task in held["learners"].values() for learner in BOOSTERS), 3
        ),
        "metrics": {name: held["metrics"][name] for name in (*judged["higher"], *judged["lower"])},
        "usd": None if usd is None else round(usd * seconds / 3600, 6),
    }


def told(rows: Mapping[str, dict[str, Any]], why: str) -> list[str]:
    """A line each, and what the GPU changed."""
    lines = [""]
    for way, row in rows.items():
        figures = "  ".join(f"{name} {value:.4f}" for name, value in row["metrics"].items())
        usd = "price unknown" if row["usd"] is None else f"${row['usd']:.4f}"
        lines.append(
            f"{way}  {row['device']:<8}  {row['seconds']:.1f} s  boosters {row['booster_seconds']:.1f} s"
            f"  {usd}  {figures}"
        )
    if "USE_GPU=1" not in rows:
        return [*lines, f"no GPU works here ({why}): there is nothing to hold the processor against"]
    slow, quick = rows["USE_GPU=0"], rows["USE_GPU=1"]
    times = slow["booster_seconds"] / max(quick["booster_seconds"], 1e-9)
    return [*lines, f"the boosters took {times:.1f} times as long without the GPU"]
