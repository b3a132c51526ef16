"""Where the chain cell ⊃ nucleus ⊃ nucleolus is broken: each row is worth a look, since one of the labels is wrong.

::

    +-- cell 1 ----------+-- cell 2 --------+
    |  (nucleus 1)    (nu|cleus 2)  (nucl   |         nucleus 2: across       nucleus 3: outside
    |                    |            eus 3)+--)      nucleus 4: no parent    nuclei 2 and 3: too many in cell 2
    +--------------------+------------------+   (nucleus 4)

Everything comes from counts of shared voxels, which add up over disjoint blocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cristae.anatomy import parents
from cristae.features.definitions import Definition
from cristae.metrics.instance import Contingency

KINDS: Mapping[str, str] = {
    "no parent": "lies wholly outside of all objects of the parent class",
    "outside": "sticks out of its parent into none",
    "across": "lies partly in other objects of the parent class",
    "other line": "its parent lies in another grandparent than it does itself",
    "too many": "shares its parent with more objects of its class than expected; may well be right",
}
DEFINITIONS: Mapping[str, Definition] = {
    "class": Definition("", "class of the object"),
    "object_id": Definition("", "the object"),
    "parent_class": Definition("", "class that the object should lie in"),
    "parent_id": Definition("", "object of that class that holds most of its voxels; 0 for none"),
    "kind": Definition("", "; ".join(f"{kind}: {meaning}" for kind, meaning in KINDS.items())),
    "share_outside": Definition("", "share of its voxels that lie in none (outside, no parent) or in others (across)"),
}


@dataclass(frozen=True)
class Link:
    """That objects of a class lie in objects of another.

    Parameters
    ----------
    child, parent
        Names of the classes.
    table
        From ``contingency(children, parents)``.
    """

    child: str
    parent: str
    table: Contingency


def violations(
    links: Sequence[Link], smallest_share: float = 0.05, most: Mapping[str, int] | None = None
) -> pd.DataFrame:
    """List the objects that do not lie where they should.

    Parameters
    ----------
    links
        What should lie in what. With nucleolus in nucleus, nucleus in cell and nucleolus in cell, it is also checked
        that a nucleolus and its nucleus lie in the same cell.
    smallest_share
        Share of its voxels (0–1) that an object needs outside, or in other parents, to be listed. Outlines of two
        classes are drawn apart and seldom agree to the voxel, hence more than 0.
    most
        How many objects of a class are expected in one parent at most, for example ``{"nucleus": 1}``.

    Returns
    -------
    pd.DataFrame
        Columns as in `DEFINITIONS`, in the order of links, objects and `KINDS`. ``share_outside`` is NaN where no share
        is meant (other line, too many). Empty where everything is in order.

    Raises
    ------
    ValueError
        If the share is not between 0 and 1.
    """
    if not 0 <= smallest_share <= 1:
        raise ValueError(f"expected a share between 0 and 1, got {smallest_share}")
    parent_of = {(link.child, link.parent): _parents(link.table) for link in links}
    tables = []
    for number, link in enumerate(links):
        own = parent_of[link.child, link.parent]
        parts = [_shares(link.table, own, smallest_share)]
        if link.child in (most or {}):
            parts.append(_too_many(own, (most or {})[link.child]))
        for middle in links:
            if middle.child == link.child and (middle.parent, link.parent) in parent_of:
                line = parent_of[link.child, middle.parent], parent_of[middle.parent, link.parent]
                parts.append(_other_line(own, *line))
        table = pd.concat(parts)
        table["class"], table["parent_class"], table["link"] = link.child, link.parent, number
        tables.append(table)
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=[*DEFINITIONS, "link"])
    table["kind"] = pd.Categorical(table["kind"], categories=list(KINDS))
    table = table.drop_duplicates(["link", "object_id", "kind"]).sort_values(["link", "object_id", "kind"])
    table["kind"] = table["kind"].astype(object)
    return table[list(DEFINITIONS)].reset_index(drop=True)


def _parents(table: Contingency) -> pd.Series:
    """Return the parent (0 for none) of every object, by its id."""
    found = parents(table)
    return pd.Series(found["parent_cell_id"].to_numpy(), index=pd.Index(found["object_id"], name="object_id"))


def _rows(parent: pd.Series, kind: str, share: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "object_id": parent.index.to_numpy(np.int64),
            "parent_id": parent.to_numpy(np.int64),
            "kind": kind,
            "share_outside": share.astype(np.float64),
        }
    )


def _shares(table: Contingency, parent: pd.Series, smallest_share: float) -> pd.DataFrame:
    """List what lies in no parent, and what lies in others."""
    ids = parent.index.to_numpy()
    kept = table.segmentation != 0
    place = np.searchsorted(ids, table.segmentation[kept])
    n_voxels, inside = table.n_voxels[kept], table.truth[kept]
    total = np.bincount(place, n_voxels, ids.size)
    nowhere = np.bincount(place, n_voxels * (inside == 0), ids.size) / total
    others = np.bincount(place, n_voxels * ((inside != 0) & (inside != parent.to_numpy()[place])), ids.size) / total
    orphan = parent.to_numpy() == 0
    out = ~orphan & (nowhere > 0) & (nowhere >= smallest_share)
    across = (others > 0) & (others >= smallest_share)
    return pd.concat(
        [
            _rows(parent[orphan], "no parent", nowhere[orphan]),
            _rows(parent[out], "outside", nowhere[out]),
            _rows(parent[across], "across", others[across]),
        ]
    )


def _too_many(parent: pd.Series, most: int) -> pd.DataFrame:
    """List the objects that share a parent with more than expected."""
    siblings = parent.groupby(parent).transform("size")
    crowded = parent[(parent != 0) & (siblings > most)]
    return _rows(crowded, "too many", np.full(len(crowded), np.nan))


def _other_line(own: pd.Series, middle: pd.Series, over: pd.Series) -> pd.DataFrame:
    """List the objects whose parent (`middle`) lies in another grandparent (`over`) than they do (`own`)."""
    through = middle.reindex(own.index).map(over).to_numpy(np.float64)  # NaN without a parent
    astray = own[~np.isnan(through) & (through != own.to_numpy())]
    return _rows(astray, "other line", np.full(len(astray), np.nan))
