"""What the system's ssh client is told: asked of the client itself, and read as text."""

from __future__ import annotations

import stat
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from launcher import sshfiles
from launcher.errors import LauncherError
from launcher.models import Route
from launcher.store import Home

PIN = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIb6Zg0DyHLk2w2X3rk3DNzVMqTt2k6n4B1sSZP0e7yE"
OTHER = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAAA="
JUMP = Route("jump.example", 2022, "hop", keys=("/keys/jump",), pins=(OTHER,), agent=False)
ROUTE = Route("10.1.2.3", 2200, "me", keys=("/keys/a b", "/keys/100%"), pins=(PIN + " comment",), via=JUMP)


@pytest.fixture
def house(tmp_path: Path) -> Home:
    """A data folder whose name has a blank, as on some systems."""
    home = Home(tmp_path / "data folder")
    home.run("fox-abcd").root.mkdir(parents=True)
    return home


def told(config: Path, alias: str) -> dict[str, str]:
    """The client's own reading of its configuration."""
    asked = subprocess.run(["ssh", "-G", "-F", config, alias], capture_output=True, text=True, check=True)
    return dict(line.split(" ", 1) for line in asked.stdout.splitlines())


@pytest.mark.need("sshd")
class TestTheClientReads:
    def test_the_machine_its_pin_and_nothing_loose(self, house: Home) -> None:
        folder = house.run("fox-abcd")
        seen = told(sshfiles.write(folder, ROUTE), "fox-abcd")
        assert (seen["hostname"], seen["port"], seen["user"]) == ("10.1.2.3", "2200", "me")
        assert seen["stricthostkeychecking"] == "true"
        assert seen["hostkeyalias"] == "fox-abcd"
        assert seen["userknownhostsfile"].strip('"') == str(folder.ssh / "known_hosts")
        assert seen["globalknownhostsfile"] == "/dev/null"
        assert (seen["identitiesonly"], seen["forwardagent"]) == ("yes", "no")
        assert seen["proxyjump"] == "fox-abcd-jump1"
        assert seen["identityfile"] == "/keys/100%%"

    def test_the_jump_host_is_as_strict_and_asks_no_agent(self, house: Home) -> None:
        seen = told(sshfiles.write(house.run("fox-abcd"), ROUTE), "fox-abcd-jump1")
        assert (seen["hostname"], seen["port"], seen["user"]) == ("jump.example", "2022", "hop")
        assert (seen["identityagent"], seen["stricthostkeychecking"]) == ("none", "true")
        assert "proxyjump" not in seen

    def test_one_include_line_finds_every_run(self, house: Home, tmp_path: Path) -> None:
        for name in ("fox-abcd", "owl-efgh"):
            house.run(name).root.mkdir(parents=True, exist_ok=True)
            sshfiles.offer(house, house.run(name), replace(ROUTE, address=f"{name}.example"))
        mine = tmp_path / "config"
        mine.write_text(f"{sshfiles.include(house)}\nHost *\n  User somebody\n  StrictHostKeyChecking no\n")
        for name in ("fox-abcd", "owl-efgh"):
            seen = told(mine, name)
            assert (seen["hostname"], seen["user"]) == (f"{name}.example", "me")
            assert seen["stricthostkeychecking"] == "true"
        sshfiles.forget(house, "fox-abcd")
        assert told(mine, "fox-abcd")["hostname"] == "fox-abcd"
        assert told(mine, "owl-efgh")["hostname"] == "owl-efgh.example"


def test_only_the_user_may_read_them(house: Home) -> None:
    folder = house.run("fox-abcd")
    file = sshfiles.offer(house, folder, ROUTE)
    for one in (file, folder.ssh / "config", folder.ssh / "known_hosts"):
        assert stat.S_IMODE(one.stat().st_mode) == 0o600
    for one in (file.parent, folder.ssh):
        assert stat.S_IMODE(one.stat().st_mode) == 0o700


def test_hosts_are_known_by_the_runs_name_not_by_an_address() -> None:
    said = sshfiles.known_hosts("fox", ROUTE).splitlines()
    assert said == [f"fox {PIN}", f"fox-jump1 {OTHER}"]


def test_without_keys_of_its_own_the_agents_may_be_tried() -> None:
    text = sshfiles.block("fox", Route("a", 22, "u"), Path("/k"))
    assert "IdentitiesOnly no" in text and "IdentityFile" not in text and "ProxyJump none" in text
    assert "IdentitiesOnly yes" in sshfiles.block("fox", Route("a", 22, "u", agent_others=False), Path("/k"))


@pytest.mark.parametrize(
    "route",
    [
        replace(ROUTE, address="a\nProxyCommand touch /tmp/x"),
        replace(ROUTE, address="-oProxyCommand=x"),
        replace(ROUTE, user="me you"),
        replace(ROUTE, user=""),
        replace(ROUTE, keys=('/a"\nProxyCommand x',)),
        replace(ROUTE, via=replace(JUMP, address="$(x)")),
    ],
)
def test_what_could_say_more_than_a_name_is_refused(house: Home, route: Route) -> None:
    with pytest.raises(LauncherError) as refused:
        sshfiles.offer(house, house.run("fox-abcd"), route)
    assert refused.value.code == "ssh-config-odd"
    assert sshfiles.offered(house) == ()


def test_what_was_offered_is_listed_until_it_is_forgotten(house: Home) -> None:
    assert sshfiles.offered(house) == ()
    sshfiles.offer(house, house.run("fox-abcd"), ROUTE)
    assert sshfiles.offered(house) == ("fox-abcd",)
    sshfiles.forget(house, "fox-abcd")
    sshfiles.forget(house, "fox-abcd")
    assert sshfiles.offered(house) == ()
    assert list(house.run("fox-abcd").ssh.iterdir()) == []
