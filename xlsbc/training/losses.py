"""What training minimises: every target where it is known, and nothing where it is not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from xlsbc.emulator.spec import Document
from xlsbc.models.network import Inputs, Outputs

if TYPE_CHECKING:  # a batch holds labels, which are defined here
    from xlsbc.training.crops import Batch

__all__ = ["Labels", "Loss", "Scales", "Weighting", "multitask_loss", "nothing"]

SMALLEST = 1e-6  # floor of a predicted share in a logarithm, as float32 resolves it

RAREST = 1e-3
"""Share below which a class weighs no more for being rarer, 1: 32 times one that is everywhere."""

ENOUGH = 8
"""Pixels of a coarse cell in a batch from which the cell's mean is worth comparing."""

WHOLE = 0.5
"""Sum from which coarse totals are shares of a cell, 1; padded and missing cells are zeros."""

TASKS = ("lu", "lc", "lai")
"""Terms that measure a target, each with an uncertainty of its own."""

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Loss(Document):
    """What is minimised, see `multitask_loss` for the terms and `Weighting` for their sum.

    Parameters
    ----------
    likelihood
        Of errors of the leaf area index; "huber" for labels with outliers, such as clouds that
        were taken for leaves.
    huber_delta
        Error beyond which Huber's loss grows linearly, standard deviations of the field.
    weights
        Whether weights of targets are those below, or learned on top of them.
    lu, lc, lai
        Weight of land use, land cover and leaf area index, 1.
    totals
        Weight of the misfit to coarse land-use totals, 1.
    changes
        Weight of the misfit of changes of leaf area from step to step, 1.
    area_weighted
        Whether pixels count by their area, or each the same.
    class_balanced
        Whether pixels of rare classes count more.
    """

    likelihood: Literal["gaussian", "huber"] = "gaussian"
    huber_delta: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    weights: Literal["fixed", "uncertainty"] = "fixed"
    lu: Weight = 1.0
    lc: Weight = 1.0
    lai: Weight = 1.0
    totals: Weight = 0.0
    changes: Weight = 0.0
    area_weighted: bool = True
    class_balanced: bool = False

    @model_validator(mode="after")
    def _something_counts(self) -> Loss:
        if not any((self.lu, self.lc, self.lai, self.totals, self.changes)):
            raise ValueError(
                "expected a weight above 0; found lu, lc, lai, totals and changes all 0, which "
                "leaves nothing to learn; leave out one of them for its default"
            )
        return self


@dataclass(frozen=True, eq=False)
class Scales:
    """Spread and frequency of the targets in the training part, see `xlsbc.training.survey`.

    Parameters
    ----------
    lai_variance, lai_change
        Variance of the leaf area index, and of its change from one step to the next, 1.
    lu_share, lc_share
        ``(class,)``, mean share of every class, 1; `None` where the cube has none.
    """

    lai_variance: float = 1.0
    lai_change: float = 1.0
    lu_share: np.ndarray | None = None
    lc_share: np.ndarray | None = None


@dataclass(frozen=True)
class Labels:
    """Targets at the pixels of a batch; NaN where unknown, `None` where the cube has none.

    Parameters
    ----------
    lu, lc
        ``(batch, class, pixel)``, shares, 1.
    lai
        ``(batch, step, pixel)``, 1.
    """

    lu: Tensor | None
    lc: Tensor | None
    lai: Tensor | None

    def to(self, device: torch.device) -> Labels:
        """The same labels on `device`."""
        values = (None if v is None else v.to(device) for v in (self.lu, self.lc, self.lai))
        return Labels(*values)


@dataclass(frozen=True)
class Mean:
    """A mean that is not yet divided: the weighted sum of what is known and the sum of weights."""

    total: Tensor
    weight: Tensor

    @classmethod
    def of(cls, values: Tensor, known: Tensor, weight: Tensor) -> Mean:
        """Of the known values, all arguments of shapes that broadcast."""
        weight = torch.where(known, weight, 0)
        return cls((torch.where(known, values, 0) * weight).sum(), weight.sum())


