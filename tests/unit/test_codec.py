"""Every record of the house survives the way to a file and back, and what is none is said to be none."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from launcher import attempt, codec, models, runstate
from launcher.models import Access, Job, Limits, Need, Offer, Plan, Resource, Runtime, Traits

NOON = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)

texts = st.text(st.characters(codec="utf-8"), max_size=8)
st.register_type_strategy(str, texts)
st.register_type_strategy(Decimal, st.decimals(allow_nan=False, allow_infinity=False, places=4))
st.register_type_strategy(datetime, st.datetimes(timezones=st.just(UTC)))
st.register_type_strategy(float, st.floats(0, 1e9))

RECORDS = [
    kind
    for module in (models, runstate, attempt)
    for kind in vars(module).values()
    if isinstance(kind, type) and dataclasses.is_dataclass(kind) and kind.__module__ == module.__name__
]


def record(kind: Any) -> st.SearchStrategy[Any]:
    if kind is models.Fact:  # its data is JSON already
        data = st.dictionaries(texts, st.none() | st.booleans() | st.integers() | texts, max_size=3)
        return st.builds(models.Fact, kind=texts, at=st.datetimes(timezones=st.just(UTC)), data=data)
    return st.from_type(kind)


@pytest.mark.parametrize("kind", RECORDS, ids=lambda kind: kind.__name__)
@settings(
    max_examples=5, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None
)
@given(st.data())
def test_every_record_comes_back_from_a_file_as_it_was(kind: Any, data: st.DataObject) -> None:
    value = data.draw(record(kind))
    assert codec.load(kind, json.loads(json.dumps(codec.dump(value)))) == value


def test_all_records_are_met() -> None:
    assert {Plan, Offer, Resource, Traits, models.Order, runstate.RunState, attempt.Attempt} <= set(RECORDS)


@settings(max_examples=40, deadline=None)
@given(st.datetimes(timezones=st.timezones()))
def test_a_moment_is_written_in_utc_and_stays_the_same_moment(at: datetime) -> None:
    try:
        text = codec.iso(at)
    except OverflowError:  # the first and the last day of all time, elsewhere on Earth
        assert at.year in (1, 9999)
        return
    assert text.endswith("Z") and len(text) == len("2026-03-04T12:00:00.000000Z")
    assert codec.parse_iso(text) == at.astimezone(UTC)
    assert codec.parse_iso(text).tzinfo is UTC


@settings(deadline=None)
@given(st.lists(st.datetimes(timezones=st.just(UTC)), min_size=2))
def test_moments_sort_as_text(moments: list[datetime]) -> None:
    assert [codec.parse_iso(t) for t in sorted(map(codec.iso, moments))] == sorted(moments)


def test_money_is_not_rounded() -> None:
    limits = Limits(60, 20, max_cost=Decimal("0.10"))
    assert codec.dump(limits)["max_cost"] == "0.10"
    assert str(codec.load(Limits, codec.dump(limits)).max_cost) == "0.10"


def test_a_number_in_json_becomes_exactly_the_money_it_shows() -> None:
    assert codec.load(Need, {"max_price": 0.1}) == Need(max_price=Decimal("0.1"))


def test_what_a_newer_launcher_added_is_passed_over() -> None:
    dumped = {**codec.dump(Need()), "quantum": True}
    assert codec.load(Need, dumped) == Need()


def test_what_an_older_launcher_did_not_know_has_its_default() -> None:
    dumped = codec.dump(Access("process", "a", "r"))
    del dumped["volume"]
    assert codec.load(Access, dumped) == Access("process", "a", "r")


def test_keys_of_a_mapping_are_text_and_its_values_are_records() -> None:
    assert codec.dump({1: Decimal("0.5"), "at": NOON}) == {"1": "0.5", "at": "2026-03-04T12:00:00.000000Z"}
    assert codec.load(dict[str, Decimal], {"a": "0.5"}) == {"a": Decimal("0.5")}
    assert codec.load(tuple[int, str], [1, "a"]) == (1, "a")
    assert codec.load(float, 3) == 3.0
    assert isinstance(codec.load(float, 3), float)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Limits, {}),  # a field without a default
        (Limits, []),
        (Limits, None),
        (Limits, {"max_time_s": "60", "salvage_s": 20}),
        (Limits, {"max_time_s": 60, "salvage_s": 20, "max_cost": "a lot"}),
        (Limits, {"max_time_s": 60, "salvage_s": 20, "max_cost": "NaN"}),
        (Limits, {"max_time_s": 60, "salvage_s": 20, "max_cost": "Infinity"}),
        (Limits, {"max_time_s": 60, "salvage_s": 20, "max_cost": True}),
        (Access, {"kind": "telepathy", "address": "a", "root": "r"}),
        (Runtime, {"kind": "balloon", "digest": None, "why": ""}),
        (Job, {"argv": "a command in one word", "folder": "."}),
        (Job, {"argv": ["a", 1], "folder": "."}),
        (Job, {"argv": [], "folder": ".", "env": [["A"]]}),
        (Traits, {"boots": "here", "bills": 1}),
        (Traits, {"boots": "here", "bills": False, "verbs": "pause"}),
        (datetime, "2026-03-04T12:00:00"),  # whose noon?
        (datetime, "yesterday"),
        (datetime, 1772625600),
        (dict[str, int], [1]),
        (int, 1.5),
    ],
)
def test_what_is_no_record_is_refused(kind: Any, value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        codec.load(kind, value)
