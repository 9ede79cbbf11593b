"""What comes home before a trainer's end: large files that stand still. In a version, never in another form
than their last.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.e2e.containers import DockerPerson
from tests.e2e.hosted import HostedPerson, lets_go
from tests.e2e.person import Person, until
from tests.hosts.boxes import sshd_container

MB = 1 << 20
# Writes early, waits to be let go, writes one of its files anew and throws one away, and ends.
TRAINER = """
import os, pathlib, sys, time
out = pathlib.Path(os.environ["LAUNCHER_OUTPUT"])
go = pathlib.Path(sys.argv[1])
block = bytes(range(256)) * 4096
with (out / "early.bin").open("wb") as f:
    for _ in range(50):
        f.write(block)
(out / "again.bin").write_bytes(block * 3)
(out / "passing.bin").write_bytes(block)
(out / "model").write_bytes(block)
for n in range(2000):
    (out / f"small-{n}").write_text("x")
print("written", flush=True)
while not go.exists():
    time.sleep(0.02)
(out / "again.bin").write_bytes(block * 2 + b"the last form")
(out / "passing.bin").unlink()
(out / "model").unlink()
(out / "model").mkdir()
(out / "model" / "weights").write_bytes(block)
"""
BLOCK = bytes(range(256)) * 4096


def prepares(person: Person) -> None:
    person.extra["LAUNCHER_CHECKPOINT_EVERY"] = "1s"
    person.writes("train.py", TRAINER)


def begins(person: Person, name: str) -> tuple[Path, Path]:
    """A run that writes its large files, and the file that lets it end."""
    prepares(person)
    go = person.root / f"go-{name}"
    done = person.own(sys.executable, "train.py", str(go), flags=("-d", "--name", name))
    assert done.code == 0, done.stderr
    return go, person.project / "models" / f".partial.{name}"


def arrives(partial: Path, name: str, size: int) -> Path:
    path = partial / name
    until(lambda: path.exists() and path.stat().st_size == size, f"{name} at home")
    return path


def test_large_files_are_at_home_before_the_end_and_in_their_last_form_after_it(person: Person) -> None:
    go, partial = begins(person, "early")
    early = arrives(partial, "early.bin", 50 * MB)
    for name, size in (("again.bin", 3 * MB), ("passing.bin", MB), ("model", MB)):
        arrives(partial, name, size)
    assert json.loads(person.types("status", "early", "--json").stdout)["state"] == "running"
    assert hashlib.sha256(early.read_bytes()).digest() == hashlib.sha256(BLOCK * 50).digest()
    assert not list(partial.glob("small-*")) and not (partial / "manifest.json").exists()
    assert person.types("models", "--json").json() == []

    told = person.types("pull", "early")
    assert told.code == 0 and "early.bin" in told.stdout and "4 files" in told.stdout

    before = early.stat()
    go.touch()
    assert person.types("watch", "early").code == 0
    (version,) = person.types("models", "--json").json()
    folder = person.project / "models" / version["version"]
    after = (folder / "early.bin").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)  # it came once
    assert (folder / "again.bin").read_bytes() == BLOCK * 2 + b"the last form"
    assert (folder / "model" / "weights").read_bytes() == BLOCK
    assert not (folder / "passing.bin").exists() and not partial.exists()
    assert len(list(folder.glob("small-*"))) == 2000
    assert person.types("models", "verify", version["version"]).code == 0


def test_an_engine_that_died_fetches_nothing_twice(person: Person) -> None:
    go, partial = begins(person, "killed")
    early = arrives(partial, "early.bin", 50 * MB)
    arrives(partial, "passing.bin", MB)
    before = early.stat()
    lock = json.loads((person.home / "runs" / "killed" / "lock").read_text())
    os.kill(lock["pid"], signal.SIGKILL)
    until(lambda: person.types("status", "killed", "--json").json()["state"] == "interrupted", "its death")
    assert person.types("status", "killed", "--json").json()["transfer"] is None
    go.touch()
    assert person.types("resume", "killed").code == 0
    (version,) = person.types("models", "--json").json()
    after = (person.project / "models" / version["version"] / "early.bin").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_what_came_early_goes_with_a_run_that_is_given_up(person: Person) -> None:
    _, partial = begins(person, "given-up")
    arrives(partial, "early.bin", 50 * MB)
    assert person.types("stop", "given-up", "--now").code == 0
    assert not partial.exists() and person.types("models", "--json").json() == []


def test_what_is_no_version_is_listed_with_the_line_that_takes_it_away(person: Person) -> None:
    for folder in (".rescued.slow.1", ".partial.another-home"):
        person.writes(f"models/{folder}/sub/half.txt", "half of it")
    assert "no versions in" in person.types("models").stdout
    _, partial = begins(person, "goes-on")
    arrives(partial, "early.bin", 50 * MB)
    told = person.types("models").stdout
    assert told.splitlines()[-1] == "  rm -r models/.rescued.slow.1    # 1 file, 10 bytes", told
    assert person.types("models", "--json").json() == [], "a list of versions"
    assert person.types("stop", "goes-on").code == 0
    partial.mkdir()
    (partial / "rest").write_text("of a machine that was lost")
    told = person.types("models").stdout
    lines = told.partition("to be rid of one:\n")[2].splitlines()
    assert [line.split()[2] for line in lines] == ["models/.partial.goes-on", "models/.rescued.slow.1"], told
    subprocess.run(["sh", "-ec", "\n".join(lines)], cwd=person.project, check=True)
    assert "rm -r" not in person.types("models").stdout and not partial.exists()


# --- in a container ----------------------------------------------------------------------------------


def in_container(person: DockerPerson, name: str) -> tuple[str, Path]:
    prepares(person)
    begun = person.docked("python3", "train.py", "/tmp/go", flags=("-d", "--name", name))
    assert begun.code == 0, begun.stderr
    (container,) = person.containers(name)
    return container, person.project / "models" / f".partial.{name}"


def becomes_a_version(person: Person, name: str, inode: int) -> None:
    """Of the very file that had come before the end, and the last form of the one that changed since."""
    ended = person.types("watch", name)
    assert ended.code == 0, ended.stdout + ended.stderr
    (version,) = person.types("models", "--json").json()
    folder = person.project / "models" / version["version"]
    assert (folder / "early.bin").stat().st_ino == inode
    assert (folder / "again.bin").read_bytes() == BLOCK * 2 + b"the last form"
    assert person.types("models", "verify", version["version"]).code == 0


@pytest.mark.need("docker")
def test_from_a_container_too(docker_person: DockerPerson) -> None:
    person = docker_person
    container, partial = in_container(person, "early-there")
    early = arrives(partial, "early.bin", 50 * MB)
    arrives(partial, "again.bin", 3 * MB)
    inode = early.stat().st_ino
    person.lets_go(container)
    becomes_a_version(person, "early-there", inode)


@pytest.mark.need("docker")
def test_from_an_own_host_over_ssh_too(holder: HostedPerson) -> None:
    person = holder
    prepares(person)
    with sshd_container("openssh") as box:
        person.knows("lab", box)
        flags = ("-d", "--name", "far")
        begun = person.hosted("ssh:lab", "python3", "train.py", "/tmp/go", flags=flags)
        assert begun.code == 0, begun.stderr
        partial = person.project / "models" / ".partial.far"
        inode = arrives(partial, "early.bin", 50 * MB).stat().st_ino
        arrives(partial, "again.bin", 3 * MB)
        lets_go(box)
        becomes_a_version(person, "far", inode)


@pytest.mark.need("docker")
def test_of_a_machine_that_is_lost_what_had_come_home_stays_and_is_no_version(
    docker_person: DockerPerson,
) -> None:
    from docker.errors import APIError

    person = docker_person
    _, partial = in_container(person, "lost")
    arrives(partial, "early.bin", 50 * MB)
    watching = person.begins("watch", "lost")

    def all_are_lost() -> bool:
        """With their disks. It is tried again on another machine, as often as the plan says."""
        for one in person.containers("lost"):
            with suppress(APIError):  # it is not quite there yet, or no more
                person.docker.kill(one)
        for disk in person.volumes("lost"):
            with suppress(APIError):  # something still holds it
                person.docker.remove_volume(disk)
        return watching.poll() is not None

    until(all_are_lost, "the end of the last attempt", 120)
    said, _ = watching.communicate()
    assert watching.returncode != 0
    assert "came home" in said and str(partial.relative_to(person.project)) in said
    assert (partial / "early.bin").stat().st_size == 50 * MB
    assert person.types("models", "--json").json() == []


@pytest.mark.need("docker")
def test_a_push_is_seen_by_who_watches(docker_person: DockerPerson) -> None:
    person = docker_person
    with person.writes("data.bin", "").open("r+b") as f:
        f.truncate(600 * MB)
    done = person.docked("true", flags=("--name", "pushes"))
    assert done.code == 0, done.stderr
    told = [json.loads(line) for line in done.stderr.splitlines() if line.startswith('{"event"')]
    pushed = [t for t in told if t["what"] == "push" and t["part"] == "project"]
    assert pushed and {t["total"] for t in pushed} <= {0, 600 * MB}
    assert [t["done"] for t in pushed] == sorted(t["done"] for t in pushed)
    assert done.json()["state"] == "done"
