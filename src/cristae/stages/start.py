"""Where the weights of a training come from, if not by chance: another training, or a pretrained encoder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from cristae.errors import DataError, UsageError
from cristae.learn.checkpoint import Model, read_model, read_weights
from cristae.learn.histogram import UNCHANGED, Curve
from cristae.learn.scale import like_reduction, reduction
from cristae.nets.contract import Build
from cristae.nets.pair import parts_of
from cristae.nets.registry import build_network
from cristae.project import Project, Run
from cristae.stages.options import Options
from cristae.stages.train_settings import TrainSettings

NOISE = 0.1
"""Of the weights of a second network that starts from the same ones: standard deviation, as a share of theirs."""
PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")
CONVERT = (
    "import torch; from safetensors.torch import save_file; "
    "save_file({k: v.contiguous() for k, v in torch.load('FILE', weights_only=True).items()}, 'FILE.safetensors')"
)


@dataclass(frozen=True)
class Source:
    """A finished training whose networks are taken up.

    Parameters
    ----------
    run
        Of a project that may be any.
    project
        Name of that project; empty where the run lies alone.
    digest
        The same networks, the same text.
    """

    run: Run
    project: str
    digest: str

    @property
    def name(self) -> str:
        """Project and run in one word, without any path."""
        return f"{self.project}/{self.run.stage}-{self.run.id}" if self.project else f"{self.run.stage}-{self.run.id}"

    @property
    def folders(self) -> dict[str, Path]:
        """Folder of each network by its name."""
        return {name: self.run.path / name for name in self.run.manifest["groups"]}

    @property
    def facts(self) -> dict[str, str]:
        """What a manifest says of it."""
        return {"project": self.project, "run": self.run.id, "digest": self.digest}

    def curve_for(self, project: Project, model: Model) -> Curve:
        """Return the curve of a model if it was made for the image of `project`; one for another says nothing."""
        image = str(self.run.manifest.get("inputs", {}).get("image"))
        # Behind the digest may stand which slices were left out.
        return model.curve if image.split(" ", maxsplit=1)[0] == str(project.image_facts.get("digest")) else UNCHANGED


def boundary_nm(trained: Run) -> float | None:
    """Return how wide the boundaries of cells are that networks learnt; None where the run does not say."""
    # An adapted run has settings of its own, and notes what the training said that it comes from.
    width = trained.settings.get("boundary_nm", trained.manifest.get("boundary_nm"))
    return None if width is None else float(width)


def find_source(where: str, project: Project) -> Source:
    """Return the training at a path: of a project the one that finished last, or the run itself.

    Raises
    ------
    UsageError
        If there is neither, it is a run of another stage, or `project` itself is named, whose last run this one is
        about to be.
    DataError
        If nothing has been trained there, it has not finished, or files are missing.
    """
    path = Path(where).expanduser()
    if (path / "project.toml").is_file():
        if path.resolve() == project.path.resolve():
            raise UsageError(f"{where} is this project itself; name one of its runs, such as {where}/runs/train-…")
        latest = Project.open(path).latest("train")
        if latest is None:
            raise DataError(f"{where} has no trained network yet; train one with: cristae train {where}")
        return _source(latest, where)
    if not (path / "manifest.json").is_file():
        raise UsageError(f"{where}: expected the folder of a project or of a train run in it (runs/train-…)")
    facts = Run(path, "train", "").manifest
    if facts.get("stage") != "train":
        raise UsageError(f"{where} is a run of {facts.get('stage')}; expected one of train")
    if facts.get("status") != "finished":
        raise DataError(f"the training in {where} has not finished ({facts.get('status')}); finish it first")
    return _source(Run(path, "train", str(facts.get("id"))), where)


def _source(run: Run, where: str) -> Source:
    groups = run.manifest.get("groups")
    if not isinstance(groups, list) or not groups or any(Path(str(name)).name != name for name in groups):
        raise DataError(f"{where}: its manifest names no networks; train again")
    total = hashlib.blake2b(digest_size=16)
    for name in groups:
        for file in ("model.json", "weights.safetensors"):
            try:
                total.update((run.path / name / file).read_bytes())
            except OSError as error:
                raise DataError(f"{where} holds no trained network: {name}/{file} is missing; train again") from error
    folder = run.path.resolve().parent.parent
    return Source(run, folder.name if (folder / "project.toml").is_file() else "", total.hexdigest())


@dataclass(frozen=True)
class Beginning:
    """What the weights of a training come from.

    Parameters
    ----------
    settings
        As asked for, with the run itself in place of a project whose latest run may soon be another.
    anonymous
        The same without paths: what a run is, together with `inputs`, does not depend on where files lie.
    named
        The same with names for paths, to be kept.
    inputs
        Digests of what is taken up.
    facts
        For the manifest.
    """

    settings: TrainSettings
    anonymous: TrainSettings
    named: TrainSettings
    inputs: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, object] = field(default_factory=dict)


def beginning(project: Project, settings: TrainSettings) -> Beginning:
    """Find what a training starts from.

    Raises
    ------
    UsageError, DataError
        See `find_source`; also if an encoder is asked for too, or its file is none of safetensors.
    """
    if settings.start and settings.encoder:
        raise UsageError("train.start brings all weights, those of the encoder too; leave out train.encoder")
    if settings.start:
        source = find_source(settings.start, project)
        return Beginning(
            settings.model_copy(update={"start": str(source.run.path)}),
            settings.model_copy(update={"start": ""}),
            settings.model_copy(update={"start": source.name}),
            {"start": source.digest},
            {"start": source.facts},
        )
    if settings.encoder:
        path = _encoder_file(settings.encoder)
        digest = hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
        return Beginning(
            settings,
            settings.model_copy(update={"encoder": ""}),
            settings.model_copy(update={"encoder": path.name}),
            {"encoder": digest},
            {"encoder": {"file": path.name, "digest": digest}},
        )
    return Beginning(settings, settings, settings)


@dataclass(frozen=True)
class Origin:
    """A network that another one starts from: what it is, its weights, and its curve where that fits the image."""

    folder: Path
    model: Model
    curve: Curve


def origin_of(project: Project, settings: TrainSettings, names: Sequence[str]) -> Origin | None:
    """Return the network that one of `names` starts from, if any.

    Raises
    ------
    DataError
        If there is none with these output maps.
    UsageError
        If it is another kind of network than the settings ask for.
    """
    if not settings.start:
        return None
    source = find_source(settings.start, project)
    models = {folder: read_model(folder) for folder in source.folders.values()}
    fitting = [(folder, model) for folder, model in models.items() if set(model.classes) == set(names)]
    if not fitting:
        there = "; ".join(", ".join(model.classes) for model in models.values())
        raise DataError(
            f"{source.name} has weights of another class list: {there}. This training is of {', '.join(names)}; "
            "choose by train.classes and train.separate, or name classes alike"
        )
    folder, model = fitting[0]
    differing = [
        f"train.{name} is {getattr(settings, name)!r} here and {there!r} there"
        for name, there in (("network", model.network), ("size", model.size), ("neighbours", model.neighbours))
        if getattr(settings, name) != there
    ]
    if differing:
        raise UsageError(f"{source.name} has weights of another network: {'; '.join(differing)}")
    return Origin(folder, model, source.curve_for(project, model))


def reduction_of(project: Project, settings: TrainSettings, origin: Origin | None, options: Options) -> int:
    """Return by how much slices are reduced, and tell: to the context asked for, or to the pixels of the origin."""
    grid = project.image.grid
    if origin is None:
        return reduction(grid, settings.tile_px, settings.context_nm)
    return alike(project, origin.model, options)


def alike(project: Project, model: Model, options: Options) -> int:
    """Return the reduction by which slices of `project` look as those did that a network learnt from, and tell."""
    grid = project.image.grid
    factor = like_reduction(grid, model.pixel_nm)
    pixel = factor * min(grid.voxel_size[1:])
    off = max(pixel / model.pixel_nm, model.pixel_nm / pixel)
    options.notify(
        f"slices are reduced by {factor} to pixels of {pixel:g} nm: the network learnt from pixels of "
        f"{model.pixel_nm:g} nm, and train.context_nm is not looked at"
        + ("; that is far off, and it may find little" if off > 1.5 else "")
    )
    return factor


def start(network: nn.Module, settings: TrainSettings, origin: Origin | None, names: Sequence[str]) -> None:
    """Give a network, or a pair, the weights that the settings ask for; without any it stays as it is."""
    if origin:
        take_up(network, origin, names, settings.seed)
    elif settings.encoder:
        _take_encoder(network, settings)


def take_up(network: nn.Module, origin: Origin, names: Sequence[str], seed: int) -> None:
    """Give a network, or a pair, the weights of another, with output maps in the order of `names`.

    A pair starts a pair, and the first of a pair a single network. One network starts both of a pair, the second with
    a little noise on its weights: two that are the same would teach each other nothing, and stay the same. Noise rather
    than a new head, for a network with a new head knows nothing, and without labels would never learn better.

    Raises
    ------
    DataError
        If weights are damaged, or of another shape.
    """
    given = _separated(read_weights(origin.folder), origin.model.n_networks)
    if tuple(names) != origin.model.classes:
        given = [_reordered(one, origin.model, names) for one in given]
    for i, part in enumerate(parts_of(network)):
        weights = given[i] if i < len(given) else jittered(given[0], seed)
        try:
            part.load_state_dict(weights)
        except RuntimeError as error:
            first = " ".join(" ".join(str(error).splitlines()[1:2]).split()) or str(error)
            raise DataError(
                f"the weights are of another network, with base_width {origin.model.base_width} and tile_px "
                f"{origin.model.tile_px}: {first}; set train.base_width and train.tile_px as they were there"
            ) from error


def jittered(weights: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Return weights with noise on them, of `NOISE` times their spread; normalisations and offsets stay as they are."""
    generator = torch.Generator().manual_seed(seed + 1)
    changed = {}
    for name, value in weights.items():
        if value.is_floating_point() and value.ndim > 1:
            drawn = torch.randn(value.shape, generator=generator)
            changed[name] = value + NOISE * value.std(correction=0) * drawn.to(value)
        else:
            changed[name] = value
    return changed


