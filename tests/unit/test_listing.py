"""The lines of `ps`: what an engine wrote down is what plan and journal tell; times say their day."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from launcher.errors import LauncherError
from launcher.files import Disk
from launcher.report import lines, listing
from launcher.store import Home, RunFolder
from tests.unit.journals import stories
from tests.unit.journals.stories import NOON, begin
from tests.unit.test_lines import sample, told


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def fails(name: str, e: LauncherError) -> None:
    raise AssertionError(f"{name}: {e.message}")


def test_what_is_written_down_at_the_end_is_what_the_journal_tells(home: Home) -> None:
    view = told(home.run("over-abcd"), stories.happy()("ended", state="done"))
    (read,) = listing.lines(home, NOON, fails)
    listing.write_down(view.folder, NOON)
    (kept,) = listing.lines(home, NOON, fails)
    assert kept.view is None and read.view is not None
    assert (kept.row, kept.seconds, kept.bills) == (read.row, read.seconds, read.bills)


def test_a_line_of_another_launcher_is_passed_over(home: Home) -> None:
    view = told(home.run("over-abcd"), stories.happy()("ended", state="done"))
    view.folder.listed.write_text('{"row": 1}')
    (read,) = listing.lines(home, NOON, fails)
    assert read.view is not None and read.row["state"] == "done"


def test_a_time_of_another_day_says_its_day() -> None:
    assert len(lines.clock(NOON, NOON)) == len("12:00")
    assert len(lines.clock(NOON + timedelta(days=1), NOON)) == len("03-05 12:00")


def test_where_the_meter_does_not_fit_metrics_go_and_money_and_end_stay(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "quickstart-abcd")
    view = told(folder, begin(stories.plan(stories.choice("rented", "0.69"))).started())
    sample(folder, step=3, metrics={"loss": 0.5, "auc": 0.9}, cpu=50, gpu=[{"util": 90}])
    lock = Disk().lock(folder.lock, "{}")
    assert lock is not None
    now = NOON + timedelta(minutes=5)
    whole, narrow = lines.meter(view, now), lines.meter(view, now, 60)
    lock.release()
    assert "auc 0.9" in whole and len(whole) > 60
    assert len(narrow) <= 60 and "ends by" in narrow and "$0.0" in narrow and "auc" not in narrow


def test_the_list_loads_nothing_that_it_does_not_need(home: Home) -> None:
    """Each of these takes a millisecond or more of every command, and all of them a tenth of a second."""
    told(home.run("over-abcd"), stories.happy()("ended", state="done"))
    program = (
        "import atexit, sys\n"
        "heavy = ('shutil', 'traceback', 'logging', 'subprocess', 'rich', 'psutil', 'paramiko', 'requests')\n"
        "atexit.register(lambda: print([name for name in heavy if name in sys.modules]))\n"
        "sys.argv = ['/anywhere/launcher', 'ps', '--json']\n"
        "from launcher.cli import main\n"
        "main()\n"
    )
    env = {"LAUNCHER_HOME": str(home.root), "PYTHONPATH": os.pathsep.join(sys.path), "PATH": "/usr/bin"}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True)
    rows, loaded = done.stdout.splitlines()
    assert (len(json.loads(rows)), loaded) == (1, "[]"), done.stderr
