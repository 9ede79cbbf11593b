"""How fast Runpod may be asked, as its answers' RateLimit headers tell it.

The first half of a window's quota is free; of the rest, what is left is spread over the time that is left.
Waits for nothing: it says how long to wait. The clock is handed in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_MEMBER = re.compile(r'"(\w+)"((?:\s*;\s*\w+=\d+)*)')
_PAIR = re.compile(r"(\w+)=(\d+)")


@dataclass
class Window:
    left: int
    resets_at: float
    quota: int | None


class Pace:
    def __init__(self) -> None:
        self._windows: dict[str, Window] = {}
        self._asked_at = float("-inf")

    def asked(self, now: float) -> None:
        self._asked_at = now
        for window in self._windows.values():
            window.left = max(0, window.left - 1)

    def heard(self, headers: Mapping[str, str], now: float) -> None:
        quotas = {name: values.get("q") for name, values in _members(headers.get("RateLimit-Policy"))}
        for name, values in _members(headers.get("RateLimit")):
            if "r" in values and "t" in values:
                self._windows[name] = Window(values["r"], now + values["t"], quotas.get(name))

    def wait_s(self, now: float) -> float:
        """How long to wait before the next question; 0 = ask."""
        return max((self._wait_s(window, now) for window in self._windows.values()), default=0.0)

    def _wait_s(self, window: Window, now: float) -> float:
        rest = window.resets_at - now
        if rest <= 0 or (window.left and window.quota is not None and window.left * 2 > window.quota):
            return 0.0
        if not window.left:
            return rest
        return max(0.0, self._asked_at + rest / window.left - now)


def resets_in_s(headers: Mapping[str, str]) -> float | None:
    """Until the last of the used-up windows begins anew."""
    used_up = [values["t"] for _, values in _members(headers.get("RateLimit")) if values.get("r") == 0]
    return float(max(used_up)) if used_up and all(isinstance(t, int) for t in used_up) else None


def _members(written: str | None) -> list[tuple[str, dict[str, int]]]:
    return [
        (name, {key: int(value) for key, value in _PAIR.findall(parameters)})
        for name, parameters in _MEMBER.findall(written or "")
    ]
