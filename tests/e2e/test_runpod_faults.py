"""Whatever goes wrong with Runpod: the run ends well or says why, and in the end nothing bills.

Each case is a run by the real command against an emulated Runpod of its own. Several go on beside each other,
since a run waits more than it computes; what became of each is then one test.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import Outcome
from tests.e2e.containers import undisturbed
from tests.e2e.hosted import result
from tests.e2e.person import until
from tests.e2e.renting import IMAGE, RentingPerson, status
from tests.emulators.runpod.cloud import Cloud
from tests.emulators.runpod.containers import Container
from tests.emulators.runpod.emulation import with_pods
from tests.emulators.runpod.faults import CAPACITY, Fault, How, too_many
from tests.emulators.runpod.pods import Pod, Status

pytestmark = [pytest.mark.need("docker"), pytest.mark.slow, pytest.mark.timeout(400)]

BESIDE = 3
TWO = ("--gpu", "RTX A5000")  # cheaper, so it is what is asked for first
SOON = (("LAUNCHER_READY_WITHIN", "8s"),)
POOL = "your account has no access to this GPU pool"

Wrong = Callable[[Cloud], None]
Event = Callable[[RentingPerson, Pod], None]


# --- what may be wrong with the world ---------------------------------------------------------------


def nothing(_: Cloud) -> None:
    pass


def fails(operation: str, fault: Fault, times: int = 1) -> Wrong:
    return lambda cloud: cloud.faults.add(operation, fault, times)


def never(operation: str, fault: Fault) -> Wrong:
    return lambda cloud: cloud.faults.always(operation, fault)


def has(**conditions: object) -> Wrong:
    def wrong(cloud: Cloud) -> None:
        for name, value in conditions.items():
            assert hasattr(cloud.conditions, name), name
            setattr(cloud.conditions, name, value)

    return wrong


def together(*wrongs: Wrong) -> Wrong:
    def wrong(cloud: Cloud) -> None:
        for one in wrongs:
            one(cloud)

    return wrong


def strangers(cloud: Cloud) -> None:
    """Pods of the same account that are not ours fill the first pages of its list."""
    for n in range(4):
        pod = cloud.create({"name": f"notebook {n}", "image": "b", "gpu": {"id": "NVIDIA A40", "count": 1}})
        cloud.stop(pod)


# --- what may happen to a pod whose trainer works ---------------------------------------------------


def vanishes(person: RentingPerson, pod: Pod) -> None:
    with person.cloud.lock:
        person.cloud.vanish(pod)


def is_outbid(person: RentingPerson, pod: Pod) -> None:
    with person.cloud.lock:
        person.cloud.outbid(pod)


def restarts(person: RentingPerson, pod: Pod) -> None:
    """Its container's disk is wiped, its old port is told for a while. Whether its trainer was heard in time
    decides if it goes on there or on another."""
    person.cloud.conditions.ports_stale_s = 2
    with person.cloud.lock:
        person.cloud.act(pod, "restart")


def runs_out_of_money(person: RentingPerson, pod: Pod) -> None:
    person.cloud.conditions.balance = 0
    until(lambda: status(pod) is Status.EXITED, "the pod was stopped")
    person.cloud.conditions.balance = 100


def ends_while_the_api_is_down(person: RentingPerson, pod: Pod) -> None:
    down = Fault(How.HTML, 502)
    operations = ("get", "list", "logs", "delete", "stop", "graphql")
    for operation in operations:
        person.cloud.faults.always(operation, down)
    person.lets_go(pod)
    person.waits_for("quick", "end-asked")
    heard = len(person.emulation.front.heard)
    until(lambda: len(person.emulation.front.heard) > heard + 2, "it is asked again and again")
    for operation in operations:
        person.cloud.faults.always(operation, None)


def is_left_alone(person: RentingPerson, pod: Pod) -> None:
    """The client dies, and what the pod's own key may do is little."""
    person.kills_engine("quick")
    container = pod.machine
    assert isinstance(container, Container)
    person.lets_go(pod)
    until(lambda: status(pod) is Status.EXITED, "the pod stopped itself")
    container.over.wait(30)
    assert person.cloud.ledger.billing_a_gpu() == []
    assert person.state("quick") == "waiting"


# --- the cases --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """What is wrong from the beginning, what happens once its trainer works, and how it ends."""

    name: str
    wrong: Wrong = nothing
    during: Event | None = None
    last: tuple[str, ...] = ("watch",)  # the command that sees it to its end
    exit: int = 0
    pods: tuple[int, ...] = (1,)  # how many may be made in all
    says: str = ""  # stands on the screen
    flags: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    resumed: int = 3  # how many steps were not done again

    def live(self, person: RentingPerson) -> Outcome:
        with person.cloud.lock:
            self.wrong(person.cloud)
        if self.during is None:
            return person.quick(flags=self.flags, env=dict(self.env))
        pod = person.steps("quick", flags=self.flags, env=dict(self.env))
        self.during(person, pod)
        return person.types(*self.last, "quick", "--json", timeout=120)

    def judge(self, person: RentingPerson, done: Outcome, chain: str) -> None:
        said = done.stderr + done.stdout
        assert done.code == self.exit, said
        assert self.says in said and "Traceback" not in said
        assert len(person.pods()) in self.pods
        if self.exit == 0 and self.during is None:
            assert Path(done.json()["artifacts"], "model.txt").read_text() == "trained two words"
        elif self.exit == 0:
            assert done.json()["artifacts"], (said, person.facts("quick"))
            assert result(done.json()["artifacts"]) == (chain, self.resumed)
        person.owes_nothing()


