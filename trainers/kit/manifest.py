"""The manifest of a version that was trained from Python and not by a run: then `launcher models` knows it.

The form is the launcher's own (`launcher/artifacts.py`), which a trainer cannot import where only trainers
were sent; a test holds the two together.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from trainers.kit.files import sync, sync_folder, write

MANIFEST = "manifest.json"
TOLD = ("device", "metrics", "judged", "seed", "seconds")  # by result.json


def write_manifest(
    folder: Path, trainer: str, settings: Mapping[str, object], inputs: Mapping[str, str]
) -> None:
    """The last file of a version that has its result already. `inputs`: digests by name."""
    result = json.loads((folder / "result.json").read_text())
    facts = {
        "run": None,
        "created": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "state": "done",
        "exit_code": 0,
        "trainer": trainer,
        "settings": dict(settings),
        "inputs": dict(inputs),
        "target": "local",
        **{name: result[name] for name in TOLD if name in result},
        "usd": None,  # nobody here knows what this machine costs
    }
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = [_listed(path, path.relative_to(folder).as_posix()) for path in paths]
    body = {"schema": 1, "files": sorted(files, key=lambda one: str(one["path"])), **facts}
    write(folder / MANIFEST, (json.dumps(body, indent=1, ensure_ascii=False) + "\n").encode())
    for inside in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        sync_folder(inside)


def _listed(path: Path, name: str) -> dict[str, object]:
    """Synced, since after the manifest nobody looks whether it lasted."""
    sync(path)
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"path": name, "size": path.stat().st_size, "sha256": digest}
