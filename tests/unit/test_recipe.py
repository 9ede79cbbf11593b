"""Recipes: found here first, read whole or refused with every fault; arguments checked before renting."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from launcher import recipe
from launcher.errors import Exit, LauncherError
from launcher.models import Need

GOOD = """\
name: toy
summary: A toy.
command: [python, -m, trainers.toy]
requirements: requirements.txt
image: cpu
push: [trainers/toy]
need: {gpu: [RTX 4090, any-24gb], disk_gb: 20, ram_gb: 8, vram_gb: 24}
hours:
  cpu: [0.5, 1, 2]
  gpu: [0.1, 0.2, 0.5]
max_time: 10m
args:
  rounds: {type: int, default: 60, min: 1, max: 500, help: how many trees}
  learning_rate: {type: float, min: 0, max: 1}
  note: {type: str}
  shuffle: {type: bool, default: true}
  loss: {type: choice, choices: [log, square], default: log}
  shift: {type: int}
inputs: {}
seed: 7
"""


def trainer(root: Path, text: str, name: str = "toy") -> Path:
    folder = root / "trainers" / name
    folder.mkdir(parents=True)
    (folder / "trainer.yaml").write_text(text, encoding="utf-8")
    (folder / "requirements.txt").write_text("", encoding="utf-8")
    return root


def refused(name: str, cwd: Path) -> LauncherError:
    with pytest.raises(LauncherError) as caught:
        recipe.load(name, cwd)
    assert caught.value.exit is Exit.USAGE
    return caught.value


@pytest.fixture
def toy(tmp_path: Path) -> recipe.Recipe:
    return recipe.load("toy", trainer(tmp_path, GOOD))


def test_everything_a_recipe_says(toy: recipe.Recipe, tmp_path: Path) -> None:
    assert (toy.name, toy.summary, toy.folder) == ("toy", "A toy.", tmp_path)
    assert toy.command == ("python", "-m", "trainers.toy")
    assert (toy.requirements, toy.image, toy.push) == (
        "trainers/toy/requirements.txt",
        "cpu",
        ("trainers/toy",),
    )
    assert toy.need == Need(gpus=("RTX 4090", "any-24gb"), disk_gb=20, ram_gb=Decimal(8), vram_gb=Decimal(24))
    assert toy.hours["gpu"] == (Decimal("0.1"), Decimal("0.2"), Decimal("0.5"))
    assert (toy.max_time_s, toy.seed, toy.inputs) == (600, 7, {})
    assert toy.args["rounds"].described() == "--rounds INT 1..500 (default 60)  how many trees"
    assert toy.args["loss"].described() == "--loss log|square (default log)"
    assert toy.args["note"].described() == "--note STR"
    assert toy.args["shuffle"].described() == "--shuffle/--no-shuffle (default True)"


def test_a_recipe_may_say_little(tmp_path: Path) -> None:
    small = recipe.load("toy", trainer(tmp_path, "command: [python, -m, trainers.toy]\n"))
    assert (small.push, small.need, small.max_time_s) == (("trainers/toy",), Need(), None)


def test_trainers_here_come_before_the_bundled_ones(tmp_path: Path) -> None:
    assert recipe.names(tmp_path) == recipe.names(Path("/"))
    assert "quickstart" in recipe.names(tmp_path)
    trainer(tmp_path, "command: [mine]\n", "quickstart")
    trainer(tmp_path, GOOD)
    assert recipe.names(tmp_path)[:2] == ("quickstart", "toy")
    assert recipe.load("quickstart", tmp_path).command == ("mine",)
    assert recipe.load("quickstart", Path("/")).command == ("python", "-m", "trainers.quickstart")


def test_every_bundled_recipe_holds() -> None:
    for name in recipe.names(Path("/")):
        held = recipe.load(name, Path("/"))
        assert held.summary and held.max_time_s and held.hours
        assert recipe.command_line(held, {}, ()) == held.command


def test_a_set_for_gpus_differs_only_in_what_is_built_for_them() -> None:
    for name in recipe.names(Path("/")):
        one = recipe.load(name, Path("/"))
        if one.requirements is None or one.gpu_requirements is None:
            continue
        plain, gpu = (
            {
                line.partition("==")[0]: line
                for line in (one.folder / place).read_text().split()
                if "==" in line
            }
            for place in (one.requirements, one.gpu_requirements)
        )
        differing = {name for name in plain | gpu if plain.get(name) != gpu.get(name)}
        assert all(name.startswith(("xgboost", "nvidia-", "torch")) for name in differing), (name, differing)


@pytest.mark.parametrize("name", ["toi", "../toy", "toy/", "", ".", "x" * 300])
def test_unknown_trainers(tmp_path: Path, name: str) -> None:
    fault = refused(name, trainer(tmp_path, GOOD))
    assert fault.code == "unknown-trainer"
    assert "toy" in fault.details[0]
    if name == "toi":
        assert fault.message == "there is no trainer 'toi', did you mean 'toy'?"
        assert fault.hint == "run toy"


def test_all_faults_of_a_recipe_at_once(tmp_path: Path) -> None:
    bad = """\
