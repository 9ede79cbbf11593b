"""Flags, variables and profiles: one test for the effect of each, on this machine."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Outcome
from tests.e2e.person import Person, until

PY = sys.executable


@pytest.fixture
def trainer(person: Person) -> Person:
    person.trainer()
    return person


@pytest.fixture(scope="module")
def plain(regular: Person) -> Outcome:
    """What a run of the trainer says that was told nothing but where."""
    regular.trainer()
    return regular.types("run", "mini", "--on", "local", "--json")


@pytest.fixture(scope="module")
def named(regular: Person) -> Outcome:
    """What a project's run called `mine` says; it wrote down its environment."""
    code = "import json, os; json.dump({**os.environ}, open(os.environ['LAUNCHER_OUTPUT'] + '/environ', 'w'))"
    flags = ("--name", "mine", "--env", "COLOUR=red=blue", "--seed", "42", "--device", "cpu")
    return regular.own(PY, "-c", code, flags=flags)


def told(outcome: Outcome) -> list[str]:
    """The arguments that a trainer was really started with."""
    assert outcome.code == 0, outcome.stderr
    words: list[str] = json.loads(Path(outcome.json()["artifacts"], "argv.json").read_text())
    return words


def argument(words: list[str], name: str) -> str:
    return words[words.index(f"--{name}") + 1]


def planned(person: Person, *words: str, LAUNCHER_MAX_TIME: str = "") -> Any:  # noqa: N803 - a variable
    done = person.types("plan", *words, "--json", timeout=20, LAUNCHER_MAX_TIME=LAUNCHER_MAX_TIME)
    assert done.code == 0, done.stderr
    return done.json()


# --- arguments after -- ------------------------------------------------------------------------------


def test_arguments_after_the_dashes_go_to_the_trainer(trainer: Person) -> None:
    words = told(trainer.types("run", "mini", "--on", "local", "--json", "--", "--epochs", "9"))
    assert argument(words, "epochs") == "9"


def test_arguments_override_args_and_underscores_are_dashes(trainer: Person) -> None:
    trainer.writes("launcher.yaml", "on: local\nargs: {epochs: 5, batch_size: 4}\n")
    words = told(trainer.types("run", "mini", "--json", "--", "--batch_size", "16"))
    assert (argument(words, "epochs"), argument(words, "batch-size")) == ("5", "16")


@pytest.mark.parametrize("word", ["--epoch", "--batch-sise"])
def test_wrong_arguments_are_refused_before_anything_runs(trainer: Person, word: str) -> None:
    done = trainer.types("run", "mini", "--json", "--", word, "9")
    assert done.code == 2 and "did you mean" in done.stderr
    assert trainer.ps() == {}


# --- where -------------------------------------------------------------------------------------------


def test_on_local_runs_here_and_costs_nothing(plain: Outcome) -> None:
    said = plain.json()
    assert (said["target"], said["usd"], said["state"]) == ("local", 0, "done")


def test_without_on_nothing_is_rented(trainer: Person) -> None:
    assert planned(trainer, "mini")["chosen"]["usd_per_hour"] == 0


def test_on_is_repeatable_and_the_cheapest_is_chosen(trainer: Person) -> None:
    plan = planned(trainer, "mini", "--on", "aws", "--on", "local", "--gpu", "any-24gb", "--device", "cpu")
    assert plan["chosen"]["target"] == "local"


@pytest.mark.parametrize("flag", ["--max-price", "--bid-price"])
def test_max_price_bounds_one_gpu_for_one_hour(trainer: Person, flag: str) -> None:
    words = ("mini", "--on", "runpod", "--gpu", "any-24gb")
    prices = [o["usd_per_hour"] for o in planned(trainer, *words)["offers"] if o["target"] == "runpod"]
    bound = sorted(prices)[0] + 0.01
    plan = planned(trainer, *words, flag, f"{bound:.2f}")
    assert plan["refused"] and all(
        "above $" in r["reason"] for r in plan["refused"] if "costs" in r["reason"]
    )
    kept = [o for o in plan["offers"] if o["target"] == "runpod"]
    assert kept and len(kept) < len(prices)


def test_gpu_and_gpus_and_region_and_spot_choose_offers(trainer: Person) -> None:
    plan = planned(trainer, "mini", "--on", "runpod", "--gpu", "RTX 4090", "--gpus", "2")
    mine = [o for o in plan["offers"] if o["target"] == "runpod"]
    assert {(o["gpu"], o["gpu_count"]) for o in mine} == {("RTX 4090", 2)}
    anywhere = planned(trainer, "mini", "--on", "aws", "--gpu", "any-24gb")["offers"]
    region = next(o["region"] for o in anywhere if o["target"] == "aws")
    there = planned(trainer, "mini", "--on", "aws", "--gpu", "any-24gb", "--region", region)
    assert {o["region"] for o in there["offers"] if o["target"] == "aws"} == {region}
    spot = trainer.types("plan", "mini", "--on", "aws", "--gpu", "any-24gb", "--spot")
    assert spot.code == 4 and "no spot prices" in spot.stderr  # the bundled list has none, and says so


