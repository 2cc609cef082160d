"""Catalogs: the packaged one lists and reads the synthetic world, and others open as well."""

from __future__ import annotations

import pathlib
import subprocess
import sys
from importlib import resources

import dask
import numpy as np
import pytest
import xarray as xr
import yaml
from fsspec.implementations.local import LocalFileSystem

from xlsbc import cli
from xlsbc.cube.catalog import explain, names, open_catalog, summaries, twin
from xlsbc.cube.store.writer import write
from xlsbc.cube.synthetic import synthetic_cube
from xlsbc.errors import CubeError, SourceError

SMALL = {"region": [8.5, 45.5, 8.75, 45.7], "years": [2001, 2001]}


CATALOGS = pathlib.Path(__file__).parents[2] / "catalogs"


def test_the_packaged_catalog_lists_its_entries() -> None:
    assert list(open_catalog()) == ["synthetic", "emulated", "real", "public"]
    assert list(open_catalog("public"))[0] == "arco_era5"
    assert set(names()) == {"catalog", "emulated", "public", "real"}


@pytest.mark.parametrize("name", ["catalog", "emulated", "public", "real"])
def test_the_published_catalogs_are_those_of_the_package_with_their_twins(name: str) -> None:
    packaged = pathlib.Path(str(resources.files("xlsbc"))) / "catalogs" / f"{name}.yaml"
    assert (CATALOGS / f"{name}.yaml").read_bytes() == packaged.read_bytes()
    twin_of = f"xlsbc catalog twin catalogs/{name}.yaml > catalogs/{name}.v2.yaml"
    assert (CATALOGS / f"{name}.v2.yaml").read_text() == twin(CATALOGS / f"{name}.yaml"), twin_of


@pytest.mark.parametrize("name", ["catalog", "emulated", "public", "real"])
def test_what_needs_a_network_says_so_and_opens_nothing_before(name: str) -> None:
    catalog = open_catalog(name)
    for entry in catalog:
        described = catalog[entry].describe()
        assert len(described["description"]) > 20
        remote = "://" in str(described["args"])
        assert described["metadata"].get("requires_network", False) == (remote or entry == "public")
        if remote:
            assert described["args"]["storage_options"] in ({"token": "anon"}, {"anon": True})


def test_nested_catalogs_list_and_take_parameters(tmp_path: pathlib.Path) -> None:
    ds = xr.Dataset({"a": ("x", np.arange(3.0))})
    write(ds, str(tmp_path / "rhine.zarr"), progress=False)
    ds = xr.open_zarr(tmp_path / "rhine.zarr").load()
    real = open_catalog()["real"](folder=str(tmp_path))
    xr.testing.assert_identical(real["rhine"].read(), ds)
    xr.testing.assert_identical(real.rhine.to_dask().compute(), ds)
    xr.testing.assert_identical(open_catalog("real")["rhine"](folder=str(tmp_path)).read(), ds)
    again = open_catalog(CATALOGS / "catalog.v2.yaml")["real"].read()(folder=str(tmp_path))
    xr.testing.assert_identical(again["rhine"].read().compute(), ds)


def test_parameters_of_a_catalog_do_not_stick() -> None:
    catalog = open_catalog()
    assert catalog["real"](folder="/elsewhere")["rhine"].reader.data.url == "/elsewhere/rhine.zarr"
    assert catalog["real"]["rhine"].reader.data.url == "./rhine.zarr"
    once = catalog["real"]["rhine"](folder="/a")
    assert once(chunks=None).reader.data.url == "/a/rhine.zarr"
    assert catalog["real"]["rhine"].reader.data.url == "./rhine.zarr"
    with pytest.raises(SourceError, match="no parameter fodler.*folder"):
        catalog["real"](fodler="/a")


