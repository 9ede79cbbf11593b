"""What every test may use, and the one way to be left out: @pytest.mark.need("docker").

Without the need a test is left out, counted and named in the last line of the run; with the need named in
LAUNCHER_TEST_NEED the same hole is a failure. Any other skip is a failure too: it would be a silent one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import hypothesis
import pytest

from tests import needs

LEFT_OUT = pytest.StashKey[Counter[str]]()
BY_NEED = pytest.StashKey[bool]()
LEFT_OUT_BY = "left out by"
DEMANDED = pytest.StashKey[frozenset[str]]()

# What a child may know of the caller: enough to find programs, measure coverage and reach the engine.
KEPT = ("PATH", "TMPDIR", "DOCKER_HOST", "SSL_CERT_FILE", "SSL_CERT_DIR")
KEPT_PREFIXES = ("COVERAGE_", "PIP_", "UV_")


# How long an example takes is not asked anywhere: a busy core may let any of them wait.
hypothesis.settings.register_profile(
    "unhurried",
    hypothesis.settings.default,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("unhurried")


def pytest_configure(config: pytest.Config) -> None:
    demanded = frozenset(filter(None, os.environ.get("LAUNCHER_TEST_NEED", "").split(",")))
    _ask_for_no_proxy_of_the_engine()
    if unknown := demanded - needs.NEEDS.keys():
        raise pytest.UsageError(
            f"LAUNCHER_TEST_NEED: {', '.join(sorted(unknown))}? known: {', '.join(needs.NEEDS)}"
        )
    config.stash[DEMANDED] = demanded
    config.stash[LEFT_OUT] = Counter[str]()
    config.pluginmanager.register(LeftOut(config.stash[LEFT_OUT]))


def _ask_for_no_proxy_of_the_engine() -> None:
    """The Docker SDK looks for one through the whole environment at each call, also in threads, and pytest
    writes into that environment: a name may be gone while it looks. Told of this host, it does not look."""
    known = os.environ.get("no_proxy", os.environ.get("NO_PROXY", ""))
    os.environ["no_proxy"] = ",".join(filter(None, (known, "localhost")))


def _needs_of(item: pytest.Item) -> list[str]:
    return [name for mark in item.iter_markers("need") for name in mark.args]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if unknown := set(_needs_of(item)) - needs.NEEDS.keys():
            raise pytest.UsageError(f"{item.nodeid}: nobody knows how to bring {', '.join(sorted(unknown))}")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    for name in _needs_of(item):
        demanded = name in item.config.stash[DEMANDED]
        why = needs.why_missing(name, demanded)
        if why is None:
            continue
        if demanded:
            pytest.fail(f"{name} was demanded: {why}", pytrace=False)
        item.stash[BY_NEED] = True
        item.user_properties.append((LEFT_OUT_BY, name))
        pytest.skip(f"needs {name}: {why}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and not item.stash.get(BY_NEED, False):
        report.outcome = "failed"
        report.longrepr = (
            f"skipped without @pytest.mark.need, so nobody would count it: {report.longreprtext}"
        )
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.outcome == "skipped":
        report.outcome = "failed"
        report.longrepr = f"a whole file skipped itself, so nobody would count it: {report.longreprtext}"
    return report


class LeftOut:
    """Reports reach the process that prints also from those that run tests beside it."""

    def __init__(self, left_out: Counter[str]) -> None:
        self._left_out = left_out

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "setup":
            self._left_out.update(str(name) for key, name in report.user_properties if key == LEFT_OUT_BY)


# --- what emulated clouds heard: over the whole session, in this process and in those beside it -----------

EMULATED = pytest.StashKey[list[tuple[int, list[str]]]]()
WORKER_TOLD = "emulated"


def _emulated() -> tuple[int, list[str]]:
    """Nothing is loaded for it: a session that met no cloud has nothing to tell."""
    tally = sys.modules.get("tests.emulators.tally")
    found: tuple[int, list[str]] = tally.counted() if tally is not None else (0, [])
    return found


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    told = getattr(node, "workeroutput", {}).get(WORKER_TOLD, [0, []])
    node.config.stash.setdefault(EMULATED, []).append((told[0], told[1]))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A violation that no test has claimed fails the session, also where nobody looked."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:  # this process runs tests for another one
        output[WORKER_TOLD] = _emulated()
        return
    told = [*session.config.stash.get(EMULATED, []), _emulated()]
    session.config.stash[EMULATED] = told
    if any(violations for _, violations in told) and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    told = config.stash.get(EMULATED, [])
    requests, violations = sum(n for n, _ in told), [line for _, lines in told for line in lines]
    if requests or violations:
        terminalreporter.write_line(
            f"emulated clouds: {requests} requests heard, {len(violations)} client violations"
        )
    for line in violations[:20]:
        terminalreporter.write_line(f"  {line}")


def pytest_unconfigure(config: pytest.Config) -> None:
    if not config.option.collectonly and LEFT_OUT in config.stash:
        left_out = config.stash[LEFT_OUT]
        config.get_terminal_writer().line(needs.last_line(left_out))


LEAVES_S = 20.0


@pytest.fixture(scope="session", autouse=True)
def nobody_stays() -> Iterator[None]:
    """What a host of this machine began and let go of has ended by itself once all tests have: whoever has
    not is named, and nobody is left for Python to complain of when it ends."""
    yield
    begun = sys.modules.get("launcher.remote.process")
    for process in begun._DETACHED if begun is not None else ():
        process.wait(LEAVES_S)


@dataclass(frozen=True)
class Outcome:
    """What a command left: its exit status and both streams."""

    code: int
    stdout: str
    stderr: str

    def json(self) -> Any:
        return json.loads(self.stdout)


class Cli(Protocol):
    def __call__(
        self, *args: str, cwd: Path | None = None, stdin: str = "", timeout: float = 60, **env: str
    ) -> Outcome: ...


def scrubbed(home: Path, **env: str) -> dict[str, str]:
    """An environment with nothing of the caller's own life in it: no keys, no settings, no home."""
    kept = {k: v for k, v in os.environ.items() if k in KEPT or k.startswith(KEPT_PREFIXES)}
    ours = {"HOME": str(home), "LAUNCHER_HOME": str(home / "launcher"), "LANG": "C.UTF-8", "TERM": "dumb"}
    return {**kept, **ours, **env}


def run_command(argv: list[str], cwd: Path, env: Mapping[str, str], stdin: str, timeout: float) -> Outcome:
    done = subprocess.run(
        argv, cwd=cwd, env=dict(env), input=stdin, capture_output=True, encoding="utf-8", timeout=timeout
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of the test's own, for code called here and for commands alike."""
    folder = tmp_path / "home" / "launcher"
    folder.mkdir(parents=True)
    monkeypatch.setenv("LAUNCHER_HOME", str(folder))
    return folder


@pytest.fixture
def cli(home: Path, tmp_path: Path) -> Cli:
    """The real command in a process of its own, in an empty folder unless told otherwise."""
    work = tmp_path / "work"
    work.mkdir()

    def call(
        *args: str, cwd: Path | None = None, stdin: str = "", timeout: float = 60, **env: str
    ) -> Outcome:
        command = [sys.executable, "-I", "-m", "launcher", *args]
        return run_command(command, cwd or work, scrubbed(home.parent, **env), stdin, timeout)

    return call
