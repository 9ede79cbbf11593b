"""This very machine: an instance is the boot guard's process, its label is its environment.

Nothing is remembered: the process table is the listing. Children that left the guard's tree carry the
label too, so a stray is seen and ended like an instance.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from launcher.codec import to_the_second
from launcher.errors import BadOrder, Gone
from launcher.models import Access, Need, Offer, Order, Resource, ResourceState, Traits
from launcher.providers.base import Check

LABEL = "LAUNCHER_INSTANCE"
PROVIDER_KEYS = ("RUNPOD_API_KEY", "AWS_")
FREE = Decimal(0)
DRIVER = Path("/proc/driver/nvidia")
ENVIRON = Path("/proc/self/environ")


class LocalProvider:
    name = "local"
    traits = Traits(boots="here", bills=False, keeps_output=True, overrun_s=5)

    def __init__(self) -> None:
        self._children: list[subprocess.Popen[bytes]] = []  # ours to reap, not to list

    def check(self) -> tuple[Check, ...]:
        names, lack = _gpus()
        gpu = ", ".join(names) or f"{lack or 'not known'}; trainers use the CPU"
        return (
            Check("processes of this machine", True, f"{os.cpu_count()} cores"),
            Check("GPU of this machine", True, gpu),
        )

    def offers(self, need: Need) -> tuple[Offer, ...]:
        names, lack = _gpus()
        return (
            Offer(
                id="local",
                target="local",
                provider="local",
                gpu=names[0] if names else None,
                gpu_count=names.count(names[0]) if names else 0,
                usd_per_hour=FREE,
                price_source="this machine",
                no_gpu=lack,
            ),
        )

    def create(self, order: Order) -> Resource:
        with suppress(Gone):
            return self.get(order.token)
        folder = Path(order.folder)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            process = subprocess.Popen(
                [sys.executable, "-I", "-c", order.boot_guard, order.token],
                env=_environment(order),
                cwd=folder.parent,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as e:
            raise BadOrder(f"no process could be started here: {e.strerror}") from e
        self._children.append(process)
        return _resource(order.token, _labels(order))

    def get(self, id: str) -> Resource:
        for resource in self.list():
            if resource.id == id and resource.kind == "instance":
                return resource
        raise Gone(f"no process here carries the label {id}")

    def list(self, run_id: str | None = None) -> tuple[Resource, ...]:
        """The guard of each instance; where it is gone, what outlived it: no instance any more."""
        found: dict[str, Resource] = {}
        alive: set[int] = set()
        for pid, env in _labelled():
            alive.add(pid)
            token = env[LABEL]
            if run_id is not None and env.get("LAUNCHER_RUN") != run_id:
                continue
            if _is_guard(pid, token):
                found[token] = _resource(token, env)
            elif token not in found:
                found[token] = replace(_resource(token, env), kind="stray")
        self._children = [child for child in self._children if child.pid in alive or not _reaped(child)]
        return tuple(found.values())

    def terminate(self, id: str) -> None:
        """Descendants first: a guard that dies before them would leave unlabelled ones to init, unseen."""
        tree: list[int] = []
        for pid, env in _labelled():
            if env[LABEL] == id:
                tree += [*_descendants(pid), pid]
        for pid in dict.fromkeys(tree):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def console(self, id: str) -> str:
        """The guard's own words: this machine's disk is the machine's console."""
        for resource in self.list():
            if resource.id == id and resource.access is not None:
                with suppress(OSError):
                    return (Path(resource.access.root) / "console").read_text(errors="replace")
        return ""


def _labels(order: Order) -> dict[str, str]:
    return {
        LABEL: order.token,
        "LAUNCHER_RUN": order.run,
        "LAUNCHER_OWNER": order.owner,
        "LAUNCHER_ENDS_AT": to_the_second(order.ends_at),
        "LAUNCHER_SPOOL": order.folder,
    }


