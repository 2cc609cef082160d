"""Predictions by backbones without a halo, from windows that overlap: as exact as any other."""

from __future__ import annotations

import dataclasses
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import dask
import numpy as np
import pytest
import torch
import xarray as xr
from dask.task_spec import DataNode
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.inference.test_globe import LONGITUDES, assert_same_places, globe
from xlsbc import cli
from xlsbc.cube.store.writer import write
from xlsbc.emulator import Architecture, Emulator
from xlsbc.emulator.pretrained import pretrained
from xlsbc.emulator.sample import Sample, Window
from xlsbc.emulator.spec import Base
from xlsbc.errors import EmulatorError, TileError
from xlsbc.inference import engine as engines
from xlsbc.inference.engine import Engine, Reference
from xlsbc.inference.estimate import plan
from xlsbc.inference.predict import predict
from xlsbc.models import blending
from xlsbc.models.backbones import Patches, PrithviBackbone
from xlsbc.models.terramind import TerraMind
from xlsbc.training.reader import Place, Reader

WINDOW, TILE = 24, 40
"""Of the vision transformer, pixels. Windows begin 20 apart; those over the land, which begins 10
pixels into tiles both ways, in its rows and columns 10, 30 and 50."""

CASES: dict[str, dict[str, Any]] = {
    "vit": {"variant": "tiny", "patch": 8, "window": WINDOW, "tile": TILE},
    "vit-48": {"backbone": "vit", "variant": "tiny", "patch": 8, "window": 48, "tile": 40},
    # 120 columns of a globe are two tiles and a part, which ends within a step of 17 pixels
    "vit-20": {"backbone": "vit", "variant": "tiny", "patch": 4, "window": 20, "tile": 51},
    "prithvi": {"variant": "2.0-tiny-TL", "window": 32, "tile": 54},
    "terramind": {"variant": "tiny", "window": 32, "tile": 54},
}

Made = Callable[..., Emulator]


@pytest.fixture(scope="module")
def make(untrained: Made) -> Made:
    """A factory of emulators with random weights, and heads that let pixels differ."""

    def make(cube: xr.Dataset, case: str = "vit", **options: Any) -> Emulator:
        own = {"backbone": case, **CASES[case]}
        window, tile = own.pop("window"), own.pop("tile")
        adaptation = options.pop("adaptation", "scratch")
        sizes = Architecture(climate=4, hidden=8, adaptation=adaptation, **own)
        options = {"given": ((),), **options}
        emulator = untrained(cube, tile=tile, window=window, architecture=sizes, **options)
        generator = torch.Generator().manual_seed(1)
        for name, parameter in emulator.network.named_parameters():
            if not name.startswith("backbone"):
                torch.nn.init.normal_(parameter, std=0.3, generator=generator)
        return emulator

    return make


@pytest.fixture(scope="module")
def prithvi(make: Made, cube: xr.Dataset) -> Emulator:
    return make(cube, "prithvi")


@pytest.fixture(scope="module")
def vit(make: Made, cube: xr.Dataset) -> Emulator:
    return make(cube)


@pytest.fixture(scope="module")
def expected(cube: xr.Dataset, vit: Emulator) -> xr.Dataset:
    """What it predicts for the land."""
    return run(cube, vit)


def run(cube: xr.Dataset, emulator: Emulator, **options: Any) -> xr.Dataset:
    """Prediction of 2001, or of the only year, computed in this thread."""
    period = [2001] if cube.sizes["year"] == 2 else None
    lazy = predict(cube, emulator, **{"period": period, "precision": "float32", **options})
    return lazy.compute(scheduler="synchronous")


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """Grows by ``(channel, y, x)`` of every window that a backbone is asked for."""
    windows: list[np.ndarray] = []
    original = Patches.forward

    def listening(self: Patches, x: torch.Tensor, place: Any = None) -> torch.Tensor:
        windows.extend(x.float().numpy())
        return original(self, x, place)

    monkeypatch.setattr(Patches, "forward", listening)
    return windows


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[list[float]]:
    """Grows by the place and year that an encoder is told of every window."""
    places: list[list[float]] = []
    original = PrithviBackbone.layers

    def listening(self: PrithviBackbone, x: torch.Tensor, place: torch.Tensor) -> Any:
        places.extend(place.tolist())
        return original(self, x, place)

    monkeypatch.setattr(PrithviBackbone, "layers", listening)
    return places


