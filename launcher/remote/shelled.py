"""A host's verbs where there is nothing but a shell: sh, cat, dd, head, tail, mkdir, mv, rm, stat, tar.

Every call is a session of its own; the answers to reads have the form of a courier's stream. What the shell
cannot do is said here: a put that is cut may leave its last file short, and follows links that itself put
(tar unpacks in place); a file exchanged between being looked at and being opened is believed; a link is
refused even when it stays inside; nothing is synced to the disk; without `setsid` a command that is out of
time ends alone, without what it started. Knows its scripts, nothing of how a connection is made.
"""

from __future__ import annotations

import os
import posixpath
import re
import tarfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial

from launcher.errors import HostDiskFull, HostError, NoFile
from launcher.remote.base import Digests, Done, Sending, Tick, Wanted
from launcher.remote.channel import GULP, TAIL, Broken, Wire, harmless
from launcher.remote.couriered import ANSWER_S, MOST_OUTPUT, TOKEN, checked
from launcher.remote.fetching import Read, Rest
from launcher.remote.sending import enterable
from launcher.remote.sessions import ARRIVED, Opened, Session
from launcher.remote.shellsums import LOW, ShellSums, coded
from launcher.remote.streaming import Feed
from launcher.ssh.connection import still

PIECE = 1 << 20
_GONE, _OUTSIDE, _REFUSED, _CUT, _OUT_OF_TIME = 66, 68, 69, 70, 137
_FULL = re.compile(rb"No space left|quota exceeded", re.IGNORECASE)

# cd to where it is meant, each folder on the way made when asked for, and never out of the root.
_BEGIN = f"""
echo; echo {ARRIVED}sh
top() {{ cd -P -- "$1" 2>/dev/null || exit {_GONE}; top=$(pwd -P); top=${{top%/}}; }}
within() {{ case "$(pwd -P)/" in "$top"/*) ;; *) exit {_OUTSIDE} ;; esac; }}
into() {{
  IFS=/; set -f
  for part in $1; do
    if [ -n "$2" ] && [ ! -d "./$part" ]; then mkdir "./$part" || exit {_REFUSED}; fi
    cd -P -- "./$part" 2>/dev/null || exit {_GONE}
    [ -z "$2" ] || within
  done
  unset IFS; set +f; within
}}
make_top() {{ [ -d "$1" ] || mkdir -p -- "$1" || exit {_REFUSED}; top "$1"; }}
"""
_STREAM = (  # ROOT BASE; on stdin: where from, how much, folder, name
    _BEGIN
    + f"""
top "$1"; base=
if [ -n "$2" ]; then base=$(into "$2"; pwd -P) || base=-; fi
piece() {{ dd if="./$n" bs=65536 skip=$(($1 / 65536)) 2>/dev/null; }}
one() {{
  [ "$base" != - ] || exit {_GONE}
  d=$(printf '%b.' "$3"); d=${{d%.}}; n=$(printf '%b.' "$4"); n=${{n%.}}
  cd -P -- "${{base:-$top/}}" || exit {_GONE}
  into "$d"
  if [ -n "$base" ] && [ "$d" != . ] && [ "$(pwd -P)" != "$base/$d" ]; then echo link 0; return; fi
  if [ -L "./$n" ]; then echo link 0; return; fi
  [ -e "./$n" ] || exit {_GONE}
  if [ ! -f "./$n" ]; then echo odd 0; return; fi
  [ -r "./$n" ] || exit {_REFUSED}
  size=$(stat -c %s "./$n" 2>/dev/null || wc -c <"./$n")
  left=$((size - $1)); [ $left -le $2 ] || left=$2; [ $left -ge 0 ] || left=0
  echo ok $left
  [ $left -gt 0 ] || return 0
  from=$(($1 % 65536))
  if [ $from -eq 0 ]; then piece "$1" | head -c $left
  else piece "$1" | tail -c +$((from + 1)) | head -c $left; fi
}}
while read -r at most folder name && [ -n "$at" ]; do
  (one "$at" "$most" "$folder" "$name") ||
    case $? in {_GONE}) echo gone 0 ;; *) echo shut 0 ;; esac
done
"""
)
_WRITE = (  # ROOT FOLDER NAME MODE SIZE; on stdin: the data
    _BEGIN
    + f"""
umask 077; make_top "$1"; into "$2" make
if [ -d "./$3" ] && [ ! -L "./$3" ]; then echo "it is a folder" >&2; exit {_REFUSED}; fi
part=./.launcher-part-$$; rm -f "$part"; trap 'rm -f "$part"' EXIT
cat >"$part" || exit {_REFUSED}
[ "$(wc -c <"$part")" -eq "$5" ] || exit {_CUT}
chmod "$4" "$part" || exit {_REFUSED}
[ ! -L "./$3" ] || rm -f "./$3"
mv -f "$part" "./$3" || exit {_REFUSED}
"""
)
_PUT = (  # ROOT; on stdin: the folders there must be, an empty line, a tar archive
    _BEGIN
    + f"""
make_top "$1"; EXTRACT_UNSAFE_SYMLINKS=1; export EXTRACT_UNSAFE_SYMLINKS
while read -r folder && [ -n "$folder" ]; do
  (d=$(printf '%b.' "$folder"); into "${{d%.}}" make) || exit $?
done
tar -xopf - || exit {_REFUSED}
"""
)
_RUN = (  # ROOT FOLDER TOKEN SECONDS WORD...
    _BEGIN
    + f"""
top "$1"; into "$2"; {TOKEN}=$3; export {TOKEN}; seconds=$4; shift 4
own=$(command -v setsid); exec 3<&0
$own "$@" <&3 3<&- & us=$!
$own sh -c 'sleep "$1"; kill -9 "-$2" 2>/dev/null || kill -9 "$2"' sh "$seconds" "$us" \\
  </dev/null >/dev/null 2>&1 3<&- & watch=$!
wait "$us"; status=$?
kill -9 "-$watch" 2>/dev/null || kill -9 "$watch" 2>/dev/null
exit $status
"""
)
_START = (  # ROOT FOLDER TOKEN WORD...
    _BEGIN
    + f"""
top "$1"; into "$2"; {TOKEN}=$3; export {TOKEN}; shift 3
command -v "$1" >/dev/null || {{ echo "there is no such program" >&2; exit {_REFUSED}; }}
trap '' HUP; $(command -v setsid) "$@" </dev/null >/dev/null 2>&1 &
"""
)


