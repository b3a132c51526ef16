"""All families of all classes of a sample, each kept on disk as soon as it is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from cristae.features import morphology
from cristae.features.definitions import Definition
from cristae.features.distances import Distances, Reach
from cristae.features.edge import blank_cut
from cristae.features.moments import DEFINITIONS as MOMENTS
from cristae.features.parentage import Link, violations
from cristae.features.registry import LoadedFeatures, load_features
from cristae.metrics.instance import Contingency
from cristae.stages.measuring import tables
from cristae.stages.measuring.crops import CropReader, measure_crops
from cristae.stages.measuring.neighbours import (
    Two,
    count_shared,
    measure_membranes,
    measure_proximity,
    measure_relations,
    nearest,
    parents_of,
)
from cristae.stages.measuring.sample import Meter, Sample, Walk
from cristae.stages.measuring.settings import TEXTURES, MeasureSettings
from cristae.stages.measuring.shapes import Sizes, filled_solidity, find_sizes, measure_holes, measure_shape
from cristae.stages.measuring.textures import Greys, measure_pairs, measure_spectrum, measure_zones

_TEXTURE = {"texture": measure_pairs, "zones": measure_zones, "spectrum": measure_spectrum}


class Kept:
    """Families that are measured, one file each: what a resumed run need not measure again.

    Parameters
    ----------
    folder
        Made where it is missing.
    meter
        Told of every family that is there.
    """

    def __init__(self, folder: Path, meter: Meter) -> None:
        self.folder, self.meter = folder, meter
        folder.mkdir(parents=True, exist_ok=True)

    def table(self, name: str, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """Return a table, from disk if it is there; what is made goes through the disk too, so that both are equal."""
        path = self.folder / f"{name}.parquet"
        if not path.is_file():
            partial = path.with_suffix(".partial")
            make().to_parquet(partial)
            partial.replace(path)
        self.meter.ended()
        return pd.read_parquet(path)

    def sizes(self, name: str, make: Callable[[], Sizes]) -> Sizes:
        """Return the sizes of a class, from disk if they are there."""
        path = self.folder / f"{name}.size.npz"
        if not path.is_file():
            partial = path.with_name(f"{name}.size.partial.npz")
            make().save(partial)
            partial.replace(path)
        self.meter.ended()
        return Sizes.load(path)


@dataclass
class Measured:
    """What is measured of a sample.

    Parameters
    ----------
    objects, relations, violations
        Tables.
    plugins
        What columns of features of one object mean.
    problems
        What went wrong with which feature.
    """

    objects: pd.DataFrame
    relations: pd.DataFrame
    violations: pd.DataFrame
    plugins: dict[str, Definition] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)


@dataclass
class _Work:
    """What all steps share."""

    sample: Sample
    settings: MeasureSettings
    kept: Kept
    walk: Walk
    sizes: dict[str, Sizes] = field(default_factory=dict)
    parents: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)
    shares: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)
    loaded: dict[str, LoadedFeatures] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)

    def wants(self, family: str) -> bool:
        """Say whether a family is to be measured, and can be."""
        return family in self.settings.families and (family not in TEXTURES or self.sample.image is not None)

    def two(self, first: str, second: str) -> Two:
        """Return two classes, to be seen together."""
        return Two(self.sample.layers[first], self.sample.layers[second], self.sizes, self.sample)

    @property
    def reach(self) -> Reach:
        """How far distances are measured."""
        return Reach(self.sample.grid.voxel_size, self.settings.max_distance_nm)


def measure_sample(sample: Sample, settings: MeasureSettings, folder: Path, walk: Walk) -> Measured:
    """Measure all objects of a sample.

    Parameters
    ----------
    sample
        Checked.
    settings
        What to measure, and how.
    folder
        Where families are kept until all are there.
    walk
        How blocks are walked.

    Raises
    ------
    DataError
        If ids are negative, or the image has too many grey levels.
    UsageError
        If a feature or a class of a pair is unknown.
    """
    work = _Work(sample, settings, Kept(folder, walk.meter), walk)
    for name in sample.layers:
        work.loaded[name] = load_features(settings.features_of(name, sample.cell), (*MOMENTS, *morphology.DEFINITIONS))
        work.problems |= work.loaded[name].problems
    pairs = settings.pairs_of(sample.organelles, tuple(sample.layers)) if work.wants("relations") else ()
    walk.meter.n_passes = _n_passes(work, len(pairs))
    for name, layer in sample.layers.items():
        work.sizes[name] = work.kept.sizes(name, lambda layer=layer: find_sizes(layer, sample, walk))  # type: ignore[misc]
    links = [_link(work, child, parent) for child, parent in sample.parents]
    related = {pair: _relate(work, pair) for pair in pairs}
    found = {name: _class_table(work, name, related) for name in sample.layers}
    plugins = {name: meaning for one in work.loaded.values() for name, meaning in one.definitions.items()}
    relations = [table for table, _ in related.values() if len(table)] or [tables.no_relations()]
    return Measured(
        tables.joined(tables.add_contents(found, sample), sample),
        pd.concat(relations, ignore_index=True),
        violations(links, settings.smallest_share, {sample.nucleus: 1}).astype(tables.VIOLATION_TYPES),
        plugins,
        work.problems,
    )


def _n_passes(work: _Work, n_pairs: int) -> int:
    """Return how many times the volume will be passed over."""
    parents = work.sample.parents
    n = len(work.sample.layers) + len(parents) + n_pairs + (len(parents) if work.wants("relations") else 0)
    for name in work.sample.layers:
        is_nucleolus = name == work.sample.nucleolus
        n += sum(work.wants(family) for family in ("shape", *TEXTURES))
        n += work.wants("holes") or (work.wants("shape") and is_nucleolus)
        n += work.wants("shape") and is_nucleolus
        n += work.wants("features") and bool(work.loaded[name].features)
    return n


def _link(work: _Work, child: str, parent: str) -> Link:
    """Count what a class shares with its parents, and note the parent of each object."""
    two = work.two(child, parent)

    def make() -> pd.DataFrame:
        shared = count_shared(two, work.walk)
        return pd.DataFrame({"a": shared.segmentation, "b": shared.truth, "n": shared.n_voxels})

    stored = work.kept.table(f"{child}.in.{parent}", make)
    shared = Contingency(*(stored[column].to_numpy(np.int64) for column in "abn"))
    work.parents[child, parent], work.shares[child, parent] = parents_of(shared, two.of_first.ids)
    return Link(child, parent, shared)


def _relate(work: _Work, pair: tuple[str, str]) -> tuple[pd.DataFrame, Distances]:
    two = work.two(*pair)
    name = f"{pair[0]}.with.{pair[1]}"
    table = work.kept.table(name, lambda: measure_relations(two, work.reach, work.walk)[0])
    near = table[table["min_dist_nm"].notna()]
    return table, Distances(*(near[column].to_numpy() for column in ("a_id", "b_id", "min_dist_nm")))


def _class_table(
    work: _Work, name: str, related: Mapping[tuple[str, str], tuple[pd.DataFrame, Distances]]
) -> pd.DataFrame:
    """Return all columns of one class."""
    sample, sizes = work.sample, work.sizes[name]
    table = sizes.table(sample)
    parts = [_identity(work, name), table, *_shape_parts(work, name, table)]
    if sample.image is not None:
        greys = Greys(sample.layers[name], sizes, sample, sample.image)
        parts += [
            work.kept.table(
                f"{name}.{family}",
                lambda measure=measure: measure(greys, work.settings.texture, work.walk),  # type: ignore[misc]
            )
            for family, measure in _TEXTURE.items()
            if work.wants(family)
        ]
    if work.wants("features") and work.loaded[name].features:
        parts.append(_crop_part(work, name))
    if work.wants("relations"):
        parts += _relation_parts(work, name, related)
    whole = pd.concat([part.reset_index(drop=True) for part in parts], axis=1)
    return _blanked(work, name, whole)


def _identity(work: _Work, name: str) -> pd.DataFrame:
    """Return the first columns of a class: what object it is, and in what it lies."""
    sample, sizes = work.sample, work.sizes[name]
    n = len(sizes.ids)
    table = pd.DataFrame({"class": pd.Series([name] * n, dtype="str"), "object_id": sizes.ids})
    for parent, column in ((sample.cell, "parent_cell_id"), (sample.nucleus, "parent_nucleus_id")):
        if (name, parent) in work.parents:
            table[column] = work.parents[name, parent]
    if (name, sample.cell) in work.parents:
        table["share_inside"] = work.shares[name, sample.cell]
    return table


def _shape_parts(work: _Work, name: str, table: pd.DataFrame) -> list[pd.DataFrame]:
    sample, sizes, walk = work.sample, work.sizes[name], work.walk
    layer, sigma = sample.layers[name], work.settings.sigma_px
    is_nucleolus = name == sample.nucleolus
    parts = {}
    if work.wants("holes") or (work.wants("shape") and is_nucleolus):
        parts["holes"] = work.kept.table(f"{name}.holes", lambda: measure_holes(layer, sizes, sample, walk))
    if work.wants("shape"):
        parts["shape"] = work.kept.table(f"{name}.shape", lambda: measure_shape(layer, sizes, sample, walk, sigma))
    if work.wants("shape") and is_nucleolus:
        reader = CropReader(layer, sample, work.settings.crop_voxels)
        # Nothing is said of the solidity of cut ones.
        holes = parts["holes"]["n_holes"].where(~table["touches_edge"], 0).to_numpy()
        solidity = parts["shape"]["solidity"].to_numpy()

        def fill() -> pd.DataFrame:
            return pd.DataFrame({"solidity": filled_solidity(reader, sizes, solidity, holes, sigma)})

        parts["shape"] = parts["shape"].assign(solidity=work.kept.table(f"{name}.solidity", fill)["solidity"])
    return [part for family, part in parts.items() if work.wants(family)]


def _crop_part(work: _Work, name: str) -> pd.DataFrame:
    """Return the features of one object at a time; their problems are kept beside the table."""
    reader = CropReader(work.sample.layers[name], work.sample, work.settings.crop_voxels)

    def make() -> pd.DataFrame:
        found, problems = measure_crops(reader, work.sizes[name], work.loaded[name], work.walk)
        found.attrs["problems"] = problems
        return found

    table = work.kept.table(f"{name}.features", make)
    work.problems |= table.attrs.get("problems", {})
    return table


def _relation_parts(
    work: _Work, name: str, related: Mapping[tuple[str, str], tuple[pd.DataFrame, Distances]]
) -> list[pd.DataFrame]:
    """Return how objects of a class lie to membranes, envelopes, and objects of other classes."""
    sample, sizes = work.sample, work.sizes[name]
    parts = []
    if (name, sample.cell) in work.parents:
        parent, cells = work.parents[name, sample.cell], work.two(name, sample.cell)

        def membranes() -> pd.DataFrame:
            return measure_membranes(cells, parent, work.reach, work.walk)

        parts.append(work.kept.table(f"{name}.membrane", membranes))
    if (name, sample.nucleus) in work.parents:
        inside, nuclei = work.parents[name, sample.nucleus], work.two(name, sample.nucleus)

        def proximity() -> pd.DataFrame:
            return measure_proximity(nuclei, inside, work.walk)

        parts.append(work.kept.table(f"{name}.proximity", proximity))
    for (first, second), (_, distances) in related.items():
        if name in (first, second):
            other = second if name == first else first
            both = distances if name == first else distances.swapped()
            both = both + both.swapped() if first == second else both
            table = nearest(both, sizes, sample)
            parts.append(table.set_axis([f"nearest_{other}_id", f"nearest_{other}_dist_nm"], axis=1))
    return parts


def _blanked(work: _Work, name: str, table: pd.DataFrame) -> pd.DataFrame:
    """Empty what means nothing for cut objects, and what means nothing as the nucleus is cut."""
    sample = work.sample
    table = tables.blanked(table, work.loaded[name].meaningless_when_cut)
    if (name, sample.nucleus) in work.parents and "proximity_to_envelope" in table:
        nuclei = work.sizes[sample.nucleus]
        cut = np.isin(table["parent_nucleus_id"], nuclei.ids[nuclei.cut(sample)])
        columns = ["nucleus_centre_distance_nm", "envelope_distance_nm", "proximity_to_envelope"]
        table = blank_cut(table, columns, cut)
    return table
