"""Recipes through Beam's direct runner: from files to a store, and what is wrong with files."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from tests import servers
from xlsbc.cube import forge
from xlsbc.cube.forge import BRIDGED, bridge
from xlsbc.cube.store.writer import verify
from xlsbc.errors import LsbcError, SourceError, SourceWarning

from .conftest import CHUNKS, bake, decode, recipe, weather, year


def test_a_recipe_builds_a_complete_store(archive, tmp_path):
    files = archive(*(weather(year(y)) for y in (2000, 2001)))
    bake(files, tmp_path / "a.zarr")

    store = xr.open_zarr(tmp_path / "a.zarr")
    months = np.concatenate([year(2000), year(2001)])
    xr.testing.assert_equal(store, decode(weather(months)))
    assert store.attrs["xlsbc_complete"]
    assert store.attrs["xlsbc_recipe"].startswith("a.zarr ")
    assert store.attrs["date_accessed"] > "2026"
    assert verify(str(tmp_path / "a.zarr"), progress=False)


def test_a_recipe_run_again_does_nothing(archive, tmp_path):
    files = archive(weather(year(2000)))
    bake(files, tmp_path / "a.zarr")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "a.zarr").rglob("*")}
    bake(files, tmp_path / "a.zarr")

    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "a.zarr").rglob("*")} == before


def test_a_recipe_appends_what_came_since(archive, tmp_path):
    files = archive(weather(year(2000)))
    bake(files, tmp_path / "a.zarr")
    files += archive(weather(year(2001)))
    bake(files, tmp_path / "a.zarr", append_dim="forcing_time")

    months = np.concatenate([year(2000), year(2001)])
    xr.testing.assert_equal(xr.open_zarr(tmp_path / "a.zarr"), decode(weather(months)))


def test_inputs_are_cached_once(archive, tmp_path):
    import apache_beam as beam

    files = archive(weather(year(2000)))
    pattern = forge.pattern_from_file_sequence(files, "file", file_type="unknown")
    built = (
        beam.Create(pattern.items())
        | forge.OpenURLWithFSSpec(cache=str(tmp_path / "cache"))
        | forge.OpenWithXarray(file_type=pattern.file_type)
        | forge.Conform(decode)
        | forge.StoreToZarr(
            combine_dims=[], store_name="a.zarr", target_root=str(tmp_path), target_chunks=CHUNKS
        )
    )
    with beam.Pipeline(runner="DirectRunner") as pipeline:
        pipeline | built

    (cached,) = (tmp_path / "cache").iterdir()
    assert cached.read_bytes() == Path(files[0]).read_bytes()
    xr.testing.assert_equal(xr.open_zarr(tmp_path / "a.zarr"), decode(weather(year(2000))))


def test_files_that_take_turns_are_all_there(archive, tmp_path):
    import apache_beam as beam

    files = archive(*(weather(year(y)) for y in (2000, 2001, 2002)))
    pattern = forge.pattern_from_file_sequence(files, "file", file_type="unknown")
    built = (
        beam.Create(pattern.items())
        | forge.OpenURLWithFSSpec(max_concurrency=2)
        | forge.OpenWithXarray(file_type=pattern.file_type)
        | forge.Conform(decode)
        | forge.StoreToZarr(combine_dims=[], store_name="a.zarr", target_root=str(tmp_path))
    )
    with beam.Pipeline(runner="DirectRunner") as pipeline:
        pipeline | built

    assert xr.open_zarr(tmp_path / "a.zarr").sizes["forcing_time"] == 36


def test_the_name_of_a_file_says_nothing_of_what_it_is(archive, tmp_path):
    (file,) = archive(weather(year(2000)))
    liar = Path(file).rename(Path(file).with_suffix(".grib"))
    bake([str(liar)], tmp_path / "a.zarr")

    assert xr.open_zarr(tmp_path / "a.zarr").sizes["forcing_time"] == 12


def zipped(path: Path) -> None:
    content = path.read_bytes()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("inside.nc", content)


DAMAGES = {
    "cut in half": (lambda p: p.write_bytes(p.read_bytes()[:-4000]), "expected a whole file"),
    "empty": (lambda p: p.write_bytes(b""), "found no bytes"),
    "a zip archive": (zipped, "found a zip archive; unzip it"),
    "a web page": (lambda p: p.write_text("<!DOCTYPE html><p>Please log in"), "found a web page"),
    "noise": (lambda p: p.write_bytes(bytes(range(256))), "found bytes that begin with"),
    "gone": (lambda p: p.unlink(), "found nothing"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_that_cannot_be_used_is_named(archive, tmp_path, damage):
    files = archive(weather(year(2000)), weather(year(2001)))
    spoil, said = DAMAGES[damage]
    spoil(Path(files[1]))

    with pytest.raises(SourceError, match=f"{Path(files[1]).name}.*{said}") as caught:
        bake(files, tmp_path / "a.zarr")
    assert "while running" not in str(caught.value)
    with pytest.raises(FileNotFoundError):
        xr.open_zarr(tmp_path / "a.zarr")


def test_what_a_decoder_does_not_expect_names_the_file(archive, tmp_path):
    files = archive(weather(year(2000)))

    def other(ds: xr.Dataset) -> xr.Dataset:
        return ds["not_there"]

    with pytest.raises(SourceError, match=r"w99\.nc: other gave up: KeyError"):
        bake(files, tmp_path / "a.zarr", decode=other)


def test_no_file_at_all_is_an_error_that_says_where_to_look(tmp_path):
    with pytest.raises(SourceError, match="no file was found"):
        bake([], tmp_path / "a.zarr")


def test_a_gap_warns_through_beam(archive, tmp_path):
    files = archive(weather(year(2000)), weather(year(2001)[2:]))

    with pytest.warns(SourceWarning, match="has gaps: 2001-01-01, 2001-02-01"):
        bake(files, tmp_path / "a.zarr")


def test_a_recipe_reads_from_and_writes_to_object_storage(archive, monkeypatch):
    import boto3

    with servers.s3():
        client = boto3.client("s3")
        client.create_bucket(Bucket="forge-recipes")
        for i, file in enumerate(archive(weather(year(2000)), weather(year(2001)))):
            client.upload_file(file, "forge-recipes", f"raw/{i}.nc")
        monkeypatch.setenv("XLSBC_INPUT", "s3://forge-recipes/raw")
        pattern = forge.input_pattern("*.nc")
        files = [pattern[key] for key in pattern]
        assert files == ["s3://forge-recipes/raw/0.nc", "s3://forge-recipes/raw/1.nc"]
        bake(files, "s3://forge-recipes/cubes/a.zarr")

        store = xr.open_zarr("s3://forge-recipes/cubes/a.zarr")
        months = np.concatenate([year(2000), year(2001)])
        xr.testing.assert_equal(store.load(), decode(weather(months)))
        assert verify("s3://forge-recipes/cubes/a.zarr", progress=False)


def test_the_input_is_found_at_any_depth_pruned_and_selected(tmp_path, monkeypatch):
    for name in ("a/1.nc", "a/b/2.nc", "3.nc", "4.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.setenv("XLSBC_INPUT", str(tmp_path))

    def names(pattern: forge.FilePattern) -> list[str]:
        return [Path(path).name for _, path in pattern.items()]

    assert names(forge.input_pattern("*.nc")) == ["3.nc", "2.nc", "1.nc"] or names(
        forge.input_pattern("*.nc")
    ) == ["3.nc", "1.nc", "2.nc"]
    assert names(forge.input_pattern("*.nc", select=lambda urls: urls[-1:])) in (["1.nc"], ["2.nc"])
    monkeypatch.setenv("XLSBC_PRUNE", "2")
    assert len(names(forge.input_pattern("*.nc"))) == 2
    monkeypatch.setenv("XLSBC_INPUT", str(tmp_path / "4.txt"))
    assert names(forge.input_pattern("*.nc")) == ["4.txt"]
    monkeypatch.setenv("XLSBC_INPUT", str(tmp_path / "a"))
    with pytest.raises(SourceError, match=r"expected files named \*\.grib; found none"):
        forge.input_pattern("*.grib")


def test_names_in_capitals_and_with_brackets_are_found_and_what_is_left_is_told(
    tmp_path, monkeypatch
):
    (tmp_path / "data[1]" / "m**-2").mkdir(parents=True)
    for name in ("data[1]/A.NC", "data[1]/m**-2/b.nc", "data[1]/c.grb2", "data[1]/readme.md"):
        (tmp_path / name).touch()
    monkeypatch.setenv("XLSBC_INPUT", str(tmp_path / "data[1]"))

    with pytest.warns(SourceWarning, match=r"c\.grb2 are not taken; they are not called \*\.nc"):
        pattern = forge.input_pattern("*.nc")
    assert sorted(Path(path).name for _, path in pattern.items()) == ["A.NC", "b.nc"]


def test_a_chunk_that_cannot_be_read_names_its_file(tmp_path):
    packed = tmp_path / "packed.nc"
    encoding = {"field": {"zlib": True, "chunksizes": (12, 5, 7), "fletcher32": True}}
    weather(year(2000)).to_netcdf(packed, encoding=encoding)
    content = bytearray(packed.read_bytes())
    place = max(content.find(bytes([0x78, second])) for second in (0x01, 0x5E, 0x9C, 0xDA))
    content[place + 20 : place + 60] = bytes(40)
    packed.write_bytes(content)

    with pytest.raises(SourceError, match=r"packed\.nc, variable 't2m': expected values; found"):
        bake([str(packed)], tmp_path / "a.zarr")


def test_settings_that_cannot_be_read_are_all_named(monkeypatch):
    monkeypatch.setenv("XLSBC_PRUNE", "two")
    monkeypatch.setenv("XLSBC_REGION", "[1, 2, 3]")

    with pytest.raises(SourceError, match=r"\(1\) XLSBC_PRUNE: .*\(2\) XLSBC_REGION"):
        forge.input_pattern("*.nc")


def test_a_recipe_without_a_target_says_so(archive):
    import apache_beam as beam

    built = recipe(archive(weather(year(2000))), "x/a.zarr")
    store = forge.StoreToZarr(combine_dims=[], store_name="a.zarr")
    with pytest.raises(SourceError, match="pass --output, or let a runner inject"):
        beam.Pipeline() | (built._parts[0] | store)


def test_the_bridge_lets_the_librarys_own_transforms_write_zarr_3(archive, tmp_path):
    import apache_beam as beam
    from pangeo_forge_recipes import transforms as library

    if not BRIDGED:
        pytest.skip("the installed pangeo-forge-recipes writes Zarr 3 by itself")
    files = archive(weather(year(2001)), weather(year(2000)))[::-1]
    pattern = forge.pattern_from_file_sequence(files, "time")
    with beam.Pipeline(runner="DirectRunner") as pipeline:
        pipeline | (
            beam.Create(pattern.items())
            | library.OpenURLWithFSSpec()
            | library.OpenWithXarray(file_type=pattern.file_type)
            | library.StoreToZarr(
                store_name="plain.zarr",
                target_root=str(tmp_path),
                combine_dims=pattern.combine_dim_keys,
                target_chunks={"time": 6},
            )
        )

    assert zarr.open_group(tmp_path / "plain.zarr").metadata.zarr_format == 3
    plain = xr.open_zarr(tmp_path / "plain.zarr", consolidated=False)
    months = np.concatenate([year(2000), year(2001)])
    np.testing.assert_array_equal(plain.field, weather(months).field)
    np.testing.assert_array_equal(plain.time, months)


def test_a_release_that_imports_as_it_is_is_left_as_it_is(monkeypatch):
    monkeypatch.setattr("xlsbc.cube.forge.bridge.GONE", "open_array")  # a name that zarr has
    monkeypatch.delattr(zarr.storage, "FSStore", raising=False)

    assert not bridge.make_importable()


def test_without_beam_the_error_says_what_to_install(monkeypatch):
    def absent(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(bridge.importlib, "import_module", absent)
    with pytest.raises(LsbcError, match=r"apache_beam, .* pip install 'xlsbc\[recipes\]'"):
        bridge.make_importable()
