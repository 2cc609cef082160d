from __future__ import annotations

import re

import pytest

from xlsbc.emulator import Architecture
from xlsbc.errors import TrainingError
from xlsbc.training.config import Training
from xlsbc.training.rehearsal import rehearse

CONFIG = Training(
    architecture=Architecture(width=(8, 16), climate=4, hidden=8), batch_size=2, crop=16, steps=30
)


def test_a_rehearsal_tells_shapes_memory_speed_labels_and_time(world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = rehearse(
        world.assign(lu_fraction=world["lu_fraction"].where(world["year"] == 2000)), CONFIG
    )
    assert re.search(r"input static +2 x 6 x 16 x 16\n", told)
    assert re.search(r"label lai +2 x 12 x 32\n", told)
    assert re.search(r"labels +lu_fraction 50\.00%", told)
    assert re.search(r"labels +lc_fraction 100\.00%", told)
    assert re.search(r"network +[\d.]+ samples/s", told)
    assert re.search(r"epoch +\d+ steps, about \d+ s", told)
    assert re.search(r"training +30 steps", told)
    assert re.search(r"loader +[1-9]\d* MiB when full", told)
    assert list(tmp_path.iterdir()) == []


def test_a_rehearsal_says_what_stands_against_the_training(world):
    with pytest.raises(TrainingError, match="the cube cannot train"):
        rehearse(world, CONFIG.changed(optional=("soil",)))
