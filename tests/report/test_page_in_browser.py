"""The report's page as people use it: opened from disk in headless Chromium, clicked, typed at and looked at."""

from __future__ import annotations

import base64
import shutil
from io import BytesIO

import numpy as np
import pytest
from explored_projects import GRID, LARGE, explored, give_flags, layers
from PIL import Image

from cristae.palette import rgb
from cristae.report.build import build_report

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install cristae[dev])")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine to open the report with")
SOFTWARE = ["--no-sandbox", "--disable-dev-shm-usage", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


@pytest.fixture(scope="module")
def page_path(tmp_path_factory):
    project = explored(tmp_path_factory.mktemp("explored"))
    give_flags(project)
    return build_report(project)


@pytest.fixture(scope="module")
def driver():
    with playwright.sync_playwright() as started:
        yield started


@pytest.fixture(scope="module")
def chromium(driver):
    browser = driver.chromium.launch(executable_path=CHROMIUM, args=SOFTWARE)
    yield browser
    browser.close()


@pytest.fixture
def page(chromium, page_path):
    opened = chromium.new_page(viewport={"width": 1200, "height": 1000})
    opened.foreign, opened.faults = [], []
    opened.on("request", lambda one: opened.foreign.append(one.url))
    opened.on("pageerror", lambda one: opened.faults.append(str(one)))
    opened.on("console", lambda one: opened.faults.append(one.text) if one.type == "error" else None)
    opened.goto(page_path.as_uri())
    opened.wait_for_selector("html[data-ready]", timeout=60_000)
    yield opened
    assert opened.faults == []
    assert [url for url in opened.foreign if not url.startswith(("data:", "blob:"))] == [page_path.as_uri()]
    opened.close()


def seen(page, what):
    """Return a part of the page as float ``(y, x, 3)``."""
    page.wait_for_timeout(250)
    picture = Image.open(BytesIO(page.locator(what).screenshot()))
    return np.asarray(picture.convert("RGB")).astype(float)


def share_of(picture, colour):
    """Return the share of pixels whose hue is that of a colour."""
    target = np.array(rgb(colour), float)
    target = target - target.mean()
    pixels = picture - picture.mean(axis=2, keepdims=True)
    strength = np.linalg.norm(pixels, axis=2)
    likeness = (pixels @ target) / (np.linalg.norm(target) * np.maximum(strength, 1))
    return float(((likeness > 0.97) & (strength > 40)).mean())


def chosen(page):
    return page.locator("#chosen-title").text_content()


def click_slice(page, x, y):
    box = page.locator("#slice").bounding_box()
    page.mouse.click(
        box["x"] + (x + 0.5) / GRID.shape[2] * box["width"], box["y"] + (y + 0.5) / GRID.shape[1] * box["height"]
    )


def nm_per_pixel(page):
    page.wait_for_timeout(250)
    length, unit = page.locator("#scene .scale-bar span").inner_text().split()
    return float(length) * {"nm": 1, "µm": 1000}[unit] / page.locator("#scene .scale-bar i").bounding_box()["width"]


def to_slice(page, z):
    page.locator("#slice-number").fill(str(z))
    page.wait_for_selector(f'#slice[data-z="{z}"]')


def test_everything_is_there_and_nothing_is_fetched(page):
    assert page.locator("#scene canvas").count() == 1
    assert page.locator("#no-webgl").is_hidden()
    assert page.locator("#layers input[type=checkbox]").count() == 3
    assert page.locator("#objects tbody tr").count() == 7
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    pictures = page.evaluate("[...document.images].map((one) => one.complete && one.naturalWidth > 0)")
    assert pictures and all(pictures)
    assert page.locator("#scene img").is_hidden()
    page.emulate_media(media="print")
    assert page.locator("#scene img").is_visible() and page.locator("#scene canvas").is_hidden()


def test_a_request_to_the_network_would_be_refused(chromium, page_path):
    opened = chromium.new_page()
    opened.goto(page_path.as_uri())
    refused = opened.evaluate("fetch('http://127.0.0.1:9/').then(() => '', (error) => String(error))")
    assert "Failed to fetch" in refused
    opened.close()


def test_a_click_in_3d_chooses_what_lies_in_glass(page):
    page.get_by_role("button", name="As on slices").click()
    box = page.locator("#scene canvas").bounding_box()
    # Seen along z, the nucleus lies in the middle of the left cell; x 315, y 315 nm is the middle of the volume.
    right = (17 * 10 - 315) / nm_per_pixel(page)
    page.mouse.click(box["x"] + box["width"] / 2 + right, box["y"] + box["height"] / 2)
    assert chosen(page) == "nucleus 5"
    assert page.locator("#objects tr.chosen").inner_text().startswith("nucleus 5")
    z = int(page.locator("#slice").get_attribute("data-z"))
    assert (layers()["nucleus"][z] == 5).sum() == (layers()["nucleus"] == 5).sum(axis=(1, 2)).max()
    assert share_of(seen(page, "#chosen canvas"), "#F0E442") > 0.003, "its outline on its slice"
    assert share_of(seen(page, "#scene"), "#F0E442") > 0.01, "it shines in 3D"


def test_a_click_on_a_slice_chooses_the_innermost_and_leads_to_its_cell_and_back(page):
    to_slice(page, 12)
    click_slice(page, 46, 32)
    assert chosen(page) == "mitochondrion 2"
    page.locator("#chosen").get_by_role("button", name=f"cell {LARGE}").click()
    assert chosen(page) == f"cell {LARGE}"
    assert page.locator("#objects tr.chosen").inner_text().startswith(f"cell {LARGE}")
    page.locator("#chosen").get_by_role("button", name="3 mitochondrion").click()
    assert page.locator("#objects tbody th").all_inner_texts() == [f"mitochondrion {n}" for n in (1, 2, 3)]
    click_slice(page, 46, 6)
    assert chosen(page) == f"cell {LARGE}"
    page.get_by_role("button", name="Let go").click()
    assert page.locator("#chosen-title").count() == 0 and page.locator("#objects tr.chosen").count() == 0


def test_the_table_sorts_filters_and_leads_to_the_object(page):
    page.locator('#objects th[data-key="class"] button').click()
    assert page.locator("#objects tbody th").first.inner_text() == "cell 1"
    assert page.locator('#objects th[data-key="class"]').get_attribute("aria-sort") == "ascending"
    page.get_by_label("Class", exact=True).select_option("mitochondrion")
    assert page.locator("#objects tbody tr").count() == 4
    page.get_by_label("Id", exact=True).fill("4")
    page.locator("#objects").get_by_role("button", name="mitochondrion 4").press("Enter")
    assert chosen(page) == "mitochondrion 4"
    page.wait_for_selector('#slice[data-z="8"]')  # when its picture is there
    assert "Lies in cell 1" in page.locator("#chosen").inner_text()


def test_what_is_flagged_is_a_click_away(page):
    page.get_by_role("button", name="Show mitochondrion 4").press("Enter")
    assert chosen(page) == "mitochondrion 4"
    page.wait_for_selector('#slice[data-z="8"]')
    page.get_by_role("button", name="Show nucleus, slice 19").click()
    page.wait_for_selector('#slice[data-z="19"]')
    assert page.locator("#chosen-title").count() == 0
    page.get_by_role("button", name="Show cell 99").click()  # too many objects, and this one is not in the table
    page.wait_for_selector('#slice[data-z="3"]')
    assert page.evaluate("document.activeElement.id") == "slice"


def test_an_object_comes_to_the_middle(page):
    page.get_by_label("Id", exact=True).fill("4")
    page.locator("#objects").get_by_role("button", name="mitochondrion 4").click()
    page.get_by_role("button", name="Bring it to the middle in 3D").click()
    picture = seen(page, "#scene canvas")
    height, width = picture.shape[:2]
    middle = picture[int(0.47 * height) : int(0.53 * height), int(0.47 * width) : int(0.53 * width)]
    assert share_of(middle, "#F0E442") > 0.8


def test_layers_go_off_and_on_and_become_opaque(page):
    colour = "#009E73"
    before = seen(page, "#scene"), seen(page, "#slice")
    assert share_of(before[0], colour) > 0.005
    page.locator('input[data-layer="mitochondrion"]').uncheck()
    assert share_of(seen(page, "#scene"), colour) < 0.001
    page.locator('input[data-layer="mitochondrion"]').check()
    assert share_of(seen(page, "#scene"), colour) > 0.005
    opaque = page.get_by_label("Opacity of cell in 3D")
    opaque.focus()
    opaque.press("End")
    assert share_of(seen(page, "#scene"), colour) < 0.001, "hidden in opaque cells"


def test_colours_of_cells_tell_them_apart(page):
    page.get_by_label("Colour by").select_option("cell")
    colours = page.evaluate("JSON.parse(document.getElementById('explore-data').textContent).colours.cells")
    slice_ = seen(page, "#slice")
    assert all(share_of(slice_, colour) > 0.05 for colour in colours.values())


def test_keys_turn_the_scene_and_leaf_through_slices(page):
    start = seen(page, "#scene canvas")
    page.locator("#scene").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    turned = seen(page, "#scene canvas")
    assert np.abs(turned - start).mean() > 1
    page.keyboard.press("+")
    assert np.abs(seen(page, "#scene canvas") - turned).mean() > 1
    page.keyboard.press("Home")
    assert np.abs(seen(page, "#scene canvas") - start).mean() < 0.5
    to_slice(page, 12)
    page.locator("#slice").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_selector('#slice[data-z="13"]')
    page.keyboard.press("Home")
    page.wait_for_selector('#slice[data-z="0"]')
    assert "0 of 0–23" in page.locator("#slice-tools output").inner_text()


def test_a_drag_turns_and_chooses_nothing(page):
    start = seen(page, "#scene canvas")
    box = page.locator("#scene canvas").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 + 120, box["y"] + box["height"] / 2 + 20, steps=5)
    page.mouse.up()
    assert np.abs(seen(page, "#scene canvas") - start).mean() > 1
    assert page.locator("#chosen-title").count() == 0


