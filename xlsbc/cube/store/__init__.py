"""Cubes and predictions as Zarr stores: resumable, checksummed, packed, complete last."""
