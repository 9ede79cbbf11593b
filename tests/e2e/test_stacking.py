"""The stacking trainer in an environment of its own: its results, its end halfway, its refusals."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from launcher.agent.envs import Order, make
from launcher.agent.reqset import read
from tests.conftest import Cli
from trainers.stacking.command import arguments

ROOT = Path(__file__).resolve().parents[2]
TRAINER = ROOT / "trainers" / "stacking"
EXPECTED: dict[str, Any] = json.loads((TRAINER / "expected.json").read_text())
TASKS = ("classifier", "up", "down", "high")
pytestmark = pytest.mark.timeout(300)  # the first one that asks for the environment waits until it is made
# What would change a training, and what would make every start of it compile the learners anew.
NOT_PASSED = ("LAUNCHER_", "DEVICE", "USE_GPU", "RETRAINING_", "PYTHONDONTWRITEBYTECODE")


def trainer(python: str, *argv: str, **environ: str) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(NOT_PASSED)}
    return subprocess.Popen(
        [python, "-m", "trainers.stacking", *argv],
        cwd=ROOT, env=kept | environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def train(python: str, *argv: str, status: int = 0, environ: Mapping[str, str] | None = None) -> str:
    with trainer(python, *argv, **environ or {}) as running:
        said, _ = running.communicate(timeout=110)
    assert running.returncode == status, said
    return said


def held(path: Path) -> Any:
    return json.loads(path.read_text())


# what needs no environment


def test_the_recipe_and_the_command_line_say_the_same() -> None:
    recipe = YAML(typ="safe").load((TRAINER / "trainer.yaml").read_text())
    flags = arguments()
    for name, wanted in recipe["args"].items():
        dashed = f"--{name.replace('_', '-')}"
        assert vars(flags.read([]))[name] == wanted.get("default")
        for choice in wanted.get("choices", ()):
            assert vars(flags.read([dashed, choice]))[name] == choice
        for bound, beyond in (("min", -1), ("max", 1)):
            if bound not in wanted:
                continue
            assert vars(flags.read([dashed, str(wanted[bound])]))[name] == wanted[bound]
            with pytest.raises(SystemExit):
                flags.read([dashed, str(wanted[bound] + beyond)])
    for path in recipe["push"]:
        assert (ROOT / path).exists()
    assert recipe["seed"] == EXPECTED["seed"]


@pytest.mark.parametrize(
    ("argv", "environ", "words"),
    [
        (["--round", "3"], {}, "did you mean --rounds"),
        ([], {}, "--output DIR"),
        (["--output", "x"], {"LAUNCHER_SEED": "seven"}, "LAUNCHER_SEED=seven"),
        (["--output", "x", "--target", "won"], {}, "say with --task"),
        (["--output", "x", "--data", "no.csv"], {}, "--data no.csv: there is no such file"),
        (["--output", "x", "--folds", "1"], {}, "1 is not between 2 and 50"),
        (["--output", "x", "--device", "cpu"], {}, "pip install -r trainers/stacking/requirements.txt"),
    ],
)
def test_wrong_usage_ends_with_2_before_anything_heavy_is_loaded(
    argv: list[str], environ: dict[str, str], words: str
) -> None:
    assert words in train(sys.executable, *argv, status=2, environ=environ)  # which has no learner at all


# in its own environment


@pytest.fixture(scope="module")
def python() -> str:
    """Kept between test runs: an environment is named by what is in it."""
    wanted = read(TRAINER / "requirements.txt", None)
    return make(Order(wanted, sys.executable, ROOT / "build" / "test-envs"), print).python


@pytest.fixture(scope="module")
def undisturbed(python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("undisturbed")
    train(python, "--output", str(output), *EXPECTED["arguments"])
    return output


@pytest.mark.need("network")
@pytest.mark.slow
def test_the_sample_gives_what_is_expected(undisturbed: Path) -> None:
    result = held(undisturbed / "result.json")
    for name, expected in EXPECTED["metrics"].items():
        assert result["metrics"][name] == pytest.approx(expected["value"], abs=expected["within"])
    assert result["device"]["used"] == "cpu"
    log = (undisturbed / "training.log").read_text()
    line = r"^XGBoost on cpu \(no GPU seen\), LightGBM on cpu \(.*OpenCL.*\), forest and ridge on cpu$"
    assert re.search(line, log, re.MULTILINE)
    assert log.count("warning: ") == 1  # that there is no GPU
    for task in TASKS:
        for name, learner in result["learners"][task].items():
            assert name == "stack" or learner["in_stack"] is not None


INSIDE = ROOT / "tests" / "e2e" / "stacking_inside"
CHECKS = [
    name
    for file in sorted(INSIDE.glob("*.py"))
    for name in re.findall(r"^def (check_\w+)", file.read_text(), re.MULTILINE)
]
TINY = ["--rows", "700", "--folds", "2", "--rounds", "15", "--trees", "20"]
FITS = 4 * (1 + 2 + 2 + 1)


def judged_inside(python: str, folder: Path, *which: str, patience: float = 110) -> dict[str, str | None]:
    asked = [python, "-m", "tests.e2e.stacking_inside", str(folder), *which]
    quiet = os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}
    ran = subprocess.run(asked, cwd=ROOT, env=quiet, capture_output=True, text=True, timeout=patience)
    assert ran.returncode == 0, ran.stderr
    told: dict[str, str | None] = json.loads(ran.stdout.splitlines()[-1])
    return told


@pytest.fixture(scope="module")
def inside(python: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    """One process for all of them: loading the learners costs more than most checks."""
    return judged_inside(python, tmp_path_factory.mktemp("inside"))


@pytest.mark.need("network")
@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKS)
def test_inside(name: str, inside: dict[str, str | None]) -> None:
    if (wrong := inside[name]) is not None:
        pytest.fail(wrong, pytrace=False)


@pytest.mark.need("network", "opencl")
@pytest.mark.slow
def test_lightgbm_trains_by_opencl_on_a_cpu_and_that_is_no_gpu(python: str, tmp_path: Path) -> None:
    """Where nobody has done it before, LightGBM's programs for it are made first: 20 s of a processor."""
    (wrong,) = judged_inside(python, tmp_path, "opencl", patience=290).values()
    if wrong is not None:
        pytest.fail(wrong, pytrace=False)


