"""Co-occurrence is what the IBSI, pyradiomics and mahotas say, whatever the blocks."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from texture_phantom import PHANTOM, REGION, WHOLE, boxes, dense, turned, within_last_digit

from cristae.features.glcm import (
    DEFINITIONS,
    DIRECTIONS,
    Cooccurrence,
    Pairing,
    add_pairs,
    cooccurrence_table,
    halo,
    step_lengths_nm,
)

APART = Pairing(6, per_direction=True)


@st.composite
def volumes(draw):
    shape = draw(st.tuples(*[st.integers(1, 7)] * 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    labels = rng.integers(0, draw(st.integers(1, 3)) + 1, shape).astype(np.int32)
    return labels, rng.integers(1, 5, shape).astype(np.uint8)


def pairs_the_slow_way(labels, n_objects, levels, pairing):
    counts = np.zeros((n_objects, len(pairing.distances), 13, pairing.n_levels, pairing.n_levels), np.int64)
    for first in np.argwhere(labels > 0):
        for d, distance in enumerate(pairing.distances):
            for k, direction in enumerate(DIRECTIONS):
                second = first + distance * direction
                if (second >= 0).all() and (second < labels.shape).all():
                    i, j = tuple(first), tuple(second)
                    if labels[i] == labels[j]:
                        counts[labels[i] - 1, d, k, levels[i] - 1, levels[j] - 1] += 1
    return counts if pairing.per_direction else counts.sum(axis=2, keepdims=True)


@settings(max_examples=40)
@given(volumes(), st.sampled_from([(1,), (2,), (3, 1)]), st.booleans())
def test_every_pair_is_counted_once(volume, distances, per_direction):
    labels, levels = volume
    pairing = Pairing(4, distances, per_direction)
    counted = add_pairs(labels, 3, WHOLE, levels, pairing)
    assert np.array_equal(counted.pairs, pairs_the_slow_way(labels, 3, levels, pairing))


@settings(max_examples=60)
@given(volumes(), st.tuples(*[st.integers(1, 5)] * 3), st.sampled_from([(1,), (2,), (3, 1)]), st.booleans())
def test_blocks_equal_the_whole(volume, block_shape, distances, per_direction):
    labels, levels = volume
    pairing = Pairing(4, distances, per_direction)
    whole = add_pairs(labels, 3, WHOLE, levels, pairing)
    total = Cooccurrence(np.zeros_like(whole.pairs), distances)
    for read, inner, _ in boxes(labels.shape, block_shape, halo(distances)):
        total += add_pairs(labels[read], 3, inner, levels[read], pairing)
    assert np.array_equal(total.pairs, whole.pairs)


def test_blocks_with_ids_of_their_own_in_threads_equal_the_whole():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 4, (12, 20, 24)).astype(np.int32) * 7
    levels = rng.integers(1, 9, labels.shape).astype(np.uint16)
    ids, pairing = np.array([7, 14, 21]), Pairing(8)

    def work(box):
        own, own_ids = dense(labels[box[0]])
        return own_ids, add_pairs(own, len(own_ids), box[1], levels[box[0]], pairing).pairs

    total = np.zeros((3, 1, 1, 8, 8), np.int64)
    with ThreadPoolExecutor(3) as pool:
        for own_ids, pairs in pool.map(work, boxes(labels.shape, (5, 8, 7), halo())):
            total[np.searchsorted(ids, own_ids)] += pairs
    assert np.array_equal(total, add_pairs(dense(labels)[0], 3, WHOLE, levels, pairing).pairs)


def test_more_slices_than_are_counted_at_a_time():
    rng = np.random.default_rng(4)
    labels, levels = rng.integers(0, 3, (21, 3, 3)).astype(np.int32), rng.integers(1, 4, (21, 3, 3)).astype(np.uint16)
    expected = pairs_the_slow_way(labels, 2, levels, Pairing(3, (2,)))
    assert np.array_equal(add_pairs(labels, 2, WHOLE, levels, Pairing(3, (2,))).pairs, expected)


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [
        (
            "features",
            {"average": 2.14, "variance": 3.10, "contrast": 5.32, "dissimilarity": 1.43, "homogeneity": 0.618,
             "correlation": 0.157, "energy": 0.303, "entropy": 2.40},
        ),
        (
            "counts",
            {"average": 2.15, "variance": 3.13, "contrast": 5.12, "dissimilarity": 1.38, "homogeneity": 0.631,
             "correlation": 0.183, "energy": 0.291, "entropy": 2.57},
        ),
    ],
)  # fmt: skip
def test_phantom_of_the_ibsi(aggregation, expected):
    counted = add_pairs(REGION, 1, WHOLE, np.where(REGION, PHANTOM, 0).astype(np.uint8), APART)
    values = cooccurrence_table(counted, aggregation).iloc[0]
    for name, printed in expected.items():
        assert within_last_digit(values[f"glcm_{name}"], printed), name


@pytest.mark.parametrize(
    ("aggregation", "contrast", "homogeneity", "correlation", "variance"),
    [
        ("features", 5.3245, 0.6177, 0.1574, 3.0993),
        ("counts", 5.1176, 0.6306, 0.1831, 3.1325),
        ("probabilities", 5.3245, 0.6177, 0.1482, 3.1252),
    ],
)
def test_phantom_with_more_digits(aggregation, contrast, homogeneity, correlation, variance):
    values = cooccurrence_table(add_pairs(REGION, 1, WHOLE, PHANTOM % 9, APART), aggregation).iloc[0]
    assert values.glcm_contrast == pytest.approx(contrast, abs=5e-5)
    assert values.glcm_homogeneity == pytest.approx(homogeneity, abs=5e-5)
    assert values.glcm_correlation == pytest.approx(correlation, abs=5e-5)
    assert values.glcm_variance == pytest.approx(variance, abs=5e-5)
    if aggregation == "probabilities":
        assert values.glcm_energy == pytest.approx(0.2864, abs=5e-5)


def test_worked_example_of_pyradiomics():
    levels = np.array([[[1, 2, 5, 2, 3], [3, 2, 1, 3, 1], [1, 3, 5, 5, 2], [1, 1, 1, 1, 2], [1, 2, 4, 3, 5]]], np.uint8)
    pairs = add_pairs(np.ones(levels.shape, np.int32), 1, WHOLE, levels, Pairing(5, per_direction=True)).pairs[0, 0]
    along_x = pairs[DIRECTIONS.tolist().index([0, 0, 1])]
    assert (along_x + along_x.T).tolist() == [
        [6, 4, 3, 0, 0],
        [4, 0, 2, 1, 3],
        [3, 2, 0, 1, 2],
        [0, 1, 1, 0, 0],
        [0, 3, 2, 0, 2],
    ]


def blob(distance=1):
    """A lump that has pairs in every direction, with levels that are not all there."""
    rng = np.random.default_rng(distance)
    z, y, x = np.mgrid[:14, :16, :18]
    inside = ((z - 6) / 6) ** 2 + ((y - 8) / 7) ** 2 + ((x - 9) / 8) ** 2 < 1
    grey = np.cumsum(rng.normal(size=inside.shape), axis=2)
    levels = np.digitize(grey, np.linspace(-6, 6, 31)) + 1
    return inside.astype(np.int32), np.where(inside, levels, 0).astype(np.uint8)


@pytest.mark.parametrize("distance", [1, 3])
def test_values_and_counts_of_mahotas(distance):
    texture = pytest.importorskip("mahotas.features.texture")
    inside, levels = blob(distance)
    counted = add_pairs(inside, 1, WHOLE, levels, Pairing(32, (distance,), per_direction=True))
    both = counted.pairs[0, 0] + counted.pairs[0, 0].transpose(0, 2, 1)
    theirs = sum(
        texture.cooccurence(levels, k, symmetric=True, distance=distance).astype(np.int64)[1:, 1:] for k in range(13)
    )
    n = len(theirs)
    assert np.array_equal(both.sum(axis=0)[:n, :n], theirs)
    assert both.sum() == theirs.sum()
    expected = texture.haralick(levels, ignore_zeros=True, distance=distance).mean(axis=0)
    suffix = "" if distance == 1 else f"_d{distance}"
    values = cooccurrence_table(counted, "features").iloc[0]
    for place, name in enumerate(["energy", "contrast", "correlation", "variance", "homogeneity"]):
        assert values[f"glcm_{name}{suffix}"] == pytest.approx(expected[place], rel=1e-9), name
    assert values[f"glcm_entropy{suffix}"] == pytest.approx(expected[8], rel=1e-9)


def test_turned_and_mirrored_objects_have_the_same_texture():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, (4, 5, 6)).astype(np.int32)
    levels = rng.integers(1, 7, labels.shape).astype(np.uint8)
    expected = cooccurrence_table(add_pairs(labels, 1, WHOLE, levels, Pairing(6, (1, 2))))
    for own, own_levels in zip(turned(labels), turned(levels), strict=True):
        assert cooccurrence_table(add_pairs(own, 1, WHOLE, own_levels, Pairing(6, (1, 2)))).equals(expected)


@pytest.mark.parametrize("aggregation", ["counts", "probabilities", "features"])
def test_one_grey_value_one_voxel_and_no_voxel(aggregation):
    labels = np.zeros((3, 4, 5), np.int32)
    labels[:, :, :3] = 1
    labels[0, 0, 4] = 2
    levels = np.where(labels, 3, 0).astype(np.uint16)
    counted = add_pairs(labels, 3, WHOLE, levels, Pairing(6, per_direction=True))
    table = cooccurrence_table(counted, aggregation)
    assert table.iloc[0].to_dict() == {
        "glcm_homogeneity": 1, "glcm_correlation": 1, "glcm_variance": 0, "glcm_contrast": 0,
        "glcm_energy": 1, "glcm_entropy": 0, "glcm_dissimilarity": 0, "glcm_average": 3,
    }  # fmt: skip
    assert table.iloc[1:].isna().all(axis=None)
    nothing = add_pairs(labels * 0, 0, WHOLE, levels, Pairing(6, per_direction=True))
    assert cooccurrence_table(nothing, aggregation).shape == (0, 8)


def test_directions_without_a_pair_are_left_out():
    levels = np.array([[[1, 2, 2, 4, 1]]], np.uint8)
    counted = add_pairs(np.ones(levels.shape, np.int32), 1, WHOLE, levels, Pairing(4, per_direction=True))
    by_counts = cooccurrence_table(counted, "counts")
    assert np.allclose(cooccurrence_table(counted, "features"), by_counts)
    assert np.allclose(cooccurrence_table(counted, "probabilities"), by_counts)
    assert by_counts.glcm_contrast[0] == (1 + 0 + 4 + 9) / 4


def test_columns_are_defined_and_named_by_distance():
    counted = add_pairs(REGION, 1, WHOLE, PHANTOM, Pairing(9, (1, 2)))
    table = cooccurrence_table(counted, literal=True)
    assert set(table) == set(DEFINITIONS) | {f"{name}_d2" for name in DEFINITIONS}
    assert table.glcm_variance_eq12[0] == table.glcm_contrast[0] != table.glcm_contrast_d2[0]
    plain = cooccurrence_table(add_pairs(REGION, 1, WHOLE, PHANTOM, Pairing(9)))
    assert set(plain) == set(DEFINITIONS) - {"glcm_variance_eq12"}


def test_lengths_of_steps():
    lengths = step_lengths_nm((30.0, 4.0, 3.0), (1, 2))
    assert lengths[1]["0,0,1"] == 3
    assert lengths[1]["0,1,-1"] == 5
    assert lengths[2]["1,0,0"] == 60
    assert {len(of) for of in lengths.values()} == {13}


def test_impossible_input_is_refused():
    ones, levels = np.ones((2, 2, 2), np.int32), np.ones((2, 2, 2), np.uint8)
    with pytest.raises(ValueError, match="one shape"):
        add_pairs(ones, 1, WHOLE, levels[1:], Pairing(2))
    for wrong_labels, wrong_levels in [(ones * 2, levels), (-ones, levels), (ones, levels * 0), (ones, levels * 3)]:
        with pytest.raises(ValueError, match="ids up to 1 and, inside objects, levels from 1 to 2"):
            add_pairs(wrong_labels, 1, WHOLE, wrong_levels, Pairing(2))
    for distances in [(), (0,), (1, 1)]:
        with pytest.raises(ValueError, match="different distances"):
            Pairing(2, distances)
    with pytest.raises(ValueError, match="at least 1 grey level"):
        Pairing(0)
    together = add_pairs(ones, 1, WHOLE, levels, Pairing(2))
    with pytest.raises(ValueError, match="per_direction=True"):
        cooccurrence_table(together, "features")
    with pytest.raises(ValueError, match="expected 'counts'"):
        cooccurrence_table(together, "mean")
    with pytest.raises(ValueError, match="same objects"):
        together + add_pairs(ones, 1, WHOLE, levels, Pairing(2, (2,)))
