"""cristae: from a volume electron-microscopy stack and a few hand-labelled slices to segmented, measured organelles.

Every verb of the command line is a function here; see `cristae.api`. Names are loaded when they are first used, so that
importing cristae is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cristae.annotations import IGNORE, Annotations
    from cristae.api import (
        adapt,
        advise,
        align,
        apply_corrections,
        cells,
        check,
        compare,
        correct,
        cross_validate,
        doctor,
        equalise,
        evaluate,
        exclude_slices,
        export,
        feed_corrections,
        find_parents,
        import_changes,
        import_image,
        import_labels,
        import_truth,
        init,
        make_phantom,
        measure,
        mesh,
        objects,
        plan,
        predict,
        quality,
        render,
        run,
        sample,
        samples,
        status,
        study_cells,
        study_networks,
        track,
        train,
        use_image,
        write_report,
    )
    from cristae.errors import CristaeError, DataError, ResourceError, UsageError
    from cristae.geometry import Box, Grid
    from cristae.project import Project, Run
    from cristae.stages.options import Options
    from cristae.volume import Volume

_HOMES = {
    "api": (
        "adapt",
        "advise",
        "align",
        "apply_corrections",
        "cells",
        "check",
        "compare",
        "correct",
        "cross_validate",
        "doctor",
        "equalise",
        "evaluate",
        "exclude_slices",
        "export",
        "feed_corrections",
        "find_parents",
        "import_changes",
        "import_image",
        "import_labels",
        "import_truth",
        "init",
        "make_phantom",
        "measure",
        "mesh",
        "objects",
        "plan",
        "predict",
        "quality",
        "render",
        "run",
        "sample",
        "samples",
        "status",
        "study_cells",
        "study_networks",
        "track",
        "train",
        "use_image",
        "write_report",
    ),
    "annotations": ("IGNORE", "Annotations"),
    "errors": ("CristaeError", "DataError", "ResourceError", "UsageError"),
    "geometry": ("Box", "Grid"),
    "project": ("Project", "Run"),
    "stages.options": ("Options",),
    "volume": ("Volume",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "IGNORE",
    "Annotations",
    "Box",
    "CristaeError",
    "DataError",
    "Grid",
    "Options",
    "Project",
    "ResourceError",
    "Run",
    "UsageError",
    "Volume",
    "adapt",
    "advise",
    "align",
    "apply_corrections",
    "cells",
    "check",
    "compare",
    "correct",
    "cross_validate",
    "doctor",
    "equalise",
    "evaluate",
    "exclude_slices",
    "export",
    "feed_corrections",
    "find_parents",
    "import_changes",
    "import_image",
    "import_labels",
    "import_truth",
    "init",
    "make_phantom",
    "measure",
    "mesh",
    "objects",
    "plan",
    "predict",
    "quality",
    "render",
    "run",
    "sample",
    "samples",
    "status",
    "study_cells",
    "study_networks",
    "track",
    "train",
    "use_image",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'cristae' has no attribute {name!r}")
    value = getattr(import_module(f"cristae.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