def multitask_loss(outputs: Outputs, batch: Batch, loss: Loss, scales: Scales) -> dict[str, Tensor]:
    """Terms of the loss, unweighted, each in units of its own spread, so that they may be added.

    Parameters
    ----------
    outputs
        At the pixels of `batch`.
    batch
        Labels, areas and coarse totals. Fractions that were given are not scored.
    loss
        Which terms, and of which form.
    scales
        Of the training part.

    Returns
    -------
    dict
        ``lu`` and ``lc``: cross-entropy with soft labels, nat. ``lai``: squared error over
        `Scales.lai_variance`, or twice Huber's loss of the error over its root, the same where
        errors are small. ``totals``: squared distance between the area-weighted mean of the land
        use predicted in a coarse cell and the cell's total, summed over classes, whether or not a
        pixel has labels. ``changes``: squared error of the change of leaf area between steps that
        are both known, over `Scales.lai_change`. Each is a mean over what is known, of pixels by
        area; the last two only where `loss` gives them weight. What is given, absent or unknown
        at every pixel has no entry.

    References
    ----------
    Huber, 1964, Annals of Mathematical Statistics 35(1), doi:10.1214/aoms/1177703732; Brier, 1950,
    Monthly Weather Review 78(1), eq. 2 (distance of shares).
    """
    labels, area = batch.labels, batch.area
    weight = area if loss.area_weighted else torch.ones_like(area)
    means = {}
    for name, share in (("lu", scales.lu_share), ("lc", scales.lc_share)):
        target = getattr(labels, name)
        if target is not None and f"{name}_fraction" not in batch.given:
            rarity = balance(share, target) if loss.class_balanced and share is not None else None
            means[name] = cross_entropy(getattr(outputs, name), target, weight, rarity)
    if labels.lai is not None:
        means["lai"] = leaf_error(outputs.lai, labels.lai, weight, loss, scales.lai_variance)
        if loss.changes > 0:
            means["changes"] = change_error(outputs.lai, labels.lai, weight, scales.lai_change)
    if loss.totals > 0 and batch.inputs.driver is not None and "lu_fraction" not in batch.given:
        # A total is one of area, whatever pixels count for in the other terms.
        means["totals"] = total_error(outputs.lu, batch.inputs, batch.y, batch.x, area)
    if not means:
        return {}
    weights = torch.stack([mean.weight for mean in means.values()]).tolist()  # waits once for a GPU
    return {
        name: mean.total / mean.weight
        for (name, mean), found in zip(means.items(), weights, strict=True)
        if found != 0
    }


def cross_entropy(share: Tensor, target: Tensor, weight: Tensor, rarity: Tensor | None) -> Mean:
    """Cross-entropy of shares ``(batch, class, pixel)``, nat, where all classes are known.

    With `rarity`, weights ``(class,)``, a pixel counts by their mean in it. They do not stand
    before the logarithms, as they do for pixels of one class: shares in a mixed pixel would then be
    learned in proportion to weight times share, and rare classes be overstated.
    """
    known, label = target.isfinite().all(1), finite(target)
    values = -(label * share.clamp_min(SMALLEST).log()).sum(1)
    if rarity is not None:
        values = values * (label * rarity[:, None]).sum(1)
    return Mean.of(values, known, weight)


def balance(share: np.ndarray, like: Tensor) -> Tensor:
    """Weight of every class ``(class,)`` by the root of its rarity, 1 on average over pixels.

    The root, because weights by rarity itself leave the loss to the errors of few labels.

    References
    ----------
    Cui et al., 2019, CVPR, doi:10.1109/CVPR.2019.00949, section 1 (inverse frequency, and its root
    as used by Mahajan et al., 2018, ECCV).
    """
    shares = torch.as_tensor(share, dtype=like.dtype, device=like.device)
    weights = shares.clamp_min(RAREST).rsqrt()
    return weights / (weights * shares).sum()


def leaf_error(lai: Tensor, target: Tensor, weight: Tensor, loss: Loss, variance: float) -> Mean:
    """Error of leaf area ``(batch, step, pixel)`` in units of its spread."""
    known, label = target.isfinite(), finite(target)
    if loss.likelihood == "huber":
        error = functional.huber_loss(
            lai / variance**0.5, label / variance**0.5, reduction="none", delta=loss.huber_delta
        )
        return Mean.of(2 * error, known, weight[:, None])
    return Mean.of((lai - label).square() / variance, known, weight[:, None])


