"""Tables that do not fit in memory: a file is read once, piece by piece, into a file of plain rows (rows.py).

Targets, time and group stay in memory, eight bytes a row each.
"""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from trainers.stacking import table
from trainers.stacking.rows import DiskRows, at_once
from trainers.stacking.table import Schema, Table, Unusable

ROWS = "rows.f32"
M_ARENA_MAX, M_MMAP_THRESHOLD, LARGE_BYTES = -8, -3, 1 << 18  # of mallopt


@contextmanager
def scratch(wanted: bool) -> Iterator[Path | None]:
    """A folder for what is too large for memory, where TMPDIR says."""
    if not wanted:
        yield None
        return
    _sparingly()
    with tempfile.TemporaryDirectory(prefix="stacking-") as folder:
        yield Path(folder)


def _sparingly() -> None:
    """glibc gives each thread memory of its own, which keeps what was freed in it from all the others, and
    learns from the first large piece to keep all that come after it."""
    with suppress(OSError, AttributeError):  # another C library
        library = ctypes.CDLL(None)
        library.mallopt(M_ARENA_MAX, 1)
        library.mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)


def give_back() -> None:
    """What was freed goes back to the system, also where something small lies above it."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def read(path: Path, schema: Schema, tasks: Sequence[str], scratch: Path) -> Table:
    """With the same checks and the same words as for a table in memory."""
    pa.set_memory_pool(pa.system_memory_pool())  # Arrow's own keeps what the pieces took
    kept: list[Any] = []
    features: tuple[str, ...] = ()
    beside = {schema.target(task) for task in tasks} | {one for one in (schema.time, schema.group) if one}
    with tempfile.NamedTemporaryFile(dir=scratch, suffix=f".{ROWS}", delete=False) as out:
        seen = 0
        for piece in _pieces(path, schema):
            features = features or table.features_of(piece, path.name, schema, tasks)
            where = f"{path.name}, rows {seen + 1} to {seen + piece.num_rows}"
            try:
                table.rows_of(piece, where, features).tofile(out)
            except OSError as wrong:
                raise Unusable(
                    f"{path.name}: its rows need more room than {scratch} has ({wrong});"
                    " TMPDIR says where they go"
                ) from wrong
            kept.append(piece.select([name for name in piece.column_names if name in beside]))
            seen += piece.num_rows
            give_back()
    if not features:
        raise Unusable(f"{path.name}: no rows")
    rows = DiskRows(Path(out.name), len(features))
    return table.with_rows(pa.concat_tables(kept), rows, path.name, features, schema, tasks)


def _pieces(path: Path, schema: Schema) -> Iterator[Any]:
    try:
        if table.is_parquet(path):
            yield from _of_parquet(path, schema)
        else:
            yield from _of_csv(path, schema)
    except MemoryError:
        raise  # which Arrow's own is, too
    except (OSError, UnicodeDecodeError, pa.ArrowException) as wrong:
        raise Unusable(f"{path}: no table in CSV or Parquet: {str(wrong).splitlines()[0]}") from wrong


def _of_parquet(path: Path, schema: Schema) -> Iterator[Any]:
    with pyarrow.parquet.ParquetFile(path, pre_buffer=False) as file:
        names = file.schema_arrow.names
        table.no_twins(path.name, names)
        wanted = table.wanted_of(names, schema)
        for batch in file.iter_batches(at_once(len(wanted or names)), columns=wanted, use_threads=False):
            yield pa.Table.from_batches([batch])


def _of_csv(path: Path, schema: Schema) -> Iterator[Any]:
    """Only numbers, of which the first word that is none is told with its line."""
    options = table.csv_numbers(table.csv_names(path), schema)
    blocks = pyarrow.csv.ReadOptions(block_size=8 << 20)
    with pyarrow.csv.open_csv(path, read_options=blocks, convert_options=options) as batches:
        for batch in batches:
            yield pa.Table.from_batches([batch])
