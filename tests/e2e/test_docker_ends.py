"""Engines, containers and people that go away in the middle of a run: nothing is lost, nothing is left."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.e2e.containers import DockerPerson, manifest, undisturbed
from tests.e2e.person import until

pytestmark = pytest.mark.need("docker")

SIZE = 40_000_000  # enough to be seen while it is being fetched
LARGE = f"""
import os, pathlib, time
with open(pathlib.Path(os.environ["LAUNCHER_OUTPUT"], "large"), "wb") as out:
    out.truncate({SIZE})
while not os.path.exists("/tmp/go"):
    time.sleep(0.02)
"""


def result(version: str) -> tuple[str, int]:
    """What the steps came to, and how many were done before the trainer that finished them began."""
    folder = Path(version)
    return (folder / "model.txt").read_text(), int((folder / "resumed").read_text())


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{pid}").exists() or _is_zombie(pid), f"{pid} is still there")


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def detached(person: DockerPerson, name: str, program: str, *flags: str) -> str:
    """The container of a run of `program` that goes on by itself."""
    person.writes("work.py", program)
    said = person.docked("python3", "work.py", flags=("--name", name, "-d", *flags))
    assert said.code == 0, said.stderr
    (container,) = person.containers(name)
    return container


# --- lost engines and containers -----------------------------------------------------------------


def test_after_a_dead_engine_and_a_dead_container_resume_goes_on_from_the_checkpoint(
    docker_person: DockerPerson, tmp_path: Path
) -> None:
    person = docker_person
    first = person.steps("lost", LAUNCHER_CHECKPOINT_EVERY="1s")
    person.waits_for("lost", "checkpoint")
    kill(person.engine("lost"))
    person.docker.kill(first)
    person.has_gone(first)
    assert person.state("lost") == "interrupted"
    assert "its engine died" in person.types("ps").stdout
    done = person.types("resume", "lost", "--json")
    assert done.code == 0, done.stderr
    assert result(done.json()["artifacts"]) == (undisturbed(tmp_path / "alone"), 3)
    assert done.json()["instance"] != first
    person.leaves_nothing("lost")


def test_a_container_that_dies_under_a_living_engine_is_replaced(
    docker_person: DockerPerson, tmp_path: Path
) -> None:
    person = docker_person
    first = person.steps("dies", LAUNCHER_CHECKPOINT_EVERY="1s")
    person.waits_for("dies", "checkpoint")
    person.docker.kill(first)
    done = person.types("watch", "dies", "--json")
    assert done.code == 0, done.stderr
    assert result(done.json()["artifacts"]) == (undisturbed(tmp_path / "alone"), 3)
    person.leaves_nothing("dies")


def test_docker_stop_is_a_preemption_and_the_run_goes_on_elsewhere(
    docker_person: DockerPerson, tmp_path: Path
) -> None:
    """No checkpoint was fetched before: the one it wrote when it was asked to leave is what counts."""
    person = docker_person
    first = person.steps("taken", pause=5)
    person.docker.stop(first, timeout=20)
    done = person.types("watch", "taken", "--json")
    assert done.code == 0, done.stderr
    assert result(done.json()["artifacts"]) == (undisturbed(tmp_path / "alone"), 5)
    assert person.waits_for("taken", "sealed")["why"] == "preempted"
    assert done.json()["instance"] != first
    person.leaves_nothing("taken")


def test_an_engine_that_died_is_no_reason_to_begin_anew(docker_person: DockerPerson, tmp_path: Path) -> None:
    """The container goes on by itself; resume finds it."""
    person = docker_person
    container = person.steps("orphan")
    kill(person.engine("orphan"))
    assert person.containers("orphan") == [container]
    person.lets_go(container)
    done = person.types("resume", "orphan", "--json")
    assert (done.code, done.json()["instance"]) == (0, container), done.stderr
    assert result(done.json()["artifacts"]) == (undisturbed(tmp_path / "alone"), 0)
    person.leaves_nothing("orphan")


def test_a_dead_engine_s_run_says_that_results_wait_once_its_container_has_sealed_them(
    docker_person: DockerPerson,
) -> None:
    """Nobody was there to see the end: only the volume knows, and a volume without results says nothing."""
    person = docker_person
    container = person.steps("unseen", flags=("--hold", "1s"))
    kill(person.engine("unseen"))
    assert person.state("unseen") == "interrupted"
    person.lets_go(container)
    person.has_gone(container)
    away = person.types("ps", DOCKER_HOST=f"unix://{person.root}/no.sock")
    assert "docker could not be asked whether its results wait" in away.stderr
    assert "interrupted" in away.stdout
    said = person.types("ps")
    assert "unseen: results wait; fetch: " in said.stdout, said.stdout + said.stderr
    assert (person.containers("unseen"), person.volumes("unseen")) == ([], [f"{container}-files"])
    seen = person.types("status", "unseen", "--json", DOCKER_HOST=f"unix://{person.root}/no.sock")
    assert seen.json()["state"] == "waiting" and "could not be asked" not in seen.stderr, seen.stderr
    done = person.types("pull", "unseen", "--json")
    assert (done.code, done.json()["state"], done.json()["instance"]) == (0, "done", container), done.stderr
    person.leaves_nothing("unseen")


def test_a_container_that_was_killed_with_its_engine_left_no_results(docker_person: DockerPerson) -> None:
    person = docker_person
    container = person.steps("lost")
    kill(person.engine("lost"))
    person.docker.kill(container)
    person.has_gone(container)
    assert person.volumes("lost") == [f"{container}-files"]
    assert person.state("lost") == "interrupted"
    assert person.types("stop", "lost", "--now").code == 0
    person.leaves_nothing("lost")


ONCE = """
import os, pathlib, sys, time
out, marks = (pathlib.Path(os.environ[f"LAUNCHER_{name}"]) for name in ("OUTPUT", "CHECKPOINT"))
if list(marks.glob("first/complete")):
    sys.exit(3)
