"""Environments by digest: the same requirement set on the same Python is installed once and shared.

    python3 agent.pyz env --into ENVS (--requirements FILE | --project DIR) [--python PY] [--setup JSON_ARGV]

Prints the installer's lines as they come and, last, `{"python", "digest", "made"}`. Status 3 with one line
on stderr when no environment can be made. Standard library only, imports nothing of ours; knows nothing
of runs, and what is in a set is reqset's matter.

A virtual environment cannot be moved, so it is built where it stays and counts only once it is marked; an
unmarked one is what a killed build left, and is made anew. The lock is held by the builder *and* by its
installer: should only the builder die, nobody builds into a folder that is still being written.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

from .reqset import EnvError, Wanted, read, tree_digest

FAILED = 3
MARK = ".complete"
KEPT_LINES = 20
FETCHES = 3
# What pip and uv say last of a line that broke in the middle of a file, which neither takes up again.
BROKEN_LINE = (
    "Read timed out",
    "IncompleteRead",
    "Connection reset",
    "Connection broken",
    "decoding response",
)
OUT_OF_THE_WAY = 64  # the lock's descriptor: a shell script that opens 3 or 9 must not close it by that
PIP_WITH_PYTHON_OPTION = (22, 3)
# Would lead the installer elsewhere, or the new environment's Python astray.
MISLEADING = ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "PIP_TARGET", "PIP_PREFIX", "PIP_USER", "PIP_PYTHON")
# Printed by the Python that the environment is for: what it is, and what it could build one with.
FACTS = """
import importlib.util, json, sys, sysconfig
has = lambda name: importlib.util.find_spec(name) is not None
pip = __import__("pip").__version__ if has("pip") else ""
print(json.dumps({"identity": [sys.implementation.cache_tag, sys.version.split()[0], sys.abiflags,
    getattr(sys.implementation, "_multiarch", ""), sysconfig.get_platform()],
    "pip": pip, "venv": has("venv"), "ensurepip": has("ensurepip")}))
"""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Made:
    python: str
    digest: str
    made: bool  # False: it was there already


@dataclass(frozen=True)
class Order:
    wanted: Wanted
    python: str
    into: Path
    setup: tuple[str, ...] = ()
    project: Path | None = None


def make(order: Order, say: Say) -> Made:
    """The environment of an order, built unless it is there; raises EnvError, or OSError for the disk."""
    digest = digest_of(order)
    folder = order.into / digest[:16]
    python = folder / "bin" / "python"
    if _usable(folder):
        return Made(str(python), digest, False)
    order.into.mkdir(parents=True, exist_ok=True)
    with _locked(order.into / f"{digest[:16]}.lock", say) as lock:
        if _usable(folder):
            return Made(str(python), digest, False)
        if folder.exists():
            say("clearing what an interrupted build left")
            shutil.rmtree(folder)
        try:
            _build(order, folder, _Installer(order, lock, say))
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)  # unmarked, so what cannot be removed is never used
            raise
        _mark(folder, {"digest": digest, "wanted": order.wanted.identity, "setup": order.setup})
    return Made(str(python), digest, True)


def digest_of(order: Order) -> str:
    """A setup command may read anything in the project, so then the project's bytes count too."""
    parts: list[object] = [
        "environment 1",
        _identity(order.python),
        order.wanted.locked,
        order.wanted.identity,
    ]
    if order.setup:
        parts += [order.setup, tree_digest(order.project) if order.project else ""]
    return hashlib.sha256(json.dumps(parts).encode("utf-8", "surrogateescape")).hexdigest()


def _identity(python: str) -> list[str]:
    if python != sys.executable:
        return list(_facts(python).identity)
    machine = getattr(sys.implementation, "_multiarch", "")
    version = sys.version.split()[0]
    return [str(sys.implementation.cache_tag), version, sys.abiflags, machine, sysconfig.get_platform()]


@dataclass(frozen=True)
class _Facts:
    identity: tuple[str, ...]
    pip: str  # its version; empty: none
    venv: bool
    ensurepip: bool


