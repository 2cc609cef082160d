from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume
from hypothesis import given as drawn
from hypothesis import strategies as st

from xlsbc.emulator.sample import Sample, Window
from xlsbc.models.temporal import upsample
from xlsbc.training.crops import Crop, Piece, anchor, collate, crop_of, cropped, mirrored, start
from xlsbc.training.reader import Known, Place

HEIGHT, WIDTH, SIDE = 21, 26, 8


def numbers(*shape: int) -> np.ndarray:
    """All different, none of them 0."""
    return np.arange(1, np.prod(shape) + 1, dtype="float32").reshape(shape)


def sample(**changes: Any) -> Sample:
    """Pixels with a number of their own, on 6 x 7 cells."""
    valid = np.ones((HEIGHT, WIDTH), bool)
    fields = {
        "static": np.stack([numbers(HEIGHT, WIDTH), valid.astype("float32")]),
        "forcing": numbers(5, 2, 6, 7),
        "pooling": np.full((3, 5), 0.2, "float32"),
        "row": np.linspace(0.3, 4.9, HEIGHT, dtype="float32"),
        "column": np.linspace(0, 5.5, WIDTH, dtype="float32"),
        "valid": valid,
    }
    return Sample(**{**fields, **changes})


def cover() -> np.ndarray:
    """Two classes, with the number of the pixel as per mille in the first."""
    share = numbers(HEIGHT, WIDTH) / 1000
    return np.stack([share, 1 - share])


def piece(*usable: np.ndarray, hidden: np.ndarray | None = None, **changes: Any) -> Piece:
    """Years of two kinds each, from 2001 on, that can train where they are told to."""
    known = Known(sample(**changes), {"lc_fraction": cover(), "lai": numbers(3, HEIGHT, WIDTH)})
    years = tuple(range(2001, 2001 + len(usable)))
    return Piece(
        Place(Window(0, 0, HEIGHT, WIDTH), years),
        (known,) * len(years),
        tuple(np.stack([where, where]) for where in usable),
        np.zeros((HEIGHT, WIDTH), bool) if hidden is None else hidden,
        np.linspace(0.5, 1.5, HEIGHT),
        50 - 0.5 * np.arange(HEIGHT),
        7 + 0.5 * np.arange(WIDTH),
    )


def only(*pixels: tuple[int, int]) -> np.ndarray:
    found = np.zeros((HEIGHT, WIDTH), bool)
    for pixel in pixels:
        found[pixel] = True
    return found


def crop(of: Piece, seed: int = 0, kind: int = 0, given: tuple[str, ...] = ()) -> Crop:
    random = np.random.default_rng(seed)
    return crop_of(of, kind, given, side=SIDE, pixels=10, margin=2, random=random)


def served(found: Crop) -> set[int]:
    """Numbers of the pixels that a crop trains on."""
    static = found.inputs["static"]
    assert static is not None
    return set(static[0, found.y, found.x].astype(int).tolist())


@drawn(
    length=st.integers(1, 60),
    side=st.integers(1, 24),
    margin=st.integers(0, 8),
    at=st.integers(0, 59),
    seed=st.integers(0, 99),
)
def test_a_crop_lies_in_its_piece_and_holds_its_pixel_inside_the_margin_if_it_can(
    length, side, margin, at, seed
):
    assume(length >= side > 2 * margin)
    assume(at < length)
    first = start(at, length, side, margin, np.random.default_rng(seed))
    assert 0 <= first <= length - side
    assert first <= at < first + side
    if margin <= at < length - margin:
        assert first + margin <= at < first + side - margin


def test_a_crop_is_anywhere_around_its_pixel():
    random = np.random.default_rng(0)
    found = {start(30, 60, 8, 2, random) for _ in range(200)}
    assert found == {25, 26, 27, 28}


