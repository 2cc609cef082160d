"""What training minimises: every target where it is known, and nothing where it is not."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from xlsbc.models.network import Outputs

__all__ = ["Labels", "multitask_loss"]

SMALLEST = 1e-6  # floor of a predicted share in a logarithm, as float32 resolves it


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


def multitask_loss(
    outputs: Outputs, labels: Labels, *, given: tuple[str, ...], lai_variance: float
) -> dict[str, Tensor]:
    """Loss of each target, all in units of its own spread, so that they may be added.

    Parameters
    ----------
    outputs
        At the pixels of `labels`.
    labels
        Targets.
    given
        Fractions that were given: they are not scored.
    lai_variance
        Variance of the leaf area index in the training pixels, 1; errors are measured in it.

    Returns
    -------
    dict
        Cross-entropy of land use and land cover with soft labels, nat, and squared error of the
        leaf area index; each a mean over the values that are known. A target that is given,
        absent, or unknown at every pixel has no entry.
    """
    losses = {}
    for name in ("lu", "lc"):
        target = getattr(labels, name)
        if target is not None and f"{name}_fraction" not in given:
            known = target.isfinite().all(1)
            log_share = getattr(outputs, name).clamp_min(SMALLEST).log()
            value = -(target.nan_to_num() * log_share).sum(1)
            losses[name] = masked_mean(value, known)
    if labels.lai is not None:
        error = (outputs.lai - labels.lai.nan_to_num()).square() / lai_variance
        losses["lai"] = masked_mean(error, labels.lai.isfinite())
    return {name: value for name, value in losses.items() if value is not None}


def masked_mean(values: Tensor, known: Tensor) -> Tensor | None:
    """Mean of the known values; None where there are none."""
    count = known.sum()
    if count == 0:
        return None
    return torch.where(known, values, 0).sum() / count
