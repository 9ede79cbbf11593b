"""Secrets: they reach the trainer, and no plan, journal, manifest, log, command line or message."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.e2e.person import Person, until

PY = sys.executable
SECRET = "s3cr3t-canary-9f2"
WITNESS = """
import hashlib, os, pathlib, sys, time
value = os.environ["TOKEN"]
out = pathlib.Path(os.environ["LAUNCHER_OUTPUT"])
(out / "digest").write_text(hashlib.sha256(value.encode()).hexdigest())
print("have it", flush=True)
while not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.02)
"""


@pytest.mark.parametrize("source", ["env:HIDDEN", "file"])
def test_a_secret_reaches_the_trainer_and_nothing_else(person: Person, source: str) -> None:
    person.writes("witness.py", WITNESS)
    held = person.root / "secret.txt"
    held.write_text(SECRET + "\n")
    where = source if source != "file" else f"file:{held}"
    go = person.root / "go"
    flags = ("--name", "quiet", "-d", "--json", "--secret", f"TOKEN={where}")
    env = {"HIDDEN": SECRET} if source != "file" else {}
    person.extra = env
    begun = person.types("run", "--project", ".", "--on", "local", *flags, "--", PY, "witness.py", str(go))
    assert begun.code == 0, begun.stderr
    argv = " ".join(person.processes().values())
    here = [p for p in person.home.rglob("*") if p.is_file() and SECRET.encode() in p.read_bytes()]
    assert SECRET not in argv and here == []  # the trainer runs: the 0600 file is gone again
    go.write_text("")
    done = person.types("watch", "quiet", "--json")
    folder = Path(done.json()["artifacts"])
    assert (folder / "digest").read_text() == hashlib.sha256(SECRET.encode()).hexdigest()
    everywhere = [*person.home.rglob("*"), *person.project.rglob("*")]
    assert not [p for p in everywhere if p.is_file() and SECRET.encode() in p.read_bytes()]
    assert json.loads((folder / "manifest.json").read_text())["secrets"] == ["TOKEN"]
    assert SECRET not in begun.stdout + begun.stderr + done.stdout + done.stderr


def test_the_file_that_hands_a_secret_over_is_readable_by_nobody_else(person: Person) -> None:
    """Seen by holding the run before its start: the set-up waits, the secret is not there yet; then 0600."""
    modes: set[int] = set()
    person.writes("witness.py", WITNESS)
    go = person.root / "go"
    words = ("run", "--project", ".", "--on", "local", "--name", "fast", "--secret", "TOKEN=env:HIDDEN")
    begun = person.begins(*words, "--", PY, "witness.py", str(go), HIDDEN=SECRET)
    folder = person.run_folder("fast") / "attempts" / "1" / "spool"

    def started() -> bool:
        with suppress(OSError):
            modes.add(stat.S_IMODE(os.stat(folder / "secret.json").st_mode))
        journal = person.run_folder("fast") / "journal.jsonl"
        return journal.exists() and any(f["kind"] == "started" for f in person.facts("fast"))

    until(started, "the start")
    go.write_text("")
    begun.communicate(timeout=60)
    assert begun.returncode == 0 and modes <= {0o600}
    assert stat.S_IMODE(os.stat(person.run_folder("fast")).st_mode) == 0o700


def test_a_secret_written_into_the_command_line_is_never_repeated(person: Person) -> None:
    done = person.own("true", flags=("--secret", f"TOKEN={SECRET}"))
    assert done.code == 2 and SECRET not in done.stderr + done.stdout


@pytest.mark.parametrize("where", ["env:NOT_SET", "file:/does/not/exist"])
def test_a_missing_secret_is_said_before_anything_runs(person: Person, where: str) -> None:
    done = person.own("true", flags=("--secret", f"TOKEN={where}"))
    assert done.code == 2 and "secret-missing" in done.stderr and person.ps() == {}


def test_a_secret_that_is_no_text_is_said_before_anything_runs(person: Person) -> None:
    (person.project / "key.bin").write_bytes(b"\x00\xff\xfe")
    done = person.own("true", flags=("--secret", "TOKEN=file:key.bin"))
    assert done.code == 2 and "secret-missing" in done.stderr and "UTF-8" in done.stderr
    assert person.ps() == {}
