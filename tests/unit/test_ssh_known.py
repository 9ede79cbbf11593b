"""Whose key a host's is, by the user's own files: those that OpenSSH's programs write."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.errors import KeyChanged
from launcher.hosts import HostRecord
from launcher.models import Route
from launcher.providers import ssh_meeting as meeting
from launcher.ssh import known
from launcher.ssh.errors import fingerprint

Keys = Callable[[str], str]


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    """A public key by the name of its kind and a number: rsa1, ed255191."""

    def made(name: str) -> str:
        kind = name.rstrip("0123456789") if name.startswith("rsa") else "ed25519" if "ed" in name else "ecdsa"
        file = tmp_path / f"key-{name}"
        if not file.exists():
            size = ["-b", "2048"] if kind == "rsa" else []
            subprocess.run(
                ["ssh-keygen", "-q", "-t", kind, *size, "-N", "", "-C", "a comment", "-f", str(file)],
                check=True,
            )
        return " ".join(file.with_name(file.name + ".pub").read_text().split()[:2])

    return made


@pytest.fixture
def book(tmp_path: Path) -> Path:
    return tmp_path / "known_hosts"


def pins(book: Path, address: str, port: int = 22, alias: str | None = None) -> tuple[str, ...]:
    return known.pins(address, port, alias=alias, files=(str(book),))


@pytest.mark.need("sshd")
def test_several_keys_ports_and_patterns(book: Path, keys: Keys) -> None:
    ed, rsa, ec, other = keys("ed1"), keys("rsa1"), keys("ecdsa1"), keys("ed2")
    book.write_text(
        f"""# what this is
lab.example,10.0.0.1 {ed} somebody@somewhere
lab.example {rsa}
[lab.example]:2222 {ec}
*.cluster.example,!bad.cluster.example {other}
node-?? {ed}
not a line
lab.example ssh-ed25519 AAAAnonsense
lab.example ssh-rsa {ed.split()[1]}
"""
    )
    assert pins(book, "lab.example") == (ed, rsa)
    assert pins(book, "LAB.example") == (ed, rsa)
    assert pins(book, "10.0.0.1") == (ed,)
    assert pins(book, "lab.example", 2222) == (ec,)
    assert pins(book, "10.0.0.1", 2222) == (ed,)  # none for that port: those of the host
    assert pins(book, "a.cluster.example") == (other,)
    assert pins(book, "bad.cluster.example") == ()
    assert (pins(book, "node-01"), pins(book, "node-1")) == ((ed,), ())
    assert pins(book, "1.2.3.4", 99, alias="lab.example") == (ed, rsa)
    assert known.why_none("nobody.example", files=(str(book),)) is None


@pytest.mark.need("sshd")
def test_hashed_names(book: Path, keys: Keys) -> None:
    ed, rsa = keys("ed1"), keys("rsa1")
    book.write_text(f"lab.example {ed}\n[lab.example]:2222 {rsa}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(book)], check=True, capture_output=True)
    assert "lab.example" not in book.read_text()
    assert (pins(book, "lab.example"), pins(book, "lab.example", 2222)) == ((ed,), (rsa,))
    assert pins(book, "other.example") == ()
    book.write_text(f"|1|broken {ed}\n|1|a|b {ed}\n|1|AAAA|AAAA|AAAA {ed}\n")
    assert pins(book, "lab.example") == ()


@pytest.mark.need("sshd")
def test_revoked_keys_and_authorities_are_no_pins(book: Path, keys: Keys) -> None:
    good, bad, authority = keys("ed1"), keys("ed2"), keys("rsa1")
    files = (str(book),)
    book.write_text(
        f"lab.example {good}\nlab.example,old.example {bad}\n@revoked * {bad}\n"
        f"@cert-authority *.corp.example {authority}\n@unheard-of lab.example {authority}\n"
    )
    assert pins(book, "lab.example") == (good,)
    assert pins(book, "old.example") == ()
    assert known.revoked(bad + " comment", "anywhere.example", files=files)
    assert not known.revoked(good, "lab.example", files=files)
    assert known.why_none("old.example", files=files) == "known_hosts has only revoked keys of it"
    assert pins(book, "a.corp.example") == ()
    assert "certificate authority" in (known.why_none("a.corp.example", files=files) or "")


@pytest.mark.need("sshd")
def test_fingerprints_are_those_that_openssh_prints(tmp_path: Path, keys: Keys) -> None:
    for name in ("ed1", "rsa1", "ecdsa1"):
        key = keys(name)
        shown = subprocess.run(
            ["ssh-keygen", "-l", "-f", str(tmp_path / f"key-{name}.pub")],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()[1]
        assert fingerprint(key) == shown


def test_files_that_are_not_there_say_nothing(tmp_path: Path) -> None:
    assert known.pins("a", files=(str(tmp_path / "none"), str(tmp_path))) == ()


@pytest.mark.parametrize(("held", "told"), [("lab", True), ("other", False), (None, False)])
def test_an_old_key_is_to_be_taken_out_of_known_hosts_only_where_it_is_there(
    keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: str | None, told: bool
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    pinned = {"lab": keys("ed1"), "other": keys("ed2"), None: ""}[held]
    (tmp_path / ".ssh" / "known_hosts").write_text(f"[10.0.0.7]:2222 {pinned}\n" if pinned else "")
    record = HostRecord("lab", Route("10.0.0.7", 2222, "dev", pins=(keys("ed1"),)))
    page = meeting.page(record, KeyChanged("lab shows another key"), "host list")
    assert (page.code, page.hint) == (
        "host-key-changed",
        "host add lab dev@10.0.0.7:2222 --fingerprint SHA256:…",
    )
    mend = "known_hosts still has the old key: ssh-keygen -R '[10.0.0.7]:2222'"
    assert (mend in page.details[1]) is ("known_hosts" in page.details[1]) is told, page.details