def _separated(weights: dict[str, Tensor], n_networks: int) -> list[dict[str, Tensor]]:
    """Return the weights of each network of a pair, or of the network alone."""
    if n_networks == 1:
        return [weights]
    starts = [f"networks.{i}." for i in range(n_networks)]
    return [{key.removeprefix(one): value for key, value in weights.items() if key.startswith(one)} for one in starts]


def _reordered(weights: dict[str, Tensor], model: Model, names: Sequence[str]) -> dict[str, Tensor]:
    """Return weights with output maps in the order of `names`: those of all heads, where each row is of one class."""
    order = [model.classes.index(name) for name in names]
    wider = _shapes(model, len(names) + 1)
    changed = dict(weights)
    for name, value in weights.items():
        shape = wider.get(name)
        if shape == tuple(value.shape):
            continue
        if shape is None or shape != (value.shape[0] + 1, *value.shape[1:]) or value.shape[0] != len(names):
            raise DataError(
                f"output maps of {model.network} cannot be put into another order: those there are "
                f"{', '.join(model.classes)}, here {', '.join(names)}; set train.classes in that order"
            )
        changed[name] = value[order]
    return changed


def _shapes(model: Model, n_classes: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors of such a network with another number of output maps."""
    build = model.build
    other = Build(build.n_channels, n_classes, build.size, build.base_width, build.tile_px)
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        network = build_network(model.network, other)
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def _encoder_file(where: str) -> Path:
    """Return the file of pretrained weights, if it is one that can be read without running what is in it."""
    path = Path(where).expanduser()
    if path.suffix.lower() in PICKLES:
        raise UsageError(
            f"{path.name} is a pickle, which can run any code when it is opened; cristae reads safetensors alone. "
            f'Convert it where you trust it: python -c "{CONVERT}"'
        )
    if not path.is_file():
        raise UsageError(f"train.encoder: there is no file {where}; expected one of safetensors")
    return path


def encoder_of(network: nn.Module, settings: TrainSettings) -> Callable[[Mapping[str, Tensor]], None]:
    """Return what takes the tensors of a pretrained encoder.

    Raises
    ------
    UsageError
        If the network takes none.
    """
    load: Callable[[Mapping[str, Tensor]], None] | None = getattr(network, "load_encoder", None)
    if load is None:
        raise UsageError(
            f"{settings.network} takes no pretrained encoder; leave out train.encoder, or train a network that "
            "does, such as unetplusplus, transunet or setr_pup"
        )
    return load


def _take_encoder(network: nn.Module, settings: TrainSettings) -> None:
    path = _encoder_file(settings.encoder)
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path.name} is a corrupt safetensors file, or none ({error}); fetch it again") from error
    for part in parts_of(network):
        load = encoder_of(part, settings)
        try:
            load(tensors)
        except ValueError as error:
            raise DataError(f"{path.name} does not fit {settings.network} of size {settings.size}: {error}") from error
