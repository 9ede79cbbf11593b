"""The book of hosts as a person keeps it: whose key is believed, what is asked, told and refused."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.ssh.errors import fingerprint
from tests.conftest import run_command
from tests.e2e.hosted import HostedPerson, lets_go
from tests.e2e.person import COMMAND
from tests.hosts.boxes import Box, Gpu, sshd_container


@pytest.fixture
def person(holder: HostedPerson) -> HostedPerson:
    (holder.root / "home" / ".ssh").mkdir(mode=0o700)
    return holder


@pytest.fixture(scope="module")
def shared() -> Iterator[Box]:
    with sshd_container(
        "openssh", gpus=[Gpu("NVIDIA GeForce RTX 4090"), Gpu("NVIDIA GeForce RTX 4090")]
    ) as box:
        yield box


def there(box: Box) -> tuple[str, str, str]:
    return (f"dev@{box.route.address}:{box.route.port}", "--key", box.route.keys[0])


def home_of(person: HostedPerson) -> Path:
    return person.root / "home" / ".ssh"


# --- bad input --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (("add", "Lab", "dev@x"), 2, "small letters"),
        (("add", "any", "dev@x"), 2, "means any of them"),
        (("add", "x" * 41, "dev@x"), 2, "1 to 40"),
        (("add", "lab", "dev@"), 2, "is no address"),
        (("add", "lab", "dev@-oProxyCommand=x"), 2, "is no address"),
        (("add", "lab", "dev@x:99999"), 2, "no port"),
        (("add", "lab", "dev@x:ssh"), 2, "no port"),
        (("add", "lab"), 2, "no host in your SSH configuration"),
        (("add", "lab", "dev@x", "--key", "nowhere"), 2, "No such file"),
        (("add", "lab", "dev@x", "--fingerprint", "MD5:aa"), 2, "SHA256:"),
        (("add", "lab", "dev@x", "--usd-per-hour", "cheap"), 2, "--usd-per-hour"),
        (("check", "lab"), 2, "no host 'lab'"),
        (("check",), 2, "--all"),
        (("remove", "lab"), 2, "no host 'lab'"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    person: HostedPerson, words: tuple[str, ...], status: int, told: str
) -> None:
    said = person.types("host", *words)
    assert said.code == status and told in said.stderr, said.stderr
    assert not (person.home / "hosts").exists()


def test_keys_that_cannot_be_used_are_told_before_anybody_is_asked(person: HostedPerson) -> None:
    open_key = person.writes("open", "-----BEGIN OPENSSH PRIVATE KEY-----\n")
    open_key.chmod(0o644)
    public = person.writes("id.pub", "ssh-ed25519 AAAA me\n")
    for key, told in ((open_key, "can be read by others"), (public, "public half")):
        said = person.types("host", "add", "lab", "dev@nowhere.invalid", "--key", str(key))
        assert said.code == 2 and told in said.stderr, said.stderr


@pytest.mark.parametrize("words", [("list",), ("check", "--all")])
def test_where_no_host_is_known_the_line_that_adds_one_is_told(
    person: HostedPerson, words: tuple[str, ...]
) -> None:
    said = person.types("host", *words)
    assert said.code == 0 and "no hosts yet" in said.stdout and "host add NAME" in said.stdout
    assert person.types("host", *words, "--json").json() == []


def test_a_run_on_an_unknown_host_names_the_nearest(person: HostedPerson) -> None:
    said = person.types("run", "--on", "ssh:any")
    assert said.code == 2 and "host add" in said.stderr, said.stderr
    said = person.types("plan", "--on", "ssh:lab")
    assert said.code == 2 and "no host 'lab'" in said.stderr, said.stderr


# --- whose key is believed --------------------------------------------------------------------------


@pytest.mark.need("docker")
def test_without_a_terminal_an_unknown_key_is_refused_with_the_line_that_adds_it(
    person: HostedPerson, box: Box
) -> None:
    refused = person.types("host", "add", "lab", *there(box))
    assert refused.code == 2 and "host-key-unknown" in refused.stderr
    (line,) = [one for one in refused.stderr.splitlines() if "hint:" in one]
    assert line.endswith(f"--fingerprint {fingerprint(box.route.pins[0])}")
    pasted = line.split("hint: launcher ")[1].split()
    assert person.types(*pasted).code == 0
    assert "lab" in person.types("host", "list").stdout


@pytest.mark.need("docker")
def test_on_a_terminal_one_yes_is_asked_for(person: HostedPerson, box: Box) -> None:
    with person.terminal("host", "add", "lab", *there(box)) as screen:
        screen.sees(r"SHA256:[\w+/]{43}")
        screen.sees("Is that its key")
        screen.types("n\n")
        assert screen.ends() == 130
    assert person.types("host", "list", "--json").json() == []
    with person.terminal("host", "add", "lab", *there(box)) as screen:
        screen.sees("Is that its key")
        screen.types("y\n")
        assert screen.ends() == 0, screen.text
    (host,) = person.types("host", "list", "--json").json()
    assert (host["name"], host["state"], len(host["gpus"])) == ("lab", "2 of 2 free", 2)


@pytest.mark.need("docker")
def test_a_key_of_known_hosts_needs_no_question(person: HostedPerson, box: Box) -> None:
    known = home_of(person) / "known_hosts"
    known.write_text(f"[{box.route.address}]:{box.route.port} {box.route.pins[0]}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", known], check=True, capture_output=True)
    assert person.types("host", "add", "lab", *there(box)).code == 0


@pytest.mark.need("docker")
def test_another_key_than_the_known_one_is_a_hard_stop(person: HostedPerson, box: Box) -> None:
    other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIH4aZ0ZbYkQ2n9b7Yx0mQn1j5m6qk2w0p8r3t5v7x9zB"
    (home_of(person) / "known_hosts").write_text(f"[{box.route.address}]:{box.route.port} {other}\n")
    refused = person.types("host", "add", "lab", *there(box))
    assert refused.code == 6 and "host-key-changed" in refused.stderr, refused.stderr
    wrong = person.types("host", "add", "lab", *there(box), "--fingerprint", fingerprint(other))
    assert wrong.code == 6 and fingerprint(box.route.pins[0]) in wrong.stderr, wrong.stderr
    assert f"ssh-keygen -R '[{box.route.address}]:{box.route.port}'" in wrong.stderr, wrong.stderr
    assert not (person.home / "hosts").exists()


@pytest.mark.need("docker")
def test_a_host_that_shows_another_key_later_is_told_with_the_line_that_believes_it(
    person: HostedPerson, box: Box
) -> None:
    person.knows("lab", box)
    record = person.home / "hosts" / "lab.json"
    other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIH4aZ0ZbYkQ2n9b7Yx0mQn1j5m6qk2w0p8r3t5v7x9zB"
    record.write_text(record.read_text().replace(box.route.pins[0], other))
    changed = person.types("host", "check", "lab")
    assert changed.code == 6 and "host-key-changed" in changed.stderr, changed.stderr
    assert "ask who runs it" in changed.stderr and "known_hosts" not in changed.stderr, changed.stderr
    line = f"host add lab {there(box)[0]} --key {box.route.keys[0]} --fingerprint"
    assert line in changed.stderr, changed.stderr
    right = person.types(*line.split(), fingerprint(box.route.pins[0]))
    assert right.code == 0 and person.types("host", "check", "lab").code == 0


@pytest.mark.need("docker")
def test_who_is_not_let_in_is_not_added(person: HostedPerson, box: Box) -> None:
    key = person.root / "stranger"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    words = (there(box)[0], "--key", str(key), "--fingerprint", fingerprint(box.route.pins[0]))
    refused = person.types("host", "add", "lab", *words)
    assert refused.code == 3 and "host-login-refused" in refused.stderr, refused.stderr


# --- ways there -------------------------------------------------------------------------------------


def alias(person: HostedPerson, text: str) -> None:
    (home_of(person) / "config").write_text(text)


@pytest.mark.need("docker")
def test_an_alias_behind_a_jump_host_runs_without_being_added(person: HostedPerson, box: Box) -> None:
    person.trainer()
    with sshd_container("openssh", behind=box) as inner:
        alias(
            person,
            f"Host hop\n  HostName {box.route.address}\n  Port {box.route.port}\n  User dev\n"
            f"  IdentityFile {box.route.keys[0]}\n"
            f"Host deep\n  HostName {inner.route.address}\n  Port {inner.route.port}\n  User dev\n"
            f"  IdentityFile {box.route.keys[0]}\n  ProxyJump hop\n",
        )
        refused = person.types("run", "mini", "--on", "ssh:deep")
        assert refused.code == 2 and "host-key-unknown" in refused.stderr, refused.stderr
        where = f"dev@{box.route.address}:{box.route.port}"
        assert f"host add jump {where}" in refused.stderr, refused.stderr
        hop = ("--key", box.route.keys[0], "--fingerprint", fingerprint(box.route.pins[0]))
        assert person.types("host", "add", "jump", where, *hop).code == 0
        asked = person.types("host", "add", "deep")  # the jump host is believed by the book now
        assert asked.code == 2 and fingerprint(inner.route.pins[0]) in asked.stderr, asked.stderr
        assert person.types("host", "remove", "jump").code == 0
        (home_of(person) / "known_hosts").write_text(
            f"[{box.route.address}]:{box.route.port} {box.route.pins[0]}\n"
            f"[{inner.route.address}]:{inner.route.port} {inner.route.pins[0]}\n"
        )
        done = person.types("run", "mini", "--on", "ssh:deep", "--json")
        assert done.code == 0, done.stderr
        person.leaves_nothing(inner)


@pytest.mark.need("docker")
def test_a_profile_describes_hosts(person: HostedPerson, box: Box) -> None:
    text = {
        "on": ["ssh:gpu1"],
        "hosts": {
            "gpu1": {
                "address": there(box)[0],
                "key": box.route.keys[0],
                "fingerprint": fingerprint(box.route.pins[0]),
                "usd_per_hour": 0.12,
            }
        },
    }
    person.writes("launcher.yaml", json.dumps(text))
    person.trainer()
    planned = person.types("plan", "mini", "--json").json()["chosen"]
    assert (planned["target"], planned["usd_per_hour"]) == ("ssh:gpu1", 0.12)
    done = person.types("run", "mini", "--json")
    assert (done.code, done.json()["target"]) == (0, "ssh:gpu1"), done.stderr
    assert "launcher.yaml:" in person.types("host", "list").stdout
    person.leaves_nothing(box)


# --- what is told -----------------------------------------------------------------------------------


@pytest.mark.need("docker")
def test_check_tells_what_a_host_has_and_who_holds_it(person: HostedPerson, box: Box) -> None:
    person.knows("lab", box)
    app = box.occupied(box.gpus[0], user="guest", used_mb=18432)
    try:
        told = person.types("host", "check", "lab").stdout
        for words in ("1 of 2 free", "2× NVIDIA GeForce RTX 4090", "550.54.15", "python", "clock", "GB free"):
            assert words in told, told
        assert f"GPU 0: guest, process {app.pid}, 18.0 GiB" in told
        (document,) = person.types("host", "check", "--all", "--json").json()
        assert document["gpus"][0]["held_by"] and not document["gpus"][1]["held_by"]
        assert "1 of 2 free" in person.types("host", "list").stdout
    finally:
        box.freed(app)


@pytest.mark.need("docker")
def test_check_of_all_says_who_is_silent_and_still_tells_of_the_others(
    person: HostedPerson, box: Box
) -> None:
    person.knows("lab", box)
    with sshd_container("openssh") as other:
        person.knows("gone", other)
    said = person.types("host", "check", "--all")
    assert said.code == 6 and "gone: not reached" in said.stdout and "lab: 2 of 2 free" in said.stdout
    assert person.types("host", "check", "gone").code == 6


@pytest.mark.need("docker")
def test_a_plan_asks_nobody_and_compares_by_what_was_seen(person: HostedPerson, box: Box) -> None:
    person.trainer()
    person.knows("lab", box, "--usd-per-hour", "0.30")
    with sshd_container("openssh") as other:
        person.knows("cheap", other)  # gone when the plan is made: a plan does not know
    planned = person.types("plan", "mini", "--on", "ssh:any", "--json").json()
    rows = {one["target"]: one for one in planned["offers"] if one["target"].startswith("ssh:")}
    assert rows["ssh:lab"]["gpu"] == "RTX 4090" and rows["ssh:lab"]["gpu_count"] == 2
    assert rows["ssh:lab"]["usd"]["likely"] > 0 == rows["ssh:cheap"]["usd"]["likely"]
    assert planned["chosen"]["target"] == "ssh:cheap"
    refused = person.types("plan", "mini", "--on", "ssh:cheap", "--require-gpu")
    assert refused.code == 4 and "a GPU is required" in refused.stderr, refused.stderr
    assert person.types("plan", "mini", "--on", "ssh:lab", "--gpu", "A100-80GB").code == 4
    assert person.types("plan", "mini", "--on", "ssh:lab", "--gpu", "any-24gb", "--gpus", "2").code == 0


@pytest.mark.need("docker")
def test_a_host_is_not_forgotten_while_a_run_lives_there(person: HostedPerson, box: Box) -> None:
    person.knows("lab", box)
    person.steps("lives", "ssh:lab")
    refused = person.types("host", "remove", "lab")
    assert refused.code == 2 and "host-in-use" in refused.stderr, refused.stderr
    lets_go(box)
    assert person.types("watch", "lives", "--json").json()["state"] == "done"
    assert person.types("host", "remove", "lab").code == 0
    assert person.types("host", "list", "--json").json() == []
    person.leaves_nothing(box)


@pytest.mark.need("docker")
def test_names_complete(person: HostedPerson, box: Box) -> None:
    person.knows("lab", box)
    for words in ("launcher host check l", "launcher host remove l", "launcher run --on ssh:l"):
        env = {
            "_LAUNCHER_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(words.count(" ")),
        }
        said = run_command(COMMAND, person.project, person.environ(**env), "", 30)
        assert "lab" in said.stdout, words
