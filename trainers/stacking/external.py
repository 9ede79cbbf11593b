"""The boosters' bins of rows that lie in a file: XGBoost keeps its own in files, too, and reads them once a
round; LightGBM's are in memory, a byte a value, for one fold at a time.
"""

from __future__ import annotations

import itertools
import logging
from typing import Any

import lightgbm as lgb
import numpy as np
import xgboost as xgb

from trainers.stacking.boosters import MAX_BIN, LgbBins, XgbBins, plain
from trainers.stacking.rows import DiskRows, pieces
from trainers.stacking.table import Array

SAMPLE_BYTES = 8 << 20  # of rows that show where to cut
LEAST_SAMPLE = 20_000
_NUMBERS = itertools.count()


class _Pieces(xgb.core.DataIter):  # type: ignore[misc]  # the library is Any to our checks
    """Hands XGBoost one piece after the other."""

    def __init__(
        self, rows: DiskRows, which: Array, target: Array | None, weight: Array | None, names: list[str]
    ) -> None:
        self._rows, self._names = rows, names
        self._target, self._weight = target, weight
        self._which = list(pieces(which, rows.shape[1]))
        self._at, self._done = 0, 0
        super().__init__(cache_prefix=f"{rows.path}.bins-{next(_NUMBERS)}", on_host=False)

    def next(self, input_data: Any) -> bool:
        if self._at == len(self._which):
            return False
        which = self._which[self._at]
        some = slice(self._done, self._done + len(which))
        input_data(
            data=self._rows[which], feature_names=self._names,
            label=None if self._target is None else self._target[some],
            weight=None if self._weight is None else self._weight[some],
        )  # fmt: skip
        self._at, self._done = self._at + 1, some.stop
        return True

    def reset(self) -> None:
        self._at, self._done = 0, 0


class XgbOnDisk(XgbBins):
    """Where values are cut into bins is found from rows that lie evenly over the table, as LightGBM does it,
    too: the libraries' own way is another pass, and memory by the number of rows."""

    def __init__(self, rows: DiskRows, features: tuple[str, ...], device: str, threads: int) -> None:
        self.rows, self.names = rows, plain(features)
        self.device, self.threads = device, threads
        self.all = xgb.QuantileDMatrix(
            sample(rows), feature_names=self.names, max_bin=MAX_BIN, nthread=threads
        )

    def cut(self, which: Array, target: Array | None, weight: Array | None, ref: Any) -> Any:
        source = _Pieces(self.rows, which, target, weight, self.names)
        return xgb.ExtMemQuantileDMatrix(source, max_bin=MAX_BIN, ref=ref, nthread=self.threads)


class _Sequence(lgb.Sequence):  # type: ignore[misc]  # the library is Any to our checks
    batch_size = 4096

    def __init__(self, rows: DiskRows) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, wanted: Any) -> Array:
        if isinstance(wanted, int | np.integer):
            return self._rows[np.array([wanted])][0].astype(np.float64)
        return self._rows[wanted if isinstance(wanted, slice) else np.sort(wanted)].astype(np.float64)


class LgbOnDisk(LgbBins):
    """Only what a fold learns from and is judged by is in memory, as bins."""

    def __init__(
        self, rows: DiskRows, features: tuple[str, ...], device: str, threads: int, seed: int
    ) -> None:
        hush()  # it thinks little of samples
        super().__init__(sample(rows), features, device, threads, seed)
        self.rows = rows
        if self.params.pop("force_row_wise", False):
            self.params["force_col_wise"] = True  # the other way keeps all bins a second time

    def cut(self, which: Array, target: Array, weight: Array | None) -> Any:
        part = _Sequence(self.rows.only(which))
        return lgb.Dataset(
            part, target, weight=weight, reference=self.all, params=self.params
        ).construct()  # fmt: skip


def hush() -> logging.Logger:
    """LightGBM tells some things whatever verbosity it is given; what is wrong it raises all the same."""
    silent = logging.getLogger("distributed.silent")
    silent.setLevel(logging.ERROR)
    lgb.register_logger(silent)
    return silent


def sample(rows: DiskRows) -> Array:
    """Evenly over the table."""
    wanted = min(len(rows), max(LEAST_SAMPLE, SAMPLE_BYTES // (4 * rows.shape[1])))
    return rows[np.unique(np.linspace(0, len(rows) - 1, wanted).astype(np.int64))]


def xgb_bins(rows: Array, features: tuple[str, ...], device: str, threads: int) -> XgbBins:
    return (XgbOnDisk if isinstance(rows, DiskRows) else XgbBins)(rows, features, device, threads)


def lgb_bins(rows: Array, features: tuple[str, ...], device: str, threads: int, seed: int) -> LgbBins:
    return (LgbOnDisk if isinstance(rows, DiskRows) else LgbBins)(rows, features, device, threads, seed)
