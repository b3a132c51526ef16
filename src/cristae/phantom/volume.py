"""The phantom on disk: image and truth, block by block, of any size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cristae.blockwise import Execution, map_blocks
from cristae.geometry import Block
from cristae.io.ome_zarr import SHARD
from cristae.phantom import RENDER_HALO, Scene, labels, render
from cristae.phantom.settings import PhantomSettings
from cristae.volume import Volume

BLOCK = (3 * SHARD[0], *SHARD[1:])
"""Deep blocks, for a picture needs labels some slices beyond its own; about 2 GB of memory."""


def write_phantom(
    scene: Scene, image: Volume, layers: Mapping[str, Volume], execution: Execution | None = None
) -> None:
    """Compute a phantom block by block into an image and the label layers of the named classes.

    Parameters
    ----------
    scene
        What `cristae.phantom.build_scene` returned.
    image
        uint8, of the scene's shape.
    layers
        By class name (``cell`` and those of `cristae.phantom.CLASSES`), volumes of ids; 0 background.
    execution
        Executor, progress and journal.
    """
    map_blocks(
        PhantomBlock(scene, list(layers)),
        [],
        [image, *layers.values()],
        block_shape=BLOCK,
        execution=execution,
    )


class PhantomBlock:
    """Block function that needs no input: the image and the labels of a box of the scene."""

    def __init__(self, scene: Scene, names: Sequence[str]) -> None:
        self.scene, self.names = scene, names
        self.settings: PhantomSettings = scene.settings

    def __call__(self, block: Block) -> list[np.ndarray]:
        """Return the uint8 image and one uint32 array per name, each of shape ``block.write.shape``."""
        box = block.write.grow(RENDER_HALO)  # the tissue goes on beyond the volume
        found = labels(self.scene, box)
        inner = block.write.within(box).slices
        picture = render(found, box, self.settings)[inner]
        return [picture, *(found[name][inner] for name in self.names)]
