"""Where each learner computes, decided by what works: `nvidia-smi` lists a GPU, and a tiny real fit on it
comes back from it. The answer is kept until the machine starts anew.

XGBoost without a GPU goes on on the CPU and only warns; LightGBM's OpenCL runs on whatever calls itself an
OpenCL device, a CPU too. So the device is read back from the first, and the name is read from the second.
The fits are made by a child process: a broken driver may hang or kill whoever asks it.

    python -m trainers.stacking.devices       # asks at once and prints what works, as JSON
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trainers.kit.device import Device, NoGpu, choose
from trainers.kit.files import write_json
from trainers.stacking import opencl

PATIENCE_S = 90
NO_OPENCL = "no OpenCL device"
NOISE = re.compile(r"^\[[\d:]+\] (WARNING: )?\S+:\d+: ")  # when and where in its files XGBoost says something
BOOT = Path("/proc/sys/kernel/random/boot_id")
ICD_LIBRARY = "libnvidia-opencl.so.1"
MATTERS = ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "OCL_ICD_FILENAMES", "OCL_ICD_VENDORS")


@dataclass(frozen=True)
class LightGbm:
    kind: str = "cpu"  # LightGBM's own word: "cpu", "gpu" (OpenCL) or "cuda"
    name: str = ""
    why: str = ""  # why it is the CPU


@dataclass(frozen=True)
class Seen:
    """What a look found."""

    gpus: tuple[str, ...]
    xgboost: str  # "cuda:0", or "cpu"
    why: str  # why XGBoost has only the CPU
    lightgbm: LightGbm


@dataclass(frozen=True)
class Places:
    """Where the learners of one training compute. Forest and ridge have the CPU, always."""

    device: Device
    xgboost: str
    why: str
    lightgbm: LightGbm

    def line(self) -> str:
        """What is said once, before anything is trained."""
        first = f"XGBoost on {self.xgboost} ({self.device.name if self.on_gpu else self.why})"
        light = self.lightgbm
        kind = {"gpu": "OpenCL"}.get(light.kind, light.kind)
        return f"{first}, LightGBM on {kind} ({light.name or light.why}), forest and ridge on cpu"

    @property
    def on_gpu(self) -> bool:
        return self.xgboost != "cpu"


def decide(
    flag: str | None,
    require_gpu: bool,
    environ: Mapping[str, str],
    warn: Callable[[str], None],
    called: str = "--device",
) -> Places:
    """The kit's one rule with our own look; raises DeviceRefused."""
    found: Seen | None = None

    def probe() -> str:
        nonlocal found
        found = look(environ)
        if found.xgboost == "cpu":
            raise NoGpu(found.why)
        return found.gpus[0] if found.gpus else found.xgboost

    device = choose(flag, require_gpu, environ, probe, warn, called)
    if found is None:
        wished = f"{device.source} says so"
        return Places(device, "cpu", wished, LightGbm(why=wished))
    return Places(device, found.xgboost, found.why, found.lightgbm)


def look(environ: Mapping[str, str]) -> Seen:
    """Cached for this boot; whatever could change the answer is part of the question."""
    names, why = _listed()
    asked = [
        sys.executable, *(environ.get(name, "") for name in MATTERS), list(names), why, _has_icd(), _boot(),
    ]  # fmt: skip
    key = hashlib.sha256(json.dumps(asked).encode()).hexdigest()
    path = (
        Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trainers-stacking" / "devices.json"
    )
    if (held := _kept(path, key)) is not None:
        return held
    try:
        found = _asked(names, why)
    except _Lost as lost:  # not kept: the next start may find the machine less busy
        return Seen(names, "cpu", str(lost), LightGbm(why=str(lost)))
    try:
        write_json(path, {"key": key, "seen": asdict(found)})
    except OSError as wrong:  # it only costs the next start the same seconds
        print(f"note: what devices work is not kept: {wrong}", flush=True)
    return found


