"""Who beats whom: only on the same rows, by the same metrics, with none worse and one better."""

from __future__ import annotations

import math
from typing import Any

import pytest

from launcher.judging import Verdict, duel


def manifest(holdout: object = "h1", **metrics: object) -> dict[str, Any]:
    """AUC-like names are better when higher, everything else when lower."""
    higher = [name for name in metrics if name.endswith("auc")]
    lower = [name for name in metrics if not name.endswith("auc")]
    return {"metrics": metrics, "judged": {"holdout": holdout, "higher": higher, "lower": lower}}


@pytest.mark.parametrize(
    ("new", "old", "verdict"),
    [
        (manifest(auc=0.9), manifest(auc=0.8), Verdict.BETTER),
        (manifest(auc=0.8), manifest(auc=0.9), Verdict.NOT_BETTER),
        (manifest(auc=0.8), manifest(auc=0.8), Verdict.NOT_BETTER),
        (manifest(rmse=1), manifest(rmse=2), Verdict.BETTER),
        (manifest(rmse=2.0), manifest(rmse=1.0), Verdict.NOT_BETTER),
        (manifest(auc=0.9, up_rmse=1.0), manifest(auc=0.8, up_rmse=1.0), Verdict.BETTER),
        (manifest(auc=0.9, up_rmse=1.1), manifest(auc=0.8, up_rmse=1.0), Verdict.NOT_BETTER),
        (manifest(auc=0.9, up_rmse=1.0), manifest(auc=0.9, up_rmse=1.0), Verdict.NOT_BETTER),
        (manifest(auc=0.9), manifest("h2", auc=0.8), Verdict.UNLIKE),
        (manifest(auc=0.9), manifest(rmse=0.8), Verdict.UNLIKE),
        (manifest(auc=0.9), manifest(auc=0.8, rmse=1.0), Verdict.UNLIKE),
    ],
)
def test_verdicts(new: dict[str, Any], old: dict[str, Any], verdict: Verdict) -> None:
    assert duel(new, old).verdict is verdict


def test_both_values_and_the_direction_are_told() -> None:
    told = duel(manifest(auc=0.8, rmse=2), manifest(auc=0.9, rmse=1.5)).lines
    assert told == (
        "auc 0.8 against 0.9, higher is better",
        "rmse 2 against 1.5, lower is better",
    )
    close = duel(manifest(auc=0.80000001), manifest(auc=0.80000002)).lines
    assert close == ("auc 0.80000001 against 0.80000002, higher is better",)


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"metrics": {"auc": 0.9}},
        {"metrics": {"auc": 0.9}, "judged": "yes"},
        {"metrics": None, "judged": {"holdout": "h1", "higher": ["auc"]}},
        {"metrics": {"auc": 0.9}, "judged": {"holdout": 7, "higher": ["auc"]}},
        {"metrics": {"auc": 0.9}, "judged": {"holdout": "h1"}},
        {"metrics": {"auc": 0.9}, "judged": {"holdout": "h1", "higher": "auc"}},
        {"metrics": {"auc": 0.9}, "judged": {"holdout": "h1", "higher": ["roc"]}},
        {"metrics": {"auc": None}, "judged": {"holdout": "h1", "higher": ["auc"]}},
        {"metrics": {"auc": True}, "judged": {"holdout": "h1", "higher": ["auc"]}},
        {"metrics": {"auc": math.nan}, "judged": {"holdout": "h1", "higher": ["auc"]}},
    ],
)
def test_what_cannot_be_read_is_not_judged(broken: dict[str, Any]) -> None:
    assert duel(broken, broken).verdict is Verdict.UNJUDGED
    assert duel(broken, manifest(auc=0.8)).verdict is Verdict.UNLIKE
    assert duel(manifest(auc=0.8), broken).verdict is Verdict.UNLIKE
