"""Meshes of 500 objects of a 512³ volume: seconds from labels to closed meshes, against scikit-image object by object.

Input: ellipsoids of many sizes and directions, some touching, from a fixed seed. Ours: `cristae.meshing.pieces` in
blocks of 256³ on both cores, sewn, with places in nm. Baseline: `skimage.measure.marching_cubes` of each object's mask
in its box, found with SciPy, one after another. Both take the best of some rounds, in turn, as other work may be about.
Smoothing and simplification, which scikit-image does not have, are timed apart.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from scipy import ndimage
from skimage.measure import marching_cubes

from benchmarks.result import Result
from cristae.allocation import keep_freed_memory
from cristae.features.numbering import number_from_one
from cristae.geometry import Box, blocks
from cristae.meshing.build import Finish, build_mesh
from cristae.meshing.pieces import Piece, march, positions, sew
from cristae.meshing.smooth import enclosed_volume

_SIZE = (8.0, 8.0, 8.0)
_SIDE = 256
_CORES = 2


def run(quick: bool) -> Result:
    """Mesh all objects in both ways and compare volumes."""
    side, n_objects, n_rounds = (160, 20, 3) if quick else (512, 500, 5)
    labels = ellipsoids(side, n_objects)
    keep_freed_memory()  # as the stage does; it serves both
    _ours(labels[:64, :64, :64])  # compiles what is not compiled yet
    best: dict[str, float] = {}
    results: dict[str, Any] = {}
    for _ in range(n_rounds):
        for name, work in (("ours", _ours), ("theirs", _theirs)):
            results.pop(name, None)  # memory is not taken anew while the earlier result is held
            begun = time.perf_counter()
            results[name] = work(labels)
            best[name] = min(best.get(name, np.inf), time.perf_counter() - begun)
    ours, pieces = results["ours"]
    errors = [
        abs(enclosed_volume(*ours[number]) / abs(enclosed_volume(vertices, faces)) - 1)
        for number, (vertices, faces) in results["theirs"].items()
    ]
    finished, finish_errors = _finish(labels, pieces, ours)
    ratio = best["theirs"] / best["ours"]
    return Result(
        "mesh_speed",
        best["ours"],
        "s",
        "≥3× faster than scikit-image object by object, volumes within 1 %",
        None if quick else ratio >= 3 and max(errors) <= 0.01 and len(errors) == len(ours),
        best["theirs"],
        ratio,
        details={
            "n_objects": len(ours),
            "n_triangles": int(sum(len(faces) for _, faces in ours.values())),
            "cores": _CORES,
            "largest_volume_error": float(max(errors)),
            "seconds_smooth_and_simplify": finished,
            "largest_volume_error_smooth_and_simplified": finish_errors,
        },
    )


def ellipsoids(side: int, n_objects: int) -> np.ndarray:
    """Return uint32 ``(side, side, side)`` with objects 1 to `n_objects`."""
    generator = np.random.default_rng(7)
    labels = np.zeros((side, side, side), np.uint32)
    middle = side / n_objects ** (1 / 3) * 0.38
    for number in range(1, n_objects + 1):
        centre = generator.uniform(0, side, 3)
        radii = generator.uniform(0.6, 1.4, 3) * middle
        low = np.maximum(0, np.floor(centre - radii)).astype(int)
        high = np.minimum(side, np.ceil(centre + radii) + 1).astype(int)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        steps = zip(np.ogrid[box], centre, radii, strict=True)
        labels[box][sum(((index - c) / r) ** 2 for index, c, r in steps) <= 1] = number
    return labels


def _ours(labels: np.ndarray) -> tuple[dict[int, tuple[np.ndarray, np.ndarray]], dict[int, list[Piece]]]:
    def cut(block: Any) -> tuple[np.ndarray, Any]:
        ids, numbers = number_from_one(labels[block.read.slices])
        inner = block.write.within(block.read).slices
        return ids, march(numbers, len(ids), inner, start=block.read.start, volume_shape=labels.shape)

    def whole(number: int) -> tuple[np.ndarray, np.ndarray]:
        names, faces = sew(pieces[number])
        return positions(names, labels.shape, _SIZE), faces

    pieces: dict[int, list[Piece]] = {}
    with ThreadPoolExecutor(_CORES) as pool:
        todo = blocks(Box.of_shape(labels.shape), (_SIDE,) * 3, (1, 1, 1))
        for ids, found in pool.map(cut, todo):
            for row, number in enumerate(ids.tolist()):
                if len(found[row].faces):
                    pieces.setdefault(number, []).append(found[row])
        return dict(zip(pieces, pool.map(whole, pieces), strict=True)), pieces


def _theirs(labels: np.ndarray) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    found = {}
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is not None:
            mask = np.pad(labels[box] == number, 1)
            vertices, faces, _, _ = marching_cubes(mask, 0.5, spacing=_SIZE)
            found[number] = vertices, faces
    return found


def _finish(
    labels: np.ndarray, pieces: dict[int, list[Piece]], plain: dict[int, tuple[np.ndarray, np.ndarray]]
) -> tuple[float, float]:
    """Return the seconds of making the meshes as `cristae mesh` does, and the largest error of a volume."""
    finish = Finish(_SIZE, max_error_nm=2.0)
    work: Callable[[int], Any] = lambda number: build_mesh(pieces[number], labels.shape, finish)  # noqa: E731
    begun = time.perf_counter()
    with ThreadPoolExecutor(_CORES) as pool:
        made = dict(zip(pieces, pool.map(work, pieces), strict=True))
    seconds = time.perf_counter() - begun
    return seconds, max(abs(enclosed_volume(*made[n]) / enclosed_volume(*plain[n]) - 1) for n in plain)
