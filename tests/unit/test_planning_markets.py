"""What a plan is gathered from where somebody rents out: asked live, else from the price list, and told."""

from __future__ import annotations

import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from launcher import images, runtimes
from launcher.ask import Decision
from launcher.errors import AuthRefused, BadOrder, Exit, LauncherError, NoCapacity, TooFast, Unreachable
from launcher.models import Need, Offer, RuntimeKind
from tests.unit.planned import Market, decided, project, refused, small_place

ROOT = Path(__file__).resolve().parents[2]
RTX: dict[str, Any] = {"on": ("runpod",), "gpu": ("RTX 4090",), "max_cost": "5"}
MISSING = AuthRefused("there is no key", "export KEY=…", missing=True)


def listed(decision: Decision, field: str) -> list[object]:
    """What is shown of the market beside what would be tried."""
    return [getattr(one.offer, field) for one in decision.others if one.offer.target == "runpod"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return small_place(tmp_path)


def test_what_is_free_there_now_is_the_plan(place: Path) -> None:
    (choice,) = decided(place, market=Market(RTX_4090="0.61", A40="1"), **RTX).require().choices
    assert (choice.offer.usd_per_hour, choice.offer.price_source) == (Decimal("0.61"), "live")
    assert choice.offer.instance_type == "id of RTX 4090"


def test_a_plan_asks_whoever_has_a_key_and_a_run_elsewhere_nobody(place: Path) -> None:
    market = Market(RTX_4090="0.61")
    elsewhere = decided(place, market=market)
    assert market.asked == []
    assert set(listed(elsewhere, "price_source")) == {"planning notes"}
    shown = decided(place, market=market, for_run=False)
    assert listed(shown, "price_source") == ["live"]


def test_without_a_key_the_price_list_is_shown_and_a_run_is_refused(place: Path) -> None:
    decision = decided(place, market=Market(MISSING), for_run=False, **RTX)
    assert listed(decision, "id") == ["runpod:RTX 4090:any"]
    assert not any("there is no key" in text for text in decision.warnings)
    with pytest.raises(LauncherError) as caught:
        decision.require()
    assert (caught.value.code, caught.value.exit) == ("no-key", Exit.KEYS)
    assert caught.value.message == "runpod: there is no key"
    assert caught.value.details == ("Mend it: export KEY=…",)


@pytest.mark.parametrize(
    ("fault", "code", "status"),
    [
        (Unreachable("no answer"), "target-unreachable", Exit.UNREACHABLE),
        (TooFast("asked too often", 60), "target-unreachable", Exit.PROVIDER),
        (AuthRefused("not this key", "another key"), "key-refused", Exit.KEYS),
        (ModuleNotFoundError(name="requests"), "target-unreachable", Exit.USAGE),
    ],
)
def test_whoever_does_not_answer_is_shown_from_the_price_list_with_a_warning(
    place: Path, fault: Exception, code: str, status: Exit
) -> None:
    decision = decided(place, market=Market(fault), for_run=False)
    assert listed(decision, "price_source")
    assert any(
        text.endswith("the prices of runpod are from planning notes instead") for text in decision.warnings
    )
    with pytest.raises(LauncherError) as caught:
        decided(place, market=Market(fault), **RTX).require()
    assert (caught.value.code, caught.value.exit) == (code, status)


class Slow(Market):
    def offers(self, need: Need) -> tuple[Offer, ...]:
        time.sleep(30)
        return ()


def test_an_order_that_can_never_be_is_no_reason_to_show_old_prices(place: Path) -> None:
    error = refused(place, market=Market(BadOrder("no such thing")), **RTX)
    assert (error.code, error.exit) == ("target-unreachable", Exit.PROVIDER)
    assert not listed(decided(place, market=Market(BadOrder("no such thing")), for_run=False), "id")


def test_a_plan_waits_no_longer_than_its_deadline(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launcher.targets.PLAN_S", 0.05)
    begun = time.monotonic()
    decision = decided(place, market=Slow(), for_run=False)
    assert time.monotonic() - begun < 5
    assert "runpod cannot be used: runpod did not answer in time" in " ".join(decision.warnings)


class Hasty(Market):
    """Asked too often the first time."""

    def offers(self, need: Need) -> tuple[Offer, ...]:
        found = super().offers(need)
        if len(self.asked) == 1:
            raise TooFast("asked too often", 0.01)
        return found


def test_asked_too_often_it_is_asked_again(place: Path) -> None:
    assert decided(place, market=Hasty(RTX_4090="0.61"), **RTX).require().choices
    plan = Hasty(RTX_4090="0.61")
    decided(place, market=plan, for_run=False)
    assert len(plan.asked) == 1, "but not by a plan, which has the price list"


def test_the_users_own_line_is_answered_with_what_would_do(place: Path) -> None:
    market = Market(RTX_4090="0.69", RTX_3090="0.46", RTX_A5000="0.27")
    error = refused(place, market=market, **{**RTX, "max_price": "0.5"})
    assert (error.code, error.exit) == ("no-offer", Exit.NO_OFFER)
    assert error.message == "RTX 4090 costs $0.69/h on demand, above $0.50; Runpod no longer rents by bid"
    assert error.hint == "plan tiny --on runpod --gpu 'RTX 4090' --max-price 0.69"
    assert error.details[0] == "At or below $0.50 there: RTX A5000 at $0.27/h, RTX 3090 at $0.46/h."


def test_offline_the_same_line_has_the_same_answer(place: Path) -> None:
    error = refused(place, market=Market(MISSING), **{**RTX, "max_price": "0.5"})
    assert (error.code, error.exit) == ("no-offer", Exit.NO_OFFER)
    assert error.message == "RTX 4090 costs $0.69/h on demand, above $0.50; Runpod no longer rents by bid"
    assert error.details[0] == "At or below $0.50 there: RTX 3090 at $0.44/h."


def test_none_free_is_told_in_its_own_words_with_a_line_to_paste(place: Path) -> None:
    market = Market(NoCapacity("none of it is free", hint="--cloud any"))
    folder = project(place)
    error = refused(place, None, ("x", "a b"), market=market, project=str(folder), **RTX)
    assert (error.code, error.exit, error.message) == ("no-offer", Exit.NO_OFFER, "none of it is free")
    assert error.hint == f"plan --project '{folder}' --on runpod --cloud any --max-cost 5 -- x 'a b'"
    empty = refused(place, market=Market(), **RTX)
    assert empty.details == ("runpod: nothing that is free there now fits what is asked for",)


def test_a_machine_that_is_the_image_boots_a_public_one_with_an_environment_on_it(place: Path) -> None:
    market = Market(RTX_4090="0.61")
    (choice,) = decided(place, market=market, **RTX).require().choices
    runtime = choice.runtime
    assert (runtime.kind, runtime.requirements) == (RuntimeKind.IMAGE, "trainers/tiny/requirements.txt")
    assert str(runtime.image).startswith("runpod/pytorch:") and "pinned on 20" in runtime.why
    assert runtime.min_cuda is not None and market.asked[0].min_cuda == runtime.min_cuda
    assert runtime.prepare_s == 180, "its pull and the environment"


def test_the_users_own_image_holds_what_a_trainer_needs(place: Path) -> None:
    market = Market(RTX_4090="0.61")
    (choice,) = decided(place, market=market, image="me/mine:1", **RTX).require().choices
    runtime = choice.runtime
    assert (runtime.image, runtime.requirements, runtime.min_cuda) == ("me/mine:1", None, None)
    assert market.asked[0].min_cuda is None
    assert runtime.prepare_s == 120
    (place / "images" / "mine").mkdir(parents=True)
    (place / "images" / "mine" / "Dockerfile").write_text("FROM scratch")
    assert refused(place, market=market, image="mine", **RTX).code == "image-is-here"
    assert refused(place, market=market, no_image=True, **RTX).code == "needs-image"


def test_an_image_of_the_users_own_is_taken_from_the_users_registry_by_digest(place: Path) -> None:
    (place / "launcher.yaml").write_text("image_registry: registry.example/me\n")
    market = Market(RTX_4090="0.61")
    plan = decided(place, market=market, **RTX).require()
    runtime = plan.choices[0].runtime
    pin = images.public([ROOT / "images"])
    built = runtimes.image_of("cpu", plan.job, place, {runtimes.BASE_IMAGE: pin.image})
    assert runtime.image == f"registry.example/me/{built.name.removeprefix('launcher/')}"
    assert (runtime.digest, runtime.requirements, runtime.min_cuda) == (built.digest, None, pin.min_cuda)
    (place / "trainers" / "tiny" / "requirements.txt").write_text("numpy==3\n")
    assert decided(place, market=market, **RTX).require().choices[0].runtime.image != runtime.image
    folder = project(place)
    (folder / "requirements.txt").write_text("numpy\n")
    own = decided(place, None, ("x",), market=market, project=str(folder), **RTX).require()
    runtime = own.choices[0].runtime
    assert (runtime.image, runtime.requirements) == (pin.image, "requirements.txt"), (
        "nobody pushed one for it"
    )
    said = decided(place, market=market, image="me/mine:1", **RTX).require()
    assert said.choices[0].runtime.image == "me/mine:1"


def test_a_template_names_the_image_unless_the_user_does(place: Path) -> None:
    market = Market(RTX_4090="0.61")
    runtime = decided(place, market=market, template="tpl1", **RTX).require().choices[0].runtime
    assert (runtime.image, runtime.requirements) == (None, None)
    assert runtime.why == "the image of the template tpl1" and runtime.prepare_s == 120
    both = decided(place, market=market, template="tpl1", image="me/mine:1", **RTX).require()
    assert both.choices[0].runtime.image == "me/mine:1"


def test_every_wish_of_a_machine_reaches_whoever_rents_it_out(place: Path) -> None:
    market = Market(RTX_4090="0.61")
    wishes: dict[str, Any] = {
        "cloud": "any",
        "min_cuda": "12.9",
        "network_volume": "vol1",
        "registry_login": "login1",
        "template": "tpl1",
    }
    plan = decided(
        place, market=market, disk="77", spot="auto", region=("EU",), gpus="2", **wishes, **RTX
    ).require()
    for need in (plan.need, market.asked[0]):
        assert (need.cloud, need.network_volume, need.registry, need.disk_gb) == ("any", "vol1", "login1", 77)
        assert need.template == "tpl1"
        assert (need.spot, need.on_demand, need.regions, need.gpu_count) == (True, True, ("EU",), 2)
        assert need.min_cuda == "12.9", "the user's word, not the image's"
    only = decided(place, market=market, spot=True, **RTX).require().need
    assert (only.spot, only.on_demand, only.cloud) == (True, False, "secure")


def test_a_pin_of_the_projects_own_comes_first(place: Path) -> None:
    (place / "images").mkdir()
    pin = place / "images" / "public.json"
    pin.write_text('{"image": "me/base:2", "as_of": "2026-03-01"}')
    folder = project(place)
    (choice,) = (
        decided(place, None, ("x",), market=Market(RTX_4090="0.61"), project=str(folder), **RTX)
        .require()
        .choices
    )
    assert (choice.runtime.image, choice.runtime.why) == ("me/base:2", "a public image, pinned on 2026-03-01")
    pin.write_text("{")
    assert refused(place, market=Market(RTX_4090="0.61"), **RTX).code == "unknown-image"
