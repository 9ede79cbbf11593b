"""Programs beside a run, with a program of our own in place of TensorBoard: on this machine, no network."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from urllib.request import urlopen

import pytest

from launcher import attend
from launcher.errors import LauncherError, Stopped
from launcher.remote.process import ProcessHost
from tests.contract.conftest import eventually

# Answers with its environment's word for the run, below a path that holds the secret.
SERVES = """
import http.server, os, sys
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if os.environ["WORD"] in self.path else 403)
        self.end_headers()
        self.wfile.write(os.environ.get("LAUNCHER_RUN", "").encode())
print("it serves", flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Page).serve_forever()
"""
SERVER = attend.Program(
    "server", "http", "nothing", "WORD", "{secret}/", ("@PYTHON@", "-c", SERVES, "@PORT@")
)


class Ear:
    def __init__(self) -> None:
        self.made: list[str] = []
        self.lines = b""

    def telling(self) -> attend.Telling:
        return attend.Telling(self.made.append, self.hears)

    def hears(self, data: bytes) -> None:
        self.lines += data


@pytest.fixture
def partner() -> Iterator[subprocess.Popen[bytes]]:
    """A process that stands for the agent."""
    process = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def place(tmp_path: Path, partner: subprocess.Popen[bytes]) -> Iterator[attend.Place]:
    mark = f"mark-{os.urandom(8).hex()}"
    yield attend.Place(
        host=ProcessHost(str(tmp_path)),
        python=sys.executable,
        pythons=("no-such-python", sys.executable),
        make=(sys.executable, "-c", "raise SystemExit('never to be asked')"),
        into=str(tmp_path / "envs"),
        cwd=str(tmp_path),
        env={"LAUNCHER_RUN": "fox-abcd"},
        mark=mark,
        lives_with=partner.pid,
    )
    for pid in marked(mark):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    eventually(lambda: not marked(mark))


def marked(mark: str) -> list[int]:
    """As the agent finds what it has to end."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            if f"LAUNCHER_INSTANCE={mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.append(int(pid))
    return found


def begun(place: attend.Place, program: attend.Program = SERVER, ear: Ear | None = None) -> attend.Running:
    return attend.begun(place, program, (ear or Ear()).telling(), lambda: None)


def asked(running: attend.Running, word: str | None = None) -> str:
    with urlopen(f"http://127.0.0.1:{running.port}/{word or running.secret}", timeout=10) as answer:
        return str(answer.read().decode())


def test_it_listens_on_the_loopback_and_opens_by_our_secret_alone(place: attend.Place) -> None:
    running = begun(place)
    assert not running.reused
    assert asked(running) == "fox-abcd"
    with pytest.raises(OSError, match="403"):
        asked(running, "guess")


def test_the_secret_stands_in_nobodys_words_and_in_private_files_only(
    place: attend.Place, tmp_path: Path
) -> None:
    running = begun(place)
    words = b"".join(Path(f"/proc/{pid}/cmdline").read_bytes() for pid in marked(place.mark))
    assert b"attendant.py" in words and running.secret.encode() not in words
    holding = [f for f in (tmp_path / "open").iterdir() if running.secret.encode() in f.read_bytes()]
    assert [f.name for f in holding] == ["server.json"]
    assert all(stat.S_IMODE(f.stat().st_mode) & 0o077 == 0 for f in (tmp_path / "open").iterdir())


def test_a_second_open_uses_it_again(place: attend.Place) -> None:
    first = begun(place)
    second = begun(place)
    assert (second.port, second.secret, second.reused) == (first.port, first.secret, True)


def test_it_carries_the_mark_and_goes_with_the_agent(
    place: attend.Place, partner: subprocess.Popen[bytes]
) -> None:
    running = begun(place)
    assert len(marked(place.mark)) == 2  # the attendant and its program
    partner.kill()
    partner.wait()
    eventually(lambda: not marked(place.mark))
    assert attend.running(place, SERVER) is None
    assert str(attend.gone(place, "server")) == "server on the run's machine is gone: the run has ended"
    with pytest.raises(OSError, match="refused"):
        asked(running)


def test_after_a_kill_of_all_of_it_a_new_one_is_begun(place: attend.Place) -> None:
    first = begun(place)
    for pid in marked(place.mark):
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not marked(place.mark))
    again = begun(place)
    assert not again.reused and again.secret != first.secret
    assert asked(again) == "fox-abcd"


