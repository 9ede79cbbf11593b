"""Rows that need not be in memory: as many columns of single precision as the table has features, in an
array or in a file.

What is read of a file is copied, not mapped: a mapped page counts as this process's memory for as long as
nobody else wants it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

Array = Any  # a numpy array, or DiskRows where a table does not fit

SINGLE = np.dtype(np.float32)
PIECE_BYTES = 4 << 20


class DiskRows:
    """As much of an array as a training uses: its shape, and rows by stretch or by ascending positions."""

    def __init__(self, path: Path, columns: int, which: Array | None = None) -> None:
        self.path, self.which = path, which
        there = path.stat().st_size // (SINGLE.itemsize * columns)
        self.shape = (there if which is None else len(which), columns)

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, wanted: Any) -> Array:
        if isinstance(wanted, slice):
            begin, end, step = wanted.indices(len(self))
            if self.which is None:
                return self._read(begin, end)[::step]
            wanted = np.arange(begin, end, step)
        return self._chosen(np.asarray(wanted) if self.which is None else self.which[wanted])

    def only(self, wanted: Array) -> DiskRows:
        return DiskRows(self.path, self.shape[1], wanted if self.which is None else self.which[wanted])

    def _chosen(self, which: Array) -> Array:
        found = np.empty((len(which), self.shape[1]), dtype=SINGLE)
        begin, stretch = 0, at_once(self.shape[1])
        while begin < len(which):
            first = int(which[begin])
            end = int(np.searchsorted(which, first + stretch))
            found[begin:end] = self._read(first, int(which[end - 1]) + 1)[which[begin:end] - first]
            begin = end
        return found

    def _read(self, begin: int, end: int) -> Array:
        columns = self.shape[1]
        count = max(0, end - begin) * columns
        read = np.fromfile(self.path, SINGLE, count, offset=begin * columns * SINGLE.itemsize)
        return read.reshape(-1, columns)


def at_once(columns: int) -> int:
    """Rows of a piece that is small beside everything else."""
    return max(256, PIECE_BYTES // (4 * columns))


def only(rows: Array, which: Array) -> Array:
    return rows.only(which) if isinstance(rows, DiskRows) else rows[which]


def pieces(which: Array, columns: int) -> Iterator[Array]:
    """Positions, as many as may be in memory together."""
    step = at_once(columns)
    return (which[begin : begin + step] for begin in range(0, len(which), step))


def answers(answer: Callable[[Array], Array], rows: Array, which: Array) -> Array:
    """What a model says of these rows."""
    if not isinstance(rows, DiskRows):
        return answer(rows if len(which) == len(rows) else rows[which])
    said = [answer(rows[some]) for some in pieces(which, rows.shape[1])]
    return np.concatenate(said) if said else np.empty(0)
