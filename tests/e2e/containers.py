"""A person whose runs go to the tests' own Docker engine, and what that engine holds of theirs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from launcher.dockerapi import connect
from tests.conftest import Outcome, run_command
from tests.e2e.person import COMMAND, HANGS_S, Person, until
from tests.engines.base import base_image

if TYPE_CHECKING:
    from docker import APIClient

# Steps to a sum that tells whether any was left out or done twice; after `pause` of them it waits for a file,
# unless it came from a checkpoint. Asked to leave, it saves and leaves.
STEPS = """
import hashlib, json, os, pathlib, signal, sys, time
pause, steps = int(sys.argv[1]), 12
out = pathlib.Path(os.environ["LAUNCHER_OUTPUT"])
marks = pathlib.Path(os.environ["LAUNCHER_CHECKPOINT"])
done, chain, asked = 0, "", []
for mark in sorted(marks.glob("step-*/complete")):
    done, chain = json.loads((mark.parent / "state.json").read_text())
resumed = done
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
def save():
    place = marks / f"step-{done:02}"
    place.mkdir(exist_ok=True)
    (place / "state.json").write_text(json.dumps([done, chain]))
    (place / "complete").write_text("")
print("begins after", done, flush=True)
while done < steps:
    done += 1
    chain = hashlib.sha256(f"{chain}{done}{os.environ['LAUNCHER_SEED']}".encode()).hexdigest()
    print("step", done, flush=True)
    if done == pause and not resumed:
        save()
        while not asked and not os.path.exists("/tmp/go"):
            time.sleep(0.02)
    if asked:
        save()
        sys.exit(143)
(out / "model.txt").write_text(chain)
(out / "result.json").write_text(json.dumps(
    {"device": {"used": "cpu", "name": "cpu"}, "metrics": {"chain": int(chain[:8], 16)}}))
(out / "resumed").write_text(str(resumed))
"""


class DockerPerson(Person):
    """Somebody with an engine: projects run in the base image unless told otherwise."""

    def __init__(self, root: Path, docker: APIClient) -> None:
        self.image = base_image()
        super().__init__(root, {"LAUNCHER_BASE_IMAGE": self.image})
        self.docker = docker

    def docked(self, *words: str, flags: Sequence[str] = (), **env: str) -> Outcome:
        """A run of the person's own project in a container, as one JSON document."""
        line = ("run", "--project", ".", "--on", "docker", "--image", self.image, "--json", *flags)
        return run_command([*COMMAND, *line, "--", *words], self.project, self.environ(**env), "", HANGS_S)

    def steps(self, name: str, pause: int = 3, flags: Sequence[str] = (), **env: str) -> str:
        """A detached run called `name` that has done `pause` steps and waits; the name of its container."""
        self.writes("steps.py", STEPS)
        begun = self.docked(*("python3", "steps.py", str(pause)), flags=("--name", name, "-d", *flags), **env)
        assert begun.code == 0, begun.stderr
        (container,) = self.containers(name)
        return container

    def lets_go(self, container: str) -> None:
        self.last_does(container, "touch", "/tmp/go")

    def last_does(self, container: str, *argv: str) -> None:
        """A command after which the container may be gone, and with it what became of the command."""
        made = self.docker.exec_create(container, list(argv))
        self.docker.exec_start(made["Id"])

    def inside(self, container: str, *argv: str) -> str:
        """What a command in the container says."""
        made = self.docker.exec_create(container, list(argv))
        said: bytes = self.docker.exec_start(made["Id"])
        assert self.docker.exec_inspect(made["Id"])["ExitCode"] == 0, said
        return said.decode()

    def on_volume(self, volume: str, program: str) -> str:
        """What a Python program says in a container of ours with that volume at /v."""
        name = f"launcher-test-look-{uuid4().hex[:8]}"
        host = self.docker.create_host_config(binds=[f"{volume}:/v"], network_mode="none")
        self.docker.create_container(self.image, ["python3", "-c", program], name=name, host_config=host)
        try:
            self.docker.start(name)
            status = self.docker.wait(name)["StatusCode"]
            said: bytes = self.docker.logs(name)
        finally:
            self.docker.remove_container(name, force=True)
        assert status == 0, said
        return said.decode()

    # --- what the engine holds ---------------------------------------------------------------

    def containers(self, run: str) -> list[str]:
        found = self.docker.containers(all=True, filters={"label": [f"launcher.run={run}"]})
        return sorted(summary["Names"][0].lstrip("/") for summary in found if self._is_ours(summary))

    def volumes(self, run: str) -> list[str]:
        found = self.docker.volumes(filters={"label": [f"launcher.run={run}"]})["Volumes"] or []
        return sorted(volume["Name"] for volume in found if self._is_ours(volume))

    def _is_ours(self, shown: dict[str, Any]) -> bool:
        """Somebody else on this engine may call a run the same; what names no owner is not theirs."""
        owner = self.home / "owner"
        ours = owner.read_text().strip() if owner.exists() else None
        return (shown["Labels"] or {}).get("launcher.owner", ours) == ours

    def leaves_nothing(self, run: str) -> None:
        """By label, and by what a killed or stopped run could have left unlabelled: processes."""
        assert (self.containers(run), self.volumes(run)) == ([], [])
        self.alone()

    def inspected(self, container: str) -> dict[str, Any]:
        shown: dict[str, Any] = self.docker.inspect_container(container)
        return shown

    def image_id(self) -> str:
        facts: dict[str, Any] = self.docker.inspect_image(self.image)  # type: ignore[no-untyped-call]  # no stub
        return str(facts["Id"])

    def has_gone(self, container: str) -> None:
        """The engine no longer knows it: whoever removed it."""
        until(lambda: container not in self.all_containers(), f"{container} is still there")

    def all_containers(self) -> set[str]:
        return {summary["Names"][0].lstrip("/") for summary in self.docker.containers(all=True)}

    def cleans_up(self) -> None:
        super().cleans_up()
        owner = self.home / "owner"
        if owner.exists():
            mine = {"label": [f"launcher.owner={owner.read_text().strip()}"]}
            sweep(self.docker, mine)
        self.docker.close()


def sweep(engine: APIClient, filters: dict[str, list[str]]) -> None:
    """Whatever a failed test left in the engine."""
    from docker.errors import APIError

    for summary in engine.containers(all=True, filters=filters):
        with suppress(APIError):  # its own removal is under way
            engine.remove_container(summary["Id"], force=True, v=True)
    for volume in engine.volumes(filters=filters)["Volumes"] or []:
        until(partial(_removed, engine, volume["Name"]), f"{volume['Name']} cannot be removed")


def _removed(engine: APIClient, name: str) -> bool:
    from docker.errors import APIError, NotFound

    try:
        engine.remove_volume(name)
    except NotFound:
        return True
    except APIError:
        return False  # a container that is being removed still holds it
    return True


def undisturbed(root: Path) -> str:
    """What the steps come to when nobody disturbs them."""
    for folder in ("out", "marks"):
        (root / folder).mkdir(parents=True)
    env = {
        "LAUNCHER_OUTPUT": str(root / "out"),
        "LAUNCHER_CHECKPOINT": str(root / "marks"),
        "LAUNCHER_SEED": "0",
    }
    done = run_command([sys.executable, "-I", "-c", STEPS, "0"], root, env, "", 30)
    assert done.code == 0, done.stderr
    return (root / "out" / "model.txt").read_text()


def manifest(outcome: Outcome) -> dict[str, Any]:
    held: dict[str, Any] = json.loads(Path(outcome.json()["artifacts"], "manifest.json").read_text())
    return held


def client() -> APIClient:
    return connect(20)