@pytest.fixture
def samples(monkeypatch: pytest.MonkeyPatch) -> list[Sample]:
    """Grows by every tile's sample that runs."""
    found: list[Sample] = []
    original = Engine.run

    def listening(self: Engine, samples: Any, names: Any) -> Any:
        found.extend(samples)
        return original(self, samples, names)

    monkeypatch.setattr(Engine, "run", listening)
    return found


# --- the same bits ---


def test_places_differ_and_none_is_missing(expected):
    # ragged: rows end at 30 and 60 and columns at 30 and 70, tiles do at multiples of 40
    assert bool(expected.to_dataarray().notnull().all())
    assert float(expected["lai"].std(["latitude", "longitude"]).min()) > 0.01


@pytest.mark.proves("determinism")
@pytest.mark.parametrize(
    ("chunks", "scheduler", "block"),
    [
        ({"latitude": 17, "longitude": 23}, "synchronous", 1),
        ({"latitude": 60, "longitude": 9, "forcing_time": 5}, "threads", 2),
        ({}, "threads", 1),
    ],
)
def test_chunks_scheduler_and_blocks_do_not_change_a_bit(
    cube, vit, expected, chunks, scheduler, block
):
    lazy = predict(cube.chunk(chunks), vit, period=[2001], precision="float32", block=block)
    with dask.config.set(scheduler=scheduler, num_workers=3):
        xr.testing.assert_equal(lazy.compute(), expected)


@pytest.mark.proves("determinism")
@pytest.mark.parametrize("case", ["prithvi", "terramind"])
def test_pretrained_encoders_give_the_same_bits_in_threads_and_blocks(cube, make, case):
    emulator, corner = make(cube, case), cube.isel(latitude=slice(20), longitude=slice(40))
    lazy = predict(
        corner.chunk(latitude=11, longitude=30),
        emulator,
        period=[2001],
        precision="float32",
        block=2,
    )
    with dask.config.set(scheduler="threads", num_workers=2):
        xr.testing.assert_equal(lazy.compute(), run(corner, emulator))


@pytest.mark.proves("determinism")
@settings(max_examples=3)
@given(st.integers(0, 10), st.integers(0, 20), st.integers(47, 50), st.integers(47, 50))
@example(top=13, left=11, height=47, width=48)  # row 33 sees a window that begins in row 10
def test_a_box_with_its_context_is_the_whole_to_the_bit(
    cube, vit, expected, top, left, height, width
):
    rows, columns = slice(top, top + height), slice(left, left + width)
    found = run(cube.isel(latitude=rows, longitude=columns), vit)
    assert vit.context == WINDOW - 1
    inner = {
        dim: slice(
            0 if span.start == 0 else vit.context, None if span.stop >= size else -vit.context
        )
        for dim, span, size in (("latitude", rows, 60), ("longitude", columns, 70))
    }
    assert found.isel(inner)["lai"].size
    part = expected.isel(latitude=rows, longitude=columns)
    xr.testing.assert_equal(found.isel(inner), part.isel(inner))


def test_a_pixel_bears_on_others_as_far_as_the_context_and_no_farther(cube, vit, expected):
    other = cube.copy(deep=True)
    other["elevation"][30, 33] += 5000  # windows begin in rows and columns 10 and 30
    change = abs(run(other, vit)["lai"] - expected["lai"]).max("time").to_numpy() > 0
    rows, columns = change.any(1).nonzero()[0], change.any(0).nonzero()[0]
    assert (rows[0], rows[-1]) == (10, 30 + vit.context)
    assert (columns[0], columns[-1]) == (33 - vit.context, 30 + vit.context)