def test_truth_and_painted_labels_come_and_go(page):
    to_slice(page, 12)
    without = seen(page, "#slice")
    page.locator('input[data-kind="truth"]').check()
    assert share_of(seen(page, "#slice"), "#F0E442") > share_of(without, "#F0E442") + 0.002
    page.locator('input[data-kind="found"]').uncheck()
    page.locator('input[data-kind="truth"]').uncheck()
    bare = seen(page, "#slice")
    assert np.abs(bare - bare.mean(axis=2, keepdims=True)).mean() < 0.5, "the micrograph alone is grey"


def test_the_scale_bar_is_as_long_as_it_says(page):
    page.get_by_role("button", name="As on slices").click()
    scale = nm_per_pixel(page)
    page.locator('input[data-layer="nucleus"]').uncheck()
    page.locator('input[data-layer="mitochondrion"]').uncheck()
    opaque = page.get_by_label("Opacity of cell in 3D")
    opaque.focus()
    opaque.press("End")
    picture = seen(page, "#scene canvas")
    dark = np.abs(picture - 255).max(axis=2) > 60
    rows = dark[int(dark.shape[0] * 0.25) : int(dark.shape[0] * 0.35)].any(axis=0)
    inner = np.flatnonzero(rows)
    # From the left end of the frame to its right one: the width of the volume.
    assert (inner[-1] - inner[0]) * scale == pytest.approx(640, rel=0.03)


