"""Runs on a machine of one's own: the installed command, a real sshd, and nothing left there afterwards."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.containers import undisturbed
from tests.e2e.hosted import HostedPerson, left_in, lets_go, result
from tests.e2e.person import until
from tests.hosts.boxes import HOME, Box, Gpu, sshd_container

pytestmark = pytest.mark.need("docker")

SAYS = """
import os, pathlib, sys
out = pathlib.Path(os.environ["LAUNCHER_OUTPUT"])
(out / "said.txt").write_text(" ".join(sys.argv[1:]) + " " + os.environ.get("CUDA_VISIBLE_DEVICES", "none"))
print("it says", *sys.argv[1:], flush=True)
"""


@pytest.fixture(scope="module")
def shared() -> Iterator[Box]:
    with sshd_container("openssh", gpus=[Gpu()]) as box:
        yield box


@pytest.fixture
def person(holder: HostedPerson, box: Box) -> HostedPerson:
    holder.knows("box", box)
    return holder


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{pid}/environ").exists() or not _alive(pid), f"{pid} is still there")


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# --- runs -------------------------------------------------------------------------------------------


def test_a_project_runs_there_and_leaves_nothing(person: HostedPerson, box: Box) -> None:
    person.writes("says.py", SAYS)
    done = person.hosted("ssh:box", "python3", "says.py", "two words", "훈련")
    assert (done.code, done.json()["state"], done.json()["target"]) == (0, "done", "ssh:box"), done.stderr
    said = Path(done.json()["artifacts"], "said.txt").read_text()
    assert said == f"two words 훈련 {box.gpus[0].uuid}"
    person.leaves_nothing(box)


def test_a_trainer_runs_there_and_knows_its_arguments(person: HostedPerson, box: Box) -> None:
    person.trainer()
    done = person.types("run", "mini", "--on", "ssh:any", "--json", "--", "--epochs", "7")
    assert done.code == 0, done.stderr
    assert json.loads(Path(done.json()["artifacts"], "argv.json").read_text()) == ["--epochs", "7"]
    person.leaves_nothing(box)


@pytest.mark.need("network")
def test_an_environment_is_made_there_once_and_shared_by_runs(person: HostedPerson, box: Box) -> None:
    person.writes("requirements.txt", "iniconfig\n")
    person.writes("uses.py", "import iniconfig, sys\nprint('from', sys.prefix)\n")
    for _ in range(2):
        done = person.hosted("ssh:box", "python", "uses.py", flags=("--output", "out", "--setup", "true"))
        assert done.json()["exit_code"] == 0, done.stderr
    made = box.sh(f"ls {HOME}/.launcher/envs").split()
    assert len([name for name in made if not name.endswith(".lock")]) == 1
    person.leaves_nothing(box)


def test_a_host_that_makes_no_environments_says_how_to_mend_it(holder: HostedPerson) -> None:
    with sshd_container("openssh") as box:
        box.sh(
            "rm -rf /usr/lib/python3*/ensurepip /usr/lib/python3*/venv /usr/lib/python3/dist-packages/pip*"
        )
        added = holder.knows("bare", box)
        assert "install python3-venv, or uv" in added.stdout
        holder.writes("requirements.txt", "iniconfig\n")
        done = holder.hosted("ssh:bare", "python", "-c", "1")
        assert done.code != 0 and "python3-venv" in done.stderr and "uv" in done.stderr, done.stderr
        holder.leaves_nothing(box)


def test_a_newer_python_beside_an_old_one_is_used(holder: HostedPerson) -> None:
    with sshd_container("openssh") as box:
        box.ages_python((3, 7, 3))
        holder.knows("old", box)
        holder.writes("says.py", SAYS)
        done = holder.hosted("ssh:old", "python", "says.py", "by", "3.11")
        assert (done.code, done.json()["state"]) == (0, "done"), done.stderr
        holder.leaves_nothing(box)


# --- people and engines that go away ----------------------------------------------------------------


def test_ps_tells_where_it_runs_while_it_does_and_that_nothing_runs_after(
    person: HostedPerson, box: Box
) -> None:
    person.steps("seen", "ssh:box")
    during = person.types("ps")
    assert "1 running on ssh:box, nothing bills (asked ssh:box" in during.stdout, during.stdout
    assert "in use: ssh:box instance" in person.types("doctor").stdout
    lets_go(box)
    assert person.types("watch", "seen", "--json").json()["state"] == "done"
    assert "nothing runs, nothing bills" in person.types("ps").stdout
    person.leaves_nothing(box)


def test_a_run_outlives_its_engine_and_resume_finds_it(
    person: HostedPerson, box: Box, tmp_path: Path
) -> None:
    instance = person.steps("orphan", "ssh:box")
    kill(person.engine("orphan"))
    assert person.state("orphan") == "interrupted"
    lets_go(box)
    done = person.types("resume", "orphan", "--json")
    assert (done.code, done.json()["instance"]) == (0, instance), done.stderr
    assert result(done.json()["artifacts"]) == (undisturbed(tmp_path / "alone"), 0)
    person.leaves_nothing(box)


def test_results_wait_there_for_a_client_that_was_away(person: HostedPerson, box: Box) -> None:
    instance = person.steps("away", "ssh:box", flags=("--hold", "1s"))
    kill(person.engine("away"))
    lets_go(box)
    until(lambda: not person.processes(), "the agent held the output for a second")
    assert left_in(box) == [instance]
    assert not [one for one in person.types("doctor", "--json").json()["orphans"] if one["run"] == "away"]
    done = person.types("pull", "away", "--json")
    assert (done.code, done.json()["state"]) == (0, "done"), done.stderr
    person.leaves_nothing(box)


def test_a_shell_there_sees_the_gpus_of_its_run_and_no_others(person: HostedPerson, box: Box) -> None:
    person.steps("seer", "ssh:box")
    seen = person.types("ssh", "seer", "--", "sh", "-c", "echo $CUDA_VISIBLE_DEVICES")
    assert seen.stdout == f"{box.gpus[0].uuid}\n", seen.stderr
    assert person.types("stop", "seer", "--now").code == 0


def test_stop_now_leaves_nothing_there(person: HostedPerson, box: Box) -> None:
    person.steps("now", "ssh:box")
    done = person.types("stop", "now", "--now", "--json")
    assert (done.code, done.json()["state"], done.json()["version"]) == (0, "stopped", None), done.stderr
    person.leaves_nothing(box)


# --- hosts that will not do -------------------------------------------------------------------------


def test_a_busy_gpu_is_refused_by_name_and_any_takes_the_free_host(person: HostedPerson, box: Box) -> None:
    app = box.occupied(box.gpus[0], user="guest", used_mb=18432)
    try:
        refused = person.hosted("ssh:box", "true")
        assert refused.code == 4, refused.stderr
        assert "guest (process" in refused.stderr and "18.0 GiB" in refused.stderr
        assert "host check --all" in refused.stderr
        with sshd_container("openssh", gpus=[Gpu()]) as other, other.relay() as relay:
            person.knows("down", replace(other, route=other.through(relay)))
            relay.refuse()
            person.knows("other", other)
            person.writes("says.py", SAYS)
            done = person.hosted("ssh:any", "python3", "says.py")
            assert (done.code, done.json()["target"]) == (0, "ssh:other"), done.stderr
            for told in (f"guest (process {app.pid} with 18.0 GiB)", "ssh:down cannot be reached"):
                assert told in done.stderr, done.stderr
            person.leaves_nothing(other)
    finally:
        box.freed(app)
    person.leaves_nothing(box)


def test_two_runs_that_race_for_one_gpu(person: HostedPerson, box: Box) -> None:
    person.writes("says.py", SAYS.replace('print("it', 'import time; time.sleep(2); print("it'))
    line = ("run", "--project", ".", "--on", "ssh:box", "--json")
    both = [person.begins(*line, "--name", name, "--", "python3", "says.py") for name in ("one", "two")]
    codes = {}
    for name, process in zip(("one", "two"), both, strict=True):
        _, told = process.communicate(timeout=60)
        codes[name] = (process.returncode, told)
    assert sorted(code for code, _ in codes.values()) == [0, 4], codes
    (winner,) = [name for name, (code, _) in codes.items() if code == 0]
    (told,) = [told for code, told in codes.values() if code == 4]
    assert f"dev's run {winner}" in told
    person.leaves_nothing(box)


def test_a_host_that_is_down_is_named_and_ps_stays_quick(holder: HostedPerson) -> None:
    with sshd_container("openssh") as box:
        holder.knows("gone", box)
        holder.steps("left", "ssh:gone")
        kill(holder.engine("left"))
    began = time.monotonic()
    said = holder.types("ps")
    print(f"ps with a host that is down: {time.monotonic() - began:.2f} s")
    assert "could not ask ssh:gone what runs there" in said.stdout, said.stdout
    assert time.monotonic() - began < 6
    assert "ssh:gone could not be asked" in holder.types("doctor").stdout
    refused = holder.hosted("ssh:gone", "true")
    assert refused.code == 6 and "ssh:gone cannot be reached" in refused.stderr, refused.stderr
    with sshd_container("openssh") as other:
        holder.knows("other", other)
        holder.writes("says.py", SAYS)
        done = holder.hosted("ssh:any", "python3", "says.py")
        assert (done.code, done.json()["target"]) == (0, "ssh:other"), done.stderr


def test_another_key_than_before_is_a_hard_stop(holder: HostedPerson) -> None:
    with sshd_container("openssh") as box:
        holder.knows("box", box)
    with sshd_container("openssh") as impostor:
        record = holder.home / "hosts" / "box.json"
        held = json.loads(record.read_text())
        held["route"]["port"] = impostor.route.port
        record.write_text(json.dumps(held))
        refused = holder.hosted("ssh:box", "true")
        assert refused.code == 6 and "SHA256:" in refused.stderr, refused.stderr
        assert "host-key-changed" in refused.stderr
        assert left_in(impostor) == []


def test_a_clock_that_is_a_day_off_changes_nothing(holder: HostedPerson) -> None:
    with sshd_container("openssh", clock_s=24 * 3600) as box:
        assert "24h ahead of ours" in holder.knows("tomorrow", box).stdout
        holder.writes("says.py", SAYS)
        done = holder.hosted("ssh:tomorrow", "python3", "says.py", "in time")
        assert (done.code, done.json()["state"]) == (0, "done"), done.stderr
        assert 0 <= done.json()["seconds"] < 60
        holder.leaves_nothing(box)


def test_a_full_disk_there_is_said(holder: HostedPerson) -> None:
    with sshd_container("openssh", home_mb=2) as box:
        holder.knows("small", box)
        (holder.project / "large").write_bytes(os.urandom(4 << 20))
        done = holder.hosted("ssh:small", "true")
        assert done.code != 0 and "full" in done.stderr, done.stderr
        holder.leaves_nothing(box)
