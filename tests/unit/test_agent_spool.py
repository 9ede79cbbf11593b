"""Whole lines out, whole commands in; one reproducible file; small pieces of the loop."""

from __future__ import annotations

import io
import json
import resource
import subprocess
import sys
import zipfile
from pathlib import Path

from launcher.agent.background import Background
from launcher.agent.clock import boot_name, epoch, iso
from launcher.agent.spool import Inbox, Lines, Spool
from launcher.agentpack import agent_bytes, boot_guard


def test_a_torn_line_of_an_earlier_life_stays_alone(tmp_path: Path) -> None:
    path = tmp_path / "e"
    path.write_bytes(b'{"a":1}\n{"b":')
    Lines(str(path), 100).append({"c": 3})
    assert path.read_bytes() == b'{"a":1}\n{"b":\n{"c":3}\n'


def test_lines_wait_for_a_full_disk_and_keep_their_order(tmp_path: Path) -> None:
    """A limit on file size makes the disk full in a process of its own."""
    path = tmp_path / "e"
    source = f"""
import resource, signal, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from launcher.agent.spool import Lines
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (25, resource.RLIM_INFINITY))
lines = Lines({str(path)!r}, 40)
told = [lines.append({{"n": n}}) for n in range(10)]
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(told.count(True), lines.flush())
lines.sync()
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    kept, flushed = done.stdout.split()
    assert flushed == "True"
    assert 0 < int(kept) < 10
    assert [json.loads(line)["n"] for line in path.read_text().splitlines()] == list(range(int(kept)))
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_commands_come_in_order_and_once(tmp_path: Path) -> None:
    inbox = Inbox(str(tmp_path))
    assert inbox.poll() == ([], [])
    for n in (10, 9, 2):
        (tmp_path / f"{n}.json").write_text(json.dumps({"n": n}))
    (tmp_path / ".launcher-part-3").write_text("{")
    assert [c["n"] for c in inbox.poll()[0]] == [2, 9, 10]
    assert inbox.poll() == ([], [])
    (tmp_path / "11.json").write_text('{"n": 11}')
    assert [c["n"] for c in inbox.poll()[0]] == [11]


def test_a_missing_inbox_is_said_once(tmp_path: Path) -> None:
    inbox = Inbox(str(tmp_path / "in"))
    assert [code for code, _ in inbox.poll()[1]] == ["no-inbox"]
    assert inbox.poll() == ([], [])
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "1.json").write_text('{"n": 1}')
    assert [c["n"] for c in inbox.poll()[0]] == [1]


def test_the_highest_command_of_an_earlier_life_is_found(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path))
    assert spool.taken() == 0
    lines = ['{"ev":"took","n":3}', '{"ev":"took","n":12}', '{"ev":"warned","message":"\\"took\\""}']
    (tmp_path / "events.jsonl").write_text("\n".join([*lines, '{"ev":"took","n":"x"}', '{"ev":"took","n"']))
    assert spool.taken() == 12


def test_answers_are_delivered_by_the_loop(tmp_path: Path) -> None:
    back = Background()
    got: list[int] = []
    back.do(lambda: 42, got.append)
    back.do(lambda: 43, got.append)
    while len(got) < 2:
        back.deliver()
    for _ in range(1 << 17):
        back.knock()  # a full pipe is a bell that rings already
    back.silence()
    assert sorted(got) == [42, 43]
    assert back.deliver() is False


def test_names_of_times() -> None:
    assert iso(0.0) == "1970-01-01T00:00:00.000Z"
    assert epoch("1970-01-01T00:01:00Z") == 60
    assert boot_name() == boot_name()
    assert len(boot_name().split(":")) == 3


def test_the_packed_agent_is_the_same_every_time_and_holds_only_the_standard_library() -> None:
    data = agent_bytes()
    assert data == agent_bytes()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
        assert names == sorted(names)
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {"__main__.py", "launcher_agent/mind.py", "launcher_agent/__main__.py"} <= set(names)
        assert "launcher_agent/boot.py" not in names


def test_the_guard_fits_into_a_create_call() -> None:
    assert len(boot_guard().encode()) <= 4096
    compile(boot_guard(), "guard", "exec")


def test_the_packed_agent_makes_environments_too(tmp_path: Path) -> None:
    (tmp_path / "agent.pyz").write_bytes(agent_bytes())
    done = subprocess.run(
        [sys.executable, "-I", tmp_path / "agent.pyz", "env", "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert "--into" in done.stdout
