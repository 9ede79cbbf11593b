"""What a run in a container is: which image, which environment, what it may, what comes home of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.conftest import Outcome
from tests.e2e.containers import STEPS, DockerPerson, manifest, undisturbed
from tests.unit.test_envs import wheel

pytestmark = pytest.mark.need("docker")
EXPECTED = Path(__file__).resolve().parents[2] / "trainers" / "quickstart" / "expected.json"

TELLS = """
import json, os, pathlib, sys
def environ_of(pid):
    return dict(w.split("=", 1) for w in open(f"/proc/{pid}/environ").read().split("\\0") if w)
told = {
    "first": open("/proc/1/cmdline").read().split("\\0"), "parent": os.getppid(), "me": os.getpid(),
    "session": os.getsid(0), "environ": dict(os.environ), "python": sys.version.split()[0],
    "cwd": os.getcwd(), "files": sorted(os.listdir()),
    "agents": environ_of(1),
}
pathlib.Path(os.environ["LAUNCHER_OUTPUT"], "told.json").write_text(json.dumps(told))
"""


def artifact(outcome: Outcome, name: str) -> str:
    assert outcome.code == 0, outcome.stderr
    return Path(outcome.json()["artifacts"], name).read_text()


# --- the image -----------------------------------------------------------------------------------


@pytest.fixture
def fresh_base(docker_person: DockerPerson) -> Iterator[str]:
    """A name of its own for the base image, so that the image made from it is not here yet."""
    name, tag = "launcher-test/fresh", uuid4().hex[:8]
    docker_person.docker.tag(docker_person.image, name, tag)
    yield f"{name}:{tag}"
    docker_person.docker.remove_image(f"{name}:{tag}", force=True)


@pytest.mark.need("network")
@pytest.mark.slow
@pytest.mark.timeout(400)  # packages come over the network
def test_quickstart_s_image_is_built_by_on_docker_alone_and_then_chosen_without_it(
    docker_person: DockerPerson, fresh_base: str
) -> None:
    person = docker_person
    person.extra["LAUNCHER_BASE_IMAGE"] = fresh_base
    before = person.types("plan", "--json").json()
    assert before["chosen"]["target"] == "local"  # and that made no image
    assert [o["target"] for o in before["offers"]].count("docker") == 1

    first = person.types("run", "--on", "docker", "--json", timeout=300)
    assert first.code == 0, first.stderr
    assert "image: Step 1/" in first.stderr  # the builder's own lines
    held = manifest(first)
    person.leaves_nothing(first.json()["run"])
    try:
        assert (held["runtime"]["kind"], held["target"]) == ("image", "docker")
        assert held["device"]["used"] == "cpu"
        expected = json.loads(EXPECTED.read_text())["metrics"]
        for name, wanted in expected.items():
            assert held["metrics"][name] == pytest.approx(wanted["value"], abs=wanted["within"])

        second = person.types("run", "--json")
        assert (second.code, second.json()["target"]) == (0, "docker"), second.stderr
        assert "image: " not in second.stderr
        again = manifest(second)
        assert again["metrics"] == held["metrics"]
        assert again["runtime"]["image"] == held["runtime"]["image"]
        person.leaves_nothing(second.json()["run"])
    finally:
        person.docker.remove_image(held["runtime"]["image"], force=True)


def test_an_image_of_one_s_own_runs_the_project_as_it_is(docker_person: DockerPerson) -> None:
    docker_person.writes("tell.py", TELLS)
    done = docker_person.docked("python3", "tell.py", flags=("--name", "own", "--env", "COLOUR=blue"))
    told = json.loads(artifact(done, "told.json"))
    assert manifest(done)["runtime"] == {
        "kind": "image",
        "image": docker_person.image,
        "digest": docker_person.image_id(),
    }
    assert told["files"] == ["tell.py"]
    environ = told["environ"]
    assert (environ["COLOUR"], environ["LAUNCHER_RUN"], environ["DEVICE"]) == ("blue", "own", "auto")
    assert told["cwd"].startswith("/launcher/project/") and environ["LAUNCHER_OUTPUT"] == "/launcher/output"
    docker_person.leaves_nothing("own")


def test_without_on_an_own_project_goes_where_its_image_is(docker_person: DockerPerson) -> None:
    line = ("plan", "--project", ".", "--json")
    here = docker_person.types(*line, "--image", docker_person.image, "--", "true").json()
    absent = docker_person.types(*line, "--image", "launcher-test/never:made", "--", "true").json()
    assert (here["chosen"]["target"], absent["chosen"]["target"]) == ("docker", "local")


# --- the environment -----------------------------------------------------------------------------


def test_requirements_become_an_environment_in_the_container(docker_person: DockerPerson) -> None:
    """Of a wheel in the project itself: found as requirements.txt, because the caller's Python stays here."""
    wheel(docker_person.project / "wheels", "greeting", "1.0", "hello")
    docker_person.writes("requirements.txt", "--no-index\n--find-links wheels\ngreeting==1.0\n")
    docker_person.writes(
        "work.py",
        "import greeting, os, pathlib, sys\n"
        "out = pathlib.Path(os.environ['LAUNCHER_OUTPUT'])\n"
        "(out / 'says').write_text(f'{greeting.SAYS} from {sys.prefix}')\n",
    )
    done = docker_person.docked("python", "work.py", flags=("--name", "wheels"))
    assert artifact(done, "says").startswith("hello from /launcher/envs/")
    assert list(Path(done.json()["artifacts"]).glob("*")) and not (docker_person.home / "envs").exists()
    docker_person.leaves_nothing("wheels")


