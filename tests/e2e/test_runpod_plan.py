"""Renting on Runpod up to consent, by the installed command: prices, keys, ceilings. Nothing is rented."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.person import Person
from tests.emulators.runpod.emulation import Emulation, emulated

RTX = ("--on", "runpod", "--gpu", "RTX 4090", "--max-cost", "1")
BID = "RTX 4090 costs $0.69/h on demand, above $0.50; Runpod no longer rents by bid"


@pytest.fixture(scope="module")
def emulation() -> Iterator[Emulation]:
    with emulated() as one:
        yield one
    assert one.front.offences == [] and one.cloud.pods == {}


@pytest.fixture
def renter(tmp_path: Path, emulation: Emulation) -> Iterator[Person]:
    """Somebody with a key."""
    someone = Person(tmp_path, emulation.environ())
    someone.trainer()
    yield someone
    someone.cleans_up()


@pytest.fixture
def keyless(person: Person, emulation: Emulation) -> Person:
    person.extra = {"RUNPOD_API_BASE_URL": emulation.cloud.root}
    person.trainer()
    return person


def test_a_plan_has_live_prices_and_names_the_image(renter: Person) -> None:
    said = renter.types("plan", "mini", *RTX, "--json").json()
    chosen = said["chosen"]
    assert (chosen["id"], chosen["price_source"]) == ("runpod:RTX 4090:secure:any", "live")
    assert chosen["usd_per_hour"] == pytest.approx(0.69411)
    assert said["problem"] is None
    page = renter.types("plan", "mini", *RTX)
    assert page.code == 0 and "(runpod/pytorch:" in page.stdout and "image" in page.stdout
    assert "live, " in page.stdout


def test_without_a_key_a_plan_has_the_price_list_and_a_run_is_refused(
    keyless: Person, emulation: Emulation
) -> None:
    heard = len(emulation.front.heard)
    plan = keyless.types("plan", "mini", *RTX)
    assert plan.code == 0 and "planning notes" in plan.stdout
    assert "run would stop here: runpod: there is no key" in plan.stdout
    done = keyless.types("run", "mini", *RTX, "-y")
    assert done.code == 3 and "export RUNPOD_API_KEY=" in done.stderr
    assert "no-key" in done.stderr and keyless.ps() == {}
    doctor = keyless.types("doctor")
    assert "no   runpod key: there is no key" in doctor.stdout
    assert "mend: export RUNPOD_API_KEY=" in doctor.stdout
    assert "runpod could not be asked" not in doctor.stdout, "nothing was ever rented there"
    assert len(emulation.front.heard) == heard, "nobody is asked without a key"


def test_the_users_own_line_is_answered_with_the_price_and_nothing_is_rented(
    renter: Person, keyless: Person
) -> None:
    for person, flag in ((renter, "--max-price"), (keyless, "--bid-price")):
        done = person.types("run", "mini", *RTX, flag, "0.5", "-y")
        assert done.code == 4 and f"error: no-offer\n  {BID}\n" in done.stderr
        assert "still billed: nothing" in done.stderr
        assert "plan mini --on runpod --gpu 'RTX 4090' --max-price 0.69" in done.stderr
    assert renter.ps() == {}


def test_a_refused_key_is_told_apart_from_none(renter: Person) -> None:
    done = renter.types("run", "mini", *RTX, "-y", RUNPOD_API_KEY="rpa_wrong")
    assert done.code == 3 and "key-refused" in done.stderr and "rpa_wrong" not in done.stderr


def test_a_market_that_does_not_answer_is_shown_from_the_price_list(renter: Person) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        root = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        begun = time.monotonic()
        plan = renter.types("plan", "mini", RUNPOD_API_BASE_URL=root)
        assert time.monotonic() - begun < 20, "an answer itself is waited for 25 s"
    assert plan.code == 0 and "planning notes" in plan.stdout
    assert "the prices of runpod are from planning notes instead" in plan.stderr
    gone = renter.types("run", "mini", *RTX, "-y", RUNPOD_API_BASE_URL="http://127.0.0.1:9")
    assert gone.code == 6 and renter.ps() == {}


def test_doctor_asks_whether_the_key_is_accepted(renter: Person) -> None:
    doctor = renter.types("doctor")
    assert "ok   runpod key: accepted; 0 pods, 0 of them ours" in doctor.stdout
    assert "ok   runpod balance: $" in doctor.stdout


def test_refreshed_prices_serve_plans_without_a_key(renter: Person) -> None:
    before = renter.types("prices").stdout
    assert "planning notes" in before and "prices refresh" not in before
    done = renter.types("prices", "refresh", "runpod")
    assert done.code == 0 and "RTX 4090\t0.69\n" in done.stdout
    said = renter.types("prices", "--json").json()
    assert (said[0]["target"], said[0]["source"]) == ("runpod", "prices refresh")
    renter.extra = {}
    plan = renter.types(
        "plan", "mini", "--on", "runpod", "--gpu", "A5000", "--max-cost", "1", "--json"
    ).json()
    [offer] = [one for one in plan["offers"] if one["target"] == "runpod"]
    assert (offer["gpu"], offer["price_source"]) == ("RTX A5000", "prices refresh")
    refused = renter.types("prices", "refresh", "runpod")
    assert refused.code == 3 and "export RUNPOD_API_KEY=" in refused.stderr
    assert renter.types("prices", "refresh", "local").code == 2


def test_spot_is_never_on_demand_silently(renter: Person, emulation: Emulation) -> None:
    emulation.cloud.conditions.spot = "gone"
    only = renter.types("plan", "mini", *RTX, "--spot")
    assert only.code == 4 and "Runpod no longer rents pods that may be taken away" in only.stderr
    auto = renter.types("plan", *RTX, "--spot", "auto", "mini", "--json").json()
    assert auto["chosen"]["spot"] is False
    emulation.cloud.conditions.spot = "offered"
    auto = renter.types("plan", *RTX, "--json", "mini", LAUNCHER_SPOT="1").json()
    assert auto["chosen"]["spot"] is True
    emulation.cloud.conditions.spot = "gone"


def test_the_plan_is_shown_before_anything_is_asked(renter: Person) -> None:
    with renter.terminal("run", "mini", *RTX, **renter.extra) as screen:
        screen.sees(r"Rent it for at most \$1\.00 \(likely \$0\.\d\d\), ended by \d\d:\d\d\? \[y/N\]")
        shown = screen.text
        assert all(word in shown for word in ("RTX 4090", "live, ", "guard", "a day until they are pulled"))
        screen.types("n\n")
        assert screen.ends() == 130
    assert renter.ps() == {}
