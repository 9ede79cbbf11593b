"""`logs -f`, left and come back to again and again while the trainer writes: no line lost, none repeated.

    python bench/leave_and_return.py [VISITS]

The trainer writes each line in two halves. Every visit must show the log from its first line on without a
gap, and when it is left with Ctrl-C, whole lines only; the last one sees the end. Prints one line; status 1
when a line was lost or repeated.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from measure import write_down

KEPT = 100  # from so many visits on the figures are kept

TRAINER = """
import os, pathlib, sys, time
end, step = pathlib.Path(os.environ["END"]), 0
while not end.exists():
    step += 1
    sys.stdout.write(f"step {step:06d}"); sys.stdout.flush()
    sys.stdout.write(f" of many {step:06d}\\n"); sys.stdout.flush()
    time.sleep(0.005)  # its pace is what the visits meet
"""
RUN = "visited"
SEED = 20


@dataclass
class Figures:
    lines: int = 0
    lost: int = 0
    repeated: int = 0
    torn: int = 0

    def add(self, said: str) -> int:
        """What one visit showed. Returns the number of its last line."""
        last = 0
        for line in said.splitlines():
            self.lines += 1
            words = line.split()
            if len(words) != 5 or words[1] != words[4]:
                self.torn += 1
                continue
            step = int(words[1])
            self.repeated += step <= last
            self.lost += max(0, step - last - 1)
            last = max(last, step)
        return last


def launcher(*words: str) -> list[str]:
    return [sys.executable, "-I", "-m", "launcher", *words]


def visit(env: dict[str, str], chance: random.Random) -> str:
    """Come, read for a moment, press Ctrl-C."""
    with subprocess.Popen(launcher("logs", "-f", RUN), env=env, stdout=subprocess.PIPE, text=True) as view:
        assert view.stdout is not None
        first = view.stdout.readline()  # it is there and looks
        time.sleep(chance.uniform(0, 0.4))  # a visit leaves at no particular moment
        view.send_signal(signal.SIGINT)
        rest = view.stdout.read()
    assert view.returncode == 130, view.returncode
    return first + rest


def main() -> int:
    visits, chance, figures = int((sys.argv[1:] or ["100"])[0]), random.Random(SEED), Figures()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "project").mkdir()
        (place / "project" / "train.py").write_text(TRAINER)
        env = {**os.environ, "LAUNCHER_HOME": str(place / "home")}
        words = ["run", "-d", "--name", RUN, "--project", str(place / "project"), "--json"]
        end = ["--env", f"END={place / 'end'}", "--", "python3", "train.py"]
        subprocess.run(launcher(*words, *end), env=env, check=True, capture_output=True)
        seen = [figures.add(visit(env, chance)) for _ in range(visits)]
        back = sum(later < earlier for earlier, later in pairwise(seen))
        (place / "end").touch()
        subprocess.run(
            launcher("resume", RUN), env=env, check=True, capture_output=True
        )  # shows it to its end
        whole = subprocess.run(launcher("logs", RUN), env=env, capture_output=True, text=True, check=True)
        total = figures.add(whole.stdout)
    answer = {
        "visits": visits,
        "log": total,
        "went_back": back,
        "seconds": round(time.monotonic() - began, 1),
    }
    told = {**answer, **vars(figures)}
    print(json.dumps(told))
    if visits >= KEPT:
        write_down("leave_and_return", f"bench/leave_and_return.py {visits}", told)
    return int(bool(figures.lost or figures.repeated or figures.torn or back))


if __name__ == "__main__":
    sys.exit(main())
