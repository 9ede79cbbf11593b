"""Where trainers, images and profiles are found: in the current folder first, then in what the launcher
brings along. It must not know what is inside any of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Kind = Literal["trainers", "images", "profiles"]


def own_root() -> Path:
    """The wheel carries them inside the package; a checkout has them beside it."""
    package = Path(__file__).resolve().parent
    shipped = package / "shipped"
    return shipped if shipped.is_dir() else package.parent


def roots(cwd: Path, kind: Kind) -> tuple[Path, ...]:
    """The folders that hold a folder called `kind`, in the order in which they are asked."""
    found: list[Path] = []
    for root in (cwd.resolve(), own_root()):
        if root not in found and (root / kind).is_dir():
            found.append(root)
    return tuple(found)
