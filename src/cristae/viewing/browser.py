"""A project in neuroglancer: the viewer and the layers both come from this machine, and nothing leaves it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from cristae.errors import ResourceError
from cristae.project import Project
from cristae.viewing.layers import View, project_views
from cristae.viewing.server import HOST, LayerServer


class BrowserView:
    """A project served for a browser on this machine until it is closed.

    Parameters
    ----------
    project
        What is to be seen.
    port
        Of the viewer; 0 for any that is free.

    Raises
    ------
    DataError
        If there is nothing to see.
    ResourceError
        If neuroglancer is not installed, or the port is taken.
    """

    def __init__(self, project: Project, port: int = 0) -> None:
        views = project_views(project)
        try:
            import neuroglancer  # noqa: PLC0415  an extra
        except ImportError as error:
            raise ResourceError(
                "neuroglancer is not installed; install it with: pip install 'cristae[view]', or look at the project "
                "in napari: pip install 'cristae[napari]'"
            ) from error
        try:
            neuroglancer.set_server_bind_address(HOST, bind_port=port)
            self._viewer: Any = neuroglancer.Viewer()
        except OSError as error:
            raise ResourceError(
                f"port {port} of this machine cannot be used ({error}); choose another (--port)"
            ) from error
        self.url = str(self._viewer).replace("localhost", HOST)
        self.server = LayerServer({str(i): view.path for i, view in enumerate(views)})
        self.server.origin = "/".join(self.url.split("/")[:3])
        self._viewer.set_state(state(views, [self.server.url(str(i)) for i in range(len(views))], project.name))

    def close(self) -> None:
        """End both servers."""
        import neuroglancer  # noqa: PLC0415

        self.server.close()
        neuroglancer.server.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def state(views: list[View], addresses: list[str], title: str) -> dict[str, Any]:
    """Return what neuroglancer is to show: all layers at the addresses, sizes in nm, the middle of the volume."""
    shown = [_layer(view, address) for view, address in zip(views, addresses, strict=True)]
    grid = views[0].volumes[0].grid
    return {
        "title": title,
        "dimensions": {axis: [size, "nm"] for axis, size in zip("xyz", grid.voxel_size[::-1], strict=True)},
        "position": [n / 2 for n in grid.shape[::-1]],
        "crossSectionScale": max(grid.shape[1:]) / 500,
        "layers": shown,
        "layout": "xy" if grid.shape[0] == 1 else "4panel",
        "showDefaultAnnotations": False,
    }


def _layer(view: View, address: str) -> dict[str, Any]:
    layer: dict[str, Any] = {
        "name": view.name,
        "source": f"{address}/|{_format(view.path)}:",
        "visible": view.visible,
    }
    if view.kind in ("labels", "mask"):
        layer |= {"type": "segmentation", "selectedAlpha": 0.35, "segments": []}
        if view.kind == "mask":
            layer["segmentColors"] = {"1": view.colour}
        if view.hidden_value is not None:
            layer["segmentColors"] = {**layer.get("segmentColors", {}), str(view.hidden_value): "#000000"}
        return layer
    layer["type"] = "image"
    if view.kind == "probability":
        return layer | {"shader": _TINT.replace("COLOUR", view.colour), "blend": "additive"}
    if view.contrast:
        layer["shaderControls"] = {"normalized": {"range": list(view.contrast)}}
    return layer


_TINT = """#uicontrol vec3 colour color(default="COLOUR")
#uicontrol invlerp normalized
void main() { emitRGB(colour * normalized()); }
"""


def _format(path: Path) -> str:
    return "zarr3" if (path / "zarr.json").is_file() else "zarr2"
