"""The inner loops of `cristae.meshing.pieces`: through the cells of a block, to vertices and triangles of its objects.

Most cells have equal corners. Bytes say of eight voxels at once where the next one is another, so that rows without any
surface cost next to nothing.
"""

from __future__ import annotations

import numpy as np
from numba import njit

# Lower corner of each edge: edges 0–3 run along z, 4–7 along y, 8–11 along x, as in `cristae.features.marching`.
_LOWS = np.array([low for axis in range(3) for low in range(8) if not low & 4 >> axis])
_CENTRE = 12
_MOST = 24  # triangles of all objects in a cell, more than there can be
_FIRST_BIT = np.array([max(0, (bits & -bits).bit_length() - 1) for bits in range(256)], np.int8)
# The bits that `mark` sets, in all eight bytes of a word.
_Z, _Y, _X = (np.uint64(0x0101010101010101 << bit) for bit in range(3))
_BYTE, _TOP = np.uint64(8), np.uint64(56)


@njit(cache=True, nogil=True)
def mark(labels, ends):  # type: ignore[no-untyped-def]
    """Note for every voxel where the next one is another: bit 0 along z, bit 1 along y, bit 2 along x."""
    depth, height, width = labels.shape
    for z in range(depth):
        for y in range(height):
            row, out = labels[z, y], ends[z, y]
            behind, below = labels[min(z + 1, depth - 1), y], labels[z, min(y + 1, height - 1)]
            for x in range(width):
                out[x] = np.uint8(behind[x] != row[x]) | np.uint8(below[x] != row[x]) << np.uint8(1)
            for x in range(width - 1):
                out[x] |= np.uint8(row[x + 1] != row[x]) << np.uint8(2)


@njit(cache=True, nogil=True)
def _crossed(ends, z, y, cells):  # type: ignore[no-untyped-def]
    """Set for every cell of a row whether its corners differ: eight cells are a word of bytes, not 0 where they do."""
    a, b, c, d = ends[z, y], ends[z, y + 1], ends[z + 1, y], ends[z + 1, y + 1]
    n = a.size
    for i in range(n):
        ahead = a[i] & _Z | a[i] & _Y | b[i] & _Z | c[i] & _Y
        cells[i] = a[i] | b[i] & (_Z | _X) | c[i] & (_Y | _X) | d[i] & _X | ahead >> _BYTE
        if i:
            cells[i - 1] |= ahead << _TOP


@njit(cache=True, nogil=True)
def _listed(words, n, found):  # type: ignore[no-untyped-def]
    """List which of the first n bytes are not 0; return how many."""
    bits = words.view(np.uint8)
    n_found = 0
    for word in range(words.size):
        if words[word]:
            for x in range(8 * word, min(8 * word + 8, n)):
                found[n_found] = x
                n_found += bits[x] != 0
    return n_found


@njit(cache=True, nogil=True)
def _corners(a, b, c, d, x, corners):  # type: ignore[no-untyped-def]
    """Set the labels at the corners of a cell, of which four rows hold the edges along x."""
    corners[0], corners[1], corners[2], corners[3] = a[x], a[x + 1], b[x], b[x + 1]
    corners[4], corners[5], corners[6], corners[7] = c[x], c[x + 1], d[x], d[x + 1]


@njit(cache=True, nogil=True)
def _configuration(corners, label):  # type: ignore[no-untyped-def]
    """Return which corners are of an object, as bits."""
    configuration = 0
    for corner in range(8):
        configuration |= (corners[corner] == label) << corner
    return configuration


@njit(cache=True, nogil=True)
def emit(labels, ends, tables, lattice, n_edges, counts):  # type: ignore[no-untyped-def]
    """Return vertices (object, name) and triangles (object, three vertices, cell) in the order of the volume.

    Vertices count those of their own object. `counts` is set to how many of both each object has; its first row, that
    of the background, to how many there are in all.
    """
    first, wide = lattice
    depth, height, width = labels.shape
    vertices = np.empty((4 * n_edges + 1, 2), np.int64)
    triangles = np.empty((3 * n_edges + 64, 4), np.int32), np.empty(3 * n_edges + 64, np.int64)
    # Numbers of the vertices on the edges that begin in this layer and in the one before: by layer, y, x, axis, and
    # whether they are of the object at the lower or the upper end. The last is for vertices in the middle of cells.
    numbers = np.empty(12 * height * width + 1, np.int32)
    crossed, found = np.empty(ends.shape[2], np.uint64), np.empty(width + 1, np.int32)
    for z in range(depth):
        for y in range(height):
            at = ((z & 1) * height + y) * width * 6
            name = ((2 * (z + first[0]) * wide[1] + y + first[1]) * wide[2] + first[2]) * 4
            rows = labels[z : z + 2, y : y + 2], ends[z, y].view(np.uint8)
            n = _listed(ends[z, y], width, found)
            _add_vertices(rows, found[:n], (name, at), numbers, vertices, counts)
        if z > 0:
            offsets = _offsets(z - 1, height, width)
            for y in range(height - 1):
                middle = (((2 * (z + first[0]) + 1) * wide[1] + y + first[1]) * wide[2] + first[2]) * 4 + 3
                _crossed(ends, z - 1, y, crossed)
                n = _listed(crossed, width - 1, found)
                while counts[0, 1] + _MOST * n > len(triangles[1]):
                    triangles = _longer(triangles)
                rows = labels[z - 1 : z + 1, y : y + 2], found[:n]
                _add_cells(rows, (middle, y * width * 6), tables, (numbers, offsets), (vertices, triangles), counts)
    return vertices, triangles


