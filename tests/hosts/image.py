"""The images of the hosts that take SSH, made on the tests' engine from its base image; cached by content."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Literal, get_args

from tests.engines.base import base_image

Kind = Literal["openssh", "dropbear"]
HERE = Path(__file__).parent / "image"


@functools.cache
def image(kind: Kind) -> str:
    """Its name. The first call on an engine makes it, in some seconds, with packages from the network."""
    base = base_image()
    told = hashlib.sha256(base.encode())
    for file in sorted(HERE.iterdir()):
        told.update(file.name.encode() + b"\0" + file.read_bytes())
    name = f"launcher-test/{kind}:{told.hexdigest()[:12]}"
    with Path(tempfile.gettempdir(), f"launcher-test-image-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run side by side: one makes it
        if _docker("image", "inspect", name).returncode:
            made = _docker(
                *("build", "-q", "-t", name, "--build-arg", f"BASE={base}"),
                *("-f", str(HERE / f"Dockerfile.{kind}"), str(HERE)),
            )
            assert made.returncode == 0, made.stderr
    return name


def _docker(*words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "DOCKER_BUILDKIT": "0"}
    return subprocess.run(["docker", *words], env=env, capture_output=True, text=True, timeout=600)


if __name__ == "__main__":  # ahead of the tests: none of them waits for packages then
    for kind in get_args(Kind):
        print(image(kind))