def test_intake_alone_opens_the_published_catalogs(tmp_path: pathlib.Path) -> None:
    """Version 1 imports xlsbc for its own drivers only, version 2 for nothing that is listed."""
    ds = xr.Dataset({"a": ("x", np.arange(3.0))})
    write(ds, str(tmp_path / "rhine.zarr"), progress=False)
    code = (
        "import sys, intake\n"
        "for name in ('public', 'real'):\n"
        f"    first = intake.open_catalog('{CATALOGS}/' + name + '.yaml')\n"
        f"    second = intake.open_catalog('{CATALOGS}/' + name + '.v2.yaml')\n"
        "    assert list(first) == list(second) != []\n"
        "assert first['rhine'].read().a.size == second['rhine'].read().a.size == 3\n"
        f"whole = intake.open_catalog('{CATALOGS}/catalog.v2.yaml')\n"
        "assert list(whole) == ['synthetic', 'emulated', 'real', 'public']\n"
        "assert whole['real'].read()['rhine'].read().a.chunks\n"
        "assert 'xlsbc' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


def test_the_twin_of_the_synthetic_world_is_the_same_world() -> None:
    catalog = open_catalog(CATALOGS / "catalog.v2.yaml")
    found = catalog["synthetic"](**SMALL, seed=3).read()
    assert found.lai.chunks
    xr.testing.assert_identical(found.compute(), synthetic_cube(**SMALL, seed=3))


def test_a_parameter_that_is_not_allowed_is_refused(tmp_path: pathlib.Path) -> None:
    text = (
        "metadata: {version: 1}\nsources:\n  a:\n    driver: zarr\n    parameters:\n"
        "      year: {description: which, type: int, default: 2000, allowed: [2000, 2010]}\n"
        "    args: {urlpath: \"x-{{ '%04d' % year }}.zarr\"}\n"
    )
    (tmp_path / "mine.yaml").write_text(text)
    entry = open_catalog(tmp_path / "mine.yaml")["a"]
    assert entry(year=2010).reader.data.url == "x-2010.zarr"
    with pytest.raises(ValueError, match="2005"):
        entry(year=2005)
    second = yaml.safe_load(twin(tmp_path / "mine.yaml"))
    assert second["user_parameters"]["year"]["options"] == [2000, 2010]


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


def test_entries_have_a_line_each_and_are_explained_without_being_opened() -> None:
    lines = summaries("public")
    assert list(lines)[0] == "arco_era5"
    assert all(line and "\n" not in line for line in lines.values())
    assert summaries(CATALOGS / "public.v2.yaml") == lines
    for url in ("public", CATALOGS / "public.v2.yaml"):
        assert "gs://gcp-public-data-arco-era5" in explain("arco_era5", url) or url != "public"
        assert "requires_network: true" in explain("arco_era5", url)
    with pytest.raises(SourceError, match="no entry 'x'; it has synthetic"):
        explain("x")


@pytest.mark.parametrize("command", ["list", "show", "twin"])
def test_the_command_line_looks_into_catalogs(command, monkeypatch, capsys) -> None:
    path = str(CATALOGS / "real.yaml")
    arguments = {
        "list": ["--catalog", "real"],
        "show": ["rhine", "--catalog", path],
        "twin": [path],
    }
    monkeypatch.setattr(sys, "argv", ["xlsbc", "catalog", command, *arguments[command]])
    cli.main()
    said = capsys.readouterr().out
    assert "rhine" in said
    if command == "twin":
        assert said == (CATALOGS / "real.v2.yaml").read_text()


@pytest.mark.parametrize("times", [1, 2, 9])
def test_a_store_that_fails_is_asked_again_and_then_one_error(
    tmp_path: pathlib.Path, monkeypatch, times: int
) -> None:
    left = [None] * times
    opened = LocalFileSystem.open

    def failing(self, *args, **kwargs):
        if left:
            left.pop()
            raise ConnectionResetError("reset by peer")
        return opened(self, *args, **kwargs)

    monkeypatch.setattr(LocalFileSystem, "open", failing)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    if times < 3:
        assert list(open_catalog("public"))
    else:
        with pytest.raises(SourceError, match="reset by peer"):
            open_catalog("public")
