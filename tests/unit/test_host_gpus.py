"""A host's GPUs as its nvidia-smi tells of them, above all those that are cut into parts. Made-up answers."""

from __future__ import annotations

import os
import socket
import subprocess
from contextlib import ExitStack, closing
from pathlib import Path
from secrets import token_hex

import pytest

from launcher.providers.ssh_far_gpus import LEASE, Refused, Survey, lease, user_name

ME = user_name(os.getuid())


class Smi:
    """An nvidia-smi on PATH: one whole card, one that is cut in two."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.whole, self.card = f"GPU-{token_hex(4)}", f"GPU-{token_hex(4)}"
        self.parts = [f"MIG-{token_hex(4)}" for _ in range(2)]
        self.uses()
        (folder / "gpus").write_text(
            f"{self.whole}, Card 24G, 24576, 24000, 550.1\n"
            f"{self.card}, NVIDIA A100 40GB, 40960, 40000, 550.1\n"
        )
        (folder / "list").write_text(
            f"GPU 0: Card 24G (UUID: {self.whole})\nGPU 1: NVIDIA A100 40GB (UUID: {self.card})\n"
            + "".join(f"  MIG 3g.20gb     Device  {n}: (UUID: {p})\n" for n, p in enumerate(self.parts))
        )
        tool = folder / "nvidia-smi"
        cases = "-L) cat list;; --query-gpu*) cat gpus;; --query-compute*) cat apps;;"
        tool.write_text(f"#!/bin/sh\ncd {folder}\ncase $1 in {cases} esac\n")
        tool.chmod(0o755)

    def uses(self, *pids: int) -> None:
        (self.folder / "apps").write_text("".join(f"{self.card}, {pid}, 512\n" for pid in pids))


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Smi:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return Smi(tmp_path)


def ask(
    run: str = "one", count: int = 1, model: str | None = "NVIDIA A100 40GB MIG 3g.20gb"
) -> dict[str, object]:
    return {"run": run, "count": count, "model": model, "must": True}


def held(survey: Survey) -> set[str]:
    return {one["uuid"] for one in survey.held}


def test_parts_stand_where_their_card_stood(smi: Smi) -> None:
    survey = Survey()
    assert [(d["uuid"], d["name"], d["memory_mb"]) for d in survey.devices] == [
        (smi.whole, "Card 24G", 24576),
        *((part, "NVIDIA A100 40GB MIG 3g.20gb", 20480) for part in smi.parts),
    ]
    assert (survey.free_mb, survey.held) == ([24000, -1, -1], [])


def test_each_part_is_leased_by_itself(smi: Smi) -> None:
    with ExitStack() as one, ExitStack() as two:
        assert lease(Survey(), ask("one"), one)[0] == smi.parts[:1]
        assert lease(Survey(), ask("two"), two)[0] == smi.parts[1:]
        with ExitStack() as three, pytest.raises(Refused, match=f"{ME}'s run one; .* {ME}'s run two"):
            lease(Survey(), ask("three"), three)


def test_a_process_that_tells_its_part_holds_that_one(smi: Smi) -> None:
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": smi.parts[1]}
    with subprocess.Popen(["sleep", "60"], env=env) as mine:
        smi.uses(mine.pid)
        assert held(Survey()) == {smi.parts[1]}
        mine.kill()


def test_of_one_that_tells_nothing_all_parts_may_be(smi: Smi) -> None:
    with subprocess.Popen(["sleep", "60"]) as theirs:
        smi.uses(theirs.pid)
        assert held(Survey()) == set(smi.parts)
        theirs.kill()


def test_whose_lease_covers_it_holds_nothing_more(smi: Smi) -> None:
    """A run in a container: its processes' environment names no part."""
    with ExitStack() as one, subprocess.Popen(["sleep", "60"]) as mine:
        lease(Survey(), ask(), one)
        smi.uses(mine.pid)
        assert held(Survey()) == {smi.parts[0]}
        mine.kill()


def test_a_bare_lease_of_a_part_covers_nobody(smi: Smi) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as end, subprocess.Popen(["sleep", "60"]) as theirs:
        end.bind(f"{LEASE}{smi.parts[0]}".encode())
        smi.uses(theirs.pid)
        assert held(Survey()) == set(smi.parts)
        theirs.kill()
