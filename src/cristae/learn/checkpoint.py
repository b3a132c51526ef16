"""Weights and checkpoints on disk: safetensors with JSON, never pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from cristae.errors import DataError
from cristae.learn.histogram import UNCHANGED, Curve
from cristae.nets.contract import Build, Size
from cristae.nets.pair import Pair
from cristae.nets.registry import build_network


@dataclass(frozen=True)
class Tensors:
    """Named tensors and the facts that belong to them."""

    values: dict[str, Tensor]
    facts: dict[str, Any]


@dataclass(frozen=True)
class Model:
    """All that is needed to apply a trained network, beside its weights.

    Parameters
    ----------
    network
        Name in the registry.
    size, base_width, tile_px
        See `cristae.nets.contract.Build`.
    classes
        Meaning of the output maps.
    reduction, neighbours
        See `cristae.learn.patches.View`.
    voxel_size_nm
        Of the volume it was trained on.
    n_networks
        2 for a `cristae.nets.pair.Pair`.
    grey
        How the grey values of the slices it learnt from are distributed: see `cristae.learn.histogram.quantiles`.
    curve
        What it does to the grey values of the volume it is for.
    """

    network: str
    size: Size
    base_width: int
    tile_px: int
    classes: tuple[str, ...]
    reduction: int
    neighbours: int
    voxel_size_nm: tuple[float, float, float]
    n_networks: int = 1
    grey: tuple[float, ...] = ()
    curve: Curve = UNCHANGED

    @property
    def build(self) -> Build:
        """What the network was built for."""
        return Build(2 * self.neighbours + 1, len(self.classes), self.size, self.base_width, self.tile_px)

    @property
    def pixel_nm(self) -> float:
        """Side of the pixels that it learnt from, in nm."""
        return self.reduction * min(self.voxel_size_nm[1:])


def save_checkpoint(path: Path, values: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors and facts in one file, so that a crash leaves either the old file or the new."""
    partial = path.with_name(f".{path.name}.partial")
    tensors = {key: value.detach().contiguous().cpu().clone() for key, value in values.items()}
    save_file(tensors, partial, metadata={"facts": json.dumps(facts)})
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def load_checkpoint(path: Path) -> Tensors | None:
    """Return what `save_checkpoint` wrote, or None if there is no such file.

    Raises
    ------
    DataError
        If the file is damaged.
    """
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {}).get("facts", "{}"))
            return Tensors({key: file.get_tensor(key) for key in file.keys()}, facts)  # noqa: SIM118
    except (SafetensorError, json.JSONDecodeError, OSError) as error:
        raise DataError(f"{path} is damaged ({error}); delete it and train again") from error


def save_model(folder: Path, model: Model, network: nn.Module) -> None:
    """Write ``weights.safetensors`` and ``model.json`` to `folder`."""
    save_checkpoint(folder / "weights.safetensors", network.state_dict(), {})
    (folder / "model.json").write_text(json.dumps(asdict(model), indent=1) + "\n")


def read_model(folder: Path) -> Model:
    """Read the description that `save_model` wrote.

    Raises
    ------
    DataError
        If it is missing or damaged.
    """
    try:
        content = json.loads((folder / "model.json").read_text())
        lists = {name: tuple(content[name]) for name in ("classes", "voxel_size_nm")}
        lists["grey"] = tuple(content.get("grey", ()))
        curve = Curve(**{name: tuple(values) for name, values in content.get("curve", {}).items()})
        return Model(**content | lists | {"curve": curve})
    except (OSError, json.JSONDecodeError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{folder} holds no trained network: model.json is missing or damaged ({error})") from error


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Read the weights that `save_model` wrote.

    Raises
    ------
    DataError
        If they are missing or damaged.
    """
    tensors = load_checkpoint(folder / "weights.safetensors")
    if tensors is None:
        raise DataError(f"{folder} holds no trained network: weights.safetensors is missing; train again")
    return tensors.values


def load_model(folder: Path, device: torch.device | str = "cpu") -> tuple[Model, nn.Module]:
    """Read what `save_model` wrote: the description, and the network ready to predict.

    Raises
    ------
    DataError
        If files are missing or damaged, or the weights belong to another network or class list.
    """
    model, weights = read_model(folder), read_weights(folder)
    several = [build_network(model.network, model.build) for _ in range(model.n_networks)]
    network = several[0] if len(several) == 1 else Pair(several)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        first = str(error).splitlines()[0]
        raise DataError(f"the weights in {folder} do not fit its model.json ({first}); train again") from error
    return model, network.eval().to(device)
