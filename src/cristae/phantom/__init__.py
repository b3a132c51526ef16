"""An electron-microscopy phantom: a tumour biopsy of any size with exact truth, computed box by box.

`build_scene` places cells and organelles as a few analytic objects; `labels` and `image` compute any box of them, and
equal the same part of the whole, bit for bit. `render` also takes label volumes from elsewhere.
"""

from cristae.phantom.raster import labels
from cristae.phantom.render import image, render
from cristae.phantom.scene import Filopodium, Scene, build_scene
from cristae.phantom.settings import CLASSES, RENDER_HALO, PhantomSettings

__all__ = [
    "CLASSES",
    "RENDER_HALO",
    "Filopodium",
    "PhantomSettings",
    "Scene",
    "build_scene",
    "image",
    "labels",
    "render",
]
