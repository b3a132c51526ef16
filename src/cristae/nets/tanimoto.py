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
Diakogiannis, Waldner and Caccetta 2021, "Looking for change? Roll the dice and demand attention".
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
    products = _products(first, second, weight)
    return _coefficient(products if dual else (products[0], None, products[2]), axes, depth)


def _products(first: Tensor, second: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Return p l, (1 − p) (1 − l) and (p − l)², weighted: all that the coefficients are sums of."""
    # Nothing is gained from 1 − p − l + p l: rounded, it may be below 0, and the sum of a large map with it.
    parts = first * second, (1 - first) * (1 - second), (first - second).square()
    return parts if weight is None else (weight * parts[0], weight * parts[1], weight * parts[2])


def _coefficient(products: tuple[Tensor, Tensor | None, Tensor], axes: tuple[int, ...], depth: int) -> Tensor:
    """Return FT from what `_products` returns, with dual if there is a product of the complements."""
    shared, complement, apart = products
    apart = apart.sum(axes, keepdim=True)
    found = _mean_of_depths(shared.sum(axes, keepdim=True), apart, depth)
    if complement is None:
        return found
    return 0.5 * (found + _mean_of_depths(complement.sum(axes, keepdim=True), apart, depth))


def _mean_of_depths(shared: Tensor, apart: Tensor, depth: int) -> Tensor:
    """Return FT of maps of which the sums of p l and of (p − l)² are known."""
    # <p, p> + <l, l> − 2 <p, l> is the sum of (p − l)², so that T_k = (<p, l> + ε) / (2^k that + <p, l> + ε).
    total = shared + EPSILON
    scales = 2.0 ** torch.arange(max(depth, 1), dtype=shared.dtype, device=shared.device)
    return (total / torch.addcmul(total[..., None], apart[..., None], scales).movedim(-1, 0)).mean(0)


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
    products = _products(query, key)
    of_channels, of_pixels = (_coefficient(products, axes, depth) for axes in ((2, 3), (1,)))
    if product:
        return 0.5 * (of_channels * value) * (of_pixels * value)
    return 0.5 * (of_channels + of_pixels) * value
