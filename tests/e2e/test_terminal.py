"""What a person sees and presses: a real terminal, pipes, and engines that die or stand still."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import run_command
from tests.e2e.person import COMMAND, WORKER, Person, until

PY = sys.executable
ESCAPE = "\x1b"

# One numbered line every few milliseconds until it is let go; some of them in pieces.
TALKER = """
import pathlib, sys, time
go, n = pathlib.Path(sys.argv[1]), 0
while not go.exists():
    sys.stdout.write(f"line {n}"); sys.stdout.flush()
    if n % 7 == 0: time.sleep(0.01)
    sys.stdout.write(" ends\\n"); sys.stdout.flush()
    n += 1
    time.sleep(0.004)
print("last of", n)
"""


def begin(person: Person, name: str) -> tuple[str, ...]:
    """The words of a run in the foreground that works until told otherwise."""
    person.writes("work.py", WORKER)
    go = str(person.root / f"go-{name}")
    return ("run", "--project", ".", "--on", "local", "--name", name, "--", PY, "work.py", go)


def talker(person: Person, name: str = "talk") -> Path:
    person.writes("talk.py", TALKER)
    go = person.root / f"go-{name}"
    words = ("--project", ".", "--on", "local", "--name", name, "-d", "--", PY, "talk.py", str(go))
    assert person.types("run", *words).code == 0
    return go


@pytest.fixture(scope="module")
def been(regular: Person) -> Person:
    """Two runs that are over, to be looked at: `mini`, and `long` with 50,000 lines."""
    regular.trainer()
    assert regular.types("run", "mini", "--on", "local").code == 0
    regular.own(PY, "-c", "for n in range(50000): print(n)", flags=("--name", "long"))
    return regular


# --- Ctrl-C ------------------------------------------------------------------------------------------


def test_ctrl_c_before_the_start_undoes_everything(person: Person) -> None:
    words = ("run", "--project", ".", "--on", "local", "--name", "undone", "--setup", "sleep 120")
    with person.terminal(*words, "--", "true") as screen:
        screen.sees("preparing")
        until(lambda: any("sleep 120" in argv for argv in person.processes().values()), "the set-up")
        screen.presses_ctrl_c()
        screen.sees("undoing")
        assert screen.ends() == 8
    assert person.state("undone") == "stopped"
    assert not (person.project / "models").exists()
    person.alone()


def test_ctrl_c_after_the_start_leaves_and_the_run_goes_on(person: Person) -> None:
    with person.terminal(*begin(person, "left")) as screen:
        screen.sees("working")
        screen.presses_ctrl_c()
        assert screen.ends() == 130
        for what in (
            "left the view; left goes on",
            r"\(\$0, ends by (\d\d-\d\d )?\d\d:\d\d",
            "launcher watch left",
        ):
            screen.sees(what)
        screen.sees("launcher stop left")
    assert person.state("left") == "running"
    (person.root / "go-left").write_text("")
    assert person.types("watch", "left", "--json").json()["state"] == "done"


def test_a_second_ctrl_c_within_two_seconds_stops_the_run(person: Person) -> None:
    with person.terminal(*begin(person, "halted")) as screen:
        screen.sees("working")
        screen.presses_ctrl_c()
        screen.sees("left the view")
        screen.presses_ctrl_c()
        assert screen.ends() == 8
        screen.sees("stopping the run")
        screen.sees("halted: stopped")
    assert person.state("halted") == "stopped"
    assert list((person.project / "models").glob("*/left"))  # asked politely, and fetched
    person.alone()


def test_a_terminal_that_closes_does_not_end_the_run(person: Person) -> None:
    with person.terminal(*begin(person, "closed")) as screen:
        screen.sees("working")
        os.killpg(screen.process.pid, signal.SIGHUP)
        until(lambda: screen.process.poll() is not None, "the view's end")
    assert person.state("closed") == "running"
    assert person.types("stop", "closed").code == 0
    person.alone()


def test_ctrl_c_leaves_watch_and_logs_alone(person: Person) -> None:
    go = talker(person)
    for words in (("watch", "talk"), ("logs", "-f", "talk")):
        with person.terminal(*words) as screen:
            screen.sees("line 1 ends")
            screen.presses_ctrl_c()
            assert screen.ends() == 130
    assert person.state("talk") == "running"
    go.write_text("")


# --- leaving and coming back -------------------------------------------------------------------------


def test_watch_goes_on_where_it_was_left_twenty_times(person: Person) -> None:
    """Nothing lost, nothing said twice, over all the views together."""
    go = talker(person)
    views: list[tuple[subprocess.Popen[str], str]] = []
    for _ in range(20):
        view = person.begins("watch", "talk")
        assert view.stdout is not None and view.stderr is not None
        views.append((view, view.stdout.readline()))
        view.send_signal(signal.SIGINT)
        while "left the view" not in view.stderr.readline():
            assert view.poll() is None
    go.write_text("")
    last = person.types("watch", "talk")
    seen = "".join(first + (view.stdout.read() if view.stdout else "") for view, first in views)
    assert [view.wait(20) for view, _ in views] == [130] * 20 and last.code == 0
    lines = [line for line in (seen + last.stdout).splitlines() if line.startswith(("line", "last"))]
    whole = person.types("logs", "talk").stdout.splitlines()
    assert lines == whole and whole[:-1] == [f"line {n} ends" for n in range(len(whole) - 1)]


def test_logs_are_whole_however_often_one_looks(person: Person) -> None:
    go = talker(person)
    views: list[list[str]] = []
    for _ in range(20):
        view = person.begins("logs", "-f", "talk")
        assert view.stdout is not None
        first = view.stdout.readline()
        view.send_signal(signal.SIGINT)
        views.append((first + view.stdout.read()).splitlines())
        assert view.wait(20) == 130
    go.write_text("")
    whole = person.types("logs", "-f", "talk").stdout.splitlines()
    assert all(view == whole[: len(view)] for view in views)
    assert whole[-1] == f"last of {len(whole) - 1}"


# --- pipes, colours ----------------------------------------------------------------------------------


def test_into_a_pipe_go_plain_lines(person: Person) -> None:
    person.trainer()
    done = person.types("run", "mini", "--on", "local", TERM="xterm-256color", FORCE_COLOR="1")
    assert (
        done.code == 0 and ESCAPE not in done.stdout + done.stderr and "\r" not in done.stdout + done.stderr
    )
    meters = [line for line in done.stderr.splitlines() if " · $0.00" in line]
    assert len(meters) == 1  # one a minute, and this took less


@pytest.mark.parametrize("words", [("ps",), ("models",), ("plan", "mini"), ("status",), ("doctor",)])
def test_tables_in_a_pipe_have_no_escape_codes(been: Person, words: tuple[str, ...]) -> None:
    done = been.types(*words, TERM="xterm-256color", FORCE_COLOR="1")
    assert done.code == 0 and ESCAPE not in done.stdout + done.stderr


def test_no_color_is_kept_to_on_a_terminal(person: Person) -> None:
    with person.terminal("status", "nobody", NO_COLOR="1") as plain:
        assert plain.ends() == 2
    with person.terminal("status", "nobody") as coloured:
        assert coloured.ends() == 2
    assert "\x1b[1" not in plain.text and "\x1b[1" in coloured.text
    assert "unknown-run" in plain.text


def test_a_dumb_terminal_gets_plain_lines(person: Person) -> None:
    person.trainer()
    with person.terminal("run", "mini", "--on", "local", TERM="dumb") as screen:
        assert screen.ends() == 0
    assert ESCAPE not in screen.text


def test_what_a_trainer_prints_cannot_move_the_cursor(person: Person) -> None:
    words = ("run", "--project", ".", "--on", "local", "--", "printf", "\\033]0;owned\\007\\033[2Jhello\\n")
    with person.terminal(*words) as screen:
        assert screen.ends() == 0
    assert "hello" in screen.text and "owned" not in screen.text and "\x1b[2J" not in screen.text


def test_whoever_reads_may_go_away(been: Person) -> None:
    line = f"{' '.join([*COMMAND, 'logs', 'long'])} | head -1"
    done = subprocess.run(
        ["sh", "-c", line], cwd=been.project, env=been.environ(), capture_output=True, timeout=30
    )
    assert done.stdout == b"0\n" and done.stderr == b""


@pytest.mark.parametrize(
    ("words", "where", "status"),
    [
        ("logs long", "| head -1", 130),
        ("run nosuch", "2>&1 | true", 2),
        ("run nosuch", "2>/dev/full", 2),
        ("run nosuch", "2>&-", 2),
        ("ps", ">/dev/full", 2),
    ],
)
def test_the_status_is_ours_whoever_reads(
    been: Person, tmp_path: Path, words: str, where: str, status: int
) -> None:
    line = f"{{ {' '.join(COMMAND)} {words}; echo $? >{tmp_path}/status; }} {where}"
    subprocess.run(["sh", "-c", line], cwd=been.project, env=been.environ(), timeout=30, capture_output=True)
    assert (tmp_path / "status").read_text() == f"{status}\n"


# --- engines that die or stand still -----------------------------------------------------------------


def orphaned(person: Person) -> Path:
    """A run whose engine was killed; its trainer works on until that file is made."""
    go, _ = person.worker("orphan")
    engine = person.engine("orphan")
    os.kill(engine, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{engine}").exists(), "the engine's death")
    return go


@pytest.fixture
def orphan(person: Person) -> tuple[Person, Path]:
    return person, orphaned(person)


@pytest.fixture(scope="module")
def looker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    """Who has such a run, and does nothing about it."""
    someone = Person(tmp_path_factory.mktemp("looker"))
    orphaned(someone)
    yield someone
    someone.cleans_up()


def test_ps_says_of_a_dead_engine_what_to_do(looker: Person) -> None:
    person = looker
    said = person.types("ps").stdout
    line = next(line for line in said.splitlines() if line.startswith("orphan: "))
    assert "$0" in line and "ends itself by" in line and "launcher resume orphan" in line
    assert person.state("orphan") == "interrupted"


@pytest.mark.parametrize("words", [("plan", "--project", ".", "--", "true"), ("models",), ("doctor",)])
def test_every_later_command_says_it_in_one_line(looker: Person, words: tuple[str, ...]) -> None:
    said = looker.types(*words)
    assert said.code == 0
    assert [line for line in said.stderr.splitlines() if "orphan" in line and "resume orphan" in line]


def test_resume_drives_it_to_its_end(orphan: tuple[Person, Path]) -> None:
    person, go = orphan
    go.write_text("")
    done = person.types("resume", "orphan", "--json")
    assert (done.code, done.json()["state"]) == (0, "done")
    assert len([f for f in person.facts("orphan") if f["kind"] == "create-asked"]) == 1
    person.alone()


def test_stop_works_without_an_engine(orphan: tuple[Person, Path]) -> None:
    person, _ = orphan
    done = person.types("stop", "orphan", "--json")
    assert (done.code, done.json()["state"]) == (0, "stopped")
    assert Path(done.json()["artifacts"], "left").exists()
    person.alone()


def test_pull_works_without_an_engine(orphan: tuple[Person, Path]) -> None:
    person, go = orphan
    go.write_text("")
    done = person.types("pull", "orphan", "--json")
    assert (done.code, done.json()["state"]) == (0, "done")
    assert Path(done.json()["artifacts"], "model.bin").exists()
    person.alone()


def test_a_view_says_when_the_engine_dies(person: Person) -> None:
    with person.terminal(*begin(person, "fatal")) as screen:
        screen.sees("working")
        os.kill(person.engine("fatal"), signal.SIGKILL)
        assert screen.ends() == 5
        screen.sees("engine-died")
        screen.sees("launcher resume fatal")
    assert person.types("stop", "fatal").code == 0


@pytest.mark.slow
def test_a_suspended_engine_is_named_within_15_seconds(person: Person) -> None:
    person.worker("frozen")
    engine = person.engine("frozen")
    os.kill(engine, signal.SIGSTOP)
    done = person.types("stop", "frozen")
    over = time.time()
    [asked] = (person.run_folder("frozen") / "requests").iterdir()
    assert over - asked.stat().st_mtime < 17
    assert done.code == 5 and "engine-silent" in done.stderr and f"process {engine}" in done.stderr
    os.kill(engine, signal.SIGCONT)
    until(lambda: person.state("frozen") == "stopped", "the request is taken up after all")
    person.alone()


def test_an_engine_that_is_asked_to_leave_by_ctrl_c_stays(person: Person) -> None:
    person.worker("steady")
    os.kill(person.engine("steady"), signal.SIGINT)
    assert person.types("status", "steady", "--json").json()["state"] == "running"
    assert person.types("stop", "steady").code == 0


def test_the_engine_leaves_with_its_run(person: Person) -> None:
    go, _ = person.worker("brief")
    engine = person.engine("brief")
    go.write_text("")
    until(lambda: not Path(f"/proc/{engine}").exists(), "the engine's end")
    person.alone()
    assert json.loads((person.project / "models" / "latest.json").read_text())["run"] == "brief"


# --- a shell that completes ----------------------------------------------------------------------------

SHELL = """
eval "$(_LAUNCHER_COMPLETE=bash_source ./launch)"
complete -p ./launch >/dev/null || exit 9
for line in "./launch st" "./launch status don" "./launch run --max-c"; do
  COMP_WORDS=($line) COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMPREPLY=()
  _launch_completion ./launch
  echo "${COMPREPLY[*]}"
done
"""


def test_a_shell_completes_commands_runs_and_options_by_whatever_name_it_was_called(person: Person) -> None:
    person.own("true", flags=("--name", "done-one"))
    launch = person.writes("launch", f'#!/bin/sh\nLAUNCHER_PROG=$0 exec {PY} -I -m launcher "$@"\n')
    launch.chmod(0o755)
    done = run_command(["bash", "-c", SHELL], person.project, person.environ(), "", 60)
    assert (done.code, done.stdout.splitlines()) == (0, ["status stop", "done-one", "--max-cost"]), (
        done.stderr
    )
