"""The stacking trainer in an environment of its own: its results, its end halfway, its refusals."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Cli
from tests.e2e.alone import ENVS, ROOT, Trainer, held, measured, passed
from trainers.kit.device import DeviceRefused
from trainers.stacking import devices
from trainers.stacking.command import arguments

STACKING = Trainer("stacking")
EXPECTED = STACKING.expected
TASKS = ("classifier", "up", "down", "high")
pytestmark = pytest.mark.timeout(400)  # the first one that asks for the environment waits until it is made


# what needs no environment


def test_the_recipe_and_the_command_line_say_the_same() -> None:
    STACKING.says_the_same_as(arguments())


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
    assert words in STACKING.trains(
        sys.executable, *argv, status=2, environ=environ
    )  # which has no learner at all


# in its own environment


@pytest.fixture(scope="module")
def python() -> str:
    return STACKING.python()


@pytest.fixture(scope="module")
def undisturbed(python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("undisturbed")
    STACKING.trains(python, "--output", str(output), *EXPECTED["arguments"])
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


def judged_inside(python: str, folder: Path, *which: str, patience: float = 110) -> dict[str, str | None]:
    asked = [python, "-m", "tests.e2e.stacking_inside", str(folder), *which]
    environ = passed({"OMP_WAIT_POLICY": "PASSIVE"})
    ran = subprocess.run(asked, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=patience)
    assert ran.returncode == 0, ran.stderr
    told: dict[str, str | None] = json.loads(ran.stdout.splitlines()[-1])
    return told


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each check, by its name."""
    return tmp_path_factory.mktemp("inside")


@pytest.fixture(scope="module")
def inside(python: str, place: Path) -> dict[str, str | None]:
    """One process for all of them: loading the learners costs more than most checks."""
    return judged_inside(python, place)


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


@pytest.mark.need("network")
@pytest.mark.slow
def test_versions_made_from_python_are_known_to_models(
    inside: dict[str, str | None], place: Path, cli: Cli
) -> None:
    """Two of the same hold-out, by their seeds; what a run would have made is done by the trainer itself."""
    project = place / "check_another_table_can_judge"

    def models(*words: str, status: int = 0) -> Any:
        done = cli("models", *words, cwd=project)
        assert done.code == status, done.stderr
        return done

    rows = models("list", "--json").json()
    assert {row["version"]: row["run"] for row in rows} == {"judged-1": None, "judged-2": None}
    best, other = (row["version"] for row in sorted(rows, key=lambda row: row["metrics"]["up_rmse"]))
    assert "None" not in models("list").stdout + models("show", best).stdout
    assert "all as they were sealed" in models("verify", best).stdout
    models("promote", best)
    assert held(project / "models" / "latest.json")["version"] == best
    assert "does not beat" in models("promote", other, status=2).stderr
    changed = {row["what"] for row in models("diff", best, other, "--json").json()}
    assert {"seed", "settings.seed", "metrics.up_rmse"} <= changed and "inputs.table" not in changed
    page = Path(models("report", best, "--out", str(project / "page.html")).stdout.strip()).read_text()
    assert "without a run" in page and "forest up" in page  # its log, too
    (project / "models" / best / "up" / "stack.json").write_text("{}")
    assert "up/stack.json has 2 bytes" in models("verify", best, status=5).stderr


def products(output: Path) -> dict[str, bytes]:
    """What a version is made of; what tells of the time that it took aside."""
    here = {path.relative_to(output).as_posix(): path for path in output.rglob("*") if path.is_file()}
    passing = ("checkpoints/", "tensorboard/", "metrics.jsonl", "training.log", "result.json")
    return {name: path.read_bytes() for name, path in here.items() if not name.startswith(passing)}


@pytest.mark.need("network")
@pytest.mark.slow
def test_ended_twice_and_resumed_it_gives_exactly_the_same(
    python: str, undisturbed: Path, tmp_path: Path
) -> None:
    """With the folders of a run; each time on a new machine, where only the checkpoints are."""
    given = EXPECTED["arguments"]
    folders = {"LAUNCHER_CHECKPOINT": str(tmp_path / "kept"), "LAUNCHER_INPUT": str(tmp_path / "not-there")}
    kept = 0
    for sign, status, after in ((signal.SIGKILL, -9, "10/24 "), (signal.SIGTERM, 143, "21/24 ")):
        output = tmp_path / sign.name
        with STACKING.begins(python, *given, **folders, LAUNCHER_OUTPUT=str(output)) as running:
            assert running.stdout is not None
            said = ""
            for line in running.stdout:
                said += line
                if line.startswith(after):
                    break
            running.send_signal(sign)
            said += running.stdout.read()
        assert running.returncode == status, said
        assert not (output / "result.json").exists() and not list(output.glob("*/model.json"))
        fits = re.findall(r"^(\d+)/24 ", said, re.MULTILINE)
        assert kept - 1 <= int(fits[0]) - 1 <= kept  # at most one is done twice
        kept = int(fits[-1])
        if sign is signal.SIGTERM:
            assert f"asked to leave: {kept} of 24 fits are kept" in said

    last = tmp_path / "last"
    said = STACKING.trains(python, *given, environ=folders | {"LAUNCHER_OUTPUT": str(last)})
    assert f"resuming after {kept} of 24 fits" in said
    assert measured(last) == measured(undisturbed)
    assert products(last) == products(undisturbed)
    result = held(last / "result.json")
    assert result["resumed_at"] == kept
    for part in ("metrics", "judged"):
        assert result[part] == held(undisturbed / "result.json")[part]


