"""What a training leaves behind while it runs: points, event files, checkpoints, read back by other code."""

from __future__ import annotations

import json
import math
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest

from launcher import artifacts
from launcher.agent.metrics import Metrics as Followed
from launcher.remote.base import Listed
from trainers.kit.checkpoints import MARK, Checkpoint, Checkpoints, Taken
from trainers.kit.events import crc32c
from trainers.kit.manifest import write_manifest
from trainers.kit.metrics import Metrics

ROOT = Path(__file__).resolve().parents[2]


# metrics and events


def lines(output: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def test_points_are_lines_and_nan_is_null_and_said(tmp_path: Path) -> None:
    said: list[str] = []
    metrics = Metrics(tmp_path, say=said.append, clock=lambda: 12.5)
    metrics.add(1, "train", "loss", 0.25)
    metrics.add(2, "train", "loss", math.nan)
    metrics.add(3, "train", "loss", -math.inf)
    metrics.flush()
    assert lines(tmp_path) == [
        {"ts": 12.5, "step": 1, "split": "train", "name": "loss", "value": 0.25},
        {"ts": 12.5, "step": 2, "split": "train", "name": "loss", "value": None, "nan": True},
        {"ts": 12.5, "step": 3, "split": "train", "name": "loss", "value": None, "nan": True},
    ]
    assert said == ["warning: train loss is nan at step 2", "warning: train loss is -inf at step 3"]
    assert metrics.course() == {"train/loss": [[1, 0.25], [2, None], [3, None]]}
    metrics.close()


def test_a_resume_forgets_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    first = Metrics(tmp_path, clock=lambda: 1.0)
    first.add(1, "train", "loss", 0.5)
    remembered = list(first.points)
    first.add(2, "train", "loss", 0.4)
    first.close()
    second = Metrics(tmp_path, remembered, clock=lambda: 2.0)
    second.add(2, "train", "loss", 0.3)
    second.close()
    assert [(line["step"], line["value"]) for line in lines(tmp_path)] == [(1, 0.5), (2, 0.3)]
    (file,) = (tmp_path / "tensorboard").iterdir()
    assert read_events(file) == [(1.0, 1, "train/loss", 0.5), (2.0, 2, "train/loss", pytest.approx(0.3))]


def test_the_agent_hears_of_a_nan(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path, say=lambda line: None)
    metrics.add(4, "valid", "loss", math.nan)
    metrics.close()
    followed = Followed([str(tmp_path / "metrics.jsonl")])
    assert followed.read() == [("nan-metric", "valid/loss is nan at step 4")]


def slow_crc32c(data: bytes) -> int:
    """Bit by bit, as the polynomial is defined; shares nothing with the table."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x82F63B78 * (crc & 1)
    return crc ^ 0xFFFFFFFF


def unmasked(masked: int) -> int:
    turned = (masked - 0xA282EAD8) & 0xFFFFFFFF
    return (turned >> 17 | turned << 15) & 0xFFFFFFFF


def varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 0x80:
            return value, at


def fields(data: bytes) -> dict[int, Any]:
    """A protocol buffer's fields by number: whole numbers, or the bytes of everything else."""
    found: dict[int, Any] = {}
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        if key & 7 == 0:
            found[key >> 3], at = varint(data, at)
            continue
        size, at = varint(data, at) if key & 7 == 2 else ({1: 8, 5: 4}[key & 7], at)
        found[key >> 3], at = data[at : at + size], at + size
    return found


def read_events(path: Path) -> list[tuple[Any, ...]]:
    data, records = path.read_bytes(), []
    while data:
        (size,) = struct.unpack("<Q", data[:8])
        body, data = data[: 16 + size], data[16 + size :]
        assert slow_crc32c(body[:8]) == unmasked(struct.unpack("<I", body[8:12])[0])
        assert slow_crc32c(body[12:-4]) == unmasked(struct.unpack("<I", body[-4:])[0])
        records.append(fields(body[12:-4]))
    assert records[0][3] == b"brain.Event:2"
    events = []
    for event in records[1:]:
        summary = fields(fields(event[5])[1])
        (at,), (value,) = struct.unpack("<d", event[1]), struct.unpack("<f", summary[2])
        events.append((at, event[2], summary[1].decode(), value))
    return events


def test_the_crc_is_castagnolis() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # the check value in the catalogues of CRCs
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4


def test_event_files_hold_what_was_measured(tmp_path: Path) -> None:
    with_large_step = [(1, 0.5), (300, -2.25), (2**40, 1e-8)]
    metrics = Metrics(tmp_path, clock=lambda: 1700000000.25)
    for step, value in with_large_step:
        metrics.add(step, "valid", "größe", value)
    metrics.close()
    (file,) = (tmp_path / "tensorboard").iterdir()
    assert read_events(file) == [
        (1700000000.25, step, "valid/größe", pytest.approx(value)) for step, value in with_large_step
    ]


# checkpoints


def keep(folder: Path, goal: Literal["max", "min"] = "max", **more: int) -> tuple[Checkpoints, list[str]]:
    said: list[str] = []
    return Checkpoints(folder, goal=goal, say=said.append, **more), said


def save(keeper: Checkpoints, step: int, score: float | None = None) -> Checkpoint:
    def fill(folder: Path) -> None:
        (folder / "weights").write_text(f"weights of {step}")
        (folder / "deep").mkdir()
        (folder / "deep" / "more").write_text("more")

    return keeper.save(step, fill, score)


def steps(keeper: Checkpoints) -> list[int]:
    return [one.step for one in keeper.all()]


@pytest.mark.parametrize(("goal", "kept"), [("max", [20, 40, 50]), ("min", [10, 40, 50])])
def test_the_last_two_and_the_best_are_kept(
    goal: Literal["max", "min"], kept: list[int], tmp_path: Path
) -> None:
    keeper, _ = keep(tmp_path, goal)
    for step, score in ((10, 0.1), (20, 0.9), (30, 0.5), (40, 0.5), (50, 0.5)):
        save(keeper, step, score)
    assert steps(keeper) == kept
    assert len(list(tmp_path.iterdir())) == 3


def test_without_scores_the_last_ones_are_kept(tmp_path: Path) -> None:
    keeper, _ = keep(tmp_path, keep=1)
    save(keeper, 1)
    save(keeper, 2)
    assert steps(keeper) == [2]


def test_a_checkpoint_has_no_mark_while_it_is_filled(tmp_path: Path) -> None:
    keeper, _ = keep(tmp_path)
    seen: list[list[str]] = []

    def fill(folder: Path) -> None:
        (folder / "weights").write_text("w")
        seen.append([child.name for child in tmp_path.iterdir()])
        assert keeper.newest() is None

    made = keeper.save(1, fill)
    assert [name.startswith(".") for name in seen[0]] == [True]
    assert sorted(child.name for child in made.folder.iterdir()) == [MARK, "weights"]


def test_what_a_kill_left_half_done_is_cleared_and_never_resumed(tmp_path: Path) -> None:
    keeper, _ = keep(tmp_path)
    whole_one = save(keeper, 10)
    (tmp_path / ".step-00000020.77.new").mkdir()
    (tmp_path / "step-00000030").mkdir()
    (tmp_path / "step-00000030" / "weights").write_text("renamed, not yet marked")
    (tmp_path / "notes").mkdir()  # not ours: stays
    del keeper  # as when its process is gone
    after, _ = keep(tmp_path)
    assert after.newest() == whole_one
    assert sorted(child.name for child in tmp_path.iterdir()) == ["notes", "step-00000010"]


def test_a_kill_before_the_mark_leaves_the_one_before(tmp_path: Path) -> None:
    """A process is really killed, in the middle of filling its second checkpoint."""
    code = f"""
import os, signal
from pathlib import Path
from trainers.kit.checkpoints import Checkpoints
keeper = Checkpoints(Path({str(tmp_path)!r}), goal="max")
keeper.save(1, lambda folder: (folder / "w").write_bytes(b"1"))
keeper.save(2, lambda folder: os.kill(os.getpid(), signal.SIGKILL))
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2
    keeper, _ = keep(tmp_path)
    newest = keeper.newest()
    assert newest is not None
    assert newest.step == 1


def test_two_trainings_do_not_clear_each_others_halves(tmp_path: Path) -> None:
    first, _ = keep(tmp_path)
    half = tmp_path / ".step-00000020.77.new"
    half.mkdir()
    with pytest.raises(Taken, match="another training keeps its checkpoints there"):
        keep(tmp_path)
    assert half.is_dir()
    del first
    keep(tmp_path)
    assert not half.exists()


@pytest.mark.parametrize("damage", ["changed", "missing", "added"])
def test_a_damaged_checkpoint_is_said_and_the_one_before_is_used(damage: str, tmp_path: Path) -> None:
    keeper, said = keep(tmp_path)
    save(keeper, 1)
    second = save(keeper, 2)
    if damage == "missing":
        (second.folder / "deep" / "more").unlink()
    else:
        (second.folder / ("weights" if damage == "changed" else "stray")).write_text("weights of 3")
    newest = keeper.newest()
    assert newest is not None
    assert newest.step == 1
    assert said == ["warning: checkpoint step-00000002 is damaged, looking for the one before"]


def test_a_link_to_a_file_that_rotted_is_seen_as_damaged(tmp_path: Path) -> None:
    """Had it been hashed again, the rotten bytes would have been vouched for."""
    keeper, said = keep(tmp_path)
    first = save(keeper, 1)
    (first.folder / "weights").write_text("rotten")

    def fill(folder: Path) -> None:
        os.link(first.folder / "weights", folder / "weights")
        (folder / "fresh").write_text("fresh")

    second = keeper.save(2, fill)
    assert second.digests["weights"] == first.digests["weights"]
    assert keeper.newest() is None and len(said) == 2


@pytest.mark.parametrize("mark", ["", "{}", "[]", '{"step": "x", "score": 1, "files": {}}'])
def test_a_strange_mark_is_no_mark(mark: str, tmp_path: Path) -> None:
    keeper, _ = keep(tmp_path)
    made = save(keeper, 1)
    (made.folder / MARK).write_text(mark)
    assert keeper.newest() is None


def test_the_same_step_again_gets_a_new_name(tmp_path: Path) -> None:
    keeper, _ = keep(tmp_path)
    first, again = save(keeper, 7), save(keeper, 7)
    assert (first.folder.name, again.folder.name) == ("step-00000007", "step-00000007-2")
    assert keeper.newest() == again
    assert keeper.newest(up_to=6) is None


# versions made from Python


def test_a_version_without_a_run_has_the_launchers_own_manifest(tmp_path: Path) -> None:
    """The trainer cannot import its writer; the bytes say whether they are still alike."""
    (tmp_path / "up").mkdir()
    (tmp_path / "up" / "größe.json").write_text("{}")
    result = {"metrics": {"auc": 0.5}, "device": {"used": "cpu"}, "seed": 7, "seconds": 1.5, "run": None}
    (tmp_path / "result.json").write_text(json.dumps(result))
    write_manifest(tmp_path, "stacking", {"rounds": 3}, {"table": "ab" * 32})
    assert artifacts.verify(tmp_path) == ()
    body = json.loads((tmp_path / "manifest.json").read_text())
    files = tuple(Listed(**one) for one in body.pop("files"))
    assert [file.path for file in files] == ["result.json", "up/größe.json"]
    assert (body["run"], body["state"], body["metrics"], body["settings"]) == (
        None, "done", {"auc": 0.5}, {"rounds": 3},
    )  # fmt: skip
    del body["schema"]
    assert (tmp_path / "manifest.json").read_bytes() == artifacts.manifest(files, body)
