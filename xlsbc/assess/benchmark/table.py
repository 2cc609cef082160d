"""The benchmark's table: one row a cell, the same whatever ran first, in memory and in its files.

It is kept as Parquet, for everything that reads tables, and as Zarr, with titles and units.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Real
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr

from xlsbc.assess.benchmark.columns import (
    ARM,
    METRICS,
    NEEDED,
    TYPES,
    Metric,
    finite,
    in_order,
    require_metrics,
)
from xlsbc.assess.benchmark.paired import Comparison, compare, leaders
from xlsbc.cube.store.storage import Objects, reason
from xlsbc.cube.store.writer import write
from xlsbc.errors import CubeError, StoreError

__all__ = [
    "ARM",
    "METRICS",
    "PARQUET",
    "ZARR",
    "Comparison",
    "Metric",
    "as_dataset",
    "compare",
    "leaders",
    "load",
    "of_dataset",
    "save",
    "summarise",
    "tidy",
]

PARQUET: Literal["table.parquet"] = "table.parquet"
ZARR: Literal["table.zarr"] = "table.zarr"

# Python's own strings, so that pyarrow's presence changes nothing.
_DTYPES = {
    str: pd.StringDtype("python"),
    int: pd.Int64Dtype(),
    bool: pd.BooleanDtype(),
    float: np.dtype("float64"),
}
_MISSING: dict[type, Any] = {str: "", int: pd.NA, bool: pd.NA, float: np.nan}
_WORDS = {str: "text", int: "a whole number", bool: "true or false", float: "a number"}


def tidy(records: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a cell, sorted by arm and seed; the same whatever the order of the records.

    Parameters
    ----------
    records
        Values by column: ``cell``, those of `ARM`, ``seed``, any of `METRICS`, and ``emulators``,
        ``cube``, ``versions``, ``machine``. What is None, NaN or not there is missing.

    Returns
    -------
    DataFrame
        Columns in a fixed order, without the metrics that no cell has. Text is "" where missing
        (string), numbers NaN (float64), whole numbers and verdicts NA (Int64, boolean).

    Raises
    ------
    CubeError
        If a column is unknown, a value is of another type, one that says which cell it is is
        missing, or a cell is there twice: lists everything.
    """
    rows = list(records)
    problems = []
    if unknown := sorted({str(name) for row in rows for name in row} - set(TYPES)):
        problems.append(
            f"expected columns of the benchmark's table; found {_listed(unknown)} besides; "
            "leave them out, or describe them where the columns are"
        )
    columns = {name: _column(rows, name, problems) for name in TYPES}
    cells = columns["cell"]
    if twice := sorted(set(cells[cells.duplicated() & (cells != "")])):
        problems.append(
            f"expected every cell once; found {_listed(twice)} more than once; keep one record"
        )
    if problems:
        raise CubeError("the cells make no table", problems)
    kept = [name for name in TYPES if name not in METRICS or columns[name].notna().any()]
    return in_order(pd.DataFrame({name: columns[name] for name in kept}))


def save(table: pd.DataFrame, folder: str) -> None:
    """Write the table as Zarr, then as Parquet; a kill leaves each as it was or as it is to be.

    A Zarr store that cannot be renamed, on any but a local disk, is deleted before the new one is
    written: there a kill may leave none.

    Parameters
    ----------
    table
        Of :func:`tidy`.
    folder
        Any fsspec URL, made if it is not there; for ``table.zarr`` and ``table.parquet``.

    Raises
    ------
    StoreError
        If pyarrow is not installed, before anything is written; or if a file cannot be written.
    """
    folder = folder.rstrip("/")
    content = _parquet(table)
    write(as_dataset(table), f"{folder}/{ZARR}", overwrite=True, packed=False, progress=False)
    Objects(folder).put({PARQUET: content})


def load(folder: str, file: Literal["table.parquet", "table.zarr"] = PARQUET) -> pd.DataFrame:
    """The table that was saved in a folder, the same to the bit from either file.

    Raises
    ------
    StoreError
        If it is not there or damaged, or if pyarrow is not installed.
    """
    folder = folder.rstrip("/")
    try:
        if file == ZARR:
            with xr.open_zarr(f"{folder}/{ZARR}", chunks=None) as opened:
                return of_dataset(opened)
        return _of_parquet(Objects(folder).get(PARQUET))
    except StoreError:
        raise
    except Exception as error:  # what is damaged can raise anything
        raise StoreError(
            f"expected the table of a benchmark at {folder}/{file}; {reason(error)}; make it anew"
        ) from error


