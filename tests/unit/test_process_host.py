"""This machine as a host, beyond what every host promises: its links, its modes, its disk, its processes."""

from __future__ import annotations

import errno
import os
import resource
import signal
import socket
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import psutil
import pytest

from launcher.errors import HostDiskFull, HostError, NoFile, Stopped
from launcher.models import Access
from launcher.remote import open_host
from launcher.remote.base import Listed, Sending
from launcher.remote.process import COPY_CHUNK, ProcessHost


@pytest.fixture
def host(tmp_path: Path) -> Iterator[ProcessHost]:
    (tmp_path / "spool").mkdir()
    opened = open_host(Access("process", "unused", str(tmp_path / "spool")))
    assert isinstance(opened, ProcessHost)
    yield opened
    opened.close()
    opened.close()


@pytest.fixture
def root(host: ProcessHost) -> Path:
    return Path(host.root)


def quiet() -> None:
    pass


class Ticks:
    """Counts, and at the n-th does what it was given."""

    def __init__(self, at: int = 0, error: Exception | None = None) -> None:
        self.count, self.at, self.error = 0, at, error

    def __call__(self) -> None:
        self.count += 1
        if self.count == self.at and self.error is not None:
            raise self.error


def test_an_unknown_way_is_refused() -> None:
    with pytest.raises(ValueError, match="telepathy"):
        open_host(Access("telepathy", "a", "b"))  # type: ignore[arg-type]  # what no type checker saw


def test_the_folder_outlives_the_machine_and_may_not_be_there_yet(tmp_path: Path) -> None:
    host = ProcessHost(str(tmp_path / "later" / "spool"))
    with pytest.raises(NoFile):
        host.read("events.jsonl")
    host.write("in/1.json", b"{}")
    assert host.read("in/1.json") == b"{}"


@pytest.mark.parametrize("link", ["folder", "absolute", "up"])
def test_a_link_on_the_way_never_leads_out(host: ProcessHost, root: Path, tmp_path: Path, link: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "f").write_bytes(b"theirs")
    (root / "way").symlink_to({"folder": "../outside", "absolute": str(outside), "up": ".."}[link])
    path = "way/outside/f" if link == "up" else "way/f"
    for act in (
        lambda: host.read(path),
        lambda: host.write(path, b"mine"),
        lambda: host.put([Sending(path, data=b"mine")], quiet),
        lambda: host.put([Sending(path, link="anywhere")], quiet),
        lambda: host.run(["true"], cwd=path),
    ):
        with pytest.raises(HostError, match="leads out"):
            act()
    assert (outside / "f").read_bytes() == b"theirs"


def test_a_link_that_stays_inside_may_be_used(host: ProcessHost, root: Path) -> None:
    host.write("a/f", b"1")
    (root / "b").symlink_to("a")
    assert host.read("b/f") == b"1"


