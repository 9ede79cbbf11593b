"""Environments by digest, built by real processes from a folder of wheels made here."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shlex
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
START = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from launcher.agent.envs import main
sys.exit(main(sys.argv[1:]))
"""
PATH_WITHOUT_UV = "/usr/bin:/bin"


def wheel(folder: Path, name: str, version: str, says: str) -> Path:
    """A pure wheel of one module, as small as the format allows."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"SAYS = {says!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(text.encode())}\n"
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(made, "w") as out:
        for path, text in (files | {f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}).items():
            out.writestr(path, text)
    return made


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "my project"  # a space, as people's folders have
    wheel(folder / "wheels", "greeting", "1.0", "hello")
    wheel(folder / "wheels", "greeting", "2.0", "hello again")
    (folder / "requirements.txt").write_text("--no-index\n--find-links wheels\ngreeting==1.0  # pinned\n")
    return folder


@pytest.fixture
def envs(tmp_path: Path) -> Path:
    return tmp_path / "envs"


def command(envs: Path, *more: str) -> list[str]:
    return [sys.executable, "-I", "-c", START, "--into", str(envs), *more]


def environment(path: str = PATH_WITHOUT_UV) -> dict[str, str]:
    """No index but the one the requirement file names, whatever this machine's settings are."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))}
    return kept | {"PATH": path, "PIP_CONFIG_FILE": os.devnull, "PYTHONPATH": "/nowhere"}


def build(envs: Path, *more: str, path: str = PATH_WITHOUT_UV) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(envs, *more), capture_output=True, text=True, env=environment(path), timeout=60
    )


@contextmanager
def begun(envs: Path, *more: str, path: str = PATH_WITHOUT_UV) -> Iterator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command(envs, *more), stdout=pipe, stderr=pipe, text=True, env=environment(path)
    ) as builder:
        try:
            yield builder
        finally:
            builder.kill()  # says nothing to one that has ended


def with_tools(folder: Path) -> str:
    return f"{folder}:{PATH_WITHOUT_UV}"


def last_line(output: str) -> dict[str, object]:
    made: dict[str, object] = json.loads(output.splitlines()[-1])
    return made


