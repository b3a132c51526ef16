"""The digital phantom of the IBSI (theibsi/data_sets, CC BY 4.0), and ways to cut and turn volumes."""

import itertools

import numpy as np

from cristae.geometry import Box, blocks

PHANTOM = np.array(
    [
        [[1, 4, 4, 1, 1], [1, 4, 6, 1, 1], [4, 1, 6, 4, 1], [4, 4, 6, 4, 1]],
        [[1, 4, 4, 1, 1], [1, 1, 6, 1, 1], [1, 1, 3, 1, 1], [4, 4, 6, 1, 1]],
        [[1, 4, 4, 1, 1], [1, 1, 1, 1, 1], [1, 1, 9, 1, 1], [1, 1, 6, 1, 1]],
        [[1, 4, 4, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 6, 1, 1]],
    ],
    np.uint8,
)
REGION = np.ones(PHANTOM.shape, np.int32)
for x, y, z in [(0, 2, 1), (2, 2, 2), (3, 0, 2), (4, 0, 2), (3, 0, 3), (4, 0, 3)]:
    REGION[z, y, x] = 0

WHOLE = (slice(None),) * 3


def within_last_digit(value, printed):
    """IBSI prints three significant digits and asks for those."""
    digits = f"{printed:.2e}"
    return f"{value:.2e}" == digits or abs(value - printed) <= 0.5000001 * 10 ** (int(digits.split("e")[1]) - 2)


def boxes(shape, block_shape, halo=(0, 0, 0)):
    """Slices of every block to read, of the part it is responsible for within that, and its first voxel."""
    for read, write in blocks(Box.of_shape(shape), block_shape, halo):
        inner = tuple(slice(a - c, b - c) for a, b, c in zip(write.start, write.stop, read.start, strict=True))
        yield read.slices, inner, write.start


def dense(labels):
    """Ids 0..n of a block, and the id that each had."""
    found = np.unique(labels)
    ids = found[found > 0].astype(np.int64)
    return np.where(labels > 0, np.searchsorted(ids, labels) + 1, 0).astype(np.int32), ids


def turned(array):
    """All quarter turns and mirror images of a volume."""
    for axes in itertools.permutations(range(3)):
        for flips in itertools.product((1, -1), repeat=3):
            yield np.ascontiguousarray(array.transpose(axes)[tuple(slice(None, None, flip) for flip in flips)])
