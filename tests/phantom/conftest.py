"""Small scenes that the phantom's tests share."""

import numpy as np
import pytest

from cristae.geometry import Box
from cristae.phantom import PhantomSettings, build_scene, image, labels


@pytest.fixture(scope="session")
def settings():
    return PhantomSettings(shape=(48, 384, 384), seed=0)


@pytest.fixture(scope="session")
def scene(settings):
    return build_scene(settings)


@pytest.fixture(scope="session")
def whole(settings):
    return Box((0, 0, 0), settings.shape)


@pytest.fixture(scope="session")
def truth(scene, whole):
    found = labels(scene, whole)
    for array in found.values():
        array.flags.writeable = False
    return found


@pytest.fixture(scope="session")
def picture(scene, whole):
    made = image(scene, whole)
    made.flags.writeable = False
    return made


@pytest.fixture(scope="session")
def in_cell(truth):
    """Cytoplasm: in a cell, in no organelle."""
    return (truth["cell"] > 0) & ~np.any([truth[name] > 0 for name in truth if name != "cell"], axis=0)
