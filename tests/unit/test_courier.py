"""The courier by itself and over its channel: no engine needed, its stream is framed as an engine does it."""

from __future__ import annotations

import errno
import json
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.errors import HostUnreachable, Stopped
from launcher.remote import courier
from launcher.remote.channel import SLICE_S, Broken, Channel, Wire
from launcher.remote.courier import Courier
from launcher.remote.frames import EngineFrames


def ask(root: Path, verb: str, payload: bytes = b"", **more: Any) -> tuple[dict[str, Any], bytes]:
    return Courier(str(root), "token").answer({"verb": verb, **more}, payload)


def item(to: str, **more: Any) -> dict[str, Any]:
    return {"kind": "file", "to": to, "mode": 0o644, "at": 0, "size": 0, "last": True, **more}


class TestByItself:
    def test_reads_a_piece(self, tmp_path: Path) -> None:
        (tmp_path / "f").write_bytes(b"0123456789")
        assert ask(tmp_path, "read", path="f", offset=2, limit=3) == ({}, b"234")

    @pytest.mark.parametrize(
        ("path", "number"),
        [
            ("nothing", errno.ENOENT),
            ("../etc", errno.EPERM),
            ("/etc/passwd", errno.EPERM),
            ("out/passwd", errno.EPERM),
            ("link-out", errno.EPERM),
        ],
    )
    def test_refuses_by_number(self, tmp_path: Path, path: str, number: int) -> None:
        (tmp_path / "out").symlink_to("/etc")
        (tmp_path / "link-out").symlink_to("/etc/passwd")
        reply, data = ask(tmp_path, "read", path=path, offset=0, limit=1)
        assert (reply["errno"], reply["name"], data) == (number, path, b"")

    def test_what_is_no_plain_file_is_said_at_once(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        for path in ("pipe", "."):
            reply, _ = ask(tmp_path, "read", path=path, offset=0, limit=1)
            assert reply == {"error": "not a plain file", "name": path}

    def test_a_listed_file_may_not_lie_behind_a_link(self, tmp_path: Path) -> None:
        (tmp_path / "base" / "real").mkdir(parents=True)
        (tmp_path / "base" / "real" / "f").write_bytes(b"1")
        (tmp_path / "base" / "link").symlink_to("real")
        (tmp_path / "alias").symlink_to("base")  # the base itself is the caller's choice
        for base in ("base", "alias"):
            good, _ = ask(tmp_path, "read", path=f"{base}/real/f", base=base, offset=0, limit=9)
            bad, _ = ask(tmp_path, "read", path=f"{base}/link/f", base=base, offset=0, limit=9)
            assert (good, bad) == ({}, {"error": "link", "name": f"{base}/link/f"})

    def test_writes_whole_through_a_name_beside(self, tmp_path: Path) -> None:
        assert ask(tmp_path, "write", b"new", path="a/b/f", mode=0o600)[0] == {}
        assert (tmp_path / "a/b/f").read_bytes() == b"new"
        assert os.listdir(tmp_path / "a/b") == ["f"]
        assert (tmp_path / "a/b/f").stat().st_mode & 0o777 == 0o600

    def test_a_full_disk_leaves_the_old_file_and_nothing_beside(self, tmp_path: Path) -> None:
        (tmp_path / "f").write_bytes(b"old")
        had = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, had[1]))
        try:
            reply, _ = ask(tmp_path, "write", bytes(5000), path="f", mode=0o600)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, had)
        assert reply["errno"] == errno.EFBIG
        assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"f": b"old"}

    def test_puts_files_in_parts_folders_and_links(self, tmp_path: Path) -> None:
        (tmp_path / "l").symlink_to("old")
        items = [
            item("d/f", size=3, last=False),
            item("d/f", size=2, at=3, mode=0o755),
            item("e", kind="folder", mode=0o700),
            item("l", kind="link", link="new"),
            item("g", size=1),
        ]
        assert ask(tmp_path, "put", b"abcdeX", items=items)[0] == {}
        assert (tmp_path / "d/f").read_bytes() == b"abcde"
        assert (tmp_path / "d/f").stat().st_mode & 0o777 == 0o755
        assert (tmp_path / "e").stat().st_mode & 0o777 == 0o700
        assert os.readlink(tmp_path / "l") == "new"
        assert (tmp_path / "g").read_bytes() == b"X"

    @pytest.mark.parametrize("kind", ["file", "link"])
    def test_what_an_interrupted_put_left_does_not_disturb(self, tmp_path: Path, kind: str) -> None:
        it = Courier(str(tmp_path), "")
        (tmp_path / os.fsdecode(it.part)).write_bytes(b"left over")
        made = item("f", kind=kind, size=1, link="x")
        assert it.answer({"verb": "put", "items": [made]}, b"1")[0] == {}
        assert os.listdir(tmp_path) == ["f"]

    def test_a_put_through_a_link_out_is_refused_by_name(self, tmp_path: Path) -> None:
        (tmp_path / "out").symlink_to("/etc")
        reply, _ = ask(tmp_path, "put", b"", items=[item("out/x")])
        assert (reply["errno"], reply["name"]) == (errno.EPERM, "out/x")
        assert not Path("/etc/x").exists()

    def test_runs_with_the_mark_by_which_the_agent_finds_it(self, tmp_path: Path) -> None:
        show = ["sh", "-c", 'cat; printf "%s" "$LAUNCHER_INSTANCE" >&2; exit 4']
        reply, data = ask(tmp_path, "run", b"in", argv=show, cwd=".", timeout=10, most=99)
        assert (reply, data) == ({"exit_code": 4, "out": 2}, b"intoken")

    def test_a_helper_s_command_has_no_mark(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LAUNCHER_INSTANCE", "")
        it = Courier(str(tmp_path), "")
        asked = {
            "verb": "run",
            "argv": ["sh", "-c", "echo ${LAUNCHER_INSTANCE-unset}"],
            "cwd": ".",
            "timeout": 9,
            "most": 99,
        }
        assert it.answer(asked, b"")[1] == b"unset\n"

    def test_ends_what_runs_too_long(self, tmp_path: Path) -> None:
        assert ask(tmp_path, "run", argv=["sleep", "60"], cwd=".", timeout=0.1) == ({"error": "timeout"}, b"")

    def test_a_missing_program_is_told_by_its_name(self, tmp_path: Path) -> None:
        reply, _ = ask(tmp_path, "run", argv=["no-such-program"], cwd=".", timeout=9)
        assert (reply["errno"], reply["name"]) == (errno.ENOENT, "no-such-program")


def framed(kind: int, data: bytes) -> bytes:
    return bytes([kind, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


class Engine:
    """The other end of a channel: a real courier whose output is framed, or whatever a test says."""

    def __init__(self) -> None:
        ours, self.theirs = socket.socketpair()
        self.let_go = 0
        self.channel = Channel(Wire(ours, EngineFrames(), "the container"), self._count)

    def _count(self) -> None:
        self.let_go += 1

    def serve(self, root: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-I", "-c", Path(courier.__file__).read_text(), str(root), ""]
        child = subprocess.Popen(command, stdin=self.theirs.fileno(), stdout=subprocess.PIPE)
        threading.Thread(target=self._frame, args=(child,), daemon=True).start()
        return child

    def _frame(self, child: subprocess.Popen[bytes]) -> None:
        assert child.stdout is not None
        with child.stdout as out:
            while data := os.read(out.fileno(), 1 << 16):
                for at in range(0, len(data), 1000):  # an engine cuts where it likes
                    self.theirs.sendall(framed(2, b"chatter") + framed(1, data[at : at + 1000]))
        child.wait()

    def close(self) -> None:
        self.channel.close()
        self.theirs.close()


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine()
    yield engine
    engine.close()


class TestOverItsChannel:
    def test_round_trips_of_every_size(self, engine: Engine, tmp_path: Path) -> None:
        child = engine.serve(tmp_path)
        for size in (0, 1, 70_000, 3_000_000):
            data = os.urandom(size)
            wrote = engine.channel.call({"verb": "write", "path": "f", "mode": 0o600}, data, timeout=20)
            read = engine.channel.call(
                {"verb": "read", "path": "f", "offset": 0, "limit": size + 1}, b"", timeout=20, most=size
            )
            assert wrote[0]["size"] == 0
            assert read[1] == data
        engine.channel.close()
        engine.theirs.shutdown(socket.SHUT_RDWR)
        assert child.wait(10) == 0  # it leaves when its client does

    def test_silence_has_a_deadline_and_closes_the_channel_for_good(self, engine: Engine) -> None:
        with pytest.raises(HostUnreachable, match="in time"):
            engine.channel.call({"verb": "read"}, b"", timeout=0.3)
        assert not engine.channel.open
        engine.channel.close()
        assert engine.let_go == 1

    def test_a_wait_ticks_and_a_tick_may_stop_it(self, engine: Engine) -> None:
        ticks = []

        def tick() -> None:
            ticks.append(1)
            if len(ticks) == 2:
                raise Stopped("enough")

        with pytest.raises(Stopped):
            engine.channel.call({"verb": "read"}, b"", timeout=20, tick=tick)
        assert not engine.channel.open

    def test_a_wait_that_begins_late_in_a_slice_lasts_no_whole_one(self) -> None:
        """Else two of them pass between two ticks."""
        ticked = [time.monotonic()]
        waits: list[tuple[float, float]] = []

        class Silent:
            complaint = b""
            words = send = shutdown = None

            def settimeout(self, seconds: float) -> None:
                waits.append((time.monotonic() + seconds, ticked[-1]))

            def recv(self, count: int) -> bytes:
                raise TimeoutError

        wire = Wire(Silent(), Silent(), "the host")  # type: ignore[arg-type]  # nothing else is asked of it
        with pytest.raises(HostUnreachable, match="in time"):
            wire.exactly(1, time.monotonic() + 0.6, lambda: ticked.append(time.monotonic()))
        assert len(ticked) == 3
        assert max(end - last for end, last in waits) < 1.5 * SLICE_S

    def test_a_large_message_nobody_takes_has_a_deadline_too(self, engine: Engine) -> None:
        with pytest.raises(HostUnreachable, match="in time"):
            engine.channel.call({"verb": "write"}, bytes(20_000_000), timeout=0.5)

    def test_an_end_in_the_middle_is_broken_and_says_the_last_complaint(self, engine: Engine) -> None:
        engine.theirs.sendall(framed(2, b"Traceback: no json\n") + framed(1, b"\0\0")[:9])
        engine.theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(Broken, match="Traceback: no json"):
            engine.channel.call({"verb": "read"}, b"", timeout=20)

    def test_a_way_that_breaks_while_sending_is_broken(self, engine: Engine) -> None:
        engine.theirs.close()
        with pytest.raises(Broken):
            engine.channel.call({"verb": "write"}, bytes(20_000_000), timeout=20)

    def test_an_engine_that_could_not_start_it_is_quoted(self, engine: Engine) -> None:
        engine.theirs.sendall(framed(1, b'OCI runtime exec failed: "python3": not found'))
        with pytest.raises(HostUnreachable, match="OCI runtime exec failed"):
            engine.channel.call({"verb": "read"}, b"", timeout=20)


def test_its_source_fits_into_a_command_line() -> None:
    source = Path(courier.__file__).read_text()
    assert len(source.encode()) < 32_000
    assert "launcher." not in source.split('"""', 2)[2]
    json.dumps(source)