def test_pixels_further_than_the_margin_from_the_edge_are_as_likely_as_each_other():
    usable = only((0, 3), (5, 5), (10, 20), (11, 20))
    random = np.random.default_rng(0)
    found = [anchor(usable, 2, random) for _ in range(600)]
    counts = {pixel: found.count(pixel) for pixel in set(found)}
    assert counts.keys() == {(5, 5), (10, 20), (11, 20)}
    assert all(140 < count < 260 for count in counts.values())  # 200, standard deviation 11.5


def test_pixels_at_the_edge_are_taken_where_there_are_no_others():
    random = np.random.default_rng(0)
    found = {anchor(only((0, 3), (20, 25)), 2, random) for _ in range(50)}
    assert found == {(0, 3), (20, 25)}


def test_a_piece_narrower_than_its_margins_has_pixels_too():
    assert anchor(np.ones((3, 9), bool), 2, np.random.default_rng(0))[0] in (0, 1, 2)


def test_a_crop_trains_on_pixels_that_can_train_and_on_no_other():
    for seed in range(30):
        found = crop(piece(only((9, 9), (10, 12), (3, 17))), seed)
        assert served(found) <= {9 * WIDTH + 10, 10 * WIDTH + 13, 3 * WIDTH + 18}


def test_pixels_at_the_rim_of_the_piece_train_where_there_are_no_others():
    assert served(crop(piece(only((0, 3))))) == {4}
    assert served(crop(piece(only((0, 3), (7, 3))))) == {7 * WIDTH + 4}


def test_labels_and_area_are_those_of_the_pixels():
    for seed in range(20):
        found = crop(piece(np.ones((HEIGHT, WIDTH), bool)), seed)
        static = found.inputs["static"]
        assert static is not None
        number = static[0, found.y, found.x]
        np.testing.assert_array_equal(found.labels["lai"][0], number)
        np.testing.assert_array_equal(found.labels["lc_fraction"][0], number / np.float32(1000))
        row = (number.astype(int) - 1) // WIDTH
        np.testing.assert_allclose(found.area, 0.5 + row / 20, rtol=1e-12)


def test_a_year_without_a_pixel_that_can_train_is_not_drawn():
    of = piece(only(), only((9, 9)), only(), only((9, 9)))
    assert {crop(of, seed).place[-4:] for seed in range(30)} == {"2002", "2004"}


def test_a_year_is_drawn_for_what_it_can_be_given():
    of = piece(only((9, 9)), only((9, 9)))
    of.usable[0][1] = False
    assert {crop(of, seed, kind=1).place[-4:] for seed in range(30)} == {"2002"}
    assert {crop(of, seed, kind=0).place[-4:] for seed in range(30)} == {"2001", "2002"}


def test_the_place_of_a_crop_is_told_by_its_first_and_last_pixels():
    found = crop(piece(only((0, 0))))
    assert found.place == "50.0000 to 46.5000 degrees north, 7.0000 to 10.5000 east, of 2001"


def test_what_is_given_is_that_of_the_crop_and_nothing_else_is():
    found = crop(piece(only((9, 9))), given=("lc_fraction",))
    static, lc = found.inputs["static"], found.inputs["lc"]
    assert static is not None
    assert lc is not None
    np.testing.assert_array_equal(lc[0], static[0] / np.float32(1000))
    assert found.inputs["lu"] is None
    assert crop(piece(only((9, 9)))).inputs["lc"] is None


def test_what_is_given_and_not_known_counts_as_missing():
    of = piece(only((9, 9)))
    of.known[0].targets["lc_fraction"][:, :, 9] = np.nan
    of.known[0].targets["lc_fraction"][:, 9, 9] = 0.5
    for seed in range(8):
        inputs = crop(of, seed, given=("lc_fraction",)).inputs
        static, lc = inputs["static"], inputs["lc"]
        assert static is not None
        assert lc is not None
        column = (static[0].astype(int) - 1) % WIDTH
        row = (static[0].astype(int) - 1) // WIDTH
        lost = (column == 9) & (row != 9)
        assert lost.any()
        np.testing.assert_array_equal(static[-1], ~lost)
        assert (lc[:, lost] == 0).all()
        assert (lc[:, ~lost].sum(0) > 0.99).all()