def _environment(order: Order) -> dict[str, str]:
    """The caller's own, without our keys to clouds and without our own Python."""
    env = {k: v for k, v in os.environ.items() if not k.startswith((*PROVIDER_KEYS, "LAUNCHER_"))}
    own = os.path.realpath(os.path.join(sys.prefix, "bin"))
    if sys.prefix != sys.base_prefix:  # a launcher without an environment of its own hides nothing
        words = env.get("PATH", os.defpath).split(os.pathsep)
        env["PATH"] = os.pathsep.join(p for p in words if os.path.realpath(p) != own)
    if os.path.realpath(os.path.join(env.get("VIRTUAL_ENV", ""), "bin")) == own:
        env.pop("VIRTUAL_ENV", None)
    return {
        **env,
        **_labels(order),
        "LAUNCHER_ENDS_IN": str(order.ends_in_s),
        "LAUNCHER_BOOT_LIMIT": str(order.boot_limit_s),
        "LAUNCHER_HOLD": str(order.hold_s),
        "LAUNCHER_CONSOLE": "file",
        **dict(order.env),
    }


def _reaped(child: subprocess.Popen[bytes]) -> bool:
    """One that bears no label any more is leaving: its environment goes before it can be waited for."""
    try:
        child.wait(timeout=1)
    except subprocess.TimeoutExpired:
        return False
    return True


def _labelled() -> Iterator[tuple[int, dict[str, str]]]:
    """Every live process that carries our label, with its environment."""
    import psutil

    for pid in _named_so():
        try:
            process = psutil.Process(pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            env = process.environ()
        except psutil.Error:
            continue  # gone meanwhile, or another user's: not one of ours
        if env.get(LABEL) and not _in_container(pid):
            yield pid, env


def _named_so() -> Iterator[int]:
    """Who may carry it: where /proc tells, only those in whose environment its name stands. To ask psutil
    about every process of a machine takes several times as long, and an engine lists a dozen times."""
    if not ENVIRON.exists():
        import psutil

        yield from psutil.pids()
        return
    name = os.fsencode(LABEL)
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as environ:
                named = name in environ.read()
        except OSError:
            continue  # gone meanwhile, or another user's
        if named:
            yield int(pid)


def _in_container(pid: int) -> bool:
    """Root sees the processes of containers as well: they have a root folder of their own, and are listed and
    ended by whoever runs the container."""
    try:
        theirs = os.stat(f"/proc/{pid}/root")
    except OSError:  # gone meanwhile, or a system without /proc
        return False
    return not os.path.samestat(theirs, os.stat("/"))


def _is_guard(pid: int, token: str) -> bool:
    import psutil

    try:
        return token in psutil.Process(pid).cmdline()
    except psutil.Error:
        return False


def _descendants(pid: int) -> list[int]:
    """Deepest first."""
    import psutil

    try:
        return [p.pid for p in reversed(psutil.Process(pid).children(recursive=True))]
    except psutil.Error:
        return []


def _resource(token: str, env: dict[str, str]) -> Resource:
    ends, folder = env.get("LAUNCHER_ENDS_AT", ""), env.get("LAUNCHER_SPOOL", "")
    return Resource(
        id=token,
        kind="instance",
        run=env.get("LAUNCHER_RUN", ""),
        token=token,
        owner=env.get("LAUNCHER_OWNER", ""),
        state=ResourceState.RUNNING,
        usd_per_hour=FREE,
        created_at=None,
        ends_at=datetime.fromisoformat(ends.replace("Z", "+00:00")) if ends else None,
        access=Access(kind="process", address=folder, root=folder),
        boot="here",
        target="local",
    )


def _gpus() -> tuple[tuple[str, ...], str | None]:
    """The names of the GPUs, or why there is none; neither where a driver is here and tells nothing. By
    nvidia-smi, if there is one: the cheapest question that does not load a library."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return (), None if DRIVER.exists() else "neither an NVIDIA driver nor nvidia-smi is here"
    try:
        question = [tool, "--query-gpu=name", "--format=csv,noheader"]
        done = subprocess.run(question, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return (), None
    names = tuple(done.stdout.strip().splitlines())
    if done.returncode == 0 and names:
        return names, None
    return (), None if DRIVER.exists() else "nvidia-smi shows none"


def make() -> LocalProvider:
    return LocalProvider()
