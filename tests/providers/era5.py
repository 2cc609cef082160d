"""Small files of ERA5 as the Climate Data Store, MARS and Google's ARCO-ERA5 write them.

Any value can be told by hand: with t, i and j counted from 0, t2m is 270 + t + i/10 + j/100 K,
tp is (10 t + 3 i + j) / 100 mm of a day, or of an hour in hourly files, and ssrd is
86400 + 3600 (t + i + j) J m-2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import eccodes
import netCDF4
import numpy as np
import xarray as xr

LATITUDES = (47.1, 47.0, 46.9)
LONGITUDES = (10.6, 10.7, 10.8, 10.9)
FILL = -32767
PACKED = {
    # scale_factor, add_offset, units, long_name, and the stored number by t, i, j.
    "t2m": (0.01, 270.0, "K", "2 metre temperature", (100, 10, 1)),
    "tp": (1e-5, 0.0, "m", "Total precipitation", (10, 3, 1)),
    "ssrd": (3600.0, 86400.0, "J m**-2", "Surface solar radiation downwards", (1, 1, 1)),
}
GRIB = {"t2m": 167, "tp": 228, "ssrd": 169, "swvl1": 39}


def stored(name: str, steps: int, rows: int = 3, columns: int = 4) -> np.ndarray:
    t, i, j = np.indices((steps, rows, columns))
    per_t, per_i, per_j = PACKED[name][4]
    return per_t * t + per_i * i + per_j * j


def values(name: str, steps: int, rows: int = 3, columns: int = 4) -> np.ndarray:
    scale, offset = PACKED[name][:2]
    return stored(name, steps, rows, columns) * scale + offset


def write(folder: Path, layout: str = "old", **options: Any) -> list[Path]:
    """Files of one layout: old or new netCDF of the Climate Data Store, grib, or arco."""
    writers = {"old": old, "new": new, "grib": grib, "arco": arco}
    return writers[layout](folder, **options)


def months(start: str, count: int) -> np.ndarray:
    return (np.datetime64(start, "M") + np.arange(count)).astype("datetime64[h]")


def old(
    folder: Path,
    names: Sequence[str] = ("t2m", "tp"),
    times: np.ndarray | None = None,
    *,
    latitudes: Sequence[float] = LATITUDES,
    longitudes: Sequence[float] = LONGITUDES,
    preliminary: int = 0,
    units: Mapping[str, str] | None = None,
    offset: float = 0.0,
    numbers: Mapping[str, np.ndarray] | None = None,
    order: Sequence[str] = ("time", "latitude", "longitude"),
    file: str = "old.nc",
) -> list[Path]:
    """Packed netCDF-3 until 2024; the last `preliminary` months stand under expver 5.

    `numbers` are stored in place of those of the formula, (time, latitude, longitude).
    """
    times = months("2019-11", 4) if times is None else times
    path = folder / file
    with netCDF4.Dataset(path, "w", format="NETCDF3_64BIT_OFFSET") as nc:
        nc.Conventions = "CF-1.6"
        for name, degrees in (("longitude", longitudes), ("latitude", latitudes)):
            nc.createDimension(name, len(degrees))
            axis = nc.createVariable(name, "f4", (name,))
            axis.units = "degrees_east" if name == "longitude" else "degrees_north"
            axis.long_name = name
            axis[:] = degrees
        dims = tuple(order)
        if preliminary:
            nc.createDimension("expver", 2)
            nc.createVariable("expver", "i4", ("expver",))[:] = [1, 5]
            dims = ("time", "expver", "latitude", "longitude")
        nc.createDimension("time", times.size)
        time = nc.createVariable("time", "i4", ("time",))
        time.units, time.calendar = "hours since 1900-01-01 00:00:00.0", "gregorian"
        time[:] = (times - np.datetime64("1900-01-01", "h")).astype(int)
        for name in names:
            scale, add, said, long_name, _ = PACKED[name]
            da = nc.createVariable(name, "i2", dims, fill_value=np.int16(FILL))
            da.set_auto_maskandscale(False)
            da.scale_factor, da.add_offset = scale, add + offset
            da.missing_value = np.int16(FILL)
            da.units, da.long_name = (units or {}).get(name, said), long_name
            own = stored(name, times.size, len(latitudes), len(longitudes))
            own = np.asarray((numbers or {}).get(name, own)).astype("i2")
            own = own.transpose([("time", "latitude", "longitude").index(dim) for dim in order])
            if preliminary:
                both = np.full((times.size, 2, *own.shape[1:]), FILL, "i2")
                both[:-preliminary, 0] = own[:-preliminary]
                both[-preliminary:, 1] = own[-preliminary:]
                own = both
            da[:] = own
    return [path]


def new(
    folder: Path, name: str = "tp", *, count: int = 4, dates: bool = False, file: str = "new.nc"
) -> list[Path]:
    """NetCDF-4 since 2024: valid_time or integer dates, scalar number, expver as text."""
    dim = "date" if dates else "valid_time"
    starts = months("2024-09", count)
    late = 6 if name == "tp" else 0
    if dates:
        time: Any = (dim, [int(str(t)[:10].replace("-", "")) for t in starts.astype("M8[D]")])
    else:
        seconds = (starts + late).astype("datetime64[s]").astype("i8")
        time = (dim, seconds, {"units": "seconds since 1970-01-01", "standard_name": "time"})
    attrs = {
        "units": PACKED[name][2],
        "standard_name": "unknown",
        "GRIB_paramId": np.int64(GRIB[name]),
        "GRIB_stepType": "avgad" if name == "tp" else "avgua",
        "GRIB_typeOfLevel": "surface",
    }
    ds = xr.Dataset(
        {
            name: ((dim, "latitude", "longitude"), values(name, count).astype("f4"), attrs),
            "number": ((), 0, {"units": "1", "standard_name": "realization"}),
            "expver": (dim, np.array(["0001"] * (count - 1) + ["0005"])),
        },
        coords={
            dim: time,
            "latitude": ("latitude", list(LATITUDES), {"units": "degrees_north"}),
            "longitude": ("longitude", list(LONGITUDES), {"units": "degrees_east"}),
        },
    )
    path = folder / file
    ds.to_netcdf(path, engine="netcdf4")
    return [path]


def grib(
    folder: Path,
    names: Sequence[str] = ("t2m", "tp"),
    *,
    count: int = 3,
    monthly: bool = True,
    expver: Sequence[str] = ("0001",),
    padding: int = 0,
    edition: int = 1,
    level: int = 0,
    upwards: bool = False,
    missing: tuple[int, int] | None = None,
    file: str = "mars.grib",
) -> list[Path]:
    """Messages as MARS gives them; several of `expver` repeat each with numbers 100 higher."""
    path = folder / file
    with path.open("wb") as stream:
        for t in range(count):
            for name in names:
                for k, version in enumerate(expver):
                    numbers = values(name, count)[t] if name in PACKED else np.full((3, 4), 0.2)
                    numbers = numbers + 100 * k
                    message = _message(name, t, version, monthly, edition, level)
                    if upwards:
                        _turn(message)
                    _fill(message, numbers[::-1] if upwards else numbers, missing)
                    eccodes.codes_write(message, stream)
                    eccodes.codes_release(message)
                    stream.write(b"\0" * padding)
    return [path]


def _message(name: str, t: int, version: str, monthly: bool, edition: int, level: int) -> int:
    message = eccodes.codes_grib_new_from_samples(f"regular_ll_sfc_grib{edition}")
    keys: dict[str, Any] = {"centre": "ecmf", "Ni": 4, "Nj": 3}
    local = {"localDefinitionNumber": 1} if edition == 1 else {"setLocalDefinition": 1}
    keys |= {**local, "stream": "moda" if monthly else "oper", "type": "an", "expver": version}
    keys |= {
        "latitudeOfFirstGridPointInDegrees": LATITUDES[0],
        "latitudeOfLastGridPointInDegrees": LATITUDES[-1],
        "longitudeOfFirstGridPointInDegrees": LONGITUDES[0],
        "longitudeOfLastGridPointInDegrees": LONGITUDES[-1],
        "iDirectionIncrementInDegrees": 0.1,
        "jDirectionIncrementInDegrees": 0.1,
        "paramId": GRIB[name],
    }
    if monthly:
        keys |= {"dataDate": 20240101 + 100 * t, "dataTime": 600 if name == "tp" else 0}
        if edition == 1:
            keys["stepType"] = "avgad" if name in ("tp", "ssrd") else "avgua"
    else:
        keys |= {"dataDate": 20240101 + t // 24, "dataTime": 100 * (t % 24)}
    if level:
        keys |= {"typeOfLevel": "isobaricInhPa", "level": level}
    for key, value in keys.items():
        eccodes.codes_set(message, key, value)
    return message


def _turn(message: int) -> None:
    """Rows from the south on."""
    eccodes.codes_set(message, "jScansPositively", 1)
    eccodes.codes_set(message, "latitudeOfFirstGridPointInDegrees", LATITUDES[-1])
    eccodes.codes_set(message, "latitudeOfLastGridPointInDegrees", LATITUDES[0])


def _fill(message: int, numbers: np.ndarray, missing: tuple[int, int] | None) -> None:
    """The values, with a bitmap that leaves out one point, by its place in the message."""
    stored = numbers.astype(float)
    eccodes.codes_set(message, "bitsPerValue", 24)
    if missing is not None:
        eccodes.codes_set(message, "bitmapPresent", 1)
        eccodes.codes_set(message, "missingValue", 9999)
        stored[missing] = 9999
    eccodes.codes_set_values(message, stored.ravel())


def arco(
    folder: Path, *, start: str = "2020-01-31T12", hours: int = 24 * 45, file: str = "ar.zarr"
) -> list[Path]:
    """Hourly Zarr as of google-research/arco-era5: global names, 0..360, one hour a chunk."""
    times = np.datetime64(start, "h") + np.arange(hours)
    longitudes = np.arange(0.0, 360.0, 90.0, dtype="f4")
    latitudes = np.array([90.0, 0.0, -90.0], "f4")
    dims = ("time", "latitude", "longitude")
    # By the day, not by the hour: 45 days of hours would be warmer than any air.
    t = np.arange(hours)[:, None, None] // 24
    i, j = np.indices((3, 4))
    ds = xr.Dataset(
        {
            "2m_temperature": (dims, (270 + t + i / 10 + j / 100).astype("f4"), {"units": "K"}),
            "total_precipitation": (dims, ((t + i + j) * 1e-5).astype("f4"), {"units": "m"}),
            "surface_solar_radiation_downwards": (
                dims,
                (3600.0 * (t + i + j)).astype("f4"),
                {"units": "J m**-2"},
            ),
            "geopotential_at_surface": (dims[1:], np.zeros((3, 4), "f4"), {"units": "m**2 s**-2"}),
        },
        coords={
            "time": times.astype("datetime64[ns]"),
            "latitude": ("latitude", latitudes, {"units": "degrees_north"}),
            "longitude": ("longitude", longitudes, {"units": "degrees_east"}),
        },
        attrs={"valid_time_start": str(times[0])[:10], "valid_time_stop": str(times[-1])[:10]},
    )
    time = {"units": "hours since 1900-01-01", "dtype": "int64"}
    path = folder / file
    ds.chunk(time=24, latitude=-1, longitude=-1).to_zarr(
        path, encoding={"time": time}, zarr_format=2, consolidated=True
    )
    return [path]