def test_a_paid_run_without_a_terminal_or_yes_is_refused(trainer: Person) -> None:
    done = trainer.types("run", "mini", "--on", "runpod", "--gpu", "RTX 4090", "--max-cost", "5")
    assert done.code == 2 and trainer.ps() == {}


def test_yes_on_a_paid_target_needs_a_ceiling(trainer: Person) -> None:
    done = trainer.types("run", "mini", "--on", "runpod", "--gpu", "RTX 4090", "--yes")
    assert done.code == 2 and "yes-needs-ceiling" in done.stderr and trainer.ps() == {}


def test_a_ceiling_too_small_is_refused_with_the_smallest_that_fits(trainer: Person) -> None:
    words = ("mini", "--on", "runpod", "--gpu", "RTX 4090")
    done = trainer.types("run", *words, "--max-cost", "0.01", "--yes")
    assert done.code == 8 and "the smallest ceiling that does is $" in done.stderr
    least = done.stderr.split("the smallest ceiling that does is $")[1].split()[0]
    assert planned(trainer, *words, "--max-cost", least)["limits"]["max_cost"] == float(least)


def test_a_project_on_a_paid_target_needs_gpu_and_a_limit(person: Person) -> None:
    words = ("run", "--project", ".", "--on", "runpod")
    no_gpu = person.types(*words, "--", "true")
    no_limit = person.types(*words, "--gpu", "RTX 4090", "--", "true")
    assert (no_gpu.code, no_limit.code) == (2, 2)
    assert "project-needs-gpu" in no_gpu.stderr and "project-needs-limit" in no_limit.stderr


def test_a_paid_plan_warns_of_ignored_paths_that_no_input_covers(person: Person) -> None:
    person.writes(".gitignore", "data/\n")
    person.git()
    person.writes("data/x.csv", "1")
    words = ("plan", "--project", ".", "--on", "runpod", "--gpu", "RTX 4090", "--max-cost", "5")
    warned = person.types(*words, "--json", "--", "python", "t.py", "data/x.csv").json()["warnings"]
    covered = person.types(*words, "--json", "--input", "data", "--", "python", "t.py", "data/x.csv").json()
    assert any("data/x.csv" in w for w in warned)
    assert not any("data/x.csv" in w for w in covered["warnings"])


# --- money and time ----------------------------------------------------------------------------------


def test_max_time_ends_the_trainer_with_status_8(person: Person) -> None:
    begun = time.monotonic()
    done = person.own("sleep", "60", flags=("--max-time", "1s"))
    assert (done.code, done.json()["state"]) == (8, "limit")
    assert "limit-reached" in done.stderr and "--max-time 1s" in done.stderr
    assert time.monotonic() - begun < 15
    person.alone()


def test_max_time_holds_for_a_trainer_that_ignores_the_request(person: Person) -> None:
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    done = person.own(PY, "-c", code, flags=("--max-time", "1s"))
    assert (done.code, done.json()["state"]) == (8, "limit")
    person.alone()


def test_what_a_limit_ended_is_kept_as_a_version(person: Person) -> None:
    code = "import os, time; open(os.environ['LAUNCHER_OUTPUT'] + '/half', 'w').write('1'); time.sleep(60)"
    done = person.own(PY, "-c", code, flags=("--max-time", "2s"))
    assert done.code == 8 and Path(done.json()["artifacts"], "half").exists()
    assert not (person.project / "models" / "latest.json").exists()  # only a run that is done moves it


def test_idle_ends_what_does_nothing(person: Person) -> None:
    done = person.own("sleep", "60", flags=("--idle", "2s", "--max-time", "50s"))
    assert (done.code, done.json()["state"]) == (8, "limit")
    assert "idle for 2s" in done.stderr


def test_idle_leaves_alone_what_computes(person: Person) -> None:
    code = "import time\nend = time.time() + 5\nwhile time.time() < end: pass"
    assert person.own(PY, "-c", code, flags=("--idle", "2s")).code == 0


def test_idle_is_off_unless_given(person: Person) -> None:
    assert person.own("sleep", "4").code == 0


def test_keep_leaves_the_machine_reachable_after_the_end(person: Person) -> None:
    go, _ = person.worker("kept", "--keep", "60s")
    go.write_text("")
    until((person.project / "models").exists, "a version")
    until(lambda: [f for f in person.facts("kept") if f["kind"] == "receipt"], "the receipt")
    assert any("agent.pyz" in argv for argv in person.processes().values())
    assert person.types("stop", "kept").code == 0
    person.alone()


