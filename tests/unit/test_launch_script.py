"""./launch on its own: a copy of it in a folder with spaces, a launcher that only tells what it was given,
and an installer that does what the test says. Nothing here needs a network, except the last test.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import Outcome, run_command, scrubbed

ROOT = Path(__file__).resolve().parents[2]
PYTHON = os.path.realpath(sys.executable)
TOOLS = ("sh", "cat", "mkdir", "rm", "readlink")

TELL = """
import json, os, sys
print(json.dumps({
    "argv": sys.argv[1:], "cwd": os.getcwd(), "prog": os.environ["LAUNCHER_PROG"], "path": os.environ["PATH"],
    "venv": os.environ.get("VIRTUAL_ENV"), "pythonpath": os.environ.get("PYTHONPATH"), "prefix": sys.prefix,
}))
sys.exit(int(sys.argv[2]) if sys.argv[1:2] == ["exit"] else 0)
"""

PYPROJECT = """
[project]
dependencies = ["core-thing"]
[project.optional-dependencies]
docker = ["docker-thing"]
ssh = ["ssh-thing"]
runpod = ["pod-thing"]
test = ["test-thing"]
dev = []
"""

# Stands where the real installer would: notes what it was asked for, waits when it is told to.
INSTALLER = """#!/bin/sh
here=${0%/*}
case "$1 $2" in
  --version*) exit 0 ;;
  "venv "*) for last; do :; done; "$here/python3" -I -m venv --without-pip "$last" ;;
  "pip "*)
    for last; do :; done
    { cat "$last"; echo; } >>"$here/installed"
    [ ! -p "$here/gate" ] || { echo >"$here/arrived"; cat "$here/gate"; } >/dev/null
    [ ! -e "$here/broken" ] || { echo "no answer from the index" >&2; exit 1; } ;;
esac
"""


@dataclass(frozen=True)
class Checkout:
    root: Path
    bin: Path

    @property
    def script(self) -> Path:
        return self.root / "launch"

    def env(self, **more: str) -> dict[str, str]:
        return scrubbed(self.root.parent, **{"PATH": str(self.bin), **more})

    def run(
        self, *args: str, cwd: Path | None = None, prog: str | None = None, timeout: float = 60, **env: str
    ) -> Outcome:
        argv = [prog or str(self.script), *args]
        return run_command(argv, cwd or self.root, self.env(**env), stdin="", timeout=timeout)

    def begin(self, *args: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.script, *args],
            env=self.env(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def installs(self) -> int:
        log = self.bin / "installed"
        return log.read_text().count("\n\n") if log.exists() else 0

    def program(self, name: str, text: str) -> None:
        path = self.bin / name
        path.unlink(missing_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def wait_for_installer(self) -> None:
        (self.bin / "arrived").read_text()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    root, tools = tmp_path / "내 project" / "repo", tmp_path / "bin"
    (root / "launcher").mkdir(parents=True)
    tools.mkdir()
    for name in ("launch", "constraints.txt"):
        shutil.copy(ROOT / name, root)
    (root / "pyproject.toml").write_text(PYPROJECT)
    (root / "launcher" / "__init__.py").touch()
    (root / "launcher" / "__main__.py").write_text(TELL)
    for tool in TOOLS:
        (tools / tool).symlink_to(shutil.which(tool) or tool)
    (tools / "python3").symlink_to(PYTHON)
    made = Checkout(root, tools)
    made.program("uv", INSTALLER)
    return made


@pytest.fixture
def ready(checkout: Checkout) -> Checkout:
    assert checkout.run("ps").code == 0
    return checkout


@pytest.fixture
def gate(checkout: Checkout) -> Iterator[Path]:
    """The installer waits here until somebody opens the gate for writing."""
    gate = checkout.bin / "gate"
    os.mkfifo(gate)
    os.mkfifo(checkout.bin / "arrived")
    yield gate
    gate.unlink(missing_ok=True)


def test_the_first_start_sets_up_and_runs_what_was_asked(checkout: Checkout, tmp_path: Path) -> None:
    done = checkout.run("run", "a b", "--", "*", cwd=tmp_path, VIRTUAL_ENV="/theirs", PYTHONPATH="/theirs")
    assert done.code == 0, done.stderr
    assert done.stderr.startswith("launch: setting up .venv")
    told = done.json()
    assert told["argv"] == ["run", "a b", "--", "*"]
    assert told["cwd"] == str(tmp_path)
    assert told["prefix"] == str(checkout.root / ".venv")
    assert (told["path"], told["venv"], told["pythonpath"]) == (str(checkout.bin), "/theirs", "/theirs")
    installed = (checkout.bin / "installed").read_text().split()
    assert installed == ["core-thing", "docker-thing", "ssh-thing", "pod-thing"]


def test_the_name_is_the_one_that_was_typed(ready: Checkout, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(Path("내 project") / "repo" / "launch")
    (tmp_path / "second").symlink_to(tmp_path / "link")
    assert ready.run("ps", cwd=ready.root, prog="./launch").json()["prog"] == "./launch"
    for typed in ("./link", "./second", "내 project/repo/launch"):
        told = ready.run("ps", cwd=tmp_path, prog=typed).json()
        assert (told["prog"], told["cwd"]) == (typed, str(tmp_path))


def test_a_second_start_is_silent_and_asks_no_other_python(ready: Checkout) -> None:
    for name in ("python3", "uv"):
        ready.program(name, '#!/bin/sh\necho called >"${0%/*}/called"\n')
    done = ready.run("ps")
    assert (done.code, done.stderr) == (0, "")
    assert not (ready.bin / "called").exists()


def test_the_status_of_the_command_is_the_status(ready: Checkout) -> None:
    assert ready.run("exit", "9").code == 9


def test_modules_of_the_caller_do_not_shadow_ours(ready: Checkout, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for name in ("launcher.py", "json.py"):
        (theirs / name).write_text("raise SystemExit('shadowed')")
    assert ready.run("ps", cwd=theirs, PYTHONPATH=str(theirs)).code == 0


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_changed_wishes_are_installed(ready: Checkout, name: str) -> None:
    with (ready.root / name).open("a") as file:
        file.write("# changed\n")
    assert ready.run("ps").code == 0
    assert ready.run("ps").stderr == ""
    assert ready.installs() == 2


def test_a_moved_checkout_is_set_up_again(ready: Checkout) -> None:
    moved = Checkout(ready.root.rename(ready.root.with_name("moved")), ready.bin)
    assert moved.run("ps").json()["prefix"] == str(moved.root / ".venv")
    assert ready.installs() == 2


def test_a_vanished_python_is_replaced(ready: Checkout) -> None:
    python = ready.root / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python3")
    assert ready.run("ps").code == 0


def test_a_failed_set_up_says_so_and_is_taken_up_again(checkout: Checkout) -> None:
    (checkout.bin / "broken").touch()
    done = checkout.run("ps")
    assert (done.code, done.stdout) == (2, "")
    assert "no answer from the index" in done.stderr
    assert "the next start takes it up again" in done.stderr.splitlines()[-1]
    (checkout.bin / "broken").unlink()
    assert checkout.run("ps").code == 0


def test_a_killed_set_up_is_done_again_from_nothing(checkout: Checkout, gate: Path) -> None:
    start = checkout.begin("ps")
    checkout.wait_for_installer()
    (checkout.root / ".venv" / "half-installed").touch()
    os.killpg(start.pid, signal.SIGKILL)
    start.communicate()
    gate.unlink()
    assert checkout.run("ps").code == 0
    assert not (checkout.root / ".venv" / "half-installed").exists()
    assert checkout.installs() == 2


def test_two_first_starts_do_the_work_once(checkout: Checkout, gate: Path) -> None:
    first = checkout.begin("ps", "first")
    checkout.wait_for_installer()
    second = checkout.begin("ps", "second")
    assert second.stderr is not None
    assert "another start is setting up" in second.stderr.readline()
    gate.write_text("")
    for start, name in ((first, "first"), (second, "second")):
        out, _ = start.communicate(timeout=30)
        assert start.returncode == 0
        assert json.loads(out)["argv"] == ["ps", name]
    assert checkout.installs() == 1


def test_test_adds_its_libraries_and_runs_the_suite_where_it_lies(ready: Checkout, tmp_path: Path) -> None:
    (ready.root / "pytest.py").write_text("import os, sys\nprint(os.getcwd(), sys.argv[1:])\nsys.exit(5)\n")
    done = ready.run("test", "-k", "a b", cwd=tmp_path)
    assert (done.code, done.stdout.strip()) == (5, f"{ready.root} ['-k', 'a b']")
    assert (ready.bin / "installed").read_text().split()[-1] == "test-thing"
    assert ready.run("test").stderr == ""
    assert ready.run("ps").stderr == "", "the plain command is ready with it"


def test_an_old_python_is_told_in_one_line(checkout: Checkout) -> None:
    checkout.program("python3", '#!/bin/sh\n[ "$1" = -c ] && echo "only Python 3.9"\n')
    done = checkout.run("ps")
    assert (done.code, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "needs Python 3.11 or newer" in line
    assert "only Python 3.9" in line
    assert "apt-get install python3" in line


def test_no_python_is_told_in_one_line(checkout: Checkout) -> None:
    (checkout.bin / "python3").unlink()
    done = checkout.run("ps")
    assert done.code == 2
    assert "found none" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("module", ["venv", "ensurepip"])
def test_a_python_that_makes_no_environments_is_told_in_one_line(checkout: Checkout, module: str) -> None:
    (checkout.bin / "uv").unlink()
    lacking = f'case "$*" in *" {module}"*) exit 1 ;; esac'
    checkout.program("python3", f'#!/bin/sh\n{lacking}\nexec {PYTHON} "$@"\n')
    done = checkout.run("ps")
    assert done.code == 2
    (line,) = done.stderr.splitlines()
    assert f"apt-get install python{sys.version_info[0]}.{sys.version_info[1]}-venv" in line
    assert "has no venv or no pip" in line


def test_an_empty_name_of_a_newer_python_is_passed_over(checkout: Checkout) -> None:
    checkout.program("python3.14", "#!/bin/sh\necho 'not installed' >&2\nexit 127\n")
    assert checkout.run("ps").code == 0


@pytest.mark.alone
def test_the_second_start_costs_at_most_a_tenth_of_a_second(ready: Checkout) -> None:
    bare = [str(ready.root / ".venv" / "bin" / "python"), "-I", "-m", "launcher", "ps"]
    walls: dict[str, list[float]] = {"bare": [], "launch": []}
    for _ in range(9):
        for name, argv in (("bare", bare), ("launch", [str(ready.script), "ps"])):
            began = time.perf_counter()
            run_command(argv, ready.root, ready.env(LAUNCHER_PROG="x"), stdin="", timeout=60)
            walls[name].append(time.perf_counter() - began)
    assert statistics.median(walls["launch"]) - statistics.median(walls["bare"]) <= 0.1


@pytest.mark.slow
@pytest.mark.need("network")
@pytest.mark.timeout(400)
def test_with_pip_alone_the_real_lists_install(checkout: Checkout) -> None:
    (checkout.bin / "uv").unlink()
    shutil.copy(ROOT / "pyproject.toml", checkout.root)
    done = checkout.run("ps", timeout=240)  # real packages by a real line: how long is not asked here
    assert done.code == 0, done.stderr
    listing = [str(checkout.root / ".venv" / "bin" / "python"), "-I", "-m", "pip", "list", "--format=freeze"]
    installed = run_command(listing, checkout.root, checkout.env(), stdin="", timeout=60).stdout.split()
    pins = set((ROOT / "constraints.txt").read_text().split("\n"))
    ours = [line for line in installed if not line.startswith(("pip==", "setuptools=="))]
    assert set(ours) <= pins
    assert 10 <= len(ours) <= 30  # core, and the ways to Docker, SSH and a rented pod