@pytest.fixture(scope="module")
def tiny(python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("tiny")
    train(python, "--output", str(output), *TINY)
    return output


def measured(output: Path) -> list[dict[str, Any]]:
    """The whole course, without the moments at which it was measured."""
    lines = map(json.loads, (output / "metrics.jsonl").read_text().splitlines())
    return [{name: value for name, value in line.items() if name != "ts"} for line in lines]


def products(output: Path) -> dict[str, bytes]:
    """What a version is made of; what tells of the time that it took aside."""
    here = {path.relative_to(output).as_posix(): path for path in output.rglob("*") if path.is_file()}
    passing = ("checkpoints/", "tensorboard/", "metrics.jsonl", "training.log", "result.json")
    return {name: path.read_bytes() for name, path in here.items() if not name.startswith(passing)}


@pytest.mark.need("network")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("sign", "status", "after"), [(signal.SIGKILL, -9, "8/24 "), (signal.SIGTERM, 143, "22/24 ")]
)
def test_ended_halfway_and_resumed_it_gives_exactly_the_same(
    sign: signal.Signals, status: int, after: str, python: str, tiny: Path, tmp_path: Path
) -> None:
    """With the folders of a run; the second half on a new machine, where only the checkpoints are."""
    first = {"LAUNCHER_OUTPUT": str(tmp_path / "first"), "LAUNCHER_CHECKPOINT": str(tmp_path / "kept")}
    first["LAUNCHER_INPUT"] = str(tmp_path / "not-there")  # as where a run was given nothing
    with trainer(python, *TINY, **first) as running:
        assert running.stdout is not None
        said = ""
        for line in running.stdout:
            said += line
            if line.startswith(after):
                break
        running.send_signal(sign)
        said += running.stdout.read()
    assert running.returncode == status, said
    assert not (tmp_path / "first" / "result.json").exists()
    assert not list((tmp_path / "first").glob("*/model.json"))
    fits = re.findall(rf"^(\d+)/{FITS} ", said, re.MULTILINE)
    if sign is signal.SIGTERM:
        assert f"asked to leave: {fits[-1]} of {FITS} fits are kept" in said

    said = train(python, *TINY, environ=first | {"LAUNCHER_OUTPUT": str(tmp_path / "second")})
    resumed_at = held(tmp_path / "second" / "result.json")["resumed_at"]
    assert f"resuming after {resumed_at} of {FITS} fits" in said
    assert resumed_at >= int(fits[-1]) - 1  # at most one is done twice
    assert re.findall(rf"^(\d+)/{FITS} ", said, re.MULTILINE)[0] == str(resumed_at + 1)
    assert measured(tmp_path / "second") == measured(tiny)
    assert products(tmp_path / "second") == products(tiny)
    for part in ("metrics", "judged"):
        assert held(tmp_path / "second" / "result.json")[part] == held(tiny / "result.json")[part]


@pytest.mark.need("network")
@pytest.mark.slow
def test_another_training_is_not_resumed(python: str, tiny: Path, tmp_path: Path) -> None:
    kept = ["--checkpoint", str(tiny / "checkpoints"), "--output", str(tmp_path / "out")]
    said = train(python, *TINY, *kept, "--trees", "21", status=2)
    assert "belongs to a training with trees 20 (now 21)" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.need("network")
