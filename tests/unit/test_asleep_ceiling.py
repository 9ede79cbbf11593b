"""A machine that sleeps with results, and a ceiling too low to start it again: a higher one can be given."""

from __future__ import annotations

import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

from launcher.store import Home
from tests.unit.journals.stories import Story
from tests.unit.test_lines import told
from tests.unit.test_runstate_asleep import asleep, rented

FAILED = "to start the machine again may take $2.31 in all, above the ceiling of $2.00"


def waiting() -> Story:
    return asleep(rented().started().sealed())("pull-failed", message=FAILED)


def types(home: Path, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "LAUNCHER_HOME": str(home)}
    argv = [sys.executable, "-m", "launcher", *words]
    return subprocess.run(argv, env=env, cwd=cwd, capture_output=True, text=True, check=False, timeout=30)


def test_a_higher_ceiling_is_taken_though_no_engine_lives(tmp_path: Path) -> None:
    view = told(Home(tmp_path).run("quickstart-abcd"), waiting())
    assert view.state.max_cost == 2 and not view.engine_alive
    done = types(tmp_path, "extend", "quickstart-abcd", "--max-cost", "9000")
    assert done.returncode == 0, done.stderr
    assert "$9000.00 at most in all" in done.stdout and "pull quickstart-abcd" in done.stdout
    view.refresh()
    assert view.state.max_cost == 9000 and view.state.pull_failed == FAILED  # nothing was started unasked


def test_more_time_is_for_what_runs(tmp_path: Path) -> None:
    told(Home(tmp_path).run("quickstart-abcd"), waiting())
    done = types(tmp_path, "extend", "quickstart-abcd", "--by", "1h")
    assert (done.returncode, "does not run" in done.stderr) == (2, True)


def test_it_costs_what_it_has_cost_and_nothing_until_an_end_that_is_over() -> None:
    state, now = waiting().state, waiting().now
    assert state.could_cost(state.max_time_s, now) == state.spent(now) > Decimal(0)
