"""The words of a run, said again: for the same in another place, what belongs to the place is left out."""

from __future__ import annotations

from launcher.cli.words import Words, repeated


def test_what_makes_the_run_what_it_is_is_said_again() -> None:
    flags = {
        "seed": "3",
        "env": ("A=1", "B=2"),
        "require_gpu": True,
        "profile": "fast.yaml",
        "inputs": ["x=data"],
    }
    said = repeated(Words("quickstart", (), flags))
    assert said == [
        "--seed", "3", "--env", "A=1", "--env", "B=2", "--require-gpu",
        "--profile", "fast.yaml", "--input", "x=data",
    ]  # fmt: skip


def test_what_belongs_to_the_place_or_the_moment_is_not() -> None:
    flags = {"on": ("local",), "name": "a", "json": True, "yes": True, "gpu": ("T4",), "detach": True}
    assert repeated(Words(None, (), flags)) == []