def test_latitudes_that_ascend_change_no_bit(cube, vit, expected):
    backward = [f"{grid}latitude" for grid in ("", "forcing_", "driver_")]
    other = cube.isel(dict.fromkeys(backward, slice(None, None, -1)))
    xr.testing.assert_equal(run(other, vit), expected)


# --- around the globe ---


@pytest.fixture(scope="module")
def planet() -> xr.Dataset:
    return globe()


@pytest.fixture(scope="module")
def globes(make: Made, planet: xr.Dataset) -> Callable[[str], tuple[Emulator, xr.Dataset]]:
    """A factory of emulators, and what each predicts for a globe."""
    known: dict[str, tuple[Emulator, xr.Dataset]] = {}

    def of(case: str) -> tuple[Emulator, xr.Dataset]:
        if case not in known:
            emulator = make(planet, case, position=True)
            known[case] = emulator, within(run(planet, emulator))
        return known[case]

    return of


def within(found: xr.Dataset) -> xr.Dataset:
    """A prediction by longitudes of -180..180."""
    return found.assign_coords(longitude=(found["longitude"] + 180) % 360 - 180)


@pytest.mark.parametrize("case", ["vit", "vit-20", "prithvi"])
def test_there_is_a_value_everywhere_on_a_globe_though_tiles_may_not_divide_it(globes, case):
    _, whole = globes(case)
    assert bool(whole.to_dataarray().notnull().all())
    assert whole["lai"].sizes == {"time": 12, "latitude": 60, "longitude": 120}


@pytest.mark.parametrize(
    ("case", "west", "width", "block"),
    [
        ("vit", 60, 120, 1),  # 0..360
        ("vit", 77, 91, 2),
        ("vit-20", 1, 120, 1),
        ("vit-20", 90, 60, 2),
        ("prithvi", 85, 75, 1),
    ],
)
def test_a_turned_globe_and_a_box_across_the_date_line_are_the_globe_there(
    planet, globes, case, west, width, block
):
    emulator, whole = globes(case)
    columns = np.arange(west, west + width) % 120
    found = within(run(planet.isel(longitude=columns), emulator, block=block))
    if width < 120:
        found = found.isel(longitude=slice(emulator.context, -emulator.context))
    assert_same_places(found, whole)


def test_what_lies_beyond_the_date_line_reaches_the_windows(planet, globes):
    emulator, whole = globes("vit-20")
    for column in (0, 119):
        other = planet.copy(deep=True)
        other["elevation"][30, column] += 5000
        change = abs(run(other, emulator)["lai"] - whole["lai"].to_numpy()) > 0
        changed = np.flatnonzero(change.any(["time", "latitude"]))
        assert {0, 119} <= set(changed)
        distance = abs((changed - column + 60) % 120 - 60)
        assert distance.max() <= emulator.context


# --- where a window is and when ---


@pytest.mark.parametrize(
    ("wrap", "precision"),
    [
        pytest.param(lambda x: x, "float32", id="-180..180"),
        pytest.param(lambda x: x % 360, "float32", id="0..360"),
        pytest.param(lambda x: x, "bfloat16", id="bfloat16"),
    ],
)
def test_the_encoder_is_told_the_middle_of_its_window_and_the_year(
    cube, prithvi, told, wrap, precision
):
    west = {n: (n, wrap(cube[n].to_numpy() - 100), cube[n].attrs) for n in LONGITUDES}
    box = {"latitude": slice(0, 20), "longitude": slice(0, 20)}
    run(cube.assign_coords(west).isel(box), prithvi, period=[2001], precision=precision)
    # windows of 32 pixels begin 27 apart from 90 N, 180 W; the box in row 5290 and column 10570
    rows = [row for row in range(0, 21600, 27) if row < 5310 and row + 32 > 5290]
    columns = [column for column in range(0, 43200, 27) if column < 10590 and column + 32 > 10570]
    expected = {
        (np.float32(90 - (row + 16.5) / 120), np.float32((column + 16.5) / 120 - 180), 2001)
        for row in rows
        for column in columns
    }
    assert len(expected) == 2 * 2
    assert set(map(tuple, told)) == expected


