"""What cannot be meant, and what goes wrong by itself: each is a page with a code, a status and a line to
paste, at once; nothing is lost, nothing keeps running, nobody sees a traceback.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from launcher.remote.fetching import LEAVE_FREE
from tests.conftest import Outcome
from tests.e2e.person import AT_ONCE_S, Person, quickest

PY = sys.executable
OWN = ("run", "--project", ".", "--on", "local")


class Bad(NamedTuple):
    words: tuple[str, ...]
    code: str
    says: str
    status: int = 2


# Typed in a folder with a trainer `mini`, a profile folder and nothing else.
WORDS = {
    "unknown command": Bad(("rnu",), "", "run"),
    "unknown flag": Bad(("run", "--max-cots", "3"), "", "--max-cost"),
    "unknown trainer": Bad(("run", "mimi"), "unknown-trainer", "did you mean 'mini'?"),
    "unknown target": Bad(("run", "mini", "--on", "locl"), "unknown-target", "did you mean 'local'?"),
    "target of no kind": Bad(("plan", "mini", "--on", "nowhere"), "unknown-target", "aws, ssh:NAME."),
    "host without a name": Bad(("plan", "mini", "--on", "ssh"), "unknown-target", "aws, ssh:NAME."),
    "target with a typo in a list": Bad(("run", "mini", "--on", "local", "--on", "a w s"), "", "target"),
    "unknown GPU": Bad(("plan", "mini", "--on", "runpod", "--gpu", "RTX 4900"), "", "RTX 4090"),
    "empty GPU": Bad(("run", "mini", "--gpu", ""), "", "--gpu"),
    "negative ceiling": Bad(("run", "mini", "--max-cost", "-1"), "bad-setting", "negative"),
    "ceiling in words": Bad(("run", "mini", "--max-cost", "two"), "bad-setting", "--max-cost"),
    "not a number": Bad(("run", "mini", "--max-cost", "nan"), "bad-setting", "--max-cost"),
    "absurd ceiling": Bad(("run", "mini", "--max-cost", "1e9"), "bad-setting", "--max-cost"),
    "negative time": Bad(("run", "mini", "--max-time", "-5m"), "bad-setting", "negative"),
    "no time": Bad(("run", "mini", "--max-time", "0"), "bad-setting", "--max-time"),
    "absurd time": Bad(("run", "mini", "--max-time", "900h"), "bad-setting", "at most 24h"),
    "time without a unit": Bad(("run", "mini", "--max-time", "soon"), "bad-setting", "90s, 30m"),
    "negative idle": Bad(("run", "mini", "--idle", "-1s"), "bad-setting", "--idle"),
    "negative hold": Bad(("run", "mini", "--hold", "-1s"), "bad-setting", "--hold"),
    "no GPUs": Bad(("run", "mini", "--gpus", "0"), "bad-setting", "at least 1"),
    "a thousand GPUs": Bad(("run", "mini", "--gpus", "1000"), "bad-setting", "at most 16"),
    "negative seed": Bad(("run", "mini", "--seed", "-1"), "bad-setting", "--seed"),
    "unknown device": Bad(("run", "mini", "--device", "tpu"), "bad-setting", "auto, cpu or cuda"),
    "unusable name": Bad(("run", "mini", "--name", "../x"), "bad-setting", "--name"),
    "unusable version": Bad(("run", "mini", "--version", "a/b"), "bad-setting", "--version"),
    "variable without a value": Bad(("run", "mini", "--env", "A"), "bad-setting", "--env"),
    "variable of ours": Bad(("run", "mini", "--env", "LAUNCHER_RUN=x"), "bad-setting", "LAUNCHER_RUN"),
    "profile not there": Bad(("run", "mini", "--profile", "none.yaml"), "", "none.yaml"),
    "profile is a folder": Bad(("run", "mini", "--profile", "folder.yaml"), "", "folder.yaml"),
    "wrong argument": Bad(("run", "mini", "--", "--epohcs", "3"), "", "--epochs"),
    "argument of the wrong kind": Bad(("run", "mini", "--", "--epochs", "many"), "", "epochs"),
    "argument out of bounds": Bad(("run", "mini", "--", "--epochs", "1000"), "", "100"),
    "argument without a value": Bad(("run", "mini", "--", "--epochs"), "", "epochs"),
    "project not there": Bad(("run", "--project", "nowhere", "--", "true"), "project-missing", "nowhere"),
    "project is a file": Bad(("run", "--project", "cyclic.yaml", "--", "true"), "project-missing", "folder"),
    "project without a command": Bad(("run", "--project", "."), "command-missing", "after --"),
    "trainer and project": Bad(("run", "mini", "--project", "."), "trainer-and-project", "not both"),
    "OUT is absolute": Bad((*OWN, "--output", "/tmp/x", "--", "true"), "bad-setting", "--output"),
    "OUT escapes": Bad((*OWN, "--output", "../x", "--", "true"), "", "--output"),
    "OUT is the project": Bad((*OWN, "--output", ".", "--", "true"), "", "--output"),
    "OUT leads out by a link": Bad((*OWN, "--output", "away/x", "--", "true"), "output-outside", "leads out"),
    "OUT is a file": Bad((*OWN, "--output", "cyclic.yaml", "--", "true"), "output-outside", "is a file"),
    "input not there": Bad((*OWN, "--input", "A=none", "--", "true"), "input-missing", "none"),
    "two inputs without a name": Bad(
        (*OWN, "--input", "cyclic.yaml", "--input", "folder.yaml", "--", "true"), "bad-setting", "NAME=PATH"
    ),
    "no requirements": Bad((*OWN, "--requirements", "r.txt", "--", "true"), "requirements-missing", ""),
    "no such run": Bad(("status", "nobody"), "unknown-run", "nobody"),
    "no run at all": Bad(("watch",), "no-run", "yet"),
    "no such version": Bad(("models", "show", "v9"), "no-version", "no version"),
    "extend without more": Bad(("extend", "nobody"), "unknown-run", "nobody"),
}  # fmt: skip

PROFILES = {
    "a target nobody knows": ("on: [lokal]\n", "bad.yaml:1:6: on.0: there is no target 'lokal', did"),
    "a GPU nobody knows": (
        "spot: false\ngpu: [RTX 4909]\n",
        "bad.yaml:2:7: gpu.0: no GPU is called 'RTX 4909', did",
    ),
    "an argument nobody takes": ("args: {nmuber: 3}\n", "bad.yaml:1:8: args.nmuber: unknown argument"),
    "cyclic": ("extends: cyclic.yaml\n", "cyclic.yaml"),
    "cyclic by another": ("extends: other.yaml\n", "other.yaml"),
    "no YAML": ("on: [local\n", "bad.yaml:"),
    "a list": ("- on\n", "bad.yaml:1"),
    "unknown key": ("on: local\nmax_coost: 3\n", "bad.yaml:2:1: "),
    "wrong value": ("max_time: soon\n", "bad.yaml:1:"),
    "a key twice": ("on: local\non: docker\n", "bad.yaml:2"),
    "no text": ("on: \xff\xfe\x00", "bad.yaml"),
    "nested too deep": ("a: " + "[" * 2000, "bad.yaml"),
}


@pytest.fixture
def folder(person: Person) -> Person:
    person.trainer()
    person.writes("cyclic.yaml", "extends: cyclic.yaml\n")
    (person.project / "folder.yaml").mkdir()
    (person.project / "away").symlink_to("/tmp")
    return person


def is_a_page(done: Outcome, code: str, says: str, status: int) -> None:
    assert done.code == status, done.stderr
    assert "Traceback" not in done.stderr + done.stdout and done.stdout == ""
    assert says in done.stderr, done.stderr
    if code:
        assert done.stderr.startswith(f"error: {code}\n") and f"docs/errors.md#{code}" in done.stderr
        assert "still billed: nothing" in done.stderr


@pytest.mark.parametrize("name", WORDS)
@pytest.mark.alone
def test_words_that_cannot_be_meant(folder: Person, name: str) -> None:
    bad = WORDS[name]
    seconds, done = quickest(folder, *bad.words)
    is_a_page(done, bad.code, bad.says, bad.status)
    assert seconds < AT_ONCE_S
    assert not (folder.home / "runs").exists() or not os.listdir(folder.home / "runs")
    assert not folder.processes()


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.alone
def test_profiles_that_cannot_be_read(folder: Person, name: str) -> None:
    text, says = PROFILES[name]
    file = "cyclic.yaml" if name == "cyclic" else "bad.yaml"
    (folder.project / file).write_bytes(text.encode("latin-1"))
    folder.writes("other.yaml", "extends: bad.yaml\n")
    seconds, done = quickest(folder, "run", "mini", "--profile", file)
    is_a_page(done, "", says, 2)
    assert seconds < AT_ONCE_S and folder.ps() == {}


def test_all_faults_of_a_profile_are_told_at_once(folder: Person) -> None:
    faulty = "max_cots: 3\nmax_time: soon\ngpus: 0\non: [local, dokcer]\ngpu: RTX 4909\nargs:\n  epochz: 3\n"
    folder.writes("launcher.yaml", f"trainer: minni\n{faulty}")
    done = folder.types("run", "mini")
    is_a_page(done, "bad-profile", "profiles have 6 faults", 2)
    told = [line.strip() for line in done.stderr.splitlines() if line.strip().startswith("launcher.yaml:")]
    assert [line.split(": ")[:2] for line in told] == [
        ["launcher.yaml:2:1", "max_cots"],
        ["launcher.yaml:3:1", "max_time"],
        ["launcher.yaml:4:1", "gpus"],
        ["launcher.yaml:5:13", "on.1"],
        ["launcher.yaml:6:1", "gpu"],
        ["launcher.yaml:8:3", "args.epochz"],
    ]
    for meant in ("'max_cost'", "'docker'", "RTX 4090", "'epochs'"):
        assert any(f"did you mean {meant}" in line for line in told), meant
    named = folder.types("run")  # nothing is known of its arguments
    is_a_page(
        named, "bad-profile", "launcher.yaml:1:1: trainer: there is no trainer 'minni', did you mean", 2
    )
    assert "epochz" not in named.stderr


def test_what_another_place_overrides_is_no_fault(folder: Person) -> None:
    folder.writes("launcher.yaml", "trainer: minni\non: lokal\ngpu: RTX 4909\nargs: {epochs: 3}\n")
    words = ("run", "--project", ".", "--on", "local", "--gpu", "A40", "--device", "cpu", "--json")
    done = folder.types(*words, "--", "true")
    assert done.code == 0, done.stderr
    plan = ("plan", "--device", "cpu")
    said = folder.types(*plan, LAUNCHER_TRAINER="mini", LAUNCHER_ON="local", LAUNCHER_GPU="A40")
    assert said.code == 0, said.stderr


def test_a_profile_that_may_not_be_read(folder: Person) -> None:
    if os.geteuid() == 0:  # nothing is forbidden to root: a link to nowhere is as unreadable
        (folder.project / "p.yaml").symlink_to("/does/not/exist")
    else:
        folder.writes("p.yaml", "on: local\n").chmod(0)
    is_a_page(folder.types("run", "mini", "--profile", "p.yaml"), "", "p.yaml", 2)


def test_a_container_engine_that_does_not_answer(folder: Person) -> None:
    folder.extra = {"DOCKER_HOST": "unix:///does/not/exist"}
    done = folder.types("run", "mini", "--on", "docker")
    assert done.code == 6 and done.stderr.startswith("error: target-unreachable\n"), done.stderr
    assert "docker" in done.stderr and "Traceback" not in done.stderr and folder.ps() == {}


# --- the data folder ---------------------------------------------------------------------------------


@pytest.mark.alone
def test_a_data_folder_that_cannot_be_made(folder: Person) -> None:
    below = folder.writes("file", "") / "home"
    folder.extra = {"LAUNCHER_HOME": str(below)}
    seconds, done = quickest(folder, "run", "mini")
    is_a_page(done, "home-unwritable", str(below), 2)
    assert "LAUNCHER_HOME" in done.stderr and seconds < AT_ONCE_S


@pytest.fixture
def mounted(person: Person) -> Iterator[Path]:
    """A small disk of its own, where we may mount one: a little more than what a pull leaves free."""
    place = person.root / "disk"
    place.mkdir()
    size = ["mount", "-t", "tmpfs", "-o", f"size={LEAVE_FREE + (2 << 20)},nr_inodes=200", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(size, capture_output=True).returncode:
        # No right to mount: a folder without permission is the nearest there is.
        place.chmod(0o500)
        yield place
        place.chmod(0o700)
        return
    yield place
    person.cleans_up()
    subprocess.run(["umount", "-l", str(place)], check=True)


def is_disk(place: Path) -> bool:
    return os.path.ismount(place)


def test_a_read_only_data_folder(folder: Person, mounted: Path) -> None:
    home = mounted / "home"
    folder.extra = {"LAUNCHER_HOME": str(home)}
    if is_disk(mounted):
        assert folder.types("ps").code == 0  # it was good once
        subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
    is_a_page(folder.types("run", "mini"), "home-unwritable", str(home), 2)


def test_a_full_data_folder_before_the_run(folder: Person, mounted: Path) -> None:
    folder.extra = {"LAUNCHER_HOME": str(mounted / "home")}
    if is_disk(mounted):
        assert folder.types("ps").code == 0
        fill(mounted)
    done = folder.types("run", "mini")
    assert done.code == 2 and "Traceback" not in done.stderr and done.stderr.startswith("error: ")
    assert "space" in done.stderr or "Permission" in done.stderr


def fill(place: Path) -> Path:
    block = place / "block"
    with block.open("wb", buffering=0) as f:
        for size in (1 << 20, 4096):
            with suppress(OSError):
                while f.write(bytes(size)) == size:
                    pass
    return block


@pytest.mark.alone
def test_results_that_would_find_no_place_are_refused_before_anything_runs(
    folder: Person, mounted: Path
) -> None:
    words = ("run", "--project", str(mounted), "--on", "local", "--", "true")
    if is_disk(mounted):
        subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
    seconds, done = quickest(folder, *words)
    is_a_page(done, "models-unusable", f"{mounted} cannot be written to: ", 2)
    assert seconds < AT_ONCE_S
    block = folder.writes("models", "in the way")
    for line in (("run", "mini"), ("models",)):
        is_a_page(folder.types(*line), "models-unusable", f"{block} is no folder", 2)
    assert folder.ps() == {}


def test_a_project_disk_that_is_full_loses_no_results(folder: Person, mounted: Path) -> None:
    """The results wait where the trainer wrote them; once there is room, `pull` brings them."""
    if not is_disk(mounted):
        mounted.chmod(0o700)
    project = mounted / "project"
    project.mkdir()
    code = "import os; open(os.environ['LAUNCHER_OUTPUT'] + '/m', 'wb').write(b'w' * 300_000)"
    block = fill(mounted) if is_disk(mounted) else project / "models"
    if not is_disk(mounted):  # found in the way only when the results come
        code += f"; open({str(block)!r}, 'w').write('in the way')"
    words = (
        "run",
        "--project",
        str(project),
        "--on",
        "local",
        "--name",
        "full",
        "--json",
        "--",
        PY,
        "-c",
        code,
    )
    done = folder.types(*words, cwd=project)
    assert done.code == 5 and done.json()["state"] == "waiting", done.stderr
    assert "results-wait" in done.stderr and "pull full" in done.stderr
    block.unlink()
    pulled = folder.types("pull", "full", "--json", cwd=project)
    assert pulled.code == 0 and Path(pulled.json()["artifacts"], "m").stat().st_size == 300_000
    folder.alone()


@pytest.mark.alone
def test_a_data_folder_of_another_layout(folder: Person) -> None:
    folder.home.mkdir()
    (folder.home / "schema").write_text("99")
    seconds, done = quickest(folder, "ps")
    is_a_page(done, "home-schema", "99", 2)
    assert seconds < AT_ONCE_S


def test_an_empty_schema_file_is_another_layout_too(folder: Person) -> None:
    folder.home.mkdir()
    (folder.home / "schema").write_text("")
    assert folder.types("ps").code == 2


def test_a_stranger_among_the_runs_hides_no_run(folder: Person) -> None:
    folder.own("true", flags=("--name", "good"))
    (folder.home / "runs" / "junk").mkdir()
    (folder.home / "runs" / "file").write_text("")
    assert set(folder.ps()) == {"good"}


def test_a_damaged_plan_is_said_and_hides_no_other_run(folder: Person) -> None:
    folder.own("true", flags=("--name", "good"))
    folder.own("true", flags=("--name", "spoiled"))
    (folder.run_folder("spoiled") / "plan.json").write_text('{"run": ')
    assert set(folder.ps()) == {"good", "spoiled"}  # its end was written down, and is still true
    (folder.run_folder("spoiled") / "listed.json").unlink()
    done = folder.types("ps", "--json")
    assert done.code == 0 and [row["run"] for row in done.json()] == ["good"]
    assert "spoiled" in done.stderr
    page = folder.types("status", "spoiled")
    assert page.code == 2 and "spoiled" in page.stderr and "Traceback" not in page.stderr
