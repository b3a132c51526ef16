"""The table of shapes: how large, how round, how dented, in how many pieces.

::

    solidity 1   less      sphericity 1   less        circular variance 0   more
       OOO       O O           OOO        OOOOOOO          OOO              OOOOOOO
       OOO       OOO           OOO                         OOO

All come from one mesh per object (`cristae.features.mesh`): volume, area and hull of different meshes do not fit each
other, and solidity and sphericity could exceed 1.

Papers: A. Machireddy et al. (2023), Front. Bioinform. 3, 1308708, equations 5, 6 and 7 (solidity, sphericity, circular
variance); A. Zwanenburg et al. (2020), Radiology 295, 328 (IBSI).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from cristae.features.definitions import Definition
from cristae.features.mesh import Mesh, Meshing, add_mesh, outlines
from cristae.features.moments import Moments, add_moments, moments_table
from cristae.features.surface import VoxelSurface, add_voxel_surface

_MACHIREDDY = "Machireddy et al. 2023"

DEFINITIONS: Mapping[str, Definition] = {
    "surface_um2": Definition("µm²", "area A of the mesh"),
    "mesh_volume_um3": Definition("µm³", "volume V that the mesh encloses"),
    "convex_volume_um3": Definition("µm³", "volume of the convex hull of the mesh"),
    "solidity": Definition(
        "", "how much of its convex hull the object fills: 1 where it has no dents", "V / V_hull", _MACHIREDDY
    ),
    "sphericity": Definition(
        "", "area of the ball of the same volume over the area: 1 for a ball", "π^(1/3) (6 V)^(2/3) / A", _MACHIREDDY
    ),
    "circular_variance": Definition(
        "",
        "how far surface points p differ in distance to the centroid C, from their mean distance r: 0 for a ball",
        "mean((|p − C| − r)²) / r²",
        _MACHIREDDY,
    ),
    "euler_number": Definition(
        "", "parts + cavities − tunnels, of voxels that hang together by corners", "vertices − edges + faces − voxels"
    ),
    "surface_smoothed": Definition(
        "", "whether the mesh is smooth; not so where smoothing wears away half of the object"
    ),
}


def morphology_table(
    mesh: Mesh, moments: Moments, surface: VoxelSurface, voxel_size: tuple[float, float, float]
) -> pd.DataFrame:
    """Return the shape of every object.

    Parameters
    ----------
    mesh
        Of whole objects; hulls that several blocks share need not be measured yet.
    moments, surface
        Of the same objects.
    voxel_size
        nm (z, y, x).

    Returns
    -------
    pd.DataFrame
        One row per object, the columns of `DEFINITIONS`. NaN where an object has no mesh. The mesh is the smooth one if
        it encloses more than half of the voxels' volume, or if there is no other.
    """
    hulls = mesh.hulls.completed(voxel_size)
    lasts = mesh.volume_nm3[:, 0] > 0.5 * np.prod(voxel_size) * moments.n_voxels
    smooth = lasts | (mesh.n_vertices[:, 1] == 0)
    chosen = np.arange(len(smooth)), np.where(smooth, 0, 1)
    n_vertices = mesh.n_vertices[chosen]
    hull = hulls.volume_nm3.reshape(-1, 2)[chosen]
    with np.errstate(invalid="ignore", divide="ignore"):
        volume, area = (np.where(n_vertices > 0, sums[chosen], np.nan) for sums in (mesh.volume_nm3, mesh.area_nm2))
        radius = mesh.radius_nm[chosen] / n_vertices
        spread = mesh.radius_nm2[chosen] / n_vertices - radius**2
        return pd.DataFrame(
            {
                "surface_um2": area * 1e-6,
                "mesh_volume_um3": volume * 1e-9,
                "convex_volume_um3": hull * 1e-9,
                # A convex mesh and its hull are the same body, summed in different orders.
                "solidity": np.minimum(volume / hull, 1),
                "sphericity": np.cbrt(np.pi) * np.cbrt(6 * volume) ** 2 / area,
                "circular_variance": np.maximum(spread, 0) / radius**2,
                "euler_number": surface.euler_number,
                "surface_smoothed": smooth & (n_vertices > 0),
            }
        )


def measure_shapes(
    labels: np.ndarray,
    voxel_size: tuple[float, float, float],
    *,
    sigma_px: float = 1.0,
    image: np.ndarray | None = None,
) -> pd.DataFrame:
    """Measure size, place, directions and shape of every object of an array in memory.

    Parameters
    ----------
    labels
        Integers ``(z, y, x)`` of 0 and above; 0 is background.
    voxel_size
        nm (z, y, x).
    sigma_px
        Smoothing of surfaces, in voxels; 0 meshes the masks themselves, as IBSI does.
    image
        uint8 or uint16 grey values, shaped like the labels.

    Returns
    -------
    pd.DataFrame
        One row per object: ``object_id`` and the columns of `cristae.features.moments` and of this module.

    Raises
    ------
    ValueError
        If the labels are not integers or negative, or the image does not fit them.
    """
    if labels.ndim != 3 or labels.dtype.kind not in "iu" or (labels.size and labels.min() < 0):
        raise ValueError(f"expected ids of 0 and above (z, y, x), got {labels.dtype} of shape {labels.shape}")
    ids, dense = _dense(labels)
    whole = (slice(None), slice(None), slice(None))
    moments = add_moments(dense, len(ids), whole, image=image)
    surface = add_voxel_surface(dense, len(ids), whole, voxel_size=voxel_size)
    objects = outlines(moments, surface, sigma_px)
    mesh = add_mesh(dense, len(ids), whole, objects=objects, meshing=Meshing(voxel_size, sigma_px))
    depth, height, width = labels.shape
    table = moments_table(moments, voxel_size, (depth, height, width))
    table.insert(0, "object_id", ids)
    return pd.concat([table, morphology_table(mesh, moments, surface, voxel_size)], axis=1)


def _dense(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids that occur, and the labels as int32 with the first of them for 1, the second for 2, and so on."""
    highest = int(labels.max(initial=0))
    if highest > max(labels.size, 1 << 20):
        ids, dense = np.unique(np.append(0, labels.ravel()), return_inverse=True)
        return ids[1:], dense[1:].reshape(labels.shape).astype(np.int32)
    occurs = np.zeros(highest + 1, bool)
    occurs[labels.ravel()] = True
    occurs[0] = False
    return np.flatnonzero(occurs), (np.cumsum(occurs, dtype=np.int32) * occurs)[labels]
