"""What hosts, providers and trainers say of themselves moves no cursor, whatever command shows it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.cli import doctor
from launcher.providers.base import Check
from launcher.store import Home
from launcher.strays import Stray, Sweep
from tests.unit.journals.stories import begin
from tests.unit.test_asleep_ceiling import types
from tests.unit.test_lines import told
from tests.unit.test_strays import thing

ESCAPES = "\x1b]0;owned\x07\x1b[2J"


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    lies = replace(thing("a"), run=f"run{ESCAPES}", owner=ESCAPES)
    sweep = Sweep((Stray("lab", lies, "why", ours=False),), (("lab", ESCAPES),), (("lab", lies),))
    doctor._page([Check("host lab", False, f"it says {ESCAPES}", "host check lab")], sweep)
    said = capsys.readouterr().out
    assert "it says" in said and "left behind" in said and "\x1b" not in said and "\x07" not in said


def test_status_tells_what_a_machine_printed_last(tmp_path: Path) -> None:
    story = begin().created()("over", attempt=1, why=f"it printed: {ESCAPES}", blame=True)
    told(Home(tmp_path).run("quickstart-abcd"), story)
    done = types(tmp_path, "status", "quickstart-abcd")
    assert "it printed" in done.stdout and "\x1b" not in done.stdout


def test_models_show_what_a_trainer_wrote(tmp_path: Path) -> None:
    version = tmp_path / "models" / "20260304_120000_x"
    version.mkdir(parents=True)
    held = {"files": [], "run": "x-abcd", "state": "done", "metrics": {f"auc{ESCAPES}": 1.0}}
    (version / "manifest.json").write_text(json.dumps({**held, "device": {"used": ESCAPES}}))
    done = types(tmp_path / "home", "models", "show", "2026", cwd=tmp_path)
    assert done.returncode == 0 and "auc" in done.stdout and "\x1b" not in done.stdout
