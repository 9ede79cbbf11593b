"""A trainer on an own host that never stops writing, over a line that breaks a hundred times: is the log at
home what was written, byte for byte?

    python bench/disconnects.py [BREAKS]          needs an engine, or root and docker.io

Each break is of a kind that a seed chooses: cut, cut in the middle of a message, nobody let in for a while,
bytes lost before the end or in the middle, silence without an end; once the whole line swallows everything
for a minute. `logs -f` runs all the while. Prints one line; status 1 when a line was lost or repeated, when a
second machine was asked for, or when anything was left on the host.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from measure import write_down

from tests import needs
from tests.e2e.hosted import HostedPerson, left_in
from tests.e2e.noisy import Noisy, Tally, followed, noisy
from tests.hosts.boxes import sshd_container
from tests.hosts.breaking import ALL, Breaker, awaited
from tests.hosts.relay import Relay

KEPT = 100  # from so many breaks on the figures are kept
SEED = 20
MINUTE_S = 60.0


@dataclass
class Cpu:
    """Seconds of a core that a process has used."""

    pid: int

    def used(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def a_dead_minute(relay: Relay, run: Noisy) -> float:
    """Nothing goes through for a minute, new connections included. How long after it something came."""
    relay.half_open()
    time.sleep(MINUTE_S)  # the fault itself
    relay.half_open(False)
    back, size = time.monotonic(), run.heard()
    awaited(lambda: run.heard() > size, "something after the minute", MINUTE_S)
    return time.monotonic() - back


def measured(breaks: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as place, sshd_container("openssh") as box, box.relay() as relay:
        person = HostedPerson(Path(place))
        with ended(person), noisy(person, box, relay, ("--max-time", "1h")) as run:
            breaker = Breaker(relay, run.heard, random.Random(SEED), ALL)
            cpu, began = Cpu(person.engine("noisy")), time.monotonic()
            with followed(person) as seen:
                breaker.strikes(breaks)
                minute_s = a_dead_minute(relay, run) if breaks >= KEPT else None
                took, used = time.monotonic() - began, cpu.used()
                done = run.ends()
            assert (done.code, done.json()["state"]) == (0, "done"), done.stderr
            written = Path(done.json()["artifacts"], "written").read_bytes()
            home, view = (Tally(p.read_bytes(), written) for p in (run.log, seen))
            created = sum(fact["kind"] == "created" for fact in person.facts("noisy"))
            return {
                "breaks": listed(breaker.struck),
                "slowest_s": listed(breaker.slowest_s),
                "back_after_a_dead_minute_s": round(minute_s, 1) if minute_s is not None else None,
                "seconds": round(took, 1),
                "engine_cpu_percent": round(100 * used / took, 1),
                "lines": written.count(b"\n"),
                "lost": home.lost + view.lost,
                "repeated": home.repeated + view.repeated,
                "torn": home.torn + view.torn,
                "identical": all(p.read_bytes() == written for p in (run.log, seen)),
                "instances": created,
                "left_on_the_host": len(left_in(box)),
            }


def listed(counts: Mapping[str, float]) -> str:
    return ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items()))


@contextmanager
def ended(person: HostedPerson) -> Iterator[None]:
    try:
        yield
    finally:
        person.cleans_up()


def main() -> int:
    words = [word for word in sys.argv[1:] if word != "--smoke"]
    breaks = int(words[0]) if words else 3 if "--smoke" in sys.argv else KEPT
    if (why := needs.why_missing("docker", demanded=True)) is not None:
        print(f"left out: {why}")
        return 0
    told = measured(breaks)
    print(json.dumps(told))
    if breaks >= KEPT:
        write_down("disconnects", f"bench/disconnects.py {breaks}", told)
    bad = not told["identical"] or told["left_on_the_host"] or told["instances"] != 1
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
