"""A rented machine whose engine died, as a view finds it: its provider is asked, and nothing is written."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from launcher import lastlook
from launcher.models import Access, Choice, State
from launcher.report import lines
from launcher.report.view import RunView
from launcher.store import Home, RunFolder
from tests.emulators.runpod.emulation import Emulation, emulated
from tests.unit.journals import stories
from tests.unit.journals.stories import Story, begin, plan
from tests.unit.test_lines import told
from tests.unit.test_runpod_provider import RTX, order


@pytest.fixture
def emulation(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulation]:
    with emulated() as one:
        for name, value in one.environ().items():
            monkeypatch.setenv(name, value)
        yield one


def ordered(emulation: Emulation) -> Story:
    """A run whose trainer was to begin on a pod that there is."""
    provider = emulation.provider()
    [offer] = provider.offers(RTX)
    story = begin(plan(Choice(offer, stories.choice("x", "0").runtime, stories.choice("x", "0").estimate)))
    made = provider.create(order(offer))
    story.asked()("created", attempt=1, instance=made.id, usd_per_hour=made.usd_per_hour, access=None)
    access = Access("ssh", "192.0.2.7:1", "/launcher")
    story("connected", attempt=1, boot="b1", access=access, layers=["agent"])
    return story("start-asked", attempt=1)


def started(emulation: Emulation) -> Story:
    story = ordered(emulation)
    return story("started", attempt=1, deadline=story.now + timedelta(hours=1), pid=7)


def seen(tmp_path: Path, story: Story) -> RunView:
    return told(RunFolder(tmp_path / "quickstart-abcd"), story)


@pytest.mark.parametrize("how_far", [ordered, started])
def test_one_that_was_stopped_waits_with_its_results_and_says_what_it_costs(
    emulation: Emulation, tmp_path: Path, how_far: Callable[[Emulation], Story]
) -> None:
    view, now = seen(tmp_path, how_far(emulation)), datetime.now(UTC)
    assert view.shown(now) is State.INTERRUPTED
    [pod] = emulation.cloud.pods.values()
    emulation.cloud.stop(pod)
    written = view.folder.journal.read_bytes()
    assert lastlook.look(view, now)
    assert view.shown(now) is State.WAITING and view.folder.journal.read_bytes() == written
    assert "on a stopped machine ($0.07/day of storage)" in (lines.attention(view, now, "launcher") or "")


def test_one_that_is_gone_has_answered_by_its_provider(emulation: Emulation, tmp_path: Path) -> None:
    """Nobody could not be asked; and there is no machine to be knocked at for seconds."""
    view, now = seen(tmp_path, started(emulation)), datetime.now(UTC)
    emulation.cloud.terminate(next(iter(emulation.cloud.pods.values())))
    begun = time.monotonic()
    assert lastlook.look(view, now) and view.shown(now) is State.INTERRUPTED
    assert time.monotonic() - begun < 3


def test_of_a_run_that_is_over_the_books_are_asked_again(emulation: Emulation, tmp_path: Path) -> None:
    story = started(emulation).sealed().versioned().released()("ended", state="done")
    view, now = seen(tmp_path, story), datetime.now(UTC)
    emulation.cloud.terminate(next(iter(emulation.cloud.pods.values())))
    emulation.cloud.ledger.stretches[:] = [
        replace(s, began=now - timedelta(hours=1), ended=now) for s in emulation.cloud.ledger.stretches[:1]
    ]
    lastlook.books(view, Home(tmp_path / "home"), now)
    assert Decimal("0.69") < (view.state.billed or 0) < Decimal("0.70")
