from __future__ import annotations

import threading

import dask.array
import numpy as np
import pytest
import xarray as xr

from xlsbc.assess.plots import MAP_PIXELS, class_picture, lai_picture, season_picture
from xlsbc.cube import legends

CLIMATOLOGY = "time: mean within years time: mean over years"


def images(figure) -> list[np.ndarray]:
    return [image.get_array() for axis in figure.axes for image in axis.images]


def test_class_maps_show_the_dominant_classes_and_grey_where_nothing_is_known(three_strips):
    picture = class_picture("lu_fraction", *three_strips())
    reference, prediction = images(picture.figure)
    west, east = legends.LU.index("primf"), legends.LU.index("icwtr")
    assert reference[1].tolist() == [west] * 3 + [legends.LU.index("c3ann")] * 3 + [east] * 3
    assert prediction[1].tolist() == [west] * 3 + [legends.LU.index("pastr")] * 3 + [east] * 3
    assert reference[0].mask.all()
    assert not reference[1:].mask.any()


def test_class_colours_are_the_legends(three_strips):
    figure = class_picture("lu_fraction", *three_strips()).figure
    image = figure.axes[0].images[0]
    painted = image.to_rgba(np.array([[legends.LU.index("c3ann")]]), bytes=True)[0, 0, :3]
    wanted = next(c.color for c in legends.LU.classes if c.id == "c3ann")
    assert "#" + bytes(painted).hex() == wanted
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "forested primary land",
        "managed pasture",
        "C3 annual crops",
        "ice and water",
        "no data",
    ]


def test_class_maps_say_that_a_given_field_was_not_predicted(three_strips):
    cube, prediction, held_out = three_strips()
    assert "what was given" in class_picture("lc_fraction", cube, prediction, held_out).caption
    assert "what was given" not in class_picture("lu_fraction", cube, prediction, held_out).caption


def test_class_maps_show_the_last_year_that_both_hold(three_strips):
    cube, prediction, held_out = three_strips(years=(2001, 2002, 2003))
    picture = class_picture("lu_fraction", cube.sel(year=[2001, 2002]), prediction, held_out)
    assert [axis.get_title() for axis in picture.figure.axes] == [
        "reference, 2002",
        "prediction, 2002",
    ]


def test_lai_maps_show_reference_prediction_and_their_difference_by_season(three_strips):
    figure = lai_picture(*three_strips()).figure
    maps = np.ma.stack(images(figure)).reshape(3, 4, 7, 9)
    forest, fields = maps[:, :, 3, 0], maps[:, :, 3, 4]
    np.testing.assert_allclose(forest[0], [0.2, 0.8, 1.4, 2.0], rtol=1e-6)
    np.testing.assert_allclose(forest[1], [0.2, 1.3, 1.9, 2.5], rtol=1e-6)
    np.testing.assert_allclose(forest[2], [0.0, 0.5, 0.5, 0.5], atol=1e-6)
    np.testing.assert_allclose(fields[2], [0.0, -0.25, -0.25, -0.25], atol=1e-6)
    assert maps[:, :, 0].mask.all()


def test_lai_maps_of_one_kind_share_one_scale_and_the_difference_is_centred_on_zero(three_strips):
    figure = lai_picture(*three_strips()).figure
    limits = [image.get_clim() for axis in figure.axes for image in axis.images]
    assert set(limits[:8]) == {(0.0, 2.5)}
    assert set(limits[8:]) == {(-0.5, 0.5)}


def test_a_climatology_is_not_dated(three_strips):
    cube, prediction, held_out = three_strips(years=(2000,))
    cube["lai"].attrs["cell_methods"] = CLIMATOLOGY
    figure = lai_picture(cube, prediction, held_out).figure
    assert figure.axes[0].get_title() == "January, climatology"


def test_maps_stand_where_the_land_is(three_strips):
    figure = lai_picture(*three_strips()).figure
    west, east, south, north = figure.axes[0].images[0].get_extent()
    pixel = 1 / 120
    assert (west, east) == pytest.approx((7 - pixel / 2, 7 + 8.5 * pixel))
    assert (south, north) == pytest.approx((50 - 6.5 * pixel, 50 + pixel / 2))


def test_held_out_blocks_are_outlined_along_their_edge(three_strips):
    figure = lai_picture(*three_strips()).figure
    rim = np.concatenate([path.vertices for path in figure.axes[0].collections[0].get_paths()])
    pixel = 1 / 120
    assert len(rim) == 2 * (3 + 3 + 5 + 5)  # one line a pixel's edge
    # rows 2 to 4 of columns 0 to 4, closed at the edge of the map
    assert rim[:, 0].min() == pytest.approx(7 - pixel / 2)
    assert rim[:, 0].max() == pytest.approx(7 + 4.5 * pixel)
    assert rim[:, 1].max() == pytest.approx(50 - 1.5 * pixel)
    assert rim[:, 1].min() == pytest.approx(50 - 4.5 * pixel)


def test_an_l_shaped_block_is_outlined_around_its_inner_corner(three_strips):
    cube, prediction, held_out = three_strips()
    held_out[4, 1:5] = False
    figure = lai_picture(cube, prediction, held_out).figure
    inner = (7 + 0.5 / 120, 50 - 3.5 / 120)
    ends = [path.vertices for path in figure.axes[0].collections[0].get_paths()]
    touching = [end for end in ends if np.isclose(end, inner, atol=1e-9).all(axis=1).any()]
    assert len(touching) == 2


