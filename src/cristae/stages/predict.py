"""`cristae predict`: apply the trained networks to every slice."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import psutil
from pydantic import BaseModel, ConfigDict, Field
from scipy.ndimage import convolve1d

from cristae.blockwise import Execution, Journal, map_blocks
from cristae.costs.memory import prediction_blocks
from cristae.costs.work import Network, Work
from cristae.errors import DataError, ResourceError
from cristae.files import copy_folder
from cristae.geometry import Block, Grid, Voxels
from cristae.io.ome_zarr import SHARD, Each, build_pyramid, create_volume, open_volume, register_labels
from cristae.learn.engines import EngineName, describe_engine, resolve_engine
from cristae.learn.infer import SlabPredictor
from cristae.learn.turned import ORDERS, turn_back
from cristae.project import Project, Run
from cristae.settings import resolve_settings
from cristae.stages.layers import disagreement_of
from cristae.stages.limits import keep_memory
from cristae.stages.networks import AxisPredictor, Order, Tiles, prepare
from cristae.stages.options import Options
from cristae.stages.schemes import choose_device
from cristae.volume import Kind, Volume


class PredictSettings(BaseModel):
    """Settings of `cristae predict`. Lengths in network pixels (px) are counted after reduction."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: float = Field(0.5, gt=0, lt=1, description="probability from which on a voxel is the class")
    views: Literal[1, 4, 8] = Field(1, description="mirrored and turned versions averaged; each costs the time of one")
    axes: Literal["z", "all"] = Field(
        "z", description="which slices the network sees: z-slices, or y- and x-slices too, at three times the time"
    )
    smooth_z: float = Field(0.7, ge=0, le=10, description="Gaussian smoothing along z, standard deviation in slices")
    tile_px: int = Field(1152, ge=64, description="largest side of a tile in px")
    overlap_px: int = Field(64, ge=0, description="smallest overlap of neighbouring tiles in px")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto takes CUDA where there is some")
    engine: EngineName = Field(
        "auto",
        description="what runs the network: torch, openvino (faster on CPUs, an extra), openvino-int8 (8 bits, where "
        "the Dice on labelled slices holds); auto is openvino where it is installed and there is no CUDA, else torch",
    )
    max_ram_gb: float = Field(
        4.0, gt=0, description="memory that blocks in flight may take in each process, beside the network"
    )


def predict_settings(project: Project, changes: Mapping[str, Any]) -> PredictSettings:
    """Return the settings of a prediction: defaults, then project file, then `changes`."""
    return resolve_settings(PredictSettings, project.stage_settings("predict"), changes)


def predict(project: Project, settings: PredictSettings | None = None, options: Options | None = None) -> Run:
    """Predict every class in every slice with the networks trained last.

    Writes ``<class>.ome.zarr`` (uint8 probability × 255) with the mask under its ``labels/``, and the masks under
    ``image.ome.zarr/labels`` for viewers. Of two networks that taught each other it also writes
    ``<class>_disagreement.ome.zarr`` (uint8 difference of their probabilities × 255). A killed prediction goes on with
    the block it was at.

    Raises
    ------
    DataError
        If nothing has been trained.
    ResourceError
        If CUDA or OpenVINO is asked for and absent, the disk is full, or the project is in use.
    """
    settings, options = settings or predict_settings(project, {}), options or Options()
    trained = project.latest("train")
    if trained is None:
        raise DataError(f"{project.path} has no trained network yet; train one with: cristae train {project.path}")
    image = project.image
    engine = resolve_engine(settings.engine, choose_device(settings.device))
    inputs = {"image": project.image_fingerprint, "train": trained.id, "weights": trained.manifest["weights"]}
    if engine != "torch":  # another engine may round otherwise: what it predicts is another run
        inputs["engine"] = describe_engine(engine)
    # Memory decides in which blocks the work is done, not what comes out, so it is no part of what a run is.
    run = project.run("predict", settings.model_copy(update={"max_ram_gb": None}), inputs)
    if run.finished and not options.force:
        _show_again(project, run)
        options.notify(f"predict: nothing to do, {run.path.name} is finished (do it again with --force)")
        return run
    options.check()
    settings, options = keep_memory("predict", project, settings, options)
    with project.lock(), project.record(run, settings, inputs):
        if options.force:
            _clear(run)
        classes = list(trained.manifest["classes"])
        options.notify(
            f"predict: {', '.join(classes)} in {' × '.join(map(str, image.shape))} voxels of "
            f"{' × '.join(f'{size:g}' for size in image.grid.voxel_size)} nm (z, y, x), by {engine}"
        )
        engines = {
            group: _predict_group(project, run, (trained, group), (settings, engine), options)
            for group in trained.manifest["groups"]
        }
        each = options.crew(run.path).unordered
        unsure = [name for name in map(disagreement_of, classes) if (run.path / f"{name}.ome.zarr").is_dir()]
        for name in classes:
            _finish(run.path / f"{name}.ome.zarr", project.image_path / "labels" / name, each)
        for name in unsure:
            build_pyramid(run.path / f"{name}.ome.zarr", each)
            _drop_raw(run.path, name)
        facts = {"train_run": trained.path.name, "classes": classes, "threshold": settings.threshold}
        run.update(**facts, disagreement=unsure, engines=engines)
    return run


