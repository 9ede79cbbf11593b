"""The user's OpenSSH configuration, read as OpenSSH reads it: its own `ssh -G` is the judge."""

from __future__ import annotations

import getpass
import subprocess
from pathlib import Path

import pytest

from launcher.errors import LauncherError
from launcher.models import Route
from launcher.ssh import config

ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIb6Zg0DyHLk2w2X3rk3DNzVMqTt2k6n4B1sSZP0e7yE"


class Ssh:
    """A home with an .ssh folder, and nothing of the system's."""

    def __init__(self, home: Path) -> None:
        self.folder = home / ".ssh"
        self.folder.mkdir(mode=0o700)

    def write(self, text: str, name: str = "config") -> Path:
        file = self.folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        return file

    def route(self, name: str) -> Route | None:
        return config.route_of(name, files=(str(self.folder / "config"),))

    def found(self, name: str) -> Route:
        route = self.route(name)
        assert route is not None
        return route


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ssh:
    monkeypatch.setenv("HOME", str(tmp_path))
    return Ssh(tmp_path)


def test_what_an_alias_stands_for(ssh: Ssh, tmp_path: Path) -> None:
    ssh.write(
        """
        # a comment
        Host lab lab-*
            HostName 10.1.2.3
            User=ada
            Port 2222
            IdentityFile ~/.ssh/id_lab
            IdentityFile "%d/.ssh/with blank %h"
            IdentitiesOnly yes
        Host *
            User nobody
            IdentityFile ~/.ssh/id_all
        """
    )
    home = str(tmp_path)
    keys = (f"{home}/.ssh/id_lab", f"{home}/.ssh/with blank 10.1.2.3", f"{home}/.ssh/id_all")
    assert ssh.found("lab") == Route("10.1.2.3", 2222, "ada", keys=keys, agent_others=False)
    assert ssh.route("elsewhere") is None  # `*` names nobody
    assert ssh.found("lab-7").address == "10.1.2.3"


def test_no_files_no_aliases(ssh: Ssh) -> None:
    assert ssh.route("lab") is None


def test_keys_of_known_hosts_come_along(ssh: Ssh) -> None:
    ssh.write(f"[10.0.0.1]:2200 {ED25519} a comment\ncluster {ED25519}\n", "known_hosts")
    ssh.write(f"gate.example {ED25519}\n", "others")
    ssh.write(
        """
        Host a
            HostName 10.0.0.1
            Port 2200
        Host b
            HostName 10.0.0.2
            Port 2200
        Host c
            HostName 10.0.0.2
            HostKeyAlias cluster
            Port 2200
        Host d
            HostName gate.example
            UserKnownHostsFile ~/.ssh/none %d/.ssh/others
        """
    )
    assert [ssh.found(name).pins for name in "abcd"] == [(ED25519,), (), (ED25519,), (ED25519,)]


def test_jump_hosts_in_a_row_and_aliases_among_them(ssh: Ssh) -> None:
    ssh.write(f"gate.example {ED25519}\n", "known_hosts")
    ssh.write(
        """
        Host gate
            HostName gate.example
            User porter
            ProxyJump outer
        Host outer
            HostName outer.example
        Host lab
            HostName 10.0.0.1
            ProxyJump gate,me@second.example:2022
        Host six
            HostName 10.0.0.2
            ProxyJump ssh://root@[fe80::1]:22
        Host plain
            HostName 10.0.0.3
            ProxyJump none
            ProxyCommand nc %h %p
        """
    )
    lab = ssh.found("lab")
    chain = []
    at: Route | None = lab
    while at is not None:
        chain.append((at.user, at.address, at.port))
        at = at.via
    me = getpass.getuser()
    assert chain == [
        (me, "10.0.0.1", 22),
        ("me", "second.example", 2022),
        ("porter", "gate.example", 22),
        (me, "outer.example", 22),
    ]
    assert lab.via is not None
    assert lab.via.via is not None
    assert lab.via.via.pins == (ED25519,)
    six = ssh.found("six").via
    assert six is not None
    assert (six.user, six.address, six.port) == ("root", "fe80::1", 22)
    assert ssh.found("plain").via is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Host x\n ProxyCommand nc %h %p", "config:2: it is reached by a ProxyCommand"),
        ("Host x\nMatch exec true\n User a", "config:2: 'Match exec' cannot be decided"),
        ("Host x\n ProxyJump y\nHost y\n ProxyJump x", "in a circle: x > y > x"),
        ("Host x\n Port many", "config:2: Port many"),
        ('Host x\n User "a', "config:2: the quotes"),
        ("Host x\n IdentityFile %T/key", "%T is not understood"),
        ("Host x\n ProxyJump a:b:c,", "is no jump host"),
        ("Host x\nInclude config", "too deep"),
    ],
)
def test_what_cannot_be_followed_is_refused_in_words(ssh: Ssh, text: str, told: str) -> None:
    ssh.write(text)
    with pytest.raises(LauncherError) as refused:
        ssh.route("x")
    assert told in refused.value.message
    assert refused.value.hint in ("host add x USER@ADDRESS", "host add y USER@ADDRESS")  # y is its jump host