(out / "sub").mkdir()
(out / "sub" / "hours.txt").write_text("of work")
(out / os.fsdecode(b"caf\\xe9")).write_text("odd")
(out / "link").symlink_to("/etc/hostname")
with open(out / "large", "wb") as large:
    large.truncate(LARGE)
(marks / "first").mkdir()
(marks / "first" / "complete").touch()
print("written", flush=True)
time.sleep(600)  # at its work: the test kills it
""".replace("LARGE", str(3 * SIZE))


def at_its_work(person: DockerPerson, name: str) -> str:
    """A run with output that nobody sealed, whose checkpoint has come home; the container to be killed."""
    person.extra["LAUNCHER_CHECKPOINT_EVERY"] = "1s"
    container = detached(person, name, ONCE)
    until(lambda: "written" in person.types("logs", name).stdout, "it has written something")
    person.waits_for(name, "checkpoint")
    return container


def came_home(person: DockerPerson, name: str) -> None:
    """All of it, before its place went; then the run went on from its checkpoint."""
    fact = person.waits_for(name, "rescued")
    home = Path(fact["path"])
    assert home.parent == person.project / "models" and home.name.startswith(f".rescued.{name}.1.")
    assert str(home) in fact["message"]
    assert {path.name for path in home.rglob("*")} == {"sub", "hours.txt", "caf%E9", "large"}
    assert (home / "sub" / "hours.txt").read_text() == "of work" and (home / "caf%E9").read_text() == "odd"
    assert (home / "large").read_bytes() == bytes(3 * SIZE) and "'link'" in fact["message"]
    until(lambda: person.state(name) == "failed", "its end", 60)
    kinds = [fact["kind"] for fact in person.facts(name)]
    assert kinds.index("rescued") < kinds.index("gone")
    assert (home / "sub" / "hours.txt").exists(), "its second try, which left nothing, took it along"
    assert home.name in person.types("watch", name).stdout
    person.leaves_nothing(name)


@pytest.mark.parametrize("attended", [True, False], ids=["engine-lives", "engine-died"])
def test_what_a_killed_container_never_sealed_comes_home_before_its_volume_goes(
    docker_person: DockerPerson, attended: bool
) -> None:
    person = docker_person
    container = at_its_work(person, "killed")
    if not attended:
        kill(person.engine("killed"))
    person.docker.kill(container)
    if not attended:
        person.has_gone(container)
        doctor = person.types("doctor", "--json").json()
        assert not [one for one in doctor["orphans"] if one["run"] == "killed"]
        assert person.volumes("killed") == [f"{container}-files"]
        person.types("resume", "killed")
    came_home(person, "killed")


def test_an_engine_that_is_killed_while_it_fetches_what_was_never_sealed_is_resumed(
    docker_person: DockerPerson,
) -> None:
    person = docker_person
    container = at_its_work(person, "killed")
    partial = person.project / "models" / ".partial.killed"
    person.docker.kill(container)
    until((partial / "large").exists, "it is being fetched")
    kill(person.engine("killed"))
    assert not [fact for fact in person.facts("killed") if fact["kind"] == "rescued"], "too late to kill it"
    assert person.volumes("killed") == [f"{container}-files"] and person.state("killed") == "interrupted"
    person.types("resume", "killed")
    came_home(person, "killed")


def test_where_home_has_no_room_for_it_the_volume_stays_and_how_to_mend_that_is_told(
    docker_person: DockerPerson,
) -> None:
    person = docker_person
    models = person.project / "models"
    models.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(models)], check=True)
    try:
        container = at_its_work(person, "killed")
        person.docker.kill(container)
        shown = person.types("watch", "killed")
        assert shown.code == 5 and "output-stays" in shown.stderr and "No space left" in shown.stderr, (
            shown.stderr
        )
        for command in ("ps", "doctor"):
            typed = person.types(command)
            said = typed.stdout + typed.stderr
            assert (
                "killed: what the trainer had written stays" in said and "launcher resume killed" in said
            ), said
        assert person.types("ps").stdout.splitlines()[-1].startswith("nothing runs, nothing bills")
        status = person.types("status", "killed").stdout
        assert "why       what the trainer had written stays" in status and "ends by" not in status, status
        assert person.volumes("killed") == [f"{container}-files"]
        again = person.types("resume", "killed")
        assert again.code == 5 and person.volumes("killed") == [f"{container}-files"]
    finally:
        subprocess.run(["umount", "-l", str(models)], check=True)
    person.types("resume", "killed")
    came_home(person, "killed")


def test_a_volume_that_somebody_removed_is_not_waited_for(docker_person: DockerPerson) -> None:
    person = docker_person
    container = at_its_work(person, "killed")
    kill(person.engine("killed"))
    person.docker.kill(container)
    person.has_gone(container)
    person.docker.remove_volume(f"{container}-files")
    done = person.types("resume", "killed", "--json")
    assert (done.code, done.json()["state"]) == (7, "failed"), done.stderr
    assert "volume are gone" in person.waits_for("killed", "rescued")["message"]
    person.leaves_nothing("killed")


def test_results_wait_in_the_volume_of_a_dead_engine_s_run_until_they_are_verified_here(
    docker_person: DockerPerson,
) -> None:
    person = docker_person
    container = detached(person, "waits", LARGE, "--hold", "2s")
    engine = person.engine("waits")
    person.lets_go(container)
    person.waits_for("waits", "sealed")
    kill(engine)
    assert not [fact for fact in person.facts("waits") if fact["kind"] == "versioned"], "too late to kill it"
    person.has_gone(container)  # its hold is over
    assert (person.containers("waits"), person.volumes("waits")) == ([], [f"{container}-files"])
    assert person.state("waits") == "waiting"
    assert "launcher pull waits" in person.types("ps").stdout
    doctor = person.types("doctor", "--json").json()
    assert not [one for one in doctor["orphans"] if one["run"] == "waits"]  # awaited, so no stray

    volume = f"{container}-files"
    change = "f = open('/v/output/large', 'r+b'); f.seek(39_000_000); f.write({!r})"
    person.on_volume(volume, change.format(b"\1"))
    refused = person.types("pull", "waits", "--json")
    assert (refused.code, refused.json()["state"]) == (5, "waiting") and "sha256" in refused.stderr
    assert not list(person.project.glob("models/[!.]*")) and person.volumes("waits") == [volume]

    person.on_volume(volume, change.format(b"\0"))
    done = person.types("pull", "waits", "--json")
    assert (done.code, done.json()["state"]) == (0, "done"), done.stderr
    (listed,) = [f for f in manifest(done)["files"] if f["path"] == "large"]
    assert (listed["size"], listed["sha256"]) == (SIZE, hashlib.sha256(bytes(SIZE)).hexdigest())
    kinds = [fact["kind"] for fact in person.facts("waits")]
    assert kinds.index("versioned") < len(kinds) - 1 - kinds[::-1].index("gone")
    person.leaves_nothing("waits")


# --- people who go away --------------------------------------------------------------------------


def test_stop_checkpoints_fetches_and_leaves_nothing_and_resume_goes_on_there(
    docker_person: DockerPerson, tmp_path: Path
) -> None:
    person = docker_person
    person.steps("halt", pause=4)
    done = person.types("stop", "halt", "--json")
    assert (done.code, done.json()["state"]) == (0, "stopped"), done.stderr
    marks = person.run_folder("halt") / "checkpoints"
    assert json.loads((marks / "step-04" / "state.json").read_text())[0] == 4
    person.leaves_nothing("halt")
    done = person.types("resume", "halt", "--json")
    assert (done.code, done.json()["state"]) == (0, "done"), done.stderr
    assert result(done.json()["artifacts"]) == (undisturbed(tmp_path / "alone"), 4)
    person.leaves_nothing("halt")


def test_stop_now_leaves_nothing_at_once(docker_person: DockerPerson) -> None:
    person = docker_person
    person.steps("now")
    begun = time.monotonic()
    done = person.types("stop", "now", "--now", "--json")
    assert (done.code, done.json()["state"], done.json()["version"]) == (0, "stopped", None), done.stderr
    assert time.monotonic() - begun < 10  # a checkpoint would be asked for, and waited for, otherwise
    person.leaves_nothing("now")


def test_ctrl_c_before_the_start_undoes_everything(docker_person: DockerPerson) -> None:
    person = docker_person
    line = ("run", "--project", ".", "--on", "docker", "--image", person.image, "--name", "early")
    typed = person.begins(*line, "--setup", "sleep 60", "--", "true")
    person.waits_for("early", "pushed")
    assert person.containers("early") and person.volumes("early")
    typed.send_signal(signal.SIGINT)
    _, said = typed.communicate(timeout=30)
    assert typed.returncode == 8 and "undoing" in said, said
    assert person.state("early") == "stopped"
    person.leaves_nothing("early")
