from __future__ import annotations

import dataclasses
import hashlib
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

from tests.oracles import Drawn
from xlsbc.cube.legends import LC
from xlsbc.cube.vocabulary import attributes
from xlsbc.emulator import InputVariable, Lattice, Spec
from xlsbc.errors import TrainingError
from xlsbc.models.temporal import sample, upsample
from xlsbc.training import windows
from xlsbc.training.batches import Batch, Batches
from xlsbc.training.splits import BUFFER, HELD_OUT, TRAIN, VALIDATION
from xlsbc.training.survey import surveyed

ROWS, COLUMNS = 37, 53
YEARS = (2000, 2001)
NOTHING: Any = {"targets": ("lai",), "given": ((),)}


def built(years: tuple[int, ...] = YEARS) -> xr.Dataset:
    """37 x 53 pixels of 0.1 degree; every number says where and when it belongs.

    Elevation is the number of the pixel, the leaf area index too, with 10,000 more for each month;
    the forcing, on cells of 0.7 degree, is its longitude; land cover is one-hot by column, one
    class further in each year.
    """
    count = len(years)
    number = np.arange(ROWS * COLUMNS, dtype="float32").reshape(ROWS, COLUMNS)
    months = np.arange(12 * count, dtype="float32")[:, None, None]
    one_hot = np.zeros((count, 14, ROWS, COLUMNS), "float32")
    for year in range(count):
        one_hot[year, (np.arange(COLUMNS) + year) % 14, :, np.arange(COLUMNS)] = 1
    east = 10.0 + 0.7 * np.arange(-1, 9)
    fields = {
        "elevation": (("latitude", "longitude"), number),
        "t2m": (
            ("forcing_time", "forcing_latitude", "forcing_longitude"),
            np.broadcast_to(east, (12 * count, 7, 10)).astype("float32"),
        ),
        "lc_fraction": (("year", "lc_class", "latitude", "longitude"), one_hot),
        "lai": (("time", "latitude", "longitude"), 1e4 * months + number),
    }
    time = pd.date_range(f"{years[0]}-01-01", periods=12 * count, freq="MS")
    coords = {
        "latitude": 47.95 - 0.1 * np.arange(ROWS),
        "longitude": 10.05 + 0.1 * np.arange(COLUMNS),
        "forcing_latitude": 48.5 - 0.7 * np.arange(7),
        "forcing_longitude": east,
        "forcing_time": time,
        "time": time,
        "year": list(years),
        "lc_class": LC.coordinate("lc_class"),
    }
    return xr.Dataset({k: (dims, v, attributes(k)) for k, (dims, v) in fields.items()}, coords)


@pytest.fixture
def cube() -> xr.Dataset:
    return built()


def drawn_split() -> np.ndarray:
    """A held-out block with a buffer in the middle, another in a corner, one for validation."""
    parts = np.full((ROWS, COLUMNS), TRAIN, np.int8)
    parts[10:20, 15:30] = BUFFER
    parts[12:18, 17:28] = HELD_OUT
    parts[30:, 45:] = HELD_OUT
    parts[24:30, 2:9] = VALIDATION
    return parts


SPLIT = drawn_split()
EVERYWHERE = np.full((ROWS, COLUMNS), TRAIN, np.int8)


def spec(**changes: Any) -> Spec:
    return Spec(
        **{
            "static": (InputVariable(name="elevation", units="m"),),
            "forcing": (InputVariable(name="t2m", units="K"),),
            "targets": ("lc_fraction", "lai"),
            "given": ((), ("lc_fraction",)),
            "steps": tuple((month, 1) for month in range(1, 13)),
            "lattice": Lattice(dlat=0.1, dlon=0.1),
            **changes,
        }
    )


def made(
    cube: xr.Dataset, split: np.ndarray = SPLIT, held_out: tuple[int, ...] = (), **changes: Any
) -> Batches:
    """Batches of inputs that are not scaled, so that a value says what it is."""
    options: dict[str, Any] = {"crop": 12, "size": 6, "pixels": 40, "margin": 2, "seed": 1}
    taken = changes.pop("spec", spec())
    options |= changes
    parts: Any = Drawn(split, held_out)
    _, survey = surveyed(cube, taken, parts, options["crop"])
    return Batches(cube, taken, parts, survey, **options)


