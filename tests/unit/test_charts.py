"""Numbers to pictures: nothing high or low is lost, gaps stay gaps, and no number breaks the arithmetic."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.report import charts
from launcher.report.charts import Line, Mark, Point, Spot

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
POINTS = st.lists(st.tuples(FLOATS, st.none() | FLOATS), max_size=60)


def picture(points: list[Point], most: int = 100) -> ET.Element:
    drawn = charts.chart("t", [Line("a", points)], most=most)
    return ET.fromstring(drawn)  # well-formed, with nothing that was left open


def paths(figure: ET.Element, kind: str) -> list[str]:
    return [p.attrib["d"] for p in figure.iter("path") if p.attrib["class"].split()[0] == kind]


def test_a_line_runs_through_its_points() -> None:
    figure = picture([(0, 0.0), (5, 10.0), (10, 0.0)])
    (d,) = paths(figure, "line")
    numbers = [tuple(map(float, pair.split())) for pair in d.removeprefix("M").split("L")]
    assert [x for x, _ in numbers] == [charts.LEFT, (charts.LEFT + charts.WIDTH - charts.RIGHT) / 2, 466]
    assert numbers[0][1] == numbers[2][1] > numbers[1][1]  # up is small in a picture


def test_what_is_no_number_is_a_gap_and_is_counted() -> None:
    figure = picture([(0, 1.0), (1, 2.0), (2, None), (3, None), (4, 2.0), (5, 1.0)])
    (d,) = paths(figure, "line")
    assert d.count("M") == 2
    assert "2 without a number" in "".join(figure.itertext())


def test_a_number_between_gaps_is_a_dot() -> None:
    figure = picture([(0, 1.0), (1, None), (2, 3.0), (3, None)])
    assert not paths(figure, "line")
    assert paths(figure, "dot")[0].count("h0") == 2


def test_no_numbers_no_chart() -> None:
    assert charts.chart("t", [], most=9) == ""
    assert charts.chart("t", [Line("a", [(0, None), (1, None)])], most=9) == ""


def test_of_one_place_the_last_word_counts_and_order_is_by_place() -> None:
    assert charts.ordered([(2, 5.0), (1, 1.0), (2, 7.0)]) == [(1, 1.0), (2, 7.0)]


@given(st.lists(st.none() | st.floats(-1e6, 1e6), min_size=1, max_size=400), st.integers(1, 50))
def test_thinning_keeps_extremes_and_gaps_and_the_bound(ys: list[float | None], most: int) -> None:
    points: list[Point] = [(float(i), y) for i, y in enumerate(ys)]
    spots = charts.thinned(points, most)
    seen = [s for s in spots if s is not None]
    numbers = [y for y in ys if y is not None]
    assert len(seen) <= most
    assert len(spots) <= 2 * most
    assert (None in spots) == (None in ys)
    if numbers:
        assert min(s.low for s in seen) == min(numbers)
        assert max(s.high for s in seen) == max(numbers)
    for s in seen:
        assert s.low <= s.mean + 1e-9 and s.mean <= s.high + 1e-9


def test_few_points_are_drawn_as_they_are() -> None:
    assert charts.thinned([(0, 1.0), (1, None)], 2) == [Spot(0, 1.0, 1.0, 1.0), None]


def test_a_thinned_line_shows_its_spread() -> None:
    figure = picture([(float(i), float(i % 2)) for i in range(1000)], most=20)
    assert len(paths(figure, "band")) == 1
    assert paths(figure, "band")[0].count("L") == 39
    assert not paths(picture([(0, 1.0), (1, 2.0)]), "band")


@given(POINTS)
def test_any_numbers_give_a_picture_within_its_frame(points: list[Point]) -> None:
    drawn = charts.chart("t", [Line("a", points)], most=30)
    assert "nan" not in drawn and "inf" not in drawn
    for d in re.findall(r' d="([^"]*)"', drawn):
        for number in re.findall(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?", d):
            assert -1 <= float(number) <= charts.WIDTH + 1


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0, 100, ["0", "20", "40", "60", "80", "100"]),
        (0.46, 0.95, ["0.5", "0.6", "0.7", "0.8", "0.9"]),
        (-1, 1, ["-1.0", "-0.5", "0.0", "0.5", "1.0"]),
        (0, 24000, ["0", "5k", "10k", "15k", "20k"]),
        (0, 3.2e6, ["0", "0.5M", "1.0M", "1.5M", "2.0M", "2.5M", "3.0M"]),
        (0, 4e-6, ["0", "1e-06", "2e-06", "3e-06", "4e-06"]),
    ],
)
def test_ticks_are_round_numbers_of_one_form(low: float, high: float, labels: list[str]) -> None:
    assert [label for _, label in charts.number_ticks(low, high, charts.Y_TICKS)] == labels


@pytest.mark.parametrize(
    ("high", "labels"),
    [
        (7, ["0", "2 s", "4 s", "6 s"]),
        (3712, ["0", "20 min", "40 min", "60 min"]),
        (90000, ["0", "6 h", "12 h", "18 h", "24 h"]),
        (10 * 86400, ["0", "2 d", "4 d", "6 d", "8 d", "10 d"]),
    ],
)
def test_time_has_the_ticks_of_a_clock(high: float, labels: list[str]) -> None:
    assert [label for _, label in charts.clock_ticks(0, high)] == labels


def test_steps_have_no_ticks_between_them() -> None:
    assert [v for v, _ in charts.step_ticks(1, 3)] == [1, 2, 3]


@given(FLOATS, st.floats(0, 1e150))
def test_every_range_has_a_length(low: float, length: float) -> None:
    if abs(low) > 1e150:
        low = math.copysign(1e150, low)
    bottom, top = charts.spread(low, low + length)
    assert bottom < top
    assert len(charts.nice(bottom, top, 5)) <= 15


def test_names_stay_words() -> None:
    drawn = charts.chart("<b>", [Line("</svg><script>", [(0, 1.0)], last="<i>")], most=9, aside="<u>")
    assert "<script" not in drawn and "<b>" not in drawn.replace("<b>&lt;i&gt;", "") and "<u>" not in drawn


def test_a_strip_has_its_bars_and_its_marks_named() -> None:
    marks = [Mark("checkpoint a", 5), Mark("warning: <b>", 6, odd=True)]
    drawn = charts.strip("t", [charts.Bar("training", 0, 10, 0, "10 s")], marks, (0, 10))
    figure = ET.fromstring(drawn)
    assert [t.text for t in figure.iter("title")] == ["training", "checkpoint a", "warning: <b>"]
    words = "".join(figure.itertext())
    assert "training 10 s" in words and "checkpoint 1" in words and "warning 1" in words