def test_longitudes_from_0_to_360_change_no_bit_of_what_is_told_where_it_is(planet, globes):
    emulator, whole = globes("prithvi")
    other = planet.assign_coords(
        {n: (n, planet[n].values % 360, planet[n].attrs) for n in LONGITUDES}
    )
    assert_same_places(within(run(other.sortby(LONGITUDES), emulator)), whole)


def test_the_place_and_the_year_bear_on_what_is_predicted(cube, prithvi, samples):
    run(cube.isel(latitude=slice(2), longitude=slice(2)), prithvi)
    sample = samples[0]
    engine = Engine(prithvi, "float32")
    others = [
        sample,
        dataclasses.replace(sample, latitude=sample.latitude - 20),
        dataclasses.replace(sample, longitude=sample.longitude + 20),
        dataclasses.replace(sample, year=sample.year + 2),
    ]
    first, *found = (fields["lai"] for fields in engine.run(others, ("lai",)))
    assert all(abs(other - first).max() > 1e-6 for other in found)


def test_training_reads_of_a_window_what_prediction_does(cube, prithvi, samples):
    corner = cube.isel(latitude=slice(20), longitude=slice(30))
    run(corner, prithvi)
    latitude, longitude = samples[0].latitude, samples[0].longitude
    row = round((90 - float(latitude[0])) * 120 - 0.5) - 5290
    column = round((float(longitude[0]) + 180) * 120 - 0.5) - 22570
    window = Window(row, column, len(latitude), len(longitude))
    (known,) = Reader(corner, prithvi.spec).read(Place(window, (2001,)))
    assert known.sample.year == 2001
    for field in dataclasses.fields(Sample):
        np.testing.assert_array_equal(
            getattr(known.sample, field.name), getattr(samples[0], field.name), field.name
        )


# --- only where there is land ---


def test_sea_is_skipped_and_no_land_changes(cube, vit, expected, seen, monkeypatch):
    coast = cube.copy(deep=True)
    coast["elevation"][:, 33:] = np.nan  # behind the end of the window that begins in column 10
    found = run(coast, vit)
    skipped = len(seen)
    seen.clear()
    original = blending.blended
    monkeypatch.setattr(
        "xlsbc.models.network.blended", lambda *arguments: original(*arguments[:-1], None)
    )
    everything = run(coast, vit)
    assert 0 < skipped < len(seen)
    xr.testing.assert_equal(found, everything)
    land = {"longitude": slice(0, 33 - vit.context)}
    xr.testing.assert_equal(found.isel(land), expected.isel(land))
    assert bool(found["lai"].isel(longitude=slice(33)).notnull().all())
    assert not bool(found["lai"].isel(longitude=slice(33, None)).notnull().any())


@pytest.mark.parametrize(("at", "windows"), [((25, 25), 1), ((25, 32), 2), ((32, 32), 4)])
def test_an_island_costs_the_windows_over_it_and_the_sea_around_it_none(
    cube, vit, expected, seen, at, windows
):
    sea = cube.copy(deep=True)
    sea["elevation"][:] = np.nan
    sea["elevation"][at] = cube["elevation"][at]
    found = run(sea, vit)["lai"]
    assert len(seen) == windows
    assert int(found.notnull().sum()) == 12


