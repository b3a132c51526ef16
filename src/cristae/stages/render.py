"""`cristae render`: pictures and movies of objects, as in the figures of papers, without display or graphics card.

Surfaces come from `cristae mesh`, which is run first where it has not been; the picture is drawn by cristae itself
(`cristae.rendering`), so that it looks the same, byte for byte, on a laptop and on a node of a cluster. Frames of a
movie are kept until it is written: a killed run goes on with the frame it was at::

    runs/render-<id>/    picture.png      movie.mp4 or movie.gif      .frames/00000.png
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from cristae.costs.steps import Memory
from cristae.costs.surfaces import render_memory
from cristae.errors import DataError, UsageError
from cristae.geometry import Box
from cristae.io.meshes import MeshStore
from cristae.io.movies import find_ffmpeg, write_gif, write_mp4
from cristae.io.ome_zarr import n_levels, open_volume
from cristae.palette import rgb
from cristae.project import Project, Run
from cristae.rendering.camera import Camera, fit
from cristae.rendering.scale_bar import add_scale_bar
from cristae.rendering.scene import Plane, Solid, bounds, solid, take_picture
from cristae.rendering.shade import Look
from cristae.settings import resolve_settings
from cristae.stages.colouring import find_parents, object_colours, usual_colour
from cristae.stages.fenestrations import SUFFIX
from cristae.stages.finished import nothing_to_do
from cristae.stages.limits import n_threads, within
from cristae.stages.mesh import MeshSettings, mesh, mesh_settings, open_meshes
from cristae.stages.options import Options
from cristae.stages.render_settings import CELL_COLOUR, GLASS, RenderSettings

__all__ = ["RenderSettings", "render", "render_settings"]

GROUNDS = {"white": (1.0, 1.0, 1.0), "dark": (0.055, 0.06, 0.075)}
MOST_PIXELS = 2048
"""Of an image plane, along its longer side: the level of the pyramid is chosen by it."""


@dataclass(frozen=True)
class Scene:
    """What there is to see, and how."""

    solids: tuple[Solid, ...]
    planes: tuple[Plane, ...]
    look: Look
    samples: int


@dataclass(frozen=True)
class Frame:
    """One picture of a movie: from where it is taken, and the image planes in it."""

    camera: Camera
    planes: tuple[Plane, ...]


def render_settings(project: Project, changes: Mapping[str, Any]) -> RenderSettings:
    """Return the settings of rendering: defaults, then project file, then `changes`."""
    return resolve_settings(RenderSettings, project.stage_settings("render"), changes)


def render(
    project: Project,
    settings: RenderSettings | None = None,
    options: Options | None = None,
    meshing: Mapping[str, Any] | None = None,
) -> Run:
    """Take a picture, and a movie if one is asked for, of objects, cells and slices of the image.

    Meshes are made as the project file says, with the changes in `meshing`.

    Raises
    ------
    DataError
        If there is nothing to show, or no image for its planes.
    UsageError
        If a class, an id or a slice that is named is not there, or cells of organelles are not known.
    ResourceError
        If the project is in use, the disk is full, more memory is needed than allowed, or ffmpeg fails.
    """
    settings, options = settings or render_settings(project, {}), options or Options()
    meshed = mesh(project, _mesh_settings(project, settings, meshing or {}), replace(options, force=False))
    _check(project, settings, tuple(meshed.manifest["classes"]))
    form = _form(settings, options)
    inputs = {
        "mesh": meshed.as_input,
        "form": form,
    }
    if settings.planes or settings.movie == "slices":
        inputs["image"] = project.image_fingerprint
    parents = find_parents(project, "render", (settings.colour_by, settings.source), options)
    if parents is not None:
        inputs["anatomy"] = parents[0]
    run = project.run("render", settings, inputs)
    if nothing_to_do(project, run, options):
        return run
    _, options = within("render", needs(meshed, settings, form), (0.0, max(1, n_threads(options))), options)
    with project.lock(), project.record(run, settings, inputs):
        if options.force:
            shutil.rmtree(run.path / ".frames", ignore_errors=True)
        scene = _scene(project, open_meshes(meshed), settings, None if parents is None else parents[1])
        points = bounds(scene.solids, scene.planes)
        camera = fit(points, (settings.width, settings.height), [(settings.azimuth, settings.elevation)])
        camera = replace(camera, height_nm=camera.height_nm / settings.zoom)
        _save(run.path / "picture.png", _take(scene, Frame(camera, scene.planes), settings.scale_bar))
        files = ["picture.png"]
        if form:
            files.append(_film(project, scene, run, settings, options, form))
        n_objects = {name: int(n) for name, n in meshed.manifest["n_objects"].items()}
        run.update(
            files=files,
            mesh_run=meshed.path.name,
            n_objects=n_objects,
            nm_per_px=camera.nm_per_px[0],
        )
    return run


def needs(meshed: Run, settings: RenderSettings, form: str) -> Memory:
    """Return what pictures of these meshes need."""
    n_vertices = sum(int(store.vertex_starts[-1]) for store in open_meshes(meshed).values())
    finer = settings.samples**2
    frame = settings.movie_width**2 * settings.height / settings.width * finer if form else 0
    return render_memory(n_vertices, settings.width * settings.height * finer, round(frame))


def _mesh_settings(project: Project, settings: RenderSettings, meshing: Mapping[str, Any]) -> MeshSettings:
    """Return settings of meshing that give what is shown, and else are those of the project."""
    chosen = {"source": settings.source, "classes": settings.classes, "objects": settings.objects}
    if both := sorted(set(chosen) & set(meshing)):
        raise UsageError(f"what is shown is said once: set render.{both[0]}, not mesh.{both[0]}")
    return mesh_settings(project, {**meshing, **chosen})


def _check(project: Project, settings: RenderSettings, classes: Sequence[str]) -> None:
    if unknown := sorted((set(settings.colours) | set(settings.opacity)) - set(classes)):
        raise UsageError(f"nothing of {', '.join(unknown)} is shown; there are {', '.join(classes)}")
    if not (settings.planes or settings.movie == "slices"):
        return
    shape = project.image.shape
    for axis, number in settings.planes.items():
        n = shape["zyx".index(axis)]
        if not 0 <= number < n:
            raise UsageError(f"render.planes: there is no slice {number} along {axis}; expected 0 to {n - 1}")


def _form(settings: RenderSettings, options: Options) -> str:
    """Return the format of the movie: "mp4", "gif", or "" for none."""
    if settings.movie == "none":
        return ""
    if settings.movie_format == "mp4" and find_ffmpeg() is None:
        options.notify(
            "render: no ffmpeg is on the PATH, so the movie is written as GIF; for MP4 install ffmpeg (your system's "
            "packages, or pip install imageio-ffmpeg)"
        )
        return "gif"
    return settings.movie_format


def _scene(
    project: Project, meshes: Mapping[str, MeshStore], settings: RenderSettings, parents: pd.DataFrame | None
) -> Scene:
    solids = []
    for index, (name, store) in enumerate(meshes.items()):
        if len(store):
            opacity = _opacity(name, list(meshes), settings)
            usual = CELL_COLOUR if opacity < 1 and name == "cell" else usual_colour(project, name, index)
            colours = _colours((name, usual), store, settings, parents)
            solids.append(solid([store[row] for row in range(len(store))], colours, opacity))
    planes = tuple(image_plane(project, axis, number) for axis, number in settings.planes.items())
    reach = 0.045 * min(settings.width, settings.height)
    look = Look(GROUNDS[settings.background], settings.shade, reach, settings.outlines)
    return Scene(tuple(solids), planes, look, settings.samples)


def _opacity(name: str, names: Sequence[str], settings: RenderSettings) -> float:
    if name in settings.opacity:
        return settings.opacity[name]
    if f"{name}{SUFFIX}" in names:
        return GLASS["nucleus"]
    if len(names) == 1 or (name == settings.nucleus and not any(one.startswith("nucleol") for one in names)):
        return 1.0
    return GLASS.get("nucleus" if name == settings.nucleus else name, 1.0)


def _colours(
    of_class: tuple[str, str], store: MeshStore, settings: RenderSettings, parents: pd.DataFrame | None
) -> np.ndarray:
    """Return the colour of every object, float32 ``(n, 3)``, 0–1; the usual one of a class stands beside its name."""
    name, usual = of_class
    if settings.colour_by == "class" or name in settings.colours:
        one = settings.colours.get(name, usual)
        return np.tile(np.array(rgb(one), np.float32) / 255, (len(store), 1))
    return object_colours(name, store.ids, parents)


def image_plane(project: Project, axis: str, number: int) -> Plane:
    """Return a slice of the image, by its number along z, y or x at full size, at a level that a picture can show.

    Grey values are stretched from their 1st to their 99th percentile.
    """
    along = "zyx".index(axis)
    full = project.image
    rest = [i for i in range(3) if i != along]
    level = 0
    while level + 1 < n_levels(project.image_path) and max(_shape(project, level)[i] for i in rest) > MOST_PIXELS:
        level += 1
    volume = open_volume(project.image_path, level)
    grid = volume.grid
    place = full.grid.origin[along] + number * full.grid.voxel_size[along]
    index = min(volume.shape[along] - 1, max(0, round((place - grid.origin[along]) / grid.voxel_size[along])))
    low, high = [0, 0, 0], list(volume.shape)
    low[along], high[along] = index, index + 1
    values = volume.read(Box((low[0], low[1], low[2]), (high[0], high[1], high[2]))).squeeze(along).astype(np.float32)
    dark, bright = np.percentile(values, (1, 99))
    grey = np.clip((values - dark) / max(bright - dark, 1e-6), 0, 1)
    u, v = rest[1], rest[0]
    return Plane(
        2 - along,
        float(place),
        np.rint(grey * 255).astype(np.uint8),
        (grid.origin[u], grid.origin[v]),
        (grid.voxel_size[u], grid.voxel_size[v]),
    )


def _shape(project: Project, level: int) -> tuple[int, int, int]:
    return open_volume(project.image_path, level).shape


def _take(scene: Scene, frame: Frame, with_bar: bool) -> np.ndarray:
    picture = take_picture(scene.solids, frame.planes, frame.camera, scene.look, scene.samples)
    size, growth = frame.camera.nm_per_px
    return add_scale_bar(picture, size) if with_bar and growth == 0 else picture


def _film(project: Project, scene: Scene, run: Run, settings: RenderSettings, options: Options, form: str) -> str:
    """Take all frames that are not there yet, and write the movie; return the name of its file."""
    folder = run.path / ".frames"
    folder.mkdir(exist_ok=True)
    size = settings.movie_width, max(2, round(settings.movie_width * settings.height / settings.width))
    reach = 0.045 * min(size)
    scene = replace(scene, look=replace(scene.look, reach_px=reach))
    n = max(2, round(settings.seconds * settings.frames_per_second))
    frames = _frames(project, scene, settings, size, n)
    paths = [folder / f"{i:05}.png" for i in range(n)]

    def work(i: int) -> None:
        _save(paths[i], _take(scene, frames(i), settings.scale_bar))

    missing = [i for i in range(n) if not paths[i].is_file()]
    progress = options.progress("film")
    for done, _ in enumerate(options.crew(folder).unordered(work, missing), n - len(missing) + 1):
        progress(done, n)
    path = run.path / f"movie.{form}"
    if form == "mp4":
        write_mp4(path, _read(paths), settings.frames_per_second, str(find_ffmpeg()))
    else:
        write_gif(path, _read(paths), settings.frames_per_second)
    shutil.rmtree(folder)
    return path.name


def _frames(
    project: Project, scene: Scene, settings: RenderSettings, size: tuple[int, int], n: int
) -> Callable[[int], Frame]:
    """Return a function that gives the frame of a number from 0 to n - 1."""
    points = bounds(scene.solids, scene.planes)
    turns = [(settings.azimuth + 360 * i / n, settings.elevation) for i in range(n)]
    if settings.movie == "turntable":
        camera = fit(points, size, turns)
        camera = replace(camera, height_nm=camera.height_nm / settings.zoom)
        return lambda i: Frame(replace(camera, azimuth=turns[i][0]), scene.planes)
    if settings.movie == "slices":
        depth = project.image.shape[0]
        ends = (image_plane(project, "z", 0), image_plane(project, "z", depth - 1))
        camera = fit(bounds(scene.solids, (*scene.planes, *ends)), size, turns[:1])
        camera = replace(camera, height_nm=camera.height_nm / settings.zoom)
        return lambda i: Frame(
            camera, (*scene.planes, image_plane(project, "z", round((depth - 1) * (1 - i / (n - 1)))))
        )
    return lambda i: Frame(_flight(points, size, settings, i / (n - 1)), scene.planes)


def _flight(points: np.ndarray, size: tuple[int, int], settings: RenderSettings, part: float) -> Camera:
    """Return the view at a part of the way: from outside, through the middle, to the other side, turning slowly."""
    whole = fit(points, size, [(settings.azimuth, settings.elevation)])
    smooth = part * part * (3 - 2 * part)
    camera = replace(whole, azimuth=settings.azimuth + 50 * smooth, distance_nm=whole.height_nm * 1.1)
    ahead = camera.axes[2]
    reach = float(np.abs((points - points.mean(axis=0)) @ ahead).max())
    moved = np.array(whole.target) + ahead * (smooth * (camera.distance_nm or 0.0) + (smooth - 0.5) * 0.6 * reach)
    x, y, z = moved.tolist()
    return replace(camera, target=(x, y, z))


def _save(path: Path, picture: np.ndarray) -> None:
    """Write a picture so that a kill leaves none or all of it."""
    partial = path.with_name(f".{path.stem}.partial.png")
    Image.fromarray(picture).save(partial)
    partial.replace(path)


def _read(paths: Sequence[Path]) -> Iterator[np.ndarray]:
    for path in paths:
        try:
            with Image.open(path) as frame:
                yield np.asarray(frame)
        except OSError as error:
            raise DataError(f"{path} is damaged ({error}); run cristae render again with --force") from error
