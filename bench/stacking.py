"""The trainer stacking against scikit-learn's StackingClassifier and StackingRegressor: the same learners
with the same settings on the same rows, a classifier and three regressors, whole programs in turn.

    python bench/stacking.py --runs 1

Both run in the trainer's environment and read the same file. Of ours the whole command counts, with models,
checkpoints and pictures; of the peer the fits and the answers for the rows held out. Early stopping, which
the peer does not have, is off in `ours` and on in `as it comes`. Threads wait asleep, on both sides: what
they spin away on a shared machine is nobody's work.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from measure import ROOT, Took, arguments, clean_env, interleaved, once, report, scratch

sys.path.insert(0, str(ROOT))

from launcher.agent.envs import Order, make
from launcher.agent.reqset import read

PEER = ROOT / "bench" / "stacking_peer.py"
TASKS = ("classifier", "up", "down", "high")
FULL, SMALL = (20_000, 30, 200, 100), (400, 12, 5, 20)  # rows (half of them judge), columns, rounds, trees
BOUNDS = {
    "CPU, ours / peer": 0.4,
    "CPU, as it comes / peer": 0.4,
    "peak memory, ours / peer": 1.0,
    **{f"{task}, {way} worse by": 0.002 for way in ("ours", "as it comes") for task in TASKS},
}


def main() -> int:
    args = arguments(__doc__ or "")
    wanted = read(ROOT / "trainers" / "stacking" / "requirements.txt", None)
    python = make(Order(wanted, sys.executable, ROOT / "build" / "test-envs"), print).python
    with scratch() as place:
        size, runs = (SMALL, 1) if args.smoke else (FULL, args.runs)
        return report("stacking", measured(python, Path(place), size, runs), BOUNDS, args)


def measured(python: str, folder: Path, size: Sequence[int], runs: int) -> dict[str, object]:
    rows, columns, rounds, trees = map(str, size)
    env = clean_env(folder / "home") | {"PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "passive"}

    def aside(*words: str) -> str:
        line = [python, str(PEER), *words]
        return subprocess.run(line, env=env, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout

    def ours(name: str, *more: str) -> Took:
        shutil.rmtree(folder / name, ignore_errors=True)
        words = ["--data", str(folder / "table.parquet"), "--holdout", "0.5", "--device", "cpu"]
        words += ["--rounds", rounds, "--trees", trees, "--output", str(folder / name), *more]
        return sound(once([python, "-m", "trainers.stacking", *words], env, ROOT))

    aside("make", str(folder), rows, columns)
    if size is not SMALL:
        aside("fit", str(folder), "2", "20")  # both sides' libraries are compiled and in the page cache
    ways = {
        "peer": lambda: sound(once([python, str(PEER), "fit", str(folder), rounds, trees], env, ROOT)),
        "ours": lambda: ours("ours", "--early-stop", "0"),
        "as it comes": lambda: ours("as-it-comes"),
    }
    took = interleaved(ways, runs, warm=False)
    judged = json.loads(aside("judge", str(folder)))
    return {"rows learned from": int(rows) // 2, "columns": int(columns), **told(took, judged)}


def sound(took: Took) -> Took:
    if took.exit_code:
        raise SystemExit(f"one side ended with status {took.exit_code}")
    return took


def told(took: Mapping[str, Sequence[Took]], judged: Mapping[str, float]) -> dict[str, object]:
    figures: dict[str, object] = {}
    middle = {
        way: [
            statistics.median(getattr(took, what) for took in every)
            for what in ("cpu_s", "wall_s", "peak_mb")
        ]
        for way, every in took.items()
    }
    for way, (cpu, wall, peak) in middle.items():
        figures |= {
            f"{way}, CPU s": round(cpu, 1),
            f"{way}, s": round(wall, 1),
            f"{way}, peak MB": round(peak),
        }
    for way in ("ours", "as it comes"):
        figures[f"CPU, {way} / peer"] = round(middle[way][0] / middle["peer"][0], 3)
    figures["peak memory, ours / peer"] = round(middle["ours"][2] / middle["peer"][2], 3)
    for task in TASKS:
        figures[f"{task}, peer {'AUC' if task == 'classifier' else 'RMSE'}"] = round(
            judged[f"peer {task}"], 5
        )
    for way in ("ours", "as it comes"):
        for task in TASKS:
            worse = judged[f"{way} {task}"] - judged[f"peer {task}"]
            figures[f"{task}, {way} worse by"] = round(-worse if task == "classifier" else worse, 5)
    return figures


if __name__ == "__main__":
    sys.exit(main())
