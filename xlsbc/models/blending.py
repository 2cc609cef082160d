"""Windows of one size that overlap, their features blended: for backbones without a halo.

Where every pixel depends on the whole window, no rim makes windows agree. So windows lie at fixed
places, whatever is asked for; each overlaps the next by a sixth, and over the overlap the features
of one fade into those of the other. A pixel's features are then the same, to the last bit, in any
box that begins where a window does and holds all windows over the pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional as F

from xlsbc.errors import EmulatorError

__all__ = ["Run", "blended", "fades", "overlap", "step"]

Run = Callable[[Tensor, Tensor | None], Tensor]
"""Features ``(batch, feature, y, x)`` of windows, and of where their centres are."""

PIXELS = {"cpu": 0, "cuda": 2**19}
"""Of the windows that run together, of which there is at least one.

Last bits of convolutions depend on how many that are (on a CPU seen in windows of 32 pixels in
float32 and of 112 in bfloat16), so that a group which is not full is filled up. A CPU takes one at
a time: of 224 pixels, two together took 4 % less to 7 % more time; of 112 pixels, four took 13 to
18 % less. A GPU wants many, but not so many that most of them are filling: ten of 224 pixels.
"""

FINEST = 2**-12
"""Weights are multiples of it: float32 holds the product of any two, and sums of those, exactly."""

Place = tuple[int, int, int]
"""Of a window: index in the batch, first row, first column."""


def overlap(window: int) -> int:
    """Pixels that a window shares with the next."""
    return window // 6


def step(window: int) -> int:
    """Pixels from the first of one window to the first of the next.

    Also the halo with which a tile of whole steps is complete. Over its first pixels lies the
    window that begins a step before it. Over its last ones lies the last window that begins in it,
    which ends an overlap behind it. So a tile of ``n`` by ``n`` steps takes ``(n + 1)**2`` windows,
    and large tiles waste less.
    """
    return window - overlap(window)


def blended(
    run: Run,
    x: Tensor,
    latitude: Tensor | None,
    longitude: Tensor | None,
    window: int,
    wanted: Tensor | None = None,
) -> Tensor:
    """Features ``(batch, feature, y, x)`` of a field of any size, from windows of one size.

    Parameters
    ----------
    run
        The backbone. Takes windows ``(batch, channel, window, window)`` and, ``(batch, 2)`` in
        float32, latitude and longitude of the pixel ``window // 2`` rows and columns behind each
        one's first; `None` where those of `x` are not given.
    x
        ``(batch, channel, y, x)``. Windows lie at every multiple of `step` from its first pixel
        at which they fit. If it is one window, it runs as it is, whatever its batch: in training
        it should be, since moments of a batch are those of what runs together.
    latitude, longitude
        ``(batch, y)`` and ``(batch, x)``, degrees; both or none.
    window
        Side of a window, pixels.
    wanted
        ``(batch, y, x)``: windows that are 0 everywhere here do not run.

    Returns
    -------
    Tensor
        Of the type that `run` gives, but blended in float32 at least: in bfloat16 weights do not
        sum to 1. 0 where no window lies: less than a step of rows and columns at the end.

    Raises
    ------
    EmulatorError
        If `x` is smaller than a window.
    """
    size = x.shape[-2:]
    if problems := [
        f"along {axis} there should be {window} pixels or more; found {length}"
        for axis, length in zip("yx", size, strict=True)
        if length < window
    ]:
        raise EmulatorError("a field is smaller than the backbone's window", problems)
    if size == (window, window):
        return run(x, centres(latitude, longitude, [(i, 0, 0) for i in range(len(x))], window))
    down, across = (fades((n - window) // step(window) + 1, window).to(x.device) for n in size)
    order = list(product(range(len(x)), range(len(down)), range(len(across))))
    if wanted is not None:
        alive = F.max_pool2d(wanted.float()[:, None], window, step(window)).flatten().tolist()
        order = [place for place, any_there in zip(order, alive, strict=True) if any_there]
        if not order:
            order = [(0, 0, 0)]  # tells how many features there are
    group = max(PIXELS.get(x.device.type, 0) // window**2, 1)
    field: Tensor | None = None
    for first in range(0, len(order), group):
        held = order[first : first + group]
        places = [(i, k * step(window), m * step(window)) for i, k, m in held]
        places += places[-1:] * (group - len(held))
        windows = torch.cat([cut(x[i : i + 1], (top, left), window) for i, top, left in places])
        features = run(windows, centres(latitude, longitude, places, window))
        if field is None:  # channels last in memory, as backbones have them
            exact = torch.promote_types(features.dtype, torch.float32)
            field = features.new_zeros(len(x), *size, features.shape[1], dtype=exact)
            field = field.movedim(-1, 1)
        for (i, k, m), (_, *corner), seen in zip(held, places, features, strict=False):
            weight = down[k, :, None] * across[m]  # (window, window)
            cut(field[i], corner, window).add_(seen * weight)
    assert field is not None
    return field.to(features.dtype)


def fades(windows: int, window: int) -> Tensor:
    """Weights ``(windows, window)``, float32, of the pixels of windows in line.

    Linear over an overlap, where those of both windows sum to 1. What begins the first window and
    ends the last has no other to fade into.
    """
    shared = overlap(window)
    ramp = (torch.arange(shared, dtype=torch.float64) + 0.5) / max(shared, 1)
    ramp = ((ramp / FINEST).round() * FINEST).float()
    weights = torch.ones(windows, window)
    weights[1:, :shared] = ramp
    weights[:-1, window - shared :] = 1 - ramp
    return weights


def centres(
    latitude: Tensor | None, longitude: Tensor | None, places: Sequence[Place], window: int
) -> Tensor | None:
    """Latitude and longitude ``(window, 2)``, float32, in the middle of windows."""
    if latitude is None or longitude is None:
        return None
    i, top, left = torch.tensor(places, device=latitude.device).unbind(1)
    middle = window // 2
    return torch.stack((latitude[i, top + middle], longitude[i, left + middle]), dim=1).float()


def cut(field: Tensor, corner: Sequence[int], window: int) -> Tensor:
    """A view ``(..., window, window)`` of a field ``(..., y, x)``."""
    top, left = corner
    return field[..., top : top + window, left : left + window]
