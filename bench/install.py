"""How much the core install weighs: packages and megabytes of a fresh environment, with bytecode, beside an
empty one. Needs a package index; the smoke run only resolves what is declared.

    python bench/install.py
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
import venv
from pathlib import Path

from measure import ROOT, arguments, report, scratch

BOUNDS = {"core install MB": 70, "core packages": 25}


def megabytes(folder: Path) -> float:
    return round(
        sum(f.stat().st_size for f in folder.rglob("*") if f.is_file() and not f.is_symlink()) / 1e6, 1
    )


def main() -> int:
    args = arguments(__doc__ or "")
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    if args.smoke:
        return report("install", {"declared core dependencies": len(declared)}, {}, args)
    with scratch() as folder:
        place = Path(folder) / "venv"
        venv.create(place, with_pip=True)
        empty = megabytes(place)
        python = place / "bin" / "python"
        pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, "-c", str(ROOT / "constraints.txt"), *declared], check=True)
        listed = subprocess.run(
            [str(python), "-m", "pip", "list", "--format=freeze", "--disable-pip-version-check"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.splitlines()
        own = [line for line in listed if line.split("==")[0] not in ("pip", "setuptools")]
        figures = {
            "empty environment MB": empty,
            "core install MB": round(megabytes(place), 1),
            "core packages": len(own),
        }
    return report("install", figures, BOUNDS, args)


if __name__ == "__main__":
    sys.exit(main())
