"""The fractal Tanimoto coefficient: how alike two maps are, with a depth that says how steeply a mistake counts.

::

    1 |_                    depth 1: the Tanimoto coefficient (intersection over union of fractions)
      | `-._                depth 10: falls steeply beside 1, so that the last small mistakes still have a gradient
      |     `-.
    0 |________`_ mistakes

For maps p and l, with <a, b> a sum of products over chosen axes and ε = 1e-5::

    T_k(p, l) = (<p, l> + ε) / (2^k (<p, p> + <l, l>) − (2^(k+1) − 1) <p, l> + ε)
    FT(p, l)  = mean of T_k over k = 0 … depth − 1 (depth 0 counts as 1)
    with dual: (FT(p, l) + FT(1 − p, 1 − l)) / 2

It is 1 for equal maps of zeros and ones, empty ones too, and near 0 for maps that share nothing. Attention between
two sets of features is the same coefficient, once per channel and once per pixel.

References
----------
Diakogiannis, Waldner and Caccetta 2021, "Looking for change? Roll the dice and demand attention", section 2.1 (the
coefficient) and section 2.2 (attention).
"""

from __future__ import annotations

import torch
from torch import Tensor

EPSILON = 1e-5
"""Keeps the coefficient defined, and 1, where both maps are empty."""


def fractal_tanimoto(
    first: Tensor,
    second: Tensor,
    axes: tuple[int, ...],
    depth: int = 0,
    weight: Tensor | None = None,
    dual: bool = True,
) -> Tensor:
    """Return how alike two maps are, 0–1.

    Parameters
    ----------
    first, second
        Of one shape, 0–1.
    axes
        What is summed over; they stay in the result with length 1.
    depth
        Of the fractal: 0 and 1 are the plain coefficient.
    weight
        Of the same shape, or one that broadcasts to it: 0 takes an element out of every sum. None counts all.
    dual
        Average the coefficient of the maps and that of their complements.
    """
    found = _coefficient(first, second, axes, depth, weight)
    if dual:
        found = 0.5 * (found + _coefficient(1 - first, 1 - second, axes, depth, weight))
    return found


def _coefficient(first: Tensor, second: Tensor, axes: tuple[int, ...], depth: int, weight: Tensor | None) -> Tensor:
    weighted, other = (first, second) if weight is None else (weight * first, weight * second)
    shared = (weighted * second).sum(axes, keepdim=True)
    sizes = (weighted * first).sum(axes, keepdim=True) + (other * second).sum(axes, keepdim=True)
    return mean_of_depths(shared, sizes, depth)


def mean_of_depths(shared: Tensor, sizes: Tensor, depth: int) -> Tensor:
    """Return the coefficient of maps whose sums are known: <p, l>, and <p, p> + <l, l>."""
    # 2^k (sizes − 2 shared) + shared: the difference is what a mistake adds, never below 0 but for rounding.
    difference = (sizes - 2 * shared).clamp(min=0)
    n_depths = max(depth, 1)
    total = torch.zeros_like(shared)
    for k in range(n_depths):
        total = total + (2.0**k * difference + shared + EPSILON).reciprocal()
    return (shared + EPSILON) * total / n_depths


def tanimoto_loss(probability: Tensor, target: Tensor, weight: Tensor, depth: int = 0) -> Tensor:
    """Return 1 − FT with dual: one coefficient per sample and class, averaged over samples, then over classes.

    Parameters
    ----------
    probability, target
        ``(n, classes, y, x)``, 0–1.
    weight
        ``(n, classes, y, x)``, 1 where the map is known, 0 where ignored. A sample in which nothing of a class is known
        is left out of that class's mean, and a class of which nothing is known in any out of the whole.
    depth
        Of the fractal. Losses of different depths cannot be compared.
    """
    # What is ignored must not even count as a number: 0 × inf would be NaN.
    target = torch.where(weight > 0, target, 0)
    alike = fractal_tanimoto(probability, target, (2, 3), depth, weight)[..., 0, 0]
    known = (weight > 0).flatten(2).any(2)
    per_class = ((1 - alike) * known).sum(0) / known.sum(0).clamp(min=1)
    seen = known.any(0)
    return (per_class * seen).sum() / seen.sum().clamp(min=1)


def tanimoto_attention(query: Tensor, key: Tensor, value: Tensor, depth: int, product: bool = False) -> Tensor:
    """Return the values, weighted by how alike query and key are in each channel and at each pixel.

    Parameters
    ----------
    query, key, value
        ``(n, channels, y, x)``, 0–1.
    depth
        Of the fractal.
    product
        Multiply the two weighted values, as the port of Pagano et al. 2023 does, instead of adding them.
    """
    query, key = query.float(), key.float()  # sums over a whole map need their digits
    of_channels = fractal_tanimoto(query, key, (2, 3), depth)
    of_pixels = fractal_tanimoto(query, key, (1,), depth)
    if product:
        return 0.5 * (of_channels * value) * (of_pixels * value)
    return 0.5 * (of_channels + of_pixels) * value
