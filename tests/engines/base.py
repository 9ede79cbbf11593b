"""The tests' own images: a small Debian with python3, and what tests ask of an engine beside it."""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path

HERE = Path(__file__).parent


@functools.cache
def base_image() -> str:
    """Its name. The first call on a machine makes it, in about a minute; later ones use the cache."""
    done = subprocess.run(
        [HERE / "docker.sh", "base-image"], env=dict(os.environ), capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