def as_dataset(table: pd.DataFrame) -> xr.Dataset:
    """The table along ``cell``: metrics with titles and units, all else as coordinates.

    Whole numbers and verdicts are float64, with NaN, where a cell has none.
    """
    columns = {str(name): _array(table[name]) for name in table}
    metrics = {
        name: ("cell", columns[name], {"long_name": metric.title, "units": metric.units})
        for name, metric in METRICS.items()
        if name in columns
    }
    coords = {name: ("cell", values) for name, values in columns.items() if name not in metrics}
    return xr.Dataset(metrics, coords, {"title": "Benchmark"})


def of_dataset(ds: xr.Dataset) -> pd.DataFrame:
    """The table that :func:`as_dataset` was given."""
    columns = {str(name): variable.values.tolist() for name, variable in ds.variables.items()}
    rows = zip(*columns.values(), strict=True)
    return tidy([dict(zip(columns, row, strict=True)) for row in rows])


def summarise(table: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """Mean and spread over seeds.

    Parameters
    ----------
    table
        Of :func:`tidy`, or rows of one.
    metrics
        Columns of `METRICS`; one that no cell has is NaN throughout.

    Returns
    -------
    DataFrame
        A row an arm, sorted; the index has the columns of `ARM`. The columns are (metric,
        statistic): ``"mean"``; ``"spread"``, the standard deviation of a sample, NaN for one seed;
        and ``"n"``, the seeds in both: those whose value is finite.

    Raises
    ------
    CubeError
        If a metric is none.
    """
    require_metrics(metrics)
    table = in_order(table)
    values = pd.DataFrame({name: finite(table, name) for name in metrics}, index=table.index)
    grouped = values.groupby([table[name] for name in ARM], sort=True)
    found = {"mean": grouped.mean(), "spread": grouped.std(), "n": grouped.count()}
    columns = pd.MultiIndex.from_product([values, found], names=("metric", "statistic"))
    return pd.DataFrame(
        {(name, statistic): found[statistic][name] for name, statistic in columns},
        index=grouped.size().index,
        columns=columns,
    )


def _column(rows: Sequence[Mapping[str, Any]], name: str, problems: list[str]) -> pd.Series:
    """A column of its type; what does not fit is told in `problems`, and missing."""
    wanted = TYPES[name]
    values = []
    for row in rows:
        found, value = row.get(name), None
        if not _is_missing(found):
            value = _READ[wanted](found)
            if value is None:
                problems.append(
                    f"expected {_WORDS[wanted]} as {name} of cell {row.get('cell')!r}; found "
                    f"{found!r} ({type(found).__name__}); mend the record"
                )
        elif name in NEEDED:
            problems.append(
                f"expected {name} of cell {row.get('cell')!r}; found none; mend the record"
            )
        values.append(_MISSING[wanted] if value is None else value)
    return pd.Series(values, dtype=_DTYPES[wanted])


def _is_missing(value: Any) -> bool:
    if isinstance(value, Real):
        return bool(value != value)
    return value is None or value is pd.NA


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _as_whole(value: Any) -> int | None:
    if not _is_number(value) or value % 1 != 0 or not -(2**63) <= value < 2**63:
        return None
    return int(value)


# Each gives None for a value of another type.
_READ: dict[type, Callable[[Any], Any]] = {
    str: lambda value: str(value) if isinstance(value, str) else None,
    int: _as_whole,
    float: lambda value: float(value) if _is_number(value) else None,
    # 0 and 1 are what a store has of verdicts of which one is missing
    bool: lambda value: (
        bool(value) if isinstance(value, Real | np.bool_) and value in (0, 1) else None
    ),
}


def _array(column: pd.Series) -> np.ndarray:
    wanted = TYPES[str(column.name)]
    if wanted is str:
        return column.to_numpy(object).astype(np.dtypes.StringDType())
    if column.isna().any():
        return column.to_numpy("float64", na_value=np.nan)
    return column.to_numpy(np.dtype(wanted))


def _parquet(table: pd.DataFrame) -> bytes:
    content = io.BytesIO()
    try:
        # With checksums: a flipped bit would be another number.
        table.to_parquet(content, engine="pyarrow", index=False, write_page_checksum=True)
    except ImportError as error:
        raise _lacks_pyarrow() from error
    return content.getvalue()


def _of_parquet(content: bytes | None) -> pd.DataFrame:
    if content is None:
        raise FileNotFoundError("there is none")
    try:
        found = pd.read_parquet(
            io.BytesIO(content), engine="pyarrow", page_checksum_verification=True
        )
    except ImportError as error:
        raise _lacks_pyarrow() from error
    return tidy(found.to_dict("records"))


def _lacks_pyarrow() -> StoreError:
    return StoreError(
        "expected pyarrow for tables as Parquet; it is not installed; "
        'pip install "xlsbc[benchmark]"'
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))
