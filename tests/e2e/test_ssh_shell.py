"""`ssh RUN` where there is no SSH: a shell in the run's folder, here and in a container."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.conftest import run_command
from tests.e2e.containers import DockerPerson
from tests.e2e.person import COMMAND, Person
from tests.e2e.sidework import Serving, serving

ODD = ("two words", "'quotes\"", "new\nline", "$HOME", "결과", "-x", "")


@pytest.fixture(scope="module", params=["local", pytest.param("docker", marks=pytest.mark.need("docker"))])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> object:
    """One run for all of these: they look, and change nothing."""
    folder = tmp_path_factory.mktemp(f"ssh-{request.param}")
    if request.param == "local":
        person = Person(folder)
    else:
        from tests.e2e.containers import client

        person = DockerPerson(folder, client())
    yield serving(person, "fox")
    person.cleans_up()


def folder(run: Serving) -> str:
    (pushed,) = (f["digest"] for f in run.person.facts("fox") if f["kind"] == "pushed")
    spool = "/launcher" if run.container else str(run.person.run_folder("fox") / "attempts" / "1" / "spool")
    return f"{spool}/project/{pushed}"


def test_a_command_runs_in_the_projects_folder_and_knows_its_run(run: Serving) -> None:
    done = run.person.types(
        "ssh", "fox", "--", "sh", "-c", "pwd; echo $LAUNCHER_RUN; ls; echo no >&2; exit 3"
    )
    assert done.code == 3
    assert done.stdout.split() == [folder(run), "fox", "serves.py"]
    assert done.stderr == "no\n"


def test_words_arrive_as_they_were_typed(run: Serving) -> None:
    done = run.person.types("ssh", "--", "printf", "<%s>", *ODD)
    assert done.stdout == "".join(f"<{word}>" for word in ODD)


def test_what_comes_in_goes_through_whole(run: Serving) -> None:
    data = "".join(f"{n}\n" for n in range(200_000))
    done = run.person.types("ssh", "fox", "--", "cat", stdin=data)
    assert hashlib.sha256(done.stdout.encode()).digest() == hashlib.sha256(data.encode()).digest()


def test_a_command_that_does_not_read_is_not_waited_for(run: Serving) -> None:
    done = run.person.types("ssh", "fox", "--", "sh", "-c", "exit 5", stdin="x" * 4_000_000)
    assert done.code == 5


def test_a_shell_reads_its_lines_from_a_pipe(run: Serving) -> None:
    done = run.person.types("ssh", "fox", stdin="pwd\nexit 4\n", SHELL="/bin/sh")
    assert (done.code, done.stdout.strip()) == (4, folder(run))


def test_on_a_terminal_it_is_one(run: Serving) -> None:
    with run.person.terminal("ssh", "fox", SHELL="/bin/sh") as screen:
        screen.types("test -t 0 && stty size && echo TTY-$LAUNCHER_RUN\r")
        screen.sees("TTY-fox")
        screen.types("exit 7\r")
        assert screen.ends() == 7


def test_a_command_that_is_not_there_has_a_shells_status(run: Serving) -> None:
    assert run.person.types("ssh", "fox", "--", "no-such-command").code == 127


def test_other_programs_are_told_what_to_use_instead_of_ssh(run: Serving) -> None:
    done = run.person.types("ssh-config", "fox")
    assert done.code == 2
    assert "error: no-ssh-there\n" in done.stderr and folder(run) in done.stderr
    assert not (run.person.home / "ssh").exists()


def test_a_run_without_a_machine_says_what_is_left_of_it(person: Person) -> None:
    run = serving(person, "fox")
    run.is_let_go()
    run.has_ended()
    for command in ("ssh", "ssh-config"):
        done = run_command([*COMMAND, command, "fox"], Path(person.project), person.environ(), "", 30)
        assert done.code == 2
        assert "error: machine-gone\n" in done.stderr and "logs fox" in done.stderr