LOST = "after the effect"
CASES = (
    Case("no fault"),
    # create
    Case(
        "no capacity",
        fails("create", Fault(How.STATUS, 400, CAPACITY[0])),
        flags=TWO,
        says="There are no longer any instances available",
    ),
    Case(
        "no capacity for spot",
        fails("create", Fault(How.STATUS, 400, CAPACITY[1])),
        flags=TWO,
        says="There are no instances available",
    ),
    Case(
        "no capacity anywhere",
        never("create", Fault(How.STATUS, 400, CAPACITY[0])),
        flags=TWO,
        exit=4,
        pods=(0,),
        says="There are no longer any instances available",
    ),
    Case("a pool that is not ours", fails("create", Fault(How.STATUS, 403, POOL)), flags=TWO, says=POOL),
    Case("asked too often", fails("create", too_many(1), 2)),
    Case("no answer before the effect", fails("create", Fault(How.STATUS, 500))),
    Case("a page of HTML before the effect", fails("create", Fault(How.HTML, 502))),
    Case(f"no answer {LOST}", fails("create", Fault(How.STATUS, 500, after=True))),
    Case(f"a page of HTML {LOST}", fails("create", Fault(How.HTML, 502, after=True))),
    Case(f"half an answer {LOST}", fails("create", Fault(How.TRUNCATED, after=True))),
    Case(
        f"a cut line {LOST}, between strangers",
        together(strangers, fails("create", Fault(How.DROPPED, after=True))),
    ),
    Case(
        "a list that lags, a pod that is not known at first",
        together(has(list_lag_s=4, get_lag_s=3), fails("create", Fault(How.DROPPED, after=True))),
        env=(("LAUNCHER_LISTING_LAG", "5s"),),
    ),
    Case("a low balance", has(balance=0.1), exit=4, pods=(0,), says="balance"),
    Case(
        "a key that is not accepted",
        fails("create", Fault(How.STATUS, 401, "invalid api key")),
        exit=3,
        pods=(0,),
    ),
    Case("a price above the one that was shown", has(price_factor=1.5), exit=5, says="price"),
    Case(
        "a price too high for a pod that is not known at first",
        has(price_factor=1.5, list_lag_s=4, get_lag_s=4),
        env=(("LAUNCHER_LISTING_LAG", "5s"),),
        exit=5,
        says="price",
    ),
    # ready
    Case("an image that is refused", has(refused_images={IMAGE}), exit=5, pods=(0,), says="not found"),
    Case("an image that cannot be pulled", has(broken_images={IMAGE}), exit=5, says="cannot be pulled"),
    Case("a pull that ends", has(broken_images={IMAGE}, pull_gives_up_s=1), exit=5, says="manifest unknown"),
    Case("a host whose driver is too old", has(unfit_images={IMAGE}), exit=5, says="driver is too old"),
    Case("ports that never come", has(ports="never"), env=SOON, exit=6),
    Case("ports that come late", has(ports_late_s=3)),
    Case("a slow console", fails("logs", Fault(How.STATUS, 503), 4)),
    Case("no console at all", never("logs", Fault(How.STATUS, 503)), env=SOON, exit=6),
    # while it trains
    Case("a pod that vanishes", during=vanishes, pods=(2,)),
    Case("outbid", during=is_outbid, pods=(2,)),
    Case("a restart", during=restarts, pods=(1, 2)),
    Case("an empty account", during=runs_out_of_money, pods=(2,)),
    Case(
        "questions that fail",
        together(fails("get", Fault(How.TRUNCATED), 2), fails("list", Fault(How.DROPPED), 2)),
    ),
    Case("a small quota", has(quota=30, quota_window_s=5.0)),
    # the end
    Case("an end that is refused at first", fails("delete", Fault(How.STATUS, 500), 2)),
    Case("an end whose answer is lost", fails("delete", Fault(How.DROPPED, after=True))),
    Case("no API at the end", during=ends_while_the_api_is_down, resumed=0),
    Case(
        "a dead client and a pod that may only stop",
        has(pod_key_may=frozenset({"stop"})),
        during=is_left_alone,
        last=("pull",),
        flags=("--hold", "1s"),
        resumed=0,
    ),
)


# --- running them -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lived:
    person: RentingPerson
    outcome: Outcome


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> str:
    return undisturbed(tmp_path_factory.mktemp("alone"))


@pytest.fixture(scope="module")
def lives(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[Lived]]]:
    """The cases that are to be judged, begun one after the other, some beside each other."""
    items = [item for item in request.session.items if item.path == request.path]
    given = [item.callspec.params.get("case") for item in items if isinstance(item, pytest.Function)]
    chosen = [case for case in given if isinstance(case, Case)]
    folders = {case.name: tmp_path_factory.mktemp("case") for case in chosen}
    workers = ThreadPoolExecutor(BESIDE)
    with ExitStack() as stack:

        def live(case: Case) -> Lived:
            emulation = stack.enter_context(with_pods())
            person = RentingPerson(folders[case.name], emulation)
            stack.callback(person.cleans_up)
            began = time.monotonic()
            outcome = case.live(person)
            print(f"{case.name}: {time.monotonic() - began:.1f} s")
            return Lived(person, outcome)

        try:
            yield {case.name: workers.submit(live, case) for case in chosen}
        finally:
            workers.shutdown(cancel_futures=True)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_a_run_meets(case: Case, lives: dict[str, Future[Lived]], chain: str) -> None:
    lived = lives[case.name].result()
    case.judge(lived.person, lived.outcome, chain)
