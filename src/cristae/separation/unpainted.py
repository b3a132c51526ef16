"""What the maps find on a labelled slice where nobody looked.

::

    painted in part      [ 5 ]                   every cell that was painted is whole, so what lies beside it is others
    interior            [[   ]]   [     ]        the rim around 5 is where the map is less exact than the expert
    becomes              [ 5 ]    [ new ]

    complete, a hole     [ 5  .....   ]          a hole cuts through cells: what lies in it goes on as what is beside
    interior             [    ] [     ]          it, as far as the boundary map does not part the two
    becomes              [ 5  ] [ new ]
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from cristae.separation.combine import SeparationSettings, combine


@dataclass(frozen=True)
class End:
    """A labelled slice on which nobody looked somewhere.

    Parameters
    ----------
    labels
        int32 ``(y, x)``: cells from 1 to n; 0 elsewhere.
    unseen
        bool ``(y, x)``: where nobody looked.
    complete
        Whether every cell that somebody looked at is painted; see `cristae.separation.gap.Gap`.
    """

    labels: np.ndarray
    unseen: np.ndarray
    complete: bool


def find_unpainted(
    end: End, inside: np.ndarray, boundary: np.ndarray | None, settings: SeparationSettings
) -> np.ndarray:
    """Return the cells of a labelled slice, with those that the maps find where nobody looked.

    Parameters
    ----------
    end
        The slice.
    inside, boundary
        bool ``(y, x)``: the interior mask, and the network's boundary; None where there is none.
    settings
        Distances and sizes.

    Returns
    -------
    int32 (y, x)
        What was painted, unchanged; −1, −2, … without holes for objects beside it. Remains of fewer than
        ``smallest_body_px`` at the rim of a cell of a slice that is not complete are 0.
    """
    rest = inside & end.unseen & (end.labels == 0)
    if not rest.any():
        return end.labels
    if end.complete:
        found = combine(end.labels, rest | (end.labels > 0), boundary, "none", settings)
    else:
        found = combine(np.zeros(rest.shape, np.int32), rest, boundary, "none", settings)
        found = _without_rims(found, end.labels, settings)
    found = np.where(rest, found, end.labels).astype(np.int32)
    new = found < 0
    found[new] = -1 - np.unique(-found[new], return_inverse=True)[1]
    return found


def _without_rims(found: np.ndarray, painted: np.ndarray, settings: SeparationSettings) -> np.ndarray:
    """Take away objects (−1, −2, …) beside cells that were painted, of which little lies farther than a rim does."""
    if not (painted > 0).any():
        return found
    distance = cv2.distanceTransform((painted == 0).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    numbers = -found
    area = np.bincount(numbers.ravel())
    beyond = np.bincount(numbers[distance > settings.edge_distance_px + 1], minlength=area.size)
    kept = (beyond == area) | (beyond >= max(1, settings.smallest_body_px))
    return np.where(kept[numbers], found, 0)