def test_without_webgl_the_page_still_reads(driver, page_path):
    browser = driver.chromium.launch(
        executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-3d-apis"]
    )
    opened = browser.new_page()
    opened.goto(page_path.as_uri())
    opened.wait_for_selector("html[data-ready]")
    assert opened.locator("#no-webgl").is_visible()
    assert opened.locator("#scene img").is_visible() and opened.locator("#scene canvas").count() == 0
    to_slice(opened, 12)
    click_slice(opened, 46, 32)
    assert chosen(opened) == "mitochondrion 2"
    browser.close()


def test_without_scripts_the_page_still_reads(chromium, page_path):
    context = chromium.new_context(java_script_enabled=False)
    opened = context.new_page()
    opened.goto(page_path.as_uri())
    assert opened.locator("#scene img").is_visible() and opened.locator("#slice img").is_visible()
    assert opened.locator("#object-table tbody tr").count() == 7
    assert "runs no scripts" in opened.locator("noscript").inner_text()
    assert opened.locator("#scene-tools").is_hidden() and opened.locator("#copy-methods").is_hidden()
    context.close()


def test_pictures_open_in_the_page_itself(page):
    link = page.locator("figure > a").first
    link.scroll_into_view_if_needed()
    link.click()
    assert page.locator("dialog.large img").is_visible()
    page.keyboard.press("Escape")
    assert page.locator("dialog.large img").is_hidden()
    assert page.url.startswith("file:") and page.url.endswith("index.html")


def test_the_still_picture_looks_like_the_scene(page, page_path):
    drawn = seen(page, "#scene canvas")
    source = page_path.read_text(encoding="utf-8")
    start = source.index("data:image/jpeg;base64,", source.index('id="scene"')) + len("data:image/jpeg;base64,")
    still = Image.open(BytesIO(base64.b64decode(source[start : source.index('"', start)]))).convert("RGB")
    assert still.size[0] == still.size[1]
    for name in ("#009E73", "#D55E00"):
        one, other = share_of(drawn, name), share_of(np.asarray(still).astype(float), name)
        assert other / 3 < one < other * 3 + 0.01 or min(one, other) < 0.002
