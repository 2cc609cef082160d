"""Whether change was predicted where it happened: two maps of the reference and one predicted.

Little of a landscape changes in a few years, so a map that stays as it was is nearly all right. The
figure of merit counts only what changed in either, and stands beside the accuracy of that null
model.

References
----------
Pontius, R. G. et al. (2008): Comparing the input, output, and validation maps for several models of
land change. Annals of Regional Science 42, 11-37, section 2.3 (figure of merit, and its parts).
Pontius, R. G., Peethambaram, S. and Castella, J.-C. (2011): Comparison of three maps at multiple
resolutions. Annals of the Association of American Geographers 101, 45-62.
"""

from __future__ import annotations

from collections.abc import Sequence

import xarray as xr

from .alignment import align, lay
from .groups import By, total
from .metrics import used_pairs


def change_sums(
    prediction: xr.DataArray,
    reference: xr.DataArray,
    before: xr.DataArray,
    weight: xr.DataArray,
    class_dim: str,
    dims: Sequence[str] | None = None,
    by: By = None,
) -> xr.Dataset:
    """Sums behind the scores of change of the dominant class.

    Parameters
    ----------
    prediction, reference
        Fractions (1) with ``class_dim`` at the later time, one or many years, the same dimensions
        and coordinates. A pixel with a NaN in any class of any of the three is left out.
    before
        The reference at the earlier time: one map that all years are held against, without
        ``year``, or a map for each year, such as ``reference.shift(year=1)`` for yearly change.
    weight
        Broadcasts against them, without ``class_dim``; 0 leaves a pixel out. Cell area (m2), say.
    class_dim
        The dimension of the classes. The first class of the legend wins a tie.
    dims
        Dimensions to sum over; all but ``class_dim`` by default.
    by
        Groups to keep apart.

    Returns
    -------
    Dataset
        ``n`` (pixels) and weights: ``weight``, ``hits`` (change predicted as it was),
        ``wrong_hits`` (as change to another class), ``misses`` (as persistence), ``false_alarms``
        (persistence as change) and ``persistence`` (predicted as it was); lazy on lazy data.

    Raises
    ------
    CubeError
        If the three do not share grid, calendar or legend, or weight or groups do not fit them.
    """
    prediction, reference = align(prediction, reference)
    before = lay(before.rename("before"), reference)
    maps = [prediction, reference, before]
    valid = maps[0].notnull().all(class_dim)
    for each in maps[1:]:
        valid = valid & each.notnull().all(class_dim)
    used, weight = used_pairs(valid, weight)
    guess, later, earlier = (each.fillna(0).argmax(class_dim) for each in maps)
    changed, moved, right = later != earlier, guess != earlier, guess == later
    terms = {
        "n": used,
        "weight": weight,
        "hits": weight * (changed & right),
        "wrong_hits": weight * (changed & moved & ~right),
        "misses": weight * (changed & ~moved),
        "false_alarms": weight * (~changed & moved),
        "persistence": weight * (~changed & ~moved),
    }
    return total({k: v.transpose(*used.dims) for k, v in terms.items()}, dims, by)


def change_scores(sums: xr.Dataset) -> xr.Dataset:
    """Scores of change, all 1, and the number of pixels ``n``.

    ``figure_of_merit`` is hits over hits, wrong hits, misses and false alarms. ``change_recall``
    (producer's accuracy) is hits over the change that there was, ``change_precision`` (user's
    accuracy) hits over the change that was predicted. ``observed_change`` and ``predicted_change``
    are shares of the area, ``overall_accuracy`` is that of the later map and ``null_accuracy`` what
    the earlier map reaches in its place: a prediction below it is worse than that nothing changes.

    All but ``n`` are NaN where there is no pixel; ``change_recall`` where nothing changed,
    ``change_precision`` where no change was predicted, ``figure_of_merit`` where neither was. False
    alarms where nothing changed are a figure of merit of 0.
    """
    weight = sums["weight"].where(sums["n"] > 0)
    observed = sums["hits"] + sums["wrong_hits"] + sums["misses"]
    predicted = sums["hits"] + sums["wrong_hits"] + sums["false_alarms"]
    either = observed + sums["false_alarms"]
    return xr.Dataset(
        {
            "figure_of_merit": sums["hits"] / either.where(either > 0),
            "change_recall": sums["hits"] / observed.where(observed > 0),
            "change_precision": sums["hits"] / predicted.where(predicted > 0),
            "observed_change": observed / weight,
            "predicted_change": predicted / weight,
            "overall_accuracy": (sums["hits"] + sums["persistence"]) / weight,
            "null_accuracy": (sums["false_alarms"] + sums["persistence"]) / weight,
            "n": sums["n"],
        }
    )
