"""One engine process per run: started by the command, gone when the run is gone. No server.

`spawn` starts it in a session of its own; `python -m launcher.driver RUN` is it. It holds the run's lock
for all of its life, so a second one leaves at once. Here, and only here, the engine's World gets its
real clock, disk, providers and hosts.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from launcher import agentpack, engine, pushset, sshfiles
from launcher.codec import load
from launcher.errors import LauncherError, usage
from launcher.files import Disk, Files
from launcher.models import Plan, SecretRef
from launcher.providers import registry
from launcher.providers.base import Provider
from launcher.providers.wrap import Wrapped
from launcher.remote import open_host
from launcher.report import listing
from launcher.ssh import keys
from launcher.store import Home, RunFolder, Versions, open_home
from launcher.world import Parts, World

WATCHED_S = 3.0
LOCK_TRIES = 20


class RealClock:
    """The wall clock as it was at our start, carried on by the clock that counts since boot, sleep included:
    a wall clock that is set meanwhile moves no deadline and makes no absence older than it is."""

    def __init__(self) -> None:
        self._wall, self._boot = datetime.now(UTC), _since_boot()

    def now(self) -> datetime:
        return self._wall + timedelta(seconds=_since_boot() - self._boot)

    def wait(self, seconds: float) -> None:
        time.sleep(max(0.0, seconds))


def _since_boot() -> float:
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@dataclass(frozen=True)
class Owner:
    """Who holds a run, as the lock's note tells it."""

    pid: int
    since: str


def read_plan(files: Files, folder: RunFolder) -> Plan:
    return load(Plan, json.loads(files.read(folder.plan)))


def spawn(folder: RunFolder, environ: Mapping[str, str]) -> None:
    """Start the run's engine. It inherits the caller's environment: that is the trainer's on this machine."""
    with open(folder.engine_log, "ab") as out:
        subprocess.Popen(
            [sys.executable, "-I", "-m", "launcher.driver", str(folder.root)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=dict(environ),
            start_new_session=True,
        )


def secret_values(refs: tuple[SecretRef, ...], environ: Mapping[str, str]) -> dict[str, str]:
    """Looked up at the last moment; the values live in memory and in one 0600 file on the host."""
    return {ref.name: _secret_value(ref, environ) for ref in refs}


def _secret_value(ref: SecretRef, environ: Mapping[str, str]) -> str:
    place = f"${ref.place}" if ref.source == "env" else ref.place
    try:
        if ref.source == "env":
            return environ[ref.place]
        value = Path(ref.place).expanduser().read_text(encoding="utf-8").rstrip("\n")
        if "\0" not in value:
            return value
        why = "it holds a zero byte, which no environment variable can"
    except KeyError:
        why = "it is not set"
    except UnicodeDecodeError:
        why = "it is no UTF-8 text, and a secret reaches the trainer as an environment variable"
    except OSError as e:
        why = str(e.strerror)
    raise usage("secret-missing", f"the secret {ref.name} is to come from {place}: {why}")


def real_world(home: Home, folder: RunFolder, environ: Mapping[str, str]) -> World:
    files, clock = Disk(), RealClock()
    plan = read_plan(files, folder)
    log = logging.getLogger("launcher.calls")

    def tick() -> None:
        """Requests are answered and no call is cut short: what it asked for may have had its effect."""
        world.tick_quietly()

    @cache
    def provider(choice: int) -> Provider:
        inner = registry.load(plan.choices[choice].offer.provider, home, tick)
        return Wrapped(inner, clock, lambda verb, text: log.info("%s %s", verb, text))

    world = World(
        plan=plan,
        folder=folder,
        versions=Versions(Path(plan.project)),
        files=files,
        clock=clock,
        provider=provider,
        open_host=lambda access: open_host(access, tick),
        push_set=lambda: pushset.gather(plan.job, home.scans),
        push_key=lambda: pushset.key(plan.job),
        secrets=lambda refs: secret_values(refs, environ),
        token=lambda: secrets.token_hex(16),
        parts=Parts(agentpack.agent_bytes(), agentpack.boot_guard()),
        owner=home.owner(),
        envs=str(home.envs),
        watched=lambda: _watched(folder),
        heard=lambda a: _touch(folder.attempt(a.n).heard),
        run_key=lambda: keys.pair(folder.keys),
    )
    return world


def _watched(folder: RunFolder) -> bool:
    try:
        return time.time() - os.stat(folder.watched).st_mtime < WATCHED_S
    except FileNotFoundError:
        return False


def _touch(path: Path) -> None:
    with suppress(OSError):  # a full disk costs the view, not the run
        path.touch()


def main(argv: list[str]) -> int:
    """The engine process. Ctrl-C in a terminal is the view's matter, a hang-up is nobody's."""
    folder = RunFolder(Path(argv[1]))
    home = open_home(dict(os.environ))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
    files = Disk()
    lock = None
    for _ in range(LOCK_TRIES):  # a view that looks holds the lock for a moment
        lock = files.lock(
            folder.lock, json.dumps({"pid": os.getpid(), "since": datetime.now(UTC).isoformat()})
        )
        if lock is not None:
            break
        time.sleep(0.025)  # to wait for a lock itself would be to wait for an engine's whole life
    if lock is None:
        return 0
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        files.remove(folder.listed)
        state = engine.drive(real_world(home, folder, os.environ), {"pid": os.getpid()})
        if state.ended is not None:
            listing.write_down(folder, datetime.now(UTC))
            sshfiles.forget(home, folder.name)
    except LauncherError as e:
        logging.getLogger("launcher.engine").error("%s: %s", e.code, e.message)
        return int(e.exit)
    finally:
        lock.release()
    return 0


def holder(folder: RunFolder) -> Owner | None:
    with suppress(OSError, ValueError, KeyError):
        note = json.loads(folder.lock.read_bytes())
        return Owner(int(note["pid"]), str(note["since"]))
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv))
