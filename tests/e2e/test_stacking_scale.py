"""The trainer stacking beyond one process and beyond memory, and with a GPU against without."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launcher.agent.reqset import Wanted, read
from tests.e2e.alone import ROOT, Trainer, environment, held, passed
from trainers.stacking.compare import told

STACKING = Trainer("stacking")
SMALL = ("--folds", "2", "--rounds", "30", "--trees", "20", "--device", "cpu")


def metrics(output: Path) -> dict[str, float]:
    found: dict[str, float] = held(output / "result.json")["metrics"]
    return {name: x for name, x in found.items() if name.endswith(("_auc", "_rmse"))}


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--workers", "2", "--external-memory"], "choose one of them"),
        (["--scheduler", "tcp://127.0.0.1:1"], "needs --workers"),
        (["--workers", "-1"], "-1 is not between 0 and 1000"),
        (["--workers", "2"], "pip install -r trainers/stacking/requirements-workers.txt"),
    ],
)
def test_wrong_usage_is_told_before_anything_heavy_is_loaded(argv: list[str], words: str) -> None:
    assert words in STACKING.trains(sys.executable, "--output", "x", *argv, status=2)


@pytest.fixture(scope="module")
def python() -> str:
    return STACKING.python()


@pytest.fixture(scope="module")
def beside() -> str:
    """What requirements-workers.txt adds, beside the trainer's environment and not with all of that again."""
    there = read(STACKING.folder / "requirements.txt", None).lines
    added = read(STACKING.folder / "requirements-workers.txt", None)
    numpy = [line for line in there if line.startswith("numpy")]  # pandas would bring another one
    lines = (*(line for line in added.lines if line not in there), *numpy)
    wanted = Wanted(added.source, False, lines, tuple(sorted(lines)))
    return str(next(environment(wanted).parents[1].glob("lib/python*/site-packages")))


ONE_PROCESS = {"xgboost": 0.6765, "lightgbm": 0.6682}  # the same table's RMSE without --workers
DRIFTING = """
import sys
import pyarrow.parquet
from trainers.stacking import generator
made = generator.made(6000).arrow().drop_columns(["at", "symbol", "classifier", "down", "high"])
pyarrow.parquet.write_table(made.sort_by("momentum"), sys.argv[1])
"""


@pytest.mark.need("network")
@pytest.mark.slow
@pytest.mark.timeout(400)  # three processes load all the libraries, dask's and the learners'
def test_two_workers_learn_as_well_as_one_process(python: str, beside: str, tmp_path: Path) -> None:
    """Of a table that drifts: a worker that had a stretch of it would know nothing of the others."""
    table = str(tmp_path / "drifting.parquet")
    subprocess.run([python, "-c", DRIFTING, table], cwd=ROOT, env=passed({}), check=True, timeout=60)
    given = ("--data", table, "--task", "up", "--holdout", "0.5", *SMALL, "--workers", "2")
    out = tmp_path / "out"
    said = STACKING.trains(python, *given, "--output", str(out), environ={"PYTHONPATH": beside})
    assert "2 workers" in said and "got rank" not in said
    learners = held(out / "result.json")["learners"]["up"]
    for learner, alone in ONE_PROCESS.items():
        assert learners[learner]["out_of_fold"]["rmse"] < alone + 0.005, learner


ROWS, COLUMNS = 400_000, 100
WIDE = f"""
import sys
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
draw, names = np.random.default_rng(1), [f"f{{at}}" for at in range({COLUMNS})]
schema = pa.schema([(name, pa.float32()) for name in names] + [("up", pa.float64())])
with pq.ParquetWriter(sys.argv[1], schema, compression="none", use_dictionary=False) as out:
    for _ in range(20):
        x = draw.standard_normal(({ROWS} // 20, {COLUMNS}), dtype=np.float32)
        up = x[:, 0] + x[:, 1] * x[:, 2] + draw.standard_normal(len(x))
        out.write_table(pa.table({{**dict(zip(names, x.T)), "up": up}}))
"""
MEASURED = """
import sys
from trainers.stacking import pieces, results, spread, train
from trainers.stacking.command import run
def megabytes(name):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(name)) >> 10
before = megabytes("VmRSS")
status = run(sys.argv[1:])
print("grown by", megabytes("VmHWM") - before)
sys.exit(status)
"""


