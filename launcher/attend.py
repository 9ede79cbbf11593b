"""Programs beside a run: TensorBoard and Jupyter on the run's machine, bound to its loopback.

This is the client's half: what is wished for, and waiting until it is there. The far half is
`remote/attendant.py`. A secret of ours is all that opens such a program; it travels in private files and in
the program's environment, never in words that others could list. Knows hosts, not terminals.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from launcher.codec import foreign_json
from launcher.errors import Exit, HostError, LauncherError, NoFile
from launcher.models import Json
from launcher.remote.base import Host, Tick

FOLDER = "open"
WORDS = ("id", "state", "secret", "makes")
LOOK_S = 0.2  # what is made far away is told by a file there
PATIENCE_S = 900.0  # an environment may have to be made
UNDER_WAY = ("preparing", "making", "starting")
SILENT_S = 20.0  # until the far half says its first word

# TensorBoard knows no secret; its pages lie below a path that only we know. Its quick loader would open a
# second port without any.
_BOARD = """
import os, sys
from absl import app
from tensorboard import default, main_lib, program
main_lib.global_init()
board = program.TensorBoard(plugins=default.get_plugins())
words = ["--logdir", sys.argv[1], "--host", "127.0.0.1", "--port", sys.argv[2], "--load_fast", "false"]
words += ["--reload_interval", "5", "--path_prefix", "/" + os.environ["LAUNCHER_OPEN_SECRET"]]
app.run(board.main, argv=["tensorboard", *words], flags_parser=board.configure)
"""
# A kernel of the job's own Python, with its own packages first: the notebook's lie behind them.
_KERNEL = """
import sys
sys.path.append("@SITE@")
from ipykernel import kernelapp
kernelapp.launch_new_instance()
"""


@dataclass(frozen=True)
class Program:
    name: str
    module: str
    requirements: str
    secret_in: str
    page: str  # where its first page lies, given the secret
    argv: tuple[str, ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    env: tuple[tuple[str, str], ...] = ()


def tensorboard(logs: str) -> Program:
    return Program(
        "tensorboard",
        "tensorboard",
        "tensorboard>=2.20",
        "LAUNCHER_OPEN_SECRET",
        "{secret}/",
        argv=("@PYTHON@", "-c", _BOARD, logs, "@PORT@"),
    )


def jupyter(folder: str, open_folder: str, run: str) -> Program:
    """`open_folder` keeps what it writes about itself: nothing of it lands in the user's own home."""
    own = f"{open_folder}/jupyter"
    kernel = {
        "argv": ["@JOB@", "-c", _KERNEL, "-f", "{connection_file}"],
        "display_name": f"Python of {run}",
        "language": "python",
    }
    flags = {
        "ip": "127.0.0.1",
        "port": "@PORT@",
        "port_retries": "0",
        "open_browser": "False",
        "root_dir": folder,
    }
    words = [f"--ServerApp.{name}={value}" for name, value in flags.items()]
    return Program(
        "jupyter",
        "jupyterlab",
        "jupyterlab>=4.4 ipykernel>=6.29",
        "JUPYTER_TOKEN",
        "lab?token={secret}",
        argv=(
            *("@PYTHON@", "-m", "jupyterlab", "--allow-root", *words),
            "--MultiKernelManager.default_kernel_name=run",
        ),
        files=(("jupyter/data/kernels/run/kernel.json", json.dumps(kernel)),),
        env=(
            ("JUPYTER_CONFIG_DIR", f"{own}/config"),
            ("JUPYTER_DATA_DIR", f"{own}/data"),
            ("JUPYTER_RUNTIME_DIR", f"{own}/runtime"),
            ("IPYTHONDIR", f"{own}/ipython"),
        ),
    )


@dataclass(frozen=True)
class Place:
    """Where a program shall run, and what it lives with."""

    host: Host
    python: str  # for the far half itself
    pythons: tuple[str, ...]  # which may have the program, the job's own first
    make: tuple[str, ...]  # makes environments there
    into: str
    cwd: str
    env: Mapping[str, str]
    mark: str = ""  # by it the agent finds what it has to end
    lives_with: int | None = None  # a process there: when it is gone, the program goes
    ends_at: float | None = None  # where that process cannot be seen
    where: str = "the run's machine"  # as a person is told


@dataclass(frozen=True)
class Running:
    port: int
    secret: str
    reused: bool


@dataclass
class Telling:
    """What a person is told while it takes long."""

    making: Callable[[str], None]
    line: Callable[[bytes], None]


