from __future__ import annotations

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cristae.errors import DataError, UsageError
from cristae.geometry import Grid
from cristae.io.labels import LabelRules, open_labels
from cristae.io.ome_zarr import create_volume

SHAPE = (8, 9, 11)
ONE = {"mito": None}


def ids(depth=SHAPE[0], dtype=np.uint8, highest=4):
    return np.random.default_rng(0).integers(0, highest, (depth, *SHAPE[1:])).astype(dtype)


def save(path, values):
    tifffile.imwrite(path, values, photometric="minisblack")
    return path


def folder_of(path, values, numbers, name="z{:03}.tif"):
    path.mkdir()
    for number, plane in zip(numbers, values, strict=True):
        if name.endswith("png"):
            Image.fromarray(plane).save(path / name.format(number))
        else:
            save(path / name.format(number), plane)
    return path


def read(source, rules, shape=SHAPE):
    opened = open_labels(source, shape, rules)
    opened.check()
    return {z: layers for z, layers in opened.slices()}


@settings(max_examples=15)
@given(
    st.lists(st.integers(0, 7), min_size=2, max_size=8, unique=True),
    st.sampled_from(["uint8", "uint16", "uint32", "int32"]),
    st.integers(0, 30),
)
def test_a_folder_says_by_its_numbers_which_slices_are_labelled(tmp_path_factory, numbers, dtype, first):
    values = ids(len(numbers), dtype)
    source = folder_of(tmp_path_factory.mktemp("l") / "f", values, [n + first for n in numbers])
    found = read(source, LabelRules(ONE, first_slice=first))
    assert list(found) == sorted(numbers)
    for number, plane in zip(numbers, values, strict=True):
        assert found[number]["mito"].dtype == np.uint8
        assert (found[number]["mito"] == (plane != 0)).all()


@pytest.mark.parametrize("value", [1, 255])
def test_masks_of_1_and_of_255_are_the_same(tmp_path, value):
    save(tmp_path / "a.tif", (ids() > 2).astype(np.uint8) * value)
    found = read(tmp_path / "a.tif", LabelRules(ONE))
    assert list(found) == list(range(8))
    assert all((found[z]["mito"] == (ids()[z] > 2)).all() for z in found)


def test_255_beside_1_is_not_guessed_at(tmp_path):
    planes = (ids() > 2).astype(np.uint8)
    planes[3, 0, 0] = 255
    save(tmp_path / "a.tif", planes)
    with pytest.raises(DataError, match=r"slice 3 holds 0, 1 and 255.*ignore"):
        read(tmp_path / "a.tif", LabelRules(ONE))
    assert read(tmp_path / "a.tif", LabelRules(ONE, ignore_value=255))[3]["mito"][0, 0] == 255
    assert read(tmp_path / "a.tif", LabelRules({"mito": (1, 255)}))[3]["mito"][0, 0] == 1


def test_boolean_masks_and_palettes_are_labels(tmp_path):
    save(tmp_path / "a.tif", ids() > 2)
    assert (read(tmp_path / "a.tif", LabelRules(ONE))[3]["mito"] == (ids()[3] > 2)).all()
    (tmp_path / "f").mkdir()
    for z in (1, 5):
        picture = Image.fromarray(ids()[z]).convert("P")
        picture.putdata(ids()[z].ravel().tolist())
        picture.save(tmp_path / "f" / f"{z}.png")
    assert (read(tmp_path / "f", LabelRules(ONE))[5]["mito"] == (ids()[5] > 0)).all()


def test_ids_above_255_are_no_problem(tmp_path):
    values = ids(dtype=np.uint32, highest=3) * 70_000
    save(tmp_path / "a.tif", values)
    found = read(tmp_path / "a.tif", LabelRules({"a": (70_000,), "b": (140_000,)}))
    assert (found[2]["b"] == (values[2] == 140_000)).all()


def test_files_of_several_types_are_fine_in_labels(tmp_path):
    source = folder_of(tmp_path / "f", [ids()[0], ids(dtype=np.uint16)[1]], [0, 1])
    assert list(read(source, LabelRules(ONE))) == [0, 1]


