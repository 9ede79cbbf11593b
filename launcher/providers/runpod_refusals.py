"""What Runpod's refusals mean: an HTTP status with its problem, as one of the house's closed set of errors.

A 400 is a broken rule or no capacity, and only its prose tells which. Knows no connection and no key.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from launcher.errors import (
    AuthRefused,
    BadOrder,
    Busy,
    Gone,
    NoCapacity,
    ProviderError,
    QuotaReached,
    TooFast,
    Unreachable,
    VendorBug,
)
from launcher.providers.runpod_keys import FIX
from launcher.providers.runpod_pace import resets_in_s

CREATE = "create a pod"
_NONE_LEFT = re.compile(
    r"no (longer any |)(instances|machines|gpus?)\b.*\bavailable|not enough (free )?gpus"
    r"|(out of|no|insufficient) capacity",
    re.IGNORECASE,
)
_LIMIT = re.compile(r"spend(ing)? limit|quota|limit (was |is |)(reached|exceeded)", re.IGNORECASE)
_POOL = re.compile(r"\b(pool|gpu|data ?cent(er|re)|region|cloud)\b", re.IGNORECASE)
_NO_SUCH = re.compile(
    r"cannot query field|(spot|interrupt[ai]ble|bid)\b.*\b(no longer|not) (available|supported|offered)",
    re.IGNORECASE,
)
_LONGEST = 300
RIGHTS = "give the key the right to read and change pods (Runpod console, Settings, API keys)"
_WAIT_S = 5.0


def refusal(status: int, headers: Mapping[str, str], body: str, doing: str) -> ProviderError:
    """`doing` in words: "create a pod", "look at pod x"."""
    detail = _detail(body)
    reason = f"Runpod refused to {doing}: {detail}" if detail else f"Runpod refused to {doing} ({status})"
    creating = doing == CREATE
    if status == 429:
        return TooFast(f"Runpod was asked too often: {detail}", _wait_s(headers))
    if status >= 500 or status == 408:
        return Unreachable(f"Runpod could not {doing} now ({status}): {detail or 'no reason given'}")
    if status == 401:
        return AuthRefused(f"Runpod does not accept this key: {detail}", FIX)
    if status == 402:
        return QuotaReached(f"the balance at Runpod is too low: {detail}", everywhere=True)
    if status == 403:
        return BadOrder(reason) if creating and _POOL.search(detail) else AuthRefused(reason, RIGHTS)
    if status == 404:
        return BadOrder(reason) if creating else Gone(reason)
    if status == 409:
        return BadOrder(reason) if creating else Busy(reason)
    if status == 400 and _NONE_LEFT.search(detail):
        return NoCapacity(f"Runpod has none free: {detail}")
    if status == 400 and creating and _LIMIT.search(detail):
        return QuotaReached(reason)
    if status in (400, 422):
        return BadOrder(reason, everywhere=status == 422 and not _POOL.search(detail))
    return VendorBug(f"Runpod answered {status} when asked to {doing}: {detail}")


def no_such_operation(message: str) -> bool:
    """GraphQL knows no such thing (any more), as a schema says it or as a person would."""
    return _NO_SUCH.search(message) is not None


def of_graph(message: str, doing: str) -> ProviderError:
    """A business error of GraphQL, told by its prose alone."""
    if _NONE_LEFT.search(message):
        return NoCapacity(f"Runpod has none free: {message}")
    if re.search(r"not found", message, re.IGNORECASE):
        return Gone(f"Runpod could not {doing}: {message}")
    if re.search(r"logged in|unauthori[sz]ed|denied|forbidden", message, re.IGNORECASE):
        return AuthRefused(f"Runpod refused to {doing}: {message}", RIGHTS)
    if re.search(r"balance|fund", message, re.IGNORECASE):
        return QuotaReached(f"the balance at Runpod is too low: {message}", everywhere=True)
    if re.search(r"something went wrong|internal", message, re.IGNORECASE):
        return Unreachable(f"Runpod could not {doing} now: {message}")
    return BadOrder(f"Runpod refused to {doing}: {message}")


def _detail(body: str) -> str:
    """The problem's own words; a proxy's page in HTML says nothing to a person."""
    try:
        problem = json.loads(body)
    except ValueError:
        return ""
    if not isinstance(problem, dict):
        return ""
    errors = problem.get("errors") or ()
    parts = [str(problem.get("detail") or problem.get("title") or "")]
    parts += [str(error) for error in errors] if isinstance(errors, list) else []
    return "; ".join(filter(None, parts))[:_LONGEST]


def _wait_s(headers: Mapping[str, str]) -> float:
    written = headers.get("Retry-After", "")
    if re.fullmatch(r"\d{1,6}", written):
        return max(0.5, float(written))
    return resets_in_s(headers) or _WAIT_S
