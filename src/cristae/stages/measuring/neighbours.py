"""What lies in what, what lies near what: parents, membranes, pairs of classes, nucleoli in their nuclei."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cristae.anatomy import parents
from cristae.features.contacts import Contacts, count_contacts
from cristae.features.distances import Distances, Reach, add_membrane_distances, pair_distances
from cristae.features.proximity import HALO, add_envelope_distances, tabulate_proximity
from cristae.features.relations import nearest_objects, tabulate_membranes, tabulate_relations
from cristae.geometry import Block
from cristae.metrics.instance import Contingency, add_up, contingency
from cristae.stages.measuring.sample import Layer, Sample, Walk, inner, rows_of
from cristae.stages.measuring.shapes import Sizes

_NONE = np.zeros(0, np.int64)
_NO_FACES = np.zeros((0, 3), np.int64)
_NO_CONTACTS = Contacts(_NONE, _NONE, _NO_FACES, _NO_FACES, _NONE)
_NO_DISTANCES = Distances(_NONE, _NONE, np.zeros(0))


@dataclass(frozen=True)
class Two:
    """Two classes, objects of the first seen with those of the second.

    Parameters
    ----------
    first, second
        Their layers; the same for neighbours within a class.
    sizes
        What is known of the objects, by class.
    sample
        Where they lie.
    """

    first: Layer
    second: Layer
    sizes: Mapping[str, Sizes]
    sample: Sample

    @property
    def of_first(self) -> Sizes:
        """What is known of the objects of the first class."""
        return self.sizes[self.first.name]

    @property
    def of_second(self) -> Sizes:
        """What is known of the objects of the second class."""
        return self.sizes[self.second.name]


def count_shared(two: Two, walk: Walk) -> Contingency:
    """Count the voxels that each object of the first class has in those of the second, and in none (0)."""

    def work(block: Block) -> Contingency | None:
        if not two.of_first.meets(block.write):
            return None
        ids, labels = two.first.read(block.write)
        inside = labels != 0
        if not inside.any():
            return None
        others, within = two.second.read(block.write)
        counted = contingency(labels[inside], within[inside])
        named = np.concatenate([np.zeros(1, np.int64), others])
        return Contingency(ids[counted.segmentation - 1], named[counted.truth], counted.n_voxels)

    found = walk.over(two.sample.grid, (0, 0, 0), work)
    return add_up(part for _, part in found)


def parents_of(shared: Contingency, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the parent of every object (int64, 0 for none), and the share of its voxels that lies there."""
    table = parents(shared).set_index("object_id").reindex(ids)
    return table["parent_cell_id"].fillna(0).to_numpy(np.int64), table["share_inside"].to_numpy(np.float64)


def measure_membranes(two: Two, parent: np.ndarray, reach: Reach, walk: Walk) -> pd.DataFrame:
    """Return how the organelles of the first class lie to the membranes of their cells, the second class."""

    def work(block: Block) -> tuple[np.ndarray, np.ndarray, Contacts] | None:
        if not two.of_first.meets(block.write.grow((1, 1, 1))):
            return None
        ids, labels = two.first.read(block.read)
        if not ids.size:
            return None
        cell_ids, cells = two.second.read(block.read)
        rows = rows_of(two.of_first.ids, ids)
        of_cell = _numbers_in(cell_ids, parent[rows])
        distance = add_membrane_distances(labels, len(ids), inner(block), cells, of_cell, reach)
        contacts = count_contacts(labels, cells, inner(block))
        return rows, distance, contacts.renamed(_named(ids), _named(cell_ids))

    distance = np.full(len(parent), np.inf)
    contacts = _NO_CONTACTS
    found = walk.over(two.sample.grid, reach.halo, work)
    for _, (rows, near, touching) in found:
        distance[rows] = np.minimum(distance[rows], near)
        contacts = contacts + touching
    size = two.sample.grid.voxel_size
    table = tabulate_membranes(contacts, distance, two.of_first.ids, parent, size)
    far = table["membrane_dist_nm"].to_numpy() > _to_edge(two.of_first, two.sample)
    table["membrane_dist_nm"] = table["membrane_dist_nm"].mask(far)
    return table


