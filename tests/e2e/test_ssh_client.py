"""A run on a machine of one's own, met by the system's ssh client; `ssh`, `ssh-config`, `open` over SSH."""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import urlopen

import pytest

from launcher import sshfiles
from launcher.store import RunFolder
from tests.e2e.hosted import HostedPerson, lets_go
from tests.e2e.person import until
from tests.e2e.sidework import Serving, opened, serving
from tests.hosts.boxes import Box, sshd_container
from tests.ports import named_port

pytestmark = pytest.mark.need("docker", "sshd")

OTHER_PIN = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIb6Zg0DyHLk2w2X3rk3DNzVMqTt2k6n4B1sSZP0e7yE"


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    with sshd_container("openssh") as box:
        yield box


@pytest.fixture
def run(holder: HostedPerson, box: Box) -> Iterator[Serving]:
    holder.knows("box", box)
    box.sh("rm -f /tmp/go")
    yield serving(holder, "fox")
    lets_go(box)
    until(lambda: holder.state("fox") in ("done", "stopped", "interrupted", "waiting"), "its end")


def ends(run: Serving, box: Box) -> None:
    lets_go(box)
    run.has_ended()


def client(config: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The ssh client itself, with nothing of ours around it."""
    return subprocess.run([words[0], "-F", config, *words[1:]], capture_output=True, text=True, timeout=60)


def included(run: Serving) -> Path:
    """A person's own configuration with the one line that `ssh-config` says."""
    said = run.person.types("ssh-config", "fox")
    assert said.code == 0, said.stderr
    mine = run.person.root / "config"
    mine.write_text(f"{said.stdout}\nHost *\n  StrictHostKeyChecking no\n  User nobody\n")
    return mine


def test_a_command_there_has_its_folder_words_streams_and_status(run: Serving) -> None:
    line = "pwd; echo $LAUNCHER_RUN; ls; cat; echo no >&2; exit 3"
    done = run.person.types("ssh", "fox", "--", "sh", "-c", line, stdin="로그\n")
    assert done.code == 3, done.stderr
    folder, name, *rest = done.stdout.split()
    assert "/.launcher/runs/" in folder and "/project/" in folder
    assert (name, rest, done.stderr) == ("fox", ["serves.py", "로그"], "no\n")
    odd = ("two words", "'quotes\"", "new\nline", "$HOME", "-x", "")
    assert run.person.types("ssh", "--", "printf", "<%s>", *odd).stdout == "".join(f"<{w}>" for w in odd)


def test_a_shell_there_is_on_a_terminal(run: Serving) -> None:
    with run.person.terminal("ssh", "fox") as screen:
        screen.sees(r"\$ ")
        screen.types("test -t 0 && echo TTY-$LAUNCHER_RUN\r")
        screen.sees("TTY-fox")
        screen.types("exit 7\r")
        assert screen.ends() == 7


def test_the_runs_name_is_a_host_for_ssh_and_scp_until_the_run_has_ended(run: Serving, box: Box) -> None:
    mine = included(run)
    assert client(mine, "ssh", "fox", "echo", "hello").stdout == "hello\n"
    (mine.parent / "sent").write_text("by scp")
    copied = client(mine, "scp", str(mine.parent / "sent"), "fox:/tmp/sent")
    assert copied.returncode == 0, copied.stderr
    assert box.sh("cat /tmp/sent") == "by scp"
    shown = run.person.types("ssh-config", "fox", "--json").json()
    assert (shown["run"], shown["host"]) == ("fox", "fox")
    assert Path(shown["file"]).read_text() == shown["block"]
    assert run.person.types("ssh-config", "fox", "--print").stdout == shown["block"]
    assert stat.S_IMODE(Path(shown["file"]).stat().st_mode) == 0o600
    ends(run, box)
    until(lambda: not Path(shown["file"]).exists(), "the file is still there")
    assert client(mine, "ssh", "-o", "BatchMode=yes", "fox", "true").returncode == 255


def test_an_editor_shares_one_connection_copies_by_sftp_and_reaches_its_server(
    run: Serving, box: Box
) -> None:
    """What VS Code and its like ask of an alias."""
    mine = included(run)
    with TemporaryDirectory() as short:  # a socket's name has little room
        shared = ("-o", f"ControlPath={short}/c")
        try:
            made = client(mine, "ssh", "-M", "-f", "-N", *shared, "-o", "ExitOnForwardFailure=yes", "fox")
            assert made.returncode == 0, made.stderr
            for n in range(3):
                assert client(mine, "ssh", *shared, "fox", f"echo {n}; exit {n}").returncode == n
            port = named_port()
            led = client(mine, "ssh", *shared, "-O", "forward", "-L", f"{port}:127.0.0.1:{run.port}", "fox")
            assert led.returncode == 0, led.stderr
            with urlopen(f"http://127.0.0.1:{port}/", timeout=30) as page:
                assert page.read().decode() == "page of fox"
            (Path(short) / "server").write_text("by sftp")
            (Path(short) / "batch").write_text(
                f"put {short}/server /tmp/by-sftp\nget /tmp/by-sftp {short}/back\n"
            )
            copied = client(mine, "sftp", *shared, "-b", f"{short}/batch", "fox")
            assert copied.returncode == 0, copied.stderr
            assert (Path(short) / "back").read_text() == box.sh("cat /tmp/by-sftp") == "by sftp"
        finally:
            client(mine, "ssh", *shared, "-O", "exit", "fox")


RSYNC = "/opt/rsync/rsync"  # in the box: a copy of this machine's, with the libraries that it is bound to


def brings_rsync(box: Box) -> None:
    here = shutil.which("rsync")
    assert here is not None
    libraries = re.findall(r"(/\S+) \(0x", subprocess.check_output(["ldd", here], text=True))
    [loader] = [path for path in libraries if Path(path).name.startswith("ld-")]
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for path in (here, *libraries):
            archive.add(os.path.realpath(path), f"rsync/lib/{Path(path).name}")
    assert box.engine.put_archive(box.id, "/opt", data.getvalue())
    line = f'exec /opt/rsync/lib/{Path(loader).name} --library-path /opt/rsync/lib /opt/rsync/lib/rsync "$@"'
    box.sh(f"printf '%s\\n' '#!/bin/sh' '{line}' >{RSYNC}; chmod 755 {RSYNC}")


def test_rsync_goes_both_ways_by_the_runs_name(run: Serving, box: Box) -> None:
    brings_rsync(box)
    mine = included(run)
    here = mine.parent / "tree"
    (here / "sub dir").mkdir(parents=True)
    (here / "sub dir" / "로그.txt").write_text("one")
    by = ["rsync", "-a", "--delete", "-e", f"ssh -F {mine}", f"--rsync-path={RSYNC}"]

    def goes(source: str, to: str) -> None:
        done = subprocess.run([*by, source, to], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr

    goes(f"{here}/", "fox:/tmp/by-rsync/")
    assert box.sh("cat '/tmp/by-rsync/sub dir/로그.txt'") == "one"
    box.sh("echo two >'/tmp/by-rsync/sub dir/로그.txt'; echo new >/tmp/by-rsync/new")
    goes("fox:/tmp/by-rsync/", f"{here}/")
    found = {str(path.relative_to(here)): path.read_text() for path in here.rglob("*") if path.is_file()}
    assert found == {"sub dir/로그.txt": "two\n", "new": "new\n"}


# What VS Code does: a script on the stdin of a shell, and its server reached by a proxy of that connection.
INSTALLS = """
set -e
echo "shell of $(id -un), run ${LAUNCHER_RUN:-none}"
cat >/tmp/editor-server <<'EOS'
a server
EOS
echo "port %d"
echo ready
"""


def socks(proxy: int, port: int) -> bytes:
    """A page of the far loopback, by SOCKS 5."""
    with socket.create_connection(("127.0.0.1", proxy), timeout=30) as way:
        way.sendall(b"\x05\x01\x00")
        assert way.recv(2) == b"\x05\x00"
        way.sendall(b"\x05\x01\x00\x01" + socket.inet_aton("127.0.0.1") + port.to_bytes(2, "big"))
        assert way.recv(10)[:2] == b"\x05\x00"
        way.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return b"".join(iter(lambda: way.recv(1 << 16), b""))


def test_an_editor_installs_its_server_by_a_script_and_has_a_proxy(run: Serving, box: Box) -> None:
    mine = included(run)
    proxy = named_port()
    pipe = subprocess.PIPE
    argv = ["ssh", "-F", str(mine), "-T", "-D", str(proxy), "-o", "ExitOnForwardFailure=yes", "fox", "bash"]
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as shell:
        assert shell.stdin is not None and shell.stdout is not None
        shell.stdin.write(INSTALLS % run.port)
        shell.stdin.flush()
        said = list(iter(shell.stdout.readline, "ready\n"))
        assert said == ["shell of dev, run none\n", f"port {run.port}\n"]
        assert box.sh("cat /tmp/editor-server") == "a server\n"
        assert socks(proxy, run.port).endswith(b"page of fox")
        shell.stdin.write("exit 5\n")
        shell.stdin.close()
        assert shell.wait(30) == 5


def test_where_the_engine_was_killed_a_later_command_tidies_up(run: Serving, box: Box) -> None:
    shown = run.person.types("ssh-config", "fox", "--json").json()
    os.kill(run.person.engine("fox"), signal.SIGKILL)
    until(lambda: run.person.state("fox") == "interrupted", "its engine's end")
    assert run.person.types("models").code == 0
    assert Path(shown["file"]).exists()  # the machine lives on, and so does the way to it
    lets_go(box)
    assert run.person.types("resume", "fox", timeout=120).code == 0
    Path(shown["file"]).write_text(shown["block"])  # as a killed engine would have left it
    assert run.person.types("models").code == 0
    assert not Path(shown["file"]).exists()


def test_a_port_there_is_led_here(run: Serving, box: Box) -> None:
    with opened(run.person, "fox", str(run.port)) as door:
        assert door.page() == "page of fox"
        lets_go(box)
        assert door.ends()[0] == 0


@pytest.mark.need("network")
@pytest.mark.timeout(400)
def test_tensorboard_there_goes_with_the_run(run: Serving, box: Box) -> None:
    with opened(run.person, "fox", "tensorboard") as board:
        assert "/output" in board.page("data/environment")
        assert box.sh("ps -eo args").count("attendant.py") == 1
        lets_go(box)
        assert board.ends()[0] == 0
    run.has_ended()
    until(lambda: "attendant.py" not in box.sh("ps -eo args"), "it is still there")
    assert "tensorboard" not in box.sh("ps -eo args")


def test_a_host_that_shows_another_key_is_not_entered(tmp_path: Path, box: Box) -> None:
    config = sshfiles.write(RunFolder(tmp_path / "fox"), replace(box.route, pins=(OTHER_PIN,)))
    done = client(config, "ssh", "fox", "touch", "/tmp/entered")
    assert done.returncode == 255 and "Host key verification failed" in done.stderr
    box.sh("test ! -e /tmp/entered")


def test_through_a_jump_host_each_is_known_by_its_own_pin(tmp_path: Path, box: Box) -> None:
    with sshd_container("openssh", behind=box) as inner:
        folder = RunFolder(tmp_path / "fox")
        assert inner.route.via is not None
        done = client(sshfiles.write(folder, inner.route), "ssh", "fox", "hostname")
        assert (done.returncode, done.stdout.strip()) == (0, inner.sh("hostname").strip()), done.stderr
        wrong = replace(inner.route, via=replace(inner.route.via, pins=(OTHER_PIN,)))
        assert client(sshfiles.write(folder, wrong), "ssh", "fox", "hostname").returncode == 255
