"""What every host promises, asked of a folder on this machine, a real container and machines over SSH."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from launcher.codec import dump
from launcher.errors import Corrupt, HostError, NoFile, Stopped
from launcher.models import Access
from launcher.remote import open_host
from launcher.remote.base import Host, Listed, Sending, Wanted
from tests.contract.conftest import eventually

ODD = (
    "two words.txt",
    'it\'s "quoted" $HOME `id`.txt',
    "훈련 결과.txt",
    "-rf",
    "a\\b",
    "#;&|*?.txt",
    "é" * 60,
)
BIG = 5 * (1 << 20) + 17


def quiet() -> None:
    pass


def listed(path: str, data: bytes) -> Listed:
    return Listed(path, len(data), sha256(data).hexdigest())


def present(host: Host, path: str) -> bool:
    try:
        host.read(path, 0, 1)
    except NoFile:
        return False
    return True


class TestRead:
    def test_a_missing_file_is_no_file(self, host: Host, spot: str) -> None:
        with pytest.raises(NoFile):
            host.read(f"{spot}/nothing")

    def test_from_an_offset_at_most_a_limit_and_nothing_at_the_end(self, host: Host, spot: str) -> None:
        host.write(f"{spot}/f", b"0123456789")
        assert host.read(f"{spot}/f") == b"0123456789"
        assert host.read(f"{spot}/f", 3, 4) == b"3456"
        assert host.read(f"{spot}/f", 8, 100) == b"89"
        assert host.read(f"{spot}/f", 10) == host.read(f"{spot}/f", 99) == b""

    def test_what_is_appended_is_seen(self, host: Host, spot: str) -> None:
        host.write(f"{spot}/log", b"one\n")
        host.run(["sh", "-c", 'printf "two\\n" >> log'], cwd=spot)
        assert host.read(f"{spot}/log", 4) == b"two\n"

    def test_many_at_once(self, host: Host, spot: str) -> None:
        host.put([Sending(f"{spot}/{name}", data=name.encode()) for name in ODD], quiet)
        wanted = [Wanted(f"{spot}/{name}") for name in ODD]
        wanted[3:3] = [Wanted(f"{spot}/nothing"), Wanted(f"{spot}/{ODD[0]}", 4, 3), Wanted(f"{spot}/-rf", 9)]
        found: list[bytes | None] = [name.encode() for name in ODD]
        found[3:3] = [None, b"wor", b""]
        assert host.read_many(wanted) == found
        assert host.read_many([]) == []
        with pytest.raises(HostError):
            host.read_many([Wanted(f"{spot}/-rf"), Wanted(spot)])

    def test_at_any_offset_of_a_large_file(self, host: Host, spot: str) -> None:
        data = os.urandom(200_000)
        host.write(f"{spot}/f", data)
        for offset in (0, 1, 65_535, 65_536, 65_537, 131_072, 199_999):
            assert host.read(f"{spot}/f", offset, 70_000) == data[offset : offset + 70_000]

    def test_a_folder_a_pipe_and_a_link_out_are_refused(self, host: Host, spot: str) -> None:
        made = host.run(
            ["sh", "-c", f"mkdir -p {spot} && cd {spot} && mkfifo pipe && ln -s /etc/passwd link"]
        )
        assert made.exit_code == 0
        for name in ("", "/pipe", "/link"):
            with pytest.raises(HostError):
                host.read(spot + name)

    @pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "", "a//b", "a\0b"])
    def test_names_that_lead_out_are_refused(self, host: Host, name: str) -> None:
        with pytest.raises(HostError) as refused:
            host.read(name)
        assert not isinstance(refused.value, NoFile)
        with pytest.raises(HostError):
            host.write(name, b"")
        with pytest.raises(HostError):
            host.put([Sending(name, data=b"")], quiet)


class TestWrite:
    def test_makes_folders_replaces_whole_and_sets_the_mode(self, host: Host, spot: str) -> None:
        host.write(f"{spot}/in/1.json", b"a longer first text")
        host.write(f"{spot}/in/1.json", b"short", 0o640)
        assert host.read(f"{spot}/in/1.json") == b"short"
        shown = host.run(["stat", "-c", "%a", f"{spot}/in/1.json"])
        assert shown.stdout.strip() == b"640"

    def test_is_private_unless_told_otherwise(self, host: Host, spot: str) -> None:
        host.write(f"{spot}/secret.json", b"{}")
        assert host.run(["stat", "-c", "%a", f"{spot}/secret.json"]).stdout.strip() == b"600"

    def test_leaves_nothing_beside(self, host: Host, spot: str) -> None:
        host.write(f"{spot}/f", b"1")
        assert host.run(["ls", "-A"], cwd=spot).stdout == b"f\n"

    def test_never_shows_a_half(self, host: Host, spot: str) -> None:
        """A reader in the host sees the old or the new text, whenever it looks."""
        old, new = b"o" * 200_000, b"n" * 300_000
        host.write(f"{spot}/f", old)
        watch = (
            "old=; new=; until [ $old$new = yesyes ]; do cp f seen; "
            "case $(tr -d n <seen | wc -c)-$(tr -d o <seen | wc -c) in "
            "200000-0) old=yes; : >started ;; 0-300000) new=yes ;; *) exit 1 ;; esac; done; : >fine"
        )
        host.start(["sh", "-c", watch], cwd=spot)
        eventually(lambda: present(host, f"{spot}/started"))
        host.write(f"{spot}/f", new)
        eventually(lambda: present(host, f"{spot}/fine"))


class TestRun:
    @pytest.mark.parametrize("word", [*ODD, "", "a\nb", "*", "$(id)"])
    def test_words_arrive_as_they_were(self, host: Host, word: str) -> None:
        assert host.run(["sh", "-c", 'printf %s "$1"', "sh", word]).stdout == word.encode()

    def test_tells_status_and_both_streams(self, host: Host) -> None:
        done = host.run(["sh", "-c", "echo out; echo err >&2; exit 7"])
        assert (done.exit_code, done.stdout, done.stderr) == (7, b"out\n", b"err\n")

    def test_hands_over_stdin_whole(self, host: Host) -> None:
        data = os.urandom(700_000)
        assert host.run(["cat"], stdin=data).stdout == data

    def test_starts_in_a_folder_of_the_root(self, host: Host, spot: str) -> None:
        host.put([Sending(spot, 0o755)], quiet)
        assert host.run(["pwd"], cwd=spot).stdout.decode().rstrip().endswith(f"/{spot}")
        assert host.run(["pwd"]).stdout.decode().rstrip() == host.root

    def test_a_missing_program_is_an_answer(self, host: Host) -> None:
        assert host.run(["no-such-program-here"]).exit_code == 127

    def test_ends_at_its_deadline_and_leaves_nothing_running(self, host: Host, spot: str) -> None:
        host.put([Sending(spot, 0o755)], quiet)
        begun = time.monotonic()
        with pytest.raises(HostError):
            host.run(["sh", "-c", "echo $$ > pid; exec sleep 100"], cwd=spot, timeout=0.5)
        assert time.monotonic() - begun < 5
        pid = host.read(f"{spot}/pid").decode().strip()
        assert host.run(["sh", "-c", f"kill -0 {pid}"]).exit_code != 0
        assert host.run(["true"]).exit_code == 0

    def test_start_lives_on_without_us(self, access: Access, spot: str) -> None:
        host = open_host(access)
        host.put([Sending(spot, 0o755)], quiet)
        host.start(["sh", "-c", "echo $$ > pid.new; mv pid.new pid; exec sleep 100"], cwd=spot)
        eventually(lambda: present(host, f"{spot}/pid"))
        host.close()
        again = open_host(access)
        pid = again.read(f"{spot}/pid").decode().strip()
        assert again.run(["sh", "-c", f"kill {pid}"]).exit_code == 0
        again.close()


class TestPut:
    def test_files_folders_links_modes_and_odd_names_arrive(
        self, host: Host, spot: str, tmp_path: Path
    ) -> None:
        big = os.urandom(BIG)
        (tmp_path / "big").write_bytes(big)
        odd = (*ODD, "line\nbreak")
        files = [Sending(f"{spot}/{name}/{name}", data=name.encode()) for name in odd]
        files += [
            Sending(f"{spot}/big", 0o755, source=tmp_path / "big"),
            Sending(f"{spot}/empty", data=b""),
            Sending(f"{spot}/folder", 0o755),
            Sending(f"{spot}/deep/er/link", link="../../big"),
            Sending(f"{spot}/dangling", link="/nowhere/at all"),
        ]
        host.put(files, quiet)
        for name in odd:
            assert host.read(f"{spot}/{name}/{name}") == name.encode()
        arrived = host.run(["sha256sum", f"{spot}/big"]).stdout.split()[0].decode()
        assert arrived == sha256(big).hexdigest()
        show = "find . -maxdepth 1 -name 'big' -perm 755; test -s empty || echo void; ls -A folder | wc -l"
        links = "readlink deep/er/link; readlink dangling; sha256sum < deep/er/link | cut -c1-64"
        told = host.run(["sh", "-c", f"{show}; {links}"], cwd=spot).stdout.decode().splitlines()
        assert told == ["./big", "void", "0", "../../big", "/nowhere/at all", sha256(big).hexdigest()]

    def test_existing_things_are_replaced(self, host: Host, spot: str) -> None:
        host.put([Sending(f"{spot}/a", data=b"long and old"), Sending(f"{spot}/l", link="a")], quiet)
        host.put([Sending(f"{spot}/a", data=b"new"), Sending(f"{spot}/l", link="b")], quiet)
        host.put([Sending(spot, 0o755)], quiet)
        assert host.read(f"{spot}/a") == b"new"
        assert host.run(["readlink", f"{spot}/l"]).stdout == b"b\n"

    def test_thousands_of_small_files(self, host: Host, spot: str) -> None:
        host.put([Sending(f"{spot}/{i % 40}/{i}", data=b"%d" % i) for i in range(2500)], quiet)
        count = host.run(["sh", "-c", "find . -type f | wc -l; cat 7/1247"], cwd=spot)
        assert count.stdout.split() == [b"2500", b"1247"]

    def test_a_stop_while_sending_leaves_a_host_that_goes_on(
        self, host: Host, spot: str, tmp_path: Path
    ) -> None:
        (tmp_path / "big").write_bytes(bytes(4 * BIG))
        many = [Sending(f"{spot}/{i}", source=tmp_path / "big") for i in range(4)]
        with pytest.raises(Stopped):
            host.put(many, stop_after(3))
        host.put(many[:1], quiet)
        assert host.run(["stat", "-c", "%s", f"{spot}/0"]).stdout.strip() == b"%d" % (4 * BIG)


def stop_after(calls: int) -> Callable[[], None]:
    left = [calls]

    def tick() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Stopped("enough")

    return tick


class TestGet:
    def test_brings_what_is_listed_and_nothing_else(self, host: Host, spot: str, tmp_path: Path) -> None:
        contents = {name: name.encode() * 3 for name in ODD}
        contents |= {"deep/er/still": b"x", "empty": b"", "big": os.urandom(BIG)}
        files = [Sending(f"{spot}/{name}", data=data) for name, data in contents.items()]
        host.put([*files, Sending(f"{spot}/unlisted", data=b"stays")], quiet)
        host.get(spot, [listed(n, d) for n, d in contents.items()], tmp_path / "staging", quiet)
        found = {
            path.relative_to(tmp_path / "staging").as_posix(): path.read_bytes()
            for path in (tmp_path / "staging").rglob("*")
            if path.is_file()
        }
        assert found == contents

    def test_goes_on_where_a_stop_cut_it(self, host: Host, spot: str, tmp_path: Path) -> None:
        data = os.urandom(4 * BIG)
        host.put([Sending(f"{spot}/a", data=b"first"), Sending(f"{spot}/big", data=data)], quiet)
        listing = [listed("a", b"first"), listed("big", data)]
        with pytest.raises(Stopped):
            host.get(spot, listing, tmp_path, stop_after(8))
        had = (tmp_path / "big").stat().st_size
        assert 0 < had < len(data)
        host.write(f"{spot}/big", b"\0" * (had // 2) + data[had // 2 :])  # what is here is not read again
        host.get(spot, listing, tmp_path, quiet)
        assert (tmp_path / "big").read_bytes() == data

    @pytest.mark.parametrize("there", [b"1234", b"123456", b"abcde"])
    def test_other_than_announced_is_corrupt_and_does_not_stay(
        self, host: Host, spot: str, tmp_path: Path, there: bytes
    ) -> None:
        host.write(f"{spot}/f", there)
        with pytest.raises(Corrupt):
            host.get(spot, [listed("f", b"12345")], tmp_path, quiet)
        assert not (tmp_path / "f").exists()

    def test_a_link_is_not_followed(self, host: Host, spot: str, tmp_path: Path) -> None:
        host.write(f"{spot}/real", b"secret")
        host.put([Sending(f"{spot}/out/link", link="../real")], quiet)
        with pytest.raises(HostError):
            host.get(f"{spot}/out", [listed("link", b"secret")], tmp_path, quiet)

    def test_an_announced_file_that_is_missing_is_no_file(
        self, host: Host, spot: str, tmp_path: Path
    ) -> None:
        with pytest.raises(NoFile):
            host.get(spot, [listed("f", b"")], tmp_path, quiet)

    def test_ticks_at_least_twice_a_second(self, host: Host, spot: str, tmp_path: Path) -> None:
        data = bytes(12 * BIG)
        at = [time.monotonic()]

        def tick() -> None:
            at.append(time.monotonic())

        host.put([Sending(f"{spot}/big", data=data)], tick)
        host.get(spot, [listed("big", data)], tmp_path, tick)
        tick()
        assert max(b - a for a, b in itertools.pairwise(at)) < 0.5


LOCALE_CHECK = """
import json, pathlib, sys
from hashlib import sha256
from launcher.codec import load
from launcher.models import Access
from launcher.remote import open_host
from launcher.remote.base import Listed, Sending
assert sys.getfilesystemencoding() == "ascii"
access, spot, staging = sys.argv[1:]
host = open_host(load(Access, json.loads(access)))
name = "\\uacb0\\uacfc \\u00e9.txt"
host.put([Sending(f"{spot}/{name}", data=b"k")], lambda: None)
host.write(f"{spot}/in/{name}", b"k")
assert host.read(f"{spot}/{name}") == b"k"
host.get(spot, [Listed(name, 1, sha256(b"k").hexdigest())], pathlib.Path(staging), lambda: None)
host.close()
"""


def test_names_do_not_depend_on_the_locale(access: Access, spot: str, tmp_path: Path) -> None:
    (tmp_path / "check.py").write_text(LOCALE_CHECK)
    done = subprocess.run(
        [sys.executable, "check.py", json.dumps(dump(access)), spot, "staging"],
        cwd=tmp_path,
        env={
            **os.environ,
            "LC_ALL": "C",
            "PYTHONUTF8": "0",
            "PYTHONCOERCECLOCALE": "0",
            "PYTHONPATH": str(Path(__file__).parents[2]),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    name = "결과 é.txt".encode()
    assert os.listdir(os.fsencode(tmp_path / "staging")) == [name]
    host = open_host(access)
    assert host.run(["sh", "-c", "printf %s *"], cwd=f"{spot}/in").stdout == name
    host.close()


def test_close_twice_is_silent_and_the_host_lives_on(access: Access, spot: str) -> None:
    host = open_host(access)
    host.write(f"{spot}/f", b"1")
    host.close()
    host.close()
    again = open_host(access)
    assert again.read(f"{spot}/f") == b"1"
    again.close()