def measure_relations(two: Two, reach: Reach, walk: Walk) -> tuple[pd.DataFrame, Distances]:
    """Return the pairs of two classes that meet or lie near each other, and their distances."""
    same = two.first is two.second

    def work(block: Block) -> tuple[Contacts, Distances] | None:
        if not (two.of_first.meets(block.write.grow((1, 1, 1))) and two.of_second.meets(block.read)):
            return None
        ids, labels = two.first.read(block.read)
        other_ids, others = (ids, None) if same else two.second.read(block.read)
        if not ids.size or not other_ids.size:
            return None
        contacts = count_contacts(labels, others, inner(block))
        distances = pair_distances(labels, others, inner(block), reach)
        names = _named(ids), _named(other_ids)
        return contacts.renamed(*names, same=same), distances.renamed(*names, same=same)

    contacts, distances = _NO_CONTACTS, _NO_DISTANCES
    for _, (touching, near) in walk.over(two.sample.grid, reach.halo, work):
        contacts, distances = contacts + touching, distances + near
    table = tabulate_relations(contacts, distances, two.sample.grid.voxel_size)
    for side, sizes in (("a", two.of_first), ("b", two.of_second)):
        cut = sizes.cut(two.sample)[rows_of(sizes.ids, table[f"{side}_id"].to_numpy())]
        table[f"{side}_touches_edge"] = cut
    names = {"a_class": two.first.name, "b_class": two.second.name}
    for place, (column, name) in zip((0, 2), names.items(), strict=True):
        table.insert(place, column, pd.Series([name] * len(table), dtype="str"))
    return table, distances


def nearest(distances: Distances, sizes: Sizes, sample: Sample) -> pd.DataFrame:
    """Return the nearest object b of every object a, and how far it is; nothing where the edge is nearer."""
    table = nearest_objects(distances, sizes.ids)
    far = table["nearest_dist_nm"].to_numpy() > _to_edge(sizes, sample)
    table["nearest_id"] = table["nearest_id"].mask(table["nearest_dist_nm"].isna() | far).astype("Int64")
    table["nearest_dist_nm"] = table["nearest_dist_nm"].mask(far)
    return table


def measure_proximity(two: Two, parent: np.ndarray, walk: Walk) -> pd.DataFrame:
    """Return how near nucleoli (the first class) lie to the envelopes of their nuclei."""
    size = two.sample.grid.voxel_size
    points = two.of_first.moments.centroid_px

    def work(block: Block) -> np.ndarray | None:
        if not two.of_second.meets(block.write.grow((1, 1, 1))):
            return None
        ids, labels = two.second.read(block.read)
        # Objects that are not in the block have no face in it: their number is none.
        found = np.isin(parent, ids) & (parent != 0)
        of_nucleus = np.where(found, rows_of(ids, parent) + 1, 0)
        return add_envelope_distances(labels, block.read.start, inner(block), points, of_nucleus, size)

    distance = np.full(len(parent), np.inf)
    for _, near in walk.over(two.sample.grid, HALO, work):
        distance = np.minimum(distance, near)
    nuclei = np.full((len(parent), 3), np.nan)
    housed = parent != 0
    nuclei[housed] = two.of_second.moments.centroid_px[rows_of(two.of_second.ids, parent[housed])]
    return tabulate_proximity(points * size, nuclei * size, distance)


def _numbers_in(ids: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the numbers from 1 of ids in a block, 0 for 0; one more than all where the block does not have it."""
    place = rows_of(ids, wanted)
    known = place < len(ids)
    known[known] = ids[place[known]] == wanted[known]
    return np.where(wanted == 0, 0, np.where(known, place + 1, len(ids) + 1)).astype(np.int64)


def _named(ids: np.ndarray) -> np.ndarray:
    """Return the ids by number: 0 for background first."""
    return np.concatenate([np.zeros(1, np.int64), ids])


def _to_edge(sizes: Sizes, sample: Sample) -> np.ndarray:
    """Return how far (nm) every object is from the nearest voxel centre beyond the volume: what is there is unknown."""
    low = (sizes.moments.low + 1) * sample.grid.voxel_size
    high = (np.array(sample.grid.shape) - sizes.moments.high) * sample.grid.voxel_size
    return np.asarray(np.minimum(low, high).min(axis=1))