def _kept(path: Path, key: str) -> Seen | None:
    try:
        held = json.loads(path.read_text())
        if held["key"] != key:
            return None
        return _seen(held["seen"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # none yet, or not ours: asked anew


def _seen(said: Mapping[str, Any]) -> Seen:
    return Seen(tuple(said["gpus"]), said["xgboost"], said["why"], LightGbm(**said["lightgbm"]))


def _boot() -> str:
    try:
        return BOOT.read_text().strip()
    except OSError:
        return ""  # no Linux: then a kept answer lasts until something else changes


def _listed() -> tuple[tuple[str, ...], str]:
    """The GPUs that nvidia-smi lists, or why there are none."""
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return (), "no GPU seen"
    asked = [smi, "--query-gpu=name", "--format=csv,noheader"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as wrong:
        return (), f"nvidia-smi does not answer: {wrong}"
    names = tuple(line.strip() for line in done.stdout.splitlines() if line.strip())
    if done.returncode or not names:
        said = (done.stderr or done.stdout).strip().splitlines()
        return (), f"nvidia-smi shows no GPU: {said[-1] if said else done.returncode}"
    return names, ""


class _Lost(Exception):
    """The child gave no answer."""


def _asked(names: tuple[str, ...], why: str) -> Seen:
    child = [sys.executable, "-m", "trainers.stacking.devices", json.dumps([list(names), why])]
    try:
        done = subprocess.run(
            child, capture_output=True, text=True, timeout=PATIENCE_S, cwd=Path(__file__).parents[2]
        )
        return _seen(json.loads(done.stdout.splitlines()[-1]))
    except subprocess.TimeoutExpired:
        raise _Lost(f"a tiny fit did not come back in {PATIENCE_S} s") from None
    except (ValueError, IndexError, KeyError, TypeError):
        raise _Lost(f"a tiny fit ended with status {done.returncode}") from None


# in the child


def ask(names: tuple[str, ...], why: str) -> Seen:
    give_icd()
    xgboost, no = ("cpu", why) if not names else _xgboost()
    return Seen(names, xgboost, no, lightgbm(names))


def _tiny() -> tuple[Any, Any]:
    import numpy as np

    draw = np.random.default_rng(1)
    rows = draw.standard_normal((256, 4)).astype(np.float32)
    return rows, (rows[:, 0] > 0).astype(np.float64)


def _xgboost() -> tuple[str, str]:
    import xgboost as xgb

    rows, target = _tiny()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            booster = xgb.train(
                {"device": "cuda", "tree_method": "hist", "verbosity": 1},
                xgb.QuantileDMatrix(rows, target),
                2,
            )
            used = json.loads(booster.save_config())["learner"]["generic_param"]["device"]
        except xgb.core.XGBoostError as wrong:
            return "cpu", f"XGBoost: {_first(wrong)}"
    if used.startswith("cuda"):
        return used, ""
    return "cpu", f"XGBoost went to the {used}" + (f": {_first(said[0].message)}" if said else "")


def lightgbm(names: tuple[str, ...]) -> LightGbm:
    """CUDA where the build has it, else OpenCL if that is a GPU that nvidia-smi lists, too. Where OpenCL says
    by itself that it has none, nothing is tried: making its programs for a CPU takes it many seconds."""
    if names:
        no, name = tiny_lightgbm("cuda")
        if not no:
            return LightGbm("cuda", name or names[0])
    there = opencl.devices()
    if there is not None and not any(one.is_gpu for one in there):
        return LightGbm(why=no_gpu(there[0].name) if there else NO_OPENCL)
    if not names:
        return LightGbm(why="nvidia-smi lists no GPU" if there or _has_icd() else NO_OPENCL)
    no, name = tiny_lightgbm("gpu")
    if no:
        return LightGbm(why=NO_OPENCL if NO_OPENCL.lower() in no.lower() else no)
    return LightGbm("gpu", name) if name in names else LightGbm(why=no_gpu(name))


def no_gpu(name: str) -> str:
    return f"OpenCL has only {name}, which is no GPU"


def tiny_lightgbm(kind: str) -> tuple[str, str]:
    """Why it does not work (empty: it does), and the name of the device that LightGBM says it used."""
    import lightgbm as lgb

    rows, target = _tiny()
    said: list[str] = []
    lgb.register_logger(_Heard(said))
    params = {"device_type": kind, "objective": "binary", "num_leaves": 4, "verbosity": 1, "num_threads": 1}
    try:
        lgb.train(params, lgb.Dataset(rows, target, params=params), 2)
    except lgb.basic.LightGBMError as wrong:
        return _first(wrong), ""
    named = [line.split("Device:")[1].split(", Vendor")[0].strip() for line in said if "GPU Device:" in line]
    return "", named[-1] if named else ""


class _Heard:
    def __init__(self, into: list[str]) -> None:
        self._into = into

    def info(self, line: str) -> None:
        self._into.append(line)

    def warning(self, line: str) -> None:
        self._into.append(line)


def _first(wrong: object) -> str:
    lines = [line.strip() for line in str(wrong).splitlines() if line.strip()]
    return NOISE.sub("", lines[0])[:200] if lines else type(wrong).__name__


def _has_icd() -> bool:
    folder = Path(os.environ.get("OCL_ICD_VENDORS", "/etc/OpenCL/vendors"))
    return folder.is_dir() and any(folder.glob("*.icd"))


def give_icd() -> None:
    """Containers have NVIDIA's OpenCL but often not the file that names it; LightGBM's loader takes the
    library's name from here. Before LightGBM is imported."""
    if _has_icd() or os.environ.get("OCL_ICD_FILENAMES"):
        return
    try:
        ctypes.CDLL(ICD_LIBRARY)
    except OSError:
        return  # there is none
    os.environ["OCL_ICD_FILENAMES"] = ICD_LIBRARY


if __name__ == "__main__":
    given = json.loads(sys.argv[1]) if sys.argv[1:] else _listed()
    print(json.dumps(asdict(ask(tuple(given[0]), given[1]))))
