"""The page about a version whose words are hostile, whose files are torn or missing, or which is huge."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from launcher.report import page
from tests.unit.pages_shape import stands_alone
from tests.unit.report_bench import DIGEST, EVENTS, HOSTILE, NAME, Made, at, jsonl, metric, sample, training


def test_hostile_words_stay_text(tmp_path: Path) -> None:
    events = [{**EVENTS[0], "platform": HOSTILE}, {"ev": "warned", "at": at(5), "message": HOSTILE}]
    hostile = {
        "state": HOSTILE,
        "run": HOSTILE,
        "command": [HOSTILE],
        "settings": {HOSTILE: HOSTILE},
        "metrics": {HOSTILE: 1.0},
        "files": [{"path": HOSTILE, "size": HOSTILE, "sha256": HOSTILE}],
        "device": {"used": HOSTILE, "name": HOSTILE},
        "code": {"commit": HOSTILE, "dirty": HOSTILE},
        "left_out": [HOSTILE],
    }
    made = Made(tmp_path, hostile, events=jsonl(events), log=HOSTILE.encode() * 3)
    made.metrics = jsonl(metric(i, HOSTILE, HOSTILE, i) for i in range(5))
    text = made.page()
    shape = stands_alone(text)
    assert shape.text.count(" ".join(HOSTILE.split())) >= 12
    assert re.search(r"<(script|img)", text) is None


def test_a_log_moves_no_cursor_and_turns_no_words(tmp_path: Path) -> None:
    log = "\x1bPq#0\x1b\\\x1b[31mred\x1b[0m\x00 \u202edetrever\n 10%\r 50%\r100%\r\n\ud83d"
    text = Made(tmp_path, log=log.encode("utf-8", "surrogatepass")).page()
    lines = text.split("<pre>")[1].split("</pre>")[0].split("\n")
    assert lines[:2] == ["red· ·detrever", "100%"]
    assert len(lines) == 3 and set(lines[2]) == {"\ufffd"}


def test_lone_surrogates_reach_no_file(tmp_path: Path) -> None:
    version = Made(tmp_path, {"run": "\ud800", "settings": {"a\udfff": "b"}}).write()
    assert "run · ·" in page.save(version, None, None, tmp_path).read_text(encoding="utf-8")


def test_a_bare_version_is_a_page_too(tmp_path: Path) -> None:
    made = Made(tmp_path, plan=None, events=None, telemetry=None, metrics=None, log=None)
    shape = stands_alone(made.page())
    assert NAME in shape.text and "svg" not in shape.tags
    assert "Machine" not in shape.text and "Log" not in shape.text


def test_a_manifest_of_another_make_is_a_page_too(tmp_path: Path) -> None:
    none: dict[str, Any] = dict.fromkeys(("run", "created", "state", "command", "code", "runtime", "device"))
    odd = {"files": 7, "settings": [1], "metrics": "good", "usd": "much", "seconds": [], "inputs": 3}
    assert NAME in stands_alone(Made(tmp_path, {**none, **odd, "secrets": 1, "left_out": 2}).page()).text


def test_damaged_files_tell_what_is_whole(tmp_path: Path) -> None:
    noise = b'\xff\xfe\n[1]\n{"a":\n' + b"[" * 5000 + b"\n" + b'{"at":"x","ev":"hello","t":1}\n'
    whole = jsonl(sample(s) for s in range(30))
    huge = b'{"step":1,"split":"train","name":"loss","value":' + b"9" * 400 + b"}\n"
    odd = b'{"step":1,"name":"loss","value":true}\n{"step":null,"name":7,"value":1}\n'
    odd += b'{"step":1.5,"split":"train","name":"loss","value":"nan"}\n'
    text = Made(
        tmp_path,
        events=noise + jsonl(EVENTS) + b'{"ev":"exi',
        telemetry=noise + whole + b'{"at":"2026-03-04T12:00:40Z","gpu":7,"cpu":1e999}\n{"at":',
        metrics=noise + huge + odd + jsonl(metric(i, "train", "loss", i) for i in range(2, 9)) + b'{"st',
    ).page()
    shape = stands_alone(text)
    assert "the trainer started as process 77" in shape.text
    assert "train 8" in shape.text and "2 without a number" in shape.text
    assert "all cores mean 90 %" in shape.text


def test_a_plan_that_is_none_is_not_told(tmp_path: Path) -> None:
    version = Made(tmp_path).write()
    (version.path / ".launcher" / "plan.json").write_bytes(b"[1, 2")
    text = page.save(version, None, None, tmp_path).read_text()
    assert "price list" not in text and "<figcaption>Cost" not in text


def test_a_link_among_the_files_is_not_followed(tmp_path: Path) -> None:
    version = Made(tmp_path, log=None, metrics=None).write()
    secret = tmp_path / "secret"
    secret.write_text("do not show\n")
    (version.path / ".launcher" / "log").symlink_to(secret)
    (version.path / "metrics.jsonl").symlink_to(secret)
    assert "do not show" not in page.save(version, None, None, tmp_path).read_text()


# --- bounds --------------------------------------------------------------------------------------


def test_a_hundred_thousand_points_fit(tmp_path: Path) -> None:
    samples = jsonl(sample(s / 5, util=s % 97) for s in range(20_000))
    text = Made(tmp_path, metrics=jsonl(training(100_000)), telemetry=samples).page()
    assert len(text.encode()) < 150_000
    stands_alone(text)


def test_the_worst_of_everything_fits(tmp_path: Path) -> None:
    long = "'" * 500
    rough = (
        metric(step, f"{long}{split}", f"{name}", (step * 7919) % 1013)
        for step in range(600)
        for split in range(9)
        for name in range(25)
    )
    cards = [{"name": long, "util": 50.5, "mem_used_gb": 1.5, "mem_gb": 80}] * 16
    samples = [{**sample(s), "gpu": [{**c, "util": (s * 31) % 101} for c in cards]} for s in range(3000)]
    events = [{"ev": "warned", "at": at(s), "message": long} for s in range(3000)]
    events += [{"ev": "checkpoint", "at": at(s), "name": long} for s in range(3000)]
    manifest = {
        "files": [{"path": long, "size": 1 << 60, "sha256": DIGEST}] * 2000,
        "settings": {f"{long}{i}": long for i in range(500)},
        "metrics": {f"{long}{i}": 1.2345e-300 for i in range(500)},
        "inputs": {f"{long}{i}": long for i in range(500)},
        "left_out": [long] * 500,
        **dict.fromkeys(("run", "state", "profile", "instance", "pushed", "seed", "sealed", "trainer"), long),
    }
    made = Made(tmp_path, manifest, events=jsonl([EVENTS[0], *events]), telemetry=jsonl(samples))
    made.metrics, made.log = jsonl(rough), (b"'" * 5000 + b"\n") * 1000
    text = made.page()
    assert len(text.encode()) < page.LARGEST
    assert "more in metrics.jsonl" in text and "more in manifest.json" in text
    stands_alone(text)


def test_only_the_end_of_a_long_log_is_shown(tmp_path: Path) -> None:
    log = "".join(f"line {i}\n" for i in range(100_000)).encode()
    shown = Made(tmp_path, log=log).page().split("<pre>")[1].split("</pre>")[0].split("\n")
    assert shown == [f"line {i}" for i in range(99_800, 100_000)]
