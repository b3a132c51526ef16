"""The report of the demo: how long Chromium takes to open it, how heavy it is, whether it asks anybody for anything.

Measured from asking for the page, from disk, in a browser without graphics card and with an empty cache, until pictures
are loaded and scene, slice and table are drawn; median of some openings. Needs playwright and Chromium.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.result import Result

SOFTWARE = ["--no-sandbox", "--disable-dev-shm-usage", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


def run(quick: bool) -> Result:
    """Make the demo, and open its report again and again."""
    command = str(Path(sys.executable).parent / "cristae")
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "demo"
        small = ["--shape", "24", "192", "192"] if quick else []
        fast = ["--set", "train.preset=fast", "--set", "train.updates=20"] if quick else []
        subprocess.run([command, "phantom", str(project), *small], check=True, capture_output=True)
        subprocess.run([command, "run", str(project), *fast], check=True, capture_output=True)
        begun = time.perf_counter()
        subprocess.run([command, "report", str(project)], check=True, capture_output=True)
        making = time.perf_counter() - begun
        page = project / "report" / "index.html"
        megabytes = page.stat().st_size / 1e6
        seconds, drawn, foreign = openings(page, 2 if quick else 7)
    opening = float(np.median(seconds))
    return Result(
        "report_weight",
        opening,
        "s",
        "opens in <2 s in Chromium, <50 MB, no request to anybody",
        None if quick else opening < 2 and megabytes < 50 and not foreign,
        details={
            "megabytes": round(megabytes, 2),
            "requests_beside_the_page": foreign,
            "seconds_of_each_opening": [round(one, 2) for one in seconds],
            "seconds_until_scene_slice_and_table": round(float(np.median(drawn)), 2),
            "seconds_to_make_it": round(making, 1),
        },
    )


def openings(page: Path, n: int) -> tuple[list[float], list[float], list[str]]:
    """Open a page `n` times.

    Returns
    -------
    tuple
        Seconds until all is there, seconds until scene, slice and table are drawn, and addresses that were asked for.
    """
    from playwright.sync_api import sync_playwright  # noqa: PLC0415  others do not need it

    found = next((path for name in ("chromium", "google-chrome") if (path := shutil.which(name))), None)
    if found is None:
        raise FileNotFoundError("no chromium to open the report with")
    seconds: list[float] = []
    drawn: list[float] = []
    foreign: list[str] = []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=SOFTWARE)
        browser.new_page().goto("about:blank")
        for _ in range(n):
            context = browser.new_context(viewport={"width": 1280, "height": 900})
            opened = context.new_page()
            opened.on("request", lambda one: None if _inside(one.url, page) else foreign.append(one.url))
            begun = time.perf_counter()
            opened.goto(page.as_uri(), wait_until="load")
            opened.wait_for_selector("html[data-ready]", state="attached", timeout=120_000)
            seconds.append(time.perf_counter() - begun)
            drawn.append(float(opened.evaluate("Number(document.documentElement.dataset.ready)")) / 1000)
            context.close()
        browser.close()
    return seconds, drawn, foreign


def _inside(url: str, page: Path) -> bool:
    return url == page.as_uri() or url.startswith(("data:", "blob:"))