def _show_again(project: Project, run: Run) -> None:
    """Put the masks of a finished run beside the image where those of another run, or none, are now."""
    names, shown = run.manifest["classes"], project.image_path / "labels"
    if project.latest("predict") != run or not all((shown / name).is_dir() for name in names):
        with project.lock():
            for name in names:
                publish(run.path / f"{name}.ome.zarr" / "labels" / name, shown / name)
        project.ask_again(run)


def _predict_group(
    project: Project, run: Run, network_of: tuple[Run, str], how: tuple[PredictSettings, EngineName], options: Options
) -> dict[str, Any]:
    """Predict the classes of one network: probabilities, then smoothing along z and masks.

    Return what the manifest says of the engine.
    """
    (trained, name), (settings, wanted) = network_of, how
    order = Order(
        project=project,
        trained=trained,
        name=name,
        tiles=Tiles(settings.tile_px, settings.overlap_px, settings.views),
        threshold=settings.threshold,
        engine=wanted,
        optional=settings.engine == "auto",
        device=choose_device(settings.device).type,
        stored=run.path / f"{name}.int8.json",
    )
    prepared = prepare(order, options.notify)
    classes, image = prepared.group.model.classes, project.image
    axes = ("z",) if settings.axes == "z" else tuple(ORDERS)
    unsure = tuple(map(disagreement_of, classes)) if prepared.group.inference.disagreement else ()
    raw: dict[str, list[Volume]] = {one: [] for one in (*classes, *unsure)}
    max_ram_gb = settings.max_ram_gb / options.crew(run.path).alone().n_together
    for axis in axes:
        predictor = AxisPredictor(order, axis, prepared)
        turned = predictor.image
        block = block_shape(turned, predictor.slabs, len(raw), max_ram_gb)
        layers = [_layer(run.path / f".{one}.raw-{axis}.ome.zarr", turned.grid, "probability") for one in raw]
        task = f"predict {name}" if len(axes) == 1 else f"predict {name} along {axis}"
        journal = Journal(run.path / f"{name}.blocks.{axis}")
        map_blocks(
            predictor,
            [turned],
            layers,
            block_shape=block,
            halo=_halo(predictor.slabs.halo, block, turned.shape),
            execution=Execution(options.executor, options.progress(task), journal, busy=True),
        )
        for one, layer in zip(raw, layers, strict=True):
            raw[one].append(turn_back(layer, axis))
    finish = Smoothing(settings.smooth_z, settings.threshold, frozenset(prepared.group.view.missing))
    for one, sources in raw.items():
        path = run.path / f"{one}.ome.zarr"
        outputs = [_layer(path, image.grid, "probability")]
        if one not in unsure:
            outputs.append(_layer(path / "labels" / one, image.grid, "labels"))
        map_blocks(
            finish.without_mask if one in unsure else finish,
            sources,
            outputs,
            block_shape=SHARD,
            halo=(finish.reach, 0, 0),
            execution=Execution(
                options.executor, options.progress(f"smooth {one}"), Journal(run.path / f"{one}.blocks.smooth")
            ),
        )
    return prepared.facts


