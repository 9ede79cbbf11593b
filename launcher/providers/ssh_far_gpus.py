"""The GPUs of a host, seen from its side: who has them, and the leases by which runs keep off one another.

Travels with ssh_far.py. A GPU is free when no process of any user computes on it and no run holds its lease:
a socket in the kernel whose name is taken for the whole machine, over all users, and which dies with the
process that holds it. A second socket beside it carries the holder's name. A name is anybody's to take, so
the kernel is asked whose socket it really is. Standard library only, Python >= 3.10.
"""

from __future__ import annotations

import errno
import os
import pwd
import re
import shutil
import socket
import struct
import subprocess
from contextlib import ExitStack, suppress
from typing import Any

Json = dict[str, Any]

DRIVER = "/proc/driver/nvidia"
SMI_PLACES = ":/usr/bin:/usr/local/bin:/usr/local/nvidia/bin:/usr/lib/wsl/lib"
LEASE, HELD = "\0launcher-gpu-", "\0launcher-held-"
SOCKET_NAME = 107
ANSWER_S = 10.0
MAY_BE_CUT = re.compile(r"\b(A30|A100|A800|H\d+|G[BH]\d+|B\d+|RTX PRO)\b")
CARD = re.compile(r"GPU \d+: .*\(UUID: (GPU-[^)]+)\)")
PART = re.compile(r"\s+MIG (\S+)\s+Device\s+\d+: \(UUID: (MIG-[^)]+)\)")
UNTOLD = -1  # how much memory of a part is free
SOCK_DIAG, BY_FAMILY, REQUEST = 4, 20, 1  # the kernel's own list of sockets, as `ss` reads it
SHOW_UID, UID_IS = 0x40, 7
ANY = 0xFFFFFFFF
HEAD = struct.Struct("=IHHII")


class Refused(Exception):
    """A no, with its kind: the near side turns it into one of its own."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def said(argv: list[str]) -> str | None:
    """What a program prints; None when it fails or hangs. One that cannot be killed is not waited for."""
    try:
        child = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    except OSError:
        return None
    try:
        out, _ = child.communicate(timeout=ANSWER_S)
    except subprocess.TimeoutExpired:
        child.kill()
        return None
    return out.decode("utf-8", "replace") if child.returncode == 0 else None


class Survey:
    """The GPUs here, and who has them: a process of anybody's, or a run's lease."""

    def __init__(self) -> None:
        self.devices: list[Json] = []
        self.free_mb: list[int] = []
        self.held: list[Json] = []
        self.driver: str | None = None
        self.no_gpu: str | None = None
        self.fault: str | None = None
        tool = shutil.which("nvidia-smi", path=os.environ.get("PATH", os.defpath) + SMI_PLACES)
        if tool is None:
            known = os.path.exists(DRIVER)
            self.no_gpu = None if known else "neither an NVIDIA driver nor nvidia-smi is there"
            return
        columns = "uuid,name,memory.total,memory.free,driver_version"
        for words in self._asked(tool, f"--query-gpu={columns}", 5):
            self.devices.append({"uuid": words[0], "name": words[1], "memory_mb": number(words[2]) or 0})
            self.free_mb.append(number(words[3]) or 0)
            self.driver = words[4]
        if not self.devices:
            self.no_gpu = None if self._failed() or os.path.exists(DRIVER) else "nvidia-smi shows none"
            return
        self.held += leases()
        parts = self._cut(tool) if any(MAY_BE_CUT.search(device["name"]) for device in self.devices) else {}
        for uuid, pid, used in self._asked(tool, "--query-compute-apps=gpu_uuid,pid,used_memory", 3):
            holder = {"user": owner(pid), "pid": number(pid), "used_mb": number(used), "run": None}
            for held in self._parts_of(holder, parts[uuid]) if uuid in parts else [uuid]:
                self.held.append({"uuid": held, **holder})

    def _cut(self, tool: str) -> dict[str, list[str]]:
        """Cards that are cut (MIG) give way to their parts: each is a device by its own uuid. Of which card
        they are."""
        parts: dict[str, list[Json]] = {}
        card = ""
        for line in (said([tool, "-L"]) or "").splitlines():
            if found := CARD.match(line):
                card = found[1]
            elif part := PART.match(line):
                size = int((re.search(r"(\d+)gb", part[1]) or ["", "0"])[1]) * 1024
                parts.setdefault(card, []).append({"uuid": part[2], "name": part[1], "memory_mb": size})
        devices, free = list(zip(self.devices, self.free_mb, strict=True)), UNTOLD
        self.devices, self.free_mb = [], []
        for device, free_mb in devices:
            cut = [{**p, "name": f"{device['name']} MIG {p['name']}"} for p in parts.get(device["uuid"], [])]
            self.devices += cut or [device]
            self.free_mb += [free] * len(cut) or [free_mb]
        return {card: [part["uuid"] for part in cut] for card, cut in parts.items()}

    def _parts_of(self, holder: Json, parts: list[str]) -> list[str]:
        """nvidia-smi tells of a process which card it computes on and not on which part: its own environment
        does, if we may read it. Whose leases cover it holds nothing more; of anybody else it may be each."""
        told = visible_to(holder["pid"])
        if mine := [part for part in parts if part in told]:
            return mine
        leased = {one["user"] for one in self.held if one["uuid"] in parts and one.get("run")}
        return [] if holder["user"] in leased else parts

    def _failed(self) -> bool:
        return self.fault is not None

    def _asked(self, tool: str, query: str, count: int) -> list[list[str]]:
        answer = said([tool, query, "--format=csv,noheader,nounits"])
        if answer is None:
            self.fault = "its nvidia-smi does not answer as it should"
            return []
        rows = [[word.strip() for word in line.split(",")] for line in answer.splitlines()]
        return [row for row in rows if len(row) == count]

    def words(self, device: Json) -> str:
        """Who has it, for the person who is refused."""
        mine = [one for one in self.held if one["uuid"] == device["uuid"]]
        who = [holder_words(one) for one in mine] or ["another run that was quicker"]
        return f"{device['name']} is held by {' and by '.join(dict.fromkeys(who))}"


def holder_words(one: Json) -> str:
    if one.get("run"):
        return f"{one['user']}'s run {one['run']}"
    if one["pid"] is None:
        find = "ss -xap | grep launcher-gpu"
        return f"a process of {one['user']} that took its lease and is no run (they find it by: {find})"
    memory = f" with {one['used_mb'] / 1024:.1f} GiB" if one["used_mb"] is not None else ""
    return f"{one['user']} (process {one['pid']}{memory})"


def visible_to(pid: int | None) -> list[str]:
    """The devices that a process of ours was given by name."""
    with suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
        for pair in file.read().decode("utf-8", "surrogateescape").split("\0"):
            if pair.startswith("CUDA_VISIBLE_DEVICES="):
                return pair.partition("=")[2].split(",")
    return []


def number(word: str) -> int | None:
    return int(word) if word.isdecimal() else None  # "[N/A]"


def owner(pid: str) -> str:
    """Its user's name. One that cannot be seen from here runs in another world, such as a container."""
    try:
        uid = os.stat(f"/proc/{int(pid)}").st_uid
    except (OSError, ValueError):
        return "somebody who cannot be seen from here"
    return user_name(uid)


