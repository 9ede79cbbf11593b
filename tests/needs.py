"""What a test may need beyond Python: how it is seen to be here, and what brings it.

Knows nothing of the tests that ask and nothing of the launcher.
"""

from __future__ import annotations

import atexit
import functools
import importlib.metadata
import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

ENGINE = Path(__file__).parent / "engines" / "docker.sh"
DEFAULT_SOCKET = "unix:///var/run/docker.sock"
PATIENCE_S = 10.0
OPENCL = "/etc/OpenCL/vendors/pocl.icd"
OPENCL_LOADER = f"/usr/lib/{platform.machine()}-linux-gnu/libOpenCL.so.1"
RUNPOD_DOCUMENT = Path(
    os.environ.get("LAUNCHER_TEST_RUNPOD_DOCUMENT")
    or Path(__file__).parents[2] / "shared" / "specs" / "runpod-rest-v2.openapi.json"
)
RUNPOD_GRAPHQL = Path(
    os.environ.get("LAUNCHER_TEST_RUNPOD_GRAPHQL")
    or RUNPOD_DOCUMENT.with_name("runpod-graphql-subset.graphql")
)


@dataclass(frozen=True)
class Need:
    missing: Callable[[], str | None]  # None = it is here; else why it is not
    bring: Callable[[], str | None]  # tries to when it was asked for; None, or why it cannot
    packages: tuple[tuple[str, str], ...] = ()  # (program, Debian package that has it)
    words: str = ""  # what to get when no package brings it

    def absent_packages(self) -> tuple[str, ...]:
        return tuple(package for program, package in self.packages if _program(program) is None)


def _program(name: str) -> str | None:
    """Servers lie in sbin, which is not on every PATH. A path stands for a package that has no program."""
    if name.startswith("/"):
        return name if Path(name).exists() else None
    return shutil.which(name) or shutil.which(name, path="/usr/local/sbin:/usr/sbin:/sbin")


def docker_missing() -> str | None:
    address = os.environ.get("DOCKER_HOST") or DEFAULT_SOCKET
    try:
        with _connect(address) as channel:
            channel.settimeout(PATIENCE_S)
            channel.sendall(b"GET /_ping HTTP/1.0\r\nHost: engine\r\n\r\n")
            answer = channel.recv(64)
    except (OSError, ValueError) as error:
        return f"no engine answers at {address} ({error})"
    return None if b" 200 " in answer else f"{address} answers, but not like an engine"


def _connect(address: str) -> socket.socket:
    kind, _, place = address.partition("://")
    if kind == "unix":
        channel = socket.socket(socket.AF_UNIX)
        channel.settimeout(PATIENCE_S)
        try:
            channel.connect(place)
        except OSError:
            channel.close()
            raise
        return channel
    host, _, port = place.rstrip("/").rpartition(":")
    return socket.create_connection((host, int(port)), timeout=PATIENCE_S)


def start_docker() -> str | None:
    """The tests' own engine, held by this process and ended with it."""
    if not ENGINE.exists():
        return f"{ENGINE.name} is not here"
    us = str(os.getpid())
    done = subprocess.run([ENGINE, "start", us], capture_output=True, text=True)
    if done.returncode:
        return done.stderr.strip() or f"{ENGINE.name} ended with {done.returncode}"
    atexit.register(lambda: subprocess.run([ENGINE, "stop", us]))
    os.environ["DOCKER_HOST"] = done.stdout.strip().splitlines()[-1].removeprefix("DOCKER_HOST=")
    return docker_missing()


def sshd_missing() -> str | None:
    here = all(map(_program, ("sshd", "ssh", "rsync")))
    return None if here else "sshd, ssh or rsync is not installed"


def registry_missing() -> str | None:
    return None if _program("docker-registry") else "docker-registry is not installed"


def chromium_missing() -> str | None:
    return None if _program("chromium") else "chromium is not installed"


def gpu_missing() -> str | None:
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return "no nvidia-smi"
    done = subprocess.run([smi, "-L"], capture_output=True, text=True, timeout=20)
    return None if done.returncode == 0 and "GPU" in done.stdout else "nvidia-smi shows no GPU"


