"""A trainer that never stops talking, on a host behind a line that a test may break; and the comparison."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tests.conftest import Outcome
from tests.e2e.hosted import HostedPerson, lets_go
from tests.e2e.person import COMMAND, until
from tests.hosts.boxes import Box
from tests.hosts.relay import Relay

RUN = "noisy"
# Each line in two halves, and the same bytes beside it.
WRITES = """
import os, pathlib, sys, time
end, step = pathlib.Path("/tmp/go"), 0
kept = open(pathlib.Path(os.environ["LAUNCHER_OUTPUT"], "written"), "w")
while not end.exists():
    step += 1
    for half in (f"step {step:06d}", f" of many {step:06d}\\n"):
        for out in (kept, sys.stdout):
            out.write(half)
            out.flush()
    time.sleep(0.005)
"""


class Noisy:
    """A run called `noisy` that writes until it is let go."""

    def __init__(self, person: HostedPerson, box: Box) -> None:
        self.person, self.box = person, box

    @property
    def log(self) -> Path:
        return self.person.run_folder(RUN) / "attempts" / "1" / "log"

    def heard(self) -> int:
        """How many bytes are at home."""
        return self.log.stat().st_size if self.log.exists() else 0

    def hears_more(self) -> None:
        before = self.heard()
        until(lambda: self.heard() > before, "more of it at home")

    def ends(self) -> Outcome:
        lets_go(self.box)
        return self.person.types("watch", RUN, "--json", timeout=120)

    def must_be_whole(self, ended: Outcome, *seen: bytes) -> int:
        """What is at home is what was written, and so is what was seen. How many lines."""
        assert (ended.code, ended.json()["state"]) == (0, "done"), ended.stderr
        written = Path(ended.json()["artifacts"], "written").read_bytes()
        whole = self.person.types("logs", RUN).stdout.encode()
        for what in (self.log.read_bytes(), whole, *seen):
            told = Tally(what, written)
            assert what == written, f"{told}"
        return written.count(b"\n")


class Tally:
    """Where two logs differ, in a line."""

    def __init__(self, seen: bytes, written: bytes) -> None:
        got, right = seen.splitlines(), written.splitlines()
        self.lost = len(set(right) - set(got))
        self.repeated = len(got) - len(set(got))
        self.torn = len(set(got) - set(right))

    def __str__(self) -> str:
        return f"{self.lost} lines lost, {self.repeated} repeated, {self.torn} torn"


@contextmanager
def noisy(person: HostedPerson, box: Box, relay: Relay, flags: Sequence[str] = ()) -> Iterator[Noisy]:
    person.writes("writes.py", WRITES)
    person.knows("far", replace(box, route=box.through(relay)))
    begun = person.hosted("ssh:far", "python3", "writes.py", flags=("--name", RUN, "-d", *flags))
    assert begun.code == 0, begun.stderr
    try:
        yield Noisy(person, box)
    finally:
        lets_go(box)


@contextmanager
def followed(person: HostedPerson) -> Iterator[Path]:
    """`logs -f` from now to the run's end, which must have come when the block is left."""
    seen = person.root / "followed"
    with (
        seen.open("wb") as out,
        subprocess.Popen(
            [*COMMAND, "logs", "-f", RUN], cwd=person.project, env=person.environ(), stdout=out
        ) as view,
    ):
        try:
            yield seen
            assert view.wait(20) == 0
        finally:
            view.kill()
