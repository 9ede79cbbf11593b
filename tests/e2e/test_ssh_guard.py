"""The guard on a machine of one's own, with everything else dead: the client killed, the line cut, the agent
killed, and a trainer that wants to stay by every trick that needs no root."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from launcher.codec import parse_iso
from tests.e2e.hosted import RUNS, HostedPerson, left_in
from tests.e2e.person import until
from tests.hosts.boxes import Box, sshd_container

pytestmark = [pytest.mark.need("docker"), pytest.mark.slow]

OVERRUN_S = 15.0
AT_ONCE_S = 5.0
# Deaf to every polite word; one child left its session, one was let go of twice and forgot where it is from.
DEAF = """
import os, pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path(os.environ["LAUNCHER_OUTPUT"], "half.txt").write_text("half of it")
stay = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
subprocess.Popen([sys.executable, "-c", stay, "deaf-setsid"], start_new_session=True)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execve(sys.executable, [sys.executable, "-c", stay, "deaf-cleared"], {})
    os._exit(0)
os.wait()
print("deaf", flush=True)
os.execv(sys.executable, [sys.executable, "-c", stay, "deaf-trainer"])
"""
ALL = ("deaf-cleared", "deaf-setsid", "deaf-trainer")


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    with sshd_container("openssh") as box:
        yield box


@pytest.fixture
def person(holder: HostedPerson, box: Box) -> Iterator[HostedPerson]:
    holder.writes("deaf.py", DEAF)
    yield holder
    holder.cleans_up()
    box.sh("pkill -KILL -f '[d]eaf-'; true")


def staying(box: Box) -> list[str]:
    """Which of the trainer's processes live; in a container init may bury nobody."""
    alive = box.sh("ps -eo stat=,args= | grep -v '^Z'")
    return [name for name in ALL if f" {name}" in alive]


def begins(person: HostedPerson, box: Box, target: str, *flags: str) -> datetime:
    """A run of all three; until when its machine may live."""
    words = ("--name", "late", "-d", "--output", "out", *flags)
    begun = person.hosted(target, "python3", "deaf.py", flags=words)
    assert begun.code == 0, begun.stderr
    until(lambda: staying(box) == list(ALL), "all of them are there")
    return parse_iso(person.waits_for("late", "started")["deadline"])


def test_with_client_and_line_dead_all_of_it_goes_in_time_and_the_output_waits(
    person: HostedPerson, box: Box
) -> None:
    with box.relay() as relay:
        person.knows("far", replace(box, route=box.through(relay)))
        deadline = begins(person, box, "ssh:far", "--max-time", "1s", "--hold", "1s")
        os.kill(person.engine("late"), signal.SIGKILL)
        relay.refuse()
        relay.cut()
        patience_s = (deadline - datetime.now(UTC)).total_seconds() + OVERRUN_S
        until(lambda: not person.processes() and not staying(box), "all of it goes", patience_s + AT_ONCE_S)
        overrun_s = (datetime.now(UTC) - deadline).total_seconds()
        assert overrun_s <= OVERRUN_S, f"{overrun_s:.1f} s past its deadline"
        print(f"past D: {overrun_s:.1f} s")
        assert len(left_in(box)) == 1
        relay.refuse(False)
        pulled = person.types("pull", "late", "--json")
        assert pulled.json()["state"] == "limit", pulled.stderr
        assert Path(pulled.json()["artifacts"], "half.txt").read_text() == "half of it"
        person.leaves_nothing(box)


def test_an_agent_that_is_killed_takes_all_of_it_along(person: HostedPerson, box: Box) -> None:
    """No word from home is needed, and it does not wait for the deadline.."""
    person.knows("box", box)
    begins(person, box, "ssh:box")
    os.kill(person.engine("late"), signal.SIGKILL)
    killed = time.monotonic()
    hello = (person.run_folder("late") / "attempts" / "1" / "events.jsonl").read_bytes().split(b"\n")[0]
    box.sh(f"kill -KILL {json.loads(hello)['pid']}")
    until(lambda: not staying(box), "all of it goes", AT_ONCE_S)
    print(f"gone {time.monotonic() - killed:.1f} s after the agent")
    person.alone()
    assert person.types("stop", "late", "--now", "--json", timeout=60).code == 0
    person.leaves_nothing(box)


ONCE = """
import os, pathlib, sys, time
out = pathlib.Path(os.environ["LAUNCHER_OUTPUT"])
if pathlib.Path("/tmp/was-here").exists():
    sys.exit(3)
pathlib.Path("/tmp/was-here").touch()
(out / "sub").mkdir(parents=True)
(out / "sub" / "hours.txt").write_text("of work")
print("written", flush=True)
time.sleep(600)  # at its work: the test kills it
"""


@pytest.mark.parametrize("attended", [True, False], ids=["engine-lives", "engine-died"])
def test_what_a_killed_agent_never_sealed_comes_home_before_its_place_goes(
    person: HostedPerson, box: Box, attended: bool
) -> None:
    """And the run goes on: its second try, which leaves nothing, does not take that along."""
    box.sh("rm -f /tmp/was-here")
    person.knows("box", box)
    person.writes("once.py", ONCE)
    words = ("--name", "late", "-d", "--output", "out")
    begun = person.hosted("ssh:box", "python3", "once.py", flags=words)
    assert begun.code == 0, begun.stderr
    until(lambda: "written" in person.types("logs", "late").stdout, "it has written something")
    hello = (person.run_folder("late") / "attempts" / "1" / "events.jsonl").read_bytes().split(b"\n")[0]
    if not attended:
        os.kill(person.engine("late"), signal.SIGKILL)
    box.sh(f"kill -KILL {json.loads(hello)['pid']}")
    if not attended:
        until(lambda: person.state("late") == "interrupted", "its engine's end")
        person.types("resume", "late", timeout=90)
    fact = person.waits_for("late", "rescued")
    assert Path(fact["path"], "sub", "hours.txt").read_text() == "of work"
    assert fact["path"] in fact["message"]
    until(lambda: person.state("late") == "failed", "its end", 60)
    assert Path(fact["path"], "sub", "hours.txt").exists()
    told = person.types("watch", "late")
    assert Path(fact["path"]).name in told.stdout + told.stderr
    person.leaves_nothing(box)


def test_what_somebody_cleared_away_is_not_asked_for_for_ever(person: HostedPerson, box: Box) -> None:
    person.knows("box", box)
    begins(person, box, "ssh:box")
    os.kill(person.engine("late"), signal.SIGKILL)
    hello = (person.run_folder("late") / "attempts" / "1" / "events.jsonl").read_bytes().split(b"\n")[0]
    box.sh(f"kill -KILL {json.loads(hello)['pid']}")
    until(lambda: not staying(box), "all of it goes", AT_ONCE_S)
    box.sh(f"rm -rf {RUNS}/*")
    assert person.types("stop", "late", "--json", timeout=60).json()["state"] == "stopped"
    person.alone()
    box.sh(f"rm -rf {RUNS}/*")  # a command for its agent may have made the folder anew
