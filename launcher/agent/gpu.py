"""What the GPUs do: by NVML, else by one nvidia-smi that keeps talking, else nothing.

A reading is a list of records with name, util, mem_used_gb, mem_gb, power_w, temp_c, mig; what a device
does not tell is None. Only those are told of that are this run's to use: a neighbour's load is not ours.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from .tree import Tree

GB = 1e9
NAME_BYTES = 96
NO_VALUE = (1 << 64) - 1
QUERY = "index,uuid,name,utilization.gpu,memory.used,memory.total,power.draw,temperature.gpu,mig.mode.current"
ASK_S = 20.0
Gpu = dict[str, Any]


class Gpus(Protocol):
    def read(self) -> list[Gpu] | None:
        """None = there are some, but they cannot be read now."""


@dataclass
class Card:
    """One of the machine's: what it says of itself, or of each of its parts when it is cut (MIG)."""

    uuid: str
    name: str | None
    parts: list[tuple[str, Gpu]] = field(default_factory=list)  # by their own uuids


class Share:
    """Which of the machine's GPUs are ours, by the words that CUDA itself obeys. Where a number could mean
    another card to CUDA than to us, nothing is left out."""

    def __init__(self, env: Mapping[str, str]) -> None:
        said = env.get("CUDA_VISIBLE_DEVICES")
        self._words = None if said is None else [word.strip() for word in said.split(",") if word.strip()]
        self._numbers_are_places = env.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"

    @property
    def empty(self) -> bool:
        return self._words is not None and (not self._words or self._words[0].startswith("-"))

    def of(self, cards: Sequence[Card]) -> list[Gpu] | None:
        everything = [part for card in cards for _, part in card.parts]
        if self._words is None or self.empty:
            return [] if self.empty else everything
        alike = self._numbers_are_places or len({card.name for card in cards}) <= 1
        if not alike and any(word.isdecimal() for word in self._words):
            return everything
        found: list[Gpu] = []
        for word in self._words:
            named = _named(word, cards)
            if not named:
                break  # as CUDA does: what stands behind a wrong word is not seen
            found += [part for part in named if all(part is not one for one in found)]
        return found or None


def _named(word: str, cards: Sequence[Card]) -> list[Gpu]:
    if word.isdecimal():
        return [part for card in cards[int(word) : int(word) + 1] for _, part in card.parts]
    return [
        part
        for card in cards
        for uuid, part in card.parts
        if uuid.startswith(word) or (card.uuid and card.uuid.startswith(word))
    ]


class NoGpus:
    def read(self) -> list[Gpu] | None:
        return []


class _Utilization(ctypes.Structure):
    _fields_ = [("gpu", ctypes.c_uint), ("memory", ctypes.c_uint)]


class _Memory(ctypes.Structure):
    _fields_ = [
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    ]


class NvmlMissing(Exception):
    pass


