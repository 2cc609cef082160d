from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from tests.oracles import Drawn
from xlsbc.cube.vocabulary import attributes
from xlsbc.emulator import InputVariable, Lattice, Spec
from xlsbc.errors import TrainingError
from xlsbc.training import windows
from xlsbc.training.moments import Moments
from xlsbc.training.reader import Reader
from xlsbc.training.splits import BUFFER, HELD_OUT, TRAIN, VALIDATION
from xlsbc.training.survey import Survey, surveyed
from xlsbc.training.windows import windows_of

ROWS, COLUMNS, CROP = 37, 53, 6
ELEVATION = InputVariable(name="elevation", units="m")
CONDUCTIVITY = InputVariable(
    name="soil_hydraulic_conductivity", units="m s-1", transform="log", optional=True
)
NINE = 1e-8  # variances are told to nine digits


def shares(random: np.random.Generator, classes: int) -> np.ndarray:
    values = random.dirichlet(np.ones(classes), (3, ROWS, COLUMNS)).transpose(0, 3, 1, 2)
    values[:, :, random.random((ROWS, COLUMNS)) < 0.1] = np.nan
    return values


@pytest.fixture(scope="module")
def cube() -> xr.Dataset:
    """37 x 53 pixels of one degree under cells of four, three years, gaps in all.

    A pixel in the south is more than twice as large as one in the north.
    """
    random = np.random.default_rng(3)
    time = pd.date_range("2000-01-01", periods=36, freq="MS")
    elevation = random.normal(500, 300, (ROWS, COLUMNS))
    elevation[random.random(elevation.shape) < 0.1] = np.nan
    conductivity = 1e-6 * np.exp(random.normal(0, 2, (ROWS, COLUMNS)))
    conductivity[random.random(elevation.shape) < 0.2] = 0
    lai = random.uniform(0, 6, (36, ROWS, COLUMNS))
    lai[random.random(lai.shape) < 0.2] = np.nan
    fields = {
        "elevation": (("latitude", "longitude"), elevation),
        "soil_hydraulic_conductivity": (("latitude", "longitude"), conductivity),
        "t2m": (
            ("forcing_time", "forcing_latitude", "forcing_longitude"),
            random.normal(280, 10, (36, 12, 16)),
        ),
        "co2": (("year",), np.array([3.69e-4, 3.71e-4, 3.79e-4])),
        "lu_fraction": (("year", "lu_class", "latitude", "longitude"), shares(random, 13)),
        "lc_fraction": (("year", "lc_class", "latitude", "longitude"), shares(random, 14)),
        "lai": (("time", "latitude", "longitude"), lai),
    }
    coords = {
        "latitude": 69.5 - np.arange(ROWS),
        "longitude": 10.5 + np.arange(COLUMNS),
        "forcing_latitude": 72.0 - 4 * np.arange(12),
        "forcing_longitude": 8.0 + 4 * np.arange(16),
        "forcing_time": time,
        "time": time,
        "year": [2000, 2001, 2002],
    }
    return xr.Dataset(
        {k: (dims, v.astype("float32"), attributes(k)) for k, (dims, v) in fields.items()}, coords
    )


