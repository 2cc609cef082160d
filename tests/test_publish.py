"""Products in catalogs: what a downstream analyst opens with intake alone, wherever it lies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import dask.array as da
import fsspec
import numpy as np
import pytest
import xarray as xr
import yaml

from tests import servers
from xlsbc.cube.catalog import open_catalog
from xlsbc.cube.catalog.editing import located
from xlsbc.deliver.emulated import emulated
from xlsbc.deliver.preview import preview
from xlsbc.deliver.publish import publish
from xlsbc.errors import CubeError, EmulatorError, SourceError

ANALYST = """
import json, sys, warnings
warnings.simplefilter("error")
import intake
first, second, name = sys.argv[1:]
catalog = intake.open_catalog(first)
assert name in list(catalog), list(catalog)
whole, lazy = catalog[name].read(), catalog[name].to_dask()
assert all(v.chunks for v in lazy.data_vars.values())
twin = intake.open_catalog(second)
assert name in list(twin), list(twin)
other = twin[name].read()
assert all(v.chunks for v in other.data_vars.values())
import xarray
xarray.testing.assert_identical(whole.load(), lazy.load())
xarray.testing.assert_identical(whole, other.load())
assert "xlsbc" not in sys.modules
print(json.dumps({
    "attrs": whole.attrs,
    "first": catalog[name].reader.metadata,
    "second": twin[name].metadata,
    "sum": float(whole["lai"].sum()),
    "sizes": dict(whole.sizes),
}))
"""
"""What someone runs who never heard of xlsbc."""


@pytest.fixture(scope="module")
def corner(world: xr.Dataset) -> xr.Dataset:
    return world.isel(latitude=slice(0, 11), longitude=slice(0, 14))


@pytest.fixture(scope="module")
def prediction(corner, untrained) -> xr.Dataset:
    return corner.lsbc.predict(untrained(corner)).compute().chunk(time=12, year=1)


@pytest.fixture(scope="module")
def small() -> xr.Dataset:
    axes = {"latitude": 50 - np.arange(4) / 120, "longitude": 7 + np.arange(6) / 120}
    values = np.arange(24.0, dtype="float32").reshape(4, 6)
    field = xr.DataArray(values, axes, ("latitude", "longitude"), attrs={"units": "m"})
    return xr.Dataset({"height": field}, attrs={"title": "heights", "license": "CC0-1.0"})


def put(ds: xr.Dataset, url: object, catalog: object, **options: object) -> str:
    return publish(ds, str(url), catalog=str(catalog), progress=False, **options)


def as_analyst(catalog: str, name: str, cwd: Path, **environment: str) -> dict:
    first, second = catalog, catalog.replace(".yaml", ".v2.yaml")
    done = subprocess.run(
        [sys.executable, "-c", ANALYST, first, second, name],
        capture_output=True,
        text=True,
        cwd=cwd,  # xlsbc is not importable from here
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def agree(said: dict, prediction: xr.Dataset) -> None:
    assert said["sizes"] == dict(prediction.sizes)
    assert said["sum"] == pytest.approx(float(prediction["lai"].sum()), abs=0.2)
    for version in ("first", "second"):
        metadata = said[version]
        assert {key: metadata[key] for key in said["attrs"]} == said["attrs"]
        assert {"title", "summary", "license", "source", "references", "history"} <= set(metadata)
        assert metadata["variables"] == sorted(map(str, prediction.data_vars))
        assert metadata["period"] == ["2000-01-01", "2001-12-01"]
        west, south, east, north = metadata["bbox"]
        assert west == pytest.approx(8.1, abs=0.01)
        assert east - west == pytest.approx(14 / 120)
        assert north - south == pytest.approx(11 / 120)


def test_a_published_prediction_is_read_by_intake_alone_from_disk(prediction, tmp_path):
    shop = tmp_path / "shop"
    assert (
        prediction.lsbc.publish(
            str(shop / "alps.zarr"), catalog=str(shop / "catalog.yaml"), progress=False
        )
        == "alps"
    )
    shop.rename(tmp_path / "moved")  # the whole folder can be
    agree(as_analyst(f"{tmp_path}/moved/catalog.yaml", "alps", tmp_path), prediction)
    assert open_catalog(tmp_path / "moved/catalog.yaml")["alps"].read().sizes["time"] == 24


def test_a_published_prediction_is_read_by_intake_alone_over_http(prediction, tmp_path):
    put(prediction, tmp_path / "shop/deep/alps.zarr", tmp_path / "shop/catalog.yaml")
    with servers.files(tmp_path / "shop") as address:
        agree(as_analyst(f"{address}/catalog.yaml", "alps", tmp_path), prediction)
        found = open_catalog(f"{address}/catalog.yaml")["alps"].read()
        assert found["lai"].shape == prediction["lai"].shape


def test_a_published_prediction_is_read_by_intake_alone_from_s3(prediction, tmp_path):
    with servers.s3() as (_, environment):
        fsspec.filesystem("s3").mkdir("published")
        put(prediction, "s3://published/shop/alps.zarr", "s3://published/shop/catalog.yaml")
        put(
            prediction[["lai"]], "s3://published/other/lai.zarr", "s3://published/shop/catalog.yaml"
        )
        said = as_analyst("s3://published/shop/catalog.yaml", "alps", tmp_path, **environment)
        agree(said, prediction)
        text = fsspec.filesystem("s3").cat("published/shop/catalog.yaml").decode()
        assert list(open_catalog("s3://published/shop/catalog.yaml")) == ["alps", "lai"]
        assert fsspec.filesystem("s3").cat("published/shop/alps.zarr.png")[:4] == b"\x89PNG"
    assert "{{ CATALOG_DIR }}/alps.zarr" in text
    assert "s3://published/other/lai.zarr" in text
    assert environment["AWS_SECRET_ACCESS_KEY"] not in text


def test_entries_stay_and_one_of_the_same_name_is_replaced(small, tmp_path):
    catalog = tmp_path / "catalog.yaml"
    put(small, tmp_path / "a.zarr", catalog)
    put(small, tmp_path / "b.zarr", catalog)
    put(small.assign_attrs(title="new"), tmp_path / "c.zarr", catalog, name="a")
    found = open_catalog(catalog)
    assert list(found) == ["a", "b"]
    assert found["a"].metadata["title"] == "new"
    assert found["b"].metadata["title"] == "heights"
    assert list(open_catalog(tmp_path / "catalog.v2.yaml")) == ["a", "b"]
    assert not list(tmp_path.glob(".catalog*"))


def test_the_same_call_again_changes_nothing(small, tmp_path):
    def state() -> dict[str, bytes]:
        return {str(p): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}

    put(small, tmp_path / "a.zarr", tmp_path / "catalog.yaml")
    before = state()
    put(small, tmp_path / "a.zarr", tmp_path / "catalog.yaml")
    assert state() == before


def test_a_catalog_of_someone_keeps_its_comment_and_its_entries(small, tmp_path):
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text(
        "# Ours since 2019.\n# Ask Ada.\nname: ours\nmetadata: {version: 1, funding: none}\n"
        "sources:\n  old: {driver: some_driver, args: {urlpath: 'x-{{ y }}', deep: [1, {b: 2}]}}\n"
    )
    put(small, tmp_path / "a.zarr", catalog)
    text = catalog.read_text()
    assert text.startswith("# Ours since 2019.\n# Ask Ada.\n")
    data = yaml.safe_load(text)
    assert data["name"] == "ours"
    assert data["metadata"]["funding"] == "none"
    assert data["sources"]["old"]["args"] == {"urlpath": "x-{{ y }}", "deep": [1, {"b": 2}]}
    second = yaml.safe_load((tmp_path / "catalog.v2.yaml").read_text())
    assert second["metadata"]["left_out"] == ["old"]


@pytest.mark.parametrize(
    "text",
    ["", "sources: [1, 2", "version: 2\nentries: {}\n", "words", "sources: []\n", "a: &a [*a]"],
)
def test_a_damaged_catalog_is_refused_before_anything_is_computed(
    small, tmp_path, text, no_compute
):
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text(text)
    with pytest.raises(SourceError, match="left as it is"):
        put(small.chunk(), tmp_path / "a.zarr", catalog)
    assert catalog.read_text() == text
    assert [path.name for path in tmp_path.iterdir()] == ["catalog.yaml"]


def test_a_file_in_the_place_of_the_twin_is_not_overwritten(small, tmp_path):
    (tmp_path / "catalog.v2.yaml").write_text("mine")
    with pytest.raises(SourceError, match="is not the twin"):
        put(small, tmp_path / "a.zarr", tmp_path / "catalog.yaml")
    assert (tmp_path / "catalog.v2.yaml").read_text() == "mine"


def test_an_interrupted_edit_leaves_the_old_catalog(small, tmp_path, monkeypatch):
    catalog = tmp_path / "catalog.yaml"
    put(small, tmp_path / "a.zarr", catalog)
    before = catalog.read_bytes()

    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: full(Path(), Path()))
        with pytest.raises(OSError, match="No space"):
            put(small, tmp_path / "a.zarr", catalog, name="b")
    assert catalog.read_bytes() == before
    assert not list(tmp_path.glob(".catalog*"))


@pytest.mark.parametrize("name", ["", "a b", "../a", "{{ x }}", "ä/b", "a\nb"])
def test_a_name_that_is_none_is_refused(small, tmp_path, name):
    with pytest.raises(SourceError, match="an entry is named by"):
        put(small, tmp_path / f"x/{name or ' '}.zarr", tmp_path / "catalog.yaml", name=name or " ")


@pytest.mark.parametrize(
    "options",
    [
        {"key": "AKIA", "secret": "x"},
        {"token": "ya29.x"},
        {"client_kwargs": {"aws_session_token": "x"}},
        {"account_key": "x"},
    ],
)
def test_a_catalog_holds_no_secret(small, tmp_path, options):
    with pytest.raises(SourceError, match="must not hold"):
        put(small, tmp_path / "a.zarr", tmp_path / "catalog.yaml", storage_options=options)
    assert not (tmp_path / "catalog.yaml").exists()


def test_how_others_reach_the_store_is_in_the_catalog(small, tmp_path):
    put(small, tmp_path / "a.zarr", tmp_path / "c.yaml", storage_options={"anon": True})
    entry = yaml.safe_load((tmp_path / "c.yaml").read_text())["sources"]["a"]
    assert entry["args"]["storage_options"] == {"anon": True}


def test_an_attribute_that_is_a_template_is_run_by_no_reader(small, tmp_path):
    canary = tmp_path / "canary"
    evil = f"{{{{ cycler.__init__.__globals__.os.system('touch {canary}') }}}}"
    hostile = small.assign_attrs(title=evil, history="data(a)", source="{% for x in y %}", a="{{{{")
    put(hostile, tmp_path / "a.zarr", tmp_path / "c.yaml")
    said = subprocess.run(
        [
            sys.executable,
            "-c",
            "import intake, sys\n"
            "for url in sys.argv[1:]: print(intake.open_catalog(url)['a'].read())",
            str(tmp_path / "c.yaml"),
            str(tmp_path / "c.v2.yaml"),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert said.returncode == 0, said.stderr
    assert not canary.exists()
    assert open_catalog(tmp_path / "c.yaml")["a"].metadata["title"].startswith("{ { cycler")


def test_the_picture_reads_few_pixels(tmp_path):

    read: list[int] = []

    def block(block_info=None):
        read.append(1)
        return np.ones((1, 100, 100), "float32")

    tiles = (100,) * 12
    lai = da.map_blocks(block, chunks=((1,) * 24, tiles, tiles), meta=np.array((), "float32"))
    axes = {"latitude": 50 - np.arange(1200) / 120, "longitude": 7 + np.arange(1200) / 120}
    times = np.arange("2001-01", "2003-01", dtype="datetime64[M]").astype("datetime64[ns]")
    ds = xr.Dataset({"lai": (("time", "latitude", "longitude"), lai)}, {"time": times, **axes})
    png = preview(ds)
    assert png is not None
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert len(read) <= 144  # one of 24 steps


def test_what_is_no_map_has_no_picture(tmp_path):
    series = xr.Dataset({"co2": ("year", [400.0, 401.0])}, {"year": [2014, 2015]})
    put(series, tmp_path / "co2.zarr", tmp_path / "c.yaml")
    metadata = open_catalog(tmp_path / "c.yaml")["co2"].metadata
    assert "preview" not in metadata
    assert metadata["period"] == ["2014-01-01", "2015-12-31"]
    assert not (tmp_path / "co2.zarr.png").exists()


@pytest.mark.parametrize("name", ["lai", "lc_fraction", "lu_fraction"])
def test_every_kind_of_product_has_a_picture(prediction, tmp_path, name):
    put(prediction[[name]], tmp_path / f"{name}.zarr", tmp_path / "c.yaml")
    assert (tmp_path / f"{name}.zarr.png").read_bytes()[:4] == b"\x89PNG"


def test_a_store_elsewhere_is_named_by_its_whole_place():
    assert located("/data/b/x.zarr", "/data/b/c.yaml") == "{{ CATALOG_DIR }}/x.zarr"
    assert located("/data/x.zarr", "/data/b/c.yaml") == "/data/x.zarr"
    assert located("/data/bb/x.zarr", "/data/b/c.yaml") == "/data/bb/x.zarr"


@pytest.fixture
def places(corner, untrained, tmp_path) -> dict[str, str]:
    corner.lsbc.write(str(tmp_path / "cube.zarr"), progress=False, packed=False)
    untrained(corner).save(str(tmp_path / "emulator"))
    return {"cube": str(tmp_path / "cube.zarr"), "emulator": str(tmp_path / "emulator")}


def test_an_emulated_entry_is_the_prediction_and_computes_nothing(places, no_compute):
    entry = open_catalog("emulated")["quickstart"](**places, period=[2001], targets=["lai"])
    for ds in (entry.to_dask(), entry.read()):
        assert list(ds.data_vars) == ["lai"]
        assert dict(ds.sizes) == {"time": 12, "latitude": 11, "longitude": 14}
        assert ds["lai"].chunks
    assert entry.discover()["metadata"]["data_vars"]["lai"] == ["time", "latitude", "longitude"]


def test_an_emulated_entry_has_the_values_of_predict(places, corner):
    found = open_catalog("emulated")["leaf_area_index"](**places).read()
    expected = corner.lsbc.predict(places["emulator"], targets=["lai"])
    xr.testing.assert_allclose(found["lai"].compute(), expected["lai"].compute())


def test_an_emulated_entry_of_version_two_is_the_same(places, tmp_path, no_compute):
    root = Path(__file__).parents[1] / "catalogs"
    entry = open_catalog(root / "catalog.v2.yaml")["emulated"].read()["quickstart"]
    xr.testing.assert_equal(
        entry(**places, period=[2000, 2001]).read().time.to_dataset(name="t"),
        emulated(**places).time.to_dataset(name="t"),
    )


def test_an_emulated_entry_of_nothing_says_what_is_missing(tmp_path):
    with pytest.raises(CubeError, match="not a Zarr store"):
        emulated(str(tmp_path / "none.zarr"), str(tmp_path))
    with pytest.raises(EmulatorError, match="first and the last year"):
        emulated("a", "b", period=[2001, 2000])