def test_one_value_may_be_of_two_classes(tmp_path):
    save(tmp_path / "a.tif", ids(highest=3))
    found = read(tmp_path / "a.tif", LabelRules({"nucleus": (1, 2), "nucleolus": (2,)}))
    for z, layers in found.items():
        assert (layers["nucleus"] == (ids(highest=3)[z] > 0)).all()
        assert (layers["nucleolus"] == (ids(highest=3)[z] == 2)).all()


def test_the_ignore_value_is_neither_class_nor_background(tmp_path):
    save(tmp_path / "a.tif", ids())
    found = read(tmp_path / "a.tif", LabelRules(ONE, ignore_value=3))
    expected = np.where(ids()[4] == 3, 255, ids()[4] > 0)
    assert (found[4]["mito"] == expected).all()


def test_in_a_full_stack_slices_that_are_wholly_ignored_are_unlabelled(tmp_path):
    values = ids()
    values[[0, 3, 4]] = 9
    save(tmp_path / "a.tif", values)
    assert list(read(tmp_path / "a.tif", LabelRules(ONE, ignore_value=9))) == [1, 2, 5, 6, 7]
    assert len(read(tmp_path / "a.tif", LabelRules(ONE))) == 8


def test_slices_select_from_a_full_stack(tmp_path):
    save(tmp_path / "a.tif", ids())
    found = read(tmp_path / "a.tif", LabelRules(ONE, slices=(6, 2)))
    assert list(found) == [2, 6]
    assert (found[6]["mito"] == (ids()[6] > 0)).all()


def test_slices_select_from_a_folder_by_number_or_place_its_files_in_order(tmp_path):
    source = folder_of(tmp_path / "f", ids(5), [0, 1, 2, 3, 4])
    found = read(source, LabelRules(ONE, slices=(4, 1)))
    assert list(found) == [1, 4]
    assert (found[4]["mito"] == (ids(5)[4] > 0)).all()
    found = read(source, LabelRules(ONE, slices=(1, 3, 5, 6, 7)))
    assert (found[7]["mito"] == (ids(5)[4] > 0)).all()
    refused(source, "one file for each", LabelRules(ONE, slices=(4, 6)))


def test_slices_place_the_pages_of_a_short_stack(tmp_path):
    save(tmp_path / "a.tif", ids(3))
    found = read(tmp_path / "a.tif", LabelRules(ONE, slices=(1, 6, 3)))
    assert list(found) == [1, 3, 6]
    assert (found[6]["mito"] == (ids(3)[1] > 0)).all()


def test_ome_zarr_labels(tmp_path):
    for depth, slices in ((8, None), (3, (0, 4, 7))):
        path = tmp_path / f"{depth}.ome.zarr"
        volume = create_volume(path, Grid((depth, *SHAPE[1:]), (1.0, 1.0, 1.0)), np.uint16, "labels")
        volume.write(volume.grid.box, ids(depth, np.uint16))
        found = read(path, LabelRules(ONE, slices=slices))
        assert list(found) == list(slices or range(8))
        assert (found[0]["mito"] == (ids(depth)[0] > 0)).all()


def test_one_file_with_one_slice(tmp_path):
    save(tmp_path / "z005.tif", ids()[0])
    assert list(read(tmp_path / "z005.tif", LabelRules(ONE))) == [5]
    assert list(read(tmp_path / "z005.tif", LabelRules(ONE, slices=(2,)))) == [2]
    assert list(read(folder_of(tmp_path / "f", ids(1), [3], "{}.png"), LabelRules(ONE))) == [3]
    save(tmp_path / "mito_v2_final3.tif", ids()[0])
    with pytest.raises(DataError, match="does not say which"):
        open_labels(tmp_path / "mito_v2_final3.tif", SHAPE, LabelRules(ONE))
    assert list(read(tmp_path / "mito_v2_final3.tif", LabelRules(ONE), (1, *SHAPE[1:]))) == [0]


def refused(source, message, rules=None, error=DataError):
    with pytest.raises(error, match=message):
        open_labels(source, SHAPE, rules or LabelRules(ONE)).check()


def test_a_file_with_no_matching_slice_is_refused(tmp_path):
    source = folder_of(tmp_path / "f", ids(2), [3, 8])
    refused(source, r"z008\.tif has no matching slice.*0 to 7")
    refused(source, r"z003\.tif has no matching slice", LabelRules(ONE, first_slice=5))
    refused(save(tmp_path / "a.tif", ids(2)), "no matching slice", LabelRules(ONE, slices=(3, 9)))
    refused(save(tmp_path / "z044.tif", ids(1)[0]), "no matching slice")


