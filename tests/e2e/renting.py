"""A person who rents pods of an emulated Runpod by the real command, and what must hold of it in the end."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from launcher.dockerapi import connect
from tests.conftest import Outcome, run_command
from tests.e2e.containers import STEPS
from tests.e2e.person import COMMAND, Person, until
from tests.emulators.runpod.containers import Container
from tests.emulators.runpod.emulation import Emulation
from tests.emulators.runpod.pods import Pod, Status

# Says what it was given, leaves a result, and goes.
QUICK = """
import hashlib, os, pathlib, sys
out = pathlib.Path(os.environ["LAUNCHER_OUTPUT"])
out.mkdir(parents=True, exist_ok=True)
(out / "model.txt").write_text(" ".join(["trained", *sys.argv[1:]]))
(out / "token").write_text(hashlib.sha256(os.environ.get("TOKEN", "").encode()).hexdigest())
(out / "rate").write_text(os.environ["LAUNCHER_USD_PER_HOUR"])
print("keys seen:", sorted(k for k in os.environ if "API_KEY" in k), flush=True)
"""
# What takes a real cloud minutes takes the emulated one seconds, and patience is as short.
SHORT = {
    "LAUNCHER_LISTING_LAG": "0s",
    "LAUNCHER_READY_WITHIN": "25s",
    "LAUNCHER_BOOT_LIMIT": "60s",
    "LAUNCHER_CHECKPOINT_EVERY": "1s",
}
NO_ENV: Mapping[str, str] = {}
PATIENCE_S = 120.0
GPU = "RTX 4090"
IMAGE = "any/image:1"


class RentingPerson(Person):
    patience_s = 60.0

    def __init__(self, root: Path, emulation: Emulation) -> None:
        super().__init__(root, {**SHORT, **emulation.environ()})
        self.emulation = emulation
        self.cloud = emulation.cloud

    # --- typing ------------------------------------------------------------------------------

    def rents(self, *words: str, flags: Sequence[str] = (), env: Mapping[str, str] = NO_ENV) -> Outcome:
        """A run of the person's own project on a pod, as one JSON document."""
        line = ("run", "--project", ".", "--on", "runpod", "--gpu", GPU, "--image", IMAGE, "--json", "--yes")
        limits = ("--max-cost", "1", "--max-time", "2m")
        argv = [*COMMAND, *line, *limits, *flags, "--", *words]
        return run_command(argv, self.project, {**self.environ(), **env}, "", PATIENCE_S)

    def quick(
        self, name: str = "quick", flags: Sequence[str] = (), env: Mapping[str, str] = NO_ENV
    ) -> Outcome:
        self.writes("train.py", QUICK)
        return self.rents("python3", "train.py", "two words", flags=("--name", name, *flags), env=env)

    def steps(self, name: str, flags: Sequence[str] = (), env: Mapping[str, str] = NO_ENV) -> Pod:
        """A detached run called `name` that has done three steps and waits; its pod."""
        self.writes("steps.py", STEPS)
        words = ("python3", "steps.py", "3")
        begun = self.rents(*words, flags=("--name", name, "-d", *flags), env=env)
        assert begun.code == 0, begun.stderr
        assert begun.json()["state"] == "running", begun.stdout
        self.waits_for(name, "checkpoint")
        return self.pod(begun.json()["instance"])

    # --- what is there -----------------------------------------------------------------------

    def pods(self) -> list[Pod]:
        """Everything that this person ever rented."""
        owner = self.home / "owner"
        return self.emulation.of("LAUNCHER_OWNER", owner.read_text().strip()) if owner.exists() else []

    def pod(self, id: str) -> Pod:
        return self.cloud.pods[id]

    def lets_go(self, pod: Pod) -> None:
        inside(pod, "touch", "/tmp/go")

    def kills_engine(self, name: str) -> None:
        pid = self.engine(name)
        os.kill(pid, signal.SIGKILL)
        until(lambda: pid not in self.processes(), f"the engine of {name} is still there")

    def cleans_up(self) -> None:
        """A pod that a failed test left, too."""
        super().cleans_up()
        for pod in self.pods():
            if pod.status is not Status.TERMINATED:
                with self.cloud.lock:
                    self.cloud.terminate(pod)

    # --- what must hold ----------------------------------------------------------------------

    def owes_nothing(self) -> None:
        """No pod bills anything, none was rented beside another, nobody heard a secret or a wrong word."""
        ledger, ours = self.cloud.ledger, [pod.id for pod in self.pods()]
        assert set(ledger.billing()).isdisjoint(ours), {pod.id: pod.status for pod in self.pods()}
        assert ledger.most_at_once(ours) <= 1
        self.kept_secrets()
        self.emulation.in_order()
        self.alone()

    def kept_secrets(self) -> None:
        """Neither the account's key nor a pod's nor the run's own lies where it could be read."""
        stored = self.emulation.stored()
        secrets = [self.cloud.key, *(pod.key for pod in self.cloud.pods.values())]
        private = [path.read_text() for path in self.home.rglob("runs/*/keys/*") if path.suffix != ".pub"]
        told = [*secrets, *(line for key in private for line in key.splitlines() if len(line) > 40)]
        assert not [one for one in told if one in stored]
        written = [p for root in (self.home, self.project) for p in root.rglob("*") if p.is_file()]
        held = {str(p): p.read_bytes() for p in written}
        assert not [name for name, data in held.items() if any(one.encode() in data for one in secrets)]


def inside(pod: Pod, *argv: str) -> str:
    """What a command in the pod's container says."""
    assert isinstance(pod.machine, Container), pod.status
    engine = connect(30)
    try:
        made = engine.exec_create(pod.machine.name, list(argv))
        said: bytes = engine.exec_start(made["Id"])
        return said.decode()
    finally:
        engine.close()


def status(pod: Pod) -> Status:
    return pod.status