def test_a_program_that_ends_is_told_with_its_own_last_words(place: attend.Place) -> None:
    code = "import os; print('reading', flush=True); raise SystemExit('no such log: ' + os.environ['WORD'])"
    failing = replace(SERVER, argv=("@PYTHON@", "-c", code))
    with pytest.raises(
        LauncherError, match=r"could not be started on this machine: .*no such log: …$"
    ) as told:
        begun(replace(place, where="this machine"), failing)
    assert told.value.code == "program-not-started"
    assert asked(begun(place)) == "fox-abcd"  # and what failed stands in nobody's way


def test_what_the_job_lacks_is_made_once_and_said_before(place: attend.Place, tmp_path: Path) -> None:
    words = tmp_path / "words.json"
    maker = f"""
import json, pathlib, sys
pathlib.Path({str(words)!r}).write_text(json.dumps([sys.argv[1:], open(sys.argv[4]).read()]))
print("Collecting", flush=True)
print(json.dumps({{"python": {sys.executable!r}}}))
"""
    lacking = replace(SERVER, module="surely_not_here", requirements="one>=1 two>=2")
    ear = Ear()
    running = begun(replace(place, make=(sys.executable, "-c", maker)), lacking, ear)
    assert asked(running) == "fox-abcd"
    assert ear.made == ["one>=1 two>=2"]
    argv, listed = json.loads(words.read_text())
    assert argv == ["--into", place.into, "--requirements", "server.txt", "--python", sys.executable]
    assert listed == "one>=1\ntwo>=2\n"


def test_an_environment_that_cannot_be_made_is_told(place: attend.Place) -> None:
    maker = "raise SystemExit('error: env-install: no index answers')"
    lacking = replace(SERVER, module="surely_not_here")
    with pytest.raises(LauncherError, match=r"no environment for server could be made: .*no index answers"):
        begun(replace(place, make=(sys.executable, "-c", maker)), lacking)


def test_where_there_is_no_python_it_says_which_were_looked_for(place: attend.Place) -> None:
    with pytest.raises(LauncherError, match="there is none of no-such-python here"):
        begun(replace(place, pythons=("no-such-python",)))


def test_files_name_the_jobs_own_python(place: attend.Place, tmp_path: Path) -> None:
    begun(
        replace(place, pythons=(sys.executable,)),
        replace(SERVER, files=(("kernels/k.json", "@JOB@ @SITE@"),)),
    )
    job, site = (tmp_path / "open" / "kernels" / "k.json").read_text().split()
    assert job == sys.executable and re.search(r"site-packages$", site)


def test_leaving_while_it_is_made_ready_leaves_at_once(place: attend.Place) -> None:
    def tick() -> None:
        raise Stopped("enough")

    with pytest.raises(Stopped):
        attend.begun(place, SERVER, Ear().telling(), tick)
    assert asked(begun(place)) == "fox-abcd"  # what was begun goes on, and is there


@pytest.mark.parametrize(
    ("prepared", "argv", "expected"),
    [
        (None, ("train.sh",), ("python3", "python")),
        (None, ("/opt/x/bin/python3.12", "t.py"), ("/opt/x/bin/python3.12", "python3", "python")),
        ("/envs/1/bin/python", ("python3", "t.py"), ("/envs/1/bin/python", "python3", "python")),
    ],
)
def test_the_jobs_own_python_comes_first(
    prepared: str | None, argv: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    assert attend.interpreters(prepared, argv) == expected


@pytest.mark.parametrize(
    "odd",
    [{"secret": "\x1b]0;owned\x07"}, {"port": "80"}, {"makes": None}, {"secret": "@elsewhere/"}, {"id": 7}],
)
def test_words_that_are_none_of_the_far_half_become_no_address(
    tmp_path: Path, odd: dict[str, object]
) -> None:
    right = {"id": "1", "state": "ready", "secret": "abc", "makes": "", "port": 1}
    file = tmp_path / attend.FOLDER / "server.json"
    file.parent.mkdir()
    host = ProcessHost(str(tmp_path))
    file.write_text(json.dumps(right))
    assert attend._state(host, "server") == right
    file.write_text(json.dumps(right | odd))
    assert attend._state(host, "server") is None