class Smoothing:
    """Block function: mean over the axes predicted along, Gaussian smoothing along z, then the mask.

    Slices that are missing, or bad, carry no weight; farther from all others than smoothing reaches, they are what was
    predicted from the slice that stands in for them.
    """

    def __init__(self, sigma: float, threshold: float, missing: frozenset[int]) -> None:
        self.sigma, self.missing = sigma, missing
        self.reach = int(np.ceil(3 * sigma)) if sigma > 0 else 0
        self.lowest = int(np.ceil(threshold * 255))

    def __call__(self, block: Block, *looks: np.ndarray) -> list[np.ndarray]:
        """Return smoothed uint8 probability and uint8 mask (1 the class) of the write box."""
        inner = block.write.within(block.read).slices
        probability: np.ndarray = looks[0] if len(looks) == 1 else np.stack(looks).mean(axis=0, dtype=np.float32)
        smooth = np.rint(probability[inner]).astype(np.uint8)
        if self.reach:
            kernel = np.exp(-0.5 * (np.arange(-self.reach, self.reach + 1) / self.sigma) ** 2).astype(np.float32)
            known = np.array(
                [z not in self.missing for z in range(block.read.start[0], block.read.stop[0])], np.float32
            )
            weight = convolve1d(known, kernel, mode="constant")[:, None, None]
            total = convolve1d(probability * known[:, None, None], kernel, axis=0, mode="constant")
            mean = np.where(weight > 0, total / np.maximum(weight, 1e-6), probability)
            smooth = np.rint(mean)[inner].astype(np.uint8)
        return [smooth, (smooth >= self.lowest).astype(np.uint8)]

    def without_mask(self, block: Block, *looks: np.ndarray) -> list[np.ndarray]:
        """Return the smoothed values alone."""
        return self(block, *looks)[:1]


def block_shape(image: Volume, predictor: SlabPredictor, n_classes: int, max_ram_gb: float) -> Voxels:
    """Return the largest block of whole shards whose reading, accumulating and writing stay within `max_ram_gb`.

    Whole slices are best, for no tile is computed twice; where a few of them do not fit they are cut along y and x.

    Raises
    ------
    ResourceError
        If not even one shard with its surrounding tiles fits.
    """
    budget = min(max_ram_gb * 2**30, 0.8 * psutil.virtual_memory().total)
    view = predictor.view
    network = Network(n_classes, view.n_channels, reduction=view.reduction)
    for block, held in prediction_blocks(Work(image.shape, image.dtype.itemsize), network, predictor.halo):
        if held <= budget:
            return _aligned(block)
    raise ResourceError(
        f"not even one block of {SHARD} voxels fits into {budget / 2**30:.1f} GB of memory; raise "
        "predict.max_ram_gb, or lower predict.tile_px"
    )


def _aligned(block: Voxels) -> Voxels:
    """Round up to whole shards, which blocks that span an axis need not be but may."""
    z, y, x = (-(-n // s) * s for n, s in zip(block, SHARD, strict=True))
    return z, y, x


def _halo(halo: Voxels, block: Voxels, shape: Voxels) -> Voxels:
    """Drop the halo along axes that a block spans."""
    z, y, x = (0 if n <= b else h for h, b, n in zip(halo, block, shape, strict=True))
    return z, y, x


def _layer(path: Path, grid: Grid, kind: Kind) -> Volume:
    """Open a layer of this run for writing, or make it."""
    if path.exists():
        try:
            return open_volume(path, mode="r+")
        except DataError:  # killed while it was being made, before any block
            shutil.rmtree(path)
    return create_volume(path, grid, np.uint8, kind)


def _finish(path: Path, published: Path, each: Each) -> None:
    """Build the pyramids, show the mask beside the image, and drop the unsmoothed probabilities."""
    build_pyramid(path, each)
    mask = path / "labels" / published.name
    register_labels(mask)  # a kill may have come between making it and entering it
    build_pyramid(mask, each)
    publish(mask, published)
    _drop_raw(path.parent, published.name)


def _drop_raw(folder: Path, name: str) -> None:
    for axis in ORDERS:
        shutil.rmtree(folder / f".{name}.raw-{axis}.ome.zarr", ignore_errors=True)


def publish(mask: Path, published: Path) -> None:
    """Show a mask beside the image."""
    partial = published.with_name(f".{published.name}.partial")
    for old in (partial, published):
        shutil.rmtree(old, ignore_errors=True)
    published.parent.mkdir(exist_ok=True)
    copy_folder(mask, partial)  # not linked: what people paint over here must not change the run
    partial.replace(published)
    register_labels(published)


def _clear(run: Run) -> None:
    """Remove the outputs of a run that is to be done again."""
    leftovers: Sequence[Path] = [*run.path.glob("*.ome.zarr"), *run.path.glob(".*.ome.zarr")]
    for path in leftovers:
        shutil.rmtree(path)
    for path in [*run.path.glob("*.blocks.*"), *run.path.glob("*.int8.json")]:
        path.unlink()
