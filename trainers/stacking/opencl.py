"""What OpenCL has here, asked of its loader: names, and whether each is a GPU. Standard library only."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

LOADER = "libOpenCL.so.1"
NAME, TYPE = 0x102B, 0x1000  # CL_DEVICE_NAME, CL_DEVICE_TYPE
ALL, GPU = 0xFFFFFFFF, 1 << 2  # CL_DEVICE_TYPE_ALL, CL_DEVICE_TYPE_GPU
MOST = 16  # platforms, and devices of one


@dataclass(frozen=True)
class OpenClDevice:
    name: str
    is_gpu: bool


def devices() -> list[OpenClDevice] | None:
    """None where there is no loader to ask; LightGBM brings one of its own, so that says nothing."""
    try:
        loader = ctypes.CDLL(LOADER)
    except OSError:
        return None
    found: list[OpenClDevice] = []
    for platform in _listed(partial(loader.clGetPlatformIDs, MOST)):
        inside = partial(loader.clGetDeviceIDs, ctypes.c_void_p(platform), ctypes.c_uint64(ALL), MOST)
        found += [_device(loader, ctypes.c_void_p(device)) for device in _listed(inside)]
    return found


def _listed(ask: Callable[..., int]) -> list[int]:
    out, count = (ctypes.c_void_p * MOST)(), ctypes.c_uint32(0)
    if ask(out, ctypes.byref(count)):
        return []  # an error is also how it says that there are none
    return [one for one in out[: min(count.value, MOST)] if one]


def _device(loader: ctypes.CDLL, device: ctypes.c_void_p) -> OpenClDevice:
    kind, name = ctypes.c_uint64(0), ctypes.create_string_buffer(256)
    loader.clGetDeviceInfo(device, TYPE, ctypes.c_size_t(8), ctypes.byref(kind), None)
    loader.clGetDeviceInfo(device, NAME, ctypes.c_size_t(256), name, None)
    return OpenClDevice(name.value.decode(errors="replace").strip(), bool(kind.value & GPU))