def test_an_environment_that_cannot_be_made_is_said_and_leaves_nothing(docker_person: DockerPerson) -> None:
    docker_person.writes("requirements.txt", "--no-index\nnowhere-to-be-found==1.0\n")
    done = docker_person.docked("python", "work.py", flags=("--name", "none"))
    assert done.code == 5 and "nowhere-to-be-found" in done.stderr, done.stderr
    assert (done.json()["state"], done.json()["version"]) == ("failed", None)
    docker_person.leaves_nothing("none")


# --- the container -------------------------------------------------------------------------------


CHILDREN = """
import contextlib, pathlib
for pid in pathlib.Path("/proc/1/task/1/children").read_text().split():
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
        print(pathlib.Path("/proc", pid, "cmdline").read_text())
"""


def test_the_agent_is_the_first_process_and_the_container_goes_with_it(docker_person: DockerPerson) -> None:
    container = docker_person.steps("first")
    shown = docker_person.inspected(container)
    assert shown["HostConfig"]["AutoRemove"] is True
    first = docker_person.inside(container, "cat", "/proc/1/cmdline").split("\0")
    assert first[0].endswith("python3") and "/launcher/agent.pyz" in first
    assert "steps.py" in docker_person.inside(container, "python3", "-c", CHILDREN)
    docker_person.last_does(container, "sh", "-c", "kill -KILL -1")  # all but the first process
    assert docker_person.types("watch", "first", "--json").code == 7
    docker_person.leaves_nothing("first")


def test_nothing_of_the_machine_is_limited_unless_asked(docker_person: DockerPerson) -> None:
    container = docker_person.steps("free")
    host = docker_person.inspected(container)["HostConfig"]
    limits = ("Memory", "MemorySwap", "MemoryReservation", "NanoCpus", "CpuShares", "CpuQuota", "CpuPeriod")
    assert {name: host[name] for name in limits} == dict.fromkeys(limits, 0)
    assert (host["CpusetCpus"], host["PidsLimit"] or 0, host["Ulimits"] or []) == ("", 0, [])
    (mount,) = host["Mounts"]
    assert (mount["Type"], mount["Target"]) == ("volume", "/launcher")  # no folder of this machine
    assert host["Binds"] is None and host["Privileged"] is False and host["NetworkMode"] == "default"
    docker_person.lets_go(container)
    assert docker_person.types("watch", "free", "--json").code == 0


# --- what comes home -----------------------------------------------------------------------------