class Shelled:
    def __init__(self, root: str, opened: Opened) -> None:
        self._root = root
        self._token = posixpath.basename(root)
        self._opened = opened
        self._sums = ShellSums(root, opened, _BEGIN, (_GONE, _OUTSIDE))

    def run(self, argv: Sequence[str], *, stdin: bytes, cwd: str, timeout: float) -> Done:
        begun = time.monotonic()
        words = [self._root, _folder(cwd), self._token, f"{timeout:g}", *argv]
        done = self._told(_RUN, words, [stdin], seconds=timeout + 5, most=MOST_OUTPUT)
        if done.exit_code == _OUT_OF_TIME and time.monotonic() - begun >= timeout:
            raise HostError(f"{argv[0]} did not end within {timeout:g} s")
        return done

    def start(self, argv: Sequence[str], *, cwd: str) -> None:
        done = self._told(_START, [self._root, _folder(cwd), self._token, *argv], [])
        _sort(done, argv[0])

    def read(
        self, path: str, offset: int, limit: int, *, base: str | None = None, tick: Tick = still
    ) -> bytes:
        [data] = self._pieces([Wanted(path, offset, limit)], base, tick)
        if isinstance(data, NoFile):
            raise data
        return data

    def read_many(self, wanted: Sequence[Wanted]) -> list[bytes | None]:
        found = self._pieces(wanted, None, still)
        return [None if isinstance(data, NoFile) else data for data in found]

    def digests(self, base: str, after: str | None, tick: Tick) -> Digests:
        return self._sums.digests(base, after, tick)

    def write(self, path: str, data: bytes, mode: int) -> None:
        folder, name = posixpath.split(path)
        words = [self._root, folder, name, f"{mode:o}", str(len(data))]
        _sort(self._told(_WRITE, words, [data]), path)

    def put(self, files: Iterable[Sending], tick: Tick) -> None:
        sent = list(files)
        for file in sent:
            checked(file.to)
        folders = sorted({posixpath.dirname(file.to) for file in sent} - {""})
        head = b"".join(coded(folder) + b"\n" for folder in folders) + b"\n"
        _sort(self._told(_PUT, [self._root], _after(head, _archive(sent)), tick=tick), "what was sent")
        tick()

    def stream(self, base: str | None, rests: Sequence[Rest], tick: Tick, beyond: int = 1) -> Wire:
        """The files one after the other; of each up to `beyond` bytes more, which tell that it grew."""
        top = "" if base is None else base or "."
        asked = bytearray()
        for rest in rests:
            folder, name = posixpath.split(posixpath.relpath(rest.source, top) if top else rest.source)
            asked += b"%d %d " % (rest.offset, rest.size + beyond)
            asked += coded(folder or ".") + b" " + coded(name) + b"\n"
        until = time.monotonic() + ANSWER_S
        words = ["sh", "-c", LOW + _STREAM, "sh", self._root, top]
        session, _ = self._opened(words, until, tick, ahead=bytes(asked) + b"\n")
        return session.wire

    def _pieces(self, wanted: Sequence[Wanted], base: str | None, tick: Tick) -> list[bytes | NoFile]:
        feed = Feed(partial(self._exact, base, tick), _never, tick)
        try:
            feed.ahead([Rest(w.path, w.offset, w.limit) for w in wanted])
            return [_whole(feed.read, w) for w in wanted]
        finally:
            feed.close()

    def _exact(self, base: str | None, tick: Tick, rests: Sequence[Rest]) -> Wire:
        return self.stream(base, rests, tick, beyond=0)

    def _told(
        self,
        script: str,
        words: Sequence[str],
        stdin: Iterable[bytes],
        *,
        seconds: float = ANSWER_S,  # once all was sent
        tick: Tick = still,
        most: int = TAIL,
    ) -> Done:
        session, _ = self._opened(["sh", "-c", script, "sh", *words], _in(ANSWER_S), tick, keep=most)
        try:
            _feed(session, stdin, tick)
            until = _in(seconds)
            out = _rest_of(session, until, tick, most)
            return Done(session.status(until, tick), out, session.complaint)
        finally:
            session.close()


