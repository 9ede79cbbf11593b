"""Where Runpod's API is and with which key it is asked: environment first, then Runpod's own config file.

The key is handed on inside a Secret, which shows itself to nobody. Knows no HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from launcher.errors import AuthRefused, BadOrder

ROOT = "https://api.runpod.io"
ROOT_NAME = "RUNPOD_API_BASE_URL"
KEY_NAME = "RUNPOD_API_KEY"
CONFIG = Path(".runpod") / "config.toml"
FIX = f"export {KEY_NAME}=… (a key of your own: Runpod console, Settings, API keys)"
_SPELLINGS = ("api_key", "apikey")


@dataclass(frozen=True, repr=False)
class Secret:
    """A key that no print, log or traceback shows."""

    value: str

    def __repr__(self) -> str:
        return "Secret(…)"

    def hidden_in(self, text: str) -> str:
        """The text as it may be shown."""
        return text.replace(self.value, "…") if self.value else text


def root(environ: Mapping[str, str]) -> str:
    """The API's root without a slash at its end: REST lies at /v2, GraphQL at /graphql."""
    said = environ.get(ROOT_NAME, "").strip().rstrip("/") or ROOT
    for ending in ("/v2", "/graphql"):
        said = said.removesuffix(ending)
    parts = urlsplit(said)
    if parts.scheme == "https" and parts.hostname:
        return said
    if parts.scheme == "http" and parts.hostname and _near(parts.hostname):
        return said
    raise BadOrder(f"{ROOT_NAME} must be an https address: over any other the key could be read on its way")


def _near(host: str) -> bool:
    """This machine, or a network that nobody routes."""
    import ipaddress

    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host == "localhost"


def key(environ: Mapping[str, str], home: Path) -> Secret:
    """The caller's key. Raises AuthRefused when there is none."""
    said = environ.get(KEY_NAME, "").strip() or _written(home / CONFIG)
    if not said:
        raise AuthRefused(f"there is no key: neither {KEY_NAME} nor ~/{CONFIG} has one", FIX, missing=True)
    if not (said.isascii() and said.isprintable()) or " " in said:
        raise AuthRefused("the key holds characters that no key has", FIX)
    return Secret(said)


def _written(path: Path) -> str:
    """What Runpod's own tools wrote: at the top, or in a profile called default."""
    import tomllib

    try:
        held = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as why:  # its text may hold the key, so only the kind of fault is told
        raise AuthRefused(f"~/{CONFIG} cannot be read: {type(why).__name__}", FIX) from None
    for table in (held.get("default"), held):
        for name, value in (table or {}).items():
            if name.lower() in _SPELLINGS and isinstance(value, str) and value.strip():
                return value.strip()
    return ""
