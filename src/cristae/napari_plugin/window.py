"""A project in napari: all layers, right scales, and the widgets of cristae at hand."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cristae.errors import CristaeError, ResourceError
from cristae.project import Project

WIDGETS = ("Label slices", "Proofread", "Correct", "Train and predict")
"""Names of the widgets, as the plugin states them."""

_TRY = "from qtpy.QtWidgets import QApplication; QApplication([])"


def has_display(environment: Mapping[str, str] = os.environ, platform: str = sys.platform) -> bool:
    """Say whether a window could be opened: there is a display, or the system always has one."""
    if platform in ("win32", "darwin"):
        return True
    return bool(environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"))


def has_napari() -> bool:
    """Say whether napari and a Qt for it are installed."""
    return all(importlib.util.find_spec(name) for name in ("napari", "qtpy")) and any(
        importlib.util.find_spec(name) for name in ("PySide6", "PyQt6", "PyQt5")
    )


def check_window() -> None:
    """See that a window can be opened.

    Raises
    ------
    ResourceError
        If napari is not installed, or there is no display.
    """
    if not has_napari():
        raise ResourceError(
            "napari is not installed; install it with: pip install 'cristae[napari]', or look at the project in a "
            "browser: cristae view PROJECT --neuroglancer"
        )
    if not has_display():
        raise ResourceError(
            "there is no display to open a window on (DISPLAY is not set); look at the project in a browser: "
            "cristae view PROJECT --neuroglancer, or write a report: cristae report PROJECT"
        )
    # Qt ends the process where it cannot open the display; so another one tries first.
    tried = subprocess.run([sys.executable, "-c", _TRY], capture_output=True, timeout=120, check=False)
    if tried.returncode:
        raise ResourceError(
            f"the display {os.environ.get('DISPLAY') or os.environ.get('WAYLAND_DISPLAY') or ''} cannot be opened; "
            "correct DISPLAY, or look at the project in a browser: cristae view PROJECT --neuroglancer"
        )


def open_window(project: Project, *, widgets: bool = True) -> Any:
    """Return a viewer of napari with all layers of a project; call ``napari.run()`` to let people work with it.

    Raises
    ------
    DataError
        If there is nothing to see.
    ResourceError
        If no window can be opened.
    """
    check_window()
    from cristae.napari_plugin.reader import read_project  # noqa: PLC0415  loads napari

    content = read_project(str(project.path))
    import napari  # noqa: PLC0415

    try:
        viewer: Any = napari.Viewer(title=f"cristae: {project.name}")
        for data, keywords, kind in content:
            (viewer.add_image if kind == "image" else viewer.add_labels)(data, **keywords)
    except CristaeError:
        raise
    except Exception as error:  # what goes wrong without GL has many names
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise ResourceError(
            f"napari could not open a window ({reason[0]}); it needs a display with OpenGL. Look at the project in a "
            f"browser: cristae view {project.path} --neuroglancer"
        ) from error
    viewer.dims.set_current_step(0, int(viewer.dims.nsteps[0]) // 2)
    viewer.canvas.overlays.scale_bar.visible = True
    _register()
    if widgets:
        for name in WIDGETS:
            viewer.window.add_plugin_dock_widget("cristae", name, tabify=True)
    return viewer


def _register() -> None:
    """See that napari knows the widgets of cristae, also where cristae runs without being installed."""
    from npe2 import PluginManager, PluginManifest  # noqa: PLC0415

    manager = PluginManager.instance()
    if "cristae" not in manager:
        manager.register(PluginManifest.from_file(Path(__file__).parent / "napari.yaml"))