def _in(seconds: float) -> float:
    return time.monotonic() + seconds


def _feed(session: Session, stdin: Iterable[bytes], tick: Tick) -> None:
    for data in stdin:
        try:
            for at in range(0, len(data), PIECE):
                session.wire.send(data[at : at + PIECE], _in(ANSWER_S), tick)
        except Broken:
            return  # it ended before it had heard all: its status says why
    with suppress(OSError):  # the same
        session.no_more()


def _rest_of(session: Session, until: float, tick: Tick, most: int) -> bytes:
    out = bytearray()
    while True:
        try:
            out += session.wire.some(GULP, until, tick)
        except Broken:  # its end; whether it was the connection's too is told by the status
            return bytes(out)
        if len(out) > most:
            raise HostError("the host answered with more than can be meant")


def _whole(read: Read, wanted: Wanted) -> bytes | NoFile:
    data = b""
    try:
        while len(data) < wanted.limit:
            piece = read(wanted.path, wanted.offset + len(data), wanted.limit - len(data))
            if not piece:
                break
            data += piece
    except NoFile as why:
        return why
    return data


def _never(path: str, offset: int, limit: int) -> bytes:
    raise HostError(f"{path!r} was not asked for at {offset}")


def _folder(cwd: str) -> str:
    return "" if cwd == "." else checked(cwd)


def _after(head: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    yield head
    yield from pieces


def _archive(files: Sequence[Sending]) -> Iterator[bytes]:
    for file in files:
        info = tarfile.TarInfo(file.to)
        info.mode, info.mtime = file.mode, int(time.time())
        if file.link is not None:
            info.type, info.linkname = tarfile.SYMTYPE, file.link
            yield _head(info)
        elif file.data is not None:
            info.size = len(file.data)
            yield _head(info) + file.data + _padding(info)
        elif file.source is not None:
            info.size = os.stat(file.source).st_size
            yield _head(info)
            left = info.size
            with open(file.source, "rb") as source:
                while left:
                    data = source.read(min(left, PIECE))
                    if not data:
                        raise OSError(f"{file.source} became shorter while it was sent")
                    left -= len(data)
                    yield data
            yield _padding(info)
        else:
            info.type, info.mode = tarfile.DIRTYPE, enterable(file.mode)
            yield _head(info)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _head(info: tarfile.TarInfo) -> bytes:
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def _padding(info: tarfile.TarInfo) -> bytes:
    return bytes(-info.size % tarfile.BLOCKSIZE)


def _sort(done: Done, what: str) -> None:
    """The scripts' statuses as the closed set of hosts."""
    if done.exit_code == 0:
        return
    if done.exit_code == _GONE:
        raise NoFile(f"{what}: there is no such folder")
    if _FULL.search(done.stderr):
        raise HostDiskFull(f"no space left for {what}")
    words = {_OUTSIDE: "leads out of the host's folder by a link", _CUT: "did not arrive whole"}
    raise HostError(f"{what}: {words.get(done.exit_code) or harmless(done.stderr) or 'refused'}")
