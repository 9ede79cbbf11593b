"""How often may be asked: counted over a window that slides, told in every answer's headers.

What was asked for within the last hour and day is told too, with so much left that nobody need care.
"""

from __future__ import annotations

from math import ceil

ELSEWHERE = (("hour", 3600, 300_000), ("day", 86400, 5_000_000))


class Quota:
    def __init__(self) -> None:
        self._asked: list[float] = []

    def ask(self, most: int, window_s: float, now: float) -> float | None:
        """Counts this request. One too many: in how many seconds it may be asked again."""
        self._asked[:] = [at for at in self._asked if now - at < window_s]
        if len(self._asked) >= most:
            return self._asked[0] + window_s - now
        self._asked.append(now)
        return None

    def headers(self, most: int, window_s: float, now: float) -> dict[str, str]:
        resets_s = ceil(self._asked[0] + window_s - now) if self._asked else ceil(window_s)
        left = [f'"minute";r={max(0, most - len(self._asked))};t={max(0, resets_s)}']
        policy = [f'"minute";q={most};w={ceil(window_s)}']
        for name, length_s, quota in ELSEWHERE:
            left.append(f'"{name}";r={quota - len(self._asked)};t={length_s}')
            policy.append(f'"{name}";q={quota};w={length_s}')
        return {"RateLimit": ", ".join(left), "RateLimit-Policy": ", ".join(policy)}
