"""Runs on an emulated Runpod whose list hides a new pod for two minutes, by the installed command: whatever
answer is lost and whenever the client is killed, no second pod is rented, and none is left. One line each.

    python bench/runpod_lag.py [--smoke]          needs an engine, or root and docker.io; about five minutes
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from measure import write_down

from tests import needs
from tests.e2e.person import until
from tests.e2e.renting import GPU, IMAGE, QUICK, RentingPerson
from tests.emulators.runpod.emulation import with_pods
from tests.emulators.runpod.faults import Fault, How

LOST = Fault(How.DROPPED, after=True)
UNHEARD = Fault(How.DROPPED)
BOUNDS = {"faults": 0, "most pods at once": 1, "what bills afterwards": 0, "client violations": 0}


@dataclass(frozen=True)
class Told:
    case: str
    seconds: int
    exit: int
    state: str
    pods: int
    at_once: int
    billing_after: int
    violations: int


@dataclass(frozen=True)
class Case:
    name: str
    fault: Fault | None = None
    get_lags: bool = False
    killed: bool = False  # the client, a quarter into the lag
    resumed: bool = True


CASES = (
    Case("nothing is lost"),
    Case("nothing is lost, and the pod is not known by its id either", get_lags=True),
    Case("the answer to create is lost", LOST),
    Case("the answer to create is lost, and the pod is not known by its id either", LOST, get_lags=True),
    Case("create never arrived", UNHEARD),
    Case("killed in the lag", killed=True),
    Case("killed in the lag, the answer to create lost", LOST, killed=True),
    Case("killed in the lag, create never arrived", UNHEARD, killed=True),
    Case("killed in the lag, the answer lost, and nobody comes back", LOST, killed=True, resumed=False),
)


def live(case: Case, lag_s: int, folder: Path) -> Told:
    began = time.monotonic()
    with with_pods() as emulation:
        person = RentingPerson(folder, emulation)
        # What the launcher allows for is what it is asked to believe here, and the rest is as it comes.
        person.extra |= {
            "LAUNCHER_LISTING_LAG": f"{lag_s}s",
            "LAUNCHER_READY_WITHIN": f"{max(60, 4 * lag_s)}s",
        }
        person.extra |= {"LAUNCHER_BOOT_LIMIT": f"{max(30, 2 * lag_s)}s"}
        emulation.cloud.conditions.list_lag_s = lag_s
        emulation.cloud.conditions.get_lag_s = lag_s if case.get_lags else 0
        if case.fault is not None:
            emulation.cloud.faults.add("create", case.fault)
        try:
            code = run(case, person, lag_s)
            [state] = [row["state"] for row in person.types("ps", "--json").json()]
            ids = [pod.id for pod in person.pods()]
            ledger, left = emulation.cloud.ledger, len(billing(person))
            if not case.resumed:
                doctor = person.types("doctor", "--json").json()
                left += len(doctor["orphans"])
            return Told(
                case.name,
                round(time.monotonic() - began),
                code,
                state,
                len(ids),
                ledger.most_at_once(ids),
                left,
                len(emulation.front.offences),
            )
        finally:
            person.cleans_up()


def run(case: Case, person: RentingPerson, lag_s: int) -> int:
    person.writes("train.py", QUICK)
    line = ("run", "--project", ".", "--on", "runpod", "--gpu", GPU, "--image", IMAGE, "--yes", "--json")
    begun = person.begins(
        *line, "--max-cost", "2", "--max-time", "2m", "--name", "lag", "--", "python3", "train.py"
    )
    if not case.killed:
        begun.communicate(timeout=600)
        return begun.returncode
    person.waits_for("lag", "create-asked")
    time.sleep(lag_s / 4)  # the moment of the kill, which nothing announces
    for pid in person.processes():
        os.kill(pid, signal.SIGKILL)
    begun.communicate(timeout=60)
    if case.resumed:
        return person.types("resume", "lag", "--json", timeout=600).code
    patience_s = 60 + max(30, 2 * lag_s)
    until(lambda: not billing(person), "the pod ended itself", patience_s)
    return 0


def billing(person: RentingPerson) -> set[str]:
    return set(person.cloud.ledger.billing()) & {pod.id for pod in person.pods()}


def faults(told: Told) -> list[str]:
    wrong = {
        "more than one pod at once": told.at_once > 1,
        "more than one pod": told.pods > 1,
        "something bills": told.billing_after > 0,
        "a client violation": told.violations > 0,
        f"ended with {told.exit}": told.exit != 0,
    }
    return [name for name, is_so in wrong.items() if is_so]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="one case with a lag of two seconds, no file")
    parser.add_argument("--lag", type=int, default=120)
    args = parser.parse_args()
    if (why := needs.why_missing("docker", demanded=True)) is not None:
        print(f"left out: {why}")
        return 0 if args.smoke else 1
    cases, lag_s = (CASES[2:3], 2) if args.smoke else (CASES, args.lag)
    with tempfile.TemporaryDirectory() as place, ThreadPoolExecutor(len(cases)) as workers:
        lives = [workers.submit(live, case, lag_s, _folder(place, n)) for n, case in enumerate(cases)]
        told = [one.result() for one in lives]
    bad = 0
    for one in told:
        wrong = faults(one)
        bad += len(wrong)
        became = ", ".join(wrong) or "as it should be"
        print(f"{one.case}: {one.seconds} s, {one.state}, {one.pods} pods; {became}")
    if not args.smoke:
        keep(told, bad, lag_s)
    return min(bad, 1)


def _folder(place: str, n: int) -> Path:
    folder = Path(place) / str(n)
    folder.mkdir()
    return folder


def keep(told: list[Told], bad: int, lag_s: int) -> None:
    figures: dict[str, object] = {
        "lag, s": lag_s,
        "faults": bad,
        "most pods of one run": max(one.pods for one in told),
        "most pods at once": max(one.at_once for one in told),
        "what bills afterwards": sum(one.billing_after for one in told),
        "client violations": sum(one.violations for one in told),
    }
    figures |= {f"{one.case}: {one.state} after, s": one.seconds for one in told}
    write_down("runpod_lag", f"bench/runpod_lag.py --lag {lag_s}", figures, BOUNDS)


if __name__ == "__main__":
    sys.exit(main())
