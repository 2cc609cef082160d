"""Class fractions of pixels from a finer map of class codes."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
import xarray as xr
from scipy import sparse

from .. import legends
from .blocks import Window, covered, pixel_area, regrid
from .overlap import Overlap, strips, zone
from .rectilinear import Rectilinear

# Codes are looked up in a table of all that a signed or an unsigned byte can be, and one on either
# side for what it cannot.
LOWEST, HIGHEST = -129, 256
UNKNOWN = -1


def class_fractions(
    codes: xr.DataArray,
    name: str,
    dim: str,
    latitude: np.ndarray,
    longitude: np.ndarray,
    *,
    least: float = 0.5,
) -> xr.DataArray:
    """Share of each class in what is known of a pixel, from a map of class codes.

    Parameters
    ----------
    codes
        (..., latitude, longitude), class codes, integers or floats with NaN for missing, on a
        grid as in `conservative`. Bytes read as signed (210 as -46) are understood.
    name
        Crosswalk, as in `legends.crosswalk`: "cci_lccs-cci_pft".
    dim
        Name of the new class dimension, "lc_class" or "lu_class".
    latitude, longitude
        Pixel centres of the target, degrees, one-dimensional.
    least
        Share of a pixel's area that must be known, 0 to 1.

    Returns
    -------
    xarray.DataArray
        (..., `dim`, latitude, longitude), float32, 1: sums to 1 over the classes, NaN in all of
        them where less than `least` of the pixel has a code that is neither missing nor means no
        data. Lazy as in `conservative`; the fractions of the fine map are never there at once.

    Raises
    ------
    LegendError
        If there is no such crosswalk; or if codes are not of its source legend: for Dask data by
        the block that holds them, when it is computed.
    GridError
        As `conservative`.
    """
    table = Table.of(name)
    target = legends.legend(name.split("-")[1]).coordinate(dim)
    return regrid(
        codes,
        ("latitude", "longitude"),
        Rectilinear.between(codes, latitude, longitude),
        partial(_fractions, table=table, least=least),
        latitude,
        longitude,
        dtype=np.dtype(np.float32),
        new=target[dim],
        attrs={"long_name": f"area fraction of {target.attrs['long_name']}", "units": "1"},
    )


class Table(NamedTuple):
    """A crosswalk as arrays.

    Parameters
    ----------
    name
        Of the crosswalk.
    places
        Row of each code, counted from `LOWEST`; `UNKNOWN` for what is no code.
    shares
        (class and last of all known area, row), 1; the last row is of what is missing.
    """

    name: str
    places: np.ndarray
    shares: np.ndarray

    @classmethod
    def of(cls, name: str) -> Table:
        """Table of a crosswalk.

        Raises
        ------
        LegendError
            If there is none of that name.
        """
        crosswalk = legends.crosswalk(name)
        codes = crosswalk["source_code"].to_numpy()
        places = np.full(HIGHEST - LOWEST + 1, UNKNOWN, np.int16)
        # An unsigned code above 127 is the signed one 256 below it; zero and those below are one.
        for row, code in enumerate(codes):
            places[code - LOWEST] = row
            if code > 127:
                places[code - 256 - LOWEST] = row
        shares = np.zeros((crosswalk.shape[1] + 1, codes.size + 1))
        has_data = ~np.isnan(crosswalk.to_numpy()).any(axis=1)
        shares[:-1, :-1] = np.where(has_data, crosswalk.to_numpy().T, 0.0)
        shares[-1, :-1] = has_data
        return cls(name, places, shares)

    def rows(self, codes: np.ndarray) -> np.ndarray:
        """Row of the table for each code of a map, int16.

        Raises
        ------
        LegendError
            If codes are not of the legend: all of them, with their counts.
        """
        missing = np.isnan(codes) if codes.dtype.kind == "f" else np.zeros((), bool)
        numbers = codes
        if codes.dtype.kind == "f":
            # Halves are no codes; cut to an integer they would become one.
            numbers = np.where(codes == np.floor(codes), codes, HIGHEST)
        if codes.dtype.itemsize > 1:
            numbers = np.clip(numbers, 0 if codes.dtype.kind == "u" else LOWEST, HIGHEST)
        found = self.places[numbers.astype(np.int16) - LOWEST]
        unknown = (found == UNKNOWN) & ~missing
        if unknown.any():
            # Refused in the words of the crosswalk itself.
            stray = xr.DataArray(codes[unknown][None], dims=("latitude", "longitude"))
            legends.apply_crosswalk(stray, self.name, "class")
        return np.where(missing, self.shares.shape[1] - 1, found)


def _fractions(
    scheme: Rectilinear,
    rows: slice,
    columns: slice,
    windows: list[Window],
    values: list[np.ndarray],
    *,
    table: Table,
    least: float,
) -> np.ndarray:
    """Fractions of a block, (n, class, row, column)."""
    area = pixel_area(scheme.latitude.part(rows), scheme.longitude.part(columns))
    overlaps = [scheme.overlaps(rows, columns, window) for window in windows]
    out = np.full((len(values[0]), len(table.shares) - 1, *area.shape), np.nan, np.float32)
    # Sparse, as BLAS adds in an order of its own: the bits must not depend on the block.
    shares = sparse.csr_matrix(table.shares)
    # All windows of a block share their rows.
    pointer = np.searchsorted(overlaps[0][0].target, np.arange(area.shape[0] + 1))
    parts = strips(pointer, max(x.target.size for _, x in overlaps))
    for i in range(len(out)):
        numbers = [table.rows(window_values[i]) for window_values in values]
        for part in parts:
            pieces = slice(pointer[part.start], pointer[part.stop])
            area_of = np.zeros((table.shares.shape[1], area[part].size))
            for (y, x), window_numbers in zip(overlaps, numbers, strict=True):
                some = Overlap(*(a[pieces] for a in y))
                shape = (len(area_of), *area[part].shape)
                area_of += _areas(window_numbers, some, x, part.start, shape)
            sums = (shares @ area_of).reshape(-1, *area[part].shape)
            enough = covered(sums[-1], area[part], least)
            np.divide(sums[:-1], sums[-1], out=out[i, :, part], where=enough, casting="same_kind")
    return out


def _areas(
    numbers: np.ndarray, y: Overlap, x: Overlap, first: int, shape: tuple[int, int, int]
) -> np.ndarray:
    """Area of each row of the table in each pixel of a strip, (row of the table, pixel)."""
    _, height, width = shape
    taken = numbers[y.source][:, x.source].astype(np.intp)
    pixel = ((y.target - first) * width)[:, None] + x.target
    weight = np.outer(zone(y.low, y.high), x.high - x.low)
    place = taken * (height * width) + pixel
    sums = np.bincount(place.ravel(), weight.ravel(), minlength=int(np.prod(shape)))
    return sums.reshape(shape[0], height * width)
