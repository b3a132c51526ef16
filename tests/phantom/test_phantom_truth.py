"""What holds of the phantom's labels: blocks equal the whole, things lie where they belong."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import ndimage

from cristae.geometry import Box
from cristae.phantom import CLASSES, PhantomSettings, build_scene, labels

SMALL = (48, 384, 384)


def boxes(shape=SMALL, widest=40):
    def box(corner, size):
        return Box(corner, tuple(min(a + n, limit) for a, n, limit in zip(corner, size, shape, strict=True)))

    corner = st.tuples(*(st.integers(0, n - 1) for n in shape))
    return st.builds(box, corner, st.tuples(*(st.integers(1, widest) for _ in range(3))))


@examples(max_examples=15, deadline=None)
@given(box=boxes())
def test_labels_of_a_box_equal_the_same_part_of_the_whole(scene, truth, box):
    found = labels(scene, box)
    assert set(found) == {"cell", *CLASSES}
    for name, array in found.items():
        assert array.dtype == np.uint32
        np.testing.assert_array_equal(array, truth[name][box.slices])


def test_labels_with_drift_and_odd_voxels_are_blockwise_too():
    scene = build_scene(
        PhantomSettings(shape=(20, 200, 210), voxel_size=(25.0, 6.0, 7.5), drift_px_per_slice=1.5, seed=4)
    )
    whole = labels(scene, Box((0, 0, 0), (20, 200, 210)))
    for box in (Box((3, 11, 7), (9, 90, 101)), Box((19, 0, 190), (20, 200, 210)), Box((0, 63, 64), (20, 65, 66))):
        for name, array in labels(scene, box).items():
            np.testing.assert_array_equal(array, whole[name][box.slices])


def test_drift_moves_the_tissue_and_its_labels():
    shape = (2, 256, 256)
    still = PhantomSettings(shape=shape, seed=2)
    moving = still.model_copy(update={"drift_px_per_slice": 5.0})
    box = Box((0, 0, 0), shape)
    cells = [labels(build_scene(one), box)["cell"] > 0 for one in (still, moving)]
    assert 0.5 < cells[0].mean() < 0.999
    np.testing.assert_array_equal(cells[0][0], cells[1][0])
    assert not np.array_equal(cells[0][1], cells[1][1])


def test_an_empty_box_has_empty_labels(scene):
    assert labels(scene, Box((3, 3, 3), (3, 9, 9)))["cell"].shape == (0, 6, 6)


def test_a_seed_is_a_volume():
    box = Box((0, 0, 0), (4, 96, 96))
    one, same, other = (
        labels(build_scene(PhantomSettings(shape=(4, 96, 96), seed=seed)), box)["cell"].tobytes() for seed in (7, 7, 8)
    )
    assert one == same
    assert one != other


def test_every_class_shows(truth):
    for name in CLASSES:
        assert truth[name].any(), name


def test_nucleoli_lie_in_nuclei_and_nuclei_in_one_cell(truth):
    assert np.all(truth["nucleus"][truth["nucleolus"] > 0] > 0)
    for name in ("nucleus", "mitochondrion", "endosome", "lysosome"):
        inside = truth[name] > 0
        pairs = np.unique(np.stack([truth[name][inside], truth["cell"][inside]]), axis=1)
        assert np.all(pairs[1] > 0), name
        assert len(np.unique(pairs[0])) == pairs.shape[1], f"a {name} lies in two cells"


def test_a_nucleolus_belongs_to_one_nucleus(truth):
    inside = truth["nucleolus"] > 0
    pairs = np.unique(np.stack([truth["nucleolus"][inside], truth["nucleus"][inside]]), axis=1)
    assert len(np.unique(pairs[0])) == pairs.shape[1]


def test_organelles_are_disjoint(truth):
    apart = [truth[name] > 0 for name in ("nucleus", "mitochondrion", "endosome", "lysosome")]
    assert np.sum(apart, axis=0).max() == 1


def test_organelles_of_one_class_do_not_touch(truth):
    for name in ("mitochondrion", "endosome", "lysosome"):
        for axis in range(3):
            one, other = np.delete(truth[name], 0, axis), np.delete(truth[name], -1, axis)
            assert not np.any((one > 0) & (other > 0) & (one != other)), name


def test_nuclei_have_one_to_six_nucleoli(scene):
    assert len(scene.nuclei.ids) > 10
    counts = [np.count_nonzero(scene.nucleoli.cells == cell) for cell in scene.nuclei.cells]
    assert min(counts) >= 1
    assert max(counts) <= 6
    assert len(set(counts)) >= 3


def test_nucleoli_are_fenestrated(truth):
    holes = 0
    for z in range(0, SMALL[0], 4):
        solid = truth["nucleolus"][z] > 0
        holes += np.count_nonzero(ndimage.binary_fill_holes(solid) & ~solid & (truth["nucleus"][z] > 0))
    assert holes > 40


def test_filopodia_come_apart_into_islands(scene, truth):
    owners = {filopodium.cell for filopodium in scene.filopodia}
    islands = 0
    for z in range(0, SMALL[0], 6):
        for cell in owners & set(np.unique(truth["cell"][z]).tolist()):
            _, count = ndimage.label(truth["cell"][z] == cell)
            islands += count > 1
    assert islands >= 3
    for filopodium in scene.filopodia:
        assert filopodium.path.shape[1] == 4
        assert filopodium.path[:, 3].min() > 50
        assert filopodium.path[:, 3].max() < 125


def test_some_cells_touch_and_some_keep_apart(truth):
    cells = truth["cell"]
    touching = (cells[:, 1:] > 0) & (cells[:, :-1] > 0) & (cells[:, 1:] != cells[:, :-1])
    assert touching.any()
    assert 0.02 < np.mean(cells == 0) < 0.3


def test_coarser_slices_hold_the_same_tissue():
    fine = PhantomSettings(shape=(32, 256, 256), seed=5)
    coarse = PhantomSettings(shape=(16, 256, 256), voxel_size=(16.0, 8.0, 8.0), seed=5)
    many, few = (labels(build_scene(one), Box((0, 0, 0), one.shape)) for one in (fine, coarse))
    for name in ("cell", "nucleus", "mitochondrion", "lysosome"):
        assert len(np.unique(few[name])) == pytest.approx(len(np.unique(many[name])), abs=2)
        assert np.count_nonzero(few[name]) == pytest.approx(np.count_nonzero(many[name]) / 2, rel=0.04)


def test_a_scene_is_small_however_large_the_volume():
    scene = build_scene(PhantomSettings(shape=(16, 3000, 3000)))
    assert scene.chains.points.nbytes + scene.nuclei.cuts.nbytes < 16e6
    corner = labels(scene, Box((5, 2980, 2970), (9, 3000, 3000)))
    assert corner["cell"].shape == (4, 20, 30)


@pytest.mark.parametrize(
    "wrong",
    [
        {"shape": (0, 10, 10)},
        {"shape": (4, 10)},
        {"voxel_size": (8.0, 0.0, 8.0)},
        {"noise": -0.1},
        {"noise": 0.9},
        {"seed": -1},
        {"missing_slices": (96,)},
        {"missing_slices": (-1,)},
        {"drift_px_per_slice": 50.0},
        {"colour": 1},
    ],
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValidationError):
        PhantomSettings(**wrong)


def test_settings_cannot_be_changed_and_are_documented():
    settings = PhantomSettings()
    with pytest.raises(ValidationError):
        settings.seed = 3
    assert all(field.description for field in PhantomSettings.model_fields.values())
