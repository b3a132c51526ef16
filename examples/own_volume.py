"""From a folder of TIFFs to masks, in Python. Usage: python examples/own_volume.py FOLDER.

A small phantom stands in for your own volume; the training is far too short for good results.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cristae


def make_files(folder: Path) -> tuple[int, ...]:
    """Write files as you might have them: a TIFF per slice, and a few painted slices. Return which are painted."""
    phantom = cristae.make_phantom(folder / "phantom", shape=(24, 192, 192), n_labelled=3)
    cristae.export(phantom, "image", folder / "slices")
    cristae.export(phantom, "truth/nucleus", folder / "nuclei.tif")
    return phantom.annotations.labelled_slices("nucleus")


def main(folder: Path) -> None:
    """Segment the nuclei."""
    painted = make_files(folder)

    # The voxel size is z, y, x in nanometres.
    project = cristae.init(folder / "bx1", voxel_size=(8, 8, 8))
    cristae.import_image(project, folder / "slices")
    # The file has all slices; the network may learn from those that are named, and is scored on all others.
    cristae.import_labels(project, folder / "nuclei.tif", classes={"nucleus": None}, slices=painted)
    cristae.import_truth(project, folder / "nuclei.tif", classes={"nucleus": None})

    # Leave out these settings for your own data.
    short = {"preset": "fast", "updates": 30, "tile_px": 64}
    page = cristae.run(project, settings={"train": short})
    print(f"report: {page}")

    for entry in cristae.status(project):
        print(f"{entry.stage:14} {entry.condition}")
    cristae.export(project, "nucleus", folder / "nucleus.tif", mask_value=255)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
