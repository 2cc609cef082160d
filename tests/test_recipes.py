"""Every recipe as a user runs it: on small files of its provider, on real ones, all in a cube."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import yaml

pytest.importorskip("apache_beam", reason="recipes need Apache Beam: pip install 'xlsbc[recipes]'")

from tests import servers
from tests.providers import (
    c3s_lai,
    cci,
    cgls,
    co2,
    cog,
    ecland,
    era5,
    hilda,
    lakes,
    luh,
    modis,
    soils,
)
from xlsbc.cli import main
from xlsbc.cube.feedstock import feedstock, feedstocks, folder, run
from xlsbc.cube.store.writer import verify
from xlsbc.errors import SourceError, SourceWarning

NAMES = [path.parent.name for path in sorted(folder().glob("*/meta.yaml"))]


def month_of_hours(place: Path) -> None:
    hours = pd.date_range("2019-11-01", "2019-11-30 23:00", freq="h").to_numpy()
    cold = {"t2m": np.zeros((hours.size, 3, 4), "i2")}
    era5.write(place, times=hours.astype("datetime64[h]"), names=("t2m",), numbers=cold)


def hill(place: Path) -> None:
    rows, columns = np.indices((60, 80))
    where = {"west": 10.0, "north": 47.0, "step": 1 / 1200}
    cog.write(place, "dem.tif", (500 + 2 * rows + columns).astype("float32"), **where)


def shares(place: Path) -> None:
    cci.write_types(place, {"GRASS-NAT": 60, "BARE": 40})


INPUTS: dict[str, Callable[[Path], Any]] = {
    "arco_era5": lambda place: era5.write(place, "arco"),
    "c3s_lai": c3s_lai.write,
    "cci_land_cover": cci.write,
    "cci_pft": shares,
    "cgls_lai": cgls.write,
    "co2": co2.write,
    "elevation": hill,
    "era5": era5.write,
    "era5_land": era5.write,
    "era5_hourly": month_of_hours,
    "hilda": hilda.write,
    "ifs_climate": ecland.write,
    "lakes": lambda place: lakes.write_era5(place / "lakes.nc"),
    "luh2": luh.write,
    "luh3": luh.write,
    "modis_lai": modis.write,
    "soils": soils.write,
}
"""What writes a recipe's test input; ``cube`` is built from all of them, ``era5_daily`` from real
files, below."""


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket of a real S3 server on this computer."""
    import boto3

    with servers.s3():
        boto3.client("s3").create_bucket(Bucket="all-recipes")
        yield "s3://all-recipes"