def test_hold_bounds_how_long_results_wait_on_the_machine(person: Person) -> None:
    go, _ = person.worker("held", "--hold", "2s")
    engine = person.engine("held")
    os.kill(engine, 9)
    until(lambda: not Path(f"/proc/{engine}").exists(), "the engine's death")
    go.write_text("")
    person.alone(30)  # nobody came: the agent ends itself
    assert person.state("held") in ("waiting", "interrupted")
    done = person.types("pull", "held", "--json")
    assert done.code == 0 and Path(done.json()["artifacts"], "model.bin").read_bytes() == b"weights"


# --- what runs ---------------------------------------------------------------------------------------


def test_name_names_the_run(named: Outcome) -> None:
    assert named.json()["run"] == "mine"


def test_a_run_is_named_after_its_folder_and_four_letters(person: Person) -> None:
    name, _, letters = person.own("true").json()["run"].rpartition("-")
    assert name == "project" and len(letters) == 4


@pytest.mark.usefixtures("named")
def test_a_name_that_is_taken_is_refused(regular: Person) -> None:
    done = regular.own("true", flags=("--name", "mine"))
    assert done.code == 2 and "run-name-taken" in done.stderr


def test_version_names_the_version(trainer: Person) -> None:
    words = ("run", "mini", "--on", "local", "--json", "--version", "v1")
    done = trainer.types(*words)
    assert done.json()["artifacts"] == str(trainer.project / "models" / "v1")
    again = trainer.types(*words)
    assert again.code == 2 and "version-taken" in again.stderr


@pytest.mark.parametrize("name", ["latest", "latest.json", "../out", ".hidden", "a/b", ""])
def test_version_names_that_are_reserved_or_lead_elsewhere_are_refused(person: Person, name: str) -> None:
    done = person.own("true", flags=("--version", name))
    assert done.code == 2 and person.ps() == {}


def test_a_version_is_called_by_time_and_label(plain: Outcome) -> None:
    day, clock, label = plain.json()["version"].split("_")
    assert len(day) == 8 and len(clock) == 6 and label == "mini"


@pytest.mark.parametrize(
    ("name", "value"), [("COLOUR", "red=blue"), ("LAUNCHER_SEED", "42"), ("DEVICE", "cpu")]
)
def test_env_seed_and_device_reach_the_trainer(named: Outcome, name: str, value: str) -> None:
    environ = json.loads(Path(named.json()["artifacts"], "environ").read_text())
    assert environ[name] == value


def test_setup_prepares_before_the_command(person: Person) -> None:
    done = person.own("cat", "made.txt", flags=("--setup", "touch made.txt"))
    assert done.code == 0, done.stderr


# --- the command itself ------------------------------------------------------------------------------


def test_detached_json_answers_running_once_the_trainer_has_started(person: Person) -> None:
    go, said = person.worker("away")
    assert said.json()["state"] == "running" and said.json()["run"] == "away"
    assert any(f["kind"] == "started" for f in person.facts("away"))
    go.write_text("")
    assert person.types("watch", "away", "--json").json()["state"] == "done"


def test_dry_run_is_plan(trainer: Person) -> None:
    plan, dry = planned(trainer, "mini"), trainer.types("run", "mini", "--dry-run", "--json").json()
    drop = ("run",)
    assert {k: v for k, v in plan.items() if k not in drop}.keys() == {
        k: v for k, v in dry.items() if k not in drop
    }.keys()
    assert plan["chosen"] == dry["chosen"] and plan["limits"]["max_time_s"] == dry["limits"]["max_time_s"]
    assert trainer.ps() == {}


def test_json_is_one_document_on_stdout_and_everything_else_on_stderr(plain: Outcome) -> None:
    assert len(plain.stdout.splitlines()) == 1 and plain.json()["state"] == "done"
    assert "trained" in plain.stderr


@pytest.mark.parametrize("flags", [("--no-image", "--allow-cpu"), ("--image", "debian:12")])
def test_flags_for_other_machines_are_taken_here_too(trainer: Person, flags: tuple[str, ...]) -> None:
    assert trainer.types("run", "mini", "--on", "local", "--json", *flags).code == 0


@pytest.mark.parametrize("flag", ["--require-gpu", "--device=cuda"])
def test_a_required_gpu_that_is_not_here_is_refused_by_the_plan(person: Person, flag: str) -> None:
    done = person.own("touch", str(person.root / "ran"), flags=(flag,), PATH="/usr/bin:/bin")
    if done.code == 0:  # a machine with a GPU: then the command must have run
        assert (person.root / "ran").exists()
        return
    assert (done.code, done.stdout) == (4, ""), done.stderr
    assert "error: no-offer\n" in done.stderr and "a GPU is required, and there is none" in done.stderr
    assert not (person.root / "ran").exists() and person.ps() == {}