def test_a_root_that_is_reached_by_a_link_is_a_root(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    host = ProcessHost(str(tmp_path / "link"))
    host.write("a/f", b"1")
    assert host.read("a/f") == b"1"
    assert host.run(["cat", "a/f"]).stdout == b"1"


def test_what_stands_in_the_way_of_a_folder_is_no_file_to_a_reader(host: ProcessHost) -> None:
    host.write("log", b"x")
    with pytest.raises(NoFile):
        host.read("log/deeper")
    with pytest.raises(HostError, match="log/deeper"):
        host.write("log/deeper", b"y")


@pytest.mark.parametrize("big", [False, True])
def test_a_file_replaces_links_and_read_only_files_without_going_through_them(
    host: ProcessHost, root: Path, tmp_path: Path, big: bool
) -> None:
    data = b"new" * (COPY_CHUNK if big else 1)
    source, outside = tmp_path / "source", tmp_path / "outside"
    source.write_bytes(data)
    outside.write_bytes(b"theirs")
    (root / "link").symlink_to(outside)
    os.link(outside, root / "hard")
    (root / "locked").write_bytes(b"old")
    (root / "locked").chmod(0o444)
    host.put([Sending(name, 0o640, source) for name in ("link", "hard", "locked")], quiet)
    for name in ("link", "hard", "locked"):
        assert (root / name).read_bytes() == data
        assert (root / name).lstat().st_mode & 0o7777 == 0o640
    assert outside.read_bytes() == b"theirs"


def test_a_folder_that_may_be_read_may_be_entered(host: ProcessHost, root: Path) -> None:
    host.put([Sending("empty"), Sending("empty"), Sending("closed", 0o600)], quiet)
    assert (root / "empty").stat().st_mode & 0o777 == 0o755
    assert (root / "closed").stat().st_mode & 0o777 == 0o700


def test_a_long_copy_hears_a_stop_and_can_be_done_again(
    host: ProcessHost, root: Path, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x" * (3 * COPY_CHUNK))
    with pytest.raises(Stopped):
        host.put([Sending("big", source=source)], Ticks(3, Stopped("stop")))
    assert (root / "big").stat().st_size < 3 * COPY_CHUNK
    ticks = Ticks()
    host.put([Sending("big", source=source)], ticks)
    assert ticks.count >= 3
    assert (root / "big").read_bytes() == source.read_bytes()


def test_a_source_that_vanished_is_said_by_the_name_it_would_have_had(
    host: ProcessHost, tmp_path: Path
) -> None:
    with pytest.raises(HostError, match="data/f: No such file"):
        host.put([Sending("data/f", source=tmp_path / "gone")], quiet)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_no_space_is_told_from_other_refusals(host: ProcessHost, tmp_path: Path, code: int) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x" * (2 * COPY_CHUNK))
    with pytest.raises(HostDiskFull, match="no space left for big"):
        host.put([Sending("big", source=source)], Ticks(2, OSError(code, os.strerror(code))))


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside(host: ProcessHost, root: Path) -> None:
    host.write("f", b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    quiet_signal = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(HostError, match="f: File too large"):
            host.write("f", b"x" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, quiet_signal)
    (root / "folder").mkdir()
    with pytest.raises(HostError, match="directory"):
        host.write("folder", b"x")
    assert host.read("f") == b"old"
    assert sorted(os.listdir(root)) == ["f", "folder"]


def test_fetching_brings_a_file_home(host: ProcessHost, tmp_path: Path) -> None:
    host.write("output/results/f", b"weights")
    wanted = Listed("results/f", 7, sha256(b"weights").hexdigest())
    host.get("output", [wanted], tmp_path / "staging", quiet)
    assert (tmp_path / "staging" / "results" / "f").read_bytes() == b"weights"


def test_a_program_that_cannot_run_is_an_answer_with_its_reason(host: ProcessHost, root: Path) -> None:
    (root / "script").write_bytes(b"no program")
    for argv in (["./script"], ["never-was"]):
        done = host.run(argv)
        assert done.exit_code == 127
        assert argv[0].encode() in done.stderr
    with pytest.raises(HostError, match="never-was could not be started"):
        host.start(["never-was"])


def test_a_run_past_its_deadline_ends_with_all_that_it_started(host: ProcessHost, root: Path) -> None:
    with pytest.raises(HostError, match=r"did not end within 1\.5 s"):
        host.run(["sh", "-c", "echo $$ > group; sleep 99 & wait"], timeout=1.5)
    group = int((root / "group").read_text())
    _, alive = psutil.wait_procs([p for p in psutil.process_iter() if _group(p.pid) == group], timeout=60)
    assert alive == []


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def test_what_is_started_has_a_session_of_its_own(host: ProcessHost, root: Path) -> None:
    os.mkfifo(root / "pipe")
    host.start(["python3", "-c", "import os; open('pipe', 'w').write(f'{os.getpid()} {os.getsid(0)}')"])
    pid, session = map(int, (root / "pipe").read_text().split())
    assert pid == session != os.getsid(0)
    psutil.wait_procs([p for p in psutil.process_iter() if p.pid == pid], timeout=60)


def test_its_loopback_is_ours(host: ProcessHost) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        pipe = host.connect(server.getsockname()[1])
        pipe.send(b"hello")
        with server.accept()[0] as theirs:
            assert theirs.recv(5) == b"hello"
        pipe.close()


def test_where_nothing_listens_there_is_nothing_to_connect_to(host: ProcessHost) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(HostError, match=f"port {port}"):
        host.connect(port)
