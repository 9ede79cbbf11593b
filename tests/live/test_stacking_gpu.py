"""On a machine with an NVIDIA GPU: the trainer stacking really computes there, and gains by it.

    LAUNCHER_TEST_NEED=gpu,network ./launch test -q -s tests/live/test_stacking_gpu.py

A quarter of an hour, most of it the processor's side of a million rows. The figures are printed (-s).
"""

from __future__ import annotations

import itertools
import re
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from launcher.agent.gpu import Nvml
from launcher.agent.reqset import read
from tests.e2e.alone import ROOT, Trainer, environment, held, passed

pytestmark = [pytest.mark.need("gpu", "network"), pytest.mark.timeout(1800)]
STACKING = Trainer("stacking")
ROWS, COLUMNS, GAIN = 1_000_000, 100, 8
MAKE = """
import sys
import pyarrow.parquet
from trainers.stacking import generator
made = generator.made(int(sys.argv[2]), columns=int(sys.argv[3])).arrow().drop_columns(["at", "symbol"])
pyarrow.parquet.write_table(made, sys.argv[1], compression="none", use_dictionary=False)
"""
LARGE = ("--task", "classifier", "--folds", "2", "--rounds", "100", "--trees", "20", "--early-stop", "0")
FIT = re.compile(r"^\d+/\d+ (\w+) \w+(?: fold \d+/\d+)?:.* ([\d.]+) s$")
Span = tuple[float, float]


@pytest.fixture(scope="module")
def python() -> str:
    return str(environment(read(STACKING.folder / "requirements-gpu.txt", None)))


@pytest.fixture(scope="module")
def table(python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nearly half a gigabyte."""
    path = tmp_path_factory.mktemp("large") / "table.parquet"
    made(python, path, ROWS, COLUMNS)
    return path


def made(python: str, path: Path, rows: int, columns: int) -> None:
    words = [python, "-c", MAKE, str(path), str(rows), str(columns)]
    subprocess.run(words, cwd=ROOT, env=passed({}), check=True, timeout=300)


def learner_seconds(output: Path, learner: str) -> float:
    return float(sum(task[learner]["seconds"] for task in held(output / "result.json")["learners"].values()))


def test_the_device_is_read_back_and_the_models_answer_without_it(python: str, tmp_path: Path) -> None:
    given = ("--rows", "6000", "--folds", "3", "--rounds", "80", "--trees", "40")
    said = STACKING.trains(python, *given, "--device", "cuda", "--output", str(tmp_path / "gpu"))
    STACKING.trains(python, *given, "--device", "cpu", "--output", str(tmp_path / "cpu"))
    result, without = held(tmp_path / "gpu" / "result.json"), held(tmp_path / "cpu" / "result.json")
    assert result["device"]["used"] == "cuda" and result["devices"]["outcome"] == "gpu"
    assert result["devices"]["used"]["xgboost"] == ["cuda:0"]
    assert re.search(
        rf"^XGBoost on cuda:0 \({re.escape(result['device']['name'])}\), LightGBM on ", said, re.M
    )
    names = {reading["name"] for reading in Nvml().read() or []}
    assert any(result["device"]["name"] in name or name in result["device"]["name"] for name in names)
    for name in result["judged"]["higher"] + result["judged"]["lower"]:
        assert result["metrics"][name] == pytest.approx(without["metrics"][name], abs=0.01)
    script = (
        "import sys; from pathlib import Path; from trainers.stacking.versions import load;"
        "from trainers.stacking import generator;"
        "print(load(Path(sys.argv[1]), 'up').predict(generator.made(500, 3).arrow()).mean())"
    )
    away = passed({"CUDA_VISIBLE_DEVICES": ""})
    asked = [python, "-c", script, str(tmp_path / "gpu")]
    done = subprocess.run(asked, cwd=ROOT, env=away, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and float(done.stdout) > 0, done.stderr


def test_the_boosters_gain_by_it_and_the_quality_stays(python: str, table: Path, tmp_path: Path) -> None:
    words = [
        python,
        "-m",
        "trainers.stacking",
        "bench",
        "--data",
        str(table),
        *LARGE,
        "--output",
        str(tmp_path),
    ]
    done = subprocess.run(words, cwd=ROOT, env=passed({}), capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stderr
    print("\n".join(done.stdout.splitlines()[-4:]))
    ways = held(tmp_path / "bench.json")["ways"]
    assert ways["USE_GPU=1"]["used"]["xgboost"] == ["cuda:0"]
    seconds = {
        learner: [learner_seconds(tmp_path / way, learner) for way in ("USE_GPU=0", "USE_GPU=1")]
        for learner in ("xgboost", "lightgbm")
    }
    print({learner: (*both, f"{both[0] / both[1]:.1f} times") for learner, both in seconds.items()})
    auc = [ways[way]["metrics"]["classifier_auc"] for way in ("USE_GPU=0", "USE_GPU=1")]
    assert auc[1] == pytest.approx(auc[0], abs=0.002)
    slow, quick = (ways[way]["booster_seconds"] for way in ("USE_GPU=0", "USE_GPU=1"))
    assert slow / quick >= GAIN


def test_the_gpu_is_busy_while_the_forest_grows(python: str, table: Path, tmp_path: Path) -> None:
    given = ("--data", str(table), *LARGE, "--device", "cuda", "--output", str(tmp_path))
    load, ended = watched(python, given)
    spans = {learner: [s for name, s in ended if name == learner] for learner in ("xgboost", "forest")}
    (forest,) = spans["forest"]
    together = [overlap(forest, span) for span in spans["xgboost"]]
    own = sum(end - begin for begin, end in spans["xgboost"])
    assert sum(end - begin for begin, end in together) > 0.8 * own
    busy = [util for at, util in load if any(begin <= at <= end for begin, end in together)]
    print(f"GPU load while the forest grows: {statistics.mean(busy):.0f} % of {len(busy)} looks")
    assert statistics.mean(busy) > 30


def watched(python: str, given: Iterable[str]) -> tuple[list[tuple[float, float]], list[tuple[str, Span]]]:
    """The GPU's load by moment, and when each fit began and ended."""
    nvml, over = Nvml(), threading.Event()
    load: list[tuple[float, float]] = []

    def look() -> None:
        while not over.wait(0.1):
            told = [reading["util"] for reading in nvml.read() or []]
            load.extend((time.monotonic(), float(util)) for util in told if util is not None)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        with STACKING.begins(python, *given) as running:
            assert running.stdout is not None
            ended = list(itertools.chain.from_iterable(fits(line, time.monotonic) for line in running.stdout))
    finally:
        over.set()
        looking.join()
    assert running.returncode == 0
    return load, ended


def fits(line: str, clock: Callable[[], float]) -> list[tuple[str, Span]]:
    """A fit's line comes when it ends and says how long it took."""
    found = FIT.match(line.rstrip())
    end = clock()
    return [(found[1], (end - float(found[2]), end))] if found else []


def overlap(one: Span, other: Span) -> Span:
    begin, end = max(one[0], other[0]), min(one[1], other[1])
    return begin, max(begin, end)