def taken(batches: Batches, count: int, start: int = 0) -> Iterator[Batch]:
    stream = batches.batches(start)
    yield from islice(stream, count)
    stream.close()  # type: ignore[attr-defined]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of 20 pixels, so that the cube has six."""
    monkeypatch.setattr(windows, "SIDE", 20)
    monkeypatch.setattr(windows, "WITHOUT_CHUNKS", 10)


def at(field: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Channels of a field at the pixels of a batch, ``(batch, channel, pixel)``."""
    every = torch.arange(len(batch.y))[:, None]
    return field[every, :, batch.y, batch.x].transpose(1, 2)


def pooled(batch: Batch) -> torch.Tensor:
    """The weather of leaf-area steps, ``(batch, step, 1, coarse_y, coarse_x)``."""
    return torch.einsum("bts,bscyx->btcyx", batch.inputs.pooling, batch.inputs.forcing[:, :, :1])


def visited(batches: Batches, count: int) -> np.ndarray:
    """How often each pixel of the cube served."""
    numbers = [at(batch.inputs.static, batch)[:, 0].flatten() for batch in taken(batches, count)]
    drawn = torch.cat(numbers).long().numpy()
    return np.bincount(drawn, minlength=ROWS * COLUMNS).reshape(ROWS, COLUMNS)


def tensors(batch: Batch) -> dict[str, torch.Tensor]:
    """All tensors of a batch by name."""
    parts = {"inputs": batch.inputs, "labels": batch.labels}
    parts |= {f"lead {i}": inputs for i, inputs in enumerate(batch.lead)}
    found = {f"{n}.{k}": v for n, part in parts.items() for k, v in vars(part).items()}
    found |= {"y": batch.y, "x": batch.x, "area": batch.area}
    return {name: value for name, value in found.items() if value is not None}


def assert_same(one: Batch, other: Batch) -> None:
    """Equal to the last bit."""
    assert (one.step, one.given, one.places) == (other.step, other.given, other.places)
    first, second = tensors(one), tensors(other)
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], atol=0, rtol=0, equal_nan=True, msg=name)


def stored(cube: xr.Dataset, path: Path, side: int = 10) -> xr.Dataset:
    """The cube on disk, a year of it in a chunk."""
    chunks = {"latitude": side, "longitude": side, "time": 12, "forcing_time": 12, "year": 1}
    sizes = {
        name: {"chunks": tuple(chunks.get(str(d), cube.sizes[d]) for d in field.dims)}
        for name, field in cube.data_vars.items()
    }
    cube.drop_vars("lc_class").drop_encoding().to_zarr(path, encoding=sizes, zarr_format=2)
    return opened(path)


def opened(path: Path) -> xr.Dataset:
    return xr.open_zarr(path, consolidated=False, chunks=None)


def test_labels_and_inputs_of_a_pixel_belong_together(cube, small):
    for batch in taken(made(cube), 20):
        number = at(batch.inputs.static, batch)[:, 0]
        months = (batch.labels.lai - number[:, None]) / 1e4
        first = months[:, :1]
        assert set(first.unique().tolist()) <= {0, 12}
        torch.testing.assert_close(months, first + torch.arange(12)[:, None], atol=1e-3, rtol=0)
        column = number.long() % COLUMNS
        later = (first[:, 0] / 12).long()
        torch.testing.assert_close(batch.labels.lc.argmax(1), (column + later) % 14)


def test_a_pixel_lies_among_the_coarse_cells_where_its_longitude_says(cube, small):
    for batch in taken(made(cube), 10):
        places = batch.inputs.row.gather(1, batch.y), batch.inputs.column.gather(1, batch.x)
        weather = sample(pooled(batch), *places)
        number = at(batch.inputs.static, batch)[:, 0]
        longitude = 10.05 + 0.1 * (number % COLUMNS)
        expected = longitude[:, None, None].expand_as(weather)
        torch.testing.assert_close(weather, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("small_windows", [False, True])
def test_every_training_pixel_is_visited_and_no_other(cube, small_windows, request):
    if small_windows:
        request.getfixturevalue("small")
    counts = visited(made(cube), 400)
    np.testing.assert_array_equal(counts > 0, SPLIT == TRAIN)


def test_pixels_serve_alike_but_for_the_rim_of_the_cube_and_of_what_is_held_out(cube):
    counts = visited(made(cube), 400)
    inner = counts[3:8, 3:-3]  # more than a margin away from either
    assert inner.min() > 0.3 * inner.mean()


def test_pixels_on_the_rim_of_a_crop_are_seen_but_not_trained_on(cube, small):
    for batch in taken(made(cube, margin=4), 20):
        assert batch.inputs.static.shape[-2:] == (12, 12)
        for place in (batch.y, batch.x):
            assert 4 <= place.min() <= place.max() < 8


def test_a_pixel_on_the_edge_of_the_cube_has_missing_land_beside_it(cube):
    beside = 0
    for batch in taken(made(cube, EVERYWHERE), 40):
        numbers = at(batch.inputs.static, batch)[:, 0]
        for b, p in zip(*np.nonzero((numbers < COLUMNS).numpy()), strict=True):
            above = batch.inputs.static[b, :, batch.y[b, p] - 1, batch.x[b, p]]
            assert above.tolist() == [0, 0]
            beside += 1
    assert beside


def test_crops_are_mirrored_east_to_west_half_of_the_time(cube):
    steps = []
    for batch in taken(made(cube), 40):
        numbers = batch.inputs.static[:, 0]
        inside = (numbers[:, 6, 5] > 0) & (numbers[:, 6, 6] > 0)
        steps += (numbers[:, 6, 6] - numbers[:, 6, 5])[inside].tolist()
    assert set(steps) == {1, -1}
    assert 0.35 < np.mean(np.array(steps) > 0) < 0.65


def test_given_fractions_are_in_the_inputs_and_the_rest_of_the_time_are_not(cube):
    seen = set()
    for batch in taken(made(cube), 20):
        seen.add(batch.given)
        if batch.given:
            torch.testing.assert_close(at(batch.inputs.lc, batch), batch.labels.lc)
        else:
            assert batch.inputs.lc is None
        assert batch.inputs.lu is None
    assert seen == {(), ("lc_fraction",)}


def test_where_a_given_fraction_is_missing_nothing_is_learned_and_the_input_says_so(cube):
    cube["lc_fraction"][:, 3, :, 40:] = np.nan
    for batch in taken(made(cube, spec=spec(given=(("lc_fraction",),))), 30):
        column = at(batch.inputs.static, batch)[:, 0].long() % COLUMNS
        assert column.max() < 40
        number, valid = batch.inputs.static[:, 0].long(), batch.inputs.static[:, -1]
        assert (valid[(number > 0) & (number % COLUMNS >= 40)] == 0).all()
        assert (valid[(number > 0) & (number % COLUMNS < 40)] == 1).all()
        assert batch.inputs.lc.isfinite().all()


def test_labels_that_are_unknown_are_nan_and_pixels_without_any_are_not_drawn(cube):
    cube["lai"][:, :, :20] = np.nan
    cube["lc_fraction"][:, :, :, :30] = np.nan
    both = False
    for batch in taken(made(cube, spec=spec(given=((),))), 30):
        column = at(batch.inputs.static, batch)[:, 0].long() % COLUMNS
        assert column.min() >= 20
        without_cover = batch.labels.lc.isnan().all(1)
        torch.testing.assert_close(without_cover, column < 30)
        assert batch.labels.lai.isfinite().all()
        both |= bool(without_cover.any() and not without_cover.all())
    assert both


def test_one_labelled_pixel_in_a_large_cube_is_found(cube, small):
    lonely = cube.assign(lai=cube["lai"].where(cube["elevation"] == 100))
    counts = visited(made(lonely, spec=spec(**NOTHING), crop=6, margin=0), 60)
    assert counts.ravel().nonzero()[0].tolist() == [100]


def test_two_per_cent_of_the_pixels_are_all_visited(cube, small):
    labelled = np.random.default_rng(0).random((ROWS, COLUMNS)) < 0.02
    sparse = cube.assign(lai=cube["lai"].where(xr.DataArray(labelled, dims=cube["lai"].dims[1:])))
    counts = visited(made(sparse, spec=spec(**NOTHING)), 300)
    np.testing.assert_array_equal(counts > 0, labelled & (SPLIT == TRAIN))


def test_maps_in_one_of_three_years_are_labels_of_that_year_alone():
    cube = built((2000, 2001, 2002))
    rare = cube.assign(lc_fraction=cube["lc_fraction"].where(cube["year"] == 2001))
    known = {True: 0, False: 0}
    for batch in taken(made(rare), 40):
        year = (batch.labels.lai[:, 0] / 1.2e5).long()
        mapped = batch.labels.lc.isfinite().all(1)
        torch.testing.assert_close(mapped, year == 1)
        if batch.given:
            assert mapped.all()
        for value in mapped.flatten().tolist():
            known[value] += 1
    assert min(known.values()) > 100


def test_a_target_without_a_place_in_the_cube_is_no_label(cube):
    batch = next(taken(made(cube, spec=spec(**NOTHING)), 1))
    assert batch.labels.lc is None
    assert batch.labels.lu is None


@pytest.mark.parametrize("lost", ["lai", "elevation", "split"])
def test_no_pixel_with_label_and_input_that_may_train_is_an_error(cube, lost):
    split = EVERYWHERE + HELD_OUT if lost == "split" else SPLIT
    if lost != "split":
        cube[lost] = cube[lost] * np.nan
    with pytest.raises(TrainingError, match="no training pixel has a label and all required inp"):
        made(cube, split, spec=spec(**NOTHING))


def test_a_part_without_a_label_is_an_error_that_names_it(cube):
    with pytest.raises(TrainingError, match="no validation pixel has a label"):
        next(taken(made(cube, EVERYWHERE, part=VALIDATION), 1))


def test_a_combination_that_can_never_be_given_is_left_out(cube):
    cube["lc_fraction"][..., 1:] = np.nan  # where there is a map there are no leaves
    cube["lai"][..., 0] = np.nan
    assert {batch.given for batch in taken(made(cube), 20)} == {()}


def test_a_target_that_is_nowhere_known_is_refused(cube):
    cube["lc_fraction"][:] = np.nan
    with pytest.raises(TrainingError, match="lc_fraction has no label at any training pixel"):
        made(cube)


def test_what_is_held_out_is_not_in_the_state_of_any_year_that_leads_to_a_crop():
    years = (2000, 2001, 2002)
    told = spec(**NOTHING, state=("lc_fraction",))
    other = built(years)
    other["lc_fraction"].values[..., SPLIT == HELD_OUT] = np.eye(14)[3][None, :, None]
    for one, two in zip(
        taken(made(built(years), spec=told, lead=1), 20),
        taken(made(other, spec=told, lead=1), 20),
        strict=True,
    ):
        assert_same(one, two)
        assert len(one.lead) == 1
        assert torch.equal(one.lead[0].state, two.lead[0].state)


def test_years_without_those_that_lead_to_them_are_not_trained_on():
    told = spec(**NOTHING, state=("lc_fraction",))
    cube = built((2000, 2001, 2002, 2003))
    batches = list(taken(made(cube, spec=told, lead=2), 20))
    assert {len(batch.lead) for batch in batches} == {2}
    assert {place[-4:] for batch in batches for place in batch.places} == {"2003"}
    with pytest.raises(TrainingError, match="no year that trains has the 5 years before it"):
        made(cube, spec=told, lead=5)


def test_a_seed_repeats_the_batches_and_another_makes_others(cube):
    first, again, other = (next(taken(made(cube, seed=s), 1, start=2)) for s in (1, 1, 2))
    assert_same(first, again)
    assert not torch.equal(first.labels.lai, other.labels.lai)


@pytest.mark.parametrize("start", [1, 7, 40])
def test_batches_from_a_number_on_are_those_after_it(cube, small, start):
    whole = list(taken(made(cube), start + 3))
    for expected, batch in zip(whole[start:], taken(made(cube), 3, start), strict=True):
        assert_same(batch, expected)
    assert [batch.step for batch in whole] == list(range(start + 3))


@pytest.mark.parametrize("threads", [1, 8])
def test_threads_change_no_bit(cube, small, threads):
    for one, two in zip(
        taken(made(cube, threads=threads), 12), taken(made(cube, threads=2), 12), strict=True
    ):
        assert_same(one, two)


def digest(path: str, start: int) -> str:
    """Of three batches of a cube on disk."""
    found = hashlib.sha256()
    for batch in taken(made(opened(Path(path))), 3, start):
        for name, value in tensors(batch).items():
            found.update(name.encode() + value.numpy().tobytes())
        found.update(repr((batch.given, batch.places)).encode())
    return found.hexdigest()


@pytest.mark.slow
def test_another_process_makes_the_same_batches(cube, tmp_path):
    path = tmp_path / "cube.zarr"
    stored(cube, path)
    code = f"from tests.training.test_batches import digest; print(digest({str(path)!r}, 5))"
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", code]
    told = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
    assert told.strip() == digest(str(path), 5)


def test_a_cube_on_disk_computed_or_in_memory_gives_the_same_batches(cube, tmp_path):
    lazy = stored(cube, tmp_path / "cube.zarr")
    chunked = cube.chunk({"latitude": 10, "longitude": 17, "time": 5, "forcing_time": 7})
    for one, two, three in zip(*(taken(made(c), 4) for c in (cube, lazy, chunked)), strict=True):
        assert_same(one, two)
        assert_same(one, three)


def test_ranks_meet_every_pixel_together_and_make_other_batches(cube, small):
    ranks = [made(cube, rank=rank, world=2) for rank in range(2)]
    counts = [visited(batches, 250) for batches in ranks]
    np.testing.assert_array_equal(counts[0] + counts[1] > 0, SPLIT == TRAIN)
    first, second = (next(taken(batches, 1)) for batches in ranks)
    assert first.places != second.places


def test_an_epoch_is_as_many_batches_as_there_are_crops(cube):
    # 4 x 5 crops of 12 in either year, 6 in a batch
    assert made(cube, EVERYWHERE, pixels=144).per_epoch == 7
    assert made(cube, EVERYWHERE, pixels=144, world=2).per_epoch == 4
    assert made(cube, EVERYWHERE, pixels=144, size=100).per_epoch == 1


def test_an_epoch_has_more_crops_where_each_gives_fewer_of_its_labels(cube):
    # 37 x 53 labels of either year by 40: fifty crops each, 6 in a batch
    assert made(cube, EVERYWHERE, pixels=40).per_epoch == 17


def test_an_epoch_of_sparse_labels_is_of_the_crops_that_have_some(cube):
    lonely = cube.assign(lai=cube["lai"].where(cube["elevation"] == 100))
    assert made(lonely, EVERYWHERE, spec=spec(**NOTHING), size=1).per_epoch == 2


def test_validation_is_of_its_own_pixels(cube):
    batches = made(cube, part=VALIDATION)
    np.testing.assert_array_equal(visited(batches, 60) > 0, SPLIT == VALIDATION)
    assert batches.per_epoch == 1


def test_years_that_are_held_out_are_never_met():
    cube = built((2000, 2001, 2002))
    for batch in taken(made(cube, held_out=(2001,)), 30):
        year = (batch.labels.lai[:, 0] / 1.2e5).long()
        assert set(year.unique().tolist()) <= {0, 2}


GIVEN = {
    "nothing or a map": {},
    "a map with the state": {"given": (("lc_fraction",),), "state": ("lc_fraction",)},
    "nothing, with the state": {"given": ((),), "state": ("lc_fraction",)},
}


@pytest.mark.parametrize("changes", GIVEN.values(), ids=GIVEN)
@pytest.mark.parametrize("value", [np.nan, 1e9])
def test_values_held_out_or_for_validation_change_no_bit_of_a_batch(changes, value):
    cube = built((2000, 2001, 2002))
    other = cube.copy(deep=True)
    unseen = np.isin(SPLIT, (HELD_OUT, VALIDATION))
    other["lai"].data[:, unseen] = value
    other["lc_fraction"].data[..., unseen] = 0 if value > 0 else np.nan
    if value > 0:
        other["lc_fraction"].data[:, 13, unseen] = 1
    for one, two in zip(
        *(taken(made(c, spec=spec(**changes)), 30) for c in (cube, other)), strict=True
    ):
        assert_same(one, two)


def test_a_map_that_is_always_given_is_given_where_others_are_held_out_too(cube):
    seen = False
    for batch in taken(made(cube, spec=spec(given=(("lc_fraction",),))), 20):
        number = batch.inputs.static[:, 0].long()
        held = torch.from_numpy(SPLIT.ravel() == HELD_OUT)[number] & (number > 0)
        seen |= bool(held.any())
        assert (batch.inputs.lc.sum(1)[held] == 1).all()
    assert seen


def test_a_map_that_is_sometimes_given_is_hidden_where_it_is_held_out(cube):
    random = np.random.default_rng(0)
    use = random.dirichlet(np.ones(13), (2, ROWS, COLUMNS)).transpose(0, 3, 1, 2)
    dims = ("year", "lu_class", "latitude", "longitude")
    cube["lu_fraction"] = (dims, use.astype("float32"), attributes("lu_fraction"))
    combinations = (("lc_fraction",), ("lu_fraction", "lc_fraction"))
    both = spec(targets=("lu_fraction", "lc_fraction", "lai"), given=combinations)
    seen = False
    for batch in taken(made(cube, spec=both), 30):
        if "lu_fraction" not in batch.given:
            continue
        number = batch.inputs.static[:, 0].long()
        held = torch.from_numpy(SPLIT.ravel() == HELD_OUT)[number] & (number > 0)
        seen |= bool(held.any())
        assert (batch.inputs.lu.sum(1)[held] == 0).all()
    assert seen


def test_years_before_come_along_on_the_same_crop():
    cube = built((2000, 2001, 2002, 2003))
    rolling = spec(state=("lc_fraction",), given=((),))
    depths = set()
    for batch in taken(made(cube, EVERYWHERE, spec=rolling, lead=2, size=1), 30):
        depths.add(len(batch.lead))
        valid = batch.inputs.static[:, -1] == 1
        now = batch.inputs.state.argmax(1)
        for ago, inputs in enumerate(reversed(batch.lead), start=1):
            assert torch.equal(inputs.static, batch.inputs.static)
            before = (now - ago) % 14  # one class less for every year
            assert torch.equal(inputs.state.argmax(1)[valid], before[valid])
            assert torch.equal(inputs.column, batch.inputs.column)
    assert depths == {2}


def test_areas_are_those_of_the_pixels_over_the_mean_of_the_grid(cube):
    latitude = np.deg2rad(cube["latitude"].to_numpy())
    band = np.sin(latitude + np.deg2rad(0.05)) - np.sin(latitude - np.deg2rad(0.05))
    expected = torch.from_numpy(band / band.mean())
    for batch in taken(made(cube), 5):
        row = at(batch.inputs.static, batch)[:, 0].long() // COLUMNS
        torch.testing.assert_close(batch.area.double(), expected[row], atol=1e-5, rtol=0)


def test_the_text_of_a_place_is_where_its_crop_is(cube, small):
    number = r"(-?\d+\.\d+)"
    pattern = rf"{number} to {number} degrees north, {number} to {number} east, of (\d+)"
    for batch in taken(made(cube), 15):
        for i, place in enumerate(batch.places):
            *bounds, year = map(float, re.fullmatch(pattern, place).groups())
            rows = np.rint((47.95 - np.array(bounds[:2])) / 0.1).astype(int)
            columns = np.rint((np.array(bounds[2:]) - 10.05) / 0.1).astype(int)
            y, x = (np.arange(first, last + 1) for first, last in (rows, columns))
            assert (len(y), len(x)) == (12, 12)
            inside = np.add.outer(y * COLUMNS, x).astype(float)
            inside[(y < 0) | (y >= ROWS)] = 0
            inside[:, (x < 0) | (x >= COLUMNS)] = 0
            found = batch.inputs.static[i, 0].numpy()
            assert any((found == seen).all() for seen in (inside, inside[:, ::-1]))
            assert (batch.labels.lai[i, 0] // 1.2e5).eq(year - 2000).all()


def test_crops_with_fewer_coarse_cells_are_padded_with_cells_that_nothing_refers_to(cube, small):
    batches = made(cube)
    shapes = {batches.reader.read(lot.key)[0].sample.forcing.shape[-2:] for lot in batches.lots(0)}
    assert len(shapes) > 1
    for batch in taken(batches, 20):
        weather = upsample(pooled(batch), batch.inputs.row, batch.inputs.column)
        numbers = batch.inputs.static[:, 0]
        inside = (numbers > 0)[:, None, None].expand_as(weather)
        longitude = (10.05 + 0.1 * (numbers % COLUMNS))[:, None, None].expand_as(weather)
        torch.testing.assert_close(weather[inside], longitude[inside], atol=1e-3, rtol=0)
        rows = batch.inputs.pooling.sum(-1)
        torch.testing.assert_close(rows, torch.ones_like(rows))


def test_a_cube_smaller_than_a_crop_is_one_window_with_nothing_around_it(cube):
    tiny = cube.isel(latitude=slice(5), longitude=slice(7))
    batches = made(tiny, SPLIT[:5, :7], crop=16)
    assert len(batches.lots(0)) == len(YEARS)
    batch = next(taken(batches, 1))
    assert batch.inputs.static.shape[-2:] == (16, 16)
    assert (batch.inputs.static[:, -1].sum((1, 2)) <= 5 * 7).all()


def test_around_the_globe_pixels_at_the_date_line_are_trained_on_with_what_is_across(monkeypatch):
    monkeypatch.setattr(windows, "SIDE", 16)
    number = np.arange(18 * 36, dtype="float32").reshape(18, 36)
    globe = xr.Dataset(
        {
            "elevation": (("latitude", "longitude"), number, attributes("elevation")),
            "lai": (
                ("time", "latitude", "longitude"),
                np.broadcast_to(number, (12, 18, 36)).copy(),
                attributes("lai"),
            ),
        },
        {
            "latitude": 85.0 - 10 * np.arange(18),
            "longitude": -175.0 + 10 * np.arange(36),
            "time": pd.date_range("2000-01-01", periods=12, freq="MS"),
        },
    ).chunk({"longitude": 12})
    around = spec(forcing=(), history=1, lattice=Lattice(dlat=10, dlon=10), **NOTHING)
    split = np.full((18, 36), TRAIN, np.int8)
    served = set()
    for batch in taken(made(globe, split, spec=around, crop=8), 60):
        found = at(batch.inputs.static, batch)[:, 0].long()
        torch.testing.assert_close(batch.labels.lai[:, 0], found.float())
        served |= set((found % 36).flatten().tolist())
        for i, p in np.argwhere(found.numpy() % 36 == 0):
            y, x = batch.y[i, p], batch.x[i, p]
            beside = {int(batch.inputs.static[i, 0, y, x + step]) % 36 for step in (-1, 1)}
            assert beside == {1, 35}
    assert served == set(range(36))
    batches = made(globe, split, spec=around, crop=8)
    pixels = [batches._read(lot.key).usable[0].sum() for lot in batches.lots(0)]
    assert sum(pixels) == 18 * 36  # in one window each, those at the seam too


def test_years_that_have_labels_but_none_before_them_are_an_error(cube):
    told = spec(**NOTHING, state=("lc_fraction",))
    long = built((2000, 2001, 2002, 2003))
    long["lai"][24:] = np.nan  # of 2002 and 2003
    with pytest.raises(TrainingError, match="no year that trains has the 2 years before it"):
        made(long, spec=told, lead=2)


def test_every_field_of_a_batch_is_of_one_batch(cube):
    batch = next(taken(made(cube), 1))
    fields = {f.name: getattr(batch.inputs, f.name) for f in dataclasses.fields(batch.inputs)}
    assert {len(v) for v in fields.values() if v is not None} == {6}
    assert batch.y.shape == batch.x.shape == batch.area.shape == (6, 40)
    assert batch.labels.lai.shape == (6, 12, 40)
    assert batch.labels.lu is None
    assert batch.lead == ()
    assert len(batch.places) == 6


def test_a_batch_moved_is_the_same_batch(cube):
    batch = next(taken(made(cube), 1))
    assert_same(batch.to("cpu"), batch)
    assert batch.to("meta").inputs.static.device.type == "meta"
    assert batch.to("meta").area.device.type == "meta"


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_memory_that_does_not_suffice_is_an_error_that_says_how_much_does(cube, small, threads):
    with pytest.raises(TrainingError, match=r"memory of 0 MiB does not hold") as error:
        made(cube, memory=1000, threads=threads)
    least = int(re.search(r"at least (\d+) MiB", str(error.value)).group(1)) * 2**20
    batches = made(cube, memory=least, threads=threads)
    assert batches.held >= 1
    assert batches.nbytes <= least
    np.testing.assert_array_equal(visited(batches, 250) > 0, SPLIT == TRAIN)


@pytest.mark.parametrize(
    "changes",
    [{}, {"spec": spec(given=((),), state=("lc_fraction",)), "lead": 1}],
    ids=["maps and leaves", "state and the year before"],
)
def test_a_piece_takes_no_more_memory_than_was_reckoned_with(changes):
    batches = made(built((2000, 2001, 2002)), EVERYWHERE, **changes)
    largest = 0
    for lot in batches.lots(0):
        piece = batches._read(lot.key)
        parts = [k.targets for k in piece.known]
        parts += [vars(s) for k in piece.known for s in (k.sample, *k.lead)]
        held = {id(a): a.nbytes for part in parts for a in part.values() if a is not None}
        usable = sum(a.nbytes for a in piece.usable) + piece.hidden.nbytes
        largest = max(largest, sum(held.values()) + usable)
    assert 0.8 * batches.piece_size <= largest <= batches.piece_size


def test_a_chunk_that_is_lost_in_an_epoch_stops_it_and_says_where(cube, small, tmp_path):
    path = tmp_path / "cube.zarr"
    lazy = stored(cube, path)
    least = made(lazy).piece_size * 7 + made(lazy).waiting_size
    stream = made(lazy, memory=least, threads=2).batches()
    next(stream)
    for chunk in (path / "lai").glob("*.*.*"):
        chunk.unlink()
    with pytest.raises(TrainingError) as error:
        list(islice(stream, 300))
    pattern = r"stopped at [\d.]+ to [\d.]+ degrees north, .* east, of 200\d: input 'lai'.* no more"
    assert re.search(pattern, str(error.value))
    assert not [t for t in threading.enumerate() if t.name.startswith("xlsbc-batch")]


def test_a_crop_brings_the_coarse_cells_around_it_and_no_others(cube):
    for batch in taken(made(cube, crop=8), 10):
        # 8 pixels of 0.1 degree lie among three cells of 0.7 degree, or four
        assert max(batch.inputs.forcing.shape[-2:]) <= 4


def test_waiting_batches_take_no_more_memory_than_was_reckoned_with(cube):
    batches = made(cube, pixels=18)
    size = sum(v.nbytes for v in tensors(next(taken(batches, 1))).values())
    assert 0.4 * batches.waiting_size <= 3 * size <= batches.waiting_size


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"crop": 0, "batch_size": 0},
            r"\(1\) .*crop.*\(2\) .*batch_size|\(1\) .*batch_size.*\(2\) .*crop",
        ),
        ({"threads": -1}, "threads"),
        ({"seed": -1}, "seed"),
        ({"split": "years"}, "'years' is not a split"),
        ({"memory": "lots"}, "memory"),
        ({"rank": 3, "world": 2}, "rank must be one of 0 to 1"),
    ],
)
def test_settings_that_are_not_valid_are_told_at_once(cube, settings, said):
    with pytest.raises(TrainingError, match=said):
        cube.lsbc.batches(**settings)
