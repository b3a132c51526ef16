"""Voxel sizes in the tags of microscopes."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

import cristae
from cristae.errors import DataError
from cristae.geometry import Grid
from cristae.io.images import open_images
from cristae.io.microscope import stated_by, stated_size
from cristae.io.tiff import write_folder, write_stack
from cristae.volume import Volume

PLANE = np.random.default_rng(0).integers(1, 255, (24, 32)).astype(np.uint8)
FEI = "[User]\r\nDate=1\r\n[Scan]\r\nPixelWidth=4.5e-009\r\nPixelHeight=5e-009\r\n"
ZEISS = "0\r\n0\r\nAP_IMAGE_PIXEL_SIZE\r\nImage Pixel Size = 3.5 nm\r\nDP_X\r\nX = 1\r\n"


def tiff(path, **rest):
    tifffile.imwrite(path, PLANE, photometric="minisblack", **rest)
    return path


def tagged(path, code, text):
    return tiff(path, extratags=[(code, 2, 0, text, True)], metadata=None)


@pytest.mark.parametrize("code", [34680, 34682])
def test_thermo_fisher(tmp_path, code) -> None:
    assert stated_size(tagged(tmp_path / "a.tif", code, FEI)) == (None, pytest.approx(5), pytest.approx(4.5))


def test_zeiss(tmp_path) -> None:
    assert stated_size(tagged(tmp_path / "a.tif", 34118, ZEISS)) == (None, 3.5, 3.5)


def test_resolution_of_a_microscope_and_of_a_printer(tmp_path) -> None:
    fine = tiff(tmp_path / "a.tif", resolution=(1e7 / 8, 1e7 / 6), resolutionunit="CENTIMETER", metadata=None)
    assert stated_size(fine) == (None, pytest.approx(6), pytest.approx(8))
    assert stated_size(tiff(tmp_path / "b.tif", resolution=(72, 72), resolutionunit="INCH", metadata=None)) is None
    assert stated_size(tiff(tmp_path / "c.tif", metadata=None)) is None


@pytest.mark.parametrize("text", ["[Scan]\r\nPixelWidth=\r\nPixelHeight=many\r\n", "[Scan]\r\n", "rubbish"])
def test_tags_that_say_nothing_state_nothing(tmp_path, text) -> None:
    assert stated_size(tagged(tmp_path / "a.tif", 34682, text)) is None


def test_what_cristae_wrote_states_all_three(tmp_path) -> None:
    volume = Volume(np.stack([PLANE] * 3), Grid((3, *PLANE.shape), (20.0, 6.0, 4.0)))
    write_stack(volume, tmp_path / "stack.tif")
    write_folder(volume, tmp_path / "slices", "s")
    assert stated_size(tmp_path / "stack.tif") == pytest.approx((20, 6, 4))
    assert stated_by(tmp_path / "slices", [sorted(p.name for p in (tmp_path / "slices").iterdir())[0]]) == (
        pytest.approx((20, 6, 4))
    )


def test_a_source_tells_what_its_first_file_states(tmp_path) -> None:
    (tmp_path / "s").mkdir()
    for z in range(2):
        tagged(tmp_path / "s" / f"z{z}.tif", 34682, FEI)
    assert open_images(tmp_path / "s", (10.0, 10.0, 10.0)).stated == (None, pytest.approx(5), pytest.approx(4.5))
    project = cristae.init(tmp_path / "p", voxel_size=(10, 10, 10))
    cristae.import_image(project, tmp_path / "s")
    assert project.image_facts["stated_voxel_size_nm"] == [None, pytest.approx(5), pytest.approx(4.5)]


def test_a_file_that_is_no_tiff_is_refused_or_passed_over(tmp_path) -> None:
    (tmp_path / "a.tif").write_text("no picture")
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(DataError):
        stated_size(tmp_path / "a.tif")
    assert stated_by(tmp_path / "a.tif", []) is None
    assert stated_by(tmp_path / "a.png", []) is None
