"""LightGBM wants the system's libgomp, which slim images and many machines lack, while scikit-learn brings
one under a name of its own. Where only that one is here, the process begins anew with a link that has the
right name: a library's path counts only when a process starts.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

WANTED = "libgomp.so.1"
BROUGHT = ("scikit_learn.libs", "xgboost_cpu.libs", "xgboost.libs")
BEGUN_ANEW = "STACKING_LIBGOMP"
AGAIN = "import sys; from trainers.stacking.command import run; sys.exit(run(sys.argv[1:]))"


def ensure(argv: Sequence[str]) -> None:
    """Before any learner is loaded. Does not come back where the process begins anew."""
    if is_here() or os.environ.get(BEGUN_ANEW):
        return
    brought = _brought()
    if brought is None:
        return  # LightGBM says itself what it lacks
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "trainers-stacking" / "lib"
    try:
        _link(folder, brought)
    except OSError:  # a home that cannot be written into
        folder = Path(tempfile.mkdtemp(prefix="stacking-lib-"))
        _link(folder, brought)
    paths = [str(folder), os.environ.get("LD_LIBRARY_PATH", "")]
    again = os.environ | {"LD_LIBRARY_PATH": ":".join(filter(None, paths)), BEGUN_ANEW: "1"}
    os.execve(sys.executable, [sys.executable, "-c", AGAIN, *argv], again)  # noqa: S606 - ourselves


def _link(folder: Path, to: Path) -> None:
    beside = folder / f".{WANTED}.{os.getpid()}"
    folder.mkdir(parents=True, exist_ok=True)
    beside.symlink_to(to)
    os.replace(beside, folder / WANTED)


def is_here() -> bool:
    try:
        ctypes.CDLL(WANTED)
    except OSError:
        return False
    return True


def _brought() -> Path | None:
    spec = importlib.util.find_spec("sklearn")
    if spec is None or spec.origin is None:
        return None
    beside = Path(spec.origin).parents[1]
    found = [path for name in BROUGHT for path in sorted((beside / name).glob("libgomp-*.so*"))]
    return found[0] if found else None