def _facts(python: str) -> _Facts:
    try:
        asked = subprocess.run([python, "-I", "-c", FACTS], capture_output=True, text=True, timeout=30)
        told = json.loads(asked.stdout)
        return _Facts(tuple(told["identity"]), told["pip"], told["venv"], told["ensurepip"])
    except (OSError, ValueError, TypeError, KeyError, subprocess.TimeoutExpired) as wrong:
        raise EnvError("env-no-python", f"{python} cannot be used as Python: {wrong}") from wrong


def _usable(folder: Path) -> bool:
    """Marked, and the Python it was made from is still there (an upgrade of the system may take it away)."""
    return (folder / MARK).is_file() and (folder / "bin" / "python").exists()


def _mark(folder: Path, held: Mapping[str, object]) -> None:
    os.sync()  # the installer syncs nothing, and a mark must not outlive what it vouches for
    beside = folder / f"{MARK}.new"
    with open(beside, "w", encoding="utf-8") as out:
        json.dump(held, out)
        out.flush()
        os.fsync(out.fileno())
    os.replace(beside, folder / MARK)


@contextmanager
def _locked(path: Path, say: Say) -> Iterator[int]:
    low = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    handle = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, OUT_OF_THE_WAY)
    os.close(low)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("the same environment is being built already; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle
    finally:
        os.close(handle)


def _build(order: Order, folder: Path, installer: _Installer) -> None:
    wanted, uv = order.wanted, shutil.which("uv")
    if wanted.locked and uv is None:
        raise EnvError("env-needs-uv", f"{wanted.source} can only be installed by uv, which is not on PATH")
    if uv is not None:
        _with_uv(uv, order, folder, installer)
    else:
        _with_pip(order, folder, installer)
    if order.setup:
        installer.run(order.setup, "env-setup", f"the setup command {order.setup[0]}", inside=folder)


def _with_uv(uv: str, order: Order, folder: Path, installer: _Installer) -> None:
    wanted, python = order.wanted, str(folder / "bin" / "python")
    seed = ["--seed"] if order.setup else []  # a setup command may well call pip
    installer.run(
        [uv, "venv", "--no-project", *seed, "--python", order.python, str(folder)], "env-create", "uv venv"
    )
    if wanted.locked and wanted.source:
        sync = [uv, "sync", "--frozen", "--no-dev", "--no-install-project", "--inexact"]
        sync += ["--project", str(wanted.source.parent), "--python", python]
        installer.fetch(sync, wanted.source.name, UV_PROJECT_ENVIRONMENT=str(folder))
    elif wanted.lines:
        listed = _write_lines(wanted, folder)
        installer.fetch([uv, "pip", "install", "--python", python, "-r", listed], _name(wanted))


def _with_pip(order: Order, folder: Path, installer: _Installer) -> None:
    """A pip that lies outside is quicker and leaves the environment smaller; else each gets its own."""
    facts = _facts(order.python)
    outside = _version(facts.pip) >= PIP_WITH_PYTHON_OPTION and not order.setup
    if not facts.venv or not (outside or facts.ensurepip):
        lacks = "pip" if facts.venv else "venv"
        version = ".".join(facts.identity[1].split(".")[:2])
        raise EnvError(
            "env-no-venv",
            f"{order.python} cannot make environments (it has no {lacks}); install it"
            f" (Debian, Ubuntu: apt-get install python3-venv, or python{version}-venv) or put uv on PATH",
        )
    without = ["--without-pip"] if outside else []
    installer.run([order.python, "-I", "-m", "venv", *without, str(folder)], "env-create", "python -m venv")
    if not order.wanted.lines:
        return
    inside = str(folder / "bin" / "python")
    pip = [order.python, "-I", "-m", "pip", "--python", inside] if outside else [inside, "-I", "-m", "pip"]
    flags = ["--no-input", "--disable-pip-version-check", "--no-compile", "--progress-bar", "off"]
    listed = _write_lines(order.wanted, folder)
    installer.fetch([*pip, "install", *flags, "-r", listed], _name(order.wanted))


def _write_lines(wanted: Wanted, folder: Path) -> str:
    path = folder / "requirements.txt"
    path.write_text("".join(f"{line}\n" for line in wanted.lines), encoding="utf-8")
    return str(path)


def _name(wanted: Wanted) -> str:
    return wanted.source.name if wanted.source else "nothing"


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdecimal())


