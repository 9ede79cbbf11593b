"""The real engine asks the emulated Runpod for machines: what each refusal means for the run, and how a
machine that never becomes of use is told of and ended. No containers: nothing here gets as far as SSH.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from launcher import runstate
from launcher.errors import Exit
from launcher.models import State
from tests.emulators.runpod.emulation import Emulation, emulated
from tests.emulators.runpod.faults import Fault, How
from tests.emulators.runpod.machines import Thin
from tests.engines.rented import IMAGE, LIMITS, NEED, Wish, drive, facts, world
from tests.unit.journals import stories

SEVERAL = replace(NEED, gpus=("RTX 4090", "RTX 3090"), cloud="any")  # four offers
SHORT = replace(LIMITS, ready_within_s=1, max_attempts=2)


@pytest.fixture
def emulation() -> Iterator[Emulation]:
    with emulated() as one:
        yield one
        assert one.cloud.ledger.billing() == []
        assert one.cloud.ledger.most_at_once() <= 1
        assert one.front.offences == []


def no(status: int, detail: str) -> Fault:
    return Fault(How.STATUS, status, detail)


# --- create is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "detail", "exit"),
    [
        (402, "Your balance is too low to deploy this pod. Please add funds.", Exit.NO_OFFER),
        (401, "invalid api key", Exit.KEYS),
        (403, "access denied", Exit.KEYS),
        (422, "Request validation failed.; $.image: any/image:1 not found", Exit.PROVIDER),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else "",
)
def test_what_is_no_offers_fault_ends_the_run_at_once(
    emulation: Emulation, tmp_path: Path, status: int, detail: str, exit: Exit
) -> None:
    emulation.cloud.faults.always("create", no(status, detail))
    w = world(emulation, tmp_path, Wish(SEVERAL))
    state = drive(w)
    assert state.ended is State.FAILED and runstate.exit_status(state, State.FAILED) is exit
    assert len(w.plan.choices) == 4 and len(state.attempts) == 1
    assert detail.rsplit(";", maxsplit=1)[-1].strip() in (state.attempts[0].over or "")


def test_another_target_is_still_tried(emulation: Emulation, tmp_path: Path) -> None:
    """The account is not at fault there."""
    emulation.cloud.faults.add("create", no(402, "no balance"), 1)
    elsewhere = replace(stories.choice("runpod", "0.69"))
    other = replace(elsewhere, offer=replace(elsewhere.offer, target="elsewhere"))
    w = world(emulation, tmp_path, Wish(also=(other,), limits=SHORT))
    state = drive(w)
    assert [a.choice for a in state.attempts][:2] == [0, 1]


@pytest.mark.parametrize(
    ("status", "detail"),
    [
        (400, "There are no longer any instances available with the requested specifications."),
        (400, "There are no instances available with the request specifications. Please try again later."),
        (403, "this GPU pool is not open to your account"),
        (404, "template not found"),
        (409, "this machine is being taken down"),
        (422, "Request validation failed.; $.gpu.id: not rented in this data center"),
    ],
)
def test_what_is_the_offers_fault_goes_on_with_the_next_one(
    emulation: Emulation, tmp_path: Path, status: int, detail: str
) -> None:
    emulation.cloud.faults.always("create", no(status, detail))
    w = world(emulation, tmp_path, Wish(SEVERAL))
    state = drive(w)
    assert [a.choice for a in state.attempts] == [0, 1, 2, 3]
    asked, refused = facts(w, "create-asked"), facts(w, "not-created")
    for before, after in zip(asked, refused, strict=True):
        assert (after.at - before.at).total_seconds() < 1  # overhead of ours, the emulator's answer in it
    assert all(detail.rsplit(";", maxsplit=1)[-1].strip() in fact.data["reason"] for fact in refused)


def test_a_price_above_what_was_agreed_to_ends_the_machine(emulation: Emulation, tmp_path: Path) -> None:
    emulation.cloud.conditions.price_factor = 1.5
    w = world(emulation, tmp_path, Wish(limits=replace(LIMITS, max_attempts=1)))
    state = drive(w)
    [pod] = emulation.cloud.pods.values()
    assert state.attempts[0].over == (
        f"price: ${state.attempts[0].usd_per_hour}/h was returned, "
        f"${w.plan.choices[0].offer.usd_per_hour}/h was agreed to"
    )
    assert state.attempts[0].instance == pod.id
    assert runstate.exit_status(state, State.FAILED) is Exit.PROVIDER


def test_a_service_that_is_down_for_a_moment_is_asked_again_and_no_second_pod_is_made(
    emulation: Emulation, tmp_path: Path
) -> None:
    emulation.cloud.faults.add("list", no(503, "down"), 2)
    emulation.cloud.conditions.ports = "never"
    w = world(emulation, tmp_path, Wish(limits=replace(SHORT, max_attempts=1)))
    [attempt] = drive(w).attempts
    asked, created = facts(w, "create-asked", "created")
    assert attempt.instance is not None and len(emulation.cloud.pods) == 1
    assert (created.at - asked.at).total_seconds() < 20


# --- a machine that never becomes of use ------------------------------------------------------------


def ready(emulation: Emulation, folder: Path, image: str = IMAGE) -> runstate.RunState:
    state = drive(world(emulation, folder, Wish(SEVERAL, limits=SHORT, image=image)))
    assert state.ended is State.FAILED
    return state


def test_ports_that_are_never_told_cost_one_wait_and_then_the_next(
    emulation: Emulation, tmp_path: Path
) -> None:
    emulation.cloud.conditions.ports = "never"
    state = ready(emulation, tmp_path)
    assert [a.choice for a in state.attempts] == [0, 1]
    assert "no way to it was ever told" in (state.attempts[0].over or "")
    assert runstate.exit_status(state, State.FAILED) is Exit.UNREACHABLE


def test_a_machine_that_is_never_made_ready(emulation: Emulation, tmp_path: Path) -> None:
    emulation.cloud.conditions.provision_s = 600
    assert "it never came up" in (ready(emulation, tmp_path).attempts[0].over or "")


def test_an_image_that_cannot_be_pulled_is_every_offers(emulation: Emulation, tmp_path: Path) -> None:
    emulation.cloud.conditions.broken_images.add(IMAGE)
    state = ready(emulation, tmp_path)
    [only] = state.attempts
    assert only.over == f"its image cannot be pulled: error pulling image: {IMAGE}: manifest unknown"
    assert runstate.exit_status(state, State.FAILED) is Exit.PROVIDER


def test_a_driver_that_is_too_old_is_that_offers_alone(emulation: Emulation, tmp_path: Path) -> None:
    emulation.cloud.conditions.unfit_images.add(IMAGE)
    state = ready(emulation, tmp_path)
    assert [a.choice for a in state.attempts] == [0, 1]
    assert all((a.over or "").startswith("its driver is too old for the image: ") for a in state.attempts)


@pytest.mark.parametrize("lacks", ["sshd", "python3", "CA bundle"])
def test_what_the_image_lacks_is_said(tmp_path: Path, lacks: str) -> None:
    def guard(machine: Thin) -> None:
        if not machine.lines:
            machine.say(f"launcher missing {lacks}")

    with emulated(script=guard) as emulation:
        state = ready(emulation, tmp_path)
        [only] = state.attempts
        assert only.over == f"its image has no {lacks}"
        assert emulation.cloud.ledger.billing() == []
