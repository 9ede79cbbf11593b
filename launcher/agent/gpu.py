"""What the GPUs do: by NVML, else by one nvidia-smi that keeps talking, else nothing.

A reading is a list of records with name, util, mem_used_gb, mem_gb, power_w, temp_c, mig; what a device
does not tell is None.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from typing import Any, Protocol

from .tree import Tree

GB = 1e9
NAME_BYTES = 96
NO_VALUE = (1 << 64) - 1
QUERY = "index,name,utilization.gpu,memory.used,memory.total,power.draw,temperature.gpu,mig.mode.current"
ASK_S = 20.0
Gpu = dict[str, Any]


class Gpus(Protocol):
    def read(self) -> list[Gpu] | None:
        """None = there are some, but they cannot be read now."""


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

    def __init__(self, library: Any = None) -> None:
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
        found: list[Gpu] = []
        for index in range(count):
            device = ctypes.c_void_p()
            if not self._did("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(device)):
                return None
            slices = self._slices(device)
            found += [self._describe(device, None)] if slices is None else slices
        return found

    def _slices(self, device: ctypes.c_void_p) -> list[Gpu] | None:
        """The parts of a card that is cut (MIG), each as what it is; None for a whole card."""
        mode, pending = ctypes.c_uint(), ctypes.c_uint()
        if not self._did("nvmlDeviceGetMigMode", device, ctypes.byref(mode), ctypes.byref(pending)):
            return None
        if mode.value != 1:
            return None
        found: list[Gpu] = []
        for index in range(self._number("nvmlDeviceGetMaxMigDeviceCount", device) or 0):
            part = ctypes.c_void_p()
            if self._did(
                "nvmlDeviceGetMigDeviceHandleByIndex", device, ctypes.c_uint(index), ctypes.byref(part)
            ):
                found.append(self._describe(part, index))
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

    def _number(self, call: str, *before: Any) -> int | None:
        value = ctypes.c_uint()
        return value.value if self._did(call, *before, ctypes.byref(value)) else None

    def _did(self, call: str, *arguments: Any) -> bool:
        function = getattr(self._lib, call, None)  # an older driver lacks the newer calls
        return function is not None and int(function(*arguments)) == 0


class Smi:
    """One nvidia-smi that prints a line per GPU and second; the newest line of each counts."""

    def __init__(self, tree: Tree) -> None:
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
        self._newest: dict[str, Gpu] | None = {}

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
        return list(self._newest.values()) if self._newest else None

    def close(self) -> None:
        os.close(self._pipe)

    def _take(self, line: str) -> None:
        words = [word.strip() for word in line.split(",")]
        if len(words) != len(QUERY.split(",")) or self._newest is None:
            return  # its complaints are no readings
        index, name, util, used, total, power, temperature, mig = words
        cut = mig == "Enabled"  # it tells nothing of the parts: their load is unknown
        self._newest[index] = {
            "name": name,
            "util": None if cut else _figure(util, 1),
            "mem_used_gb": _figure(used, 1.048576e-3),
            "mem_gb": _figure(total, 1.048576e-3),
            "power_w": _figure(power, 1),
            "temp_c": _figure(temperature, 1),
            "mig": "cut" if cut else None,
        }


def _figure(word: str, factor: float) -> float | None:
    try:
        return round(float(word) * factor, 2)
    except ValueError:  # "[N/A]"
        return None


def find(tree: Tree) -> Gpus:
    try:
        return Nvml()
    except NvmlMissing:
        pass  # the next way
    try:
        return Smi(tree)
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
