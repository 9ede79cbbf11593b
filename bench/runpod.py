"""What the launcher itself adds to a run on Runpod, against the emulated one with real containers: from a
machine that runs to the trainer's first line here, from a trainer's end to an end that is confirmed, and per
offer that is refused. The emulator's own boot is left out; it is another one's there.

    python bench/runpod.py [--runs 9]          needs an engine, or root and docker.io
"""

from __future__ import annotations

import json
import statistics
import sys
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from measure import arguments, report, scratch

from launcher.models import State
from launcher.world import World
from tests import needs
from tests.emulators.runpod.emulation import Emulation, with_pods
from tests.emulators.runpod.faults import CAPACITY, Fault, How
from tests.engines.rented import LIMITS, NEED, Wish, drive, facts, world

TRAIN = """
import os, pathlib
print("the first line", flush=True)
out = pathlib.Path(os.environ["LAUNCHER_OUTPUT"])
out.mkdir(parents=True, exist_ok=True)
(out / "model.txt").write_text("trained")
"""
BOUNDS = {
    "running to first line, s": 3.0,
    "trainer's end to the GPU's, s": 5.0,
    "trainer's end to its end confirmed, s": 5.0,
    "refused offer, s": 1.0,
    "client violations": 0,
    "pods that bill afterwards": 0,
}


def first_line(w: World, at: list[float], over: threading.Event) -> None:
    """When the trainer's first byte is here."""
    log = w.folder.attempt(1).log
    while not over.is_set():
        if log.exists() and log.stat().st_size:
            at.append(time.time())
            return
        time.sleep(0.005)  # a file that another process writes tells nobody


def one_run(emulation: Emulation, folder: Path) -> tuple[float, float, float]:
    """The listing does not lag here: where it does, its lag comes on top of the last figure."""
    w = world(emulation, folder, Wish(train=TRAIN))
    at: list[float] = []
    over = threading.Event()
    looking = threading.Thread(target=first_line, args=(w, at, over))
    looking.start()
    state = drive(w)
    over.set()
    looking.join()
    assert state.ended is State.DONE, facts(w)
    [pod] = emulation.cloud.pods.values()
    [gone] = facts(w, "gone")
    ended = next(e for e in events(w) if e["ev"] == "exited")
    end = datetime.fromisoformat(ended["at"].replace("Z", "+00:00"))
    billed = max(s.ended for s in emulation.cloud.ledger.stretches if s.pod == pod.id and s.ended)
    [pinned] = facts(w, "pinned")  # its boot is called by when it was RUNNING
    up = datetime.fromisoformat(pinned.data["boot_id"].replace("Z", "+00:00"))
    return at[0] - up.timestamp(), (billed - end).total_seconds(), (gone.at - end).total_seconds()


def events(w: World) -> list[dict[str, str]]:
    return [json.loads(line) for line in w.folder.attempt(1).events.read_text().splitlines()]


def refused_s(emulation: Emulation, folder: Path) -> float:
    """Four offers, none of them free."""
    emulation.cloud.faults.always("create", Fault(How.STATUS, 400, CAPACITY[0]))
    several = replace(NEED, gpus=("RTX 4090", "RTX 3090"), cloud="any")
    w = world(emulation, folder, Wish(need=several, limits=replace(LIMITS, max_attempts=4)))
    began = datetime.now(UTC)
    assert drive(w).ended is State.FAILED
    refused = facts(w, "not-created")
    return (refused[-1].at - began).total_seconds() / len(refused)


def main() -> int:
    args = arguments(__doc__ or "")
    if (why := needs.why_missing("docker", demanded=True)) is not None:
        print(f"left out: {why}")
        return 0 if args.smoke else 1
    took: list[tuple[float, float, float]] = []
    offers: list[float] = []
    offences = left = 0
    for _ in range(1 if args.smoke else args.runs):
        with scratch() as folder, with_pods() as emulation:
            (Path(folder) / "run").mkdir()
            (Path(folder) / "refused").mkdir()
            took.append(one_run(emulation, Path(folder) / "run"))
            offers.append(refused_s(emulation, Path(folder) / "refused"))
            offences += len(emulation.front.offences)
            left += len(emulation.cloud.ledger.billing())
    names = list(BOUNDS)[:3]
    columns = zip(names, zip(*took, strict=True), strict=True)
    figures: dict[str, float] = {name: round(statistics.median(column), 2) for name, column in columns}
    figures["refused offer, s"] = round(statistics.median(offers), 3)
    figures |= {"client violations": offences, "pods that bill afterwards": left}
    return report("runpod", figures, BOUNDS, args)


if __name__ == "__main__":
    sys.exit(main())