@pytest.mark.parametrize("given", [(), ("lc_fraction",)])
def test_what_must_not_be_seen_is_neither_given_nor_state(given):
    hidden = np.zeros((HEIGHT, WIDTH), bool)
    hidden[:, :9] = True
    state = np.ones((2, HEIGHT, WIDTH), "float32")
    inputs = crop(piece(only((9, 9)), hidden=hidden, state=state), given=given).inputs
    static = inputs["static"]
    assert static is not None
    unseen = (static[0].astype(int) - 1) % WIDTH < 9
    assert 0 < unseen.sum() < unseen.size
    np.testing.assert_array_equal(static[-1], ~unseen)
    for name in ("state", *(["lc"] if given else [])):
        value = inputs[name]
        assert value is not None
        assert (value[:, unseen] == 0).all()
        assert (value[:, ~unseen].sum(0) > 0).all()


def test_a_crop_does_not_change_its_piece():
    hidden = np.ones((HEIGHT, WIDTH), bool)
    of = piece(only((9, 9)), hidden=hidden, state=np.ones((2, HEIGHT, WIDTH), "float32"))
    before = [value.copy() for value in vars(of.known[0].sample).values() if value is not None]
    for seed in range(8):
        crop(of, seed, given=("lc_fraction",))
    after = [value for value in vars(of.known[0].sample).values() if value is not None]
    for one, two in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_crop_mirrored_twice_is_the_crop_and_north_stays_north():
    box = (slice(2, 10), slice(3, 11))
    state = np.ones((2, HEIGHT, WIDTH), "float32") * numbers(HEIGHT, WIDTH)
    whole = cropped(sample(state=state), box)
    once, twice = mirrored(whole), mirrored(mirrored(whole))
    for name in ("static", "column", "state"):
        one, two, same = (inputs[name] for inputs in (whole, once, twice))
        assert one is not None
        assert two is not None
        np.testing.assert_array_equal(two, one[..., ::-1])
        np.testing.assert_array_equal(same, one)
    for name in ("row", "forcing", "pooling"):
        np.testing.assert_array_equal(once[name], whole[name])


@drawn(top=st.integers(0, HEIGHT - SIDE), left=st.integers(0, WIDTH - SIDE))
def test_a_crop_meets_the_weather_that_its_piece_does(top, left):
    box = (slice(top, top + SIDE), slice(left, left + SIDE))
    whole = sample()
    found = cropped(whole, box)
    names = ("forcing", "row", "column")
    here, all_of_it = (
        upsample(*(torch.from_numpy(np.ascontiguousarray(part[n]))[None] for n in names))
        for part in (found, vars(whole))
    )
    expected = all_of_it[..., box[0], box[1]]
    # sums of the same products, but for those with zeros
    torch.testing.assert_close(here, expected, rtol=1e-6, atol=0)
    assert found["forcing"].shape[-1] <= 4  # 8 pixels of 0.22 cells


def test_crops_of_other_sizes_are_padded_with_zeros_at_the_end():
    one, two = (crop(piece(only((9, 9)))) for _ in range(2))
    one.inputs["forcing"] = numbers(5, 2, 2, 3)
    one.inputs["pooling"] = np.full((3, 5), 0.2, "float32")
    two.inputs["forcing"] = numbers(4, 2, 3, 2)
    two.inputs["pooling"] = np.full((3, 4), 0.25, "float32")
    batch = collate([one, two], (), 7)
    assert batch.inputs.forcing.shape == (2, 5, 2, 3, 3)
    assert batch.inputs.forcing[0, :, :, :2, :].equal(torch.from_numpy(numbers(5, 2, 2, 3)))
    assert (batch.inputs.forcing[0, :, :, 2] == 0).all()
    assert (batch.inputs.forcing[1, 4] == 0).all()
    assert batch.inputs.pooling[1].tolist() == [[0.25] * 4 + [0.0]] * 3
    assert batch.step == 7
    assert batch.labels.lu is None
