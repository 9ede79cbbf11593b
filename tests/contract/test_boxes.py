"""The hosts that tests stand on are what they are said to be."""

from __future__ import annotations

import time

import pytest

from launcher.ssh.connection import Connection, connect
from tests.hosts.boxes import Box, Gpu, sshd_container
from tests.hosts.image import Kind

SLEPT = "import time; began = time.monotonic(); time.sleep(0.2); print(time.monotonic() - began)"

pytestmark = pytest.mark.need("docker")


def _says(connection: Connection, script: str) -> str:
    done = connection.run(["sh", "-c", script])
    assert done.exit_code == 0, done
    return done.stdout.decode().strip()


def test_one_user_without_rights_and_what_a_sync_may_ask_for(any_sshd: Box) -> None:
    connection = connect(any_sshd.route)
    tools = "for t in sh tar gzip find sort sha256sum; do command -v $t >/dev/null || exit 1; done; id -u"
    assert _says(connection, tools) == "1000"
    has = "for t in git rsync python3 bash dev; do command -v $t >/dev/null && echo $t; done; :"
    assert _says(connection, has).split() == (["python3", "bash"] if any_sshd.kind == "openssh" else [])
    connection.close()


def test_a_full_disk_and_a_home_that_cannot_be_written() -> None:
    with sshd_container("openssh", home_mb=1) as box:
        connection = connect(box.route)
        done = connection.run(["sh", "-c", "head -c 3000000 /dev/zero >big"])
        assert done.exit_code and b"No space left" in done.stderr
        connection.close()
    with sshd_container("openssh", read_only_home=True) as box:
        connection = connect(box.route)
        assert b"Read-only file system" in connection.run(["sh", "-c", "echo >a"]).stderr
        connection.close()


def test_a_clock_off_by_a_day_for_every_program_of_a_session() -> None:
    with sshd_container("openssh", clock_s=86400) as box:
        connection = connect(box.route)
        shell = float(_says(connection, "date +%s"))
        python = float(_says(connection, "python3 -c 'import time; print(time.time())'"))
        file = float(_says(connection, "echo >a; stat -c %Y a"))
        kept = _says(connection, "touch -d @1000000000 b; stat -c %Y b")
        took = float(_says(connection, f"python3 -c '{SLEPT}'"))
        connection.close()
    for told in (shell, python, file):
        assert abs(told - time.time() - 86400) < 60
    assert kept == "1000000000"
    assert 0.2 <= took < 2


@pytest.mark.parametrize("kind", ["openssh", "dropbear"])
def test_emulated_gpus_and_who_holds_them(kind: Kind) -> None:
    with sshd_container(kind, gpus=[Gpu(), Gpu("Other")]) as box:
        connection = connect(box.route)
        assert _says(connection, "nvidia-smi -L").splitlines() == [
            f"GPU {i}: {gpu.name} (UUID: {gpu.uuid})" for i, gpu in enumerate(box.gpus)
        ]
        ask = "nvidia-smi --query-compute-apps=gpu_uuid,pid,used_memory --format=csv,noheader"
        assert _says(connection, ask) == ""
        app = box.occupied(box.gpus[1])
        assert _says(connection, ask) == f"{box.gpus[1].uuid}, {app.pid}, 4096 MiB"
        assert _says(connection, f"stat -c %u /proc/{app.pid}") == "1001"
        box.exec(["kill", str(app.pid)])
        until = time.monotonic() + 60
        while _says(connection, ask):
            assert time.monotonic() < until
        connection.close()
