"""Features of one object's crop by name. Third parties add theirs through the entry-point group ``cristae.features``.

A feature is anything that follows `ObjectFeature`. In the ``pyproject.toml`` of a package of one's own::

    [project.entry-points."cristae.features"]
    roughness = "my_package.roughness:Roughness"

where ``Roughness()`` makes the feature. `cristae.testing.check_feature` says whether it keeps to what is asked of it.
A feature that fails does not take the others with it: the fault is named and its columns stay empty.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol

import numpy as np

from cristae.errors import UsageError
from cristae.features.crops import Crop, Nanometres
from cristae.features.curvature import Curvature
from cristae.features.definitions import Definition
from cristae.features.invagination import Invagination
from cristae.features.skeleton import Skeleton

GROUP = "cristae.features"


class ObjectFeature(Protocol):
    """What cristae asks of a feature of one object: columns of a table from its crop."""

    @property
    def definitions(self) -> Mapping[str, Definition]:
        """What each column means; the name carries its unit (``depth_nm``), and no other feature has it."""
        ...

    @property
    def meaningless_when_cut(self) -> Collection[str]:
        """Columns that mean nothing for an object that the volume's edge cuts through: they are left empty there."""
        ...

    def __call__(self, mask: np.ndarray, image: np.ndarray | None, voxel_size: Nanometres) -> Mapping[str, float]:
        """Measure one object.

        Parameters
        ----------
        mask
            bool ``(z, y, x)``, any memory order, with a margin of any width or none; not to be changed. An object may
            be one voxel and may have several pieces.
        image
            Grey values of the same shape, or None where there are none; not to be changed.
        voxel_size
            nm, ``(z, y, x)``.

        Returns
        -------
        Mapping
            A value for each column of `definitions`: finite, or NaN where it makes no sense. The same for the same
            object wherever it lies in the crop and whatever is around it.
        """
        ...


FEATURES: dict[str, Callable[[], ObjectFeature]] = {
    "curvature": Curvature,
    "invagination": Invagination,
    "skeleton": Skeleton,
}
"""What makes the features that come with cristae."""


@dataclass(frozen=True)
class LoadedFeatures:
    """Features by name, and by name what is wrong with those that could not be had."""

    features: dict[str, ObjectFeature] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)

    @property
    def definitions(self) -> dict[str, Definition]:
        """Columns of all features, in their order."""
        return {name: meaning for feature in self.features.values() for name, meaning in feature.definitions.items()}

    @property
    def meaningless_when_cut(self) -> dict[str, bool]:
        """For each column, whether it means nothing for an object that the edge cuts."""
        return {
            name: name in feature.meaningless_when_cut
            for feature in self.features.values()
            for name in feature.definitions
        }


def feature_names() -> tuple[str, ...]:
    """Return the names that `load_features` knows."""
    return (*FEATURES, *(entry.name for entry in entry_points(group=GROUP) if entry.name not in FEATURES))


def load_features(names: Iterable[str], taken: Collection[str] = ()) -> LoadedFeatures:
    """Return features by name; a plugin that cannot be loaded is named with its fault, and the others go on.

    Parameters
    ----------
    names
        From `feature_names`; each once.
    taken
        Columns that the table has already. A plugin with one of them, or with one of another feature, is a problem.

    Raises
    ------
    UsageError
        If a name is unknown; the message lists the known ones.
    """
    loaded = LoadedFeatures()
    columns = dict.fromkeys(taken, "cristae")
    entries = {entry.name: entry for entry in entry_points(group=GROUP)}
    for name in dict.fromkeys(names):
        if name not in FEATURES and name not in entries:
            raise UsageError(f"unknown feature {name!r}; there are {', '.join(feature_names())}")
        try:
            feature = FEATURES[name]() if name in FEATURES else entries[name].load()()
            fault = _fault(feature, columns)
        # Whatever somebody else's code raises, one plugin must not end a measurement of hours.
        except Exception as error:
            fault = f"{type(error).__name__}: {error}"
        if fault:
            loaded.problems[name] = f"feature {name!r}{_origin(entries.get(name))} cannot be used: {fault}"
        else:
            loaded.features[name] = feature
            columns.update(dict.fromkeys(feature.definitions, name))
    return loaded


def measure_crop(features: Mapping[str, ObjectFeature], crop: Crop) -> tuple[dict[str, float], dict[str, str]]:
    """Return the columns of all features of one object, and by name what went wrong.

    Parameters
    ----------
    features
        From `load_features`.
    crop
        The object, for example from `cristae.features.crops.fitted`.

    Returns
    -------
    tuple
        Values by column, NaN for all columns of a feature that failed or broke its promise, with ``crop_factor`` last;
        and a sentence for each such feature.
    """
    values: dict[str, float] = {}
    problems: dict[str, str] = {}
    for name, feature in features.items():
        # Each feature has arrays of its own: what one plugin changes is not what the next one measures.
        image = None if crop.image is None else crop.image.copy()
        try:
            found = {
                column: float(value) for column, value in feature(crop.mask.copy(), image, crop.voxel_size).items()
            }
            fault = wrong_values(found, feature.definitions)
        # As in `load_features`.
        except Exception as error:
            found, fault = {}, f"{type(error).__name__}: {error}"
        if fault:
            problems[name] = f"feature {name!r} failed on an object of {np.count_nonzero(crop.mask)} voxels: {fault}"
        values |= {column: math.nan if fault else found[column] for column in feature.definitions}
    return {**values, "crop_factor": float(crop.factor)}, problems


def wrong_values(found: Mapping[str, float], definitions: Mapping[str, Definition]) -> str:
    """Say what is wrong with the values of a feature; "" if nothing is."""
    if set(found) != set(definitions):
        missing, more = sorted(set(definitions) - set(found)), sorted(set(found) - set(definitions))
        return f"expected values for {', '.join(definitions)}; missing: {missing}, not defined: {more}"
    infinite = [column for column, value in found.items() if math.isinf(value)]
    return f"expected finite values or NaN, got infinite {', '.join(infinite)}" if infinite else ""


def _fault(feature: Any, columns: Mapping[str, str]) -> str:
    """Say what keeps an object from being a feature; "" if nothing does."""
    definitions = feature.definitions
    if not callable(feature):
        return f"{type(feature).__name__} cannot be called with (mask, image, voxel_size)"
    if not definitions or not all(isinstance(meaning, Definition) for meaning in definitions.values()):
        return "its `definitions` must map the name of each column to a cristae Definition"
    unknown = set(feature.meaningless_when_cut) - set(definitions)
    if unknown:
        return f"`meaningless_when_cut` names columns that are not defined: {', '.join(sorted(unknown))}"
    clash = [f"{column} of {columns[column]}" for column in definitions if column in columns]
    return f"there is already {', '.join(clash)}" if clash else ""


def _origin(entry: EntryPoint | None) -> str:
    """Say where a plugin comes from."""
    if entry is None:
        return ""
    package = f" of {entry.dist.name} {entry.dist.version}" if entry.dist else ""
    return f" ({entry.value}{package})"
