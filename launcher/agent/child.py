"""Starting the trainer and whatever sets up its environment: environment, secrets, output files.

The trainer never sees our own limits nor a provider's key. Secrets come from a file that nobody else can
read and go only into the trainer's environment.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterable, Mapping

from .protocol import Job, Prepare, Refused
from .spool import Spool
from .tree import Tree

OURS = (
    "LAUNCHER_BOOT_LIMIT",
    "LAUNCHER_ENDS_",
    "LAUNCHER_HOLD",
    "LAUNCHER_BOOTED",
    "LAUNCHER_CONSOLE",
    "LAUNCHER_SPOOL",
    "RUNPOD_API_KEY",
    "AWS_",
)
DEVICE_WISHES = ("DEVICE", "RETRAINING_USE_GPU", "USE_GPU")  # what a trainer asks before it looks itself
TAIL_LINES = 20
TAIL_BYTES = 1 << 15


class CannotStart(Exception):
    def __init__(self, why: str, message: str) -> None:
        super().__init__(message)
        self.refused = Refused(why, message)


def start_trainer(job: Job, spool: Spool, tree: Tree) -> int:
    """The trainer's pid. Raises CannotStart."""
    if not job.argv or not job.argv[0]:
        raise CannotStart("no-command", "the job names no command")
    for folder in (job.output, job.checkpoint):
        if folder is not None:
            _make(spool, folder)
    env = environment(os.environ, job.env)
    if not any(name in env for name in DEVICE_WISHES):
        env["DEVICE"] = "auto"
    if job.secret_file is not None:
        env.update(_secrets(spool.at(job.secret_file)))
    return _spawn(job.argv, spool.at(job.cwd), env, spool.log, tree)


def start_preparation(wish: Prepare, spool: Spool, tree: Tree) -> int:
    if not wish.argv or not wish.argv[0]:
        raise CannotStart("no-command", "the preparation names no command")
    return _spawn(wish.argv, spool.at(wish.cwd), environment(os.environ, wish.env), spool.setup_log, tree)


def environment(own: Mapping[str, str], more: Iterable[tuple[str, str]]) -> dict[str, str]:
    kept = {name: value for name, value in own.items() if not name.startswith(OURS)}
    return {**kept, **dict(more)}


def outcome(status: int) -> tuple[int | None, int | None]:
    """(exit code, signal) of a wait status."""
    code = os.waitstatus_to_exitcode(status)
    return (code, None) if code >= 0 else (None, -code)


def tail(path: str, offset: int) -> tuple[str, ...]:
    """The last lines written since."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(offset, size - TAIL_BYTES))
            data = file.read(TAIL_BYTES)
    except OSError as fault:
        return (f"its output cannot be read: {fault.strerror}",)
    return tuple(data.decode(errors="replace").splitlines()[-TAIL_LINES:])


def size_of(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:  # not written yet
        return 0


def _make(spool: Spool, folder: str) -> None:
    path = spool.at(folder)
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as fault:
        raise CannotStart("no-folder", f"{folder}: {fault.strerror}") from fault
    if not spool.holds(path):
        raise CannotStart("no-folder", f"{folder} leads out of the run's own folder")


def _secrets(path: str) -> dict[str, str]:
    try:
        with open(path, "rb") as file:
            found = json.load(file)
    except OSError as fault:
        raise CannotStart("no-secret", f"the secrets cannot be read: {fault.strerror}") from fault
    except ValueError as fault:  # its words could hold what must not be said
        raise CannotStart("no-secret", "the secrets are no record") from fault
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise CannotStart("no-secret", "the secrets are no record of texts")
    return found


def _spawn(argv: tuple[str, ...], cwd: str, env: dict[str, str], log: str, tree: Tree) -> int:
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as fault:
        raise CannotStart("no-log", f"the log cannot be written: {fault.strerror}") from fault
    try:
        child = subprocess.Popen(
            argv,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=tree.bind(),  # noqa: PLW1509 - it makes two system calls and takes no lock
        )
    except (OSError, ValueError, subprocess.SubprocessError) as fault:
        reason = getattr(fault, "strerror", None) or "it cannot be run"
        place = getattr(fault, "filename", None)
        where = f" ({place})" if place and place != argv[0] else ""
        raise CannotStart("no-command", f"{argv[0]}: {reason}{where}") from fault
    finally:
        os.close(output)
    child.returncode = -signal.SIGKILL  # the tree buries it; this object must not wait for it, too
    return child.pid
