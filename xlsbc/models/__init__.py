"""What an emulator is made of: torch modules only, no dask, zarr or xarray."""
