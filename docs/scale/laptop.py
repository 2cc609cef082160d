"""Predict on one machine: threads of this process, from a store into a store."""

import xarray as xr

import xlsbc  # noqa: F401  registers ds.lsbc

cube = xr.open_zarr("cube.zarr", chunks={})
prediction = cube.lsbc.predict("emulator")  # lazy: nothing has run
print(prediction.lsbc.plan())  # how many tiles, how many bytes, how long
prediction.lsbc.write("prediction.zarr")  # stopped? run it again, and it goes on

month = xr.open_zarr("prediction.zarr").lai.isel(time=6)
print("mean leaf area index:", round(float(month.mean()), 3))
