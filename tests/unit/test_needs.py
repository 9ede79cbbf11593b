"""The suite's own promise: nothing is left out silently, and what is demanded must be there."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests import conftest, needs
from tests.emulators import tally

NOWHERE = "unix:///nowhere/docker.sock"


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A suite of its own with the real machinery and no engine script."""
    tests = tmp_path / "tests"
    tests.mkdir()
    for file in (conftest.__file__, needs.__file__):
        shutil.copy(file, tests)
    config = (
        "[pytest]\npythonpath = .\naddopts = --import-mode=importlib -p no:cacheprovider\nmarkers = need: x\n"
    )
    (tmp_path / "pytest.ini").write_text(config)
    return tmp_path


def run(suite: Path, body: str, *how: str, **env: str) -> conftest.Outcome:
    (suite / "tests" / "test_it.py").write_text("import pytest\n" + body)
    command = [sys.executable, "-I", "-m", "pytest", "-q", *how]
    return conftest.run_command(
        command, suite, conftest.scrubbed(suite, DOCKER_HOST=NOWHERE, **env), stdin="", timeout=60
    )


CLOUD = """
from tests.emulators import tally
class Cloud: heard, offences, faulty_answers = [1, 2], {offences}, []
def test_it(): tally.begin(Cloud())
"""


@pytest.mark.parametrize("how", [(), ("-n", "1")], ids=["alone", "beside"])
def test_a_session_fails_for_what_clients_of_emulated_clouds_did_wrong(
    suite: Path, how: tuple[str, ...]
) -> None:
    (suite / "tests" / "emulators").mkdir()
    shutil.copy(tally.__file__, suite / "tests" / "emulators")
    good = run(suite, CLOUD.format(offences=[]), *how)
    assert good.code == 0, good.stdout
    assert "emulated clouds: 2 requests heard, 0 client violations\n" in good.stdout
    bad = run(suite, CLOUD.format(offences=["list: nobody reads that"]), *how)
    assert bad.code == 1 and "1 passed" in bad.stdout
    assert "2 requests heard, 1 client violations\n  list: nobody reads that\n" in bad.stdout


NEEDS_DOCKER = '@pytest.mark.need("docker")\ndef test_it(): raise AssertionError("ran")\n'


def test_a_missing_need_is_left_out_and_named_in_the_last_line(suite: Path) -> None:
    done = run(suite, NEEDS_DOCKER + "def test_other(): pass\n")
    assert done.code == 0, done.stdout
    last = done.stdout.splitlines()[-1]
    assert last.startswith("left out: docker (1 test); bring it: ")
    assert last.endswith("LAUNCHER_TEST_NEED=docker ./launch test")


def test_a_demanded_need_that_is_missing_is_a_failure(suite: Path) -> None:
    done = run(suite, NEEDS_DOCKER, LAUNCHER_TEST_NEED="docker")
    assert done.code == 1
    assert "docker was demanded: " in done.stdout


def test_nothing_left_out_is_said_too(suite: Path) -> None:
    done = run(suite, "def test_it(): pass\n")
    assert (done.code, done.stdout.splitlines()[-1]) == (0, "left out: nothing")


@pytest.mark.parametrize(
    "body", ["def test_it(): pytest.skip('no')\n", "pytest.importorskip('no_such_module')\n"]
)
def test_any_other_skip_is_a_failure(suite: Path, body: str) -> None:
    done = run(suite, body)
    assert done.code != 0
    assert "nobody would count it" in done.stdout


@pytest.mark.parametrize(
    ("body", "demanded"), [(NEEDS_DOCKER.replace("docker", "dcoker"), ""), (NEEDS_DOCKER, "dcoker")]
)
def test_a_misspelt_need_stops_the_run(suite: Path, body: str, demanded: str) -> None:
    done = run(suite, body, LAUNCHER_TEST_NEED=demanded)
    assert done.code == pytest.ExitCode.USAGE_ERROR
    assert "dcoker" in done.stderr


def test_the_line_to_paste_installs_only_what_is_absent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for program in ("dockerd", "debootstrap"):
        (tmp_path / program).touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert needs.last_line({"docker": 2}) == (
        "left out: docker (2 tests); bring it: LAUNCHER_TEST_NEED=docker ./launch test"
    )


def test_what_no_line_can_bring_is_told_in_words() -> None:
    assert needs.last_line({"gpu": 1}) == (
        "left out: gpu (1 test); bring it: gpu wants a machine with an NVIDIA GPU"
    )
    assert "LAUNCHER_TEST_NEED=sshd ./launch test; gpu wants" in needs.last_line({"gpu": 1, "sshd": 1})


def test_an_engine_that_is_no_engine_is_not_taken_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", NOWHERE)
    assert NOWHERE in str(needs.docker_missing())
    monkeypatch.setenv("DOCKER_HOST", "nonsense")
    assert needs.docker_missing() is not None
