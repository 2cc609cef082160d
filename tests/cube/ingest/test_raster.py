import numpy as np
import pytest
import xarray as xr

from xlsbc.cube.ingest import raster
from xlsbc.cube.ingest.soils import HOMOLOSINE
from xlsbc.errors import SourceError


def metres(x, y, step, columns, rows):
    axes = {"y": y - step * (np.arange(rows) + 0.5), "x": x + step * (np.arange(columns) + 0.5)}
    return xr.DataArray(np.ones((rows, columns), "f4"), axes, ("y", "x"))


def test_a_projected_raster_across_the_date_line_stays_in_one_piece():
    # UTM zone 60 ends at 180 E; at the equator its metre 833978.56 does.
    values = metres(800_000, 20_000, 500, 140, 40)

    latitude, longitude = raster.pixels(values, "EPSG:32660")

    assert 177 < longitude[0] < 180 < longitude[-1] < 181
    assert longitude.size < 100
    assert raster.on_lattice(values, "EPSG:32660").max() == 1


def test_homolosine_reaches_all_round_though_most_of_its_rim_is_nowhere():
    # The box of SoilGrids, in pixels of 250 km.
    values = metres(-19_949_750, 8_361_000, 250_000, 159, 58)

    latitude, longitude = raster.pixels(values, HOMOLOSINE)

    # Chukotka and Fiji lie at 180 E, the north of Greenland at 83.6 N.
    assert longitude[0] < -179.9
    assert longitude[-1] > 179.9
    assert latitude[0] > 83.6
    assert latitude[-1] < -56


def test_a_raster_that_is_nowhere_in_its_projection_is_refused():
    with pytest.raises(SourceError, match="no point of the raster lies on the Earth"):
        raster.pixels(metres(9e7, 9e7, 500, 10, 10), HOMOLOSINE)


def test_touching_boxes_whose_border_is_a_pixels_centre_share_no_pixel():
    step = 1 / 240

    def box(west):
        axes = {
            "latitude": 47 - step * (np.arange(8) + 0.5),
            "longitude": west + step * (np.arange(9) + 0.5),
        }
        return xr.DataArray(np.ones((8, 9), "f4"), axes, ("latitude", "longitude"))

    # 9 of 1/240 are 4.5 pixels: the second box begins in the middle of one.
    one, other = (raster.pixels(box(west))[1] for west in (10.0, 10.0 + 9 * step))

    places = np.round((np.concatenate([one, other]) - 10) * 120 - 0.5).astype(int)
    assert places.tolist() == list(range(9))
