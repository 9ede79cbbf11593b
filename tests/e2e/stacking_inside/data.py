"""Tables and folds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from tests.e2e.stacking_inside.common import MADE, SMALL, of, raised, refused, whole
from trainers.stacking import folds, generator, scores, table
from trainers.stacking.settings import TASKS, Settings
from trainers.stacking.table import Schema, Table, Unusable, read


def check_csv_and_parquet_hold_the_same(folder: Path) -> None:
    (folder / "t.csv").write_text(generator.as_csv(MADE.columns))
    kept = pa.table(dict(MADE.columns))
    pyarrow.parquet.write_table(kept, folder / "t.parquet")
    first, second = (read(folder / name, generator.SCHEMA, TASKS) for name in ("t.csv", "t.parquet"))
    assert first.features == second.features == generator.NAMES
    assert np.allclose(first.rows, second.rows, rtol=1e-4, atol=1e-5, equal_nan=True)
    assert np.isnan(first.rows).sum() == np.isnan(second.rows).sum() > 0
    assert np.array_equal(
        of(first.group)[:5] == of(first.group)[0], of(second.group)[:5] == of(second.group)[0]
    )
    assert second.digest() == read(kept, generator.SCHEMA, TASKS).digest() != first.digest()


def check_a_csv_of_many_kinds_becomes_numbers(folder: Path) -> None:
    text = "\ufeffa,b c,when,classifier\n1,true,2024-01-03,0\n,FALSE,2024-01-01,1\nNA,true,2024-01-02,0\n"
    (folder / "kinds.csv").write_text(text, encoding="utf-8")
    held = read(folder / "kinds.csv", Schema(time="when"), ("classifier",))
    assert held.features == ("a", "b c")
    assert np.array_equal(held.rows[:, 1], [1, 0, 1])
    assert np.isnan(held.rows[:, 0]).tolist() == [False, True, True]
    assert np.argsort(of(held.time)).tolist() == [1, 2, 0]
    lines = ["a,when,classifier", "1,2024-01-03T00:00:00Z,0", "2,2024-01-02 10:30,1", "3,2023-05-01,0"]
    (folder / "moments.csv").write_text("\n".join(lines))
    held = read(folder / "moments.csv", Schema(time="when"), ("classifier",))
    assert np.diff(of(held.time)).tolist() == [-13.5 * 3600, -246 * 86400 - 10.5 * 3600]
    (folder / "moments.csv").write_text("\n".join([*lines, "4,yesterday,1"]))
    said = refused(folder / "moments.csv", Schema(time="when"))
    assert said.endswith("'when' has no time in 1 of 4 rows (the first is row 4: 'yesterday')")


def check_what_is_wrong_is_said_with_file_column_and_rows(folder: Path) -> None:
    def csv(text: str, name: str = "bad.csv") -> Path:
        (folder / name).write_text(text)
        return folder / name

    plain = Schema()
    assert refused(csv("a,b\n1,2\n"), plain).startswith(
        "bad.csv: no column 'classifier' (the target of classifier)"
    )
    near = refused(csv("a,b\n1,2\n"), Schema(features=("a", "bb"), targets={"classifier": "b"}))
    assert "no column 'bb' (a feature) among 1 columns of 1 rows" in near or "did you mean 'b'" in near
    assert (
        refused(csv("a,a,classifier\n1,2,0\n"), plain)
        == "bad.csv: 1 of 3 columns share a name: 'a' (2 times)"
    )
    assert refused(csv("a,classifier\n1,0\n2,0\n"), plain).endswith("one class only: 0 in all 2 rows")
    assert refused(csv("a,classifier\n1,0\n2,\n"), plain).endswith("has no value in 1 of 2 rows")
    assert "must be 0 or 1; it holds 3 values (0, 1, 2" in refused(
        csv("a,classifier\n1,0\n2,1\n3,2\n"), plain
    )
    mixed = refused(csv("a,classifier\n1,0\nfast,1\n3,0\n"), plain)
    assert (
        mixed
        == "bad.csv: column 'a' mixes numbers and text: 1 of 3 rows hold text (the first is row 2: 'fast')"
    )
    text = refused(csv("a,classifier\nx,0\ny,1\n"), plain)
    assert "column 'a' holds text in all 2 rows (the first is row 1: 'x')" in text
    assert "'a' is infinite (or beyond single precision) in 1 of 2 rows" in refused(
        csv("a,classifier\ninf,0\n2,1\n"), plain
    )
    assert "target column 'up' of up is constant: 3 in all 2 rows" in refused(
        csv("a,up\n1,3\n2,3\n"), plain, ("up",)
    )
    assert "2 columns and no rows" in refused(csv("a,classifier\n"), plain)
    assert "no table in CSV or Parquet" in refused(csv("a,classifier\n1,0,4\n"), plain)
    assert "no columns, 0 rows" in refused(csv(""), plain)
    (folder / "bad.parquet").write_bytes(b"PAR1 and nothing more")
    assert "no table in CSV or Parquet" in refused(folder / "bad.parquet", plain)
    assert "no table in CSV or Parquet" in refused(folder / "none.csv", plain)
    gap = refused(csv("a,g,classifier\n1,x,0\n2,,1\n"), Schema(group="g"))
    assert "group column 'g' has no value in 1 of 2 rows" in gap
    few = {0: [1.0, 2.0], "classifier": [0, 1]}
    assert read(few, plain, ("classifier",)).features == ("0",)
    assert "too large" in refused(few | {"huge": [10**30, 1]})
    assert "'up' of up is infinite (or beyond single precision) in 1 of 2 rows" in refused(
        few | {"up": [1e200, 0]}, plain, ("up",)
    )
    assert "a class 0 or 1" in refused(few | {"classifier": ["yes", "no"]}, plain)
    for odd in (None, [1, 2], np.zeros((3, 2))):
        assert refused(odd, plain).endswith("is no path and has no columns by name")
    both = refused(csv("a,classifier\n1,0\n2,1\n"), Schema(features=("a", "classifier")))
    assert "'classifier' is declared as a feature and as something else" in both


def check_a_late_surprise_in_a_large_csv_is_found(folder: Path) -> None:
    """Beyond the stretch from which a reader guesses what a column holds."""
    lines = ["a,classifier", *(f"{at},{at % 2}" for at in range(300_000)), "much,1"]
    (folder / "late.csv").write_text("\n".join(lines))
    said = refused(folder / "late.csv", Schema())
    assert said.endswith("1 of 300001 rows hold text (the first is row 300001: 'much')")


def check_a_schema_that_cannot_be_meant_is_refused(folder: Path) -> None:
    for text, words in (
        ("[]", "no mapping"),
        ('{"targetz": {}}', "targetz: {}"),
        ('{"targets": {"left": "a"}}', "targets: 'left'"),
        ('{"features": ["a", "b", "a"], "time": 3}', "time: 3"),
        ('{"features": ["a", "b", "a"]}', "features: 'a'"),
        ("{", "no schema"),
    ):
        (folder / "schema.json").write_text(text)
        assert words in raised(Unusable, lambda: table.read_schema(folder / "schema.json"))


def check_stratified_folds_share_out_every_class(folder: Path) -> None:
    rare = whole(replace(SMALL, tasks=("classifier",)))
    target = np.zeros(1200)
    target[:37] = 1
    rare = replace(rare, targets={"classifier": target})
    learn, judge = folds.part(rare, SMALL)
    assert len(np.intersect1d(learn, judge)) == 0 and len(learn) + len(judge) == 1200
    assert target[judge].sum() == 7 and len(judge) == 240
    kept = replace(rare, rows=rare.rows[learn], targets={"classifier": target[learn]})
    made = folds.make(kept, replace(SMALL, folds=5))
    each = [kept.targets["classifier"][made.held(fold)].sum() for fold in range(5)]
    assert each == [6, 6, 6, 6, 6]
    assert all(len(np.intersect1d(made.fit(f), made.held(f))) == 0 for f in range(5))
    assert len(made.judged) == len(learn)


def check_folds_in_time_never_learn_from_later_rows(folder: Path) -> None:
    given = whole()
    mixed = np.random.default_rng(1).permutation(1200) // 7  # many rows of one moment, in no order
    given = replace(given, time=mixed.astype(np.float64))
    settings = replace(SMALL, split="time")
    learn, judge = folds.part(given, settings)
    assert mixed[learn].max() < mixed[judge].min()
    kept = replace(
        given, rows=given.rows[learn], time=of(given.time)[learn], targets={"up": given.targets["up"][learn]}
    )
    made = folds.make(kept, settings)
    for fold in range(made.count):
        assert of(kept.time)[made.fit(fold)].max() < of(kept.time)[made.held(fold)].min()
    assert len(made.judged) < len(learn)
    assert len(made.fit(0)) > 100


def check_groups_stay_together(folder: Path) -> None:
    given = whole()
    settings = replace(SMALL, split="group")
    learn, judge = folds.part(given, settings)
    assert not set(of(given.group)[learn]) & set(of(given.group)[judge])
    assert 0.1 < len(judge) / 1200 < 0.4
    kept = replace(
        given,
        rows=given.rows[learn],
        group=of(given.group)[learn],
        targets={"up": given.targets["up"][learn]},
    )
    made = folds.make(kept, settings)
    sizes = []
    for fold in range(made.count):
        assert not set(of(kept.group)[made.fit(fold)]) & set(of(kept.group)[made.held(fold)])
        sizes.append(len(made.held(fold)))
    assert max(sizes) < 1.5 * min(sizes)


def check_too_few_rows_groups_or_times_for_the_folds_are_refused(folder: Path) -> None:
    def said(given: Table, settings: Settings) -> str:
        return raised(Unusable, lambda: folds.make(given, settings))

    given = whole()
    tiny = replace(given, rows=given.rows[:5], targets={"up": given.targets["up"][:5]})
    assert "5 rows to learn from are too few for 3 folds" in said(tiny, SMALL)
    pair = replace(given, group=np.arange(1200) % 2, targets={"up": given.targets["up"]})
    assert "2 groups in 1200 rows are fewer than 3 folds" in said(pair, replace(SMALL, split="group"))
    still = replace(given, time=np.arange(1200) % 2)
    assert "2 different times in 1200 rows are too few" in said(still, replace(SMALL, split="time"))
    target = np.zeros(1200)
    target[:2] = 1
    lone = replace(given, targets={"classifier": target})
    assert "of 400 rows held out in fold" in said(lone, SMALL)
    assert "needs a time column" in said(replace(given, time=None), replace(SMALL, split="time"))


def check_a_fold_without_rows_is_refused(folder: Path) -> None:
    """Tenths by size are dealt each by itself: of 240 rows some of fifty folds would get none."""
    columns = {name: values[:300] for name, values in MADE.columns.items()}
    few = read(columns, generator.SCHEMA, ("up",))
    said = raised(Unusable, lambda: folds.make(few, replace(SMALL, tasks=("up",), folds=50)))
    assert "300 rows to learn from are too few for 50 folds: fold" in said


def check_the_generator_is_the_same_every_time_and_its_truth_bounds_every_model(folder: Path) -> None:
    again = generator.made(1200, 3)
    assert all(
        np.array_equal(again.columns[n], MADE.columns[n], equal_nan=n != "symbol") for n in MADE.columns
    )
    ceiling = scores.auc(MADE.columns["classifier"], MADE.truth["classifier"])
    assert 0.8 < ceiling < 0.95
    sample = Path(__file__).parents[3] / "trainers" / "stacking" / "sample" / "table.csv"
    assert sample.read_text() == generator.as_csv(generator.made(generator.SAMPLE_ROWS).columns)