def change_error(lai: Tensor, target: Tensor, weight: Tensor, variance: float) -> Mean:
    """Squared error of changes of leaf area from step to step, in units of their variance."""
    known = target.isfinite()
    error = lai.diff(dim=1) - finite(target).diff(dim=1)
    return Mean.of(error.square() / variance, known[:, 1:] & known[:, :-1], weight[:, None])


def total_error(lu: Tensor, inputs: Inputs, y: Tensor, x: Tensor, area: Tensor) -> Mean:
    """Squared distance of predicted land use ``(batch, lu, pixel)`` to totals of coarse cells."""
    assert inputs.driver is not None
    assert inputs.driver_row is not None
    assert inputs.driver_column is not None
    rows, columns = inputs.driver.shape[-2:]
    row = inputs.driver_row.gather(1, y).round().long().clamp(0, rows - 1)
    column = inputs.driver_column.gather(1, x).round().long().clamp(0, columns - 1)
    cells = torch.arange(rows * columns, device=y.device)
    # A matrix product, because sums by index come in any order on a GPU.
    inside = (row * columns + column)[..., None] == cells  # (batch, pixel, cell)
    share = area[..., None] * inside
    predicted = (lu @ share) / share.sum(1, keepdim=True).clamp_min(SMALLEST)
    total = inputs.driver.flatten(2)  # (batch, lu, cell)
    compared = (total.sum(1) >= WHOLE) & (inside.sum(1) >= ENOUGH)
    distance = (predicted - finite(total)).square().sum(1)
    return Mean.of(distance, compared, torch.ones_like(distance))


def finite(values: Tensor) -> Tensor:
    """Values with 0 for what is not finite: a NaN that is masked later still spoils gradients."""
    return torch.where(values.isfinite(), values, 0)


def nothing(outputs: Outputs) -> Tensor:
    """A zero that hangs on all outputs, so that a batch without labels can be passed back.

    Every process of a distributed training must pass something back through every parameter.
    """
    fields = (outputs.lu, outputs.lc, outputs.lai, outputs.leaves)
    return torch.stack([field[:0].sum() for field in fields]).sum()


class Weighting(nn.Module):
    """The sum of weighted terms.

    With learned weights, every target has a variance :math:`e^s` of its own, and contributes
    :math:`e^{-s} L + s/2` where *L* is a cross-entropy, :math:`e^{-s} L/2 + s/2` where it is a
    squared error; *s* starts at 0. Terms of totals and changes, which are no targets of their own,
    keep fixed weights. Weight decay must leave *s* alone: it would pull it to 0.

    Parameters
    ----------
    loss
        Weights, and whether more are learned.

    References
    ----------
    Kendall, Gal and Cipolla, 2018, CVPR, arXiv:1705.07115, eq. 10, with s = log of the variance.
    """

    log_variance: Tensor | None

    def __init__(self, loss: Loss) -> None:
        super().__init__()
        self.weights = {name: getattr(loss, name) for name in (*TASKS, "totals", "changes")}
        learned = nn.Parameter(torch.zeros(len(TASKS))) if loss.weights == "uncertainty" else None
        self.register_parameter("log_variance", learned)

    def total(self, terms: dict[str, Tensor], like: Tensor | None = None) -> Tensor:
        """What is minimised, a scalar.

        Parameters
        ----------
        terms
            `multitask_loss`. One that is absent contributes nothing, its variance included.
        like
            `nothing` of the outputs, to which the terms are added.
        """
        total = torch.zeros(()) if like is None else like
        if self.log_variance is not None:
            total = total.to(self.log_variance) + self.log_variance[:0].sum()
        for name, term in terms.items():
            total = total + self.weights[name] * self._of_variance(name, term)
        return total

    def _of_variance(self, name: str, term: Tensor) -> Tensor:
        """A term by its variance, if that is learned."""
        if self.log_variance is None or name not in TASKS:
            return term
        s = self.log_variance[TASKS.index(name)]
        return (-s).exp() * (term / 2 if name == "lai" else term) + s / 2
