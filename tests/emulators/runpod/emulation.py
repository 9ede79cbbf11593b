"""An emulated Runpod for a test, without containers or with, and what leads a client to it."""

from __future__ import annotations

import atexit
import functools
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from launcher.providers.runpod import RunpodProvider
from tests.emulators.runpod.cloud import Cloud
from tests.emulators.runpod.machines import Life, Thin, ThinMachines
from tests.emulators.runpod.pods import Pod
from tests.emulators.runpod.server import Front, serving

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEmulatedHostKeyOfNobodyAtAllXXXXXXXXXXXXXX"


@dataclass
class Clock:
    """Moments that a test moves by hand."""

    at: datetime = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)

    def now(self) -> datetime:
        return self.at

    def pass_s(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@dataclass
class Emulation:
    cloud: Cloud
    front: Front

    @property
    def thin(self) -> ThinMachines:
        """Where pods boot without containers."""
        machines = self.cloud.machines
        assert isinstance(machines, ThinMachines)
        return machines

    def environ(self, key: str | None = None) -> dict[str, str]:
        return {"RUNPOD_API_BASE_URL": self.cloud.root, "RUNPOD_API_KEY": key or self.cloud.key}

    def provider(self, key: str | None = None, listing_lag_s: float = 0) -> RunpodProvider:
        return RunpodProvider(self.environ(key), Path("/nowhere"), listing_lag_s, self.cloud.now)

    def stored(self) -> str:
        """Everything that was told to it, by whoever asked and by what pods printed: one text to look for
        secrets in."""
        asked = [[h.path, h.query, h.body] for h in self.front.heard]
        with self.cloud.lock:
            printed = [said.line for pod in self.cloud.pods.values() for said in pod.lines()]
        return json.dumps([asked, printed])

    def of(self, label: str, value: str) -> list[Pod]:
        """Every pod that ever was, by what its environment says."""
        with self.cloud.lock:
            pods = list(self.cloud.pods.values())
        return [pod for pod in pods if pod.asked.get("env", {}).get(label) == value]

    def offences(self) -> list[str]:
        """What clients did wrong since this was last asked. Nobody asks where there is to be none."""
        found, self.front.offences[:] = list(self.front.offences), []
        return found

    def in_order(self) -> None:
        assert self.front.offences == [], "a client broke the contract"
        assert self.front.faulty_answers == [], "the emulator broke its own contract"


@contextmanager
def emulated(
    now: Callable[[], datetime] = lambda: datetime.now(UTC), script: Callable[[Thin], None] | None = None
) -> Iterator[Emulation]:
    """Without containers: pods boot at once, and their main process is `script`."""
    machines = ThinMachines(now, script)
    cloud = Cloud(machines, now)
    with serving(cloud) as front:
        yield (made := Emulation(cloud, front))
    made.in_order()


@contextmanager
def with_pods(images: Callable[[str], str] | None = None) -> Iterator[Emulation]:
    """Pods are containers on the tests' engine. The API lies where they too can reach it."""
    from tests.emulators.runpod.containers import Containers, gateway
    from tests.hosts.image import image

    image("openssh")  # made before any pod waits for it
    machines = Containers(images) if images is not None else Containers()
    cloud = Cloud(machines)
    try:
        with serving(cloud, gateway(), ticking=True) as front:
            yield (made := Emulation(cloud, front))
    finally:
        machines.close()
    made.in_order()


@functools.cache
def shared() -> Emulation:
    """One for all of a process's tests, whose pods do what a guard would: speak, and end themselves at D."""
    stack = ExitStack()
    atexit.register(stack.close)
    made: list[Emulation] = []

    def guard(machine: Thin) -> None:
        env = machine.boot.env
        if not machine.lines:
            machine.say(f"launcher host-key {env['LAUNCHER_INSTANCE']} {HOST_KEY}")
            machine.say(f"launcher boot {env['LAUNCHER_INSTANCE']}")
        began = machine.lines[0].at
        if datetime.now(UTC) - began >= timedelta(seconds=float(env["LAUNCHER_ENDS_IN"])):
            machine.state = Life.ENDED
            cloud = made[0].cloud
            cloud.terminate(cloud.pods[machine.boot.pod])

    made.append(stack.enter_context(emulated(script=guard)))
    return made[0]


@functools.cache
def shared_with_pods() -> Emulation:
    """One for all of a process's tests, whose pods are containers."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(with_pods())
