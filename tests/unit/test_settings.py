"""Settings: five places, one order, every value with its origin, every fault at once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from launcher import settings
from launcher.errors import Exit, LauncherError
from launcher.keys import KEYS
from launcher.models import SecretRef
from launcher.yamlfile import BadFile, read


def resolve(
    cwd: Path,
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    user_file: Path | None = None,
) -> settings.Settings:
    return settings.resolve(flags or {}, cwd=cwd, environ=environ or {}, user_file=user_file)


def refused(cwd: Path, *args: Any, **more: Any) -> LauncherError:
    with pytest.raises(LauncherError) as caught:
        resolve(cwd, *args, **more)
    assert caught.value.exit is Exit.USAGE
    return caught.value


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_first_place_wins(tmp_path: Path) -> None:
    write(tmp_path / "launcher.yaml", "max_cost: 3\nmax_time: 3h\nhold: 3m\nidle: 3m\n")
    user = write(
        tmp_path / "home" / "config.yaml", "max_cost: 4\nmax_time: 4h\nhold: 4m\nidle: 4m\nkeep: 4m\n"
    )
    environ = {"LAUNCHER_MAX_COST": "2", "LAUNCHER_MAX_TIME": "2h"}
    held = resolve(tmp_path, {"max_cost": "1"}, environ, user)
    seen = {
        name: (held.get(name), held.origin(name)) for name in ("max_cost", "max_time", "hold", "keep", "gpus")
    }
    assert seen == {
        "max_cost": (Decimal(1), "command line"),
        "max_time": (7200, "LAUNCHER_MAX_TIME"),
        "hold": (180, "launcher.yaml:3"),
        "keep": (240, "home/config.yaml:5"),
        "gpus": (1, "default"),
    }
    assert held.files == ("launcher.yaml", "home/config.yaml")
    assert held.profile == "launcher.yaml"
    assert held.given("keep") and not held.given("gpus")


def test_a_profile_replaces_the_folders_own_file(tmp_path: Path) -> None:
    write(tmp_path / "launcher.yaml", "max_cost: 3\nidle: 5m\n")
    write(tmp_path / "fast.yaml", "max_cost: 1\n")
    by_flag = resolve(tmp_path, {"profile": "fast.yaml"})
    by_variable = resolve(tmp_path, environ={"LAUNCHER_PROFILE": "fast.yaml"})
    for held in (by_flag, by_variable):
        assert (held.get("max_cost"), held.get("idle"), held.profile) == (1, None, "fast.yaml")


def test_flags_left_out_overrule_nothing(tmp_path: Path) -> None:
    write(tmp_path / "launcher.yaml", "spot: true\non: [local, docker]\n")
    held = resolve(tmp_path, {"spot": None, "on": (), "detach": False, "max_cost": None})
    assert held.get("spot") == "only"
    assert held.get("on") == ("local", "docker")
    assert held.origin("detach") == "default"


def test_mappings_merge_entry_by_entry(tmp_path: Path) -> None:
    write(tmp_path / "launcher.yaml", "env:\n  A: file\n  B: file\nargs: {rounds: 5, shuffle: true}\n")
    held = resolve(tmp_path, {"env": ("B=flag", "C=x=y")}, {"LAUNCHER_ENV": "A=variable,D=1"})
    assert held.get("env") == {"A": "variable", "B": "flag", "C": "x=y", "D": "1"}
    assert held.origin("env") == "command line, LAUNCHER_ENV, launcher.yaml:1"
    assert [held.origin(f"env.{name}") for name in "ABC"] == ["LAUNCHER_ENV", "command line", "command line"]
    assert held.get("args") == {"rounds": 5, "shuffle": True}
    assert held.origin("args.rounds") == "launcher.yaml:4"


def test_extends_reads_from_the_nearest(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", "max_cost: 5\nmax_time: 5h\nidle: 5m\nenv: {A: base, B: base}\n")
    write(tmp_path / "team" / "mid.yaml", "extends: ../base.yaml\nmax_time: 4h\nidle: 4m\n")
    write(tmp_path / "mine.yaml", "extends: team/mid.yaml\nidle: 3m\nenv: {A: mine}\n")
    held = resolve(tmp_path, {"profile": "mine.yaml"})
    assert [held.get(name) for name in ("max_cost", "max_time", "idle")] == [5, 4 * 3600, 180]
    assert held.origin("max_time") == "team/mid.yaml:2"
    assert held.get("env") == {"A": "mine", "B": "base"}
    assert held.files == ("mine.yaml", "team/mid.yaml", "base.yaml")


def test_own_profiles_come_before_the_bundled_ones_and_may_extend_their_name(tmp_path: Path) -> None:
    assert resolve(tmp_path, {"profile": "local"}).get("on") == ("local",)
    write(tmp_path / "profiles" / "local.yaml", "extends: local\nmax_time: 1h\n")
    held = resolve(tmp_path, {"profile": "local"})
    assert (held.get("on"), held.get("max_time")) == (("local",), 3600)
    assert held.files == ("profiles/local.yaml", "bundled profiles/local.yaml")


def test_circles_are_named_as_a_chain(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", "max_cost: 1\nextends: sub/b.yaml\n")
    write(tmp_path / "sub" / "b.yaml", "extends: ../a.yaml\n")
    fault = refused(tmp_path, {"profile": "a.yaml"})
    assert fault.code == "bad-profile"
    assert fault.details == ("sub/b.yaml:1:1: extends: goes in a circle: a.yaml > sub/b.yaml > a.yaml",)


def test_all_faults_of_all_files_at_once(tmp_path: Path) -> None:
    write(
        tmp_path / "bad.yaml",
        "extends: base.yaml\n"
        "max_cots: 2\n"
        "max_time: 900h\n"
        "on: [local, 'a b']\n"
        "env: {A: 1, 2B: x}\n"
        "device: cdua\n"
        "name: mine\n"
        "idle:\n"
        "bid_price: 1\n",
    )
    write(tmp_path / "base.yaml", "spot: perhaps\n")
    fault = refused(tmp_path, {"profile": "bad.yaml"})
    assert fault.message == "profiles have 9 faults"
    assert fault.details == (
        "bad.yaml:2:1: max_cots: unknown key 'max_cots', did you mean 'max_cost'?",
        "bad.yaml:3:1: max_time: must be at most 24h, and '900h' is more",
        "bad.yaml:4:13: on.1: needs a target such as local or ssh:NAME, not 'a b'",
        "bad.yaml:5:13: env.2B: needs a variable's name (letters, digits, '_'), not '2B'",
        "bad.yaml:6:1: device: must be auto, cpu or cuda, not 'cdua', did you mean 'cuda'?",
        "bad.yaml:7:1: name: belongs on the command line (--name) or in LAUNCHER_NAME, not in a file",
        "bad.yaml:8:1: idle: has no value; leave the line out to keep the default",
        "bad.yaml:9:1: bid_price: unknown key 'bid_price', did you mean 'max_price'?",
        "base.yaml:1:1: spot: must be no, only or auto, not 'perhaps'",
    )


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("max_cost: 1\nmax_cost: 2\n", "p.yaml:2:1: max_cost: stands here twice"),
        ("env: {A: 1, A: 2}\n", "p.yaml:1:13: A: stands here twice"),
        ("env:\n\tA: 1\n", "p.yaml:2:1: a tab cannot indent YAML; use spaces"),
        ("- local\n", "p.yaml:1:1: needs keys with values (key: value), and nothing else"),
        ("just words\n", "p.yaml:1:1: needs keys with values (key: value), and nothing else"),
        ("extends: gpx\n", "p.yaml:1:1: extends: there is no profile 'gpx', did you mean 'gpu'?"),
        ("extends: ./none.yaml\n", "p.yaml:1:1: extends: there is no profile './none.yaml'"),
        ("args: &a\n  - *a\n", "p.yaml:1:7: args.0: needs a word or a sentence, not nothing"),
        ("max_cost: .nan\n", "p.yaml:1:1: max_cost: needs an amount in USD such as 1.50, not 'nan'"),
        ("gpus: true\n", "p.yaml:1:1: gpus: needs a whole number, not 'True'"),
        ("env: 5\n", "p.yaml:1:1: env: needs a mapping, not '5'"),
        ("on: {a: 1}\n", "p.yaml:1:1: on: needs a list, not a mapping"),
        ("args: {b: }\n", "p.yaml:1:8: args.b: needs a word, a number, true or false"),
        ("args: {a: {b: 1}}\n", "p.yaml:1:8: args.a: needs a word, a number, true or false"),
    ],
)
def test_broken_files(tmp_path: Path, text: str, line: str) -> None:
    write(tmp_path / "p.yaml", text)
    fault = refused(tmp_path, {"profile": "p.yaml"})
    assert fault.code == "bad-profile"
    assert fault.details == (line,)


def test_files_that_cannot_be_text(tmp_path: Path) -> None:
    (tmp_path / "launcher.yaml").write_bytes(b"on: local\nenv: {A: \xff}\n")
    assert refused(tmp_path).details == ("launcher.yaml:2:1: is not UTF-8 text",)
    write(tmp_path / "launcher.yaml", "# " + "x" * 300_000)
    assert refused(tmp_path).details == ("launcher.yaml:1:1: is larger than 256 KiB",)


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(BadFile) as caught:
        read(tmp_path, "p.yaml")
    assert caught.value.lines == ("p.yaml:1:1: cannot be read: Is a directory",)


def test_an_outside_file_is_called_by_its_whole_path(tmp_path: Path) -> None:
    outside = write(tmp_path / "outside.yaml", "max_cost: 1\n")
    (tmp_path / "here").mkdir()
    held = resolve(tmp_path / "here", {"profile": str(outside)})
    assert held.origin("max_cost") == f"{outside}:1"


def test_what_a_merge_key_brings_is_read_and_points_at_its_mapping(tmp_path: Path) -> None:
    write(tmp_path / "launcher.yaml", "env: &e {A: 1}\nargs:\n  <<: *e\n  B: 2\n")
    held = resolve(tmp_path)
    assert held.get("args") == {"A": 1, "B": 2}
    assert (held.origin("args.A"), held.origin("args.B")) == ("launcher.yaml:2", "launcher.yaml:4")


def test_a_bomb_of_references_is_refused_quickly(tmp_path: Path) -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    write(tmp_path / "launcher.yaml", "\n".join(lines))
    assert "refers to itself" in refused(tmp_path).details[0]


def test_empty_files_say_nothing(tmp_path: Path) -> None:
    write(tmp_path / "launcher.yaml", "# nothing yet\n")
    assert resolve(tmp_path).get("on") == ()


def test_words_keep_their_spelling(tmp_path: Path) -> None:
    write(
        tmp_path / "launcher.yaml",
        "env: {A: no, B: 1:30, C: 0755, D: true}\nargs: {day: 2025-09-01, rate: 0.1}\n",
    )
    held = resolve(tmp_path)
    assert held.get("env") == {"A": "no", "B": "1:30", "C": "755", "D": "1"}
    assert held.get("args") == {"day": "2025-09-01", "rate": 0.1}


def test_money_never_passes_through_binary_fractions(tmp_path: Path) -> None:
    write(tmp_path / "launcher.yaml", "max_cost: 0.1\nmax_price: $0.30\n")
    held = resolve(tmp_path)
    assert (held.get("max_cost"), held.get("max_price")) == (Decimal("0.1"), Decimal("0.30"))


def test_an_unknown_profile_names_the_near_one(tmp_path: Path) -> None:
    fault = refused(tmp_path, {"profile": "lokal"})
    assert fault.code == "unknown-profile"
    assert fault.message == "there is no profile 'lokal', did you mean 'local'?"


def test_wrong_flags_and_variables_are_told_together(tmp_path: Path) -> None:
    fault = refused(
        tmp_path, {"max_cost": "lots", "hold": "-3m"}, {"LAUNCHER_GPUS": "0", "LAUNCHER_ENV": "[1"}
    )
    assert fault.code == "bad-setting"
    assert fault.details[:3] == (
        "--max-cost: needs an amount in USD such as 1.50, not 'lots'",
        "--hold: cannot be negative, and '-3m' is",
        fault.details[2],
    )
    assert fault.details[2].startswith("LAUNCHER_ENV: looks like JSON but is not")
    assert fault.details[3] == "LAUNCHER_GPUS: must be at least 1, and 0 is less"
    assert refused(tmp_path, {"gpus": "none"}).message == "--gpus: needs a whole number, not 'none'"


def test_lists_and_mappings_in_variables(tmp_path: Path) -> None:
    environ = {"LAUNCHER_ON": "local, docker", "LAUNCHER_ENV": '{"A": "x,y"}', "LAUNCHER_GPU": '["RTX 4090"]'}
    held = resolve(tmp_path, environ=environ)
    assert held.get("on") == ("local", "docker")
    assert held.get("env") == {"A": "x,y"}
    assert held.get("gpu") == ("RTX 4090",)


def test_strange_variables_warn_only_when_near(tmp_path: Path) -> None:
    environ = {"LAUNCHER_MAX_COTS": "2", "LAUNCHER_HOME": "/x", "LAUNCHER_ZEBRA": "1", "LAUNCHER_INPUT": "d"}
    warnings = resolve(tmp_path, environ=environ).warnings
    assert warnings == (
        "LAUNCHER_INPUT is no setting, did you mean LAUNCHER_INPUTS?",
        "LAUNCHER_MAX_COTS is no setting, did you mean LAUNCHER_MAX_COST?",
    )
    assert resolve(tmp_path, environ={"LAUNCHER_INPUT": "d", "LAUNCHER_RUN": "r"}).warnings == ()


def test_a_run_within_a_run_does_not_inherit_its_contract(tmp_path: Path) -> None:
    contract = {"LAUNCHER_OUTPUT": "/spool/output", "LAUNCHER_SEED": "9", "LAUNCHER_GPUS": "2"}
    held = resolve(tmp_path, environ={**contract, "LAUNCHER_RUN": "demo-abcd"})
    assert (held.get("output"), held.get("seed"), held.get("gpus")) == (None, None, 2)
    assert resolve(tmp_path, environ={"LAUNCHER_SEED": "9"}).get("seed") == 9


def test_paths_count_from_the_current_folder(tmp_path: Path) -> None:
    flags = {
        "project": "../other",
        "inputs": ("data/a=b.csv", "spadl=/abs/x"),
        "secret": ("A=file:keys/a", "B"),
    }
    held = resolve(tmp_path, flags)
    assert held.get("project") == str(tmp_path.parent / "other")
    assert held.get("inputs") == {"": str(tmp_path / "data/a=b.csv"), "spadl": "/abs/x"}
    assert held.get("secret") == {
        "A": SecretRef("A", "file", str(tmp_path / "keys/a")),
        "B": SecretRef("B", "env", "B"),
    }


def test_a_secret_written_in_the_open_is_never_repeated(tmp_path: Path) -> None:
    write(tmp_path / "launcher.yaml", "secret: {HF_TOKEN: hf_canary}\n")
    for fault in (refused(tmp_path), refused(tmp_path.parent, {"secret": ("HF_TOKEN=hf_canary",)})):
        assert "hf_canary" not in f"{fault.message}{fault.details}"
        assert "never the secret itself" in fault.details[0]


def test_a_variable_that_looks_like_a_secret_is_said_and_covered(tmp_path: Path) -> None:
    held = resolve(tmp_path, {"env": ("MY_API_KEY=canary", "PLAIN=x")})
    assert len(held.warnings) == 1
    assert "--secret MY_API_KEY" in held.warnings[0]
    shown = {line.name: line.text for line in held.shown()}
    assert (shown["env.MY_API_KEY"], shown["env.PLAIN"]) == ("***", "x")


def test_shown_lists_every_setting_in_words(tmp_path: Path) -> None:
    flags = {"max_cost": "0.90", "max_time": "90", "on": ("local", "docker"), "spot": True, "secret": ("T",)}
    shown = {line.name: line for line in resolve(tmp_path, flags).shown()}
    assert [
        shown[name].text for name in ("max_cost", "max_time", "hold", "on", "spot", "secret.T", "seed")
    ] == [
        *("$0.90", "90s", "30m", "local, docker", "only", "env:T", "-"),
    ]
    assert (shown["max_cost"].value, shown["on"].value, shown["seed"].value) == (
        0.9,
        ["local", "docker"],
        None,
    )
    assert {name.partition(".")[0] for name in shown} == set(KEYS)


def test_a_profile_is_read_without_the_validation_library(tmp_path: Path) -> None:
    write(tmp_path / "launcher.yaml", "extends: gpu\n")
    program = (
        "import sys; from pathlib import Path; from launcher import recipe, settings\n"
        "settings.resolve({}, cwd=Path(sys.argv[1]), environ={}, user_file=None)\n"
        "recipe.load('quickstart', Path(sys.argv[1]))\n"
        "print([m for m in ('pydantic', 'ruamel', 'rich') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "['ruamel']"


def test_without_a_file_no_yaml_library_is_loaded(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from launcher import settings\n"
        "settings.resolve({'max_cost': '2'}, cwd=Path(sys.argv[1]), environ={}, user_file=None)\n"
        "print([m for m in ('pydantic', 'ruamel', 'rich', 'click', 'platformdirs') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
