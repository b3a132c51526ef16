"""Pictures of objects in slices: one colour and number per id, the same on every slice.

There are more cells than colours that everybody can tell apart. So cells that lie beside each other get different
ones, every cell is outlined, and large ones carry their id.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import cc3d
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import distance_transform_edt, find_objects, maximum_filter, minimum_filter

from cristae.palette import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILLION, YELLOW, rgb
from cristae.report.overlays import FONT, add_scale_bar, grey_picture, picture_size

BASE = (SKY, ORANGE, GREEN, PURPLE, YELLOW, VERMILLION, BLUE)
_SIMILAR = ({SKY, BLUE}, {ORANGE, VERMILLION}, {ORANGE, YELLOW}, {PURPLE, VERMILLION})
"""Colours that are less easy to tell apart when a micrograph shines through them."""
_NEAR_PX = 10
"""Objects this near to each other in a picture reduced to `_COARSE_PX` are neighbours."""
_COARSE_PX = 384


def parts_of(mask: np.ndarray) -> np.ndarray:
    """Return int32 numbers of the connected parts of a bool mask ``(y, x)``; pixels touching at corners are of one."""
    return np.asarray(cc3d.connected_components(np.ascontiguousarray(mask), connectivity=8), np.int32)


def colours_of(planes: Sequence[np.ndarray]) -> dict[int, str]:
    """Return a colour (``#rrggbb``) per id, different for objects that lie beside each other on any of the slices.

    Parameters
    ----------
    planes
        Integer ids ``(y, x)`` of the slices that are shown; 0 is background.
    """
    near: dict[int, set[int]] = {}
    sizes: dict[int, int] = {}
    for plane in planes:
        step = max(1, -(-max(plane.shape) // _COARSE_PX))
        small = plane[::step, ::step].astype(np.int64)
        for name, size in zip(*np.unique(small, return_counts=True), strict=True):
            sizes[int(name)] = sizes.get(int(name), 0) + int(size)
        for name in np.unique(plane).tolist():  # small ones may fall between the pixels of the reduced slice
            near.setdefault(int(name), set())
        for one, other in _neighbours(small):
            near[one].add(other)
            near[other].add(one)
    near.pop(0, None)
    colours: dict[int, str] = {}
    used = dict.fromkeys(BASE, 0)
    # Large objects have most neighbours, and a wrong colour shows most there.
    for name in sorted(near, key=lambda name: (-sizes.get(name, 0), name)):
        taken = [colours[other] for other in near[name] if other in colours]
        best = min(BASE, key=lambda colour: (*_likeness(colour, taken), used[colour], BASE.index(colour)))
        colours[name] = best
        used[best] += 1
    return colours


def draw_objects(
    image: np.ndarray | None,
    ids: np.ndarray,
    pixel_nm: tuple[float, float],
    colours: Mapping[int, str],
    numbers: bool = True,
) -> bytes:
    """Return a slice with its objects in colour as a JPEG with a scale bar.

    Parameters
    ----------
    image, ids
        ``(y, x)`` grey values of any type (None: white all over), and integer ids; 0 is background.
    pixel_nm
        Pixel size along y and x in nm.
    colours
        Colour per id.
    numbers
        Whether large objects carry their id.
    """
    width, height = size = picture_size(ids.shape, pixel_nm)
    names, place = np.unique(ids, return_inverse=True)
    index = place.reshape(ids.shape).astype(np.int32)
    rows, columns = (
        ((np.arange(n) + 0.5) * of / n).astype(int) for n, of in zip((height, width), ids.shape, strict=True)
    )
    index = index[np.ix_(rows, columns)]
    palette = np.array([rgb(colours[int(name)]) if name else (0, 0, 0) for name in names], np.float32)
    grey = np.full((height, width), 255, np.uint8) if image is None else grey_picture(image, size)
    canvas = np.repeat(grey[..., None], 3, axis=2).astype(np.float32)
    inside = (names != 0)[index]
    canvas[inside] = 0.42 * canvas[inside] + 0.58 * palette[index[inside]]
    edge = maximum_filter(index, 3) != minimum_filter(index, 3)
    canvas[edge & inside] = palette[index[edge & inside]]
    canvas[edge & _between(index, names)] = 0
    picture = Image.fromarray(np.rint(canvas).astype(np.uint8))
    if numbers:
        _write_numbers(picture, index, names)
    add_scale_bar(picture, pixel_nm[1] * ids.shape[1] / width)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=88, subsampling=0, optimize=True)
    return buffer.getvalue()


def _likeness(colour: str, others: Sequence[str]) -> tuple[int, int]:
    """Return how many of the other colours are the same, and how many are similar."""
    return others.count(colour), sum({colour, other} in _SIMILAR for other in others)


def _neighbours(ids: np.ndarray) -> set[tuple[int, int]]:
    """Return the pairs of ids that come within a few pixels of each other along rows or columns."""
    pairs = []
    for distance in range(1, min(_NEAR_PX, *ids.shape) + 1):
        for one, other in ((ids[distance:], ids[:-distance]), (ids[:, distance:], ids[:, :-distance])):
            differ = (one != other) & (one != 0) & (other != 0)
            pairs.append(np.unique(np.stack([one[differ], other[differ]], axis=1), axis=0))
    return {(int(one), int(other)) for one, other in np.concatenate(pairs)}


def _between(index: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Mark (bool) one side of the lines along which two objects touch: equal colours must not run together."""
    touching = np.zeros(index.shape, np.bool_)
    for axis in (0, 1):
        after = np.roll(index, -1, axis)
        touching |= (index != after) & (names != 0)[index] & (names != 0)[after]
    touching[-1], touching[:, -1] = False, False
    return touching


def _write_numbers(picture: Image.Image, index: np.ndarray, names: np.ndarray) -> None:
    pen = ImageDraw.Draw(picture)
    height = max(13, round(max(picture.size) / 56))
    font = ImageFont.truetype(str(FONT), height)
    for at, box in enumerate(find_objects(index + 1)):
        if box is None or names[at] == 0:
            continue
        # An object is as thick at the edge of the picture as it looks there.
        depth = distance_transform_edt(np.pad(index[box] == at, 1))[1:-1, 1:-1]
        y, x = np.unravel_index(int(np.argmax(depth)), depth.shape)
        words = str(int(names[at]))
        if depth[y, x] > max(0.62 * height, 0.5 * pen.textlength(words, font=font)):
            centre = (int(x) + box[1].start, int(y) + box[0].start)
            pen.text(centre, words, fill="white", anchor="mm", font=font, stroke_width=2, stroke_fill="black")
