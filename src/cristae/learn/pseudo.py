"""Labels that a network gives itself, where it is sure.

D.-H. Lee (2013), ICML workshop, "Pseudo-Label"; only what is surer than a bound is learnt from, as in K. Sohn et al.
(2020), NeurIPS, "FixMatch".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cristae.learn.infer import SlabPredictor
from cristae.learn.patches import LabelledSlice


def sure_labels(one: LabelledSlice, probability: np.ndarray, confidence: float) -> LabelledSlice:
    """Return a slice labelled by probabilities, ignored where they say neither yes nor no.

    Parameters
    ----------
    one
        The slice; its own labels are not looked at.
    probability
        ``(classes, y, x)``, 0–1.
    confidence
        Above 0.5: what is at least as probable is the class, what is at most 1 − confidence is not.
    """
    known = (probability >= confidence) | (probability <= 1 - confidence)
    return replace(one, target=(probability >= 0.5).astype(np.float32), weight=known.astype(np.float32))


def label_surely(
    slices: Sequence[LabelledSlice], predictor: SlabPredictor, confidence: float
) -> tuple[list[LabelledSlice], np.ndarray]:
    """Return slices labelled by a network, and the share of them that it calls each class ``(classes,)``."""
    found, areas = [], []
    for one in slices:
        probability = predictor.whole(one.image[None])[0]
        found.append(sure_labels(one, probability, confidence))
        areas.append((probability >= 0.5).mean((1, 2)))
    return found, np.mean(areas, axis=0)