def test_labels_of_another_size_are_refused(tmp_path):
    source = folder_of(tmp_path / "f", ids(2), [0, 1])
    save(source / "z001.tif", np.ones((9, 10), np.uint8))
    refused(source, r"z001\.tif has slices of 9×10 \(y, x\); expected 9×11")
    refused(save(tmp_path / "a.tif", np.ones((8, 10, 11), np.uint8)), "10×11")


def test_stacks_of_another_depth_are_refused(tmp_path):
    refused(save(tmp_path / "a.tif", ids(5)), "5 slices, the image 8; name the slices")
    refused(save(tmp_path / "b.tif", ids(5)), "expected 2", LabelRules(ONE, slices=(1, 2)))


def test_an_unknown_class_id_is_named_with_its_slice(tmp_path):
    values = ids(highest=3)
    values[5, 2, 2] = 7
    refused(save(tmp_path / "a.tif", values), "slice 5 holds the value 7", LabelRules({"a": (1,), "b": (2,)}))


def test_a_class_without_a_voxel_is_refused(tmp_path):
    refused(save(tmp_path / "a.tif", np.zeros(SHAPE, np.uint8)), "no voxel of class 'mito'")
    rules = LabelRules({"a": (1, 2, 3), "b": (9,)})
    refused(save(tmp_path / "b.tif", ids()), "no voxel of class 'b' on 8", rules)
    refused(save(tmp_path / "c.tif", np.full(SHAPE, 4, np.uint8)), "on 0 labelled", LabelRules(ONE, ignore_value=4))


def test_colour_and_fractions_are_no_labels(tmp_path):
    (tmp_path / "f").mkdir()
    Image.fromarray(np.zeros((*SHAPE[1:], 3), np.uint8)).save(tmp_path / "f" / "z1.png")
    refused(tmp_path / "f", "colour image")
    refused(save(tmp_path / "a.tif", ids(dtype=np.float32)), "whole numbers, got float32")


def test_files_without_numbers_and_twice_the_same_slice_are_refused(tmp_path):
    refused(folder_of(tmp_path / "f", ids(2), ["a", "b"], "{}.tif"), "no slice numbers")
    refused(folder_of(tmp_path / "g", ids(3), ["1", "01", "2"], "{}.tif"), "both labels of slice 1")
    refused(save(tmp_path / "a.tif", ids(2)), "both labels of slice 3", LabelRules(ONE, slices=(3, 3)))
    assert list(read(tmp_path / "f", LabelRules(ONE, slices=(6, 1)))) == [1, 6]


def test_stacks_in_a_folder_of_slices_are_refused(tmp_path):
    source = folder_of(tmp_path / "f", ids(2), [0, 1])
    save(source / "z001.tif", ids(2))
    refused(source, "2 slices; expected one per file")


def test_what_cannot_be_read_is_refused(tmp_path):
    refused(tmp_path / "absent.tif", "nothing that labels can be read from")
    (tmp_path / "a.xyz").write_text("")
    refused(tmp_path / "a.xyz", "nothing that labels can be read from")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "holds no images")


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (LabelRules({}), "at least one class"),
        (LabelRules({"a": None, "b": (2,)}), "give the values of each"),
        (LabelRules({"a": (0, 1)}), "background"),
        (LabelRules({"a": (1, 5)}, ignore_value=5), "ignored"),
    ],
)
def test_rules_that_do_not_fit_each_other_are_refused(tmp_path, rules, message):
    refused(save(tmp_path / "a.tif", ids()), message, rules, UsageError)


def test_real_labels_in_five_pages(data_folder):
    source = data_folder / "hela_mito" / "labels_mitochondria.tif"
    pages = tifffile.imread(source)
    opened = open_labels(source, (300, 2000, 2000), LabelRules(ONE, slices=(1, 30, 60, 116, 150)))
    for page, (z, layers) in zip(pages, opened.slices(), strict=True):
        assert z in (1, 30, 60, 116, 150)
        assert (layers["mito"] == (page != 0)).all()