def test_a_program_for_another_host_does_not_matter(ssh: Ssh) -> None:
    ssh.write("Host y\n ProxyCommand nc\nMatch host y exec true\n User a\nHost x\n User b")
    assert ssh.found("x").user == "b"


ORACLE = """
User first-of-all
Host jump.example late.example
    ProxyJump none
    Port 77
Match all
Include conf.d/*.conf more
Host lab
    HostName %h.example.org
    Port 2201
    IdentityFile ~/.ssh/one
Host lab gate !other
    IdentityFile ~/.ssh/%r@%h
    ProxyJump jumper@jump.example:2022
Host *.org
    User never
Match host lab.example.org
    Port 9
    IdentityFile ~/.ssh/by-match
Match originalhost gate user first-of-all
    HostName gate.example.net
    HostKeyAlias the-gate
    UserKnownHostsFile ~/.ssh/a "~/.ssh/b c"
Match !host lab.example.org
    Port 7777
Match final host gate.example.net
    IdentityFile ~/.ssh/at-last
Host in-a-block
    Include block
    IdentitiesOnly yes
Host no-*-jump
    ProxyJump none
    Hostname = 10.9.8.7
Host *
    ProxyJump late.example
    IdentityFile ~/.ssh/for-all
"""


@pytest.mark.need("sshd")
@pytest.mark.parametrize(
    "name", ["lab", "gate", "in-a-block", "no-such-jump", "from-include", "other", "x.org"]
)
def test_it_is_what_openssh_makes_of_it(ssh: Ssh, name: str) -> None:
    file = ssh.write(f"Host {name}\n" + ORACLE.replace("User first", "Match all\nUser first", 1))
    ssh.write("Host from-include lab\n Port 4444\n IdentityFile /from/include\n", "conf.d/10.conf")
    ssh.write("Host from-include\n Port 5555\n User too-late\n", "conf.d/20.conf")
    ssh.write("Host in-a-block\n HostName block.example\nHost gate\n Port 1\n", "block")
    for other in ssh.folder.rglob("*"):
        other.chmod(0o700 if other.is_dir() else 0o600)
    text = file.read_text().replace("Include conf.d/*.conf more", f"Include {ssh.folder}/conf.d/*.conf more")
    file.write_text(text.replace("Include block", f"Include {ssh.folder}/block"))
    done = subprocess.run(["ssh", "-G", "-F", str(file), name], capture_output=True, text=True, check=True)
    theirs: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        key, _, value = line.partition(" ")
        theirs.setdefault(key, []).append(value)
    ours = ssh.found(name)
    assert (ours.address, str(ours.port), ours.user) == (
        theirs["hostname"][0],
        theirs["port"][0],
        theirs["user"][0],
    )
    assert ours.agent_others == (theirs["identitiesonly"] == ["no"])
    tilde = [key.replace("~", str(ssh.folder.parent), 1) for key in theirs["identityfile"]]
    assert [_filled(key, ours) for key in tilde] == list(ours.keys)
    jump = theirs.get("proxyjump", ["none"])[0]
    via = f"{ours.via.user}@{ours.via.address}:{ours.via.port}" if ours.via else "none"
    assert via in (jump, f"first-of-all@{jump}:77")


def _filled(key: str, route: Route) -> str:
    """`ssh -G` prints these unfilled."""
    return key.replace("%r", route.user).replace("%h", route.address)