def running(place: Place, program: Program) -> Running | None:
    """The program as it runs there already."""
    state = _state(place.host, program.name)
    if state is None or state["state"] != "ready" or not answers(place.host, int(state["port"])):
        return None
    return Running(int(state["port"]), str(state["secret"]), True)


def begun(place: Place, program: Program, telling: Telling, tick: Tick, *, port: int = 0) -> Running:
    """Started, and listening; what runs already is used again."""
    found = running(place, program)
    if found is not None:
        return found
    before = _state(place.host, program.name)
    id = _start(place, program, port)
    until, log, told = time.monotonic() + PATIENCE_S, 0, False
    quiet = time.monotonic() + SILENT_S
    while time.monotonic() < until:
        tick()
        state = _state(place.host, program.name)
        if state is None or (state == before and state["state"] not in UNDER_WAY):
            if time.monotonic() > quiet:
                raise _refused(place, program.name, "nothing was heard of it")
            time.sleep(LOOK_S)
            continue
        if state["makes"] and not told:
            telling.making(str(state["makes"]))
            told = True
        if state["state"] == "making":
            log += _show(place.host, f"{FOLDER}/{program.name}.log", log, telling.line)
        elif state["state"] == "ready" and answers(place.host, int(state["port"])):
            return Running(int(state["port"]), str(state["secret"]), state["id"] != id)
        elif state["state"] in ("failed", "ended"):
            raise _refused(place, program.name, str(state.get("said")))
        time.sleep(LOOK_S)
    raise _refused(place, program.name, f"it was not there after {PATIENCE_S / 60:.0f} min")


def gone(place: Place, name: str) -> LauncherError:
    """A program that ended while it was looked at, with what is known of its end."""
    state = _state(place.host, name) or {}
    return _no_program(f"{name} on {place.where} is gone: {state.get('said') or 'it has ended'}")


def _refused(place: Place, name: str, why: str) -> LauncherError:
    return _no_program(f"{name} could not be started on {place.where}: {why}")


def _no_program(told: str) -> LauncherError:
    return LauncherError("program-not-started", told, exit=Exit.PROVIDER, billed="as before: see status")


def _start(place: Place, program: Program, port: int) -> str:
    id, host = secrets.token_hex(8), place.host
    wish: Json = {
        "module": program.module,
        "pythons": list(place.pythons),
        "requirements": program.requirements,
        "make": list(place.make),
        "into": place.into,
        "argv": list(program.argv),
        "cwd": place.cwd,
        "files": dict(program.files),
        "env": {**place.env, **dict(program.env)},
        "secret": secrets.token_urlsafe(24).replace("-", "a").replace("_", "b"),
        "secret_in": program.secret_in,
        "mark": place.mark,
        "lives_with": place.lives_with,
        "ends_at": place.ends_at,
        "port": port,
    }
    source = resources.files("launcher.remote").joinpath("attendant.py").read_bytes()
    host.write(f"{FOLDER}/attendant.py", source)
    host.write(f"{FOLDER}/{program.name}.{id}.json", json.dumps(wish).encode())
    host.start([place.python, "-I", "attendant.py", program.name, id], cwd=FOLDER)
    return id


def _state(host: Host, name: str) -> dict[str, Any] | None:
    """What the far half wrote, if it is in its own words: it becomes an address here."""
    try:
        said = foreign_json(host.read(f"{FOLDER}/{name}.json"))
    except (NoFile, ValueError):
        return None
    if not isinstance(said, dict) or any(not isinstance(said.get(word), str) for word in WORDS):
        return None
    listens = said["state"] != "ready" or isinstance(said.get("port"), int)
    return said if listens and said["secret"].isalnum() and said["secret"].isascii() else None


def answers(host: Host, port: int) -> bool:
    """Whether something listens there."""
    try:
        host.connect(port).close()
    except HostError:
        return False
    return True


def _show(host: Host, path: str, offset: int, line: Callable[[bytes], None]) -> int:
    try:
        data = host.read(path, offset)
    except NoFile:
        return 0
    line(data)
    return len(data)


def interpreters(prepared: str | None, argv: Sequence[str]) -> tuple[str, ...]:
    """The environment that was made for the job, the Python it names, then the machine's own."""
    named = [argv[0]] if argv and argv[0].rsplit("/", 1)[-1].startswith("python") else []
    return tuple(dict.fromkeys([*([prepared] if prepared else []), *named, "python3", "python"]))
