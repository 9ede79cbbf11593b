"""Looking at an output folder while it is written, by the agent's own eyes and by a whole agent."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.agent.output import LEAST_BYTES, hash_one, scan
from launcher.agent.spool import Spool
from tests.unit.agent_bench import Begin, nursery

BIG = b"x" * LEAST_BYTES


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    with nursery(tmp_path) as make:
        yield make


def spool(root: Path) -> tuple[Spool, Path]:
    out = root / "output"
    out.mkdir()
    return Spool(str(root)), out


def names(s: Spool) -> list[str]:
    return [one.name for one in scan(s, "output")]


def test_large_plain_files_are_seen_and_nothing_else(tmp_path: Path) -> None:
    s, out = spool(tmp_path)
    (out / "sub").mkdir()
    for name in ("b.bin", "sub/a.bin", "half.part", "manifest.json", "odd\x07name"):
        (out / name).write_bytes(BIG)
    (out / "small.txt").write_bytes(BIG[:-1])
    (out / "link.bin").symlink_to(out / "b.bin")
    os.mkfifo(out / "pipe")
    assert names(s) == ["b.bin", "sub/a.bin"]


def test_a_folder_that_is_not_the_runs_own_is_not_looked_into(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "secret.bin").write_bytes(BIG)
    root = tmp_path / "spool"
    root.mkdir()
    assert scan(Spool(str(root)), "output") == ()
    (root / "output").symlink_to(tmp_path / "other")
    assert scan(Spool(str(root)), "output") == ()


def test_twenty_thousand_small_files_are_no_news(tmp_path: Path) -> None:
    s, out = spool(tmp_path)
    for n in range(20_000):
        (out / f"{n}.json").touch()
    (out / "z.bin").write_bytes(BIG)
    assert names(s) == ["z.bin"]


def test_a_change_is_another_fingerprint_and_no_digest(tmp_path: Path) -> None:
    s, out = spool(tmp_path)
    (out / "m.bin").write_bytes(BIG)
    (one,) = scan(s, "output")
    whole = hash_one(s, "output", "m.bin", one.fingerprint)
    assert whole.files is not None
    assert (whole.files[0].size, whole.files[0].sha256) == (len(BIG), hashlib.sha256(BIG).hexdigest())
    (out / "m.bin").write_bytes(BIG + b"more")
    assert hash_one(s, "output", "m.bin", one.fingerprint).files is None
    (out / "m.bin").unlink()
    assert hash_one(s, "output", "m.bin", one.fingerprint).files is None
    (out / "m.bin").symlink_to("/etc/hostname")
    assert hash_one(s, "output", "m.bin", one.fingerprint).files is None


WRITES = """
import os, time
out = os.environ["OUT"]
open(f"{out}/early.bin", "wb").write(b"1" * (2 << 20))
while not os.path.exists("go"):
    time.sleep(0.02)
    open(f"{out}/late.bin", "ab").write(b"2" * (1 << 20))
"""


def test_a_real_agent_announces_what_stands_still_while_the_trainer_runs(begin: Begin) -> None:
    a = begin().armed()
    out = a.root / "output"
    out.mkdir(exist_ok=True)
    a.python(WRITES, early_every_s=1, output="output", env={"OUT": str(out)})
    told = a.event("output", path="early.bin")
    assert (told["size"], told["sha256"]) == (2 << 20, hashlib.sha256(b"1" * (2 << 20)).hexdigest())
    assert "exited" not in a.kinds()
    (a.root / "go").touch()
    a.event("sealed")
    assert [e["path"] for e in a.events() if e["ev"] == "output"] == ["early.bin"]