@njit(cache=True, nogil=True)
def _longer(triangles):  # type: ignore[no-untyped-def]
    """Return the same in arrays twice as long."""
    corners, cells = triangles
    n = len(cells)
    more = np.empty((2 * n + _MOST, 4), np.int32), np.empty(2 * n + _MOST, np.int64)
    more[0][:n], more[1][:n] = corners, cells
    return more


@njit(cache=True, nogil=True)
def group(vertices, triangles, starts, results):  # type: ignore[no-untyped-def]
    """Write vertices and triangles object by object."""
    names, faces, cells = results
    corners, where, n_triangles = triangles
    places = starts.copy()
    for i in range(len(vertices)):
        label = vertices[i, 0]
        names[places[label - 1, 0]] = vertices[i, 1]
        places[label - 1, 0] += 1
    for i in range(n_triangles):
        label = corners[i, 0]
        place = places[label - 1, 1]
        for k in range(3):
            faces[place, k] = corners[i, 1 + k]
        cells[place] = where[i]
        places[label - 1, 1] = place + 1


@njit(cache=True, nogil=True)
def _offsets(z, height, width):  # type: ignore[no-untyped-def]
    """Return where the vertex on each edge of a cell is numbered, counted from the cell's lower corner in a layer."""
    offsets = np.empty(12, np.int64)
    for edge in range(12):
        low = _LOWS[edge]
        layer = (z + (low >> 2)) & 1
        offsets[edge] = ((layer * height + (low >> 1 & 1)) * width + (low & 1)) * 6 + (edge >> 2) * 2
    return offsets


@njit(cache=True, nogil=True)
def _add_vertices(rows, found, where, numbers, vertices, counts):  # type: ignore[no-untyped-def]
    """Add the vertices on the edges that begin in a row of voxels, given with its neighbours behind and below."""
    name, at = where
    near, ends = rows
    row, behind, below = near[0, 0], near[-1, 0], near[0, -1]
    for i in range(found.size):
        x = found[i]
        label, here = row[x], ends[x]
        place = at + 6 * x
        if here & 1:
            _add_vertex(label, name + 4 * x, place, numbers, vertices, counts)
            _add_vertex(behind[x], name + 4 * x, place + 1, numbers, vertices, counts)
        if here & 2:
            _add_vertex(label, name + 4 * x + 1, place + 2, numbers, vertices, counts)
            _add_vertex(below[x], name + 4 * x + 1, place + 3, numbers, vertices, counts)
        if here & 4:
            _add_vertex(label, name + 4 * x + 2, place + 4, numbers, vertices, counts)
            _add_vertex(row[x + 1], name + 4 * x + 2, place + 5, numbers, vertices, counts)


@njit(cache=True, nogil=True)
def _add_vertex(label, name, at, numbers, vertices, counts):  # type: ignore[no-untyped-def]
    """Add a vertex to an object; the background has none."""
    if label:
        numbers[at] = counts[label, 0]
        counts[label, 0] += 1
        vertices[counts[0, 0], 0], vertices[counts[0, 0], 1] = label, name
        counts[0, 0] += 1


@njit(cache=True, nogil=True)
def _add_cells(what, where, tables, lookup, results, counts):  # type: ignore[no-untyped-def]
    """Add the triangles of every object that has a corner in the cells of a row that are listed."""
    rows, found = what
    middle, at = where
    n_triangles, corners_of = tables
    numbers, offsets = lookup
    vertices, (triangles, cells) = results
    corners = np.empty(8, np.int32)
    last = len(numbers) - 1
    a, b, c, d = rows[0, 0], rows[0, 1], rows[1, 0], rows[1, 1]
    row = counts[0, 1]
    for j in range(found.size):
        x = found[j]
        _corners(a, b, c, d, x, corners)
        left = 255 - _configuration(corners, 0)
        while left:
            label = corners[_FIRST_BIT[left]]
            configuration = _configuration(corners, label)
            left &= ~configuration
            n = n_triangles[configuration]
            if _has_centre(corners_of[configuration], n):
                _add_vertex(label, middle + 4 * x, last, numbers, vertices, counts)
            for i in range(n):
                triangles[row, 0] = label
                for k in range(3):  # turned, as the tables go by z, y, x
                    edge = corners_of[configuration, i, k]
                    place = offsets[edge] + at + 6 * x + (corners[_LOWS[edge]] != label) if edge < _CENTRE else last
                    triangles[row, 3 - k] = numbers[place]
                cells[row] = middle + 4 * x
                row += 1
            counts[label, 1] += n
    counts[0, 1] = row


@njit(cache=True, nogil=True)
def _has_centre(triangles, n):  # type: ignore[no-untyped-def]
    """Say whether triangles have the vertex in the middle of their cell: those that do are many."""
    if n < 8:
        return False
    for i in range(n):
        for k in range(3):
            if triangles[i, k] == _CENTRE:
                return True
    return False
