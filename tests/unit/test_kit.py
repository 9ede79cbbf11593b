"""What trainers share, held to its promises without numpy or any framework."""

from __future__ import annotations

import errno
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from trainers.kit.arguments import Arguments, number, whole
from trainers.kit.device import Device, DeviceRefused, NoGpu, choose
from trainers.kit.files import write_json
from trainers.kit.session import Leave, Log, Place, write_result

ROOT = Path(__file__).resolve().parents[2]


# arguments


@pytest.fixture
def flags() -> Arguments:
    made = Arguments("trainer", "A trainer.")
    made.add_argument("--batch-size", type=whole(1, 100), default=8)
    made.add_argument("--rate", type=number(0, 1), default=0.5)
    made.add_argument("--note", default="")
    return made


def test_an_underscore_in_a_name_is_a_dash_and_values_stay(flags: Arguments) -> None:
    given = flags.read(["--batch_size", "3", "--note=a_b", "--rate=0.1"])
    assert (given.batch_size, given.note, given.rate) == (3, "a_b", 0.1)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--batch_sise", "3"], "unknown argument --batch-sise, did you mean --batch-size?"),
        (["--zzz=3"], "unknown argument --zzz; it knows --batch-size --help --note --rate"),
        (["--batch", "3"], "unknown argument --batch, did you mean --batch-size?"),  # no abbreviations
        (["stray"], "'stray' is no argument"),
        (["--batch-size", "0"], "0 is not between 1 and 100"),
        (["--batch-size", "1.5"], "'1.5' is no whole number"),
        (["--rate", "nan"], "nan is not between 0 and 1"),
        (["--rate", "fast"], "'fast' is no number"),
    ],
)
def test_wrong_arguments_end_with_status_2(
    argv: list[str], words: str, flags: Arguments, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        flags.read(argv)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert words in said
    assert len(said.splitlines()) == 1


# device


def works() -> str:
    return "Some GPU"


def fails() -> str:
    raise NoGpu("driver too old")


@pytest.mark.parametrize(
    ("flag", "environ", "source"),
    [
        (None, {}, "default"),
        ("auto", {"DEVICE": "cpu"}, "--device"),
        ("cuda", {"DEVICE": "cpu"}, "--device"),
        (None, {"DEVICE": "cuda:1", "USE_GPU": "1"}, "DEVICE"),
        (None, {"DEVICE": "gpu"}, "DEVICE"),
        (None, {"DEVICE": "", "RETRAINING_USE_GPU": "1", "USE_GPU": "yes"}, "RETRAINING_USE_GPU"),
        (None, {"USE_GPU": "true"}, "USE_GPU"),
    ],
)
def test_a_gpu_that_computes_is_used(flag: str | None, environ: dict[str, str], source: str) -> None:
    warnings: list[str] = []
    device = choose(flag, False, environ, works, warnings.append)
    assert (device.kind, device.name, device.source) == ("cuda", "Some GPU", source)
    assert warnings == []


@pytest.mark.parametrize(
    ("flag", "required", "environ"),
    [
        ("cuda", True, {"USE_GPU": "0", "DEVICE": "cuda"}),  # always wins
        (None, False, {"DEVICE": "cpu", "USE_GPU": "1"}),
        ("cpu", False, {"DEVICE": "cuda"}),
        (None, False, {"RETRAINING_USE_GPU": "0", "USE_GPU": "1"}),
    ],
)
def test_whoever_wants_the_cpu_gets_it_without_a_word(
    flag: str | None, required: bool, environ: dict[str, str]
) -> None:
    warnings: list[str] = []
    assert choose(flag, required, environ, works, warnings.append).kind == "cpu"
    assert warnings == []


@pytest.mark.parametrize("environ", [{}, {"DEVICE": "auto"}, {"USE_GPU": "1"}, {"RETRAINING_USE_GPU": "on"}])
def test_auto_and_the_switches_fall_back_with_one_warning(environ: dict[str, str]) -> None:
    warnings: list[str] = []
    assert choose(None, False, environ, fails, warnings.append).kind == "cpu"
    assert len(warnings) == 1
    assert "driver too old" in warnings[0]


@pytest.mark.parametrize(
    ("flag", "required", "environ"),
    [
        ("cuda", False, {}),
        (None, False, {"DEVICE": "cuda"}),
        (None, True, {}),
        ("cpu", True, {}),
        (None, False, {"LAUNCHER_REQUIRE_GPU": "1"}),
    ],
)
def test_a_demanded_gpu_that_does_not_compute_is_an_error(
    flag: str | None, required: bool, environ: dict[str, str]
) -> None:
    with pytest.raises(DeviceRefused, match="driver too old"):
        choose(flag, required, environ, fails, print)


@pytest.mark.parametrize(
    ("flag", "required", "environ", "must"),
    [
        ("cuda", False, {}, True),
        (None, True, {}, True),
        (None, False, {"LAUNCHER_REQUIRE_GPU": "1"}, True),
        (None, False, {"DEVICE": "cuda"}, True),
        (None, False, {"USE_GPU": "1"}, False),
        (None, False, {}, False),
    ],
)
def test_a_device_knows_whether_it_was_demanded(
    flag: str | None, required: bool, environ: dict[str, str], must: bool
) -> None:
    assert choose(flag, required, environ, works, print).must is must


def test_a_wish_is_called_as_whoever_wished_it_called_it() -> None:
    assert choose("cpu", False, {}, works, print, called="use_gpu").source == "use_gpu"
    with pytest.raises(DeviceRefused, match=r"^use_gpu cuda: no GPU can be used: "):
        choose("cuda", False, {}, fails, print, called="use_gpu")


@pytest.mark.parametrize("environ", [{"DEVICE": "tpu"}, {"USE_GPU": "maybe"}])
def test_an_unknown_wish_is_refused(environ: dict[str, str]) -> None:
    with pytest.raises(DeviceRefused, match="expected"):
        choose(None, False, environ, works, print)


def test_a_trainer_without_gpu_code_warns_only_where_one_was_wished_for() -> None:
    warnings: list[str] = []
    assert choose(None, False, {"DEVICE": "auto"}, None, warnings.append).kind == "cpu"
    assert warnings == []
    assert choose(None, False, {"USE_GPU": "1"}, None, warnings.append).kind == "cpu"
    assert len(warnings) == 1
    with pytest.raises(DeviceRefused, match="CPU alone"):
        choose("cuda", False, {}, None, print)


# the bundled ones


@pytest.mark.parametrize("trainer", ["quickstart", "stacking"])
def test_who_asks_for_help_is_shown_the_usage_first(trainer: str) -> None:
    asked = [sys.executable, "-m", f"trainers.{trainer}", "--help"]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout.startswith("usage: ")


# session


def test_a_place_comes_from_flags_then_environment(tmp_path: Path) -> None:
    environ = {"LAUNCHER_OUTPUT": "/o", "LAUNCHER_CHECKPOINT": "/c", "LAUNCHER_INPUT": "/i"}
    environ |= {"LAUNCHER_SEED": "11", "LAUNCHER_RUN": "r-abcd"}
    assert Place.find(environ) == Place(Path("/o"), Path("/c"), Path("/i"), "r-abcd", 11)
    assert Place.find(environ, output="here", checkpoint="there", seed=0).seed == 0
    alone = Place.find({}, output="here")
    assert alone == Place(Path("here"), Path("here/checkpoints"), None, None, 7)


@pytest.mark.parametrize("environ", [{}, {"LAUNCHER_OUTPUT": "/o", "LAUNCHER_SEED": "-1"}])
def test_a_place_that_cannot_be_is_refused(environ: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"--output|LAUNCHER_SEED=-1"):
        Place.find(environ)


def test_the_log_keeps_what_was_said_before_it_had_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = Log()
    log.say("early")
    log.open(tmp_path / "new")
    log.say("late")
    assert (tmp_path / "new" / "training.log").read_text() == "early\nlate\n"
    assert capsys.readouterr().out == "early\nlate\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_whoever_asks_it_to_leave_is_heard_and_a_second_ctrl_c_ends_it(number: signal.Signals) -> None:
    before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)}
    try:
        leave = Leave()
        assert not leave.asked
        os.kill(os.getpid(), number)
        assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL
        assert leave.asked
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def test_the_result_says_what_really_ran(tmp_path: Path) -> None:
    place = Place(tmp_path, tmp_path / "c", None, "r-abcd", 3)
    device = Device("cpu", "cpu", "cuda", "USE_GPU")
    write_result(
        place,
        trainer="t",
        metrics={"auc": 0.5},
        device=device,
        seconds=1.23456,
        packages=["pytest"],
        more={"x": 1},
    )
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["device"] == {"used": "cpu", "name": "cpu", "wish": "cuda", "source": "USE_GPU"}
    assert (result["run"], result["seed"], result["seconds"], result["x"]) == ("r-abcd", 3, 1.235, 1)
    assert result["versions"]["pytest"] == pytest.__version__