def test_all_sea_costs_no_window(cube, vit, seen):
    sea = cube.assign(elevation=cube["elevation"] * np.nan)
    assert not bool(run(sea, vit)["lai"].notnull().any())
    assert seen == []


# --- no seams ---


def roughness(found: xr.Dataset, window: int) -> float:
    """Largest mean jump between columns where windows fade over that where none does.

    Columns near the ends of the land are left out: beyond it inputs are missing.
    """
    step = blending.step(window)
    jumps = abs(found["lai"].diff("longitude")).mean(["time", "latitude"]).to_numpy()
    place = (22570 + np.arange(len(jumps))) % step
    seam = (place < window - step) | (place == step - 1)  # of a pixel and the next
    inner = (np.arange(len(jumps)) > 8) & (np.arange(len(jumps)) < 61)
    return float(jumps[inner & seam].max() / jumps[inner & ~seam].max())


def test_where_windows_meet_there_is_no_seam(cube, make, monkeypatch):
    smooth = cube.copy(deep=True)
    y, x = np.mgrid[:60, :70]
    smooth["elevation"][:] = 800 + 100 * np.sin(y / 40) + 120 * np.cos(x / 50)
    smooth["clay_fraction"][:] = 0.5 + 0.3 * np.sin(x / 37 + y / 61)
    emulator = make(smooth, "vit-48")
    blended = roughness(run(smooth, emulator), 48)
    weights = blending.fades
    monkeypatch.setattr(blending, "fades", lambda n, w: (weights(n, w) > 0.5).float())
    cut = roughness(run(smooth, emulator), 48)
    # measured: 1.5 and 8. A fade is over eight pixels, so that a seam of 8 becomes steps of 1
    assert blended < 2
    assert cut > 5


# --- precision ---


@pytest.mark.parametrize("case", ["vit", "terramind"])
def test_bfloat16_differs_by_a_hundredth_of_what_places_do(cube, make, case):
    adaptation = "lora" if case == "terramind" else "scratch"
    emulator = make(cube, case, adaptation=adaptation)
    with torch.no_grad():
        for name, parameter in emulator.network.named_parameters():
            if name.endswith("lora_b"):
                parameter.normal_(std=0.02)
    exact, near = run(cube, emulator), run(cube, emulator, precision="bfloat16")
    difference = near - exact
    rms = {n: float(np.sqrt((field**2).mean())) for n, field in difference.items()}
    # measured: 3e-4 and 2e-4, of fields that vary by 0.03 and 0.06; and 4e-5 of fractions
    assert 0 < rms["lai"] < 1e-3
    assert max(rms["lu_fraction"], rms["lc_fraction"]) < 2e-4


# --- artefacts of adapters ---


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """File of random weights of TerraMind as the official ones come."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        state = TerraMind.of("tiny").state_dict()
    path = tmp_path_factory.mktemp("base") / "TerraMind_tiny.pt"
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def store(cube: xr.Dataset, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The land in a store."""
    path = tmp_path_factory.mktemp("land") / "cube.zarr"
    cube.to_zarr(path, consolidated=False, zarr_format=2)
    return str(path)


def opened(store: str) -> xr.Dataset:
    return xr.open_zarr(store, chunks=None, consolidated=False)


@pytest.fixture(scope="module")
def adapted(make: Made, cube: xr.Dataset, base: Path) -> Emulator:
    """An emulator of TerraMind with low-rank changes, which lies nowhere."""
    emulator = make(cube, "terramind", adaptation="lora")
    begun = pretrained("terramind", "tiny", str(base))
    encoder = emulator.network.backbone.encoder
    encoder.load_state_dict({**encoder.state_dict(), **begun.state})
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if name.endswith("lora_b"):  # 0 at first
                parameter.normal_(std=0.02, generator=generator)
    origin = Base(file=begun.file, sha256=begun.sha256)
    spec = emulator.spec.model_copy(update={"base": origin})
    return Emulator(spec, emulator.network, str(base))


