"""The inner loops of `cristae.features.mesh`: smooth the mask of each object tile by tile, and march through it.

Tiles keep the arrays small enough for the processor's cache, and spare the inside of large objects and all of a tile
that an object does not reach.
"""

from __future__ import annotations

import numpy as np
from numba import njit

TILE = 32
# Lower corner of each edge: edges 0–3 run along z, 4–7 along y, 8–11 along x, as in `cristae.features.marching`.
_LOWS = tuple(low for axis in range(3) for low in range(8) if not low & 4 >> axis)
_CENTRE = 12
_HALF = 1 << 29
_UNITS = 65536  # vertices lie at whole 1/65536 of an edge, so that hulls can be compared and merged exactly


@njit(cache=True, nogil=True)
def march(labels, lattice, tables, objects, sums):  # type: ignore[no-untyped-def]
    """Mesh every object in every tile.

    Parameters
    ----------
    labels
        int32 ``(z, y, x)`` at the corners of cells, with a margin of the filter's radius.
    lattice
        Filter weights int32, index of the first corner int64 ``(3,)`` in the volume, voxel size float64 ``(3,)``.
    tables
        Of the cells: number of triangles, triangles, edges, centre (see `cristae.features.marching.CellTables`).
    objects
        Per object: nearest voxel to the centroid int64 ``(n, 3)``, the rest of the centroid float64 ``(n, 3)``,
        whether to mesh its smoothed mask and its mask bool ``(n, 2)``.
    sums
        float64 ``(2 n, 5)`` to add to, two rows per object: area, volume, number of vertices, sum of their radii, sum
        of their squared radii.

    Returns
    -------
    np.ndarray
        int32 ``(m, 4)``: for every vertex, by rising row, the row in the sums, and its place (z, y, x) in 1/65536
        voxel from the nearest voxel to the centroid of its object.
    """
    margin = lattice[0].size - 1
    side = TILE + 1
    wide = side + 2 * margin
    scratch = (
        np.empty(wide, np.int32),
        np.empty((wide, wide, side), np.int32),
        np.empty((wide, side, side), np.int32),
        np.empty((side, side, side), np.int32),
    )
    slots = np.full(len(sums) // 2 + 1, -1, np.int32)
    found = np.empty(min(len(slots) - 1, wide**3), np.int32)
    boxes = np.empty((len(found), 6), np.int32)
    vertices = np.empty((1024, 4), np.int32)
    n_vertices = 0
    cells = np.array(labels.shape) - 2 * margin - 1
    tile = np.empty((2, 3), np.int64)
    box = np.empty((2, 3), np.int64)
    where = np.empty((2, 3), np.int64)
    measures = np.empty((2, 3))
    for axis in range(3):
        measures[0, axis] = lattice[2][axis]
    for number in range(-(-cells[0] // TILE) * -(-cells[1] // TILE) * -(-cells[2] // TILE)):
        _place(number, cells, tile)
        n_found = _find(labels, tile, margin, (slots, found, boxes))
        for i in range(n_found):
            if _box(boxes[i], tile, margin, box):
                index = found[i] - 1
                for axis in range(3):
                    where[0, axis] = box[1, axis] - box[0, axis] - 1
                    where[1, axis] = box[0, axis] + lattice[1][axis] - objects[0][index, axis]
                    measures[1, axis] = objects[1][index, axis]
                for kind in range(2):
                    if objects[2][index, kind]:
                        row = 2 * index + kind
                        _fill(labels, found[i], (box, lattice[0], kind == 0), scratch)
                        vertices = _room(vertices, n_vertices + 3 * where[0].prod())
                        n_vertices = _walk(
                            scratch[3], (where, measures), tables, sums[row], (vertices, n_vertices, row)
                        )
    return _grouped(vertices[:n_vertices], sums[:, 2])


@njit(cache=True, nogil=True)
def _grouped(vertices, counts):  # type: ignore[no-untyped-def]
    """Return the vertices by rising row, of which `counts` has the number for each."""
    places = np.zeros(len(counts) + 1, np.int64)
    for row in range(len(counts)):
        places[row + 1] = places[row] + int(counts[row])
    grouped = np.empty(vertices.shape, np.int32)
    for i in range(len(vertices)):
        place = places[vertices[i, 0]]
        places[vertices[i, 0]] += 1
        for j in range(4):
            grouped[place, j] = vertices[i, j]
    return grouped


@njit(cache=True, nogil=True)
def _place(number, cells, tile):  # type: ignore[no-untyped-def]
    """Set the first corner and the corner past the last of a tile."""
    for axis in (2, 1, 0):
        n = -(-cells[axis] // TILE)
        tile[0, axis] = number % n * TILE
        tile[1, axis] = min(tile[0, axis] + TILE, cells[axis]) + 1
        number //= n


@njit(cache=True, nogil=True)
def _find(labels, tile, margin, found):  # type: ignore[no-untyped-def]
    """List the objects in a tile and its margin, with the box of each; none if one object fills it all."""
    slots, names, boxes = found
    n = 0
    last = 2 * margin
    depth, height, width = tile[1] - tile[0] + last
    plain = labels[tile[0, 0], tile[0, 1], tile[0, 2]]
    for z in range(depth):
        for y in range(height):
            row = labels[z + tile[0, 0], y + tile[0, 1], tile[0, 2] : tile[0, 2] + width]
            x = 0
            while x < width:
                label = row[x]
                begin = x
                while x < width and row[x] == label:
                    x += 1
                if label != plain or begin > 0:
                    plain = -1
                if label > 0:
                    n = _widen((label, z, y, begin, x - 1), n, slots, names, boxes)
    for i in range(n):
        slots[names[i]] = -1
    return 0 if plain >= 0 else n


@njit(cache=True, nogil=True)
def _widen(run, n, slots, names, boxes):  # type: ignore[no-untyped-def]
    """Widen the box of a label by a run of a row; return the number of labels known."""
    label, z, y, begin, end = run
    slot = slots[label]
    if slot < 0:
        slots[label] = n
        names[n] = label
        box = boxes[n]
        box[0], box[1], box[2], box[3], box[4], box[5] = z, z, y, y, begin, end
        return n + 1
    box = boxes[slot]
    box[1] = z  # rows come by rising z
    box[2] = min(box[2], y)
    box[3] = max(box[3], y)
    box[4] = min(box[4], begin)
    box[5] = max(box[5], end)
    return n


@njit(cache=True, nogil=True)
def _box(found, tile, margin, box):  # type: ignore[no-untyped-def]
    """Set the corners between which an object's surface can lie in a tile; return whether that is a cell at least.

    One voxel around the object is enough: beyond, all of it lies on one side, and less than half of the filter.
    """
    filled = True
    for axis in range(3):
        box[0, axis] = tile[0, axis] + max(0, found[2 * axis] - margin - 1)
        box[1, axis] = min(tile[1, axis], tile[0, axis] + found[2 * axis + 1] - margin + 2)
        filled = filled and box[1, axis] - box[0, axis] > 1
    return filled


@njit(cache=True, nogil=True)
def _fill(labels, label, how, scratch):  # type: ignore[no-untyped-def]
    """Write the mask of an object at the corners of its box, smoothed or not, in 2⁻³⁰ths."""
    box, weights, smoothed = how
    line, once, twice, field = scratch
    margin = len(weights) - 1
    depth, height, width = box[1] - box[0]
    low, high = box[0], box[1] + 2 * margin
    if not smoothed:
        _copy(labels[low[0] + margin :, low[1] + margin :, low[2] + margin :], label, field[:depth, :height, :width])
        return
    for z in range(depth + 2 * margin):
        for y in range(height + 2 * margin):
            _blur(labels[z + low[0], y + low[1], low[2] : high[2]], label, (line, weights), once[z, y, :width])
        for y in range(height):
            _blend(once[z, y : y + 2 * margin + 1, :width], weights, twice[z, y, :width])
    for z in range(depth):
        for y in range(height):
            _blend(twice[z : z + 2 * margin + 1, y, :width], weights, field[z, y, :width])


@njit(cache=True, nogil=True)
def _copy(labels, label, field):  # type: ignore[no-untyped-def]
    """Write the mask of an object as it is."""
    for z in range(field.shape[0]):
        for y in range(field.shape[1]):
            for x in range(field.shape[2]):
                field[z, y, x] = (labels[z, y, x] == label) << 30


@njit(cache=True, nogil=True)
def _blur(row, label, how, out):  # type: ignore[no-untyped-def]
    """Filter the mask of an object along a row, which is longer than the result by the margin at both ends."""
    line, weights = how
    margin = len(weights) - 1
    for x in range(row.size):
        line[x] = row[x] == label
    middle = line[margin:]
    for x in range(out.size):
        out[x] = weights[0] * middle[x]
    for k in range(1, margin + 1):
        weight = weights[k]
        left, right = line[margin - k :], line[margin + k :]
        for x in range(out.size):
            out[x] += weight * (left[x] + right[x])


@njit(cache=True, nogil=True)
def _blend(rows, weights, out):  # type: ignore[no-untyped-def]
    """Filter across rows: the middle row of an odd number."""
    margin = len(weights) - 1
    middle = rows[margin]
    for x in range(out.size):
        out[x] = weights[0] * middle[x]
    for k in range(1, margin + 1):
        weight = weights[k]
        one, other = rows[margin - k], rows[margin + k]
        for x in range(out.size):
            out[x] += weight * (one[x] + other[x])


@njit(cache=True, nogil=True)
def _walk(field, how, tables, sums, results):  # type: ignore[no-untyped-def]
    """Mesh the cells of a box; return the number of vertices so far."""
    where, measures = how
    vertices, n_vertices, row = results
    n_triangles, triangles, edges, centre = tables
    values = np.empty(8, np.int64)
    at = np.empty(3, np.int64)
    place = np.empty((13, 3))
    steps = np.empty(12, np.int64)
    for z in range(where[0, 0]):
        for y in range(where[0, 1]):
            at[0], at[1] = z + where[1, 0], y + where[1, 1]
            a, b, c, d = field[z, y], field[z, y + 1], field[z + 1, y], field[z + 1, y + 1]
            after = _column(a[0], b[0], c[0], d[0])
            for x in range(where[0, 2]):
                before = after
                after = _column(a[x + 1], b[x + 1], c[x + 1], d[x + 1])
                configuration = before | after << 1
                if 0 < configuration < 255:
                    at[2] = x + where[1, 2]
                    values[0], values[1], values[2], values[3] = a[x], a[x + 1], b[x], b[x + 1]
                    values[4], values[5], values[6], values[7] = c[x], c[x + 1], d[x], d[x + 1]
                    used = edges[configuration]
                    _cut(values, (used, centre[configuration]), measures, place, steps)
                    height = at[0] * measures[0, 0]
                    _add_triangles(triangles[configuration], n_triangles[configuration], place, height, sums)
                    if used & 0x111:
                        _add_vertices((used, row), at, measures, steps, (sums, vertices[n_vertices:]))
                        n_vertices += (used & 1) + (used >> 4 & 1) + (used >> 8 & 1)
    return n_vertices


@njit(cache=True, nogil=True)
def _column(a, b, c, d):  # type: ignore[no-untyped-def]
    """Return the bits of the four corners at one x."""
    return (a > _HALF) | (b > _HALF) << 2 | (c > _HALF) << 4 | (d > _HALF) << 6


@njit(cache=True, nogil=True)
def _room(vertices, n):  # type: ignore[no-untyped-def]
    """Return an array that holds n vertices, with those so far."""
    if n <= len(vertices):
        return vertices
    more = np.empty((2 * n, 4), np.int32)
    for i in range(len(vertices)):
        for j in range(4):
            more[i, j] = vertices[i, j]
    return more


@njit(cache=True, nogil=True)
def _cut(values, used, measures, place, steps):  # type: ignore[no-untyped-def]
    """Place the vertices of a cell, in nm from its lower corner, by linear interpolation along its edges."""
    edges, centre = used
    n = 0
    middle_z, middle_y, middle_x = 0.0, 0.0, 0.0
    for edge in range(12):
        if edges >> edge & 1:
            low, axis = _LOWS[edge], edge >> 2
            start, stop = values[low], values[low | 4 >> axis]
            steps[edge] = int((_HALF - start) / (stop - start) * _UNITS + 0.5)
            place[edge, 0] = (low >> 2) * measures[0, 0]
            place[edge, 1] = (low >> 1 & 1) * measures[0, 1]
            place[edge, 2] = (low & 1) * measures[0, 2]
            place[edge, axis] = steps[edge] / _UNITS * measures[0, axis]
            middle_z += place[edge, 0]
            middle_y += place[edge, 1]
            middle_x += place[edge, 2]
            n += 1
    if centre:
        place[_CENTRE, 0] = middle_z / n
        place[_CENTRE, 1] = middle_y / n
        place[_CENTRE, 2] = middle_x / n


@njit(cache=True, nogil=True)
def _add_triangles(triangles, n_triangles, place, z, sums):  # type: ignore[no-untyped-def]
    """Add area and volume of a cell's triangles; the volume by Gauss's theorem, as the flux of (z, 0, 0)."""
    for i in range(n_triangles):
        a, b, c = triangles[i, 0], triangles[i, 1], triangles[i, 2]
        a0, a1, a2 = place[a, 0], place[a, 1], place[a, 2]
        u0, u1, u2 = place[b, 0] - a0, place[b, 1] - a1, place[b, 2] - a2
        v0, v1, v2 = place[c, 0] - a0, place[c, 1] - a1, place[c, 2] - a2
        n0, n1, n2 = u1 * v2 - u2 * v1, u2 * v0 - u0 * v2, u0 * v1 - u1 * v0
        sums[0] += 0.5 * np.sqrt(n0 * n0 + n1 * n1 + n2 * n2)
        sums[1] += (z + a0 + (u0 + v0) / 3) * n0 / 2


@njit(cache=True, nogil=True)
def _add_vertices(used, at, measures, steps, results):  # type: ignore[no-untyped-def]
    """Add the vertices on the three edges that begin at the cell's lowest corner: every vertex has one such cell."""
    edges, row = used
    sums, vertices = results
    n = 0
    for axis in range(3):
        edge = 4 * axis
        if edges >> edge & 1:
            squared = 0.0
            for i in range(3):
                unit = at[i] * _UNITS + (steps[edge] if i == axis else 0)
                vertices[n, i + 1] = unit
                squared += ((unit / _UNITS - measures[1, i]) * measures[0, i]) ** 2
            vertices[n, 0] = row
            n += 1
            sums[2] += 1
            sums[3] += np.sqrt(squared)
            sums[4] += squared
