"""What every host tells of files that nobody listed: which there are, how large, and their sha256."""

from __future__ import annotations

import itertools
import os
import time
from hashlib import sha256
from pathlib import Path

import pytest

from launcher.artifacts import as_kept
from launcher.errors import HostError, Stopped
from launcher.remote.base import Host, Listed, Sending, Tick
from tests.contract.test_hosts import BIG, ODD, listed, quiet, stop_after

LARGE = 1500 << 20


def all_digests(host: Host, base: str, tick: Tick = quiet) -> tuple[list[Listed], list[str]]:
    """Answer by answer, to the end."""
    files: list[Listed] = []
    left_out: list[str] = []
    last: str | None = ""
    while last is not None:
        more = host.digests(base, last, tick)
        files += more.files
        left_out += more.left_out
        last = more.last
    return files, left_out


class TestDigests:
    def test_tells_every_plain_file_with_its_size_and_sha256(self, host: Host, spot: str) -> None:
        names = (
            *ODD,
            "line\nbreak",
            "not-utf8-\udcff\udcfe",
            "trailing\n",
            "empty",
            "a/b",
            "a/b.c/d",
            "a.b",
            "a b",
        )
        contents = {
            f"{name}/{name}" if name in ODD else name: name.encode("utf-8", "surrogateescape")
            for name in names
        }
        contents["empty"], contents["big"] = b"", os.urandom(BIG)
        host.put([Sending(f"{spot}/{name}", data=data) for name, data in contents.items()], quiet)
        files, left_out = all_digests(host, spot)
        assert {f.path: f for f in files} == {n: listed(n, d) for n, d in contents.items()}
        parts = [f.path.encode("utf-8", "surrogateescape").split(b"/") for f in files]
        assert parts == sorted(parts) and left_out == []

    def test_goes_on_behind_any_of_them(self, host: Host, spot: str) -> None:
        names = ["a", "a b", "a.b", "b/a", "b/c/d", "b.c", "c"]
        host.put([Sending(f"{spot}/{name}", data=name.encode()) for name in names], quiet)
        files, _ = all_digests(host, spot)
        for at, file in enumerate(files):
            assert list(host.digests(spot, file.path, quiet).files) == files[at + 1 :]
        assert len(host.digests(spot, "b", quiet).files) == 4  # there need be no such file any more

    def test_follows_no_link_waits_for_no_pipe_and_names_them(self, host: Host, spot: str) -> None:
        make = f"""mkdir -p {spot}/out/sub && cd {spot} && echo secret >real && cd out && echo 1 >plain &&
        mkfifo sub/pipe && ln -s ../real link && ln -s /etc/passwd sub/passwd && ln -s /etc folder &&
        ln -s nowhere dangling"""
        assert host.run(["sh", "-c", make]).exit_code == 0
        files, left_out = all_digests(host, f"{spot}/out")
        assert files == [listed("plain", b"1\n")]
        assert left_out == ["dangling", "folder", "link", "sub/passwd", "sub/pipe"]

    def test_what_may_not_be_looked_into_is_named(self, host: Host, spot: str) -> None:
        make = f"""mkdir -p {spot}/closed {spot}/open {spot}/seen && cd {spot} && echo 1 >closed/a &&
        echo 1 >open/a && echo 1 >open/b && echo 1 >seen/a && chmod 0 closed open/b && chmod 444 seen"""
        assert host.run(["sh", "-c", make]).exit_code == 0
        may_all = host.run(["id", "-u"]).stdout.strip() == b"0"
        files, left_out = all_digests(host, spot)
        host.run(["sh", "-c", f"chmod 700 {spot}/closed {spot}/seen"])
        if may_all:
            assert [f.path for f in files] == ["closed/a", "open/a", "open/b", "seen/a"] and not left_out
        else:
            assert [f.path for f in files] == ["open/a"]
            assert left_out[:2] == ["closed", "open/b"] and left_out[2] in ("seen", "seen/a")

    def test_nothing_lies_where_there_is_no_folder_of_the_root(self, host: Host, spot: str) -> None:
        host.put(
            [Sending(f"{spot}/file", data=b"1"), Sending(f"{spot}/out", link="/etc"), Sending(f"{spot}/e")],
            quiet,
        )
        for name in ("nothing", "nothing/at/all", "file", "out", "e"):
            assert all_digests(host, f"{spot}/{name}") == ([], [])
        with pytest.raises(HostError):
            host.digests("../x", None, quiet)

    def test_what_it_tells_can_be_brought_under_other_names(
        self, host: Host, spot: str, tmp_path: Path
    ) -> None:
        odd = ["line\nbreak", "not-utf8-\udcff", "fine"]
        host.put(
            [Sending(f"{spot}/{name}/{name}", data=name.encode("utf-8", "surrogateescape")) for name in odd],
            quiet,
        )
        files, _ = all_digests(host, spot)
        kept = as_kept(files)
        host.get(spot, kept, tmp_path, quiet)
        assert {f.source: (tmp_path / f.path).read_bytes() for f in kept} == {
            f"{name}/{name}": name.encode("utf-8", "surrogateescape") for name in odd
        }

    def test_thousands_of_small_files(self, host: Host, spot: str) -> None:
        host.put([Sending(f"{spot}/{i % 40}/{i}", data=b"%d" % i) for i in range(2500)], quiet)
        files, _ = all_digests(host, spot)
        assert {f.path: f.sha256 for f in files} == {
            f"{i % 40}/{i}": sha256(b"%d" % i).hexdigest() for i in range(2500)
        }

    def test_a_large_file_takes_several_answers_and_a_tick_may_end_it(self, host: Host, spot: str) -> None:
        """More than any machine hashes for one of them; its holes need no disk."""
        host.put([Sending(f"{spot}/folder")], quiet)
        made = host.run(["dd", "if=/dev/zero", f"of={spot}/holes", "bs=1", "count=1", f"seek={LARGE - 1}"])
        assert made.exit_code == 0, made.stderr
        with pytest.raises(Stopped):
            all_digests(host, spot, stop_after(2))
        at = [time.monotonic()]
        files, _ = all_digests(host, spot, lambda: at.append(time.monotonic()))
        at.append(time.monotonic())
        assert [(f.path, f.size) for f in files] == [("holes", LARGE)]
        assert max(b - a for a, b in itertools.pairwise(at)) < 0.5
        host.run(["rm", f"{spot}/holes"])
        assert all_digests(host, spot) == ([], [])
