"""Draw the pictures of the pages on algorithms: ``python docs/pictures.py [FOLDER]``.

They show the phantom, so anybody can draw them anew; networks are drawn as boxes. What other pages show is made by
``examples/filopodium.py``, ``examples/raw_stack.py`` and ``examples/see_in_3d.py``.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap, to_rgb
from PIL import Image
from scipy import ndimage

import cristae
from cristae.advice.coverage import choose, likeness
from cristae.components import label_parts
from cristae.editing.split import split_region
from cristae.flow import Dis, dense_flow
from cristae.palette import BLUE, CLASSES, GREEN, ORANGE, PLAIN, PURPLE, SKY, VERMILLION
from cristae.phantom.faults import FAULTS
from cristae.preprocess.equalise import apply_table, equalising_table, grey_counts
from cristae.separation.cheapest import cheapest_paths
from cristae.separation.maps import boundary_map
from cristae.separation.outlines import depth_inside
from cristae.separation.watershed import levels_of
from cristae.warping import warp_labels

mpl.use("Agg")
DOCS = Path(__file__).resolve().parent
SHAPE = (32, 224, 224)
MOST_BYTES = 150_000


@dataclass(frozen=True)
class Scene:
    """A phantom: its image, the ids of its objects by class, and its cells."""

    image: np.ndarray
    masks: dict[str, np.ndarray]
    cells: np.ndarray


def scene(shape: tuple[int, int, int] = SHAPE) -> Scene:
    """Make the phantom that the pictures show."""
    with tempfile.TemporaryDirectory() as folder:
        project = cristae.make_phantom(Path(folder) / "p", shape=shape, voxel_size=(16.0, 16.0, 16.0), with_cells=True)
        truth, box = project.truth, project.truth.grid.box
        masks = {name: truth.layer(name).read(box) for name in truth.classes if name != "cell"}
        return Scene(project.image.read(), masks, truth.layer("cell").read(box).astype(np.int32))


def panels(n: int, titles: Sequence[str], width: float = 2.6) -> tuple[Any, list[Any]]:
    """Return a figure of `n` pictures side by side, without axes."""
    figure, axes = plt.subplots(1, n, figsize=(width * n, width + 0.45), layout="constrained")
    for ax, title in zip(np.atleast_1d(axes), titles, strict=True):
        ax.set_title(title, fontsize=9)
        ax.set_axis_off()
    return figure, list(np.atleast_1d(axes))


def grey(ax: Any, plane: np.ndarray, **keywords: Any) -> None:
    """Show a micrograph."""
    ax.imshow(plane, cmap="gray", interpolation="nearest", **keywords)


def tint(ax: Any, mask: np.ndarray, colour: str, alpha: float = 0.55) -> None:
    """Lay a colour over a mask."""
    shown = np.zeros((*mask.shape, 4))
    shown[..., :3], shown[..., 3] = to_rgb(colour), alpha * mask
    ax.imshow(shown, interpolation="nearest")


def outline(ax: Any, labels: np.ndarray, colour: str, width: float = 1.0) -> None:
    """Draw the outlines of labelled regions."""
    for one in np.unique(labels[labels > 0]):
        ax.contour(labels == one, levels=[0.5], colors=[colour], linewidths=width)


def ids_map() -> ListedColormap:
    """Return colours for ids; 0 is clear."""
    return ListedColormap([(1, 1, 1, 0), *(to_rgb(one) for one in CLASSES * 60)])


def numbered(ax: Any, ids: np.ndarray, alpha: float = 0.75) -> None:
    """Show ids in colours."""
    ax.imshow(np.where(ids > 0, (ids - 1) % (7 * 60) + 1, 0), cmap=ids_map(), vmin=0, vmax=420, alpha=alpha,
              interpolation="nearest")  # fmt: skip


def check(of: Scene) -> Any:
    """Six faults of a stack."""
    names = ("out_of_focus", "charging", "curtaining", "brightness", "saturated", "padding")
    figure, axes = panels(len(names), [name.replace("_", " ") for name in names], 1.6)
    z = of.image.shape[0] // 2
    for i, (ax, name) in enumerate(zip(axes, names, strict=True)):
        grey(ax, FAULTS[name](of.image, z, 1.0, np.random.default_rng(i))[z], vmin=0, vmax=255)
    return figure


def equalisation(of: Scene) -> Any:
    """Draw a slice as recorded, and with equal counts of all grey values; the counts below."""
    plane = (of.image[len(of.image) // 2] * 0.45 + 20).astype(np.uint8)
    even = apply_table(plane, equalising_table(grey_counts(plane)))
    figure, axes = plt.subplots(1, 4, figsize=(9.6, 2.6), layout="constrained")
    for k, (values, title) in enumerate(((plane, "as recorded"), (even, "histogram"))):
        axes[2 * k].set_title(title, fontsize=9)
        axes[2 * k].set_axis_off()
        grey(axes[2 * k], values, vmin=0, vmax=255)
        axes[2 * k + 1].hist(values.ravel(), bins=64, range=(0, 256), color=(VERMILLION, BLUE)[k])
        axes[2 * k + 1].set_xlabel("grey value", fontsize=8)
        axes[2 * k + 1].set_yticks([])
        axes[2 * k + 1].set_box_aspect(1)
    return figure


def sparse_training(of: Scene) -> Any:
    """Draw what is known of three slices of a volume, and the patches that are taken of them."""
    figure, axes = panels(4, ("complete", "partial", "nobody looked", "patches"), 2.2)
    z = len(of.image) // 2
    mask = of.masks["mitochondrion"][z] == 1
    parts = label_parts(mask[None])[0]
    some = (parts > 0) & (parts % 2 == 0)
    for ax, known, painted in ((axes[0], True, mask), (axes[1], False, some), (axes[2], False, mask & False)):
        grey(ax, of.image[z])
        tint(ax, painted, ORANGE, 0.9)
        tint(ax, ~painted, SKY if known else "#888888", 0.35 if known else 0.6)
    grey(axes[3], of.image[z])
    drawn = np.random.default_rng(3)
    side = mask.shape[0] // 4
    for _ in range(6):
        y, x = drawn.integers(0, np.array(mask.shape) - side)
        axes[3].add_patch(plt.Rectangle((x, y), side, side, fill=False, ec=ORANGE, lw=1.5))
    for ax, words in zip(axes[:3], ("orange: 1, blue: 0", "orange: 1, grey: 255", "grey: 255"), strict=True):
        ax.text(0.5, -0.06, words, transform=ax.transAxes, ha="center", fontsize=8)
    return figure


def cells(of: Scene) -> Any:
    """Cells of a labelled slice on one that lies further on: copied, carried by flow, cut along the boundary; truth."""
    near, far = 1, len(of.image) - 2
    labels, truth = of.cells[near], of.cells[far]
    flow = dense_flow(of.image[far], of.image[near], Dis())
    carried = warp_labels(labels, flow)
    boundary = boundary_map(of.cells[far], 3.0, 2**31 - 1)
    inner = np.where(ndimage.minimum_filter(carried, 9) == ndimage.maximum_filter(carried, 9), carried, 0)
    grown = cheapest_paths(inner[None].astype(np.int32), boundary[None], barrier=20.0)[0][0] * (truth > 0)
    titles = ("labelled slice", f"{far - near} slices on: copied", "carried by flow", "cut at the boundary", "truth")
    figure, axes = panels(5, titles, 2.0)
    for ax, plane, ids in zip(axes, (near, far, far, far, far), (labels, labels, carried, grown, truth), strict=True):
        grey(ax, of.image[plane])
        numbered(ax, ids, 0.45)
    return figure


def objects(of: Scene) -> Any:
    """Draw a mask, and its objects in colours."""
    mask = of.masks["mitochondrion"] == 1
    ids = label_parts(mask)
    z = len(mask) // 2
    figure, axes = panels(3, ("image", "mask", "objects"))
    for ax in axes:
        grey(ax, of.image[z])
    tint(axes[1], mask[z], BLUE, 0.7)
    numbered(axes[2], ids[z])
    return figure


def splitting(_: Scene) -> Any:
    """Draw an object with two seeds, the landscape in it, and its parts."""
    y, x = np.indices((100, 150)) + 0.5
    inside = (np.hypot(y - 50, x - 48) < 38) | (np.hypot((y - 55) * 1.2, x - 105) < 36)
    seeds = np.zeros(inside.shape, np.int32)
    seeds[38, 40], seeds[62, 118] = 1, 2
    depth = depth_inside(inside)
    figure, axes = panels(3, ("an object and two seeds", "the landscape", "its parts"))
    for ax in axes:
        ax.imshow(np.ones((*inside.shape, 3)))
    tint(axes[0], inside, BLUE, 0.35)
    axes[1].imshow(np.where(inside, levels_of(depth), np.nan), cmap="viridis", interpolation="nearest")
    numbered(axes[2], split_region(inside[None], seeds[None])[0])
    for ax, colour in ((axes[0], VERMILLION), (axes[1], "white"), (axes[2], "black")):
        ax.scatter(*np.argwhere(seeds)[:, ::-1].T, color=colour, s=30, marker="x")
    return figure


def relations(of: Scene) -> Any:
    """How far the voxels of nucleoli lie from the envelope of the nucleus."""
    nucleus, nucleolus = of.masks["nucleus"] == 1, of.masks["nucleolus"] == 1
    z = int(np.argmax(nucleolus.sum(axis=(1, 2))))
    inside = ndimage.binary_fill_holes(nucleus[z] | nucleolus[z])
    depth = ndimage.distance_transform_edt(inside) * 16.0
    figure, axes = panels(3, ("nucleus and nucleolus", "distance to the envelope (nm)", "of the nucleolus"))
    grey(axes[0], of.image[z])
    tint(axes[0], nucleus[z], BLUE, 0.4)
    tint(axes[0], nucleolus[z], VERMILLION, 0.8)
    shown = axes[1].imshow(np.where(inside, depth, np.nan), cmap="viridis")
    figure.colorbar(shown, ax=axes[1], shrink=0.7)
    axes[1].contour(nucleolus[z], levels=[0.5], colors=[VERMILLION], linewidths=1)
    axes[2].set_axis_on()
    axes[2].hist(depth[nucleolus[z]], bins=24, color=VERMILLION)
    axes[2].set_xlabel("nm", fontsize=8)
    axes[2].set_yticks([])
    axes[2].set_box_aspect(1)
    return figure


def scores(of: Scene) -> Any:
    """Truth, a prediction, and which voxels count as what."""
    truth = of.masks["mitochondrion"][len(of.image) // 2] == 1
    found = ndimage.shift(ndimage.binary_dilation(truth, iterations=1), (2, 1), order=0)
    found[: found.shape[0] // 4] = False
    true_positive, false_positive, false_negative = truth & found, found & ~truth, truth & ~found
    dice = 2 * true_positive.sum() / (truth.sum() + found.sum())
    figure, axes = panels(3, ("truth", "prediction", f"Dice {dice:.2f}"))
    for ax in axes:
        grey(ax, of.image[len(of.image) // 2])
    tint(axes[0], truth, GREEN, 0.8)
    tint(axes[1], found, BLUE, 0.8)
    for mask, colour in ((true_positive, GREEN), (false_positive, ORANGE), (false_negative, PURPLE)):
        tint(axes[2], mask, colour, 0.9)
    axes[2].text(0.5, -0.06, "green TP, orange FP, purple FN", transform=axes[2].transAxes, ha="center", fontsize=8)
    return figure


def texture(of: Scene) -> Any:
    """Two patches of one image, and how often two grey levels lie side by side in each."""
    nucleus = of.masks["nucleus"] == 1
    z = int(np.argmax(nucleus.sum(axis=(1, 2))))
    places = [tuple(np.argwhere(mask[z])[len(np.argwhere(mask[z])) // 2]) for mask in (nucleus, of.cells > 0)]
    figure, axes = plt.subplots(1, 4, figsize=(9.6, 2.6), layout="constrained")
    half = 20
    for k, place in enumerate(places):
        low = [int(np.clip(one - half, 0, n - 2 * half)) for one, n in zip(place, of.image.shape[1:], strict=True)]
        patch = of.image[z, low[0] : low[0] + 2 * half, low[1] : low[1] + 2 * half]
        levels = np.clip(patch // 16, 0, 15)
        pairs = np.zeros((16, 16))
        np.add.at(pairs, (levels[:, :-1].ravel(), levels[:, 1:].ravel()), 1)
        axes[2 * k].set_axis_off()
        axes[2 * k].set_title(("inside a nucleus", "elsewhere in the cell")[k], fontsize=9)
        grey(axes[2 * k], patch, vmin=0, vmax=255)
        axes[2 * k + 1].imshow(pairs + pairs.T, cmap="viridis")
        axes[2 * k + 1].set_title("pairs of levels (i, j)", fontsize=9)
    return figure


def spectrum(of: Scene) -> Any:
    """Draw openings with larger and larger squares, and what each takes away."""
    z = len(of.image) // 2
    radii = (1, 3, 6)
    figure, axes = panels(5, ("image", *(f"opened, radius {r}" for r in radii), "taken away"), 2.1)
    grey(axes[0], of.image[z], vmin=0, vmax=255)
    sums = [float(of.image[z].sum())]
    for r in range(1, 11):
        opened = ndimage.grey_opening(of.image[z], size=2 * r + 1)
        sums.append(float(opened.sum()))
        if r in radii:
            grey(axes[1 + radii.index(r)], opened, vmin=0, vmax=255)
    axes[4].set_axis_on()
    axes[4].bar(range(10), -np.diff(sums) / sums[0], color=BLUE)
    axes[4].set_xlabel("n of ps_opening_n", fontsize=8)
    axes[4].set_box_aspect(1)
    axes[4].tick_params(labelsize=7)
    return figure


def shape(of: Scene) -> Any:
    """Draw an object with its hull, the ellipsoid of its second moments, and its distances, in one slice."""
    mask = of.masks["nucleus"] == 1
    z = int(np.argmax(mask.sum(axis=(1, 2))))
    part = label_parts(mask[z][None])[0]
    one = part == 1 + int(np.argmax(np.bincount(part[part > 0])[1:]))
    from scipy.spatial import ConvexHull  # noqa: PLC0415  only here

    points = np.argwhere(one)
    hull = points[ConvexHull(points).vertices]
    figure, axes = panels(3, ("solidity: V / V of the hull", "axes: second moments", "circular variance: distances"))
    for ax in axes:
        grey(ax, of.image[z])
        tint(ax, one, BLUE, 0.45)
    axes[0].fill(hull[:, 1], hull[:, 0], fill=False, ec=VERMILLION, lw=1.5)
    centre, (lengths, vectors) = points.mean(axis=0), np.linalg.eigh(np.cov(points.T))
    turn = np.linspace(0, 2 * np.pi, 90)
    ellipse = centre[:, None] + vectors @ (2 * np.sqrt(lengths)[:, None] * np.array([np.cos(turn), np.sin(turn)]))
    axes[1].plot(ellipse[1], ellipse[0], color=VERMILLION, lw=1.5)
    rim = np.argwhere(one & ~ndimage.binary_erosion(one))[::9]
    for y, x in rim:
        axes[2].plot([centre[1], x], [centre[0], y], color=VERMILLION, lw=0.5)
    for ax in axes:
        ax.set(xlim=(0, one.shape[1] - 1), ylim=(one.shape[0] - 1, 0))
    return figure


def skeletons(of: Scene) -> Any:
    """Draw a holed object filled, and an object with its middle line."""
    from skimage.morphology import skeletonize  # noqa: PLC0415  only here

    nucleus = of.masks["nucleolus"] == 1
    z = int(np.argmax(nucleus.sum(axis=(1, 2))))
    filled = ndimage.binary_fill_holes(nucleus[z])
    flat = (of.masks["mitochondrion"] == 1).max(axis=0)
    figure, axes = panels(3, ("an object and its holes", "an object, seen from above", "its skeleton"))
    grey(axes[0], of.image[z])
    tint(axes[0], nucleus[z], BLUE, 0.6)
    tint(axes[0], filled & ~nucleus[z], ORANGE, 0.9)
    for ax in axes[1:]:
        ax.imshow(np.ones((*flat.shape, 3)))
        tint(ax, flat, BLUE, 0.8 if ax is axes[1] else 0.25)
    tint(axes[2], ndimage.binary_dilation(skeletonize(flat)), VERMILLION, 1.0)
    return figure


def _ink(colour: str) -> str:
    """Return black or white, whichever can be read on a colour."""
    return "black" if np.dot(to_rgb(colour), (0.3, 0.59, 0.11)) > 0.5 else "white"


Box = tuple[float, float, str, str]
"""Place (x, y), words and colour of a box in the drawing of a network."""


def drawing(boxes: Sequence[Box], arrows: Sequence[tuple[int, int]], skips: Sequence[tuple[int, int]] = ()) -> Any:
    """Draw boxes and what leads from one to another; skips are dashed."""
    figure, ax = plt.subplots(figsize=(8.4, 3.2), layout="constrained")
    width, height = 0.86, 0.62
    for x, y, words, colour in boxes:
        ax.add_patch(plt.Rectangle((x - width / 2, y - height / 2), width, height, fc=colour, ec="none", alpha=0.9))
        ax.text(x, y, words, ha="center", va="center", fontsize=7.5, color=_ink(colour))
    for links, style in ((arrows, "-"), (skips, "--")):
        for start, stop in links:
            (x0, y0), (x1, y1) = boxes[start][:2], boxes[stop][:2]
            aside = abs(x1 - x0) >= abs(y1 - y0)
            shift = (np.sign(x1 - x0) * width / 2, 0) if aside else (0, np.sign(y1 - y0) * height / 2)
            ax.annotate(
                "", (x1 - shift[0], y1 - shift[1]), (x0 + shift[0], y0 + shift[1]),
                arrowprops={"arrowstyle": "->", "ls": style, "color": "#555555", "lw": 0.9},
            )  # fmt: skip
    xs, ys = zip(*(box[:2] for box in boxes), strict=True)
    ax.set(xlim=(min(xs) - 0.6, max(xs) + 0.6), ylim=(min(ys) - 0.5, max(ys) + 0.5), aspect="auto")
    ax.set_axis_off()
    return figure


def ladder(down: Sequence[str], up: Sequence[str], middle: Sequence[str] = (), colour: str = BLUE) -> Any:
    """Draw an encoder that goes down, what is at the bottom, and a decoder that comes up, with skips between."""
    n = len(down)
    boxes: list[Box] = [(i, -i, words, colour) for i, words in enumerate(down)]
    boxes += [(n + i, -n, words, PURPLE) for i, words in enumerate(middle)]
    begin = n + len(middle)
    boxes += [(begin + i, -(len(up) - 1) + i, words, GREEN) for i, words in enumerate(up)]
    last = len(boxes)
    boxes.append((begin + len(up), 0, "classes", VERMILLION))
    chain = [(i, i + 1) for i in range(last)]
    skips = [
        (i, next(j for j in range(begin, last) if boxes[j][1] == boxes[i][1]))
        for i in range(n)
        if any(boxes[j][1] == boxes[i][1] for j in range(begin, last))
    ]
    return drawing(boxes, chain, skips)


def resunet(_: Scene) -> Any:
    """Draw the ResUNet of Machireddy et al."""
    down = ("stem, block\nb", "block\n2b, 1/2", "block\n4b, 1/4", "block\n8b, 1/8")
    return ladder(down, ("up\n8b, 1/8", "up\n4b, 1/4", "up\n2b, 1/2", "up\nb"), ("bridge\n16b, 1/16",))


def unet(_: Scene) -> Any:
    """Draw the small U-Net of Pagano et al."""
    return ladder(("double\nw", "double\n2w, 1/2", "double\n4w, 1/4"), ("up\n2w, 1/4", "up\nw, 1/2", "up\nw"),
                  ("double\n4w, 1/8",))  # fmt: skip


def unetplusplus(_: Scene) -> Any:
    """Draw the nodes of a UNet++ and what they join."""
    depth = 4
    boxes: list[Box] = [(0, -i, f"encoder\n1/{2 ** (i + 1)}", BLUE) for i in range(depth + 1)]
    place = {(i, 0): i for i in range(depth + 1)}
    arrows, skips = [(i, i + 1) for i in range(depth)], []
    for j in range(1, depth + 1):
        for i in range(depth + 1 - j):
            place[i, j] = len(boxes)
            boxes.append((1.25 * j, -i, f"node\n1/{2 ** (i + 1)}", GREEN))
            arrows.append((place[i + 1, j - 1], place[i, j]))
            skips.append((place[i, j - 1], place[i, j]))
    boxes.append((1.25 * (depth + 1), 0, "up, classes\n1/1", VERMILLION))
    return drawing(boxes, [*arrows, (place[0, depth], len(boxes) - 1)], skips)


def transunet(_: Scene) -> Any:
    """Draw the TransUNet."""
    down = ("ResNet\n1/2", "ResNet\n1/4", "ResNet\n1/8", "ResNet\n1/16")
    up = ("512\n1/16", "up 256\n1/8", "up 128\n1/4", "up 64\n1/2")
    return ladder(down, up, ("tokens", "12 × trans-\nformer"))


def setr(_: Scene) -> Any:
    """SETR: tokens all the way, and one of three decoders."""
    chain = ("image", "patches\nto tokens", "blocks\n1 … 6", "blocks\n7 … 12", "norm")
    boxes: list[Box] = [(i, 0, words, BLUE if i < 2 else PURPLE) for i, words in enumerate(chain)]
    boxes += [
        (5.2, 1, "naive:\n1×1", GREEN),
        (5.2, 0, "PUP: 3×3,\nup by 2 …", GREEN),
        (5.2, -1, "MLA: four\nlayers", GREEN),
    ]
    boxes.append((6.4, 0, "classes", VERMILLION))
    arrows = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (4, 6), (4, 7), (5, 8), (6, 8), (7, 8)]
    return drawing(boxes, arrows, [(2, 7), (3, 7)])


def senformer(_: Scene) -> Any:
    """SenFormer: a pyramid, a learner at each scale, and a vote."""
    boxes: list[Box] = []
    arrows, skips = [], []
    for i in range(4):
        row = len(boxes)
        boxes += [(0, -i, f"Swin\n1/{4 * 2**i}", BLUE), (1.3, -i, "1×1, +", SKY), (2.6, -i, "block", SKY),
                  (3.9, -i, "learner\n6 blocks", PURPLE)]  # fmt: skip
        arrows += [(row, row + 1), (row + 1, row + 2), (row + 2, row + 3)]
        if i:
            arrows.append((row - 4, row))
            skips.append((row + 1, row - 3))
    boxes += [(5.3, -1.5, "sum of the\nprobabilities", GREEN), (6.6, -1.5, "classes", VERMILLION)]
    arrows += [(3 + 4 * i, 16) for i in range(4)]
    return drawing(boxes, [*arrows, (16, 17)], skips)


def ceecnet(_: Scene) -> Any:
    """FracTALResNet and CEECNet: units down and up, and a head that finds three maps one after another."""
    down = ("1×1, unit\nb", "unit\n2b, 1/2", "unit\n4b, 1/4")
    up = ("up, unit\n4b, 1/4", "up, unit\n2b, 1/2", "up, unit\nb")
    n = len(down)
    boxes: list[Box] = [(i, -i, words, BLUE) for i, words in enumerate(down)]
    boxes.append((n, -n, "unit, PSP\n8b, 1/8", PURPLE))
    boxes += [(n + 1 + i, -n + 1 + i, words, GREEN) for i, words in enumerate(up)]
    boxes += [(7.5, -2, "distance", ORANGE), (7.5, -1, "boundary", ORANGE), (7.5, 0, "mask", VERMILLION)]
    arrows = [(i, i + 1) for i in range(6)]
    return drawing(boxes, [*arrows, (6, 7), (6, 9), (7, 8), (8, 9)], [(0, 6), (1, 5), (2, 4)])


def deciding(_: Scene) -> Any:
    """Doubt along z, and what labelled and advised slices cover of it."""
    z = np.arange(96)
    doubt = 0.25 + 1.6 * np.exp(-(((z - 30) / 9) ** 2)) + 0.9 * np.exp(-(((z - 74) / 5) ** 2))
    apart = np.abs(z[:, None] - z[None]) / 16
    like, known = likeness(np.ones_like(apart), apart), [0, 48, 95]
    advised = choose(doubt, like, known, z.tolist(), 3).chosen.tolist()
    figure, axes = plt.subplots(1, 2, figsize=(8.4, 2.6), sharey=True, layout="constrained")
    for ax, slices, title in zip(axes, (known, known + advised), ("labelled", "labelled and advised"), strict=True):
        covered = doubt * like[:, slices].max(axis=1)
        ax.fill_between(z, doubt, color=ORANGE, alpha=0.5, linewidth=0, label="doubt")
        ax.fill_between(z, covered, color=BLUE, alpha=0.8, linewidth=0, label="covered")
        for at in slices:
            ax.axvline(at, color="black", linewidth=1, linestyle=":" if at in advised else "-")
        ax.set_title(f"{title}: {covered.sum() / doubt.sum():.0%} covered", fontsize=9)
        ax.set_xlabel("slice z")
    axes[0].set_ylabel("weight")
    axes[0].legend(frameon=False, fontsize=8)
    return figure


PICTURES: dict[str, Callable[[Scene], Any]] = {
    "check": check, "equalisation": equalisation, "sparse-training": sparse_training, "cells": cells,
    "objects": objects, "splitting": splitting, "relations": relations, "scores": scores, "texture": texture,
    "spectrum": spectrum, "shape": shape, "holes-and-skeletons": skeletons, "resunet": resunet, "unet": unet,
    "unetplusplus": unetplusplus, "transunet": transunet, "setr": setr, "senformer": senformer, "ceecnet": ceecnet,
    "deciding": deciding,
}  # fmt: skip
"""Name of the page, which is that of the picture, and what draws it."""


def draw(folder: Path, of: Scene) -> list[Path]:
    """Draw all pictures into a folder, with so few colours that they are small."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    with mpl.rc_context(PLAIN):
        for name, function in PICTURES.items():
            figure = function(of)
            path = folder / f"{name}.png"
            figure.savefig(path, dpi=100)
            plt.close(figure)
            with Image.open(path) as opened:
                few = opened.convert("RGB").quantize(32 if name == "check" else 128)
            few.save(path, optimize=True)
            made.append(path)
    return made


if __name__ == "__main__":
    for drawn in draw(Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS / "images", scene()):
        print(f"{drawn}: {drawn.stat().st_size / 1000:.0f} kB")
