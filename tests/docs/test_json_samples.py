"""The JSON documents on docs/cli.md are those that commands really write: the same keys, at every depth."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Cli
from tests.docs.pages import read

SAMPLE = re.compile(r"^### (\w+) --json\n.*?^```json\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SAMPLES: dict[str, Any] = {name: json.loads(text) for name, text in SAMPLE.findall(read("docs/cli.md"))}
FREE = {"metrics"}  # whatever the trainer measures


def shape(value: Any, path: str = "") -> set[str]:
    """Every key with the way to it; of a list, what its entries have."""
    if isinstance(value, dict):
        below = [shape(inner, f"{path}.{key}") for key, inner in value.items() if key not in FREE]
        return {f"{path}.{key}" for key in value}.union(*below)
    if isinstance(value, list):
        return set().union(*(shape(one, f"{path}[]") for one in value))
    return set()


def told(name: str, real: Any) -> None:
    """Keys agree wherever both have something to show."""
    ours, theirs = shape(SAMPLES[name]), shape(real)
    both = {path for path in ours | theirs if _seen(path, ours) and _seen(path, theirs)}
    assert {p for p in ours if p in both} == {p for p in theirs if p in both}
    assert ours & theirs, "nothing in common"


def _seen(path: str, shape: set[str]) -> bool:
    """Whether this side shows anything at the place where `path` lies."""
    above = path.rpartition(".")[0]
    return not above or any(other.startswith(f"{above}.") for other in shape)


@pytest.fixture
def ran(cli: Cli, tmp_path: Path) -> Path:
    project = tmp_path / "project"
    project.mkdir()
    return project


def test_every_documented_document(cli: Cli, ran: Path) -> None:
    assert set(SAMPLES) == {"run", "plan", "prices", "ps", "status", "doctor", "models"}
    line = ("--project", str(ran), "--", "sh", "-c", 'sleep 1.2; echo "{}" >"$LAUNCHER_OUTPUT/result.json"')
    told("run", cli("run", "--on", "local", "--json", *line, cwd=ran).json())
    for name in ("prices", "ps", "status", "doctor", "models"):
        told(name, cli(name, "--json", cwd=ran).json())
    told("plan", cli("plan", "--json", *line, cwd=ran).json())


def test_a_missing_and_a_foreign_key_are_both_seen() -> None:
    real = json.loads(json.dumps(SAMPLES["ps"]))
    real[0]["colour"] = real[0].pop("usd")
    with pytest.raises(AssertionError):
        told("ps", real)
    told("ps", SAMPLES["ps"])


def test_the_settings_page_names_every_state() -> None:
    from launcher.models import State

    section = read("docs/cli.md").split("`state` is one of")[1].split("###")[0]
    assert set(re.findall(r"`([a-z-]+)`", section)) == {state.value for state in State}
