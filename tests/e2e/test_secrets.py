"""Canaries in the caller's environment, in secrets and in keys: they reach the trainer, or nobody, and are
found in no argument list, file of ours, label, image or message.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Outcome
from tests.e2e.canaries import FROM_ENV, FROM_FILE, Canaries, files_with, read, sha256, watched
from tests.e2e.containers import DockerPerson, client
from tests.e2e.person import Person, until

PROVIDER_KEYS = ("RUNPOD_API_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN")

# Writes down what it was given as hashes, waits for a file, and ends as it is told.
TRAINER = """
import hashlib, json, os, pathlib, sys, time
told = {name: hashlib.sha256(value.encode()).hexdigest() for name, value in os.environ.items()}
pathlib.Path(os.environ["LAUNCHER_OUTPUT"], "told.json").write_text(json.dumps(told))
print("working", flush=True)
while not os.path.exists(sys.argv[1]):
    time.sleep(0.02)
if sys.argv[2] == "fails":
    raise ValueError("the table has no rows")
"""


@pytest.fixture
def canaries(tmp_path: Path) -> Canaries:
    names = (*PROVIDER_KEYS, "HF_TOKEN", "MY_TOKEN")
    environ = {name: f"canary-{secrets.token_hex(18)}" for name in names}
    file = tmp_path / "kept" / "password"
    file.parent.mkdir()
    in_file = f"canary-{secrets.token_hex(18)} 한글\n-----second line-----"
    file.write_text(in_file + "\n")
    return Canaries(environ, file, in_file)


def environ_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


def ours(person: Person) -> dict[int, bytes]:
    """What was made for a run: boot guard, agent, trainer, each with its environment."""
    found: dict[int, bytes] = {}
    for pid in person.processes():
        with suppress(OSError):
            if b"LAUNCHER_INSTANCE=" in (environ := environ_of(pid)):
                found[pid] = environ
    return found


# --- where it runs ---------------------------------------------------------------------------------


class Here:
    """A run as a process of this machine."""

    flags: tuple[str, ...] = ("--on", "local")

    def __init__(self, root: Path) -> None:
        self.person = Person(root)
        self.python = sys.executable
        self.go = str(root / "go")

    def lets_go(self, run: str) -> None:
        Path(self.go).touch()

    def evidence(self, run: str) -> Iterator[tuple[str, bytes]]:
        """What others could read of a live run, besides files and processes of this machine."""
        yield from ()

    def names_in_the_spool(self, run: str) -> list[str]:
        return os.listdir(self.person.run_folder(run) / "attempts" / "1" / "spool")

    def leaves_nothing(self, run: str) -> None:
        self.person.alone()


class InContainer:
    def __init__(self, root: Path) -> None:
        self.person = self.docked = DockerPerson(root, client())
        self.flags = ("--on", "docker", "--image", self.docked.image)
        self.python = "python3"
        self.go = "/tmp/go"

    def lets_go(self, run: str) -> None:
        (container,) = self.docked.containers(run)
        self.docked.lets_go(container)

    def evidence(self, run: str) -> Iterator[tuple[str, bytes]]:
        docker = self.docked.docker
        (container,), (volume,) = self.docked.containers(run), self.docked.volumes(run)
        shown = self.docked.inspected(container)
        yield "container inspect", json.dumps(shown, ensure_ascii=False).encode()
        for exec_id in shown["ExecIDs"] or []:
            yield "exec inspect", json.dumps(docker.exec_inspect(exec_id), ensure_ascii=False).encode()
        yield "volume inspect", json.dumps(docker.inspect_volume(volume), ensure_ascii=False).encode()
        image: Any = docker  # untyped in the stubs
        yield "image history", json.dumps(image.history(self.docked.image)).encode()
        yield "image inspect", json.dumps(image.inspect_image(self.docked.image)).encode()
        yield "console", docker.logs(container)
        yield "volume", b"".join(docker.get_archive(container, "/launcher")[0])

    def names_in_the_spool(self, run: str) -> list[str]:
        (container,) = self.docked.containers(run)
        return self.docked.inside(container, "ls", "-A", "/launcher").split()

    def leaves_nothing(self, run: str) -> None:
        self.docked.leaves_nothing(run)


Where = Here | InContainer
BOTH = [
    pytest.param(Here, id="local"),
    pytest.param(InContainer, id="docker", marks=pytest.mark.need("docker")),
]


@pytest.fixture
def here(tmp_path: Path, canaries: Canaries) -> Iterator[Here]:
    place = Here(tmp_path / "whole")
    place.person.extra |= canaries.environ
    yield place
    place.person.cleans_up()


@pytest.fixture(params=BOTH)
def where(request: pytest.FixtureRequest, tmp_path: Path, canaries: Canaries) -> Iterator[Where]:
    """Somebody who has all of the keys and tokens in the shell."""
    make: Callable[[Path], Where] = request.param
    place = make(tmp_path / "whole")
    place.person.extra |= canaries.environ
    yield place
    place.person.cleans_up()


def begun(where: Where, canaries: Canaries, name: str, *more: str, ends: str = "well") -> Outcome:
    where.person.writes("train.py", TRAINER)
    line = ("run", "--project", ".", *where.flags, "--name", name, "-d", "--json", *canaries.flags, *more)
    said = where.person.types(*line, "--", where.python, "train.py", where.go, ends)
    log = where.person.run_folder(name) / "attempts" / "1" / "log"
    until(lambda: b"working" in read(log), f"{name} works; it said {said.stderr}")
    return said


def messages(person: Person, run: str) -> list[Outcome]:
    """Whatever there is to ask about a run, with the keys still in the environment."""
    asked = [
        ("watch", run),
        ("status", run),
        ("status", run, "--json"),
        ("ps",),
        ("ps", "--json"),
        ("logs", run),
    ]
    asked += [
        ("models", "list", "--json"),
        ("models", "show", "--json"),
        ("doctor", "--json"),
        ("config", "show"),
    ]
    return [person.types(*words) for words in asked]


# --- tests -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", ["well", "fails"])
def test_no_trace_of_a_secret_or_a_key_is_left_anywhere(where: Where, canaries: Canaries, ends: str) -> None:
    person = where.person
    with watched(canaries, person.run_folder("quiet")):
        said = [begun(where, canaries, "quiet", ends=ends)]
        assert said[0].code == 0, said[0].stderr
        assert files_with(canaries, person.root) == {}  # spool, journal, plan: while it runs
        assert "secret.json" not in where.names_in_the_spool("quiet")
        for what, data in where.evidence("quiet"):
            assert (what, canaries.found_in(data)) == (what, set())
        where.lets_go("quiet")
        said += messages(person, "quiet")
    assert said[1].code == (0 if ends == "well" else 7)
    for outcome in said:
        assert canaries.found_in((outcome.stdout + outcome.stderr).encode()) == set()
    if ends == "fails":
        assert "the table has no rows" in said[1].stderr
    assert files_with(canaries, person.root) == {}
    (manifest,) = person.project.glob("models/*/manifest.json")
    assert json.loads(manifest.read_text())["secrets"] == [FROM_ENV, FROM_FILE]
    where.leaves_nothing("quiet")


def test_the_trainer_alone_gets_the_secrets_and_nobody_a_provider_s_key(
    where: Where, canaries: Canaries
) -> None:
    assert begun(where, canaries, "heard").code == 0
    told_of = {pid: canaries.found_in(environ) for pid, environ in ours(where.person).items()}
    own = (
        {"HF_TOKEN", "MY_TOKEN"} if isinstance(where, Here) else set()
    )  # here the caller's are the trainer's
    assert len(told_of) >= 2  # agent and trainer
    assert sorted(map(len, told_of.values()))[-1] == len({"MY_TOKEN", FROM_FILE} | own)
    assert [names for names in told_of.values() if FROM_FILE in names] == [{"MY_TOKEN", FROM_FILE} | own]
    assert all(names <= own for names in told_of.values() if FROM_FILE not in names)
    where.lets_go("heard")
    done = where.person.types("watch", "heard", "--json")
    told: dict[str, str] = json.loads(Path(done.json()["artifacts"], "told.json").read_text())
    assert {name: told[name] for name in (FROM_ENV, FROM_FILE)} == {
        name: sha256(value) for name, value in canaries.secret.items()
    }
    assert not set(told) & set(PROVIDER_KEYS)
    assert ("HF_TOKEN" in told) is isinstance(where, Here)
    where.leaves_nothing("heard")


def test_what_sets_up_an_environment_gets_neither(here: Here, canaries: Canaries) -> None:
    names = "python3 -c 'import os; print(sorted(os.environ))'"
    assert begun(here, canaries, "setup", "--setup", names).code == 0
    log = here.person.run_folder("setup") / "attempts" / "1" / "setup.log"
    line = next(line for line in log.read_text().splitlines() if line.startswith("['"))
    assert "LAUNCHER_RUN" in line
    assert not [name for name in (*PROVIDER_KEYS, FROM_ENV, FROM_FILE) if f"'{name}'" in line]
    here.lets_go("setup")
    assert here.person.types("watch", "setup").code == 0


SLOW_SMI = """#!/bin/sh
# A GPU's tool that is found, and says that there is one only when it may.
case "$*" in
    -L) touch "$0.asked"; while [ ! -e "$0.go" ]; do sleep 0.02; done; echo "GPU 0: Slow (UUID: GPU-1)" ;;
    *name*) echo Slow ;;