@pytest.mark.slow
def test_bad_data_leaves_nothing_behind(python: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "table").write_text("a,classifier,up,down,high\n1,0,1,1,1\n2,x,2,2,2\n")
    said = train(
        python, "--output", str(tmp_path / "out"), status=2,
        environ={"LAUNCHER_INPUT": str(tmp_path / "in"), "LAUNCHER_CHECKPOINT": str(tmp_path / "kept")},
    )  # fmt: skip
    assert "error: stacking: table: column 'classifier' mixes numbers and text: 1 of 2 rows hold text" in said
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.need("network")
@pytest.mark.slow
def test_the_device_is_decided_by_a_real_fit_and_remembered_for_this_boot(
    python: str, tmp_path: Path
) -> None:
    """An nvidia-smi that lists a card which nothing can compute on: as on many a broken machine."""
    smi = tmp_path / "bin" / "nvidia-smi"
    smi.parent.mkdir()
    smi.write_text(f"#!/bin/sh\necho asked >> {tmp_path}/asked\necho NVIDIA Phantom 3000\n")
    smi.chmod(0o755)
    environ = {"PATH": f"{smi.parent}:{os.environ['PATH']}", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    wanted = [*TINY, "--task", "up", "--output"]
    said = train(python, *wanted, str(tmp_path / "one"), "--device", "cuda", status=1, environ=environ)
    assert "error: stacking: --device cuda: no GPU can be used: XGBoost went to the cpu" in said
    kept = held(tmp_path / "cache" / "trainers-stacking" / "devices.json")
    assert kept["seen"]["gpus"] == ["NVIDIA Phantom 3000"]
    kept["seen"]["why"] = "as remembered"
    (tmp_path / "cache" / "trainers-stacking" / "devices.json").write_text(json.dumps(kept))
    said = train(python, *wanted, str(tmp_path / "two"), environ=environ | {"USE_GPU": "1"})
    assert said.count("warning: no GPU can be used (as remembered); computing on the CPU") == 1
    result = held(tmp_path / "two" / "result.json")
    assert result["device"] == {"used": "cpu", "name": "cpu", "wish": "cuda", "source": "USE_GPU"}
    assert result["devices"]["outcome"] == "fell back to the cpu"
    assert result["devices"]["used"]["xgboost"] == ["cpu"]
    before = (tmp_path / "asked").read_text()
    never = train(
        python, *wanted, str(tmp_path / "three"), environ=environ | {"USE_GPU": "0", "DEVICE": "cuda"}
    )
    assert "XGBoost on cpu (USE_GPU says so)" in never
    assert (tmp_path / "asked").read_text() == before


@pytest.mark.need("network", "namespaces")
@pytest.mark.slow
def test_it_trains_where_the_system_has_no_openmp(python: str, tmp_path: Path) -> None:
    """As in slim images: LightGBM wants a library that no wheel brings under that name."""
    found = subprocess.run(
        ["ldconfig", "-p"], capture_output=True, text=True, env={"PATH": "/sbin:/usr/sbin"}
    )
    hidden = [line.split()[-1] for line in found.stdout.splitlines() if "libgomp.so.1" in line]
    hide = " && ".join(f"mount --bind /dev/null {path}" for path in hidden) or "true"
    wanted = [python, "-m", "trainers.stacking", *TINY, "--task", "up", "--output", str(tmp_path / "out")]
    asked = ["unshare", "-rm", "sh", "-c", f'{hide} && exec "$@"', "sh", *wanted]
    quiet = {name: value for name, value in os.environ.items() if not name.startswith(NOT_PASSED)}
    ran = subprocess.run(
        asked, cwd=ROOT, env=quiet | {"XDG_CACHE_HOME": str(tmp_path / "cache")}, capture_output=True,
        text=True, timeout=110,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.count("stacking: boosters") == 1
    assert (tmp_path / "out" / "result.json").is_file()
    brought = (tmp_path / "cache" / "trainers-stacking" / "lib" / "libgomp.so.1").readlink()
    assert brought.name.startswith("libgomp-")


@pytest.mark.need("network")
@pytest.mark.slow
def test_a_run_of_the_launcher_makes_a_version_of_it(
    python: str, cli: Cli, home: Path, tmp_path: Path
) -> None:
    """The environment lies where runs make theirs, under the same digest."""
    (home / "envs").symlink_to(ROOT / "build" / "test-envs")
    table = (TRAINER / "sample" / "table.csv").read_bytes()
    (tmp_path / "work" / "table.csv").write_bytes(table)
    ran = cli(
        "run", "stacking", "--json", "--on", "local", "--version", "one", "--input", "table=table.csv", "--",
        *TINY[2:], "--task", "classifier", "--time", "at", "--group", "symbol", timeout=110,
    )  # fmt: skip
    assert ran.code == 0, ran.stderr
    version = tmp_path / "work" / "models" / "one"
    assert held(version / "result.json")["metrics"]["classifier_auc"] > 0.6
    paths = {file["path"] for file in held(version / "manifest.json")["files"]}
    assert {"classifier/xgboost-1.ubj", "classifier/roc.svg", "folds.parquet", "training.log"} <= paths
