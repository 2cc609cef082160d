"""Adapt TerraMind to a cube with LoRA, keep what was added, predict with it; runs offline."""

from pathlib import Path

import torch

import xlsbc
from xlsbc.cube.synthetic import synthetic_cube
from xlsbc.models.terramind import TerraMind

# Random numbers by the official names, in place of what you would download:
# weights = "hf://ibm-esa-geospatial/TerraMind-1.0-tiny/TerraMind_v1_tiny.pt"
weights = "weights/TerraMind_v1_tiny.pt"
Path("weights").mkdir(exist_ok=True)
torch.manual_seed(0)
torch.save(TerraMind.of("tiny").state_dict(), weights)

cube = synthetic_cube(region=(8.0, 45.6, 8.5, 46.0), years=(2000, 2001))
emulator = xlsbc.fit(
    cube,
    backbone="terramind",
    variant="tiny",
    adaptation="lora",
    weights=weights,
    steps=3,  # enough to see that it runs; a training takes thousands
    crop=32,
    progress=False,
)
print(emulator.summary())

emulator.save("emulator")  # what was added; the base stays in its own file
prediction = cube.lsbc.predict("emulator")
prediction.lsbc.write("prediction.zarr", progress=False)
