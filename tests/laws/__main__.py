"""Prints the shape of the launcher: `python -m tests.laws`."""

from __future__ import annotations

from pathlib import Path

from tests.laws.rules import figures
from tests.laws.source import Tree

shape = figures(Tree.read(Path(__file__).resolve().parents[2], ["launcher"]))
print("shape of launcher/ in lines: " + ", ".join(f"{name} {value}" for name, value in shape.items()))
