"""Of a run that nobody drives every command says how it goes on; its own page says so itself."""

from __future__ import annotations

import os
import signal

import pytest

from tests.e2e.person import Person, until


@pytest.fixture
def left(person: Person) -> Person:
    """Two runs whose engines died; the trainer of each works on."""
    for name in ("fox", "owl"):
        person.worker(name)
        os.kill(person.engine(name), signal.SIGKILL)
    until(lambda: {row["state"] for row in person.ps().values()} == {"interrupted"}, "their engines' end")
    return person


def notices(said: str) -> list[str]:
    return [line.partition(":")[0] for line in said.splitlines() if ": its engine died; " in line]


def test_a_run_s_own_page_is_not_preceded_by_the_line_that_leads_there(left: Person) -> None:
    told = left.types("status", "fox").stderr
    assert notices(told) == ["fox", "owl"] and " resume fox\n" in told
    shown = left.types("watch", "f")
    assert notices(shown.stderr) == ["owl"] and "error: engine-died" in shown.stderr
    assert " resume fox\n" in shown.stderr, "it says so itself"
    assert notices(left.types("watch").stderr) == ["fox"], "left out, the newest run is meant"
    nobody = left.types("watch", "cat")
    assert nobody.code == 2 and notices(nobody.stderr) == ["fox", "owl"]
    (left.root / "go-fox").write_text("")
    gone_on = left.types("resume", "fox")
    assert gone_on.code == 0 and notices(gone_on.stderr) == ["owl"], gone_on.stderr