def test_a_nan_in_a_result_is_refused_and_leaves_the_old_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"x": math.nan})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": 1}
    assert [child.name for child in tmp_path.iterdir()] == ["a.json"]


def test_a_full_disk_is_told_with_the_folders_and_other_faults_are_not_hidden() -> None:
    place = Place(Path("out"), Path("kept"), None, None, 7)
    full = place.unwritable(OSError(errno.ENOSPC, "No space left on device"))
    assert full.startswith("cannot write results into out and checkpoints into kept: ")
    with pytest.raises(ConnectionRefusedError):
        place.unwritable(ConnectionRefusedError(errno.ECONNREFUSED, "refused"))


# the kit as a whole


def test_the_kit_loads_nothing_but_the_standard_library() -> None:
    modules = ["arguments", "checkpoints", "device", "events", "files", "manifest", "metrics", "session"]
    imports = "; ".join(f"import trainers.kit.{name}" for name in modules)
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); {imports}; print(*sorted(sys.modules))"
    ran = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    foreign = {name.partition(".")[0] for name in ran.stdout.split()} - set(sys.stdlib_module_names)
    assert foreign <= {"trainers", "__main__"}
    assert sorted(path.stem for path in (ROOT / "trainers" / "kit").glob("[!_]*.py")) == modules
