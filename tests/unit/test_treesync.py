"""What one tree lacks of another, and the archive it travels in: pure, so checked on many."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import tarfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.errors import Corrupt, HostError
from launcher.remote import tarstream, treesync
from launcher.remote.base import Sending
from launcher.remote.packing import Packer, squeezes
from launcher.remote.treedelta import Delta, Records, delta, folders, packed, record, unpacked
from launcher.ssh.quoting import line

PARTS = st.sampled_from([b"a", b"b", b"c", b"\xff odd", b"new\nline", b"-rf"])
CONTENTS = st.sampled_from(["f", "l", "d"]).flatmap(
    lambda kind: st.builds(lambda n: record(kind, 0o644, n, f"{n:020x}"), st.integers(0, 2))
)


@st.composite
def trees(draw: st.DrawFn) -> Records:
    """Names and what they are; nothing lies below a file, and only empty folders are named."""
    found: Records = {}
    for parts in draw(st.lists(st.lists(PARTS, min_size=1, max_size=4), max_size=12)):
        name = b"/".join(parts)
        above = {b"/".join(parts[:n]) for n in range(1, len(parts))}
        if name not in folders(found) and not above & set(found):
            found[name] = draw(CONTENTS)
    return found


def applied(old: Records, change: Delta, new: Records) -> tuple[Records, set[bytes]]:
    """What a host does: a copy of the old tree, less what is dropped, with what came put over it."""
    names, made = dict(old), folders(old) | {n for n, what in old.items() if what.startswith(b"d ")}
    for gone in change.drop:
        names = {n: w for n, w in names.items() if n != gone and not n.startswith(gone + b"/")}
        made = {n for n in made if n != gone and not n.startswith(gone + b"/")}
    for name in change.send:
        for above in folders([name]):
            assert not (above in names and not names[above].startswith(b"d ")), "a folder over a file"
        assert new[name].startswith(b"d ") or name not in made, "a file over a folder"
        names[name] = new[name]
        made |= folders([name]) | ({name} if new[name].startswith(b"d ") else set())
    return names, made


@given(trees(), trees())
def test_the_old_tree_and_the_delta_make_the_new_one(old: Records, new: Records) -> None:
    change = delta(old, new)
    names, made = applied(old, change, new)
    implied = {n for n in names if names[n].startswith(b"d ") and n not in new and n in folders(new)}
    assert {n: w for n, w in names.items() if n not in implied} == new
    assert made == folders(new) | {n for n, w in new.items() if w.startswith(b"d ")}
    assert change.send == {n for n in new if old.get(n) != new[n]}


@given(trees())
def test_nothing_changed_is_nothing_sent(tree: Records) -> None:
    assert delta(tree, dict(tree)) == Delta(frozenset(), ())


@given(trees())
def test_a_list_comes_back_as_it_went(tree: Records) -> None:
    assert unpacked(packed(tree)) == tree


@given(st.binary(max_size=200))
def test_a_hosts_list_is_read_or_refused(data: bytes) -> None:
    try:
        found = unpacked(data)
    except ValueError:
        return
    assert all(b"\0" not in name for name in found)


@given(
    st.lists(
        st.tuples(
            st.binary(min_size=1, max_size=300).filter(
                lambda n: b"\0" not in n and not n.startswith(b"/") and not n.endswith(b"/")
            ),
            st.binary(max_size=1500),
        ),
        max_size=5,
    )
)
def test_any_tar_reads_what_is_written(files: list[tuple[bytes, bytes]]) -> None:
    out = b"".join(
        tarstream.head(n, tarstream.FILE, mode=0o644, size=len(d), mtime=7) + d + tarstream.padding(len(d))
        for n, d in files
    )
    with tarfile.open(fileobj=io.BytesIO(out + tarstream.END), errors="surrogateescape") as tar:
        read = [(os.fsencode(m.name), content(tar, m), m.mtime) for m in tar]
    assert read == [(n, d, 7) for n, d in files]


def content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    body = tar.extractfile(member)
    assert body is not None, "no file"
    return body.read()


def whole(packer: Packer) -> bytes:
    with packer:
        return b"".join(packer.pieces(lambda: None))


def test_a_packed_stream_is_whole_compressed_and_counted(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 3_000_000)
    digest = hashlib.sha256(b"x" * 3_000_000).hexdigest()
    files = [
        (b"f", Sending("f", 0o755, source=tmp_path / "f", sha256=digest)),
        (b"l", Sending("l", link="x" * 150)),
        (b"d", Sending("d")),
    ]
    packer = Packer(files, {b"tail": b"t"}, compress=True)
    data = whole(packer)
    assert len(data) < 100_000 and packer.read == 3_000_000
    plain = zlib.decompress(data, 31)
    assert len(plain) % tarstream.RECORD == 0
    with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
        found = {m.name: m for m in tar}
    assert list(found) == ["tree/f", "tree/l", "tree/d", "tail"]
    assert found["tree/f"].mode == 0o755 and found["tree/l"].linkname == "x" * 150 and found["tree/d"].isdir()


def test_what_changed_since_it_was_hashed_is_not_sent(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"other")
    file = Sending("f", source=tmp_path / "f", sha256=hashlib.sha256(b"one").hexdigest())
    with pytest.raises(Corrupt, match="changed"):
        whole(Packer([(b"f", file)], {}, compress=False))
    (tmp_path / "f").unlink()
    with pytest.raises(Corrupt, match="went away"):
        whole(Packer([(b"f", file)], {}, compress=False))


def test_what_does_not_shrink_is_not_squeezed(tmp_path: Path) -> None:
    (tmp_path / "noise").write_bytes(os.urandom(200_000))
    (tmp_path / "text").write_bytes(b"words and words " * 10_000)
    assert not squeezes([Sending("n", source=tmp_path / "noise")])
    assert squeezes([Sending("t", source=tmp_path / "text")])


def test_a_bomb_of_a_list_is_refused() -> None:
    bomb = zlib.compressobj(9, zlib.DEFLATED, 31)
    data = b"".join(bomb.compress(bytes(1 << 24)) for _ in range(17)) + bomb.flush()
    with pytest.raises(HostError, match="more than can be meant"):
        treesync._inflated(data)


def test_the_far_side_fits_into_the_shortest_command_that_a_host_takes() -> None:
    words = ["/home/" + "x" * 200, "trees", "k" * 16, "w" * 32, "/home/" + "y" * 400, "t" * 12]
    assert len(line(["sh", "-c", treesync.script(), "sh", *words])) < 9000


def test_the_far_side_is_a_shell_program_still() -> None:
    done = subprocess.run(["sh", "-n", "-c", treesync.script()], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
