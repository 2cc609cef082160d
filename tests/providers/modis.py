"""Small granules as NASA encodes the leaf area index of MODIS, in HDF4-EOS."""

from __future__ import annotations

from pathlib import Path

import numpy as np

TILE = 1111950.519667  # side of a tile, m: 10 degrees on the sphere of MODIS
WEST, NORTH = -18 * TILE, 9 * TILE  # of the global grid
RADIUS = 6371007.181

# Flags from 249 on, a water pixel, tenths of leaf area; QC bytes with SCF_QC in bits 5 to 7.
MAIN, SATURATED, BACKUP, NONE = 0 << 5, 1 << 5, 3 << 5, 4 << 5


def write(
    folder: Path,
    *,
    dates: tuple[str, ...] = ("2012177",),
    collection: str = "061",
    tile: tuple[int, int] = (17, 3),
    row: int = 0,
    column: int = 0,
    lai: np.ndarray | None = None,
    qc: np.ndarray | None = None,
    name: str | None = None,
    begins: str | None = "",
    projection: str = "GCTP_SNSOID",
    shape: tuple[int, int] = (24, 36),
) -> list[Path]:
    """Write a piece of a tile for each date, from a row and a column of the tile on.

    Collection "005" has pixels of 1 km and 1200 of them, the later ones twice as many. ``begins``
    is RANGEBEGINNINGDATE, that of the date if "", absent if None.
    """
    from pyhdf.SD import SD, SDC

    old = collection == "005"
    product, layer = ("MCD15A2", "Lai_1km") if old else ("MCD15A2H", "Lai_500m")
    pixel = TILE / (1200 if old else 2400)
    lai = np.full(shape, 25, np.uint8) if lai is None else lai.astype(np.uint8)
    qc = np.full(lai.shape, MAIN, np.uint8) if qc is None else qc.astype(np.uint8)
    west, north = WEST + tile[0] * TILE + column * pixel, NORTH - tile[1] * TILE - row * pixel
    files = []
    for date in dates:
        where = f"h{tile[0]:02d}v{tile[1]:02d}"
        files.append(folder / (name or f"{product}.A{date}.{where}.{collection}.2021001000000.hdf"))
        granule = SD(str(files[-1]), SDC.WRITE | SDC.CREATE | SDC.TRUNC)
        rows, columns = lai.shape
        corners = (west, north, west + columns * pixel, north - rows * pixel)
        grid = f"MOD_Grid_{product}"
        _text(granule, "StructMetadata.0", _struct(grid, lai.shape, corners, projection))
        day = np.datetime64(date[:4], "D") + int(date[4:]) - 1
        if begins is not None:
            _text(granule, "CoreMetadata.0", _core(begins or str(day)))
        for field, values, scale in ((layer, lai, 0.1), ("FparLai_QC", qc, None)):
            stored = granule.create(field, SDC.UINT8, values.shape)
            stored.dim(0).setname(f"YDim:{grid}")
            stored.dim(1).setname(f"XDim:{grid}")
            stored[:] = values
            stored.attr("_FillValue").set(SDC.UINT8, 255)
            stored.attr("valid_range").set(SDC.UINT8, [0, 254 if scale is None else 100])
            stored.attr("long_name").set(SDC.CHAR8, f"{product} MODIS/Terra+Aqua {field}")
            if scale is not None:
                stored.attr("scale_factor").set(SDC.FLOAT64, scale)
                stored.attr("add_offset").set(SDC.FLOAT64, 0.0)
                stored.attr("units").set(SDC.CHAR8, "m^2/m^2")
            stored.endaccess()
        granule.end()
    return files


def _text(granule, name: str, text: str) -> None:
    from pyhdf.SD import SDC

    granule.attr(name).set(SDC.CHAR8, text)


def _struct(grid: str, shape: tuple[int, ...], corners: tuple[float, ...], projection: str) -> str:
    west, north, east, south = corners
    return f"""GROUP=SwathStructure
END_GROUP=SwathStructure
GROUP=GridStructure
\tGROUP=GRID_1
\t\tGridName="{grid}"
\t\tXDim={shape[1]}
\t\tYDim={shape[0]}
\t\tUpperLeftPointMtrs=({west:.6f},{north:.6f})
\t\tLowerRightMtrs=({east:.6f},{south:.6f})
\t\tProjection={projection}
\t\tProjParams=(6371007.181000,0,0,0,0,0,0,0,0,0,0,0,0)
\t\tSphereCode=-1
\t\tPixelRegistration=HDFE_CENTER
\tEND_GROUP=GRID_1
END_GROUP=GridStructure
END
"""


def _core(begins: str) -> str:
    return f"""
  GROUP                  = RANGEDATETIME
    OBJECT                 = RANGEBEGINNINGDATE
      NUM_VAL              = 1
      VALUE                = "{begins}"
    END_OBJECT             = RANGEBEGINNINGDATE
  END_GROUP              = RANGEDATETIME
"""
