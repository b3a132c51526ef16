import json

import numpy as np
import pytest
import zarr

from cristae.errors import DataError
from cristae.geometry import Grid
from cristae.io.label_rules import LabelRules
from cristae.io.labels import open_labels
from cristae.io.webknossos import write_webknossos
from cristae.io.webknossos_layer import is_webknossos, open_webknossos
from cristae.volume import Volume

SHAPE = (5, 33, 40)
SIZE = (40.0, 4.0, 5.0)
IDS = np.random.default_rng(0).integers(0, 70_000, SHAPE, np.uint32)


@pytest.fixture
def dataset(tmp_path):
    write_webknossos(Volume(IDS, Grid(SHAPE, SIZE), "labels"), tmp_path / "d", "cells")
    write_webknossos(Volume((IDS % 200).astype(np.uint8), Grid(SHAPE, SIZE), "image"), tmp_path / "d", "image")
    return tmp_path / "d"


def edit(dataset, change):
    path = dataset / "datasource-properties.json"
    properties = json.loads(path.read_text())
    change(properties)
    path.write_text(json.dumps(properties))


def test_what_was_written_is_read_in_whole_and_in_parts(dataset):
    assert is_webknossos(dataset) and is_webknossos(dataset / "cells") and not is_webknossos(dataset.parent)
    for path in (dataset, dataset / "cells"):
        opened = open_webknossos(path)
        assert opened.array.shape == SHAPE and opened.voxel_size == SIZE
        assert np.array_equal(opened.array[:, :, :], IDS)
        assert np.array_equal(opened.array[1:3, 5:9, 30:40], IDS[1:3, 5:9, 30:40])
    assert np.array_equal(open_webknossos(dataset / "image").array[:, :, :], IDS % 200)
    source = open_labels(dataset / "cells", SHAPE, LabelRules({"cell": None}, slices=(1, 3), instances=True))
    assert [z for z, _ in source.pages] == [1, 3]
    assert np.array_equal(next(source.slices()).layers["cell"], IDS[1])


def test_a_box_within_the_array_and_beyond_it(dataset):
    def smaller(properties):
        entry = properties["dataLayers"][0]
        entry["boundingBox"] = {"topLeft": [2, 3, 1], "width": 40, "height": 33, "depth": 4}

    edit(dataset, smaller)
    array = open_webknossos(dataset / "cells").array
    expected = np.zeros((4, 33, 40), np.uint32)
    expected[:, :30, :38] = IDS[1:, 3:, 2:]
    assert np.array_equal(array[:, :, :], expected)
    assert np.array_equal(array[3:4, 29:32, 0:5], expected[3:4, 29:32, 0:5])


def test_other_orders_of_axes_and_zarr_2(dataset):
    array = zarr.create_array(dataset / "cells" / "other", data=IDS[None], zarr_format=2)
    assert array.shape == (1, *SHAPE)

    def other(properties):
        mag = {"mag": 1, "path": "./cells/other", "axisOrder": {"c": 0, "z": 1, "y": 2, "x": 3}}
        properties["dataLayers"][0] |= {"dataFormat": "zarr", "mags": [mag]}
        properties["scale"] = {"factor": [0.005, 0.004, 0.04], "unit": "micrometer"}

    edit(dataset, other)
    opened = open_webknossos(dataset / "cells")
    assert np.array_equal(opened.array[:, :, :], IDS)
    assert opened.voxel_size == pytest.approx(SIZE)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: p["dataLayers"][0].update(dataFormat="wkw"), "stored as wkw; expected zarr"),
        (lambda p: p["dataLayers"][0].update(name="others"), "no layer 'cells'; there are: others, image"),
        (lambda p: p["dataLayers"][0]["mags"][0].update(mag=[2, 2, 1]), "damaged or of another version"),
        (lambda p: p["dataLayers"][0]["mags"][0].update(path="../../elsewhere"), "outside of the dataset"),
        (lambda p: p.pop("scale"), "damaged or of another version"),
        (lambda p: p["dataLayers"][0]["mags"][0].update(path="./cells/none"), "cells/none"),
    ],
)
def test_what_cannot_be_read_is_said(dataset, change, words):
    edit(dataset, change)
    with pytest.raises(DataError, match=words):
        open_webknossos(dataset / "cells")


def test_a_dataset_with_several_segmentations_asks_for_one(dataset):
    write_webknossos(Volume(IDS, Grid(SHAPE, SIZE), "labels"), dataset, "nuclei")
    with pytest.raises(DataError, match="2 segmentations; give the folder of one: cells, image, nuclei"):
        open_webknossos(dataset)


def test_a_damaged_list_of_layers_is_said(dataset):
    (dataset / "datasource-properties.json").write_text("{")
    with pytest.raises(DataError, match="damaged"):
        open_webknossos(dataset)
