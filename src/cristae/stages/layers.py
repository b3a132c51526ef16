"""Layers that a prediction leaves in its run: how they are called, and how to open them."""

from __future__ import annotations

from cristae.errors import DataError
from cristae.io.ome_zarr import open_volume
from cristae.project import Run
from cristae.volume import Volume


def disagreement_of(name: str) -> str:
    """Return the name of the layer that says how far two networks are apart on a class."""
    return f"{name}_disagreement"


def disagreeing(predicted: Run) -> tuple[str, ...]:
    """Return the classes of a prediction of which it noted how far two networks are apart."""
    noted = {str(name) for name in predicted.manifest.get("disagreement", ())}
    return tuple(str(name) for name in predicted.manifest.get("classes", ()) if disagreement_of(str(name)) in noted)


def open_layer(predicted: Run, name: str, level: int = 0) -> Volume:
    """Open a layer of a prediction: ``<class>`` (probability × 255), or that of a disagreement.

    Raises
    ------
    DataError
        If it is missing.
    """
    path = predicted.path / f"{name}.ome.zarr"
    if not path.is_dir():
        raise DataError(f"{path} is missing, so the prediction is incomplete; run cristae predict again with --force")
    return open_volume(path, level)
