"""The default T of a project of one's own, whose length only its past runs can tell."""

from __future__ import annotations

from decimal import Decimal

import pytest

from launcher.models import Need
from launcher.plan import Past, Wishes, make
from tests.unit.test_plan import HERE, JOB, NOW, own


@pytest.mark.parametrize(("seconds", "time_s"), [("2", 3600), ("9000", 28800)])
def test_a_quick_try_does_not_bound_the_next_run(seconds: str, time_s: int) -> None:
    quick = Past("x", "cpu", Decimal(seconds), JOB.argv)
    limits = make(own(offered=(HERE,), pasts=(quick,)), NOW).plan.limits
    assert limits.max_time_s == time_s


def test_where_it_bills_the_floor_is_lower() -> None:
    quick = Past("x", "RTX 4090", Decimal(2), JOB.argv)
    paid = own("cloud", pasts=(quick,), need=Need(gpus=("RTX 4090",)), wishes=Wishes(max_cost=Decimal(9)))
    limits = make(paid, NOW).plan.limits
    assert limits.max_time_s == 600
