"""From the pieces of one object to its mesh: sew, smooth, simplify, with the volume kept throughout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cristae.meshing.pieces import Piece, Triple, positions, sew
from cristae.meshing.simplify import simplify
from cristae.meshing.smooth import enclosed_volume, keep_volume, smooth


@dataclass(frozen=True)
class Finish:
    """How meshes are finished.

    Parameters
    ----------
    voxel_size, origin
        nm (z, y, x): the size of a voxel, and the centre of the first.
    n_steps
        Pairs of smoothing steps; see `cristae.meshing.smooth.smooth`.
    max_error_nm, share
        See `cristae.meshing.simplify.simplify`. With an error of 0 all triangles are kept.
    """

    voxel_size: tuple[float, float, float]
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    n_steps: int = 10
    max_error_nm: float = 0.0
    share: float = 0.0


def build_mesh(pieces: Sequence[Piece], volume_shape: Triple, finish: Finish) -> tuple[np.ndarray, np.ndarray]:
    """Make the mesh of one object.

    Parameters
    ----------
    pieces
        Of all blocks that it reaches, in any order.
    volume_shape
        Of the volume (z, y, x).
    finish
        Voxel size, smoothing and simplification.

    Returns
    -------
    tuple
        Vertices float64 ``(n, 3)``, x, y, z in nm; triangles int32 ``(m, 3)``, counterclockwise seen from outside.
        The mesh is closed, and encloses what that of the voxels does (to 0.1 %, unless the object is so small
        that not even this could be kept while simplifying; then it is not simplified).
    """
    names, faces = sew(pieces)
    vertices = positions(names, volume_shape, finish.voxel_size, finish.origin)
    volume = enclosed_volume(vertices, faces)
    vertices = smooth(vertices, faces, finish.n_steps)
    fewer, triangles = simplify(vertices, faces, max_error=finish.max_error_nm, share=finish.share)
    if len(triangles) < len(faces):
        fewer = keep_volume(fewer, triangles, volume)
        if abs(enclosed_volume(fewer, triangles) - volume) <= 1e-3 * volume:
            return fewer, triangles
    return vertices, faces
