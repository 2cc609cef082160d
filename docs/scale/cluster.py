"""Predict on a cluster: the same lines, with a client."""

import xarray as xr

import xlsbc


def main() -> None:
    """Predict into a store."""
    cube = xr.open_zarr("cube.zarr", chunks={})
    with xlsbc.cluster(n_workers=2, threads_per_worker=1):
        prediction = cube.lsbc.predict("emulator")
        prediction.lsbc.write("prediction.zarr")


if __name__ == "__main__":  # workers are processes that import this file
    main()