def user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def leases() -> list[Json]:
    """Who holds a GPU, of any user. The lease counts; a name only if it is the same user's socket."""
    leased: dict[str, int | None] = {}
    named: dict[tuple[str, int | None], tuple[str, str]] = {}
    for name, inode in _abstract():
        if name.startswith(LEASE[1:]):
            leased[name[len(LEASE) - 1 :]] = owner_of(inode)
        elif name.startswith(HELD[1:]):
            uuid, user, run = [*name[len(HELD) - 1 :].split("/", 2), "", ""][:3]
            named[uuid, owner_of(inode)] = (user, run)
    found = []
    for uuid, uid in leased.items():
        user, run = named.get((uuid, uid), ("somebody who cannot be seen from here", ""))
        user = user if uid is None else user_name(uid)
        found.append({"uuid": uuid, "user": user, "pid": None, "used_mb": None, "run": run or None})
    return found


def _abstract() -> list[tuple[str, int]]:
    """The names of the abstract sockets here, and their inodes."""
    found = []
    with suppress(OSError), open("/proc/net/unix", encoding="utf-8", errors="replace") as table:
        for line in table:
            head, at, name = line.rstrip("\n").partition(" @")
            if at and name.startswith("launcher-"):
                found.append((name.rstrip("@"), int(head.split()[6])))
    return found


def owner_of(inode: int) -> int | None:
    """The user who made that socket, by the kernel's word; None where it does not tell."""
    ask = struct.pack("=BBHIIIII", socket.AF_UNIX, 0, 0, ANY, inode, SHOW_UID, ANY, ANY)
    with (
        suppress(OSError, struct.error),
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, SOCK_DIAG) as line,
    ):
        line.settimeout(1)
        line.send(HEAD.pack(HEAD.size + len(ask), BY_FAMILY, REQUEST, 1, 0) + ask)
        told = line.recv(1 << 16)
        if HEAD.unpack_from(told)[1] == BY_FAMILY:
            at = HEAD.size + 16  # behind the socket's family, state and inode
            while at + 4 <= len(told):
                size, kind = struct.unpack_from("=HH", told, at)
                if kind == UID_IS:
                    return int(struct.unpack_from("=I", told, at + 4)[0])
                at += max(4, size + 3 & ~3)
    return None


def lease(gpus: Survey, ask: Json, held: ExitStack) -> tuple[list[str], list[int]]:
    """As many free GPUs as are wanted, and the sockets that hold them; all or none."""
    if gpus.fault is not None and not gpus.devices:
        raise Refused("busy", gpus.fault)
    fitting = [d for d in gpus.devices if ask["model"] in (None, d["name"])]
    if not fitting:
        if ask["must"]:
            raise Refused(
                "busy", f"there is no {ask['model'] or 'GPU'} there: {gpus.no_gpu or 'none is shown'}"
            )
        return [], []
    taken = {one["uuid"] for one in gpus.held}
    got: list[str] = []
    sockets: list[int] = []
    for device in fitting:
        if len(got) < ask["count"] and device["uuid"] not in taken:
            ends = _bound(device["uuid"], ask["run"], held)
            got += [device["uuid"]] if ends else []
            sockets += ends
    if len(got) < ask["count"]:
        gpus.held += [one for one in leases() if one not in gpus.held]
        busy = [gpus.words(d) for d in fitting if d["uuid"] not in got]
        need = "a GPU" if ask["count"] == 1 else f"{ask['count']} GPUs"
        raise Refused("busy", f"{need} cannot be had: {'; '.join(busy) or f'there are {len(fitting)}'}")
    return got, sockets


def _bound(uuid: str, run: str, held: ExitStack) -> list[int]:
    """The lease, and beside it the name of who has it; nothing when somebody was quicker."""
    ends = []
    for name in (f"{LEASE}{uuid}", f"{HELD}{uuid}/{user_name(os.getuid())}/{run}"):
        end = held.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        try:
            end.bind(name.encode()[:SOCKET_NAME])
        except OSError as e:
            if e.errno != errno.EADDRINUSE:
                raise
            return []
        ends.append(end.fileno())
    return ends