@pytest.fixture
def saved(adapted: Emulator, base: Path, tmp_path: Path) -> Emulator:
    """The same, opened from an artefact that does not hold the base."""
    Emulator(adapted.spec, adapted.network, adapted.base).save(str(tmp_path / "adapted"))
    return Emulator.open(str(tmp_path / "adapted"), weights=str(base))


@pytest.fixture
def elsewhere(saved: Emulator, base: Path, tmp_path: Path, nothing_known: None) -> Emulator:
    """The same with a base of its own, that a test may damage."""
    copy = tmp_path / "copies" / base.name
    copy.parent.mkdir()
    shutil.copy(base, copy)
    return Emulator.open(str(tmp_path / "adapted"), weights=str(copy))


@pytest.fixture
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is as a new one: it has read no weights, and holds no engine."""
    monkeypatch.setattr("xlsbc.emulator.pretrained._seen", {})
    monkeypatch.delenv("XLSBC_WEIGHTS", raising=False)
    engines.ENGINES.clear()
    engines.LIVE.clear()


def box(store: str, emulator: Emulator | str) -> xr.Dataset:
    """Lazy leaf area of a corner of the land."""
    lazy = predict(opened(store), emulator, period=[2001], targets="lai", precision="float32")
    return lazy.isel(latitude=slice(0, 30), longitude=slice(0, 30))


def test_a_graph_carries_a_reference_to_adapters_and_to_their_base(saved, store, base):
    reference = Reference.of(saved)
    assert (reference.url, reference.files, reference.base) == (saved.url, None, str(base))
    assert len(pickle.dumps(reference)) < 1000
    graph = dict(box(store, saved).__dask_graph__())
    (job,) = (node.value for node in graph.values() if isinstance(node, DataNode))
    assert len(cloudpickle.dumps((job.reference, job.spec))) < 10_000
    assert len(cloudpickle.dumps(graph)) < 30_000


def test_adapters_that_lie_nowhere_travel_without_their_base(adapted, base):
    reference = Reference.of(adapted)
    assert reference.files is not None
    assert reference.base == str(base)
    assert len(pickle.dumps(reference)) < base.stat().st_size / 2


@pytest.mark.parametrize("which", ["adapted", "saved"])
def test_an_emulator_of_adapters_comes_back_from_a_pickle(which, request):
    emulator = request.getfixturevalue(which)
    back = pickle.loads(pickle.dumps(emulator))
    assert (back.hash, back.base) == (emulator.hash, emulator.base)
    state = back.network.state_dict()
    for name, value in emulator.network.state_dict().items():
        assert torch.equal(state[name], value), name


def test_without_its_base_an_emulator_says_what_is_missing(elsewhere, store):
    lazy = box(store, elsewhere)
    Path(elsewhere.base).unlink()
    with pytest.raises(
        EmulatorError, match=r"TerraMind_tiny\.pt with sha256 .* not found"
    ) as caught:
        lazy.compute(scheduler="synchronous")
    assert f"{elsewhere.base}: no such file" in caught.value.problems
    with pytest.raises(EmulatorError, match=r"their URL to Emulator\.open.*folder in XLSBC_W"):
        predict(opened(store), elsewhere.url)


@pytest.mark.proves("hostile-weights")
def test_another_base_of_the_same_name_is_refused(elsewhere, store):
    lazy = box(store, elsewhere)
    torch.save(TerraMind.of("tiny").state_dict(), elsewhere.base)
    with pytest.raises(EmulatorError, match=f"expected {elsewhere.spec.base.sha256[:12]}"):
        lazy.compute(scheduler="synchronous")


def test_a_base_beside_the_artefact_or_in_a_folder_that_is_named_is_found(
    saved, base, store, monkeypatch, tmp_path, nothing_known
):
    url = saved.url
    with pytest.raises(EmulatorError, match="were not found"):
        predict(opened(store), url)
    monkeypatch.setenv("XLSBC_WEIGHTS", str(base.parent))
    assert predict(opened(store), url).attrs["xlsbc_emulator"] == saved.hash
    monkeypatch.delenv("XLSBC_WEIGHTS")
    monkeypatch.setattr("xlsbc.emulator.pretrained._seen", {})
    shutil.copy(base, url)
    assert Emulator.open(url).base == str(Path(url, base.name))


@pytest.mark.slow
def test_the_command_is_told_where_the_base_is(
    saved, base, store, monkeypatch, tmp_path, nothing_known
):
    monkeypatch.setattr(cli, "tune_allocator", lambda: None)  # would stay for other tests
    out, what = str(tmp_path / "out.zarr"), {"period": [2001], "targets": ["lai"]}
    with pytest.raises(EmulatorError, match="were not found"):
        cli.predict(store, saved.url, out, **what)
    cli.predict(store, saved.url, out, **what, precision="float32", weights=str(base))
    attributes = xr.open_zarr(out).attrs
    assert attributes["xlsbc_emulator"] == saved.hash
    assert attributes["xlsbc_precision"] == "float32"


PRINT = """
import os, pickle, sys
import numpy as np
import xarray as xr
from xlsbc.emulator import Emulator
from xlsbc.inference.predict import predict