def test_without_held_out_blocks_nothing_is_outlined_and_the_caption_says_so(three_strips):
    cube, prediction, held_out = three_strips()
    picture = lai_picture(cube, prediction, held_out & False)
    assert not any(line.get_paths() for a in picture.figure.axes[:12] for line in a.collections)
    assert "No block was held out" in picture.caption


def test_labels_go_on_across_the_date_line(three_strips):
    case = (a.assign_coords(longitude=a["longitude"] + 172.95) for a in three_strips())
    figure = lai_picture(*case).figure
    label = figure.axes[0].xaxis.get_major_formatter()
    assert [label(179.5), label(180.25), label(-3.0)] == ["179.5°E", "179.75°W", "3°W"]


def test_a_wide_grid_is_thinned_to_the_pixels_of_a_screen():
    axes = {"latitude": 50 - np.arange(4) / 120, "longitude": np.arange(1500) / 120}
    values = np.broadcast_to(np.arange(1500, dtype="float32") / 500, (1, 4, 1500))
    lai = xr.DataArray(
        values,
        {"time": np.array(["2001-07-01"], "datetime64[ns]"), **axes},
        ("time", "latitude", "longitude"),
    )
    held_out = xr.DataArray(np.zeros((4, 1500), bool), axes, ("latitude", "longitude"))
    figure = lai_picture(lai.to_dataset(name="lai"), lai.to_dataset(name="lai"), held_out).figure
    drawn = images(figure)[0]
    assert max(drawn.shape) <= MAP_PIXELS
    np.testing.assert_array_equal(drawn[0], values[0, 0, ::3])


def test_only_the_drawn_months_are_computed(three_strips):
    cube, prediction, held_out = three_strips()
    read: list[int] = []
    lock = threading.Lock()

    def note(block: np.ndarray, block_info: dict) -> np.ndarray:
        with lock:
            read.append(block_info[0]["chunk-location"][0])
        return block

    lazy = dask.array.from_array(prediction["lai"].values, chunks=(1, 7, 9)).map_blocks(
        note, dtype="float32", meta=np.empty((0, 0, 0), "float32")
    )
    prediction = prediction.assign(lai=prediction["lai"].copy(data=lazy))
    lai_picture(cube, prediction, held_out)
    assert sorted(set(read)) == [12, 15, 18, 21]  # January, April, July, October of the second year


def test_seasonal_curves_have_a_panel_a_class_with_both_lines(three_strips):
    figure = season_picture(*three_strips()).figure
    assert [axis.get_title() for axis in figure.axes if axis.lines] == [
        "broadleaf deciduous trees (60%)",
        "managed grasses and crops (40%)",
    ]
    reference, prediction = figure.axes[0].lines
    assert (reference.get_label(), prediction.get_label()) == ("reference", "prediction")
    assert reference.get_linestyle() != prediction.get_linestyle()
    assert figure.axes[0].get_ylim()[0] == 0
    assert figure.axes[0].get_ylim()[1] > 2.9  # December, forest, predicted
    assert reference.get_ydata()[6] == pytest.approx(1.4)
    assert prediction.get_ydata()[6] == pytest.approx(1.9)


@pytest.mark.parametrize("side", ["cube", "prediction"])
def test_what_is_not_there_is_left_out_with_a_sentence(three_strips, side):
    cube, prediction, held_out = three_strips()
    empty = {"cube": cube, "prediction": prediction}
    empty[side] = empty[side].drop_vars(["lu_fraction", "lai"])
    pictures = [
        class_picture("lu_fraction", empty["cube"], empty["prediction"], held_out),
        lai_picture(empty["cube"], empty["prediction"], held_out),
        season_picture(empty["cube"], empty["prediction"], held_out),
    ]
    assert [picture.figure for picture in pictures] == [None] * 3
    assert all(f"not drawn: the {side} has none." in picture.caption for picture in pictures)


def test_a_prediction_of_other_years_is_left_out_with_a_sentence(three_strips):
    cube, prediction, held_out = three_strips()
    later = prediction.assign_coords(
        year=prediction["year"] + 50, time=prediction["time"] + np.timedelta64(18263, "D")
    )
    assert "share no time" in lai_picture(cube, later, held_out).caption
    assert "share no year" in class_picture("lc_fraction", cube, later, held_out).caption
    assert "missing on either side" in season_picture(cube, later, held_out).caption


def test_fields_without_any_value_are_drawn_as_no_data(three_strips):
    cube, prediction, held_out = three_strips()
    prediction = prediction.where(False)
    assert images(lai_picture(cube, prediction, held_out).figure)[4].mask.all()
    assert images(class_picture("lc_fraction", cube, prediction, held_out).figure)[1].mask.all()
    assert season_picture(cube, prediction, held_out).figure is None


def test_a_single_pixel_can_be_drawn(three_strips):
    case = [a.isel(latitude=[3], longitude=[1]) for a in three_strips()]
    assert images(lai_picture(*case).figure)[0].shape == (1, 1)


def test_pictures_have_words_for_those_who_do_not_see_them(three_strips):
    case = three_strips()
    pictures = [class_picture("lu_fraction", *case), lai_picture(*case), season_picture(*case)]
    assert "forested primary land" in pictures[0].alt
    assert "January 2002, April 2002, July 2002, October 2002" in pictures[1].alt
    assert "at most 0.50 m2 m-2" in pictures[2].alt
