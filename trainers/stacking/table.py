"""Tables: CSV, Parquet or columns in memory become numbers by name, or an error that says file, column
and how many rows are wrong. Nothing is guessed: a column is a target, a time, a group or a feature.

A schema is JSON: `{"targets": {"classifier": "won", "up": "gain"}, "features": ["a", "b"], "time": "at",
"group": "match"}`. Without `targets` the column is called as the task; without `features` every other
column is one.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from trainers.stacking.rows import at_once
from trainers.stacking.settings import TASKS, is_class

Array = Any  # a numpy array; the launcher's own checks run where numpy is not installed

MAGIC = b"PAR1"
MISSING = frozenset({"", "na", "n/a", "nan", "null", "none"})
TRUTH = {"true": 1.0, "false": 0.0}


HINT = "name the columns to learn from in a schema"


class Unusable(Exception):
    """What the user handed in cannot be trained on, with the reason."""


@dataclass(frozen=True)
class Schema:
    targets: Mapping[str, str] = field(default_factory=dict)  # task -> column; else the task's own name
    features: tuple[str, ...] | None = None
    time: str | None = None
    group: str | None = None

    def target(self, task: str) -> str:
        return self.targets.get(task, task)

    def no_feature(self) -> set[str]:
        return {self.target(task) for task in TASKS} | {name for name in (self.time, self.group) if name}


@dataclass(frozen=True)
class Table:
    name: str  # as errors call it
    features: tuple[str, ...]
    rows: Array  # float32, one row each; NaN is a missing value
    targets: Mapping[str, Array]  # float64, by task
    index: Array  # where each row stood in what was given
    time: Array | None = None
    group: Array | None = None  # whole numbers, one for each group
    chosen: Mapping[str, str] = field(default_factory=dict)  # the target columns' own names

    def digest(self) -> str:
        """Of what the rows hold, so that the same data in another file are the same."""
        seen = hashlib.sha256(json.dumps([self.features, sorted(self.targets)]).encode())
        for values in (self.rows, *(self.targets[task] for task in sorted(self.targets))):
            step = at_once(self.rows.shape[1])
            for begin in range(0, len(values), step):
                seen.update(np.ascontiguousarray(values[begin : begin + step]))
        return seen.hexdigest()


KINDS: Mapping[str, type] = {"targets": dict, "features": list, "time": str, "group": str}


def read_schema(path: Path) -> Schema:
    try:
        said = json.loads(path.read_text())
    except (OSError, ValueError) as wrong:
        raise Unusable(f"{path}: no schema: {wrong}") from wrong
    misfits = _misfits(said) if isinstance(said, dict) else ["no mapping"]
    if misfits:
        raise Unusable(
            f"{path}: not in a schema: {', '.join(misfits)};"
            f" it has targets (a column for {', '.join(TASKS)}),"
            " features (a list of columns, each once), time and group (a column)"
        )
    features = said.get("features")
    return Schema(
        said.get("targets", {}), tuple(features) if features else None, said.get("time"), said.get("group")
    )


def _misfits(said: Mapping[str, Any]) -> list[str]:
    misfits = [
        f"{key}: {value!r}" for key, value in said.items() if not isinstance(value, KINDS.get(key, ()))
    ]
    if misfits:
        return misfits
    targets, features = said.get("targets", {}), said.get("features", [])
    misfits = [f"targets: {task!r}" for task in targets if task not in TASKS]
    misfits += [f"targets: {column!r}" for column in targets.values() if not isinstance(column, str)]
    return misfits + [
        f"features: {name!r}" for name in features if not isinstance(name, str) or features.count(name) > 1
    ]


# reading


def read(source: Any, schema: Schema, tasks: Sequence[str]) -> Table:
    """`source` is a path, or columns by name: a mapping, a DataFrame, an Arrow table."""
    if isinstance(source, str | Path):
        path = Path(source)
        return from_columns(_read_file(path, schema), path.name, schema, tasks)
    if not hasattr(source, "keys") and not hasattr(source, "columns"):
        raise Unusable(f"the table: a {type(source).__name__} is no path and has no columns by name")
    return from_columns(_in_memory(source), "the table", schema, tasks)


def _in_memory(source: Any) -> Any:
    if isinstance(source, pa.Table):
        return source
    keys = list(source.columns if hasattr(source, "columns") else source)
    no_twins("the table", [str(key) for key in keys])
    try:
        return pa.table({str(key): pa.array(source[key], from_pandas=True) for key in keys})
    except (pa.ArrowException, ValueError, TypeError, KeyError, OverflowError) as wrong:
        raise Unusable(f"the table: no columns of equal length by name: {wrong}") from wrong


def is_parquet(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def _read_file(path: Path, schema: Schema) -> Any:
    try:
        if is_parquet(path):
            names = pyarrow.parquet.read_schema(path).names
            no_twins(path.name, names)
            return pyarrow.parquet.read_table(path, columns=wanted_of(names, schema))
        return _read_csv(path, schema)
    except MemoryError:
        raise  # which Arrow's own is, too
    except (OSError, UnicodeDecodeError, pa.ArrowException) as wrong:
        raise Unusable(f"{path}: no table in CSV or Parquet: {str(wrong).splitlines()[0]}") from wrong


def _read_csv(path: Path, schema: Schema) -> Any:
    """As numbers at once; only where that fails as text, in which what is wrong can be found."""
    names = csv_names(path)
    try:
        return pyarrow.csv.read_csv(path, convert_options=csv_numbers(names, schema))
    except pa.ArrowInvalid as wrong:
        if "conversion error" not in str(wrong):
            raise
    return pyarrow.csv.read_csv(path, convert_options=csv_numbers(names, schema, pa.string(), pa.string()))


def csv_names(path: Path) -> list[str]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        names = next(csv.reader(file), [])
    no_twins(path.name, names)
    return names


def csv_numbers(names: Sequence[str], schema: Schema, single: Any = None, double: Any = None) -> Any:
    """Features in single precision, targets in double; a time or group is what it looks like."""
    single, double = single or pa.float32(), double or pa.float64()
    wanted = wanted_of(names, schema)
    free = {name for name in (schema.time, schema.group) if name}
    exact = {schema.target(task) for task in TASKS}
    kinds = {
        name: double if name in exact else single
        for name in names
        if name not in free and (wanted is None or name in wanted)
    }
    return pyarrow.csv.ConvertOptions(
        column_types=kinds, include_columns=wanted, strings_can_be_null=True
    )  # fmt: skip


def wanted_of(names: Iterable[str], schema: Schema) -> list[str] | None:
    """Columns that nobody declared are not even read."""
    if schema.features is None:
        return None
    asked = {*schema.features, *schema.no_feature()}
    return [name for name in names if name in asked]


def no_twins(name: str, names: Sequence[str]) -> None:
    twins = [f"'{one}' ({count} times)" for one, count in Counter(names).items() if count > 1]
    if twins:
        raise Unusable(f"{name}: {len(twins)} of {len(names)} columns share a name: {', '.join(twins)}")
    if not names or names == [""]:
        raise Unusable(f"{name}: no columns, 0 rows")


# from columns to numbers


def from_columns(columns: Any, name: str, schema: Schema, tasks: Sequence[str]) -> Table:
    features = features_of(columns, name, schema, tasks)
    return with_rows(columns, rows_of(columns, name, features), name, features, schema, tasks)


def features_of(columns: Any, name: str, schema: Schema, tasks: Sequence[str]) -> tuple[str, ...]:
    names = list(columns.column_names)
    if not columns.num_rows:
        raise Unusable(f"{name}: {len(names)} columns and no rows")
    features = schema.features or tuple(one for one in names if one not in schema.no_feature())
    asked = {schema.target(task): f"the target of {task}" for task in tasks}
    asked |= dict.fromkeys(features, "a feature")
    asked |= {one: "a time or group" for one in (schema.time, schema.group) if one}
    for column, role in asked.items():
        if column not in names:
            raise Unusable(_absent(name, column, role, names, columns.num_rows))
    if not features:
        raise Unusable(f"{name}: no column is left to learn from ({columns.num_rows} rows)")
    leaks = sorted(set(features) & schema.no_feature())
    if leaks:
        raise Unusable(f"{name}: column '{leaks[0]}' is declared as a feature and as something else, too")
    return tuple(features)


def rows_of(columns: Any, name: str, features: Sequence[str]) -> Array:
    rows = np.empty((columns.num_rows, len(features)), dtype=np.float32)
    for at, feature in enumerate(features):
        rows[:, at] = _numbers(columns[feature], name, feature)
    _finite(rows, name, features)
    return rows


def with_rows(
    columns: Any, rows: Any, name: str, features: tuple[str, ...], schema: Schema, tasks: Sequence[str]
) -> Table:
    """`columns` holds what goes beside the rows."""
    return Table(
        name=name,
        features=features,
        rows=rows,
        index=np.arange(columns.num_rows),
        targets={task: _target(columns, name, task, schema.target(task)) for task in tasks},
        time=_time(columns[schema.time], name, schema.time) if schema.time else None,
        group=_group(columns[schema.group], name, schema.group) if schema.group else None,
        chosen={task: schema.target(task) for task in tasks},
    )


def _absent(name: str, column: str, role: str, names: Sequence[str], count: int) -> str:
    near = difflib.get_close_matches(column, names, n=1)
    hint = f", did you mean '{near[0]}'?" if near else f"; it has {', '.join(names[:12])}"
    return f"{name}: no column '{column}' ({role}) among {len(names)} columns of {count} rows{hint}"


def _numbers(column: Any, name: str, called: str, hint: str = HINT) -> Array:
    """float64, missing values NaN."""
    kind = column.type
    if pa.types.is_null(kind):
        return np.full(len(column), np.nan)
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _parsed(column, name, called, hint)
    if pa.types.is_boolean(kind):
        column = column.cast(pa.uint8())
    try:
        return column.cast(pa.float64(), safe=False).to_numpy()
    except pa.ArrowException as wrong:
        raise Unusable(
            f"{name}: column '{called}' holds {kind} in {len(column)} rows, no numbers; {hint}"
        ) from wrong


def _parsed(column: Any, name: str, called: str, hint: str) -> Array:
    texts = column.to_pylist()
    values = np.array([_number(text) for text in texts], dtype=object)
    wrong = [at for at, value in enumerate(values) if value is None]
    if not wrong:
        return values.astype(np.float64)
    first = f"the first is row {wrong[0] + 1}: {texts[wrong[0]]!r}"
    if len(wrong) == len(texts):
        raise Unusable(f"{name}: column '{called}' holds text in all {len(texts)} rows ({first}); {hint}")
    raise Unusable(
        f"{name}: column '{called}' mixes numbers and text:"
        f" {len(wrong)} of {len(texts)} rows hold text ({first})"
    )


def _number(text: str | None) -> float | None:
    word = (text or "").strip().lower()
    if word in MISSING:
        return float("nan")
    try:
        return float(word)
    except ValueError:
        return TRUTH.get(word)


def _finite(rows: Array, name: str, features: Sequence[str]) -> None:
    for at, feature in enumerate(features):
        infinite = int(np.isinf(rows[:, at]).sum())
        if infinite:
            raise Unusable(
                f"{name}: column '{feature}' is infinite (or beyond single precision)"
                f" in {infinite} of {len(rows)} rows"
            )


def _target(columns: Any, name: str, task: str, called: str) -> Array:
    values = _numbers(columns[called], name, called, "a target is a number, and of a class 0 or 1")
    where = f"{name}: target column '{called}' of {task}"
    beyond = int((np.abs(values) > np.finfo(np.float32).max).sum())
    if beyond:
        raise Unusable(f"{where} is infinite (or beyond single precision) in {beyond} of {len(values)} rows")
    lost = int((~np.isfinite(values)).sum())
    if lost:
        raise Unusable(f"{where} has no value in {lost} of {len(values)} rows")
    different = np.unique(values)
    if is_class(task):
        if not np.isin(different, (0, 1)).all():
            shown = ", ".join(f"{value:g}" for value in different[:5])
            raise Unusable(f"{where} must be 0 or 1; it holds {len(different)} values ({shown} …)")
        if len(different) < 2:
            raise Unusable(f"{where} has one class only: {different[0]:g} in all {len(values)} rows")
    elif len(different) < 2:
        raise Unusable(f"{where} is constant: {different[0]:g} in all {len(values)} rows")
    return values


def _time(column: Any, name: str, called: str) -> Array:
    """Numbers, dates and moments as numbers that rise with time; a moment without a zone is UTC."""
    kind = column.type
    if pa.types.is_temporal(kind):
        whole = pa.int32() if kind.bit_width == 32 else pa.int64()
        column = column.cast(whole).cast(pa.int64())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        values = np.array([_moment(text) for text in column.to_pylist()])
    else:
        values = _numbers(column, name, called)
    lost = np.flatnonzero(~np.isfinite(values))
    if len(lost):
        shown = column[int(lost[0])].as_py()
        raise Unusable(
            f"{name}: time column '{called}' has no time in {len(lost)} of {len(values)} rows"
            f" (the first is row {lost[0] + 1}: {shown!r})"
        )
    return values


def _moment(text: str | None) -> float:
    try:
        moment = datetime.fromisoformat((text or "").strip())
    except ValueError:
        number = _number(text)
        return float("nan") if number is None else number
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _group(column: Any, name: str, called: str) -> Array:
    if column.null_count:
        raise Unusable(
            f"{name}: group column '{called}' has no value in {column.null_count} of {len(column)} rows"
        )
    encoded = column.combine_chunks().dictionary_encode()
    return encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)


def feature_rows(source: Any, features: tuple[str, ...]) -> Array:
    """The features alone, for a model that was trained before; other columns are not looked at."""
    return read(source, Schema(features=features), ()).rows