ODD = """
import json, os, pathlib, sys
out = pathlib.Path(os.environ["LAUNCHER_OUTPUT"])
for name in [*json.loads(sys.argv[1]), "empty"]:
    (out / name).parent.mkdir(parents=True, exist_ok=True)
    (out / name).write_text("" if name == "empty" else name)
(out / "two\\nlines").write_text("x")
(out / "bell\\a").write_text("x")
pathlib.Path(os.fsdecode(os.fsencode(out) + b"/not-utf8-\\xff")).write_text("x")
(out / "link").symlink_to("/etc/passwd")
os.mkfifo(out / "pipe")
(out / "manifest.json").write_text("mine")
(out / "folder").mkdir()
"""


def test_odd_names_come_home_and_what_cannot_be_kept_is_named(docker_person: DockerPerson) -> None:
    docker_person.writes("odd.py", ODD)
    kept = ["훈련 결과.txt", "-rf", "a b", ".hidden", "deep/er/x", "quo'te\"s", "$(touch x)", "*", "ünïcode"]
    done = docker_person.docked("python3", "odd.py", json.dumps(kept), flags=("--name", "odd"))
    assert done.code == 0, done.stderr
    version = Path(done.json()["artifacts"])
    assert {name: (version / name).read_text() for name in kept} == {name: name for name in kept}
    assert (version / "empty").read_bytes() == b""
    listed = {f["path"] for f in manifest(done)["files"] if not f["path"].startswith(".launcher/")}
    escaped = {"two%0Alines": "x", "bell%07": "x", "not-utf8-%FF": "x", "%6Danifest.json": "mine"}
    assert listed == {*kept, *escaped, "empty"}
    assert {name: (version / name).read_text() for name in escaped} == escaped
    events = (version / ".launcher" / "events.jsonl").read_text().splitlines()
    sealed = next(json.loads(line) for line in events if '"sealed"' in line)
    assert sorted(sealed["skipped"]) == ["link", "pipe"]
    assert docker_person.types("models", "verify", version.name).code == 0
    docker_person.leaves_nothing("odd")


def shape(value: Any) -> Any:
    """The names in a document, at every depth."""
    return (
        {key: shape(one) for key, one in value.items()} if isinstance(value, dict) else type(value).__name__
    )


def test_a_container_gives_what_a_process_gives(docker_person: DockerPerson, tmp_path: Path) -> None:
    """The same files, metrics, state and words in the manifest; only where it ran differs."""
    docker_person.writes("steps.py", STEPS)
    here = docker_person.own("python3", "steps.py", "0", flags=("--name", "here"))
    there = docker_person.docked("python3", "steps.py", "0", flags=("--name", "there"))
    assert here.code == there.code == 0, here.stderr + there.stderr
    assert artifact(here, "model.txt") == artifact(there, "model.txt") == undisturbed(tmp_path / "alone")
    a, b = manifest(here), manifest(there)
    free = {"runtime": 0, "settings": 0}
    assert {**shape(a), **free} == {**shape(b), **free}
    assert a["runtime"].keys() == b["runtime"].keys()
    same = ("metrics", "device", "state", "exit_code", "command", "pushed", "seed", "inputs", "usd", "sealed")
    assert {name: a[name] for name in same} == {name: b[name] for name in same}
    trainers = [
        {f["path"]: f["sha256"] for f in held["files"] if not f["path"].startswith(".launcher/")}
        for held in (a, b)
    ]
    assert trainers[0] == trainers[1]
    assert {f["path"] for f in a["files"]} == {f["path"] for f in b["files"]}
    one, other = here.json(), there.json()
    assert one.keys() == other.keys()
    log = [Path(said["artifacts"], ".launcher", "log").read_text() for said in (one, other)]
    assert log[0] == log[1]
    assert sys.executable not in log[1]


def test_the_view_of_a_container_s_run_tells_what_a_process_s_does(docker_person: DockerPerson) -> None:
    container = docker_person.steps("seen")
    said = docker_person.types("status", "seen", "--json").json()
    assert (said["state"], said["target"], said["instance"]) == ("running", "docker", container)
    assert said["guard"]["armed"] is True and "agent" in said["guard"]["layers"]
    assert docker_person.types("ps").stdout.splitlines()[-1] == "1 running here, nothing bills"
    assert docker_person.types("logs", "seen").stdout == "begins after 0\nstep 1\nstep 2\nstep 3\n"
    docker_person.lets_go(container)
    assert docker_person.types("watch", "seen", "--json").json()["state"] == "done"
