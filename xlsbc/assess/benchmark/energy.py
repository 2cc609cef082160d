"""Energy, where the machine tells it: counters of NVIDIA's driver and of the processor (RAPL).

Both are of the whole device: what else runs on it counts as well. On most clouds neither is there.
"""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path

import torch

__all__ = ["Meter"]

PACKAGES = Path("/sys/class/powercap")


class Meter:
    """Energy from now on."""

    def __init__(self) -> None:
        self._begun = counters()

    def joules(self) -> float:
        """Since the beginning, J; NaN where nothing tells it, or where a counter began anew."""
        now = counters()
        spent = [now[k] - before for k, before in self._begun.items() if k in now]
        return sum(spent) if spent and min(spent) >= 0 else math.nan


def counters() -> dict[str, float]:
    """Energy that every device has taken since some time, J."""
    found = {}
    for path in PACKAGES.glob("intel-rapl:[0-9]"):
        with suppress(OSError, ValueError):  # only root may read on many machines
            # not of the platform, which is what its packages take and more
            if (path / "name").read_text().startswith("package"):
                found[path.name] = int((path / "energy_uj").read_text()) / 1e6
    if torch.cuda.is_available():
        with suppress(ImportError, AttributeError):
            import pynvml

            with suppress(pynvml.NVMLError):
                pynvml.nvmlInit()
                handle = pynvml.nvmlDeviceGetHandleByUUID(
                    f"GPU-{torch.cuda.get_device_properties(0).uuid}"
                )
                found["gpu"] = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3
    return found