@pytest.mark.need("network")
@pytest.mark.slow
@pytest.mark.timeout(400)  # 150 MiB go through everything several times
def test_a_table_beyond_a_bound_of_memory_is_learned_from_in_files(python: str, tmp_path: Path) -> None:
    """The process never has as much memory as the rows alone would take."""
    table = tmp_path / "wide.parquet"
    subprocess.run([python, "-c", WIDE, str(table)], check=True, timeout=60)
    given = ["--data", str(table), "--task", "up", "--folds", "2", "--rounds", "2", "--depth", "3"]
    given += ["--trees", "20", "--forest-rows", "1000", "--device", "cpu", "--external-memory"]
    done = subprocess.run(
        [python, "-c", MEASURED, *given, "--output", str(tmp_path / "out")],
        cwd=ROOT, text=True, capture_output=True, timeout=300, env=passed({"TMPDIR": str(tmp_path)}),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.split("grown by")[1]) < ROWS * COLUMNS * 4 >> 20
    assert metrics(tmp_path / "out")["up_rmse"] < 1.5  # a constant has 1.73
    assert not list(tmp_path.glob("stacking-*"))


def row(device: str, seconds: float, usd: float | None) -> dict[str, Any]:
    figures = {"classifier_auc": 0.8, "up_rmse": 0.61}
    return {
        "device": device,
        "seconds": seconds,
        "booster_seconds": seconds / 2,
        "metrics": figures,
        "usd": usd,
    }


def test_the_comparison_tells_time_quality_and_dollars() -> None:
    both = told({"USE_GPU=0": row("cpu", 90, 0.05), "USE_GPU=1": row("H200", 10, 0.0055)}, "")
    assert "90.0 s" in both[1] and "$0.0500" in both[1] and "classifier_auc 0.8000" in both[1]
    assert "H200" in both[2] and "$0.0055" in both[2]
    assert both[-1] == "the boosters took 9.0 times as long without the GPU"
    alone = told({"USE_GPU=0": row("cpu", 90, None)}, "no GPU seen")
    assert "price unknown" in alone[1] and "no GPU works here (no GPU seen)" in alone[-1]


@pytest.mark.parametrize(
    ("argv", "environ", "words"),
    [
        (["--device", "cuda"], {}, "--device is chosen by the comparison"),
        (["--round", "3"], {}, "did you mean --rounds"),
        ([], {"LAUNCHER_USD_PER_HOUR": "dear"}, "LAUNCHER_USD_PER_HOUR: 'dear' is no number"),
    ],
)
def test_a_comparison_that_cannot_be_made_is_refused(
    argv: list[str], environ: dict[str, str], words: str
) -> None:
    assert words in STACKING.trains(sys.executable, "bench", *argv, status=2, environ=environ)


@pytest.mark.need("network")
@pytest.mark.slow
def test_without_a_gpu_the_processor_stands_alone(python: str, tmp_path: Path) -> None:
    given = ("--task", "up", "--rows", "600", "--folds", "2", "--rounds", "5", "--trees", "20")
    environ = {"CUDA_VISIBLE_DEVICES": "", "LAUNCHER_USD_PER_HOUR": "36"}  # as a run says it
    said = STACKING.trains(python, "bench", *given, "--output", str(tmp_path), environ=environ)
    kept = held(tmp_path / "bench.json")
    assert list(kept["ways"]) == ["USE_GPU=0"] and kept["why_no_gpu"]
    cpu = kept["ways"]["USE_GPU=0"]
    assert cpu["usd"] == pytest.approx(cpu["seconds"] / 100, rel=0.001) and cpu["metrics"]["up_rmse"] > 0
    assert "no GPU works here" in said.splitlines()[-1]
