"""The assertion accepts every renaming, refuses everything else, says what differs; features keep promises."""

import math
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cristae.features.definitions import Definition
from cristae.features.registry import FEATURES
from cristae.testing import assert_same_objects, check_feature

SHAPES = hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=4)
LABELS = hnp.arrays(np.uint32, SHAPES, elements=st.integers(0, 3))


def same_by_definition(found, expected):
    """Two voxels are in one object in both or in neither, and background is background in both."""
    found, expected = found.ravel(), expected.ravel()
    joined = (found[:, None] == found) == (expected[:, None] == expected)
    return bool(joined.all() and np.array_equal(found == 0, expected == 0))


@given(LABELS)
def test_every_renaming_is_the_same(labels):
    assert_same_objects(np.array([0, 2**32 - 1, 7, 1], np.uint32)[labels], labels)
    assert_same_objects(labels.astype(np.int16), labels)


@given(LABELS, st.data())
def test_it_decides_as_the_definition_does(labels, data):
    names = np.array([0, 6, 7, 8])
    names[data.draw(st.integers(0, 3))] = data.draw(st.integers(0, 8))
    changed = names[labels]
    at = tuple(data.draw(st.integers(0, n - 1)) for n in labels.shape)
    changed[at] = data.draw(st.integers(0, 8))
    if same_by_definition(changed, labels):
        assert_same_objects(changed, labels)
    else:
        with pytest.raises(AssertionError, match="object"):
            assert_same_objects(changed, labels)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (
            [[0, 5, 5, 9], [7, 7, 7, 7]],
            "expected object 1 (3 voxels) was found as object 5 (2 voxels), object 9 (1 voxels); "
            "the first voxel that differs is (0, 3)",
        ),
        (
            [[0, 5, 5, 5], [5, 5, 5, 5]],
            "expected object 1 (3 voxels) shares found object 5 with expected object 4 (4 voxels); "
            "the first voxel that differs is (1, 0)",
        ),
        (
            [[5, 5, 5, 0], [7, 7, 7, 7]],
            "expected object 1 (3 voxels) was found as object 5 (2 voxels), background (1 voxels) "
            "and shares found object 5 with background (1 voxels); the first voxel that differs is (0, 0)",
        ),
        (
            [[0, 5, 5, 5], [0, 0, 0, 0]],
            "expected object 4 (4 voxels) was not found; its first voxel is (1, 0)",
        ),
        (
            [[0, 5, 5, 5], [1, 2, 3, 4]],
            "expected object 4 (4 voxels) was found as object 1 (1 voxels), object 2 (1 voxels), object 3 (1 voxels) "
            "and 1 more; the first voxel that differs is (1, 1)",
        ),
        (
            [[3, 5, 5, 5], [4, 4, 4, 4]],
            "found object 3 (1 voxels, first at (0, 0)) where nothing was expected",
        ),
    ],
)
def test_the_message_names_object_parts_and_place(found, message):
    expected = np.array([[0, 1, 1, 1], [4, 4, 4, 4]])
    with pytest.raises(AssertionError) as raised:
        assert_same_objects(np.array(found), expected)
    assert str(raised.value) == message


def test_a_mask_is_not_two_objects():
    with pytest.raises(ValueError, match="integer ids"):
        assert_same_objects(np.zeros((2, 2), bool), np.zeros((2, 2), int))
    with pytest.raises(AssertionError, match="shape"):
        assert_same_objects(np.zeros((2, 3), int), np.zeros((2, 2), int))


class Good:
    """A feature that keeps every promise: volume, and mean grey value where there is an image."""

    definitions: ClassVar = {"v_nm3": Definition("nm³", "volume"), "grey": Definition("", "mean grey value")}
    meaningless_when_cut: ClassVar = {"v_nm3"}

    def __call__(self, mask, image, voxel_size):
        grey = math.nan if image is None else float(np.sort(image[mask]).astype(float).mean())
        return {"v_nm3": float(mask.sum() * np.prod(voxel_size)), "grey": grey}


def spoilt(change):
    """The good feature with its values changed by a function of the values and the inputs."""

    class Spoilt(Good):
        def __call__(self, mask, image, voxel_size):
            found = super().__call__(mask, image, voxel_size)
            return change(found, mask, image) or found

    return Spoilt()


def wipe(found, mask, image):
    mask[...] = False


def bleach(found, mask, image):
    if image is not None:
        image += 1


RANDOM = np.random.default_rng()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda found, mask, image: {"v_nm3": 1.0}, "missing: \\['grey'\\]"),
        (lambda found, mask, image: {**found, "more": 1.0}, "not defined: \\['more'\\]"),
        (lambda found, mask, image: {**found, "grey": math.inf}, "infinite grey"),
        (lambda found, mask, image: {**found, "grey": "7"}, "numbers"),
        (wipe, "changed its inputs"),
        (bleach, "changed its inputs"),
        (lambda found, mask, image: {**found, "grey": RANDOM.random()}, "asked again"),
        (lambda found, mask, image: {**found, "grey": float(mask.flags.c_contiguous)}, "Fortran"),
        (lambda found, mask, image: {**found, "grey": float(mask.strides[0] // mask.strides[2])}, "as before"),
        (lambda found, mask, image: {**found, "grey": float(np.argwhere(mask)[0, 0])}, "larger crop"),
        (lambda found, mask, image: {**found, "grey": math.nan if image is None else image.mean()}, "larger crop"),
        (lambda found, mask, image: {**found, "grey": float(mask[0].any())}, "without a margin"),
    ],
)
def test_each_broken_promise_of_a_feature_is_found(change, message):
    with pytest.raises(AssertionError, match=message):
        check_feature(spoilt(change))


def test_definitions_of_a_feature_are_looked_at():
    for name, value in (("definitions", {}), ("definitions", {"v": "volume"}), ("meaningless_when_cut", {"other"})):
        feature = Good()
        setattr(feature, name, value)
        with pytest.raises(AssertionError, match=name):
            check_feature(feature)


@pytest.mark.parametrize("make", [Good, *FEATURES.values()])
def test_good_features_and_those_of_cristae_pass(make):
    check_feature(make())
