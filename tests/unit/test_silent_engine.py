"""An engine that hangs while a rented machine bills: who wants it stopped at once need not wait for it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from launcher.cli.stop import past_it
from launcher.errors import Exit, LauncherError
from launcher.files import Disk
from launcher.store import Home
from tests.contract.conftest import eventually
from tests.emulators.runpod.emulation import Emulation
from tests.emulators.runpod.faults import Fault, How
from tests.unit.journals.stories import begin
from tests.unit.test_asleep_ceiling import types, waiting
from tests.unit.test_lastlook_rented import emulation, seen, started
from tests.unit.test_lines import told

__all__ = ["emulation"]


def silent() -> LauncherError:
    return LauncherError("engine-silent", "process 7 hangs", exit=Exit.PROVIDER, details=("kill 7",))


@pytest.fixture
def rented(emulation: Emulation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Emulation:
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "home"))
    return emulation


def test_the_provider_is_asked_where_what_is_there_is_given_up(rented: Emulation, tmp_path: Path) -> None:
    page = past_it(seen(tmp_path, started(rented)), silent(), at_once=True)
    [pod] = rented.cloud.pods.values()
    assert not pod.alive and pod.id in page.details[0]
    assert (page.exit, page.details[1]) == (Exit.MAYBE_BILLING, "kill 7")


def test_otherwise_it_is_only_said_how(rented: Emulation, tmp_path: Path) -> None:
    page = past_it(seen(tmp_path, started(rented)), silent(), at_once=False)
    [pod] = rented.cloud.pods.values()
    assert pod.alive and "stop --now quickstart-abcd" in page.details[0] and page.exit is Exit.MAYBE_BILLING


def test_a_provider_that_refuses_is_told_of(rented: Emulation, tmp_path: Path) -> None:
    view = seen(tmp_path, started(rented))
    rented.cloud.faults.always("delete", Fault(How.STATUS, 403, "not with this key"))
    page = past_it(view, silent(), at_once=True)
    assert "in vain" in page.details[0] and "not with this key" in page.details[0]


def test_what_costs_nothing_is_told_as_before(tmp_path: Path) -> None:
    page = past_it(seen(tmp_path, begin().started()), silent(), at_once=True)
    assert (page.exit, page.details) == (Exit.PROVIDER, ("kill 7",))


def test_what_an_engine_that_was_just_leaving_did_not_hear_is_answered_by_another(tmp_path: Path) -> None:
    view = told(Home(tmp_path).run("quickstart-abcd"), waiting())
    leaving = Disk().lock(view.folder.lock, "{}")
    assert leaving is not None and view.engine_alive
    with ThreadPoolExecutor() as beside:
        asked = beside.submit(types, tmp_path, "extend", "quickstart-abcd", "--max-cost", "9000")
        eventually(lambda: any(view.folder.requests.glob("*.json")))
        leaving.release()
        assert asked.result().returncode == 0, asked.result().stderr
    view.refresh()
    assert view.state.max_cost == 9000
