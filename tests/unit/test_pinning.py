"""Whose word makes a machine known, and the key pair that a run has of its own."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from launcher.ssh import keys
from launcher.steps.pinning import announced

TOKEN = "0123456789abcdef" * 2
FIRST, SECOND = "ssh-ed25519 AAAAfirst/+A=", "ssh-ed25519 AAAAsecond"


@pytest.mark.parametrize(
    ("console", "key"),
    [
        ("", None),
        (f"launcher host-key {TOKEN} {FIRST}\n", FIRST),
        (f"noise\nlauncher host-key {TOKEN} {FIRST}\r\nmore\n", FIRST),
        (f"launcher host-key {TOKEN} {FIRST}\nlauncher host-key {TOKEN} {SECOND}\n", SECOND),
        (f"launcher host-key {'f' * 32} {FIRST}\n", None),
        (f"[system] launcher host-key {TOKEN} {FIRST}\n", None),
        (f"launcher host-key {TOKEN} ssh-rsa AAAA\n", None),
        (f"launcher host-key {TOKEN} {FIRST} and more\n", None),
        (f"launcher host-key {TOKEN}\n", None),
    ],
)
def test_only_a_whole_line_with_the_order_s_own_word_counts_and_the_newest_does(
    console: str, key: str | None
) -> None:
    assert announced(console, TOKEN) == key


def test_a_pair_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    private, public = keys.pair(tmp_path / "keys")
    assert public.startswith("ssh-ed25519 AAAA")
    assert stat.S_IMODE(Path(private).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    assert keys.pair(tmp_path / "keys") == (private, public)
    assert "PRIVATE KEY" in Path(private).read_text() and "PRIVATE" not in public


def test_half_of_a_pair_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / keys.NAME).write_text("half")
    private, public = keys.pair(tmp_path)
    assert Path(private).read_text() != "half" and public
