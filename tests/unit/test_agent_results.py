"""What is read of a run and how: sealed lists, checkpoints, secrets, the trainer's environment."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.agent import checkpoints
from launcher.agent.protocol import Sealed, SealFailed, Seen
from launcher.agent.seal import seal
from launcher.agent.spool import Spool
from tests.unit.agent_bench import Begin, nursery, until

CANARY = "canary-5f1d"


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    (tmp_path / "output").mkdir()
    return Spool(str(tmp_path))


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    with nursery(tmp_path) as make:
        yield make


def fill(folder: Path) -> None:
    (folder / "b" / "deep").mkdir(parents=True)
    (folder / "b" / "deep" / "한국어 file").write_bytes(b"x" * 3_000_000)
    (folder / "a.txt").write_text("a")
    (folder / "b.txt").write_text("")
    (folder / "empty").mkdir()


# ── seal ──────────────────────────────────────────────────────────────────────────────────────────


def test_the_list_is_sorted_true_and_the_same_each_time(spool: Spool, tmp_path: Path) -> None:
    fill(tmp_path / "output")
    first = seal(spool, "output")
    data = (tmp_path / "sealed.json").read_bytes()
    second = seal(spool, "output")
    assert isinstance(first, Sealed)
    assert first == second
    assert first.digest == hashlib.sha256(data).hexdigest()
    files = json.loads(data)["files"]
    assert [f["path"] for f in files] == ["a.txt", "b.txt", "b/deep/한국어 file"]
    assert files[2] == {
        "path": "b/deep/한국어 file",
        "size": 3_000_000,
        "sha256": hashlib.sha256(b"x" * 3_000_000).hexdigest(),
    }
    assert (first.count, first.bytes, first.skipped) == (3, 3_000_001, ())
    assert stat.S_IMODE((tmp_path / "sealed.json").stat().st_mode) == 0o600


def test_links_pipes_and_what_cannot_be_read_are_named_never_followed(spool: Spool, tmp_path: Path) -> None:
    output = tmp_path / "output"
    (tmp_path / "secret.json").write_text(CANARY)
    (output / "link").symlink_to("../secret.json")
    (output / "folder").symlink_to("/etc")
    (output / "dangling").symlink_to("nowhere")
    os.mkfifo(output / "pipe")
    (output / "good").write_text("1")
    sealed = seal(spool, "output")
    assert isinstance(sealed, Sealed)
    assert sealed.skipped == ("dangling", "folder", "link", "pipe")
    assert sealed.count == 1
    assert CANARY not in (tmp_path / "sealed.json").read_text()


@pytest.mark.parametrize(
    ("name", "kept", "told"),
    [
        (b"\xff\xfe", "%FF%FE", "'\\\\xff\\\\xfe' as '%FF%FE'"),
        (b"new\nline 100%", "new%0Aline 100%25", "'new\\nline 100%' as 'new%0Aline 100%25'"),
        ("\x1b[2J한국".encode(), "%1B[2J한국", "'\\x1b[2J한국' as '%1B[2J한국'"),
        (b"manifest.json", "%6Danifest.json", "'manifest.json' as '%6Danifest.json'"),
        (b"%41", "%41", None),
    ],
)
def test_names_a_version_cannot_hold_are_kept_escaped_and_told(
    spool: Spool, tmp_path: Path, name: bytes, kept: str, told: str | None
) -> None:
    output = tmp_path / "output"
    Path(os.fsdecode(os.fsencode(output) + b"/" + name)).write_text("1")
    sealed = seal(spool, "output")
    assert isinstance(sealed, Sealed)
    assert (sealed.skipped, sealed.renamed) == ((), (told,) if told else ())
    (row,) = json.loads((tmp_path / "sealed.json").read_bytes())["files"]
    assert row["path"] == kept and (output / kept).read_text() == "1"
    again = seal(spool, "output")
    assert isinstance(again, Sealed) and (again.renamed, again.digest) == ((), sealed.digest)


def test_escaped_names_of_folders_of_the_same_kind_and_of_great_length(spool: Spool, tmp_path: Path) -> None:
    output = os.fsencode(tmp_path / "output")
    os.makedirs(output + b"/.launcher/a\nb/manifest.json")
    for name in (b"/.launcher/a\nb/manifest.json/x", b"/a\tb", b"/a%09b", b"/" + b"\x01" * 250):
        Path(os.fsdecode(output + name)).write_bytes(name)
    sealed = seal(spool, "output")
    assert isinstance(sealed, Sealed) and sealed.skipped == ()
    paths = [row["path"] for row in json.loads((tmp_path / "sealed.json").read_bytes())["files"]]
    long, *short = sorted(paths)
    assert short == ["%2Elauncher/a%0Ab/manifest.json/x", "a%09b", "a%09b%2"]
    assert long.startswith("%01%01") and len(long) <= 240
    assert {(tmp_path / "output" / p).read_bytes() for p in paths[-2:]} == {b"/a\tb", b"/a%09b"}


def test_a_folder_that_is_missing_or_leads_elsewhere_seals_nothing(spool: Spool, tmp_path: Path) -> None:
    assert seal(spool, "nowhere") == seal(spool, "output")
    (tmp_path / "out").symlink_to("/etc")
    (tmp_path / "plain").write_text("")
    for name in ("out", "plain", "."):
        sealed = seal(spool, name)
        assert isinstance(sealed, Sealed)
        assert (sealed.count, sealed.skipped) == (0, (".",))


def test_many_left_out_names_are_counted_not_listed(spool: Spool, tmp_path: Path) -> None:
    for n in range(130):
        (tmp_path / "output" / f"{n:03d}").symlink_to("x")
    sealed = seal(spool, "output")
    assert isinstance(sealed, Sealed)
    assert sealed.skipped[-2:] == ("099", "and 30 more")


def test_the_reserve_is_there_while_the_trainer_runs_and_makes_room_for_the_list(
    spool: Spool, tmp_path: Path
) -> None:
    """What it does on a full disk is seen in a container with a very small one."""
    spool.hold_back()
    spool.hold_back()
    facts = (tmp_path / "reserve").stat()
    assert facts.st_size == 8 << 20 and facts.st_blocks * 512 >= facts.st_size
    sealed = seal(spool, "output")
    assert isinstance(sealed, Sealed) and not sealed.full
    assert not (tmp_path / "reserve").exists()


def test_a_disk_that_takes_no_reserve_is_no_reason_not_to_start(spool: Spool, tmp_path: Path) -> None:
    (tmp_path / "reserve").mkdir()  # stands for whatever keeps the file from being made
    spool.hold_back()


def test_a_list_that_cannot_be_written_is_said(spool: Spool, tmp_path: Path) -> None:
    (tmp_path / "sealed.json.part").mkdir()
    assert isinstance(seal(spool, "output"), SealFailed)


# ── checkpoints ───────────────────────────────────────────────────────────────────────────────────


def test_a_scan_sees_children_and_passes_over_what_is_no_checkpoint(tmp_path: Path) -> None:
    assert checkpoints.scan(str(tmp_path / "nowhere")) == ()
    fill(tmp_path / "step-1")
    (tmp_path / "step-2").mkdir()
    (tmp_path / "step-2" / "complete").write_text("")
    (tmp_path / "last.pt").write_text("w")
    (tmp_path / "link").symlink_to("last.pt")
    (tmp_path / "hollow").mkdir()
    for name in (".hidden", "x.tmp", "x.part", "metrics.jsonl"):
        (tmp_path / name).write_text("")
    found = checkpoints.scan(str(tmp_path))
    assert [(s.name, s.marked) for s in found] == [("last.pt", False), ("step-1", False), ("step-2", True)]
    assert checkpoints.scan(str(tmp_path)) == found
    (tmp_path / "step-1" / "a.txt").write_text("b")
    assert checkpoints.scan(str(tmp_path))[1] != found[1]


def test_hashes_of_a_folder_of_a_file_and_of_one_that_changed(tmp_path: Path) -> None:
    fill(tmp_path / "one")
    (tmp_path / "last.pt").write_text("w")

    def seen() -> dict[str, Seen]:
        return {s.name: s for s in checkpoints.scan(str(tmp_path))}

    folder = checkpoints.hash_one(str(tmp_path), "one", seen()["one"].fingerprint)
    assert folder.files is not None
    assert [f.path for f in folder.files] == ["a.txt", "b.txt", "b/deep/한국어 file"]
    single = checkpoints.hash_one(str(tmp_path), "last.pt", seen()["last.pt"].fingerprint)
    assert single.files is not None
    assert [(f.path, f.size) for f in single.files] == [("last.pt", 1)]
    os.utime(tmp_path / "one" / "b.txt", (9, 2_000_000_000))
    folder = checkpoints.hash_one(str(tmp_path), "one", seen()["one"].fingerprint)
    assert folder.written == 2_000_000_000 > single.written > 0, "as old as its newest file"
    before = seen()["last.pt"].fingerprint
    (tmp_path / "last.pt").write_text("more")
    assert checkpoints.hash_one(str(tmp_path), "last.pt", before).files is None
    assert checkpoints.hash_one(str(tmp_path), "gone", before).files is None


def test_checkpoints_are_announced_while_training_and_again_when_changed(begin: Begin) -> None:
    live = begin().armed()
    live.python(
        "import os, time, pathlib\n"
        "for n in (1, 2):\n"
        "    part = pathlib.Path('checkpoint/.part'); part.mkdir(); (part / 'w').write_text('w' * n)\n"
        "    (part / 'complete').write_text('')\n"
        "    if n == 2: os.rename('checkpoint/last', 'checkpoint/.old')\n"
        "    part.rename('checkpoint/last')\n"
        "    while not os.path.exists(f'go{n}'): time.sleep(0.01)\n"
    )
    first = live.event("checkpoint")
    assert {f["path"]: f["size"] for f in first["files"]} == {"complete": 0, "w": 1}
    (live.root / "go1").write_text("")
    until(lambda: live.kinds().count("checkpoint") == 2, "the second announcement")
    assert live.events()[-1]["files"][1]["sha256"] == hashlib.sha256(b"ww").hexdigest()
    (live.root / "go2").write_text("")
    live.event("sealed")
    assert live.kinds().count("checkpoint") == 2


# ── environment and secrets ───────────────────────────────────────────────────────────────────────


def test_the_trainer_sees_its_own_environment_and_nothing_of_ours(begin: Begin) -> None:
    live = begin(AWS_SECRET_ACCESS_KEY=CANARY, RUNPOD_API_KEY=CANARY, OTHER="kept").armed()
    (live.root / "secret.json").write_text(json.dumps({"WANDB": CANARY}))
    source = "import json, os; json.dump(dict(os.environ), open('output/env', 'w'))"
    live.python(source, env={"MORE": "1", "OTHER": "new"}, secret_file="secret.json")
    live.event("sealed")
    env = json.loads((live.root / "output" / "env").read_text())
    ours = {k for k in env if k.startswith(("LAUNCHER_", "AWS_", "RUNPOD_"))}
    assert ours == {"LAUNCHER_INSTANCE", "LAUNCHER_RUN", "LAUNCHER_OWNER"}
    assert (env["MORE"], env["OTHER"], env["WANDB"]) == ("1", "new", CANARY)
    assert not (live.root / "secret.json").exists()
    for name in ("events.jsonl", "telemetry.jsonl", "console", "sealed.json"):
        assert CANARY not in (live.root / name).read_text(), name


@pytest.mark.parametrize("content", [None, f'{{"A": "{CANARY}"', f'["{CANARY}"]', '{"A": 1}'])
def test_secrets_that_cannot_be_read_refuse_the_start_and_are_not_repeated(
    begin: Begin, content: str | None
) -> None:
    live = begin().armed()
    if content is not None:
        (live.root / "secret.json").write_text(content)
    live.start("true", secret_file="secret.json")
    assert live.event("refused")["why"] == "no-secret"
    assert CANARY not in (live.root / "events.jsonl").read_text()
    live.say("end")
    assert live.ended() == 0
    assert not (live.root / "secret.json").exists()


def test_an_output_that_leads_out_of_the_spool_is_refused(begin: Begin, tmp_path: Path) -> None:
    live = begin().armed()
    (tmp_path / "elsewhere").mkdir()
    (live.root / "out").symlink_to(tmp_path / "elsewhere")
    live.start("true", output="out")
    refused = live.event("refused")
    assert (refused["why"], "out of the run's own folder" in refused["message"]) == ("no-folder", True)
