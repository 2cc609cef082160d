"""The emulator: what it is, what it reads from a cube, and its artefact."""

from xlsbc.emulator.artefact import Emulator
from xlsbc.emulator.spec import Architecture, InputVariable, Lattice, Spec, Split

__all__ = ["Architecture", "Emulator", "InputVariable", "Lattice", "Spec", "Split"]