def quietly(name: str, *args: Any, **options: Any) -> str:
    """Run a recipe; what its test input lacks is told, and no matter here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SourceWarning)
        return run(name, *map(str, args), progress=False, **options)


@pytest.mark.parametrize("name", sorted(INPUTS))
def test_a_recipe_builds_the_same_store_on_disk_and_on_s3(tmp_path, bucket, name):
    import s3fs

    source = tmp_path / "input"
    source.mkdir()
    INPUTS[name](source)
    place = quietly(name, source, tmp_path / "store.zarr")
    store = xr.open_zarr(place).load()
    assert store.data_vars
    assert any(da.notnull().any() for da in store.data_vars.values())
    assert verify(place, progress=False) > 0
    for attribute in ("title", "source", "license", "references", "history", "date_accessed"):
        assert store.attrs[attribute], attribute
    assert store.attrs["xlsbc_recipe"] == f"{name}.zarr 0.1.0"

    s3fs.S3FileSystem().put(str(source), f"all-recipes/{name}/", recursive=True)
    there = quietly(name, f"{bucket}/{name}/input", f"{bucket}/{name}/store.zarr")
    xr.testing.assert_equal(xr.open_zarr(there).load(), store)
    assert verify(there, progress=False) > 0


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_a_feedstock(name):
    from pangeo_forge_runner.meta_yaml import MetaYaml

    place = folder() / name
    MetaYaml(**yaml.safe_load((place / "meta.yaml").read_text()))
    found = feedstock(name)
    assert found.title
    assert found.provenance.license
    assert (place / "requirements.txt").is_file()
    code = (place / "recipe.py").read_text()
    assert "def " not in code, "no logic in a recipe"


def test_every_recipe_has_a_page_that_names_its_command():
    pages = " ".join(
        path.read_text() for path in (folder().parent / "docs" / "sources").glob("*.md")
    )
    assert [name for name in NAMES if f"xlsbc recipe run {name} " not in pages] == []


SAMPLE = (
    *("elevation", "slope", "soil_porosity", "soil_water_residual", "soil_thickness"),
    *("soil_hydraulic_conductivity", "built_fraction", "water_fraction", "lc_fraction", "lai"),
)
"""What both samples of wflow hold."""

REAL = {
    "era5": ("era5_vietnam_monthly", {"t2m", "tp"}),
    "era5_land": ("oetztal_era5_monthly/sel_era5_land_monthly_*.nc", {"t2m", "tp"}),
    "era5_daily": ("rhine_era5_daily", {"t2m", "tp", "ssrd"}),
    "ifs_climate": ("era5_grib/era5_*_global.grib", {"elevation", "land_fraction"}),
    "co2": ("co2/co2-mm-gl.csv", {"co2"}),
    "elevation": ("davos_era5_hourly/dem_SRTM1_proj.tif", {"elevation", "slope"}),
    "modis_lai": ("modis_lai_uk_2012/*.nc", {"lai"}),
    "rhine": ("rhine_wflow_1km", {*SAMPLE, "clay_fraction", "silt_fraction", "canopy_height"}),
    "piave": ("piave_wflow", {*SAMPLE, "t2m", "tp", "pet"}),
    "bhima": (
        "bhima_landuse_1km",
        {
            *("lu_total", "built_fraction", "elevation", "elevation_deviation", "slope"),
            *("soil_porosity", "soil_hydraulic_conductivity"),
        },
    ),
}


@pytest.mark.parametrize("name", sorted(REAL))
def test_a_recipe_builds_its_store_from_real_files(tmp_path, real_data, bucket, name):
    files, variables = REAL[name]
    place = quietly(name, real_data / files, tmp_path / "store.zarr")

    store = xr.open_zarr(place)
    assert set(store.data_vars) == variables
    assert verify(place, progress=False) > 0
    if name not in INPUTS:
        there = quietly(name, real_data / files, f"{bucket}/real/{name}.zarr")
        xr.testing.assert_equal(xr.open_zarr(there).load(), store.load())


def test_every_recipe_is_run_on_something():
    assert {*INPUTS, *REAL, "cube"} == set(NAMES)


def test_the_oetztal_alps_are_a_cube_of_four_sources(tmp_path, real_data):
    import xlsbc
    from xlsbc.cube.ingest import oetztal

    climate = "oetztal_era5_monthly"
    files = {
        "rhine": "rhine_wflow_1km",
        "era5_land": f"{climate}/sel_era5_land_monthly_*.nc",
        "elevation": f"{climate}/srtm_oetztal.tif",
        "co2": "co2/co2-annmean-gl.csv",
    }
    for name, source in files.items():
        quietly(name, real_data / source, tmp_path / "lake" / f"{name}.zarr")
    where = {"region": (10.634, 46.667, 11.099, 47.016), "period": (2000, 2000)}
    with pytest.warns(SourceWarning, match="'(elevation|slope)' of rhine.zarr has no value"):
        run("cube", str(tmp_path / "lake"), str(tmp_path / "a.zarr"), progress=False, **where)
    cube = xr.open_zarr(tmp_path / "a.zarr")
    expected = oetztal(real_data)

    # What is rounded, the function leaves as it is: 13 bits of the mantissa, a half of 2^-12.
    for name, da in expected.data_vars.items():
        if da.dims[-2:] == ("latitude", "longitude"):
            tolerance = {
                "rtol": 2.0**-14,
                "atol": 2.0**-13 if name in ("lai", "lc_fraction") else 0,
            }
            np.testing.assert_allclose(cube[name], da, **tolerance, err_msg=name)
    assert cube.attrs["license"].count(";") == 3
    assert cube.forcing_time.values[[0, -1]].astype("M8[M]").tolist() == [
        np.datetime64(month).item() for month in ("1999-01", "2000-12")
    ]
    emulator = xlsbc.fit(cube, steps=2, split="blocks", seed=0, progress=False)
    assert cube.lsbc.predict(emulator).lai.isel(time=0).notnull().any()


def test_the_catalog_opens_what_the_recipes_build(tmp_path, real_data):
    import xlsbc

    for name in ("rhine", "piave", "bhima"):
        quietly(name, real_data / REAL[name][0], tmp_path / f"{name}.zarr")
        entry = xlsbc.open_catalog()["real"](folder=str(tmp_path))[name]
        assert set(entry.to_dask().data_vars) == REAL[name][1]


def test_every_recipe_that_the_catalog_names_is_there():
    import xlsbc

    catalog = xlsbc.open_catalog("real")
    assert {catalog[name].metadata["recipe"] for name in catalog} <= set(NAMES)


def a_land_of_all_sources(place: Path) -> None:
    """Files of seven providers for 10 to 10.5 E, 46.5 to 47 N, the year 2001."""
    random = np.random.default_rng(0)
    for name in ("era5", "luh2", "cci_land_cover", "cgls_lai", "co2", "elevation", "soils"):
        (place / name).mkdir(parents=True)
    axes = {"latitudes": np.arange(47.25, 46.2, -0.25), "longitudes": np.arange(9.75, 10.8, 0.25)}
    numbers = {"t2m": 5 * np.indices((24, 5, 5))[0], "tp": 1 + np.indices((24, 5, 5))[1]}
    times = era5.months("2000-01", 24)
    era5.write(place / "era5", "old", times=times, numbers=numbers, **axes)
    luh.write(
        place / "luh2",
        {
            "primf": np.full((4, 4), 0.5),
            "c3ann": np.full((4, 4), 0.3),
            "urban": np.full((4, 4), 0.1),
        },
        years=(2000, 2001, 2002),
        north=47.25,
        west=9.75,
    )
    codes = np.repeat(np.repeat(random.choice([10, 70, 130, 210], (60, 60)), 3, 0), 3, 1)
    cci.write(place / "cci_land_cover", codes, years=(2000, 2001))
    dates = tuple(f"2001{month:02d}{day}" for month in range(1, 13) for day in ("10", "20"))
    leaves = random.integers(0, 150, (60, 60)).astype("uint8")
    cgls.write(place / "cgls_lai", dates=dates, numbers=leaves, north=47.0, west=10.0)
    co2.write(place / "co2", (1999, 2000, 2001))
    rows, columns = np.indices((600, 600))
    where = {"west": 10.0, "north": 47.0, "step": 1 / 1200}
    heights = (800 + rows + 0.5 * columns).astype("float32")
    cog.write(place / "elevation", "dem.tif", heights, **where)
    soils.write(place / "soils", {"clay_0-5cm_mean": np.full((240, 240), 215)})


def test_the_cube_of_all_sources_trains_and_predicts(tmp_path, bucket):
    import s3fs

    import xlsbc

    a_land_of_all_sources(tmp_path / "raw")
    for name in ("era5", "luh2", "cci_land_cover", "cgls_lai", "co2", "elevation", "soils"):
        quietly(name, tmp_path / "raw" / name, tmp_path / "lake" / f"{name}.zarr")
    box = {"region": (10.0, 46.5, 10.5, 47.0), "period": (2001, 2001)}
    place = quietly("cube", tmp_path / "lake", tmp_path / "cube.zarr", **box)
    s3fs.S3FileSystem().put(str(tmp_path / "lake"), "all-recipes/", recursive=True)
    there = quietly("cube", f"{bucket}/lake", f"{bucket}/cube.zarr", **box)
    cube = xr.open_zarr(place)
    xr.testing.assert_equal(xr.open_zarr(there).load(), cube.load())

    assert verify(place, progress=False) > 0
    assert set(cube.data_vars) >= {
        *("elevation", "slope", "clay_fraction", "t2m", "tp"),
        *("co2", "lu_total", "lc_fraction", "lai"),
    }
    assert cube.sizes["latitude"] == cube.sizes["longitude"] == 60
    # On the lattice that begins at 90 N, 180 W.
    np.testing.assert_allclose((90 - cube.latitude) * 120 % 1, 0.5, atol=1e-6)
    assert cube.year.values.tolist() == [2001]
    assert cube.forcing_time.values[0] == np.datetime64("2000-01-01")
    assert cube.sizes["forcing_latitude"] < 6
    assert cube.attrs["license"].count(";") > 3
    # Clay is 215 g/kg everywhere; the ground rises by 1 m each 1/1200 degree to the south.
    np.testing.assert_allclose(cube.clay_fraction.mean(), 0.215, atol=1e-4)
    np.testing.assert_allclose(cube.elevation.isel(longitude=30).diff("latitude"), 10.0, atol=0.3)

    emulator = xlsbc.fit(cube, steps=2, split="blocks", seed=0)
    prediction = cube.lsbc.predict(emulator)
    assert prediction.lai.isel(time=0).notnull().any()


def test_the_command_line_lists_shows_and_runs(tmp_path, capsys, monkeypatch):
    def xlsbc(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["xlsbc", *words])
        main()
        return capsys.readouterr().out

    listed = xlsbc("recipe", "list")
    assert [line.split()[0] for line in listed.splitlines()] == NAMES
    assert [each.name for each in feedstocks()] == NAMES
    assert "xlsbc recipe run co2 --input" in xlsbc("recipe", "show", "co2")
    co2.write(tmp_path)
    place = str(tmp_path / "co2.zarr")
    said = xlsbc("recipe", "run", "co2", "--input", str(tmp_path), "--output", place, "--prune=1")
    assert said.strip().endswith(place)
    assert xr.open_zarr(place).year.values.tolist() == [1850, 1851, 1852]


@pytest.mark.slow
def test_a_recipe_gives_the_same_store_on_dask(tmp_path):
    era5.write(tmp_path)
    here = quietly("era5", tmp_path, tmp_path / "here" / "era5.zarr")
    # A process of its own: Beam leaves a cluster behind.
    command = [str(Path(sys.executable).with_name("xlsbc")), "recipe", "run", "era5"]
    command += ["--input", str(tmp_path), "--output", str(tmp_path / "there" / "era5.zarr")]
    subprocess.run([*command, "--runner", "DaskRunner"], check=True, timeout=240)

    there = xr.open_zarr(tmp_path / "there" / "era5.zarr")
    xr.testing.assert_identical(there.load(), xr.open_zarr(here).load())


def test_a_runner_that_there_is_not_is_named(tmp_path):
    co2.write(tmp_path)
    with pytest.raises(SourceError, match="no runner 'NopeRunner': .* DirectRunner"):
        quietly("co2", tmp_path, tmp_path / "co2.zarr", runner="NopeRunner")


def test_options_that_would_do_nothing_are_refused(tmp_path):
    co2.write(tmp_path)
    with pytest.raises(SourceError, match=r"\(1\) region: .* takes none.*\(2\) prune: .* found 0"):
        quietly("co2", tmp_path, tmp_path / "a.zarr", region=[0, 0, 1, 1], prune=0)
    assert not (tmp_path / "a.zarr").exists()


def test_a_bucket_that_is_not_there_and_a_server_that_does_not_answer_are_named(tmp_path, bucket):
    for place in ("s3://no-such-bucket/raw", "http://127.0.0.1:1/raw.nc"):
        with pytest.raises(SourceError, match=f"{place}: expected file"):
            quietly("co2", place, tmp_path / "a.zarr")


def test_flags_need_no_value(tmp_path, capsys, monkeypatch):
    co2.write(tmp_path)
    words = ["xlsbc", "recipe", "run", "co2", "--input", str(tmp_path)]
    words += ["--overwrite", "--output", str(tmp_path / "a.zarr"), "--append"]
    monkeypatch.setattr(sys, "argv", words)
    main()

    assert capsys.readouterr().out.strip().endswith("a.zarr")


def test_a_recipe_that_is_not_there_is_answered_with_those_that_are():
    with pytest.raises(SourceError, match="name one of arco_era5, bhima, c3s_lai"):
        feedstock("era6")
    with pytest.raises(SourceError, match="name one of"):
        feedstock("../recipes/era5")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["co2", "luh2"])
def test_pangeo_forge_runner_bakes_from_the_repository(tmp_path, name):
    (tmp_path / "input").mkdir()
    INPUTS[name](tmp_path / "input")
    config = tmp_path / "config.py"
    config.write_text(
        "from fsspec.implementations.local import LocalFileSystem\n"
        "c.TargetStorage.fsspec_class = LocalFileSystem\n"
        f"c.TargetStorage.root_path = {str(tmp_path / 'output')!r}\n"
        "c.LocalDirectBakery.num_workers = 1\n"
    )
    runner = Path(sys.executable).with_name("pangeo-forge-runner")
    command = [str(runner), "bake", "--repo", str(folder().parent)]
    command += ["--feedstock-subdir", f"recipes/{name}", "-f", str(config)]
    environment = {**os.environ, "XLSBC_INPUT": str(tmp_path / "input")}
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, timeout=240, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert verify(str(tmp_path / "output" / f"{name}.zarr"), progress=False) > 0
    shutil.rmtree(tmp_path / "output")
