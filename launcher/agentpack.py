"""The agent as one file: the same sources give the same bytes, on every machine and at every time."""

from __future__ import annotations

import io
import zipfile
from importlib import resources

PACKAGE = "launcher_agent"
LEFT_OUT = ("boot.py", "podguard.py")  # they ride in the create call instead
EPOCH = (1980, 1, 1, 0, 0, 0)
ENTRY = f"from {PACKAGE}.__main__ import main\n\nmain()\n"


def agent_bytes() -> bytes:
    """A zipapp for `python3 -I agent.pyz TOKEN`. Stored, not packed: packing differs between systems."""
    sources = {
        f"{PACKAGE}/{entry.name}": entry.read_bytes()
        for entry in resources.files("launcher.agent").iterdir()
        if entry.name.endswith(".py") and entry.name not in LEFT_OUT
    }
    sources["__main__.py"] = ENTRY.encode()
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(sources):
            info = zipfile.ZipInfo(name, EPOCH)
            info.create_system = 3
            info.external_attr = 0o644 << 16
            archive.writestr(info, sources[name])
    return target.getvalue()


def boot_guard() -> str:
    """The source of the small program that waits for the agent: `python3 -I -c SOURCE TOKEN`."""
    return (resources.files("launcher.agent") / "boot.py").read_text(encoding="utf-8")
