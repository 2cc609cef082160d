"""A world for experiments of seconds."""

import pytest

from xlsbc.cube.schema import conform
from xlsbc.cube.synthetic.cube import synthetic_cube

OPTIONS = {"region": [9.0, 46.0, 9.75, 46.5], "years": [2000, 2003]}


@pytest.fixture(scope="session")
def small_world():
    """60 x 90 pixels, four years, with gaps."""
    return conform(synthetic_cube(**OPTIONS))
