"""The first process of a pod, run here: what it says is missing before anybody waits for it in vain."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

from launcher.agent import podguard

SOURCE = (resources.files("launcher.agent") / "podguard.py").read_text(encoding="utf-8")


def first_words(env: dict[str, str], count: int) -> list[str]:
    """It goes on for ever, so it is ended once it has said so much."""
    argv = [sys.executable, "-I", "-c", SOURCE, "0" * 32, ""]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(argv, env=env, stdin=quiet, stdout=subprocess.PIPE, stderr=quiet, text=True) as it:
        assert it.stdout is not None
        try:
            return [it.stdout.readline().strip() for _ in range(count)]
        finally:
            it.kill()


@pytest.mark.parametrize(
    ("root", "said"),
    [("https://127.0.0.1:9", ["CA bundle", "PUBLIC_KEY"]), ("http://127.0.0.1:9", ["PUBLIC_KEY"])],
    ids=["asked over TLS", "asked in the open"],
)
def test_without_certificates_it_says_so(tmp_path: Path, root: str, said: list[str]) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sshd", "ssh-keygen"):
        (tools / name).write_text("")
        (tools / name).chmod(0o755)
    (tmp_path / "none").mkdir()
    env = {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "SSL_CERT_FILE": str(tmp_path / "none" / "file"),
        "SSL_CERT_DIR": str(tmp_path / "none"),
        "RUNPOD_API_BASE_URL": root,
        "LAUNCHER_BOOT_LIMIT": "60",
    }
    lines = first_words(env, len(said) + 1)  # our sshd is none that it looks for
    lacks = [line.removeprefix("launcher missing ") for line in lines]
    assert [name for name in lacks if name != "sshd"][: len(said)] == said


@pytest.mark.parametrize(
    ("rescue", "since_s", "over"),
    [(True, -5, False), (True, 5, False), (True, 31, True), (False, -5, False), (False, 1, True)],
)
def test_whatever_hangs_below_it_has_an_end(
    monkeypatch: pytest.MonkeyPatch, rescue: bool, since_s: float, over: bool
) -> None:
    """A boot that only lets results be fetched, too, long after the end of the pod's life."""
    monkeypatch.setenv("LAUNCHER_ENDS_AT", "2020-01-01T00:00:00Z")
    assert podguard.overdue(rescue, podguard.clock() - since_s, []) is over
