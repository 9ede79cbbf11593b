"""The machine of a run, for commands that lead a person to it: `ssh`, `ssh-config`, `open`.

A run whose machine is not there (yet, or any more) is refused with what can be done instead.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from launcher.cli.prog import prog
from launcher.errors import Exit, HostError, LauncherError, NoFile, usage
from launcher.events import parse_events
from launcher.models import Access, Json
from launcher.remote import open_host
from launcher.remote.base import Host
from launcher.report import versions
from launcher.report.view import RunView
from launcher.runstate import Attempt
from launcher.store import Home

AFTER_ITS_END = timedelta(minutes=5)  # what a machine may overrun


@dataclass(frozen=True)
class Machine:
    view: RunView
    attempt: Attempt
    access: Access

    @property
    def folder(self) -> str:
        """Where the project lies there, once it was sent."""
        pushed = self.attempt.pushed
        return f"{self.access.root}/project/{pushed}" if pushed is not None else self.access.root

    @property
    def output(self) -> str:
        job = self.view.plan.job
        return f"{self.folder}/{job.output}" if job.output else f"{self.access.root}/output"

    @property
    def env(self) -> dict[str, str]:
        """What the trainer knows of its run; no secret is among it."""
        root, gpus = self.access.root, self._hello.get("gpus")
        return {
            **({"CUDA_VISIBLE_DEVICES": gpus} if isinstance(gpus, str) else {}),
            **dict(self.view.plan.job.env),
            "LAUNCHER_RUN": self.view.plan.run,
            "LAUNCHER_OUTPUT": self.output,
            "LAUNCHER_CHECKPOINT": f"{root}/checkpoint",
            "LAUNCHER_INPUT": f"{root}/input",
        }

    @property
    def python(self) -> str:
        """What runs our own small programs there."""
        far = str(self._hello.get("executable") or "python3")
        return sys.executable if self.access.kind == "process" else far

    @property
    def _hello(self) -> Json:
        return next((e for e in reversed(self.events()) if e["ev"] == "hello"), {})

    def envs(self, home: Home) -> str:
        """Where environments by digest lie there."""
        if self.access.kind == "process":
            return str(home.envs)
        return self.access.envs or f"{self.access.root}/envs"

    def events(self) -> list[Json]:
        try:
            data = self.view.folder.attempt(self.attempt.n).events.read_bytes()
        except FileNotFoundError:
            return []
        return list(parse_events(data.split(b"\n")[:-1]))

    def agent(self) -> int | None:
        """Its process, as whatever runs beside it sees it."""
        pid = self._hello.get("pid")
        return pid if isinstance(pid, int) else None

    def prepared(self) -> str | None:
        """The Python of the environment that was made for the job."""
        event = next((e for e in reversed(self.events()) if e["ev"] == "prepared"), {})
        tail: list[str] = event.get("tail") or []
        try:
            return str(json.loads(tail[-1])["python"])
        except (IndexError, ValueError, KeyError, TypeError):
            return None


def machine(view: RunView) -> Machine:
    """The run's machine as far as our own notes tell; whether it answers shows when it is asked."""
    a, name, shown = view.attempt, view.plan.run, view.shown(datetime.now(UTC))
    if view.state.ended is not None or (a is not None and not a.open):
        waits = view.state.wants_pull
        raise usage(
            "machine-gone",
            f"{name} has no machine any more ({shown.value})"
            + ("; its results still wait to be fetched" if waits else ""),
            hint=f"pull {name}" if waits else f"logs {name}",
            details=_instead(view),
        )
    if a is None or a.access is None or a.boot is None:
        raise usage(
            "machine-not-ready",
            f"{name} has no machine that can be reached yet ({shown.value})",
            hint=f"watch {name}",
        )
    return Machine(view, a, a.access)


def _instead(view: RunView) -> tuple[str, ...]:
    version, place = view.state.version, view.state.version_path
    if version is None or place is None:
        return ()
    return (f"Its version {version} is here; {prog()} {versions.look(version, Path(place))} shows it.",)


def over(view: RunView) -> bool:
    """Whether nothing of its machine can be looked at any more. Without an engine nobody notes its end, which
    comes by itself at the deadline."""
    view.refresh()
    a = view.attempt
    if view.state.ended is not None or a is None or not a.open:
        return True
    return datetime.now(UTC) > a.d + AFTER_ITS_END and not view.engine_alive


@contextmanager
def reached(m: Machine) -> Iterator[Host]:
    """Its host, for as long as the command lasts; what cuts the way is told as a page."""
    try:
        host = open_host(m.access)
        try:
            yield host
        finally:
            host.close()
    except NoFile as e:
        raise unreachable(m, f"{e} is not there") from e
    except HostError as e:
        raise unreachable(m, str(e)) from e


def unreachable(m: Machine, why: str) -> LauncherError:
    name = m.view.plan.run
    return LauncherError(
        "machine-unreachable",
        f"the machine of {name} cannot be reached: {why}",
        exit=Exit.UNREACHABLE,
        hint=f"status {name}",
        billed="see status: the machine ends itself at its deadline",
    )
