"""A protrusion finds its way home, in 3D. Usage: python examples/filopodium.py FOLDER.

In single slices of a volume, a thin protrusion that winds is a row of islands apart from its cell. Here a phantom plays
the volume: every part of every slice gets a number that means nothing, as separation slice by slice would leave it, and
tracking finds out which belong together. Draws FOLDER/filopodium.png: the islands before and after.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cc3d
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d import Axes3D
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from scipy.ndimage import distance_transform_edt, gaussian_filter
from skimage.measure import marching_cubes

from cristae.geometry import Box
from cristae.metrics.matching import islands
from cristae.phantom import PhantomSettings, build_scene, labels
from cristae.tracking import TrackSettings, follow

VOXEL_NM = (16.0, 8.0, 8.0)
PLACE = Box((8, 130, 0), (61, 300, 150))
"""A channel between two cells of the phantom of seed 0."""
LIGHT = np.array([0.6, -0.7, -0.4])
"""From where it comes, along z, y, x; of length 1."""
CYCLE = ("#D55E00", "#F0E442", "#009E73", "#CC79A7", "#0072B2", "#E69F00")
BODY, HOME = "#D9D9D9", "#56B4E9"


def tracked(truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return numbers that mean nothing outside of their slice, and what tracking makes of them."""
    rng = np.random.default_rng(0)
    parts = np.zeros(truth.shape, np.uint32)
    for z, plane in enumerate(truth):
        numbered, n_parts = cc3d.connected_components(plane, connectivity=8, return_N=True)
        parts[z] = np.concatenate([[0], 1 + rng.permutation(n_parts)])[numbered]
    found = np.zeros_like(parts)

    def write(z: int, ids: np.ndarray) -> None:
        found[z] = ids

    last = len(truth) - 1
    anchors = {z: truth[z].astype(np.uint32) for z in (0, last)}  # the two slices that somebody has labelled
    follow(parts, write, anchors, settings=TrackSettings(smallest_body_px=2500))
    return parts, found


def surface(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return triangles ``(n, 3, 3)`` in nm along z, y, x, how bright each is, and the nearest voxel ``(n, 3)``."""
    padded = np.pad(mask, 3)
    smooth = gaussian_filter(padded.astype(np.float32), (0.9, 1.4, 1.4))
    vertices, faces, normals, _ = marching_cubes(smooth, 0.5, spacing=VOXEL_NM, allow_degenerate=False)
    triangles = vertices[faces]
    middle = np.rint(triangles.mean(axis=1) / VOXEL_NM).astype(int)
    nearest = distance_transform_edt(~padded, return_distances=False, return_indices=True)
    return triangles, 0.55 + 0.45 * np.abs(normals[faces].mean(axis=1) @ LIGHT), nearest[:, *middle.T].T - 3


def draw(axes: Axes3D, triangles: np.ndarray, colours: np.ndarray) -> None:
    """Draw a coloured surface; x to the right, z upwards."""
    corners = triangles[:, :, ::-1]
    axes.add_collection3d(
        Poly3DCollection(corners, facecolors=colours, edgecolors=colours, linewidths=0.3, clip_on=False)
    )
    low, high = corners.min(axis=(0, 1)), corners.max(axis=(0, 1))
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), zlim=(low[2], high[2]))
    axes.set_box_aspect(high - low, zoom=1.5)
    axes.view_init(elev=12, azim=-48)
    axes.set_axis_off()


def main(folder: Path) -> None:
    """Track, draw, and say what came out."""
    truth = labels(build_scene(PhantomSettings(shape=(61, 512, 512), voxel_size=VOXEL_NM)), PLACE)["cell"]
    parts, found = tracked(truth)
    alone = np.stack([islands(plane) for plane in truth])
    cell = np.bincount(truth[alone]).argmax()
    alone &= truth == cell
    home = int((found[alone] == cell).sum())
    n_islands = sum(len(np.unique(parts[z][alone[z]])) for z in range(len(truth)))
    print(f"{n_islands} islands of cell {cell} in {len(truth)} slices; {home / alone.sum():.1%} of them came home")

    triangles, light, voxels = surface(truth == cell)
    z, y, x = voxels.T
    palette = np.array([to_rgb(colour) for colour in CYCLE])
    of_island = palette[(z + 3 * (parts[z, y, x] % 2)) % len(CYCLE)]  # islands above each other differ
    before = np.where(alone[z, y, x][:, None], of_island, to_rgb(BODY))
    after = np.where((found[z, y, x] == cell)[:, None], to_rgb(HOME), of_island)

    figure = Figure(figsize=(11, 3.9), layout="constrained")
    titles = (
        f"before: {n_islands} islands of single slices, each a number of its own",
        f"after: one number, {home / alone.sum():.0%} of the islands with their cell",
    )
    for i, (colours, title) in enumerate(zip((before, after), titles, strict=True)):
        axes = figure.add_subplot(1, 2, i + 1, projection="3d")
        draw(axes, triangles, colours * light[:, None])
        axes.set_title(title, fontsize=11)
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "filopodium.png", dpi=120)
    print(f"picture: {folder / 'filopodium.png'}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
