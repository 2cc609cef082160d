"""The variables of a prediction: their dims and CF attributes, and which ones an emulator gives."""

from __future__ import annotations

from dataclasses import dataclass

from xlsbc.cube.vocabulary import attributes
from xlsbc.emulator.artefact import Emulator

__all__ = ["OUTPUTS", "Output", "lengths", "outputs_of"]


@dataclass(frozen=True)
class Output:
    """A predicted variable: its dims before latitude and longitude, and its attributes."""

    dims: tuple[str, ...]
    attrs: dict[str, str]


OUTPUTS = {
    "lu_fraction": Output(("year", "lu_class"), attributes("lu_fraction")),
    "lc_fraction": Output(("year", "lc_class"), attributes("lc_fraction")),
    "cvh": Output(
        ("year",),
        {"standard_name": "area_fraction", "long_name": "cover of high vegetation", "units": "1"},
    ),
    "cvl": Output(
        ("year",),
        {"standard_name": "area_fraction", "long_name": "cover of low vegetation", "units": "1"},
    ),
    "lai": Output(("time",), attributes("lai")),
    "lai_hv": Output(
        ("time",),
        {
            "standard_name": "leaf_area_index",
            "long_name": "leaf area index of high vegetation",
            "units": "1",
            "cell_methods": "area: mean where high vegetation",
        },
    ),
    "lai_lv": Output(
        ("time",),
        {
            "standard_name": "leaf_area_index",
            "long_name": "leaf area index of low vegetation",
            "units": "1",
            "cell_methods": "area: mean where low vegetation",
        },
    ),
}


def outputs_of(emulator: Emulator, given: tuple[str, ...]) -> tuple[str, ...]:
    """Variables that an emulator can stand for: what it learned, what is given, what follows.

    Heads that are not coupled know nothing of what is given, and nothing follows from it.
    """
    known = {*emulator.spec.targets, *given}
    if not emulator.spec.architecture.coupled:
        known -= {*given}
    if "lc_fraction" in known:
        known |= {"cvh", "cvl"}
        if "lai" in known:
            known |= {"lai_hv", "lai_lv"}
    return tuple(name for name in OUTPUTS if name in known)


def lengths(emulator: Emulator, name: str) -> tuple[int, ...]:
    """Lengths of a variable's dims before latitude and longitude, for one year."""
    by_dim = {"year": 1, "time": len(emulator.spec.steps)}
    by_dim |= {"lu_class": len(emulator.lu.classes), "lc_class": len(emulator.lc.classes)}
    return tuple(by_dim[dim] for dim in OUTPUTS[name].dims)
