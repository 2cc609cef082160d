"""Any provider's file opened as it is: told by its first bytes, numbers as stored, lazy.

Nothing is masked, scaled or decoded here: `xlsbc.cube.ingest.raw` does so, knowing the product.
That is what keeps a flag from being read as data.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ...errors import SourceError
from ..store.reading import open_cube
from .remote import fetch, is_store
from .source import FETCH_AGAIN

__all__ = ["open_source", "source_of"]

LARGEST_CHUNK = 2**25
"""Values in a chunk of what is stored in one piece: 128 MiB of float32."""

SIGNATURES = {
    b"CDF\x01": "netcdf3",
    b"CDF\x02": "netcdf3",
    b"CDF\x05": "netcdf3",
    b"\x89HDF\r\n\x1a\n": "netcdf4",
    b"\x0e\x03\x13\x01": "hdf4",
    b"GRIB": "grib",
    b"II*\0": "tiff",
    b"MM\0*": "tiff",
    b"II+\0": "tiff",
    b"MM\0+": "tiff",
    b"RUU CROS": "pcraster",
}
"""First bytes of a file (Gary Kessler's table of file signatures; BigTIFF: 43 in place of 42)."""

WRAPPINGS = {
    b"PK\x03\x04": "a zip archive; unzip it",
    b"\x1f\x8b": "a gzip archive; unpack it",
    b"<!DOC": "a web page, perhaps of a failed login; fetch the file again",
    b"<html": "a web page, perhaps of a failed login; fetch the file again",
    b"<?xml": "an XML text, perhaps a server's refusal; fetch the file again",
}

LONGEST_SIGNATURE = 8


def open_source(file: str | os.PathLike[str], **options: Any) -> xr.Dataset:
    """A provider's file as an xarray Dataset of the numbers that it stores, lazy in Dask chunks.

    Parameters
    ----------
    file
        A path or any fsspec URL of netCDF 3 or 4, HDF4-EOS, GRIB, GeoTIFF, PCRaster, a text table,
        or Zarr; the name may end as it likes. What is remote is copied to a temporary file first,
        but for Zarr.
    **options
        Of the file system, as fsspec takes them.

    Returns
    -------
    xarray.Dataset
        ``encoding["source"]`` is the URL. Packed numbers stay packed, flags stay numbers, times
        stay numbers with units; attributes are the file's. A GeoTIFF or PCRaster map is one
        variable ``band``, a text table one variable ``text`` along ``line``.

    Raises
    ------
    SourceError
        If the file is missing, damaged, or of another kind.
    """
    url = os.fspath(file)
    try:
        if is_store(url, **options):
            ds = _open_zarr(url, options)
        else:
            local = fetch(url, **options)
            kind = kind_of(local, url)
            ds = OPENERS[kind](local)
    except FileNotFoundError as error:
        problem = f"{url}: expected a file; found nothing; fetch it, or correct the address"
        raise SourceError(f"{_name(url)} is missing", [problem]) from error
    except SourceError:
        raise
    except Exception as error:  # every reader has its own
        cause = (str(error) or type(error).__name__).splitlines()[0]
        problem = f"{url}: expected a whole file; it cannot be read ({cause}); {FETCH_AGAIN}"
        raise SourceError(f"{_name(url)} cannot be read", [problem]) from error
    ds.encoding = {"source": url}
    return ds


def source_of(ds: xr.Dataset) -> str:
    """The file that a Dataset was read from, for a message."""
    return str(ds.encoding.get("source", "the dataset"))


def kind_of(local: Path, url: str) -> str:
    """Kind of a file, by its first bytes.

    Raises
    ------
    SourceError
        If it is of no kind that is read here.
    """
    with local.open("rb") as stream:
        start = stream.read(LONGEST_SIGNATURE)
        rest = stream.read(1024)
    for signature, kind in SIGNATURES.items():
        if start.startswith(signature):
            return kind
    found = next((what for sign, what in WRAPPINGS.items() if start.startswith(sign)), None)
    if found is None and start and b"\0" not in start + rest:
        return "text"
    found = found or (f"bytes that begin with {start!r}; {FETCH_AGAIN}" if start else "no bytes")
    problem = f"{url}: expected netCDF, HDF4, GRIB, GeoTIFF, Zarr or a text table; found {found}"
    raise SourceError(f"{_name(url)} is of no known kind", [problem])


RAW: dict[str, Any] = {"mask_and_scale": False, "decode_times": False, "decode_coords": False}


def _open_netcdf3(local: Path) -> xr.Dataset:
    from .netcdf3 import expected_length

    size, wanted = local.stat().st_size, expected_length(local)
    if size < wanted:
        raise ValueError(f"it has {size} bytes, and its header tells of {wanted}")
    return _open_netcdf(local)


def _open_netcdf(local: Path) -> xr.Dataset:
    return _in_chunks(xr.open_dataset(local, engine="netcdf4", chunks={}, **RAW))


def _open_zarr(url: str, options: dict[str, Any]) -> xr.Dataset:
    return open_cube(url, storage_options=options or None, **RAW)


def _open_grib(local: Path) -> xr.Dataset:
    from . import grib

    return _in_chunks(grib.open_grib(local))


def _open_hdf4(local: Path) -> xr.Dataset:
    from . import hdf4

    return hdf4.open_hdf4(local)


def _open_tiff(local: Path) -> xr.Dataset:
    from . import geotiff

    return geotiff.open_raster(local)


def _open_pcraster(local: Path) -> xr.Dataset:
    from . import pcraster

    return pcraster.open_pcraster(local)


def _open_text(local: Path) -> xr.Dataset:
    lines = local.read_text(encoding="utf-8-sig").splitlines()
    return xr.Dataset({"text": ("line", np.array(lines, dtype=object))})


OPENERS = {
    "netcdf3": _open_netcdf3,
    "netcdf4": _open_netcdf,
    "hdf4": _open_hdf4,
    "grib": _open_grib,
    "tiff": _open_tiff,
    "pcraster": _open_pcraster,
    "text": _open_text,
}


def _in_chunks(ds: xr.Dataset) -> xr.Dataset:
    """The Dataset with bearable chunks, also where the file has a variable in one piece."""
    large = [
        name
        for name, variable in ds.variables.items()
        if variable.chunks is not None and np.prod(variable.data.chunksize) > LARGEST_CHUNK
    ]
    return ds.assign({name: ds[name].chunk(dict.fromkeys(ds[name].dims, "auto")) for name in large})


def _name(url: str) -> str:
    return url.rstrip("/").rpartition("/")[2] or url
