from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cristae.annotations import IGNORE, Annotations, check_class_name
from cristae.errors import DataError, UsageError
from cristae.geometry import Grid

GRID = Grid((6, 9, 11), (45.0, 4.6, 4.6))


@pytest.fixture
def annotations(tmp_path):
    return Annotations(tmp_path / "annotations.ome.zarr", GRID)


def painted(seed=0):
    return np.random.default_rng(seed).choice(np.array([0, 1, IGNORE], np.uint8), GRID.shape[1:])


@settings(max_examples=8)
@given(arrays(np.uint8, GRID.shape[1:], elements=st.sampled_from([0, 1, IGNORE])), st.integers(0, 5))
def test_write_then_read_round_trips(tmp_path_factory, labels, z):
    annotations = Annotations(tmp_path_factory.mktemp("a") / "annotations.ome.zarr", GRID)
    annotations.write_slice("mito", z, labels)
    assert (annotations.read_slice("mito", z) == labels).all()
    assert annotations.n_voxels("mito") == (labels == 1).sum()
    assert annotations.labelled_slices() == annotations.complete_slices("mito") == (z,)


def test_unlabelled_is_never_background(annotations):
    annotations.write_slice("mito", 2, painted())
    for z in (0, 1, 3, 4, 5):
        assert (annotations.read_slice("mito", z) == IGNORE).all()


def test_on_an_incomplete_slice_0_becomes_ignore(annotations):
    labels = painted()
    annotations.write_slice("mito", 2, labels, complete=False)
    stored = annotations.read_slice("mito", 2)
    assert ((stored == 1) == (labels == 1)).all()
    assert not (stored == 0).any()
    assert annotations.complete_slices("mito") == ()
    assert annotations.labelled_slices("mito") == (2,)


def test_classes_do_not_know_of_each_other_and_may_overlap(annotations):
    everywhere = np.ones(GRID.shape[1:], np.uint8)
    annotations.write_slice("nucleus", 1, everywhere)
    annotations.write_slice("nucleolus", 1, everywhere)
    annotations.write_slice("nucleolus", 4, everywhere)
    assert annotations.classes == ("nucleus", "nucleolus")
    assert annotations.labelled_slices() == (1, 4)
    assert annotations.labelled_slices("nucleus") == (1,)
    assert (annotations.read_slice("nucleus", 4) == IGNORE).all()


def test_writing_again_replaces(annotations):
    annotations.write_slice("mito", 0, painted(0))
    annotations.write_slice("mito", 0, painted(1))
    assert (annotations.read_slice("mito", 0) == painted(1)).all()
    assert annotations.n_voxels("mito") == (painted(1) == 1).sum()


def test_the_fingerprint_tells_labels_apart_and_nothing_else(tmp_path):
    def of(*slices, complete=True):
        annotations = Annotations(tmp_path / f"{len(list(tmp_path.iterdir()))}.ome.zarr", GRID)
        for name, z, seed in slices:
            annotations.write_slice(name, z, painted(seed), complete=complete)
        return annotations.fingerprint()

    base = of(("a", 0, 0), ("b", 3, 1))
    assert of(("b", 3, 1), ("a", 0, 0)) == base  # the order of painting is none
    others = [
        of(("a", 0, 0), ("b", 3, 2)),
        of(("a", 0, 0), ("b", 4, 1)),
        of(("a", 0, 0)),
        of(("c", 0, 0), ("b", 3, 1)),
        of(("a", 0, 0), ("b", 3, 1), complete=False),
    ]
    assert len({base, *others}) == 6


def test_a_slice_outside_another_size_and_other_values_are_refused(annotations):
    with pytest.raises(DataError, match="from 0 to 5"):
        annotations.write_slice("mito", 6, painted())
    with pytest.raises(DataError, match=r"\(9, 11\)"):
        annotations.write_slice("mito", 0, painted()[:, :-1])
    with pytest.raises(DataError, match="value 7"):
        annotations.write_slice("mito", 0, np.full(GRID.shape[1:], 7, np.uint8))
    assert annotations.classes == ()


def test_an_unknown_class_is_named_together_with_those_there_are(annotations):
    annotations.write_slice("mito", 0, painted())
    with pytest.raises(UsageError, match=r"'mitos'; there are mito"):
        annotations.read_slice("mitos", 0)


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "-x", "a b", "x" * 65, "ä"])
def test_names_that_are_no_folder_names_are_refused(name, annotations):
    with pytest.raises(UsageError, match="cannot name a class"):
        check_class_name(name)
    with pytest.raises(UsageError):
        annotations.write_slice(name, 0, painted())
