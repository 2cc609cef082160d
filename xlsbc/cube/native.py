"""Two libraries that each bring a PROJ of their own, loaded in the one order that works.

With the wheels of eccodes 2.50 and pyproj 3.7 in one process, pyproj crashes Python where eccodes
was loaded first; the other way round both work (seen on Linux, 2026).
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any

from ..errors import LsbcError

__all__ = ["cfgrib", "pyproj"]


def cfgrib() -> Any:
    """The module cfgrib, after pyproj if that is installed.

    Raises
    ------
    LsbcError
        If it is not installed.
    """
    with contextlib.suppress(ImportError):
        pyproj()
    try:
        import cfgrib
        import cfgrib.dataset
    except ImportError as error:
        raise LsbcError(
            "GRIB files need cfgrib and eccodes, which are not there; pip install 'xlsbc[recipes]'"
        ) from error
    return cfgrib


def pyproj() -> Any:
    """The module pyproj.

    Raises
    ------
    ImportError
        If it is not installed.
    LsbcError
        If it would crash Python, since eccodes is loaded already.
    """
    if "eccodes" in sys.modules and "pyproj" not in sys.modules:
        raise LsbcError("pyproj would crash after eccodes: put `import pyproj` before the other")
    try:
        import pyproj
    except ImportError as error:
        raise ImportError(
            "map projections need pyproj, which is not there; install it: "
            "pip install pyproj, or conda install -c conda-forge pyproj"
        ) from error
    return pyproj
