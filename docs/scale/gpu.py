"""Predict on the GPUs of this machine: one worker each, larger tasks."""

import xarray as xr

import xlsbc


def main() -> None:
    """Predict into a store."""
    cube = xr.open_zarr("cube.zarr", chunks={})
    with xlsbc.cluster():  # dask-cuda's LocalCUDACluster, where it is installed
        prediction = cube.lsbc.predict("emulator", block=4)  # 16 tiles a task
        prediction.lsbc.write("prediction.zarr")


if __name__ == "__main__":
    main()