def says(python: object) -> str:
    asked = [str(python), "-I", "-c", "import greeting; print(greeting.SAYS)"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


def left(envs: Path) -> list[str]:
    return sorted(child.name for child in envs.iterdir() if child.suffix != ".lock")


# built once, then found


def test_is_built_once_and_then_found(project: Path, envs: Path) -> None:
    first = build(envs, "--requirements", str(project / "requirements.txt"))
    assert first.returncode == 0, first.stderr
    made = last_line(first.stdout)
    assert made["made"] is True
    assert says(made["python"]) == "hello"
    assert "Successfully installed greeting-1.0" in first.stdout  # the installer's lines come along

    second = build(envs, "--project", str(project))
    assert last_line(second.stdout) == made | {"made": False}
    assert len(second.stdout.splitlines()) == 1
    assert left(envs) == [str(made["digest"])[:16]]


def test_another_set_gets_another_environment(project: Path, envs: Path) -> None:
    one = last_line(build(envs, "--project", str(project)).stdout)
    (project / "requirements.txt").write_text("--no-index\n--find-links wheels\ngreeting==2.0\n")
    two = last_line(build(envs, "--project", str(project)).stdout)
    assert (says(one["python"]), says(two["python"])) == ("hello", "hello again")


def test_two_builders_do_not_collide_and_the_second_uses_the_firsts_result(project: Path, envs: Path) -> None:
    with ExitStack() as stack:
        builders = [stack.enter_context(begun(envs, "--project", str(project))) for _ in range(3)]
        outputs = [builder.communicate(timeout=60)[0] for builder in builders]
    answers = [last_line(output) for output in outputs]
    assert sorted(bool(answer["made"]) for answer in answers) == [False, False, True]
    assert len({answer["python"] for answer in answers}) == 1


def test_an_environment_whose_python_vanished_is_made_anew(project: Path, envs: Path) -> None:
    made = last_line(build(envs, "--project", str(project)).stdout)
    python = Path(str(made["python"]))
    python.unlink()
    python.symlink_to("/nowhere/python3")
    assert last_line(build(envs, "--project", str(project)).stdout)["made"] is True
    assert says(python) == "hello"


# a stand-in for uv


UV = """#!/bin/sh
# Notes how it was called, makes environments with the standard library, installs nothing, and stands
# still in the middle of an installation as long as somebody holds the gate.
here=$(dirname "$0")
echo "$UV_PROJECT_ENVIRONMENT|$*" >>"$here/notes"
if [ "$1" = venv ]; then
  for last; do :; done
  exec {python} -I -m venv --without-pip "$last"
fi
[ -s "$here/breaks" ] && sed -i 1d "$here/breaks" && echo "error: $(cat "$here/breaks.words")" && exit 2
[ -p "$here/gate" ] || exit 0
: >"$(dirname "$(dirname "$4")")/half"
exec 3<"$here/gate"
echo at the gate
exec cat <&3
"""


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder for PATH in which there is a uv of ours."""
    folder = tmp_path / "tools"
    folder.mkdir()
    (folder / "uv").write_text(UV.format(python=shlex.quote(sys.executable)))
    (folder / "uv").chmod(0o755)
    return folder


def test_uv_is_used_when_it_is_there(project: Path, envs: Path, tools: Path) -> None:
    """How uv is called; that the calls mean what we think is seen where uv is installed."""
    plain = build(envs, "--project", str(project), path=with_tools(tools))
    assert plain.returncode == 0, plain.stderr
    python = Path(str(last_line(plain.stdout)["python"]))
    folder = python.parent.parent
    assert (tools / "notes").read_text().splitlines() == [
        f"|venv --no-project --python {sys.executable} {folder}",
        f"|pip install --python {python} -r {folder / 'requirements.txt'}",
    ]
    (tools / "notes").unlink()
    lock(project)
    locked = build(envs, "--project", str(project), path=with_tools(tools))
    assert locked.returncode == 0, locked.stderr
    folder = Path(str(last_line(locked.stdout)["python"])).parent.parent
    call = (tools / "notes").read_text().splitlines()[1]
    assert call.startswith(f"{folder}|sync --frozen --no-dev --no-install-project")


@pytest.mark.parametrize(
    ("breaks", "words", "status"),
    [(2, "Read timed out.", 0), (3, "Read timed out.", 3), (1, "no such package", 3)],
)
def test_a_line_that_breaks_in_the_middle_is_tried_again_and_nothing_else_is(
    project: Path, envs: Path, tools: Path, breaks: int, words: str, status: int
) -> None:
    (tools / "breaks").write_text("again\n" * breaks)
    (tools / "breaks.words").write_text(words)
    done = build(envs, "--project", str(project), path=with_tools(tools))
    assert done.returncode == status, done.stderr
    assert len((tools / "breaks").read_text().splitlines()) == 0
    assert done.stdout.count("the network broke off") == (2 if "timed" in words else 0)


# killed builds


@pytest.fixture
def stuck(project: Path, envs: Path, tools: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A builder in the middle of its build, and the handle that keeps it there."""
    os.mkfifo(tools / "gate")
    handle = os.open(tools / "gate", os.O_RDWR)
    with begun(envs, "--project", str(project), path=with_tools(tools)) as builder:
        assert builder.stdout is not None
        reached = "at the gate\n" in builder.stdout
        assert reached, builder.communicate()
        yield builder, handle


def test_a_killed_build_is_redone_and_never_used_while_its_installer_still_writes(
    stuck: tuple[subprocess.Popen[str], int], project: Path, envs: Path, tools: Path
) -> None:
    builder, handle = stuck
    builder.kill()
    builder.wait(timeout=30)
    (half,) = left(envs)
    assert (envs / half / "half").exists()

    (tools / "gate").unlink()  # the next one need not wait there
    with begun(envs, "--project", str(project), path=with_tools(tools)) as following:
        assert following.stdout is not None
        assert "waiting" in following.stdout.readline()  # the orphaned installer still holds the lock
        assert (envs / half / "half").exists()
        os.close(handle)
        output, errors = following.communicate(timeout=60)
    assert following.returncode == 0, errors
    assert output.startswith("clearing")
    assert last_line(output)["made"] is True
    assert not (envs / half / "half").exists()


def test_a_build_that_is_asked_to_leave_ends_its_installer_and_leaves_nothing(
    stuck: tuple[subprocess.Popen[str], int], envs: Path, tools: Path
) -> None:
    builder, handle = stuck
    builder.send_signal(signal.SIGTERM)
    assert builder.wait(timeout=30) == 143
    assert left(envs) == []
    os.close(handle)
    with pytest.raises(OSError, match="No such device"):  # nobody reads there: the installer is gone
        os.open(tools / "gate", os.O_WRONLY | os.O_NONBLOCK)


# refusals: status 3, one line


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 3, done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    return line


def test_a_set_that_cannot_be_resolved_is_named_and_leaves_nothing(project: Path, envs: Path) -> None:
    (project / "requirements.txt").write_text("--no-index\n--find-links wheels\ngreeting==9.9\n")
    line = refusal(build(envs, "--project", str(project)))
    assert line.startswith("error: env-install: requirements.txt failed with status 1")
    assert "greeting==9.9" in line
    assert left(envs) == []


@pytest.mark.parametrize("lacking", ["venv", "ensurepip"])
def test_a_python_without_venv_or_pip_is_told_what_to_install(
    lacking: str, project: Path, envs: Path, tmp_path: Path
) -> None:
    facts = {
        "identity": ["cpython-311", "3.11.2", "", "", "linux"],
        "pip": "",
        "venv": True,
        "ensurepip": True,
    }
    bare = tmp_path / "python3"  # answers as Debian's Python does without its package python3-venv
    bare.write_text(f"#!/bin/sh\necho {shlex.quote(json.dumps(facts | {lacking: False}))}\n")
    bare.chmod(0o755)
    line = refusal(build(envs, "--project", str(project), "--python", str(bare)))
    assert line.startswith("error: env-no-venv:")
    assert "apt-get install python3-venv" in line


def test_no_python_no_file_and_no_set_are_refused(project: Path, envs: Path, tmp_path: Path) -> None:
    given = ["--project", str(project)]
    assert "env-no-python" in refusal(build(envs, *given, "--python", "/nowhere/python"))
    assert "env-no-python" in refusal(build(envs, *given, "--python", "/bin/true"))
    assert "env-missing-file" in refusal(build(envs, "--requirements", str(tmp_path / "none.txt")))
    assert "env-nothing" in refusal(build(envs, "--project", str(tmp_path)))


def test_a_failing_setup_command_is_refused_with_its_last_word(
    project: Path, envs: Path, tools: Path
) -> None:
    def setup(*argv: str) -> str:
        given = ["--project", str(project), "--setup", json.dumps(argv)]
        return refusal(build(envs, *given, path=with_tools(tools)))

    assert setup("python", "-c", "import sys; print('no such luck'); sys.exit(4)") == (
        "error: env-setup: the setup command python failed with status 4: no such luck"
    )
    assert "env-setup" in setup("/nowhere/command")
    assert left(envs) == []


def test_a_folder_that_cannot_be_written_is_refused(project: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "env-disk" in refusal(build(tmp_path / "file" / "envs", "--project", str(project)))


def test_a_setup_command_that_is_no_list_is_wrong_usage(envs: Path) -> None:
    assert build(envs, "--setup", '"pip install x"').returncode == 2


# setup commands, pyproject.toml, uv


def test_a_setup_command_runs_in_the_environment_and_has_pip_there(project: Path, envs: Path) -> None:
    (project / "requirements.txt").unlink()
    setup = ["pip", "install", "--no-index", "--find-links", "wheels", "greeting==2.0"]
    done = build(envs, "--project", str(project), "--setup", json.dumps(setup))
    assert done.returncode == 0, done.stderr
    assert says(last_line(done.stdout)["python"]) == "hello again"


def test_the_dependencies_of_a_pyproject_are_installed(project: Path, envs: Path) -> None:
    (project / "requirements.txt").unlink()
    direct = (project / "wheels" / "greeting-2.0-py3-none-any.whl").as_uri()
    (project / "pyproject.toml").write_text(
        f'[project]\nname = "own"\ndependencies = ["greeting @ {direct}"]\n'
    )
    done = build(envs, "--project", str(project))
    assert done.returncode == 0, done.stderr
    assert says(last_line(done.stdout)["python"]) == "hello again"


def lock(project: Path) -> None:
    (project / "uv.lock").write_text("version = 1\n")
    (project / "pyproject.toml").write_text(
        '[project]\nname = "own"\nversion = "1"\ndependencies = ["greeting"]\n'
    )


def test_a_uv_lock_without_uv_is_refused(project: Path, envs: Path) -> None:
    lock(project)
    line = refusal(build(envs, "--project", str(project)))
    assert "env-needs-uv" in line
    assert "uv.lock" in line