def namespaces_missing() -> str | None:
    """Whether a program may become PID 1 of a small world of its own."""
    if shutil.which("unshare") is None:
        return "no unshare"
    done = subprocess.run(
        ["unshare", "-rfp", "--mount-proc", "true"], capture_output=True, text=True, timeout=20
    )
    return None if done.returncode == 0 else done.stderr.strip() or "unshare is not allowed"


def network_missing(tries: int = 1) -> str | None:
    """A package index, wherever the caller's own settings say it is."""
    known = f"iniconfig=={importlib.metadata.version('iniconfig')}"
    if shutil.which("uv"):
        ask = ["uv", "pip", "install", "--python", sys.executable, "--reinstall", "--refresh"]
    else:
        ask = [sys.executable, "-I", "-m", "pip", "install", "--ignore-installed", "--no-cache-dir"]
        ask += ["--retries=0", "--timeout=5", "--disable-pip-version-check"]
    ask += ["--dry-run", "--no-deps", "--quiet", known]
    for _ in range(tries):
        if subprocess.run(ask, capture_output=True, timeout=60).returncode == 0:
            return None
    return "no package index answers"


def network_awaited() -> str | None:
    """One that was demanded may be slow or stumble once: everything that needs it would fail."""
    return network_missing(tries=3)


def opencl_missing() -> str | None:
    here = Path(OPENCL).exists() and Path(OPENCL_LOADER).exists()
    return None if here else "no OpenCL that computes on the CPU"


def runpod_graphql_missing() -> str | None:
    return None if RUNPOD_GRAPHQL.is_file() else f"{RUNPOD_GRAPHQL.name} is not here"


def runpod_document_missing() -> str | None:
    return None if RUNPOD_DOCUMENT.is_file() else f"{RUNPOD_DOCUMENT.name} is not here"


NEEDS = {
    "docker": Need(docker_missing, start_docker, (("dockerd", "docker.io"), ("debootstrap", "debootstrap"))),
    "registry": Need(registry_missing, registry_missing, (("docker-registry", "docker-registry"),)),
    "sshd": Need(
        sshd_missing,
        sshd_missing,
        (("sshd", "openssh-server"), ("ssh", "openssh-client"), ("rsync", "rsync")),
    ),
    "chromium": Need(chromium_missing, chromium_missing, (("chromium", "chromium"),)),
    "opencl": Need(
        opencl_missing, opencl_missing, ((OPENCL, "pocl-opencl-icd"), (OPENCL_LOADER, "ocl-icd-libopencl1"))
    ),
    "gpu": Need(gpu_missing, gpu_missing, words="a machine with an NVIDIA GPU"),
    "namespaces": Need(
        namespaces_missing, namespaces_missing, (("unshare", "util-linux"),), "a Linux that allows it"
    ),
    "network": Need(network_missing, network_awaited, words="a package index that answers"),
    "runpod-graphql": Need(
        runpod_graphql_missing,
        runpod_graphql_missing,
        words="a GraphQL schema of Runpod's old API, at the path in LAUNCHER_TEST_RUNPOD_GRAPHQL",
    ),
    "runpod-document": Need(
        runpod_document_missing,
        runpod_document_missing,
        words="Runpod's OpenAPI document of REST v2, at the path in LAUNCHER_TEST_RUNPOD_DOCUMENT",
    ),
}


@functools.cache
def why_missing(name: str, demanded: bool) -> str | None:
    why = NEEDS[name].missing()
    return NEEDS[name].bring() if why is not None and demanded else why


def last_line(left_out: Mapping[str, int]) -> str:
    """What was left out, and the line to paste that brings as much of it as can be brought."""
    if not left_out:
        return "left out: nothing"
    names = sorted(left_out)
    parts = [f"{name} ({left_out[name]} test{'s' * (left_out[name] != 1)})" for name in names]
    packages = sorted({package for name in names for package in NEEDS[name].absent_packages()})
    install = f"apt-get install -y {' '.join(packages)} && " if packages else ""
    here = [name for name in names if not NEEDS[name].words]
    lines = [f"{install}LAUNCHER_TEST_NEED={','.join(here)} ./launch test"] if here else []
    lines += [f"{name} wants {NEEDS[name].words}" for name in names if NEEDS[name].words]
    return f"left out: {', '.join(parts)}; bring it: {'; '.join(lines)}"
