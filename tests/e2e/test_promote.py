"""Champion and challenger: `latest` after runs of a trainer that says what it was judged on."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from launcher.files import Disk
from launcher.store import Versions
from tests.e2e.person import Person, until

JUDGED = """
import json, os, pathlib, sys
holdout, auc, rmse = sys.argv[1:]
judged = {"holdout": holdout, "higher": ["auc"], "lower": ["rmse"]}
result = {"metrics": {"auc": float(auc), "rmse": float(rmse)}, "judged": judged}
pathlib.Path(os.environ["LAUNCHER_OUTPUT"], "result.json").write_text(json.dumps(result))
"""
RUNS = {  # in this order: which rows, auc, rmse
    "first": ("rows-1", "0.80", "1.0"),
    "worse": ("rows-1", "0.79", "1.0"),
    "mixed": ("rows-1", "0.85", "1.1"),
    "elsewhere": ("rows-2", "0.60", "2.0"),
    "better": ("rows-1", "0.80", "0.9"),
}


def latest(person: Person) -> str:
    return str(json.loads((person.project / "models" / "latest.json").read_text())["version"])


@pytest.fixture(scope="module")
def after(regular: Person) -> dict[str, tuple[str, str]]:
    """What each run printed, and where `latest` was after it."""
    seen = {}
    regular.writes("judge.py", JUDGED)
    for version, words in RUNS.items():
        line = ("run", "--project", ".", "--on", "local", "--version", version, "--", "python3", "judge.py")
        done = regular.types(*line, *words)
        assert done.code == 0, done.stderr
        seen[version] = done.stdout, latest(regular)
    return seen


def test_a_run_that_lost_on_the_same_rows_leaves_latest_and_says_so(
    after: dict[str, tuple[str, str]],
) -> None:
    where = {version: place for version, (_, place) in after.items()}
    assert where == {
        "first": "first", "worse": "first", "mixed": "first", "elsewhere": "elsewhere", "better": "better"
    }  # fmt: skip
    assert "stays first: auc 0.79 against 0.8, higher is better" in after["worse"][0]
    assert "rmse 1.1 against 1, lower is better" in after["mixed"][0]
    assert "stays" not in after["better"][0]


@pytest.mark.usefixtures("after")
def test_promote_moves_latest_only_to_what_beats_it(regular: Person) -> None:
    assert regular.types("models", "promote", "first", "--force").code == 0
    for loser in ("worse", "mixed"):
        refused = regular.types("models", "promote", loser)
        assert refused.code == 2 and "not-better" in refused.stderr and latest(regular) == "first"
        assert f"promote {loser} --force" in refused.stderr
    assert "rmse 1.1 against 1, lower is better" in refused.stderr
    strange = regular.types("models", "promote", "elsewhere")
    assert strange.code == 2 and "not-comparable" in strange.stderr and "rows-2" in strange.stderr
    assert regular.types("models", "promote", "first").code == 0  # where it is already
    won = regular.types("models", "promote", "better")
    assert won.code == 0 and "rmse 0.9 against 1, lower is better" in won.stderr
    assert latest(regular) == "better"
    assert regular.types("models", "promote", "worse", "--force").code == 0
    assert latest(regular) == "worse"


@pytest.mark.usefixtures("after")
def test_who_finishes_while_another_is_choosing_is_held_against_its_choice(regular: Person) -> None:
    assert regular.types("models", "promote", "first", "--force").code == 0
    place = Versions(regular.project)
    other = Disk().lock(place.choosing, "another run")
    assert other is not None
    words = ("--version", "second", "--", "python3", "judge.py", "rows-1", "0.81", "1.0")
    run = regular.begins("run", "--project", ".", "--on", "local", *words)
    until((place.root / "second").exists, "the version of the run")
    with pytest.raises(subprocess.TimeoutExpired):  # nobody but time tells that it stands still
        run.communicate(timeout=2)
    place.latest.write_text(json.dumps({"version": "better"}))
    other.release()
    assert "latest   stays better" in run.communicate(timeout=30)[0]
    assert latest(regular) == "better"


@pytest.mark.usefixtures("after")
def test_promote_waits_for_who_is_choosing_and_not_for_ever(regular: Person) -> None:
    other = Disk().lock(Versions(regular.project).choosing, "run slow-abcd")
    assert other is not None
    before = latest(regular)
    refused = regular.types("models", "promote", "better", "--force", timeout=60)
    other.release()
    assert refused.code == 5 and "latest-held" in refused.stderr and "run slow-abcd" in refused.stderr
    assert "models promote better" in refused.stderr and latest(regular) == before


@pytest.mark.usefixtures("after")
def test_with_no_latest_there_is_nobody_to_beat(regular: Person) -> None:
    Path(regular.project, "models", "latest.json").unlink()
    assert regular.types("models", "promote", "worse").code == 0 and latest(regular) == "worse"
