"""`ps` of a run that may bill while nobody looks: whoever can be asked by now may know better."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from launcher.cli import ps
from launcher.store import Home
from tests.emulators.runpod.emulation import Emulation
from tests.unit.journals.stories import Story, begin, choice, plan
from tests.unit.test_lastlook_rented import emulation, started
from tests.unit.test_lines import told

__all__ = ["emulation"]  # the fixture
WHY = "Runpod does not accept this key"


@pytest.fixture
def halted(emulation: Emulation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Story:
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "home"))
    story = started(emulation).sealed().versioned()("receipt", attempt=1)("end-asked", attempt=1)
    story("halted", code="key-refused", why=WHY, exit=3)
    told(Home(tmp_path / "home").run("quickstart-abcd"), story)
    return story


def says() -> list[str]:
    answer = CliRunner().invoke(ps.command, [])
    assert answer.exit_code == 0, answer.output
    return answer.output.splitlines()[2:]


def test_one_that_is_listed_bills(halted: Story) -> None:
    line, last = says()
    assert line.startswith(f"quickstart-abcd: may still be billing ({WHY}); end it: ")
    assert last.startswith("1 running, billing $0.69/h: quickstart-abcd (asked runpod ")


def test_one_that_is_listed_no_more_is_said_to_be_missing(halted: Story, emulation: Emulation) -> None:
    emulation.cloud.terminate(next(iter(emulation.cloud.pods.values())))
    line, last = says()
    assert line.startswith("quickstart-abcd: runpod lists nothing of it now; to have that proved: ")
    assert line.endswith(" resume quickstart-abcd")
    assert last.startswith("nothing runs; not proved to have ended: quickstart-abcd (asked runpod ")


def test_of_one_whose_engine_died_it_is_said_too(
    emulation: Emulation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "home"))
    told(Home(tmp_path / "home").run("quickstart-abcd"), started(emulation))
    emulation.cloud.terminate(next(iter(emulation.cloud.pods.values())))
    line, last = says()
    assert line.startswith("quickstart-abcd: runpod lists nothing of it now; its engine died; go on: ")
    assert last.startswith("nothing runs; not proved to have ended: quickstart-abcd (asked runpod ")


def test_one_that_nobody_could_ask_about_may_bill(
    halted: Story, emulation: Emulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNPOD_API_KEY", "rpa_other")
    emulation.cloud.terminate(next(iter(emulation.cloud.pods.values())))
    line, why, last = says()
    assert "may still be billing" in line and why.startswith("could not ask runpod what runs there: ")
    assert last.startswith("1 running, billing $0.69/h: quickstart-abcd")


def test_of_one_that_may_never_have_been_made_no_rate_is_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "home"))
    story = begin(plan(choice("runpod", "0.69"))).asked()
    story("halted", code="machine-unknown", why="no answer", exit=9)
    told(Home(tmp_path / "home").run("quickstart-abcd"), story)
    line, why, last = says()
    assert "may still be billing (no answer); look again" in line and "could not ask runpod" in why
    assert last == "nothing runs; perhaps a machine at $0.69/h: quickstart-abcd"