@pytest.mark.need("network")
@pytest.mark.slow
def test_bad_data_leaves_nothing_behind(python: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "table").write_text("a,classifier,up,down,high\n1,0,1,1,1\n2,x,2,2,2\n")
    said = STACKING.trains(
        python, "--output", str(tmp_path / "out"), status=2,
        environ={"LAUNCHER_INPUT": str(tmp_path / "in"), "LAUNCHER_CHECKPOINT": str(tmp_path / "kept")},
    )  # fmt: skip
    assert "error: stacking: table: column 'classifier' mixes numbers and text: 1 of 2 rows hold text" in said
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def phantom(folder: Path) -> dict[str, str]:
    """An nvidia-smi that lists a card which nothing can compute on: as on many a broken machine."""
    smi = folder / "bin" / "nvidia-smi"
    smi.parent.mkdir()
    smi.write_text(f"#!/bin/sh\necho asked >> {folder}/asked\necho NVIDIA Phantom 3000\n")
    smi.chmod(0o755)
    return {"PATH": f"{smi.parent}:{os.environ['PATH']}", "XDG_CACHE_HOME": str(folder / "cache")}


def test_use_gpu_0_always_wins_and_nobody_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environ = phantom(tmp_path)
    monkeypatch.setenv("PATH", environ["PATH"])
    places = devices.decide(None, False, environ | {"USE_GPU": "0", "DEVICE": "cuda"}, pytest.fail)
    assert places.line().startswith("XGBoost on cpu (USE_GPU says so), LightGBM on cpu (USE_GPU says so)")
    assert not (tmp_path / "asked").exists()
    with pytest.raises(DeviceRefused, match="no GPU can be used: a tiny fit ended with status 1"):
        devices.decide("cuda", False, environ, pytest.fail)  # here nothing is installed to fit with
    assert (tmp_path / "asked").read_text() == "asked\n"


@pytest.mark.need("network")
@pytest.mark.slow
def test_the_device_is_decided_by_a_real_fit_and_remembered_for_this_boot(
    python: str, tmp_path: Path
) -> None:
    environ = phantom(tmp_path)
    given = [*TINY, "--task", "up", "--output", str(tmp_path / "out")]
    said = STACKING.trains(python, *given, "--device", "cuda", status=1, environ=environ)
    assert "error: stacking: --device cuda: no GPU can be used: XGBoost went to the cpu" in said
    assert not (tmp_path / "out").exists()
    kept = held(tmp_path / "cache" / "trainers-stacking" / "devices.json")
    assert kept["seen"]["gpus"] == ["NVIDIA Phantom 3000"]
    kept["seen"]["why"] = "as remembered"
    (tmp_path / "cache" / "trainers-stacking" / "devices.json").write_text(json.dumps(kept))
    said = STACKING.trains(python, *given, environ=environ | {"USE_GPU": "1"})
    assert said.count("warning: no GPU can be used (as remembered); computing on the CPU") == 1
    result = held(tmp_path / "out" / "result.json")
    assert result["device"] == {"used": "cpu", "name": "cpu", "wish": "cuda", "source": "USE_GPU"}
    assert result["devices"]["outcome"] == "fell back to the cpu"
    assert result["devices"]["used"]["xgboost"] == ["cpu"]


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
    environ = passed({"XDG_CACHE_HOME": str(tmp_path / "cache")})
    ran = subprocess.run(asked, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=280)
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
    (home / "envs").symlink_to(ENVS)
    table = (STACKING.folder / "sample" / "table.csv").read_bytes()
    (tmp_path / "work" / "table.csv").write_bytes(table)
    ran = cli(
        "run", "stacking", "--json", "--on", "local", "--version", "one", "--input", "table=table.csv", "--",
        *TINY[2:], "--task", "classifier", "--time", "at", "--group", "symbol", timeout=280,
    )  # fmt: skip
    assert ran.code == 0, ran.stderr
    version = tmp_path / "work" / "models" / "one"
    assert held(version / "result.json")["metrics"]["classifier_auc"] > 0.6
    paths = {file["path"] for file in held(version / "manifest.json")["files"]}
    assert {"classifier/xgboost-1.ubj", "classifier/roc.svg", "folds.parquet", "training.log"} <= paths