esac
"""


def test_on_the_host_the_secrets_are_the_owner_s_alone_and_gone_once_the_trainer_runs(
    here: Here, tmp_path: Path, canaries: Canaries
) -> None:
    """Between arriving and being handed over they are held still, by a GPU that takes its time."""
    tools = tmp_path / "tools"
    tools.mkdir()
    smi = tools / "nvidia-smi"
    smi.write_text(SLOW_SMI)
    smi.chmod(0o755)
    (tools / "libnvidia-ml.so.1").write_text("no library: the slow tool is asked on every machine")
    here.person.extra |= {"PATH": f"{tools}:{os.environ['PATH']}", "LD_LIBRARY_PATH": str(tools)}
    here.person.writes("train.py", TRAINER)
    line = ("run", "--project", ".", *here.flags, "--name", "held", "--json", "--require-gpu")
    words = ("--", here.python, "train.py", here.go, "well")
    try:
        typed = here.person.begins(*line, *canaries.flags, *words)
        until((tools / "nvidia-smi.asked").exists, "the GPU is asked for")
        spool = here.person.run_folder("held") / "attempts" / "1" / "spool"
        file = spool / "secret.json"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600 and file.stat().st_uid == os.geteuid()
        assert stat.S_IMODE(spool.stat().st_mode) == 0o700
        assert json.loads(file.read_text()) == canaries.secret
        holding = files_with(canaries, here.person.root)
        assert {Path(name).name for name in holding} == {"secret.json"}
        (tools / "nvidia-smi.go").touch()
        until(lambda: b"working" in read(spool / "log"), "the trainer runs")
        assert not file.exists()
        here.lets_go("held")
        out, said = typed.communicate(timeout=40)
        assert typed.returncode == 0, said
        assert files_with(canaries, here.person.root) == {} and not canaries.found_in((out + said).encode())
    finally:
        (tools / "nvidia-smi.go").touch()


@pytest.mark.parametrize("place", ["env:NOT_SET_ANYWHERE", "file:not/there"])
def test_a_missing_secret_is_told_before_anything_runs(where: Where, canaries: Canaries, place: str) -> None:
    line = ("run", "--project", ".", *where.flags, *canaries.flags, "--secret", f"OTHER={place}")
    done = where.person.types(*line, "--", "true")
    assert done.code == 2 and "error: secret-missing\n" in done.stderr and "OTHER" in done.stderr
    assert canaries.found_in((done.stdout + done.stderr).encode()) == set()
    assert where.person.ps() == {}


def test_a_resumed_run_whose_secret_is_missing_is_told_so_and_can_still_be_resumed(
    here: Here, canaries: Canaries
) -> None:
    """Another terminal does not have the variable: that costs the run nothing."""
    person = here.person
    assert begun(here, canaries, "again").code == 0
    assert person.types("stop", "again", "--now").code == 0
    forgotten = person.extra.pop("MY_TOKEN")
    refused = person.types("resume", "again", "--json")
    person.extra["MY_TOKEN"] = forgotten
    assert refused.code == 2 and "error: secret-missing\n" in refused.stderr, refused.stderr
    typed = person.begins("resume", "again", "--json")
    until(lambda: [f["kind"] for f in person.facts("again")].count("started") == 2, "it goes on")
    here.lets_go("again")
    out, said = typed.communicate(timeout=40)
    assert typed.returncode == 0, said
    assert json.loads(out)["state"] == "done"
    here.leaves_nothing("again")


@pytest.mark.parametrize("written", ["TOKEN={}", "TOKEN=env:{}", "TOKEN=vault:{}"])
def test_a_secret_in_place_of_where_it_is_found_is_refused_and_not_repeated(
    person: Person, canaries: Canaries, written: str
) -> None:
    value = canaries.environ["MY_TOKEN"]
    typed = person.types("run", "--secret", written.format(value), "--project", ".", "--", "true")
    name, _, rest = written.format(value).partition("=")
    person.writes("launcher.yaml", f"secret: {{{name}: '{rest}'}}\n")
    read = person.types("run", "--project", ".", "--", "true")
    for done in (typed, read):
        assert done.code == 2 and "never the secret itself" in done.stderr, done.stderr
        assert canaries.found_in((done.stdout + done.stderr).encode()) == set()
    assert person.ps() == {}


@pytest.mark.parametrize("name", ["HUB_TOKEN", "DB_PASSWORD", "STORE_API_KEY", "CLIENT_SECRET"])
def test_a_variable_that_looks_like_a_secret_is_warned_of_by_name(person: Person, name: str) -> None:
    value = f"canary-{secrets.token_hex(18)}"
    done = person.own("true", flags=("--env", f"{name}={value}"))
    assert f"env {name} looks like a secret" in done.stderr and f"--secret {name}" in done.stderr
    assert value not in done.stderr + done.stdout
    person.writes("launcher.yaml", f"env: {{{name}: {value}}}\n")
    for words in (("config", "show"), ("config", "show", "--origin"), ("config", "show", "--json")):
        shown = person.types(*words)
        assert shown.code == 0 and name in shown.stdout and value not in shown.stdout + shown.stderr
    plain = person.own("true", flags=("--env", "COLOUR=blue", "--profile", _none(person)))
    assert "looks like a secret" not in plain.stderr


def _none(person: Person) -> str:
    return str(person.writes("plain.yaml", "on: local\n"))


def test_a_key_is_no_part_of_a_plan(person: Person, canaries: Canaries) -> None:
    """A plan needs no key, so it does not look for one either."""
    person.extra |= canaries.environ
    done = person.types("plan", "--json")
    assert done.code == 0 and canaries.found_in((done.stdout + done.stderr).encode()) == set()
    documents: Any = done.json()
    assert documents["chosen"]["usd_per_hour"] == 0
    assert files_with(canaries, person.root) == {}