@dataclass(frozen=True)
class _Installer:
    order: Order
    lock: int
    say: Say

    def fetch(self, argv: Sequence[str], what: str, **extra: str) -> None:
        """A line that breaks in the middle of a file ends pip, and a run that is paid for with it: what had
        come is kept by both installers, so another try is short."""
        for left in reversed(range(FETCHES)):
            try:
                self.run(argv, "env-install", what, None, **extra)
                break
            except EnvError as e:
                if not left or not any(words in str(e) for words in BROKEN_LINE):
                    raise
                self.say(f"the network broke off, once more: {e}")

    def run(
        self, argv: Sequence[str], code: str, what: str, inside: Path | None = None, **extra: str
    ) -> None:
        """Passes a command's lines on as they come; its last ones become the error's words."""
        env = {name: value for name, value in os.environ.items() if name not in MISLEADING} | extra
        if inside is not None:
            env |= {
                "VIRTUAL_ENV": str(inside),
                "PATH": f"{inside / 'bin'}{os.pathsep}{env.get('PATH', os.defpath)}",
            }
        source = self.order.wanted.source
        cwd = self.order.project or (source.parent if source else None)
        try:
            child = subprocess.Popen(
                list(argv), cwd=cwd, env=env, pass_fds=(self.lock,), stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace",
            )  # fmt: skip
        except OSError as wrong:
            raise EnvError(code, f"{what} could not be started: {wrong}") from wrong
        last: deque[str] = deque(maxlen=KEPT_LINES)
        try:
            for line in child.stdout or ():
                self.say(line.rstrip())
                last.append(line.rstrip())
            status = child.wait()
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
            if child.stdout:
                child.stdout.close()
        if status:
            raise EnvError(code, f"{what} failed with status {status}: {_reason(last)}")


def _reason(last: Sequence[str]) -> str:
    """pip says what went wrong in a line of its own and goes on with advice."""
    errors = [line for line in last if line.lower().startswith("error:")]
    spoken = errors or [line for line in last if line.strip()] or ["it said nothing"]
    return spoken[-1].strip()


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    flags = argparse.ArgumentParser(prog="agent env", description="Make an environment, or find it made.")
    flags.add_argument("--requirements", type=Path, help="requirements.txt, pyproject.toml or uv.lock")
    flags.add_argument(
        "--project", type=Path, help="folder that holds one of them, and a setup command's folder"
    )
    flags.add_argument("--into", type=Path, required=True, help="folder of all environments")
    flags.add_argument("--python", default=sys.executable, help="the Python it is for")
    flags.add_argument(
        "--setup", type=_argv, default=(), help="a command to run in it afterwards, as JSON list"
    )
    return flags.parse_args(argv)


def _argv(text: str) -> tuple[str, ...]:
    words = json.loads(text)
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        raise ValueError(text)
    return tuple(words)


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def main(argv: Sequence[str]) -> int:
    given = _arguments(argv)
    signal.signal(signal.SIGTERM, _leave)
    try:
        wanted = read(given.requirements, given.project)
        if wanted.source is None and not given.setup:
            raise EnvError("env-nothing", "no requirements file was given or found, and no setup command")
        into = Path(os.path.abspath(given.into))
        order = Order(wanted, given.python, into, given.setup, given.project)
        made = make(order, lambda line: print(line, flush=True))
    except EnvError as wrong:
        print(f"error: {wrong.code}: {wrong}", file=sys.stderr, flush=True)
        return FAILED
    except OSError as wrong:
        print(f"error: env-disk: {wrong}", file=sys.stderr, flush=True)
        return FAILED
    print(json.dumps(asdict(made)), flush=True)
    return 0
