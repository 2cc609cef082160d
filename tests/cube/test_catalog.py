"""Catalogs: the packaged one lists and reads the synthetic world, and others open as well."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import dask
import numpy as np
import pytest
import xarray as xr

from xlsbc.cube.catalog import open_catalog
from xlsbc.cube.synthetic import synthetic_cube
from xlsbc.errors import CubeError, SourceError

SMALL = {"region": [8.5, 45.5, 8.75, 45.7], "years": [2001, 2001]}


def test_the_packaged_catalog_lists_its_entries() -> None:
    assert list(open_catalog()) == ["synthetic"]


def test_every_parameter_is_described_with_its_default() -> None:
    entry = open_catalog()["synthetic"].describe()
    parameters = {p["name"]: p for p in entry["user_parameters"]}
    assert parameters["region"]["default"] == [8.0, 45.0, 11.0, 47.0]
    assert parameters["years"]["default"] == [2000, 2011]
    assert parameters["seed"]["default"] == 0
    assert parameters["gaps"]["default"] is True
    assert all(len(p["description"]) > 10 for p in parameters.values())
    assert "synthetic world" in entry["description"]


def test_reading_an_entry_gives_the_cube_in_memory() -> None:
    cube = open_catalog()["synthetic"](**SMALL, seed=3, gaps=False).read()
    assert not cube.chunks
    xr.testing.assert_identical(cube, synthetic_cube(**SMALL, seed=3, gaps=False))


def test_an_entry_is_lazy_as_dask_until_it_is_computed() -> None:
    def forbidden(*args: object, **kwargs: object) -> None:
        raise AssertionError("computed")

    with dask.config.set(scheduler=forbidden):
        default = open_catalog()["synthetic"].to_dask()
        lazy = open_catalog().synthetic(**SMALL).to_dask()
    assert default.lai.shape == (144, 240, 360)
    assert default.lai.chunks is not None
    xr.testing.assert_identical(lazy.compute(), synthetic_cube(**SMALL))


def test_parameters_set_once_do_not_stick() -> None:
    catalog = open_catalog()
    catalog["synthetic"](seed=4)
    assert "seed=0" in catalog["synthetic"].to_dask().attrs["history"]


def test_discover_tells_sizes_and_variables_without_reading() -> None:
    found = open_catalog()["synthetic"](**SMALL).discover()["metadata"]
    assert found["dims"]["longitude"] == 30
    assert found["dims"]["latitude"] == 24
    assert found["data_vars"]["lai"] == ["time", "latitude", "longitude"]


def test_a_wrong_parameter_is_the_error_of_the_cube() -> None:
    with pytest.raises(CubeError, match="south must be below north"):
        open_catalog()["synthetic"](region=[8, 46, 9, 45]).read()


def test_anyones_catalog_opens_and_reads(tmp_path: pathlib.Path) -> None:
    ds = xr.Dataset({"a": ("x", np.arange(3.0))})
    ds.to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False)
    (tmp_path / "mine.yaml").write_text(
        "metadata: {version: 1}\n"
        "sources:\n"
        "  a: {driver: zarr, description: three numbers,"
        " args: {urlpath: '{{ CATALOG_DIR }}/a.zarr', consolidated: false}}\n"
    )
    catalog = open_catalog(tmp_path / "mine.yaml")
    assert list(catalog) == ["a"]
    xr.testing.assert_identical(catalog["a"].read(), ds)


@pytest.mark.parametrize("text", [None, "", "just words", "sources: [1, 2", "version: 2\n"])
def test_what_is_not_a_catalog_is_one_clear_error(tmp_path: pathlib.Path, text: str | None) -> None:
    path = tmp_path / "bad.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SourceError, match=r"bad\.yaml.*version 1 or 2"):
        open_catalog(path)


def test_importing_the_catalog_imports_no_intake() -> None:
    code = (
        "import sys, xlsbc.cube.catalog\n"
        "heavy = {'intake', 'torch', 'distributed', 'dask.array'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=pathlib.Path(__file__).parents[2])
