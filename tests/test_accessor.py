from __future__ import annotations

import pytest
import xarray as xr

import xlsbc
from xlsbc.assess.evaluate import evaluate
from xlsbc.cube.schema import check_cube, conform, describe, describe_html, roles
from xlsbc.inference.predict import predict
from xlsbc.physics.consistency import check


@pytest.fixture(scope="module")
def corner(world: xr.Dataset) -> xr.Dataset:
    return world.isel(latitude=slice(0, 11), longitude=slice(0, 14))


@pytest.fixture
def raw(corner: xr.Dataset) -> xr.Dataset:
    """The corner as a user has it: other names, another order."""
    return corner.rename(elevation="dem", latitude="lat").isel(lat=slice(None, None, -1))


def test_the_accessor_is_there_after_import(corner):
    assert xlsbc.__version__
    assert type(corner.lsbc).__name__ == "LsbcAccessor"


def test_roles_are_those_of_the_function(raw):
    assert raw.lsbc.roles() == roles(raw)
    assert raw.lsbc.roles()["elevation"] == "dem"


def test_problems_are_those_of_the_function(raw):
    assert raw.lsbc.check_cube() == check_cube(raw) == []
    broken = raw.assign(dem=raw["dem"].assign_attrs(units="K"))
    assert broken.lsbc.check_cube() == check_cube(broken)
    assert broken.lsbc.check_cube() != []


def test_the_conformed_cube_is_that_of_the_function(raw, corner):
    xr.testing.assert_identical(raw.lsbc.conform(), conform(raw))
    xr.testing.assert_equal(raw.lsbc.conform()["elevation"], corner["elevation"])


def test_a_mapping_is_passed_on(raw):
    plain = raw.assign(dem=raw["dem"].drop_attrs().assign_attrs(units="m"))
    mapping = {"elevation": "dem"}
    assert plain.lsbc.roles(mapping)["elevation"] == "dem"
    assert plain.lsbc.check_cube(mapping) == []
    assert "elevation" in plain.lsbc.conform(mapping=mapping)
    assert "elevation" not in plain.lsbc.roles()


def test_prediction_check_and_evaluation_are_those_of_the_functions(corner, untrained):
    emulator = untrained(corner)
    options = {"given": ("lc_fraction",), "targets": ("lai", "lc_fraction"), "period": [2001]}
    lazy = corner.lsbc.predict(emulator, **options)
    assert lazy["lai"].chunks
    found = lazy.compute()
    xr.testing.assert_identical(found, predict(corner, emulator, **options).compute())
    assert set(found.data_vars) == {"lai", "lc_fraction"}
    xr.testing.assert_identical(found.lsbc.check(), check(found))
    where = corner["longitude"] > corner["longitude"][4]
    where = where.broadcast_like(corner["elevation"])
    scores = found.lsbc.evaluate(corner, where=where, train=~where)
    xr.testing.assert_identical(scores, evaluate(found, corner, where=where, train=~where))


def test_writing_is_that_of_the_function(corner, tmp_path):
    url = corner[["elevation"]].lsbc.write(str(tmp_path / "cube.zarr"), progress=False)
    with pytest.raises(xlsbc.errors.CubeError, match="pass overwrite=True"):
        corner[["slope"]].lsbc.write(url, progress=False)
    corner[["slope"]].lsbc.write(url, overwrite=True, progress=False)
    found = xr.open_zarr(url)
    xr.testing.assert_equal(found.load(), corner[["slope"]])


@pytest.mark.usefixtures("no_compute")
def test_a_repr_describes_a_lazy_cube_without_computing(corner):
    lazy = corner.chunk()
    assert repr(lazy.lsbc) == describe(lazy)
    assert lazy.lsbc._repr_html_() == describe_html(lazy)
    assert "elevation" in repr(lazy.lsbc)


@pytest.mark.usefixtures("no_compute")
@pytest.mark.parametrize(
    "ds",
    [
        xr.Dataset(),
        xr.Dataset(attrs={"title": "nothing"}),
        xr.Dataset({"a": ("x", [1.0, 2.0])}).chunk(),
        xr.Dataset({"lai": ("station", ["a", "b"])}, {"station": ["<b>", "&"]}),
        xr.Dataset({"dem": 3.0}, {"latitude": 47.0}),
        xr.Dataset({("a", 1): ("x", [0])}),
    ],
    ids=["empty", "attributes", "foreign", "strings", "scalar", "tuple name"],
)
def test_a_repr_of_any_dataset_is_made(ds):
    assert repr(ds.lsbc).startswith("<xlsbc cube>")
    assert "<table>" in ds.lsbc._repr_html_()


def test_a_prediction_has_a_repr_too(corner, untrained):
    lazy = corner.lsbc.predict(untrained(corner))
    assert "lai" in repr(lazy.lsbc)
    assert lazy["lai"].chunks