store, url, base, held = sys.argv[1:]
def found(emulator):
    cube = xr.open_zarr(store, chunks=None, consolidated=False)
    lazy = predict(cube, emulator, period=[2001], targets="lai", precision="float32")
    values = lazy["lai"][:, :30, :30].compute(scheduler="synchronous")
    return values.to_numpy().tobytes().hex()
first = found(Emulator.open(url, weights=base))
from xlsbc.emulator import pretrained
from xlsbc.inference import engine
def forget():
    pretrained._seen.clear(); engine.ENGINES.clear(); engine.LIVE.clear()
forget()
with open(held, "rb") as file:
    assert found(pickle.load(file)) == first
forget()
os.environ["XLSBC_WEIGHTS"] = os.path.dirname(base)
assert found(url) == first
print(first)
"""


@pytest.mark.proves("determinism")
@pytest.mark.slow
def test_a_new_process_finds_the_base_and_predicts_the_same_bits(
    saved, adapted, base, store, tmp_path
):
    (tmp_path / "held").write_bytes(pickle.dumps(adapted))
    arguments = [store, saved.url, str(base), str(tmp_path / "held")]
    printed = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PRINT, *arguments],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    here = box(store, saved)["lai"].compute(scheduler="synchronous")
    assert printed.strip() == here.to_numpy().tobytes().hex()


@pytest.mark.proves("determinism")
@pytest.mark.slow
def test_workers_of_a_cluster_give_the_same_bits_and_find_the_base(
    saved, vit, expected, store, tmp_path
):
    from distributed import Client, LocalCluster

    there = box(store, saved).compute(scheduler="synchronous")
    own = Emulator.open(vit.save(str(tmp_path / "vit")))
    lazy = predict(opened(store), own, period=[2001], precision="float32")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
    with LocalCluster(**options) as cluster, Client(cluster):
        xr.testing.assert_equal(box(store, saved).compute(), there)
        xr.testing.assert_equal(lazy.compute(), expected)


# --- years, stores, plans ---


STATE = ("lu_fraction", "lc_fraction")


@pytest.fixture(scope="module")
def history(land: Callable[..., xr.Dataset]) -> xr.Dataset:
    """Land without weather, four years of it, of which only the first has maps."""
    names = ["elevation", "clay_fraction", "co2", "lu_total", *STATE]
    years = [2000, 2001, 2002, 2003]
    box = {"latitude": slice(20, 44), "longitude": slice(20, 50)}  # tiles end before 30
    cube = land()[names].isel(year=[0, 1, 0, 1], **box).assign_coords(year=years)
    cube["co2"][:] = [370e-6, 372e-6, 374e-6, 376e-6]
    return cube.assign({name: cube[name].where(cube["year"] < 2001) for name in STATE})


@pytest.fixture(scope="module")
def rolling(make: Made, history: xr.Dataset) -> Emulator:
    return make(history, state=STATE)


@pytest.fixture(scope="module")
def rolled(history: xr.Dataset, rolling: Emulator) -> xr.Dataset:
    return run(history, rolling)


@pytest.mark.proves("determinism")
def test_years_that_follow_one_another_have_the_same_bits_however_they_are_cut(
    history, rolling, rolled
):
    assert rolled["year"].values.tolist() == [2001, 2002, 2003]
    assert bool(rolled.to_dataarray().notnull().all())
    lazy = predict(history.chunk(latitude=17, longitude=13), rolling, precision="float32", block=2)
    with dask.config.set(scheduler="threads", num_workers=3):
        xr.testing.assert_equal(lazy.compute(), rolled)


def test_the_state_reaches_the_third_year(history, rolling, rolled):
    other = history.copy()
    for name in STATE:
        swapped = history[name].isel({history[name].dims[1]: slice(None, None, -1)})
        other[name] = history[name].copy(data=swapped.to_numpy())
    change = abs(run(other, rolling)["lc_fraction"] - rolled["lc_fraction"])
    assert float(change.sel(year=2003).max()) > 0


@pytest.mark.proves("failed-tile")
def test_years_that_were_stopped_go_on_to_the_same_bytes(history, rolling, tmp_path, monkeypatch):
    def product() -> xr.Dataset:
        return predict(history, rolling, precision="float32")

    tiles: list[int] = []
    original = Engine.run

    def stopping(self: Engine, samples: Any, names: Any) -> Any:
        tiles.append(1)
        if len(tiles) > 6:  # four tiles a year
            raise TileError("the second year breaks off")
        return original(self, samples, names)

    with dask.config.set(scheduler="synchronous"):
        whole = Path(write(product(), str(tmp_path / "whole.zarr"), progress=False))
        monkeypatch.setattr(Engine, "run", stopping)
        with pytest.raises(TileError):
            write(product(), str(tmp_path / "stopped.zarr"), progress=False)
        monkeypatch.setattr(Engine, "run", original)
        write(product(), str(tmp_path / "stopped.zarr"), progress=False)
    files = [path for path in whole.rglob("*") if path.is_file()]
    assert len(files) > 10
    for path in files:
        other = tmp_path / "stopped.zarr" / path.relative_to(whole)
        assert other.read_bytes() == path.read_bytes(), path


def test_a_store_of_a_prediction_holds_its_values(cube, vit, expected, tmp_path):
    lazy = predict(cube, vit, period=[2001], precision="float32")
    exact = write(lazy, str(tmp_path / "exact.zarr"), packed=False, progress=False)
    xr.testing.assert_equal(xr.open_zarr(exact).load(), expected)
    packed = xr.open_zarr(write(lazy, str(tmp_path / "packed.zarr"), progress=False)).load()
    for name, field in expected.items():
        step = 2.0**-12 if name.startswith("lai") else 2.0**-15
        np.testing.assert_allclose(packed[name], field, rtol=0, atol=step)


def test_a_plan_counts_tiles_and_times_two(cube, vit):
    lazy = predict(cube, vit, targets="lai")
    with dask.config.set(scheduler="synchronous"):
        found = plan(lazy)
    # 60 x 70 pixels from 10 pixels into tiles of 40: two by two, of two years
    assert found.tiles == 2 * 2 * 2
    assert found.tasks == found.tiles + 1
    # windows of 80 pixels of two static inputs
    assert found.bytes_in == pytest.approx(4 * 2 * found.tiles * 80 * 80, rel=0.2)
    assert 0 < found.seconds < 60
