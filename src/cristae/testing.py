"""Assertions for tests of segmentations and of features, those of cristae and those of others.

>>> import numpy as np
>>> from cristae.testing import assert_same_objects
>>> assert_same_objects(found=np.array([7, 7, 0, 2]), expected=np.array([1, 1, 0, 2]))
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from cristae.features.crops import Nanometres
from cristae.features.definitions import Definition
from cristae.features.registry import ObjectFeature, wrong_values
from cristae.metrics.instance import Contingency, contingency

_N_NAMED = 3
"""Parts that a message names before it only counts them."""


def assert_same_objects(found: np.ndarray, expected: np.ndarray) -> None:
    """Assert that two labellings have the same objects, whatever their ids are.

    Every found object has to be exactly one expected object, and the other way round; 0 has to be where 0 is.

    Parameters
    ----------
    found, expected
        Non-negative integer ids of one shape; 0 is background.

    Raises
    ------
    AssertionError
        If shapes or objects differ. The message names the expected object of smallest id that was not found as it is
        (failing that, the found object of smallest id that was not expected), its parts, and the first voxel at which
        it differs.
    ValueError
        If the arrays are not of integers, or hold negative ids.
    """
    if found.shape != expected.shape:
        raise AssertionError(f"expected labels of shape {expected.shape}, found shape {found.shape}")
    table = contingency(found, expected)
    both = (table.truth != 0) & (table.segmentation != 0)
    alone = ~_repeated(table.truth) & ~_repeated(table.segmentation)
    wrong = np.where(both, ~alone, table.truth != table.segmentation)
    if not wrong.any():
        return
    true_ids = table.truth[wrong & (table.truth != 0)]
    if true_ids.size:
        raise AssertionError(_difference(found, expected, table, int(true_ids[0])))
    invented = int(table.segmentation[wrong][0])
    n_voxels = int(table.n_voxels[table.segmentation == invented].sum())
    where = _first(found == invented)
    raise AssertionError(f"found object {invented} ({n_voxels} voxels, first at {where}) where nothing was expected")


def check_feature(feature: ObjectFeature) -> None:
    """Assert that a feature of objects keeps to what cristae asks of it (`cristae.features.registry.ObjectFeature`).

    It is called on small objects (one voxel, a plate, a ball, a hollow one, two pieces), with and without an image. It
    has to return its columns, finite or NaN; the same when asked again, whatever the memory order of the arrays, the
    margin of the crop and the grey values around the object; and to leave its inputs as they are.

    Parameters
    ----------
    feature
        What the entry point makes.

    Raises
    ------
    AssertionError
        At the first promise that is broken; the message names it, the object and the values.
    """
    definitions = feature.definitions
    if not definitions or not all(isinstance(meaning, Definition) for meaning in definitions.values()):
        raise AssertionError("expected `definitions` that map the name of each column to a Definition")
    if not set(feature.meaningless_when_cut) <= set(definitions):
        raise AssertionError("expected `meaningless_when_cut` to name columns of `definitions` only")
    rng = np.random.default_rng(0)
    voxel_size = (12.0, 5.0, 8.0)
    for name, mask in _objects():
        image = rng.integers(1, 255, mask.shape).astype(np.uint8)
        for grey in (None, image):
            what = f"{name} {'without' if grey is None else 'with'} an image"
            expected = _measured(feature, (mask, grey), voxel_size, what)
            for change, arrays in _changes(mask, grey, rng):
                found = _measured(feature, arrays, voxel_size, f"{what}, {change}")
                _assert_close(found, expected, f"{what}, {change}")


def _objects() -> Iterator[tuple[str, np.ndarray]]:
    """Yield small objects, each with a margin of one voxel."""
    distance = np.sqrt(sum((axis - 8) ** 2 for axis in np.indices((17, 17, 17))))
    pieces = np.zeros((9, 12, 20), np.bool_)
    pieces[1:8, 1:5, 1:6] = pieces[2:5, 7:11, 9:19] = True
    yield "one voxel", np.pad(np.ones((1, 1, 1), np.bool_), 1)
    yield "a plate", np.pad(np.ones((1, 9, 14), np.bool_), 1)
    yield "a ball", distance < 7.3
    yield "a hollow ball", (distance < 7.3) & (distance > 3.2)
    yield "two pieces", pieces


def _measured(
    feature: ObjectFeature, arrays: tuple[np.ndarray, np.ndarray | None], voxel_size: Nanometres, what: str
) -> dict[str, float]:
    """Return the values of a feature; refuse wrong ones and changed inputs."""
    mask, image = arrays
    before = mask.copy(), np.array(image)
    found = dict(feature(mask, image, voxel_size))
    strange = {name: value for name, value in found.items() if not isinstance(value, float | int | np.floating)}
    if strange:
        raise AssertionError(f"{what}: expected numbers, got {strange}")
    fault = wrong_values(found, feature.definitions)
    if fault:
        raise AssertionError(f"{what}: {fault}")
    if not np.array_equal(mask, before[0]) or (image is not None and not np.array_equal(image, before[1])):
        raise AssertionError(f"{what}: the feature changed its inputs")
    return found


def _changes(
    mask: np.ndarray, image: np.ndarray | None, rng: np.random.Generator
) -> Iterator[tuple[str, tuple[np.ndarray, np.ndarray | None]]]:
    """Yield the same object in other arrays, and what is other about them."""
    yield "asked again", (mask, image)
    yield "in Fortran order", (np.asfortranarray(mask), None if image is None else np.asfortranarray(image))
    wide = [np.repeat(np.repeat(array, 2, axis=1), 3, axis=2) for array in (mask, mask if image is None else image)]
    strided = [array[:, ::2, ::3] for array in wide]
    yield "as a view with strides", (strided[0], None if image is None else strided[1])
    margins = ((2, 3), (4, 0), (1, 5))
    larger = np.pad(mask, margins)
    around = rng.integers(0, 256, larger.shape).astype(np.uint8)
    if image is not None:
        around[larger] = image[mask]
    yield "in a larger crop with other surroundings", (larger, None if image is None else around)
    tight = tuple(slice(int(at.min()), int(at.max()) + 1) for at in np.nonzero(mask))
    yield "without a margin", (mask[tight], None if image is None else image[tight])


def _assert_close(found: Mapping[str, float], expected: Mapping[str, float], what: str) -> None:
    """Assert that values agree to 1e-9, NaN with NaN."""
    for name, value in expected.items():
        same = math.isclose(found[name], value, rel_tol=1e-9, abs_tol=1e-12)
        if not same and not (math.isnan(value) and math.isnan(found[name])):
            raise AssertionError(f"{what}: expected {name} = {value} as before, got {found[name]}")


def _difference(found: np.ndarray, expected: np.ndarray, table: Contingency, true_id: int) -> str:
    """Say in one sentence how the expected object was found."""
    covered = table.truth == true_id
    ids, n_voxels = table.segmentation[covered], table.n_voxels[covered]
    title = f"expected object {true_id} ({n_voxels.sum()} voxels)"
    if not ids.any():
        return f"{title} was not found; its first voxel is {_first(expected == true_id)}"
    main = int(ids[np.argmax(np.where(ids != 0, n_voxels, 0))])
    holds = (table.segmentation == main) & ~covered
    faults = []
    if ids.size > 1:
        faults.append(f"was found as {_parts('object', ids, n_voxels)}")
    if holds.any():
        others = _parts("expected object", table.truth[holds], table.n_voxels[holds])
        faults.append(f"shares found object {main} with {others}")
    first = _first((expected == true_id) != (found == main))
    return f"{title} {' and '.join(faults)}; the first voxel that differs is {first}"


def _parts(kind: str, ids: np.ndarray, n_voxels: np.ndarray) -> str:
    """Name parts, the largest first."""
    order = np.argsort(-n_voxels, kind="stable")
    named = [f"{f'{kind} {ids[i]}' if ids[i] else 'background'} ({n_voxels[i]} voxels)" for i in order[:_N_NAMED]]
    return ", ".join(named) + (f" and {ids.size - _N_NAMED} more" if ids.size > _N_NAMED else "")


def _repeated(ids: np.ndarray) -> np.ndarray:
    """Mark ids that occur more than once."""
    _, place, counts = np.unique(ids, return_inverse=True, return_counts=True)
    return np.asarray(counts[place] > 1)


def _first(mask: np.ndarray) -> tuple[int, ...]:
    """Return the index of the first voxel in the mask, in the order of the array."""
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(mask)), mask.shape))
