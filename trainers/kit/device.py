"""Which device a training uses, decided once and by one rule.

`USE_GPU=0` always wins. Else the first that is set counts: the flag, `DEVICE`, `RETRAINING_USE_GPU`,
`USE_GPU`; none is `auto`. Whether a GPU works is shown by a small computation that the trainer hands
in, never by a listing. `auto` and the two switches fall back to the CPU with one warning; whoever named
`cuda` (flag or `DEVICE`) or required a GPU (`--require-gpu`, `LAUNCHER_REQUIRE_GPU=1`) gets an error instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

ON = ("1", "true", "yes", "on")
OFF = ("0", "false", "no", "off")


class NoGpu(Exception):
    """Raised by a trainer's probe, with the reason in words."""


class DeviceRefused(Exception):
    """A GPU was demanded and there is none that works, or the wish is not one we know."""


@dataclass(frozen=True)
class Device:
    kind: str  # "cpu" | "cuda": what really runs
    name: str  # as the probe reports it, "cpu" otherwise
    wish: str  # "auto" | "cpu" | "cuda"
    source: str  # "--device" | a variable's name | "default"
    must: bool = False  # a GPU was demanded: whoever computes on it may not fall back later either


def choose(
    flag: str | None,
    require_gpu: bool,
    environ: Mapping[str, str],
    probe: Callable[[], str] | None,
    warn: Callable[[str], None],
    called: str = "--device",
) -> Device:
    """`probe` computes something small on the GPU and returns its name, or raises NoGpu. None is a trainer
    that has no code for a GPU: where nobody wished for one there is nothing to warn of. `called`: the flag's
    name, for messages."""
    if environ.get("USE_GPU", "").lower() in OFF:
        return Device("cpu", "cpu", "cpu", "USE_GPU")
    wish, source = _wish(flag, environ, called)
    require_gpu = require_gpu or environ.get("LAUNCHER_REQUIRE_GPU", "").lower() in ON
    named = wish == "cuda" and source in (called, "DEVICE")
    indifferent = wish == "cpu" or (probe is None and wish == "auto")
    if indifferent and not require_gpu:
        return Device("cpu", "cpu", wish, source)
    try:
        if probe is None:
            raise NoGpu("this trainer computes on the CPU alone")
        return Device("cuda", probe(), wish, source, require_gpu or named)
    except NoGpu as no:
        if require_gpu or named:
            asked = "--require-gpu" if require_gpu else f"{source} cuda"
            raise DeviceRefused(f"{asked}: no GPU can be used: {no}") from no
        warn(f"warning: no GPU can be used ({no}); computing on the CPU")
        return Device("cpu", "cpu", wish, source)


def _wish(flag: str | None, environ: Mapping[str, str], called: str) -> tuple[str, str]:
    for source, value in ((called, flag), ("DEVICE", environ.get("DEVICE"))):
        if value:
            return _named(value, source), source
    for source in ("RETRAINING_USE_GPU", "USE_GPU"):
        value = environ.get(source, "").lower()
        if value in ON:
            return "cuda", source
        if value in OFF:
            return "cpu", source
        if value not in ("", "auto"):
            raise DeviceRefused(f"{source}={value}: expected 1, 0 or auto")
    return "auto", "default"


def _named(value: str, source: str) -> str:
    known = {"auto": "auto", "cpu": "cpu", "cuda": "cuda", "gpu": "cuda"}
    wish = known.get(value.lower().split(":")[0])
    if wish is None:
        raise DeviceRefused(f"{source} {value}: expected auto, cpu or cuda")
    return wish