class Nvml:
    """NVIDIA's own library, spoken to without a wrapper. Every call answers 0 when it worked."""

    def __init__(self, library: Any = None, share: Share | None = None) -> None:
        self._share = share or Share({})
        try:
            self._lib = ctypes.CDLL("libnvidia-ml.so.1") if library is None else library
        except OSError as fault:
            raise NvmlMissing(str(fault)) from fault
        if not self._did("nvmlInit_v2"):
            raise NvmlMissing("NVML is there and does not start")

    def read(self) -> list[Gpu] | None:
        count = self._number("nvmlDeviceGetCount_v2")
        if count is None:
            return None
        cards: list[Card] = []
        for index in range(count):
            device = ctypes.c_void_p()
            if not self._did("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(device)):
                return None
            slices, uuid = self._slices(device), self._uuid(device)
            whole = [(uuid, self._describe(device, None))] if slices is None else slices
            cards.append(Card(uuid, whole[0][1]["name"] if whole else None, whole))
        return self._share.of(cards)

    def _slices(self, device: ctypes.c_void_p) -> list[tuple[str, Gpu]] | None:
        """The parts of a card that is cut (MIG), each as what it is; None for a whole card."""
        mode, pending = ctypes.c_uint(), ctypes.c_uint()
        if not self._did("nvmlDeviceGetMigMode", device, ctypes.byref(mode), ctypes.byref(pending)):
            return None
        if mode.value != 1:
            return None
        found: list[tuple[str, Gpu]] = []
        for index in range(self._number("nvmlDeviceGetMaxMigDeviceCount", device) or 0):
            part = ctypes.c_void_p()
            if self._did(
                "nvmlDeviceGetMigDeviceHandleByIndex", device, ctypes.c_uint(index), ctypes.byref(part)
            ):
                found.append((self._uuid(part), self._describe(part, index)))
        return found

    def _describe(self, device: ctypes.c_void_p, mig: int | None) -> Gpu:
        name = ctypes.create_string_buffer(NAME_BYTES)
        named = self._did("nvmlDeviceGetName", device, name, ctypes.c_uint(NAME_BYTES))
        use, memory = _Utilization(), _Memory()
        used = self._did("nvmlDeviceGetUtilizationRates", device, ctypes.byref(use))
        told = self._did("nvmlDeviceGetMemoryInfo", device, ctypes.byref(memory))
        told = told and memory.total != NO_VALUE
        power = self._number("nvmlDeviceGetPowerUsage", device)
        return {
            "name": name.value.decode(errors="replace") if named else None,
            "util": use.gpu if used else None,
            "mem_used_gb": round(memory.used / GB, 2) if told else None,
            "mem_gb": round(memory.total / GB, 2) if told else None,
            "power_w": None if power is None else round(power / 1000, 1),
            "temp_c": self._number("nvmlDeviceGetTemperature", device, ctypes.c_uint(0)),
            "mig": mig,
        }

    def _uuid(self, device: ctypes.c_void_p) -> str:
        told = ctypes.create_string_buffer(NAME_BYTES)
        did = self._did("nvmlDeviceGetUUID", device, told, ctypes.c_uint(NAME_BYTES))
        return told.value.decode(errors="replace") if did else ""

    def _number(self, call: str, *before: Any) -> int | None:
        value = ctypes.c_uint()
        return value.value if self._did(call, *before, ctypes.byref(value)) else None

    def _did(self, call: str, *arguments: Any) -> bool:
        function = getattr(self._lib, call, None)  # an older driver lacks the newer calls
        return function is not None and int(function(*arguments)) == 0


class Smi:
    """One nvidia-smi that prints a line per GPU and second; the newest line of each counts."""

    def __init__(self, tree: Tree, share: Share | None = None) -> None:
        self._share = share or Share({})
        self._pipe, mouth = os.pipe()
        os.set_blocking(self._pipe, False)
        try:
            child = subprocess.Popen(
                ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader,nounits", "-l", "1"],
                stdin=subprocess.DEVNULL,
                stdout=mouth,
                stderr=subprocess.DEVNULL,
            )
        except OSError:
            os.close(self._pipe)
            raise
        finally:
            os.close(mouth)
        tree.helpers.add(child.pid)
        child.returncode = 0  # the tree buries it; this object must not wait for it, too
        self._rest = b""
        self._newest: dict[int, Card] | None = {}

    def read(self) -> list[Gpu] | None:
        """What it said last; None when it has gone."""
        while self._newest is not None:
            try:
                data = os.read(self._pipe, 1 << 16)
            except BlockingIOError:
                break
            if not data:
                self._newest = None
                break
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                self._take(line.decode(errors="replace"))
        return self._share.of([self._newest[at] for at in sorted(self._newest)]) if self._newest else None

    def close(self) -> None:
        os.close(self._pipe)

    def _take(self, line: str) -> None:
        words = [word.strip() for word in line.split(",")]
        if len(words) != len(QUERY.split(",")) or self._newest is None or not words[0].isdecimal():
            return  # its complaints are no readings
        index, uuid, name, util, used, total, power, temperature, mig = words
        cut = mig == "Enabled"  # it tells nothing of the parts: their load is unknown
        said: Gpu = {
            "name": name,
            "util": None if cut else _figure(util, 1),
            "mem_used_gb": _figure(used, 1.048576e-3),
            "mem_gb": _figure(total, 1.048576e-3),
            "power_w": _figure(power, 1),
            "temp_c": _figure(temperature, 1),
            "mig": "cut" if cut else None,
        }
        self._newest[int(index)] = Card(uuid, name, [(uuid, said)])


def _figure(word: str, factor: float) -> float | None:
    try:
        return round(float(word) * factor, 2)
    except ValueError:  # "[N/A]"
        return None


def find(tree: Tree) -> Gpus:
    share = Share(os.environ)
    if share.empty:
        return NoGpus()
    try:
        return Nvml(share=share)
    except NvmlMissing:
        pass  # the next way
    try:
        return Smi(tree, share)
    except OSError:  # no nvidia-smi either
        return NoGpus()


def is_there() -> bool:
    """Whether this machine shows at least one GPU. May take seconds: never ask in the loop."""
    try:
        return bool(Nvml().read())
    except NvmlMissing:
        pass  # the next way
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return False
    try:
        # the exit status may be lost to our own reaping of children; the words are what counts
        asked = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=ASK_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return any(line.startswith("GPU ") for line in asked.stdout.splitlines())
