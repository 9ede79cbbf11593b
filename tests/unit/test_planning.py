"""What a plan is gathered from: settings, recipes, offers, prices, past runs; and what is refused at once."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from launcher.errors import Exit, LauncherError, Unreachable
from launcher.models import RuntimeKind, Traits
from tests.unit.planned import Machine, Market, decided, project, refused, small_place


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return small_place(tmp_path)


def test_a_trainer_becomes_a_plan_for_this_machine(place: Path) -> None:
    decision = decided(place, words=("--rounds", "50"), max_time="10m")
    plan = decision.require()
    assert (plan.run, plan.label, plan.trainer, plan.project) == ("tiny-abcd", "tiny", "tiny", str(place))
    assert plan.job.argv == ("python", "-m", "trainers.tiny", "--rounds", "50")
    assert (plan.job.folder, plan.job.push) == (str(place), ("trainers/tiny",))
    assert plan.limits.max_time_s == 600
    assert plan.need.disk_gb == 5
    assert dict(plan.settings) == {"args.rounds": "50", "max_time": "10m"}
    (choice,) = plan.choices
    assert (choice.offer.target, choice.runtime.kind) == ("here", RuntimeKind.ENV)
    assert choice.runtime.requirements == "trainers/tiny/requirements.txt"
    assert choice.runtime.prepare_s > 0


def test_the_other_targets_follow_with_source_and_age(place: Path) -> None:
    decision = decided(place)
    assert {choice.offer.target for choice in decision.others} == {"runpod", "aws"}
    assert all(choice.offer.price_as_of is not None for choice in decision.others)
    assert not {choice.offer.gpu for choice in decision.others} & {"T4"}, "too little memory for this trainer"


def test_old_prices_are_warned_of_where_they_are_shown(place: Path) -> None:
    assert not any("days old" in text for text in decided(place).warnings), "this run pays none of them"
    shown = decided(place, for_run=False).warnings
    assert "the prices of runpod are 184 days old (planning notes): today's may differ" in shown


def test_an_environment_that_is_here_takes_no_time(place: Path) -> None:
    env = place.parent / "home" / "envs" / "0123"
    env.mkdir(parents=True)
    (env / ".complete").write_text(json.dumps({"digest": "0123", "wanted": ["numpy==2.0"], "setup": []}))
    (choice,) = decided(place).plan.choices
    assert (choice.runtime.prepare_s, choice.runtime.why) == (0, "its environment is here")
    (env / ".complete").write_text(json.dumps({"digest": "0123", "wanted": ["numpy==1.0"], "setup": []}))
    assert decided(place).plan.choices[0].runtime.prepare_s > 0


def version(place: Path, name: str, **facts: object) -> None:
    folder = place / "models" / name
    folder.mkdir(parents=True)
    facts = {"state": "done", "trainer": "tiny", "command": ["python", "-m", "trainers.tiny"], **facts}
    (folder / "manifest.json").write_text(json.dumps(facts))


def test_past_runs_on_the_same_device_are_the_estimate(place: Path) -> None:
    version(place, "20260301_100000", seconds=720.5, device={"used": "cpu", "name": "cpu"})
    version(place, "20260301_110000", seconds=9.0, device={"used": "cuda", "name": "NVIDIA GeForce RTX 4090"})
    version(place, "20260301_120000", seconds=1.0, device=None, state="failed")
    version(place, "20260301_130000", seconds="long", device=None)
    (place / "models" / "broken").mkdir()
    decision = decided(place)
    hours = {
        c.offer.gpu: c.estimate.lines[2].hours.likely for c in (*decision.plan.choices, *decision.others)
    }
    assert hours[None] == Decimal("0.200139")
    assert hours["RTX 4090"] == Decimal("0.0025")
    assert hours["A40"] == Decimal("0.2"), "no run on that one yet: the recipe's word"


def test_a_gpu_that_the_user_names_is_the_users_own_judgement(place: Path) -> None:
    decision = decided(place, gpu=("t4",))
    assert {choice.offer.gpu for choice in decision.others} == {"T4"}
    assert decision.plan.choices == ()
    assert decision.problem is not None
    assert decision.problem.exit is Exit.NO_OFFER


@pytest.mark.parametrize(
    ("gpu", "wish", "why"),
    [
        (None, "RTX 4090", "RTX 4090 is asked for, and there is no GPU"),
        ("NVIDIA A40", "RTX 4090", "RTX 4090 is asked for, and the GPU is A40"),
    ],
)
def test_this_machine_without_the_gpu_says_so(place: Path, gpu: str | None, wish: str, why: str) -> None:
    error = refused(place, provider=Machine(gpu), on=("here",), gpu=(wish,))
    assert (error.code, error.exit) == ("no-offer", Exit.NO_OFFER)
    assert error.details == (f"here: {why}",)


@pytest.mark.parametrize("said", [{"require_gpu": True}, {"device": "cuda"}])
def test_a_required_gpu_that_surely_is_not_there_is_refused_by_the_plan(
    place: Path, said: dict[str, Any]
) -> None:
    error = refused(place, on=("here",), **said)
    assert (error.code, error.exit) == ("no-offer", Exit.NO_OFFER)
    assert error.message == "here has no GPU"
    assert error.details == ("here: a GPU is required, and there is none: it has none",)
    assert error.hint == "plan tiny --gpu any-24gb"
    seen = decided(place, for_run=False, **said)
    assert "here" in {one.offer for one in seen.plan.refused}
    with pytest.raises(LauncherError) as caught:
        seen.require()
    assert caught.value.exit is Exit.NO_OFFER
    assert decided(place, provider=Machine("NVIDIA A40"), on=("here",), **said).plan.choices


def test_a_machine_whose_gpus_nobody_knows_is_not_refused_for_want_of_one(place: Path) -> None:
    unknown = Machine(no_gpu=None)
    assert decided(place, provider=unknown, on=("here",), require_gpu=True).require().job.require_gpu
    named = refused(place, provider=unknown, on=("here",), gpu=("A40",))
    assert named.details == ("here: A40 is asked for, and which GPU it has is not known",)


def test_a_target_that_runs_nothing_but_images_is_refused_where_none_is_wanted(place: Path) -> None:
    box = Machine()
    box.traits = Traits(boots="image", bills=False)
    error = refused(place, provider=box, on=("here",), no_image=True)
    assert (error.code, error.exit) == ("needs-image", Exit.USAGE)
    assert error.hint == "run tiny --on here"
    folder = project(place)
    own = refused(
        place, None, ("sh", "-c", "a b"), provider=box, on=("here",), no_image=True, project=str(folder)
    )
    assert own.hint == f"run --project '{folder}' --on here -- sh -c 'a b'"


def test_this_machines_gpu_counts_by_its_name_and_its_memory(place: Path) -> None:
    for wish in ("A40", "any-48gb"):
        (choice,) = decided(place, provider=Machine("NVIDIA A40"), gpu=(wish,)).plan.choices
        assert (choice.offer.gpu, choice.offer.vram_gb) == ("A40", Decimal(48))
    two = refused(place, provider=Machine("NVIDIA A40"), on=("here",), gpu=("A40",), gpus="2")
    assert "2 GPUs of one kind are asked for, and there is 1" in two.details[0]
    none = refused(place, provider=Machine(), on=("here",), gpus="2")
    assert (none.exit, none.message) == (Exit.NO_OFFER, "here has no 2 GPUs of one kind")
    assert none.details == ("here: 2 GPUs are asked for, and there is none: it has none",)
    assert decided(place, provider=Machine(), gpu=("A40",), device="cpu").plan.choices


def test_where_there_is_a_gpu_to_use_its_own_packages_are_installed(place: Path) -> None:
    with_a_set_for_gpus(place)
    gpu = Machine("NVIDIA A40")

    def wanted(machine: Machine, device: str = "auto") -> str | None:
        return decided(place, provider=machine, device=device).plan.choices[0].runtime.requirements

    assert wanted(gpu) == "trainers/tiny/gpu.txt"
    assert wanted(gpu, device="cpu") == wanted(Machine()) == "trainers/tiny/requirements.txt"
    rented = decided(place).others
    assert {choice.runtime.requirements for choice in rented if choice.offer.target == "runpod"} == {
        "trainers/tiny/gpu.txt"
    }


def with_a_set_for_gpus(place: Path) -> None:
    trainer = place / "trainers" / "tiny"
    (trainer / "gpu.txt").write_text("numpy==2.1\n")
    with (trainer / "trainer.yaml").open("a") as recipe:
        recipe.write("gpu_requirements: gpu.txt\n")


def test_names_are_free_and_taken(place: Path) -> None:
    home = place.parent / "home" / "runs"
    for name in ("tiny-abcd", "mine"):
        (home / name).mkdir(parents=True)
        (home / name / "plan.json").write_text("{}")
    assert decided(place).plan.run == "tiny-efgh"
    assert decided(place, name="yours").plan.run == "yours"
    assert refused(place, name="mine").code == "run-name-taken"


def test_an_unknown_target_is_named_with_the_nearest(place: Path) -> None:
    error = refused(place, on=("runpud",))
    assert (error.code, error.exit) == ("unknown-target", Exit.USAGE)
    assert "did you mean 'runpod'?" in error.message


def test_a_target_that_cannot_be_used_says_why_and_how_to_mend_it(place: Path) -> None:
    off = refused(place, provider=Machine(ok=False), on=("here",))
    assert (off.code, off.exit) == ("target-unreachable", Exit.UNREACHABLE)
    assert "engine: it is off" in off.message
    assert off.details == ("switch it on",)
    cut = refused(place, provider=Machine(fault=Unreachable("no answer")), on=("here",))
    assert (cut.exit, cut.message) == (Exit.UNREACHABLE, "here cannot be used: no answer")
    bare = refused(place, provider=Machine(fault=ModuleNotFoundError(name="docker")), on=("here",))
    assert "needs the Python package docker" in bare.message


def test_an_engine_that_is_not_here_is_found_so_before_its_library_is_loaded(tmp_path: Path) -> None:
    """It takes a tenth of a second, in every plan of those who have none."""
    asks = (
        "import sys\nfrom launcher.dockerapi import NoAnswer, connect\n"
        "try: connect(1)\nexcept NoAnswer as why: print(why.reason, 'docker.api' in sys.modules)\n"
    )
    env = {"DOCKER_HOST": f"unix://{tmp_path}/none.sock", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", asks], env=env, capture_output=True, text=True)
    assert done.stdout == f"{tmp_path}/none.sock: No such file or directory False\n", done.stderr


def test_a_run_looks_at_what_else_is_free_only_where_the_named_targets_do_not_do(place: Path) -> None:
    def beside() -> Machine:
        machine = Machine(gpu="RTX 4090")
        machine.name = "beside"
        return machine

    def refusing() -> Machine:
        machine = beside()
        machine.fault = AssertionError("nobody named it")
        return machine

    assert decided(place, on=("here",), market=refusing()).plan.refused == ()
    shown = decided(place, on=("here",), market=beside(), for_run=False)
    for decision in (shown, decided(place, market=beside())):
        assert "RTX 4090" in {choice.offer.gpu for choice in decision.others if not choice.offer.bills}


def test_where_targets_are_named_the_others_are_shown_and_nothing_is_said_of_them(place: Path) -> None:
    away = Machine(fault=Unreachable("no answer"))
    free, named = (
        decided(place, provider=away, for_run=False, on=on, gpu=("RTX 4090",), max_cost="9")
        for on in ((), ("runpod",))
    )
    assert [one.offer for one in free.plan.refused if one.offer == "here"] == ["here"]
    assert named.plan.refused == ()
    silent = Market(fault=Unreachable("no answer"))
    beside = decided(place, for_run=False, on=("here",), market=silent)
    assert {choice.offer.target for choice in beside.others} == {"runpod", "aws"}
    assert beside.warnings == (), "nor who is silent, nor how old its prices are"
    assert [text.split()[3] for text in named.warnings if "days old" in text] == ["runpod"]


def test_a_target_that_is_only_priced_shows_prices_and_cannot_run(place: Path) -> None:
    decision = decided(place, on=("runpod",), gpu=("RTX 4090",), max_cost="9")
    assert decision.plan.choices == ()
    assert [choice.offer.id for choice in decision.others] == ["runpod:RTX 4090:any"]
    with pytest.raises(LauncherError) as caught:
        decision.require()
    assert caught.value.code == "target-not-available"


def test_an_image_that_is_not_here_is_named_by_what_goes_into_it(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{place}/no-engine.sock")
    (place / "images" / "cpu").mkdir(parents=True)
    (place / "images" / "cpu" / "Dockerfile").write_text("FROM scratch\n")
    box = Machine()
    box.traits = Traits(boots="image", bills=False)
    (choice,) = decided(place, provider=box, on=("here",)).plan.choices
    name, prepare_s = choice.runtime.image, choice.runtime.prepare_s
    assert re.fullmatch(r"launcher/cpu:[0-9a-f]{12}", str(name))
    assert (choice.runtime.kind, prepare_s > 0) == (RuntimeKind.IMAGE, True)
    assert choice.runtime.requirements is None, "the image holds them"
    (place / "trainers" / "tiny" / "requirements.txt").write_text("numpy==3\n")
    (other,) = decided(place, provider=box, on=("here",)).plan.choices
    assert other.runtime.image != name
    folder = project(place)
    (folder / "requirements.txt").write_text("numpy\n")
    (own,) = decided(place, None, ("x",), project=str(folder), provider=box, on=("here",)).plan.choices
    assert own.runtime.requirements == "requirements.txt", "a project's own come on top"
    assert own.runtime.prepare_s > prepare_s
    assert refused(place, provider=box, on=("here",), image="gpux").code == "unknown-image"