BROKEN_SMI = """#!/bin/sh
# A GPU's tool that names one, as it does until the driver has lost it.
case "$*" in *query-gpu=name*) echo Lost ;; *) exit 9 ;; esac
"""


def test_a_gpu_that_the_plan_saw_and_the_agent_does_not_is_refused_before_the_command_starts(
    person: Person,
) -> None:
    tools = person.root / "tools"
    tools.mkdir()
    (tools / "nvidia-smi").write_text(BROKEN_SMI)
    (tools / "nvidia-smi").chmod(0o755)
    (tools / "libnvidia-ml.so.1").write_text("no library: the broken tool is asked on every machine")
    seen = {"PATH": f"{tools}:/usr/bin:/bin", "LD_LIBRARY_PATH": str(tools)}
    done = person.own("touch", str(person.root / "ran"), flags=("--require-gpu",), **seen)
    assert done.code == 7 and "GPU" in done.stderr and not (person.root / "ran").exists(), done.stderr
    assert person.facts(done.json()["run"])[-1]["kind"] == "ended"
    person.alone()


# --- profiles and variables --------------------------------------------------------------------------


def test_a_profile_gives_flags_by_their_names(trainer: Person) -> None:
    trainer.writes("p.yaml", "on: local\nmax_time: 20s\nargs: {epochs: 4}\n")
    assert planned(trainer, "mini", "--profile", "p.yaml")["limits"]["max_time_s"] == 20
    words = told(trainer.types("run", "mini", "--profile", "p.yaml", "--json"))
    assert argument(words, "epochs") == "4"


def test_a_flag_beats_a_variable_beats_a_profile(trainer: Person) -> None:
    trainer.writes("p.yaml", "max_time: 20s\n")
    words = ("mini", "--profile", "p.yaml")
    assert planned(trainer, *words, LAUNCHER_MAX_TIME="30s")["limits"]["max_time_s"] == 30
    both = planned(trainer, *words, "--max-time", "40s", LAUNCHER_MAX_TIME="30s")
    assert both["limits"]["max_time_s"] == 40


def test_a_profile_extends_another(trainer: Person) -> None:
    trainer.writes("base.yaml", "max_time: 20s\nargs: {epochs: 4}\n")
    trainer.writes("p.yaml", "extends: base.yaml\nargs: {batch_size: 2}\n")
    words = told(trainer.types("run", "mini", "--on", "local", "--profile", "p.yaml", "--json"))
    assert (argument(words, "epochs"), argument(words, "batch-size")) == ("4", "2")


def test_launcher_yaml_is_read_when_no_profile_is_given(trainer: Person) -> None:
    trainer.writes("launcher.yaml", "trainer: mini\nmax_time: 25s\n")
    assert planned(trainer)["limits"]["max_time_s"] == 25
    assert planned(trainer, "--profile", "local")["limits"]["max_time_s"] != 25


@pytest.mark.parametrize("name", ["local", "docker", "gpu", "runpod", "aws"])
def test_bundled_profiles_are_known_by_name(person: Person, name: str) -> None:
    said = person.types("config", "show", "--json", "--profile", name, timeout=20)
    assert said.code == 0 and f"profile {name}" in said.stdout + "profile " + name


def test_settings_without_a_flag_have_a_key_and_a_variable(person: Person) -> None:
    person.extra = {
        "LAUNCHER_READY_WITHIN": "15s",
        "LAUNCHER_BOOT_LIMIT": "3m",
        "LAUNCHER_CHECKPOINT_EVERY": "1m",
    }
    said = person.types("config", "show", "--json").json()["settings"]
    held = {one["name"]: (one["value"], one["origin"]) for one in said}
    assert held["ready_within"] == (15, "LAUNCHER_READY_WITHIN")
    assert held["boot_limit"][0] == 180 and held["checkpoint_every"][0] == 60


@pytest.mark.usefixtures("named")
def test_launcher_home_holds_the_data_and_the_owner_lies_beside_the_runs(regular: Person) -> None:
    assert (regular.home / "runs" / "mine" / "plan.json").exists() and (regular.home / "owner").exists()


@pytest.mark.parametrize("typed", ["./launch", "../launch", "launcher"])
def test_printed_commands_begin_with_the_name_that_was_typed(person: Person, typed: str) -> None:
    done = person.types("status", LAUNCHER_PROG=typed)
    assert done.code == 2 and f"hint: {typed} run" in done.stderr