comand: [x]
command: python -m x
need: {gpuu: 1, disk_gb: 0}
hours: {cpu: [2, 1, 3], gpu: 5}
push: [../up]
args:
  rounds: {type: integer, max: x}
  a: {type: choice}
  b: {type: str, min: 1, mn: 0}
  c: {type: int, default: 9, max: 3}
  No: {type: int}
  d: 5
  learning-rate: {type: float}
  learning_rate: {type: float}
inputs: {data: ../up}
"""
    fault = refused("toy", trainer(tmp_path, bad))
    assert fault.code == "bad-recipe"
    places = [line.split(": ")[0].removeprefix("trainers/toy/trainer.yaml:") for line in fault.details]
    assert places == [
        *("1:1", "2:1", "3:8", "3:17", "4:9", "4:25", "5:8"),
        *("7:12", "7:27", "8:3", "9:7", "9:26", "10:18", "11:3", "12:3", "14:3", "15:10"),
    ]
    assert "comand: unknown key 'comand', did you mean 'command'?" in fault.details[0]


def test_parts_of_a_recipe_are_mappings(tmp_path: Path) -> None:
    fault = refused("toy", trainer(tmp_path, "command: [x]\nneed: 5\nhours: []\n"))
    assert [line.partition("trainer.yaml:")[2] for line in fault.details] == [
        "2:1: need: needs a mapping (key: value)",
        "3:1: hours: needs a mapping (key: value)",
    ]


def test_what_a_recipe_names_must_be_there(tmp_path: Path) -> None:
    text = (
        "name: other\nrequirements: none.txt\npush: [trainers/toy, trainers/gone]\ngpu_requirements: no.txt\n"
    )
    fault = refused("toy", trainer(tmp_path, text))
    assert [line.partition("trainer.yaml:")[2] for line in fault.details] == [
        "1:1: needs a command, such as command: [python, -m, trainers.NAME]",
        "1:1: name: is 'other', but the folder is called 'toy'",
        "2:1: requirements: there is no trainers/toy/none.txt",
        f"3:22: push.1: there is no trainers/gone in {tmp_path}",
        "4:1: gpu_requirements: there is no trainers/toy/no.txt",
    ]


def test_arguments_override_the_profile_and_come_out_in_one_spelling(toy: recipe.Recipe) -> None:
    profile = {"rounds": 5, "learning-rate": 0.5, "shuffle": False}
    cli = ["--rounds", "7", "--learning_rate=1e-3", "--note", "안녕 a=b", "--loss=square", "--shift", "-3"]
    assert recipe.command_line(toy, profile, cli) == (
        *toy.command,
        *("--rounds", "7", "--learning-rate", "0.001", "--note", "안녕 a=b", "--no-shuffle"),
        *("--loss", "square", "--shift=-3"),
    )
    assert recipe.command_line(toy, {}, ["--no-shuffle", "--shuffle"])[-1] == "--shuffle"
    assert recipe.command_line(toy, {}, ["--shuffle=no"])[-1] == "--no-shuffle"
    assert recipe.command_line(toy, {}, []) == toy.command


@pytest.mark.parametrize(
    ("cli", "words"),
    [
        (["--round", "7"], "--round: unknown argument, did you mean '--rounds'?"),
        (["--learning_rat=1"], "--learning_rat: unknown argument, did you mean '--learning-rate'?"),
        (["--rounds", "many"], "--rounds: needs a whole number, not 'many'"),
        (["--rounds", "0"], "--rounds: must be at least 1, and 0 is less"),
        (["--rounds=501"], "--rounds: must be at most 500, and 501 is more"),
        (["--learning-rate", "nan"], "--learning-rate: needs a finite number, not 'nan'"),
        (["--learning-rate", "fast"], "--learning-rate: needs a number, not 'fast'"),
        (["--loss", "logg"], "--loss: must be log or square, not 'logg', did you mean 'log'?"),
        (["--rounds"], "--rounds: needs a value"),
        (["--rounds", "--note", "x"], "--rounds: needs a value"),
        (["--note="], "--note: is empty"),
        (["rounds=5"], "'rounds=5' stands where a flag such as --name was expected"),
        (["-r", "5"], "'-r' stands where a flag such as --name was expected"),
        (["--no-rounds"], "--no-rounds: unknown argument, did you mean '--rounds'?"),
    ],
)
def test_wrong_arguments(toy: recipe.Recipe, cli: list[str], words: str) -> None:
    with pytest.raises(LauncherError) as caught:
        recipe.command_line(toy, {}, cli)
    assert (caught.value.code, caught.value.exit) == ("bad-trainer-argument", Exit.USAGE)
    assert caught.value.details[0] == words


def test_wrong_arguments_are_told_together(toy: recipe.Recipe) -> None:
    with pytest.raises(LauncherError) as caught:
        recipe.command_line(
            toy, {"roundz": 1, "rounds": True, "learning_rate": True}, ["--los", "log", "--shift", "x"]
        )
    assert caught.value.message == "5 arguments of toy are wrong"
    assert caught.value.details[:5] == (
        "args.roundz: unknown argument, did you mean 'rounds'?",
        "args.rounds: needs a whole number, not 'True'",
        "args.learning_rate: needs a number, not 'True'",
        "--los: unknown argument, did you mean '--loss'?",
        "--shift: needs a whole number, not 'x'",
    )
    assert "takes --rounds INT 1..500 (default 60)  how many trees" in caught.value.details
