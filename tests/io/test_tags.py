"""What TIFFs of microscopes say of their pixels."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

import cristae
from cristae.errors import DataError
from cristae.geometry import Grid
from cristae.io.images import open_images
from cristae.io.tags import lengths_of, voxel_size_of
from cristae.io.tiff import write_folder
from cristae.volume import Volume

PLANE = np.ones((6, 7), np.uint8)
FEI = "[User]\r\nDate=01/01/2020\r\n[{section}]\r\nPixelWidth=4.6e-09\r\nPixelHeight=5.2e-09\r\n"


@pytest.mark.parametrize("section", ["Scan", "EScan"])
@pytest.mark.parametrize("tag", [34680, 34682])
def test_fei_and_thermo(tmp_path, section, tag):
    text = FEI.format(section=section)
    tifffile.imwrite(tmp_path / "a.tif", PLANE, extratags=[(tag, 2, 0, text, True)], metadata=None)
    assert lengths_of(tmp_path / "a.tif") == (None, pytest.approx(5.2), pytest.approx(4.6))
    assert voxel_size_of(tmp_path / "a.tif") is None


@pytest.mark.parametrize("text", ["[Scan]\r\nPixelWidth=\r\nPixelHeight=many\r\n", "[Scan]\r\n", "rubbish"])
def test_tags_that_say_nothing_state_nothing(tmp_path, text):
    tifffile.imwrite(tmp_path / "a.tif", PLANE, extratags=[(34682, 2, 0, text, True)], metadata=None)
    assert lengths_of(tmp_path / "a.tif") == (None, None, None)


def test_zeiss(tmp_path):
    text = "AP_IMAGE_PIXEL_SIZE\r\nImage Pixel Size = 4.600 nm\r\nDP_DETECTOR\r\nDetector = ESB\r\n"
    header = "\r\n".join(["0"] * 3)
    tifffile.imwrite(tmp_path / "a.tif", PLANE, extratags=[(34118, 2, 0, f"{header}\r\n{text}", True)], metadata=None)
    assert lengths_of(tmp_path / "a.tif") == (None, pytest.approx(4.6), pytest.approx(4.6))


def test_plain_resolution_counts_unless_it_is_that_of_a_screen(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", PLANE, resolution=(1e7 / 4.6, 1e7 / 5.2), resolutionunit="CENTIMETER")
    assert lengths_of(tmp_path / "a.tif") == (None, pytest.approx(5.2), pytest.approx(4.6))
    tifffile.imwrite(tmp_path / "b.tif", PLANE, resolution=(72, 72), resolutionunit="INCH")
    assert lengths_of(tmp_path / "b.tif") == (None, None, None)


def test_a_folder_that_we_wrote_states_its_voxel_size(tmp_path):
    size = (45.0, 4.6, 5.2)
    values = np.random.default_rng(0).integers(1, 99, (3, 6, 7)).astype(np.uint8)
    write_folder(Volume(values, Grid(values.shape, size)), tmp_path / "f", "bx")
    assert open_images(tmp_path / "f", None).volume.grid.voxel_size == pytest.approx(size, rel=1e-6)


def test_a_pixel_size_that_differs_from_the_users_is_said(tmp_path):
    (tmp_path / "f").mkdir()
    for z in range(3):
        tags = [(34682, 2, 0, FEI.format(section="Scan"), True)]
        tifffile.imwrite(tmp_path / "f" / f"z{z}.tif", PLANE, extratags=tags, metadata=None)
    assert open_images(tmp_path / "f", (20.0, 5.2, 4.6)).notes == ()
    (note,) = open_images(tmp_path / "f", (20.0, 8.0, 8.0)).notes
    assert "states a voxel size of ? × 5.2 × 4.6 nm; yours of 20 × 8 × 8 nm is used" in note
    with pytest.raises(DataError, match="does not state its voxel size"):
        open_images(tmp_path / "f", None)
    project = cristae.init(tmp_path / "p", voxel_size=(20.0, 8.0, 8.0))
    cristae.import_image(project, tmp_path / "f")
    assert project.image_facts["stated_voxel_size_nm"] == [None, pytest.approx(5.2), pytest.approx(4.6)]
