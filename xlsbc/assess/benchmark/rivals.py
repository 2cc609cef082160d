"""Baselines as products: what a cell of the benchmark without a network predicts.

A rival learns from the labels that an emulator of the same cell would learn from, and covers every
step that an emulator covers, so that all of them are scored on one sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import xarray as xr

from xlsbc.assess import baselines
from xlsbc.assess.alignment import align, align_mask, mask_mismatches, mismatches
from xlsbc.assess.steps import bridged, training_steps
from xlsbc.cube.vocabulary import VOCABULARY
from xlsbc.errors import CubeError

__all__ = ["RIVALS", "rival"]

RIVALS: tuple[str, ...] = (
    "persistence",
    "class_by_month_climatology",
    "coarse_upsampled",
    "gradient_boosting",
)

_TARGETS = ("lu_fraction", "lc_fraction", "lai")
_INPUTS = ("static", "forcing", "scalar", "driver")


def rival(
    name: str,
    cube: xr.Dataset,
    labels: xr.Dataset,
    where: xr.DataArray,
    train: xr.DataArray,
    *,
    years: Iterable[int] | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """The product of a baseline, as an emulator would have predicted it.

    Parameters
    ----------
    name
        One of `RIVALS`.
    cube
        Conformed, with its inputs and the whole truth. Of the truth only ``persistence`` sees the
        year before, that of held-out pixels too, and ``class_by_month_climatology`` the dominant
        land cover.
    labels
        The targets of the cube as training knows them: NaN where a label was thinned away, in
        space or in time.
    where
        ``(latitude, longitude)``, True in the held-out pixels.
    train
        ``(latitude, longitude)``, True in the training pixels.
    years
        Calendar years that train; all by default. No label of another year is used.
    seed
        Of ``gradient_boosting``: its columns are all static, forcing, scalar and driver variables
        of the cube, and nothing is given.

    Returns
    -------
    Dataset
        Those of ``lu_fraction``, ``lc_fraction`` (1), ``lai`` (m2 m-2) that the baseline can tell
        and that had a label, at all years and times of the cube. LAI is linear in time over
        calendar months without a label (`xlsbc.assess.steps.bridged`), fractions without a year of
        their own are those of the nearest year. NaN in the first year of ``persistence`` and
        outside ``where`` in ``gradient_boosting``, which is in memory; the others are as lazy as
        the cube, but read the labels.

    Raises
    ------
    CubeError
        If there is no such baseline, labels or masks do not fit the cube, or there is nothing
        that the baseline could tell: lists everything.
    """
    _require(name, cube, labels, {"where": where, "train": train})
    if name == "persistence":
        product = baselines.persistence(cube[[t for t in _TARGETS if t in cube]])
    else:
        years = None if years is None else list(years)
        product = _LEARNERS[name](_Case.of(cube, labels, where, train, years, seed))
    if not product.data_vars:
        raise CubeError(f"{name!r} has nothing to tell", [_why(name, cube, years)])
    return product


@dataclass(frozen=True, eq=False)
class _Case:
    """What a baseline may learn from."""

    cube: xr.Dataset
    known: xr.Dataset  # the cube with labels in place of the truth
    labelled: dict[str, np.ndarray]  # steps of each target with a label that trains
    where: xr.DataArray
    train: xr.DataArray
    years: list[int] | None
    seed: int

    @classmethod
    def of(
        cls,
        cube: xr.Dataset,
        labels: xr.Dataset,
        where: xr.DataArray,
        train: xr.DataArray,
        years: list[int] | None,
        seed: int,
    ) -> _Case:
        targets = {}
        for name in (name for name in _TARGETS if name in cube):
            field, _ = align(labels[name], cube[name])
            steps = xr.DataArray(training_steps(field, years), dims=_step(field))
            targets[name] = field.where(steps)
        labelled = _labelled(targets, align_mask(train, cube))
        return cls(cube, cube.assign(targets), labelled, where, train, years, seed)

    @property
    def months(self) -> np.ndarray:
        """Calendar months in which some LAI trains."""
        return np.unique(self.cube["time"].dt.month.values[self.labelled["lai"]])


def _labelled(targets: dict[str, xr.DataArray], train: xr.DataArray) -> dict[str, np.ndarray]:
    """Steps at which some training pixel has a label, of the targets that have any; computes."""
    import dask

    some = {
        name: (field.notnull() & train).any([d for d in field.dims if d != _step(field)])
        for name, field in targets.items()
    }
    (computed,) = dask.compute(some)
    return {name: steps.values for name, steps in computed.items() if steps.values.any()}


def _class_by_month(case: _Case) -> xr.Dataset:
    if "lai" not in case.labelled:
        return xr.Dataset()
    known = case.known[["lai"]]
    if "lc_fraction" in case.cube:
        known = known.assign(lc_fraction=case.cube["lc_fraction"])
    lai = baselines.class_by_month_climatology(known, case.train)
    return bridged(lai, case.months).to_dataset(name="lai")


def _coarse(case: _Case) -> xr.Dataset:
    told = list(case.labelled)
    if "lu_fraction" in case.cube and "lu_total" in case.cube and "lu_fraction" not in told:
        told.append("lu_fraction")  # from the driver, which is no label
    product = baselines.coarse_upsampled(case.known[told], case.cube, case.train)
    if "lai" in product:
        product["lai"] = bridged(product["lai"], case.months)
    return product


def _boosted(case: _Case) -> xr.Dataset:
    names = [str(name) for name, field in case.cube.items() if _role(str(name), field) in _INPUTS]
    product = {}
    for target in case.labelled:
        if target == "lai":
            lai = baselines.boosting(
                case.known, names, case.where, case.train, years=case.years, seed=case.seed
            )
            product[target] = bridged(lai, case.months)
        else:
            product[target] = baselines.boosting_fractions(
                case.known, names, target, case.where, case.train, years=case.years, seed=case.seed
            )
    return xr.Dataset(product)


_LEARNERS: dict[str, Callable[[_Case], xr.Dataset]] = {
    "class_by_month_climatology": _class_by_month,
    "coarse_upsampled": _coarse,
    "gradient_boosting": _boosted,
}


def _role(name: str, field: xr.DataArray) -> str | None:
    return VOCABULARY[name].role if name in VOCABULARY else field.attrs.get("xlsbc_role")


def _step(field: xr.DataArray) -> str:
    return "time" if "time" in field.dims else "year"


def _why(name: str, cube: xr.Dataset, years: Iterable[int] | None) -> str:
    """Why a baseline is without anything to tell."""
    has = ", ".join(target for target in _TARGETS if target in cube) or "no target"
    if name == "persistence":
        return (
            "expected a target in two years that follow each other; found "
            f"{has} at {' and '.join(_spans(cube)) or 'no year'}; leave this baseline out"
        )
    wanted = "lai" if name == "class_by_month_climatology" else ", ".join(_TARGETS)
    when = "all years" if years is None else f"the years {list(years)}"
    return (
        f"expected a label of {wanted} in a training pixel in {when}; found none in a cube with "
        f"{has}; keep more labels or leave this baseline out"
    )


def _spans(cube: xr.Dataset) -> Iterator[str]:
    """Years of the maps and of the times."""
    for dim in (dim for dim in ("year", "time") if dim in cube.coords):
        steps = cube[dim].dt.year if dim == "time" else cube[dim]
        yield f"{dim} {', '.join(str(year) for year in np.unique(steps.values))}"


def _require(
    name: str, cube: xr.Dataset, labels: xr.Dataset, masks: dict[str, xr.DataArray]
) -> None:
    problems = []
    if name not in RIVALS:
        problems.append(f"expected one of {', '.join(RIVALS)}; found {name!r}; correct the name")
    for target in (target for target in _TARGETS if target in cube):
        if target not in labels:
            problems.append(f"labels: expected {target!r}; not found; thin a copy of the cube")
            continue
        # Either way round, as a field may have fewer steps than what it is held against.
        pair = labels[target], cube[target]
        unfit = mismatches(*pair) or mismatches(*reversed(pair))
        problems += [f"labels: {problem}" for problem in unfit]
    for role, mask in masks.items():
        unfit = mask_mismatches(mask.rename(role), cube)
        if not unfit and not bool(mask.any()):
            unfit = [f"{role!r}: expected some pixel; found none; split again"]
        problems += unfit
    if problems:
        raise CubeError("a baseline cannot be made", problems)
