"""A trainer without the launcher: the environment that its requirements make, its command, what it leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from launcher.agent.envs import Order, make
from launcher.agent.reqset import Wanted, read
from trainers.kit.arguments import Arguments

ROOT = Path(__file__).resolve().parents[2]
ENVS = ROOT / "build" / "test-envs"
# What would change a training, and what would make every start of it compile its libraries anew.
NOT_PASSED = ("LAUNCHER_", "DEVICE", "USE_GPU", "RETRAINING_", "PYTHONDONTWRITEBYTECODE")


def environment(wanted: Wanted) -> Path:
    """Its Python. Kept between test runs, and one for all files: an environment is named by what is in it."""
    return Path(make(Order(wanted, sys.executable, ENVS), print).python)


@dataclass(frozen=True)
class Trainer:
    name: str

    @property
    def folder(self) -> Path:
        return ROOT / "trainers" / self.name

    @property
    def expected(self) -> dict[str, Any]:
        return dict(held(self.folder / "expected.json"))

    def python(self) -> str:
        return str(environment(read(self.folder / "requirements.txt", None)))

    def says_the_same_as(self, flags: Arguments) -> None:
        """What the recipe tells the launcher of the arguments is what the trainer itself takes."""
        recipe = YAML(typ="safe").load((self.folder / "trainer.yaml").read_text())
        for name, wanted in recipe["args"].items():
            dashed = f"--{name.replace('_', '-')}"

            def read(*words: str, name: str = name) -> Any:
                return vars(flags.read([*words]))[name]

            default, kind = wanted.get("default"), wanted["type"]
            assert read() == default
            assert default is None or type(read()).__name__ == ("str" if kind == "choice" else kind)
            for choice in wanted.get("choices", ()):
                assert read(dashed, choice) == choice
            for bound, beyond in (("min", -1), ("max", 1)):
                if bound in wanted:
                    assert read(dashed, str(wanted[bound])) == wanted[bound]
                    with pytest.raises(SystemExit):
                        flags.read([dashed, str(wanted[bound] + beyond)])
        for path in recipe["push"]:
            assert (ROOT / path).exists()
        assert recipe["seed"] == self.expected["seed"]

    def begins(self, python: str, *argv: str, **environ: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [python, "-m", f"trainers.{self.name}", *argv],
            cwd=ROOT, env=passed(environ), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def trains(
        self, python: str, *argv: str, status: int = 0, environ: Mapping[str, str] | None = None
    ) -> str:
        """What it said, on both streams."""
        with self.begins(python, *argv, **environ or {}) as running:
            said, _ = running.communicate(timeout=280)
        assert running.returncode == status, said
        return said


def passed(environ: Mapping[str, str]) -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(NOT_PASSED)} | dict(environ)


def held(path: Path) -> Any:
    return json.loads(path.read_text())


def measured(output: Path) -> list[dict[str, Any]]:
    """The whole course, without the moments at which it was measured."""
    lines = map(json.loads, (output / "metrics.jsonl").read_text().splitlines())
    return [{name: value for name, value in line.items() if name != "ts"} for line in lines]