@pytest.fixture(scope="module")
def parts() -> np.ndarray:
    """All uses, and nothing to train in the east."""
    found = np.full((ROWS, COLUMNS), TRAIN, np.int8)
    found[10:20, 15:30] = BUFFER
    found[12:18, 17:28] = HELD_OUT
    found[25:32, 3:11] = VALIDATION
    found[:, 41:] = HELD_OUT
    return found


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of 20 pixels."""
    monkeypatch.setattr(windows, "SIDE", 20)
    monkeypatch.setattr(windows, "WITHOUT_CHUNKS", 10)


def spec(**changes: Any) -> Spec:
    return Spec(
        **{
            "static": (ELEVATION, CONDUCTIVITY),
            "forcing": (InputVariable(name="t2m", units="K"),),
            "scalars": (InputVariable(name="co2", units="1"),),
            "targets": ("lu_fraction", "lc_fraction", "lai"),
            "given": ((), ("lc_fraction",)),
            "steps": tuple((month, 1) for month in range(1, 13)),
            "lattice": Lattice(dlat=1.0, dlon=1.0),
            **changes,
        }
    )


def found(cube: xr.Dataset, parts: np.ndarray, *held_out: int, **changes: Any) -> Survey:
    return surveyed(cube, spec(**changes), Drawn(parts, held_out), CROP)[1]


def assert_same(one: Survey, other: Survey) -> None:
    """Equal to the last bit, in all that a training takes from it."""
    assert one.scaled(spec()) == other.scaled(spec())
    for field in dataclasses.fields(one):
        if field.name not in ("inputs", "crops", "labels"):
            np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))
    for part, counts in one.crops.items():
        np.testing.assert_array_equal(counts.any((2, 3)), other.crops[part].any((2, 3)))
    for part, pixels in one.labels.items():
        np.testing.assert_array_equal(pixels.sum((2, 3)), other.labels[part].sum((2, 3)))


def usable(cube: xr.Dataset, chosen: np.ndarray) -> np.ndarray:
    """Which pixels can train, by year and by what is given, nothing or land cover."""
    lai = cube["lai"].notnull().groupby("time.year").any().to_numpy()
    lu, lc = (cube[f"{n}_fraction"][:, 0].notnull().to_numpy() for n in ("lu", "lc"))
    here = chosen & cube["elevation"].notnull().to_numpy()
    return np.stack([lai | lu | lc, (lai | lu) & lc], axis=1) & here


def test_static_moments_are_those_of_training_pixels_in_double_precision(cube, parts):
    inputs = found(cube, parts).inputs
    values = cube["elevation"].to_numpy()[parts == TRAIN].astype(float)
    conductivity = cube["soil_hydraulic_conductivity"].to_numpy()[parts == TRAIN].astype(float)
    for name, known in (
        ("elevation", values[np.isfinite(values)]),
        ("soil_hydraulic_conductivity", np.log(conductivity[conductivity > 0])),
    ):
        assert inputs[name].count == known.size
        assert inputs[name].mean == pytest.approx(known.mean(), rel=1e-12)
        assert inputs[name].variance == pytest.approx(known.var(), rel=NINE)


def test_coordinates_have_the_moments_of_training_pixels(cube, parts):
    position = (
        InputVariable(name="latitude", units="degrees_north"),
        InputVariable(name="longitude", units="degrees_east"),
    )
    inputs = found(cube, parts, static=position).inputs
    y, x = np.nonzero(parts == TRAIN)
    assert inputs["latitude"].mean == pytest.approx((69.5 - y).mean(), rel=1e-12)
    assert inputs["longitude"].variance == pytest.approx((10.5 + x).var(), rel=NINE)


def test_weather_has_the_moments_of_the_cells_and_steps_that_training_sees(cube, parts):
    able = usable(cube, parts == TRAIN).any((0, 1))
    y, x = np.nonzero(able)
    seen = np.zeros((12, 16), bool)
    seen[
        np.rint((72.0 - (69.5 - y)) / 4).astype(int), np.rint((10.5 + x - 8.0) / 4).astype(int)
    ] = 1
    values = cube["t2m"].to_numpy().astype(float)[:24, seen]
    moments = found(cube, parts, 2002).inputs["t2m"]
    assert 30 < seen.sum() < 150
    assert moments.count == values.size
    assert moments.mean == pytest.approx(values.mean(), rel=1e-12)
    assert moments.variance == pytest.approx(values.var(), rel=NINE)


def test_numbers_of_the_year_have_the_moments_of_the_years_that_train(cube, parts):
    moments = found(cube, parts, 2002).inputs["co2"]
    values = cube["co2"].to_numpy().astype(float)[:2]
    assert moments.mean == pytest.approx(values.mean(), rel=1e-12)
    assert moments.variance == pytest.approx(values.var(), rel=1e-6)  # digits lost to the mean


def test_weather_is_summed_in_parts_that_change_nothing(cube, parts, monkeypatch):
    whole = found(cube, parts).inputs["t2m"]
    monkeypatch.setattr("xlsbc.training.survey.VALUES", 300)
    apart = found(cube, parts).inputs["t2m"]
    assert (apart.count, apart.rounded, apart.variance) == (
        whole.count,
        whole.rounded,
        whole.variance,
    )


def test_the_spread_of_leaves_is_that_of_training_pixels_and_of_their_changes_in_a_year(
    cube, parts
):
    survey = found(cube, parts, 2002)
    lai = cube["lai"].to_numpy().astype(float)[:24][:, parts == TRAIN]
    changes = np.diff(lai.reshape(2, 12, -1), axis=1)
    assert survey.lai_variance == pytest.approx(np.nanvar(lai), rel=1e-8)
    assert survey.lai_change == pytest.approx(np.nanvar(changes), rel=1e-6)  # of float32


def test_shares_of_classes_are_weighted_by_area(cube, parts):
    survey = found(cube, parts, 2002)
    edges = np.deg2rad(70.0 - np.arange(ROWS + 1))
    area = (np.sin(edges[:-1]) - np.sin(edges[1:]))[:, None] * (parts == TRAIN)
    for name, share in (("lu_fraction", survey.lu_share), ("lc_fraction", survey.lc_share)):
        values = cube[name].to_numpy().astype(float)[:2]
        expected = np.nansum(values * area, axis=(0, 2, 3))
        assert share is not None
        np.testing.assert_allclose(share, expected / expected.sum(), rtol=1e-6)


def test_what_is_labelled_is_told_as_a_share_of_training_pixels_and_steps(cube, parts):
    survey = found(cube, parts, 2002)
    chosen = parts == TRAIN
    known = np.isfinite(cube["lai"].to_numpy()[:24][:, chosen]).mean()
    assert survey.present["lai"] == pytest.approx(known, rel=1e-12)
    known = np.isfinite(cube["lu_fraction"].to_numpy()[:2, 0][:, chosen]).mean()
    assert survey.present["lu_fraction"] == pytest.approx(known, rel=1e-12)


def test_a_cube_of_leaves_alone_has_no_shares_of_classes(cube, parts):
    survey = found(cube, parts, targets=("lai",), given=((),))
    assert survey.lu_share is None
    assert survey.lc_share is None
    assert set(survey.present) == {"lai"}


def test_a_target_that_is_there_and_never_known_is_refused(cube, parts):
    empty = cube.assign(lu_fraction=cube["lu_fraction"] * np.nan)
    with pytest.raises(TrainingError, match="lu_fraction has no label at any training pixel"):
        found(empty, parts)


def test_a_required_input_that_is_known_nowhere_is_named(cube, parts):
    with pytest.raises(TrainingError, match="elevation is known at no training pixel"):
        found(cube.assign(elevation=cube["elevation"] * np.nan), parts)


def test_leaves_that_are_zero_everywhere_have_a_spread_to_divide_by(cube, parts):
    survey = found(cube.assign(lai=cube["lai"] * 0), parts)
    assert survey.lai_variance == survey.lai_change == 1e-4


def test_crops_are_counted_where_pixels_can_train_and_nowhere_else(cube, parts):
    survey = found(cube, parts)
    cut = windows_of(Reader(cube, spec()).grid, CROP, None)
    rows, columns = cut.rows.segments, cut.columns.segments
    assert (len(rows), len(columns)) == (5, 7)
    for part in (TRAIN, VALIDATION):
        able = usable(cube, parts == part)
        expected = np.zeros(survey.crops[part].shape, int)
        pixels = np.zeros_like(expected)
        for i, j in np.ndindex(len(rows) - 1, len(columns) - 1):
            here = able[..., rows[i] : rows[i + 1], columns[j] : columns[j + 1]]
            pixels[..., i, j] = here.sum((2, 3))
            for top in range(0, here.shape[2], CROP):
                for left in range(0, here.shape[3], CROP):
                    crop = here[..., top : top + CROP, left : left + CROP]
                    expected[..., i, j] += crop.any((2, 3))
        np.testing.assert_array_equal(survey.crops[part], expected)
        np.testing.assert_array_equal(survey.labels[part], pixels)
        assert expected.any()


def test_what_is_held_out_does_not_bear_on_anything(cube, parts):
    other = cube.copy(deep=True)
    never = np.isin(parts, (HELD_OUT, BUFFER))
    for name in ("elevation", "soil_hydraulic_conductivity", "lai"):
        other[name] = other[name].where(~xr.DataArray(never, dims=("latitude", "longitude")), 1e30)
    for name in ("lu_fraction", "lc_fraction"):
        other[name].data[..., never] = 0
        other[name].data[:, 2, never] = 1
    for name in ("lai", "t2m"):
        other[name][24:] = -1e30
    for name in ("lu_fraction", "lc_fraction"):
        other[name][2] = np.nan
    other["co2"][2] = 1e30
    assert_same(found(cube, parts, 2002), found(other, parts, 2002))


def stored(cube: xr.Dataset, path: Path, rows: int, columns: int, steps: int) -> xr.Dataset:
    chunks = {"latitude": rows, "longitude": columns, "time": steps, "forcing_time": steps}
    sizes = {
        name: {"chunks": tuple(min(chunks.get(str(d), 2), cube.sizes[d]) for d in field.dims)}
        for name, field in cube.data_vars.items()
    }
    cube.drop_encoding().to_zarr(path, encoding=sizes, zarr_format=2)
    return xr.open_zarr(path, consolidated=False, chunks=None)


@pytest.mark.parametrize("chunks", [(7, 9, 5), (20, 20, 12), (64, 64, 48), (1, 53, 36)])
def test_a_store_gives_the_same_survey_however_it_is_chunked(cube, parts, tmp_path, chunks):
    lazy = stored(cube, tmp_path / "cube.zarr", *chunks)
    assert_same(found(lazy, parts), found(cube, parts))


@settings(max_examples=12)
@drawn(rows=st.integers(3, 40), columns=st.integers(3, 60), threads=st.sampled_from([1, 3]))
def test_a_dask_array_gives_the_same_survey_however_it_is_chunked(
    cube, parts, rows, columns, threads
):
    lazy = cube.chunk({"latitude": rows, "longitude": columns, "time": 12})
    survey = surveyed(lazy, spec(), Drawn(parts), CROP, threads=threads)[1]
    assert_same(survey, found(cube, parts))


def test_a_window_without_a_pixel_that_trains_or_validates_is_never_read(
    cube, parts, tmp_path, monkeypatch
):
    lazy = stored(cube, tmp_path / "cube.zarr", 10, 10, 12)
    boxes = []
    original = Reader.load

    def counting(self: Reader, name: str, box: Any) -> np.ndarray:
        boxes.append((name, *box))
        return original(self, name, box)

    monkeypatch.setattr(Reader, "load", counting)
    alone = parts.copy()
    alone[:, 20:] = HELD_OUT
    found(lazy, alone)
    fine = [box for name, *box in boxes if name in ("elevation", "lai", "lc_fraction")]
    assert fine
    assert max(columns.stop for *_, columns in fine) <= 20


def test_each_chunk_is_read_once(cube, parts, tmp_path, monkeypatch):
    lazy = stored(cube, tmp_path / "cube.zarr", 10, 10, 12)
    seen = np.zeros(cube["lai"].shape, int)
    original = Reader.load

    def counting(self: Reader, name: str, box: Any) -> np.ndarray:
        if name == "lai":
            seen[tuple(box)] += 1
        return original(self, name, box)

    monkeypatch.setattr(Reader, "load", counting)
    found(lazy, parts)
    assert seen.max() == 1
    assert seen[:, parts == TRAIN].min() == 1


@pytest.mark.parametrize("lost", ["label", "input", "part"])
def test_nothing_to_train_on_is_an_error(cube, parts, lost):
    if lost == "label":
        names = ("lai", "lu_fraction", "lc_fraction")
        cube = cube.assign({name: cube[name] * np.nan for name in names})
    elif lost == "input":
        cube = cube.assign(elevation=cube["elevation"] * np.nan)
    else:
        parts = np.where(parts == TRAIN, BUFFER, parts)
    with pytest.raises(TrainingError, match="no training pixel has a label and all required inp"):
        found(cube, parts)


def test_no_year_to_train_on_is_an_error(cube, parts):
    with pytest.raises(TrainingError, match="no year can be trained on"):
        found(cube, parts, 2000, 2001, 2002)


def test_progress_rises_to_the_whole(cube, parts):
    shares: list[float] = []
    surveyed(cube, spec(), Drawn(parts), CROP, progress=shares.append)
    assert shares == sorted(shares)
    assert len(shares) == 6
    assert shares[-1] == 1.0


def test_inputs_that_do_not_vary_or_are_never_known_are_left_out(cube, parts):
    flat = cube.assign(
        co2=cube["co2"] * 0 + 3.7e-4,
        soil_hydraulic_conductivity=cube["soil_hydraulic_conductivity"] * np.nan,
    )
    scaled, _ = surveyed(flat, spec(), Drawn(parts), CROP)
    assert [v.name for v in scaled.inputs] == ["elevation", "t2m"]


@drawn(
    values=st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=40),
    cut=st.integers(0, 40),
    gap=st.booleans(),
)
def test_moments_of_parts_merge_to_those_of_the_whole(values, cut, gap):
    array = np.array(values + [np.nan] * gap, "float32")
    merged = Moments.of(array[:cut]) + Moments.of(array[cut:])
    known = array[np.isfinite(array)].astype(float)
    assert merged.count == known.size
    assert merged.mean == pytest.approx(known.mean(), rel=1e-9, abs=1e-9)
    assert merged.squares == pytest.approx(
        np.square(known - known.mean()).sum(), rel=1e-6, abs=1e-3
    )


def test_moments_of_nothing_are_not_a_number():
    nothing = Moments.of(np.array([np.nan]))
    assert np.isnan(nothing.variance)
    assert np.isnan(nothing.rounded)
    assert nothing + Moments(1, 2.0, 0.0) == Moments(1, 2.0, 0.0)


def test_columns_of_a_globe_are_counted_once():
    random = np.random.default_rng(0)
    values = random.uniform(0, 6, (12, 18, 36)).astype("float32")
    cube = xr.Dataset(
        {
            "lai": (("time", "latitude", "longitude"), values, attributes("lai")),
            "elevation": (("latitude", "longitude"), values[0], attributes("elevation")),
        },
        {
            "time": pd.date_range("2000-01-01", periods=12, freq="MS"),
            "latitude": 85.0 - 10 * np.arange(18),
            "longitude": -175.0 + 10 * np.arange(36),
        },
    )
    options = {"forcing": (), "scalars": (), "history": 1, "targets": ("lai",), "given": ((),)}
    taken = spec(static=(ELEVATION,), **options)
    survey = surveyed(cube, taken, Drawn(np.zeros((18, 36), np.int8)), CROP)[1]
    assert survey.inputs["elevation"].count == 18 * 36
    assert survey.lai_variance == pytest.approx(values.astype(float).var(), rel=1e-8)
