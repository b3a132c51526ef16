"""The command that shows a project."""

from __future__ import annotations

import json
import threading
import webbrowser
from pathlib import Path

import click

from cristae.console import project_argument


@click.command()
@project_argument
@click.option("--neuroglancer", is_flag=True, help="In a browser, served from this machine to this machine only.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Port for neuroglancer; any that is free without."
)
@click.option("--no-browser", is_flag=True, help="Print the address, and open no browser.")
@click.option("--json", "as_json", is_flag=True, help="Print the address as one JSON object.")
def view(project: Path, neuroglancer: bool, port: int, no_browser: bool, as_json: bool) -> None:
    """Look at all layers of a project in napari, and label, train and correct there.

    Where there is no display or no napari: in neuroglancer, in a browser on this machine. Ctrl-C ends it.
    """
    from cristae.api import open_project  # noqa: PLC0415
    from cristae.napari_plugin.window import check_window, has_display, has_napari, open_window  # noqa: PLC0415

    opened = open_project(project)
    if neuroglancer or not (has_display() and has_napari()):
        _serve(project, neuroglancer, port, (no_browser, as_json))
        return
    check_window()
    open_window(opened)
    import napari  # noqa: PLC0415

    napari.run()


def _serve(project: Path, asked: bool, port: int, how: tuple[bool, bool]) -> None:
    from cristae.api import open_project  # noqa: PLC0415
    from cristae.errors import ResourceError  # noqa: PLC0415
    from cristae.napari_plugin.window import check_window, has_display  # noqa: PLC0415
    from cristae.viewing.browser import BrowserView  # noqa: PLC0415

    no_browser, as_json = how
    try:
        shown = BrowserView(open_project(project), port)
    except ResourceError:
        if not asked:
            check_window()  # says what is missing for the window that was wanted first
        raise
    with shown:
        click.echo(json.dumps({"url": shown.url}) if as_json else f"{project} at {shown.url} (Ctrl-C ends it)")
        if not no_browser and has_display():
            webbrowser.open(shown.url)
        threading.Event().wait()
