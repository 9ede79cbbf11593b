"""A run's own key pair: made where the run's other files lie, told to nobody but the machines it rents."""

from __future__ import annotations

import os
from pathlib import Path

NAME = "id_ed25519"


def pair(folder: Path) -> tuple[str, str]:
    """(path of the private half, the public half as a line). Made on the first call, the same ever after."""
    path = folder / NAME
    public = path.with_suffix(".pub")
    if not public.exists():
        _make(path, public)
    return str(path), public.read_text("utf-8").strip()


def _make(path: Path, public: Path) -> None:
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # half of an earlier try: nobody was told its other half
    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.OpenSSH, form.NoEncryption())
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(private)
        file.flush()
        os.fsync(file.fileno())
    line = key.public_key().public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH)
    written = public.with_name(f"{public.name}.new")
    written.write_bytes(line + b" launcher\n")
    written.replace(public)  # last: where it is, both halves are whole
