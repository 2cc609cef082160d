r"""Heads that cannot disagree: land use and cover from one distribution, leaves as its mixture.

For a pixel, ``P(u, c)`` is a probability over pairs of a land use *u* and a land cover *c*; pairs
that cannot be (crops in primary forest, buildings on water) have probability 0. Then

.. math::
    LU_u = \sum_c P(u, c), \quad LC_c = \sum_u P(u, c), \quad LAI(t) = \sum_c LC_c\, L_c(t)

with class leaf areas :math:`0 \le L_c(t) \le L^{max}_c`, 0 where class *c* bears no leaves.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TRACE = 1e-9  # share that cannot be seen beside others: float32 resolves 6e-8 of 1
TINY = 1e-30  # keeps divisions by empty classes finite, and their quotients too


class LandHead(nn.Module):
    """Fractions of land use and land cover as marginals of one masked joint distribution.

    Parameters
    ----------
    channels_in
        Channels of the backbone's features.
    compatible
        ``(lu, lc)`` boolean: which pairs can be.
    """

    impossible: Tensor

    def __init__(self, channels_in: int, compatible: Tensor) -> None:
        super().__init__()
        self.register_buffer("impossible", ~compatible, persistent=False)
        self.pairs = nn.Linear(channels_in, compatible.numel())

    def forward(
        self, features: Tensor, lu: Tensor | None = None, lc: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Land use ``(batch, lu, pixel)`` and land cover ``(batch, lc, pixel)``.

        Parameters
        ----------
        features
            ``(batch, channels_in, pixel)``.
        lu, lc
            Fractions that are given, same shapes as the results. A given one is returned as it
            is and the other generated consistent with it. Of two, the cover is kept and the use
            brought to the nearest that can stand on it.
        """
        logits = torch.matmul(self.pairs.weight, features) + self.pairs.bias[:, None]
        logits = logits.unflatten(1, self.impossible.shape)  # (batch, lu, lc, pixel)
        logits = logits.masked_fill(self.impossible[..., None], -torch.inf)
        if lc is not None:
            use_given_cover = logits.softmax(1)
            if lu is not None:
                use_given_cover = couple(use_given_cover, lu, lc)
            return closed((use_given_cover * lc[:, None]).sum(2)), lc
        if lu is not None:
            return lu, closed((logits.softmax(2) * lu[:, :, None]).sum(1))
        joint = logits.flatten(1, 2).softmax(1).unflatten(1, self.impossible.shape)
        return closed(joint.sum(2)), closed(joint.sum(1))


def closed(fraction: Tensor) -> Tensor:
    """Fractions ``(batch, class, pixel)`` divided by their sum, which float64 knows to 1e-7.

    A float32 softmax over some two hundred pairs misses 1 by more than 1e-6.
    """
    return fraction / fraction.sum(1, keepdim=True, dtype=torch.float64).to(fraction.dtype)


def couple(conditional: Tensor, lu: Tensor, lc: Tensor, iterations: int = 50) -> Tensor:
    """Use given cover ``(batch, lu, lc, pixel)`` whose mixture over `lc` comes nearest to `lu`.

    Iterative proportional fitting of ``conditional * lc`` to both marginals, the cover's last:
    what is impossible stays so, and the cover is exact even where the two cannot both hold.

    References
    ----------
    Deming and Stephan, 1940, Annals of Mathematical Statistics 11(4), section 5.
    """
    for _ in range(iterations):
        use = (conditional * lc[:, None]).sum(2)
        # A use that was given as 0 keeps a trace: a cover may have no other that can stand on it.
        scale = lu.clamp_min(TRACE) / use.clamp_min(TINY)
        conditional = conditional * scale[:, :, None]
        conditional = conditional / conditional.sum(1, keepdim=True).clamp_min(TINY)
    return conditional


class LeafHead(nn.Module):
    """Leaf area index of every class at every step, within the class's bounds.

    Its first layer is linear in the yearly features and in the coarse climate state, and a 1x1
    layer commutes with interpolation: the first part is applied once a year on fine pixels, the
    second on coarse cells (`stepwise`), and only their sum is formed at every step.

    Parameters
    ----------
    channels_in
        Channels of the backbone's features.
    climate
        Channels of the climate state ``z_t``.
    bounds
        ``(lc,)`` largest leaf area index of each class, 1; 0 for a class that bears no leaves.
    hidden
        Channels between the layers.
    """

    bounds: Tensor

    def __init__(self, channels_in: int, climate: int, bounds: Tensor, hidden: int) -> None:
        super().__init__()
        self.register_buffer("bounds", bounds[bounds > 0], persistent=False)
        self.leafy = [i for i, bound in enumerate(bounds.tolist()) if bound > 0]
        self.yearly = nn.Linear(channels_in, hidden)
        self.stepwise = nn.Linear(climate, hidden)
        self.classes = nn.Linear(hidden, len(self.leafy))
        nn.init.constant_(self.classes.bias, -1.5)  # starts near 0.18 of the bound, a global mean

    def forward(self, features: Tensor, lc: Tensor, climate: Tensor) -> tuple[Tensor, Tensor]:
        """Leaf area index ``(batch, step, pixel)`` and that of each leafy class.

        Parameters
        ----------
        features
            ``(batch, channels_in, pixel)``.
        lc
            ``(batch, lc, pixel)``, fractions.
        climate
            ``(batch, step, hidden, pixel)``: `stepwise` of the climate state, brought to pixels.
        """
        yearly = torch.matmul(self.yearly.weight, features) + self.yearly.bias[:, None]
        x = F.gelu(climate + yearly[:, None])  # (batch, step, hidden, pixel)
        x = torch.matmul(self.classes.weight, x) + self.classes.bias[:, None]
        leaves = torch.sigmoid(x) * self.bounds[:, None]  # (batch, step, leafy class, pixel)
        return (lc[:, None, self.leafy] * leaves).sum(2), leaves
