r"""The documentation is true: its code runs, its links lead somewhere, its reference is what the code says.

Every fenced ``bash`` and ``python`` block of README.md and docs/ is executed, page by page and from top to bottom, in
one fresh folder per page, unless a comment right above it gives a reason not to::

    <!-- notest: downloads 2 GB -->

The README runs as it would in a terminal. On the other pages lines that call ``cristae`` run in this process, which
saves the seconds that each start of the command takes.

What readers need not see (files that stand for their own data, settings that keep a training short) is in comments::

    <!-- setup
    cp -r "$PHANTOM/slices" slices
    -->

``$PHANTOM`` holds a small phantom as TIFFs, and projects that are measured: see the fixture `files`.
"""

from __future__ import annotations

import importlib.util
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import pytest
import tifffile
from PIL import Image

import cristae
from cristae.cli import cli
from cristae.console import parse_value
from cristae.io.tiff import write_folder
from cristae.phantom.faults import FAULTS
from cristae.settings import resolve_settings
from cristae.volume import Volume
from measured_projects import measured_objects, measured_project

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXTS = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
SHAPE = (24, 192, 192)
PAINTED = (2, 12, 21)

_BLOCK = re.compile(
    r"^(?:<!-- notest: (?P<reason>[^\n]+) -->\n)?"
    r"(?P<indent>[ ]*)```(?P<language>\w+)[^\n`]*\n(?P<code>.*?)^(?P=indent)```[ ]*$"
    r"|^<!-- setup\n(?P<setup>.*?)^-->$",
    re.MULTILINE | re.DOTALL,
)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_FORBIDDEN = ("/home/", "/root/", "/users/", "c:\\")


class Block(NamedTuple):
    """A piece of code in a page: where, in which language, and why it is not run (empty: it is)."""

    line: int
    language: str
    code: str
    reason: str
    hidden: bool = False


def blocks_of(page: Path) -> list[Block]:
    text, found = page.read_text(encoding="utf-8"), []
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        if match["setup"] is not None:
            found.append(Block(line, "bash", match["setup"], "", hidden=True))
            continue
        if match["language"] not in ("bash", "python", "sh", "shell", "console"):
            continue
        code = re.sub(f"^{match['indent']}", "", match["code"], flags=re.MULTILINE)
        found.append(Block(line, match["language"], code, match["reason"] or ""))
    return found


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture(scope="session")
def files(tmp_path_factory) -> Path:
    """A small volume as people have theirs: slices, and labels in all the forms that the pages mention."""
    folder = tmp_path_factory.mktemp("phantom")
    phantom = cristae.make_phantom(folder / "project", shape=SHAPE, n_labelled=3)
    cristae.export(phantom, "image", folder / "slices")
    faulty = phantom.image.read()
    for kind, z in (("out_of_focus", 6), ("duplicated", 12), ("brightness", 17)):
        faulty = FAULTS[kind](faulty, z, 1.0, np.random.default_rng(z))
    write_folder(Volume(faulty, phantom.image.grid), folder / "faulty", "bx1")
    layers = {name: phantom.truth.layer(name).read(phantom.truth.grid.box) for name in ("nucleus", "mitochondrion")}
    nuclei, mitochondria = layers["nucleus"], layers["mitochondrion"]
    several = np.where(mitochondria == 1, 2, nuclei).astype(np.uint8)
    unseen = np.full(SHAPE, 255, np.uint8)
    unseen[list(PAINTED)] = nuclei[list(PAINTED)]
    stacks = {
        "nuclei-all": nuclei * 255,
        "nuclei-three": nuclei[list(PAINTED)] * 255,
        "nuclei-unseen": unseen,
        "several": several,
    }
    for name, values in stacks.items():
        tifffile.imwrite(folder / f"{name}.tif", values, photometric="minisblack")
    for name, values in (("nuclei", nuclei * 255), ("several", several), ("mitochondria", mitochondria * 255)):
        (folder / name).mkdir()
        for z in PAINTED:
            tifffile.imwrite(folder / name / f"{name}_{z:04}.tif", values[z], photometric="minisblack")
    for seed, name in enumerate(("PTT", "Bx2", *(f"bx{n}" for n in range(1, 9)))):
        measured_project(folder / "measured", name, measured_objects(name, seed, few=True))
    return folder


@pytest.fixture
def surroundings(files, tmp_path, monkeypatch) -> dict[str, str]:
    """A fresh folder to be in, a home folder with nothing in it, and ``cristae`` on the path."""
    (tmp_path / "home").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PHANTOM", str(files))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return dict(os.environ)


def shell(code: str, environment: dict[str, str], where: str) -> None:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{where} ended with {done.returncode}\n{code}\n{done.stdout}\n{done.stderr}"


def run_line(line: str, environment: dict[str, str], where: str) -> None:
    """Run one line of a page: ``cristae`` in this process, all else in a shell."""
    words = shlex.split(line, comments=True)
    fails = words[:1] == ["!"]
    if words[fails : fails + 1] != ["cristae"]:
        shell(line, environment, where)
        return
    try:
        cli.main(words[fails + 1 :], prog_name="cristae", standalone_mode=False)
    except (cristae.CristaeError, click.ClickException):
        if not fails:
            raise
    else:
        assert not fails, f"{where}: {line!r} was to fail, and did not"


@pytest.mark.parametrize("page", [page for page in PAGES if any(not b.reason for b in blocks_of(page))], ids=name_of)
def test_the_code_of_a_page_runs(page, surroundings):
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks_of(page):
        where = f"{name_of(page)}:{block.line}"
        if block.reason:
            continue
        if block.language == "bash" and page.name == "README.md":
            shell(block.code, surroundings, where)
        elif block.language == "bash":
            for line in block.code.splitlines():
                run_line(line, surroundings, where)
        else:
            padding = "\n" * block.line  # so that a traceback names the line of the page
            exec(compile(padding + block.code, where, "exec"), names)


def understood(words: list[str], monkeypatch) -> dict[str, object]:
    """Return what the command line makes of the words after ``cristae``, without doing anything."""
    given: dict[str, object] = {}

    def remember(**values: object) -> None:
        given.update(values)

    with monkeypatch.context() as patched:
        groups: list[click.Group] = [cli]
        for group in groups:  # grows on the way
            for command in group.commands.values():
                if isinstance(command, click.Group):
                    groups.append(command)
                else:
                    patched.setattr(command, "callback", remember)
        cli.main(words, prog_name="cristae", standalone_mode=False)
    return given


def commands_in(code: str) -> Iterator[list[str]]:
    """Yield the words of each command, which may go over several lines where a quotation or a backslash does."""
    begun = ""
    for line in code.splitlines():
        begun += line + "\n"
        if line.endswith("\\"):
            continue
        try:
            words = shlex.split(begun, comments=True)
        except ValueError:  # a quotation is not closed yet
            continue
        yield words
        begun = ""
    assert not begun, f"a quotation is not closed: {begun}"


@pytest.mark.parametrize("page", [page for page in PAGES if any(b.reason for b in blocks_of(page))], ids=name_of)
def test_the_code_that_is_not_run_is_understood(page, monkeypatch):
    kinds = {name: kind for name, kind, _ in _script("generate").STAGES}
    for block in blocks_of(page):
        where = f"{name_of(page)}:{block.line}"
        if not block.reason:
            continue
        if block.language == "python":
            compile(block.code, where, "exec")
            continue
        for words in commands_in(block.code):
            if words[:1] != ["cristae"]:
                continue
            for change in understood(words[1:], monkeypatch).get("changes", ()):
                key, _, value = change.partition("=")
                stage, _, name = key.rpartition(".")
                assert stage, f"{where}: {change} names no stage"
                resolve_settings(kinds[stage], {name: parse_value(value)})


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_blocks_are_bash_or_python_and_closed(page):
    text = page.read_text(encoding="utf-8")
    assert {block.language for block in blocks_of(page)} <= {"bash", "python"}
    fenced = re.findall(r"^ *```(?:bash|python|sh|shell|console)", text, re.MULTILINE)
    assert len(fenced) == sum(1 for block in blocks_of(page) if not block.hidden), "a block would not be run"
    assert len(re.findall(r"^ *```", text, re.MULTILINE)) % 2 == 0, "a fence is not closed"


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", title.lower())).strip("-") for title in titles}


@pytest.mark.parametrize("page", TEXTS, ids=name_of)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in _LINK.findall(text):
        if re.match(r"https?://|mailto:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name_of(page)} links to {link}, which does not exist"
        assert target.is_relative_to(ROOT), f"{name_of(page)} links to {link}, outside the repository"
        if anchor:
            assert anchor in anchors(target), f"{name_of(page)} links to {link}; there is no such heading"


@pytest.mark.parametrize("page", TEXTS, ids=name_of)
def test_pages_name_no_machine(page):
    text = page.read_text(encoding="utf-8").lower()
    assert [word for word in _FORBIDDEN if word in text] == []


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=name_of)
def test_make_targets_exist(page):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", page.read_text(encoding="utf-8"), re.MULTILINE))
    assert named
    missing = {target for target in named if not re.search(rf"^{target}:", makefile, re.MULTILINE)}
    assert not missing


def test_reference_is_what_the_code_says():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec and spec.loader
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    stale = [name_of(path) for path, text in generate.pages().items() if path.read_text(encoding="utf-8") != text]
    assert not stale, f"{', '.join(stale)} out of date; write anew with: python docs/generate.py"


def test_every_page_is_in_the_menu():
    menu = set(re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))
    assert menu == {str(page.relative_to(ROOT / "docs")) for page in PAGES[1:]}


def _script(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def test_every_algorithm_has_a_picture_and_every_picture_is_shown():
    shown = {
        Path(link).name for page in PAGES for link in _LINK.findall(page.read_text(encoding="utf-8")) if ".png" in link
    }
    there = {path.name for path in (ROOT / "docs" / "images").iterdir()}
    assert shown == there
    without = [page.name for page in (ROOT / "docs" / "algorithms").glob("*.md") if "![" not in page.read_text()]
    assert not without, f"no picture on {', '.join(without)}"
    assert all(path.stat().st_size < 600_000 for path in (ROOT / "docs" / "images").iterdir())


def test_pictures_have_words_for_those_who_do_not_see_them():
    for page in PAGES:
        for words in re.findall(r"!\[([^\]]*)\]", page.read_text(encoding="utf-8")):
            assert len(words) > 15, f"{name_of(page)} has a picture without a description"


@pytest.mark.slow
def test_pictures_are_drawn_by_their_script(tmp_path):
    script = _script("pictures")
    made = script.draw(tmp_path, script.scene((32, 96, 96)))
    assert {path.name for path in made} <= {path.name for path in (ROOT / "docs" / "images").iterdir()}
    for path in made:
        with Image.open(path) as drawn, Image.open(ROOT / "docs" / "images" / path.name) as shown:
            assert drawn.size == shown.size, f"{path.name} is not what the script draws"
            assert len(drawn.getcolors()) > 3
        assert path.stat().st_size < script.MOST_BYTES


def test_equations_become_mathml():
    pytest.importorskip("latex2mathml")
    turn = _script("mathematics").on_page_content
    page = r'<p>a <span class="arithmatex">\(p &lt; \frac{1}{2}\)</span></p><div class="arithmatex">\[x^2\]</div>'
    made = turn(page)
    assert made.count("<math") == 2 and "arithmatex" not in made and "<mfrac>" in made
    assert 'display="inline"' in made and 'display="block"' in made
    assert turn("<p>no $ here</p>") == "<p>no $ here</p>"


def test_site_builds(tmp_path):
    pytest.importorskip("mkdocs")
    pytest.importorskip("material")
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--quiet",
        "--site-dir",
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "index.html").is_file()
    page = (tmp_path / "papers" / "pagano2023.html").read_text(encoding="utf-8")
    assert "<math" in page and "arithmatex" not in page
    # Nothing is loaded from elsewhere: neither scripts nor fonts.
    assert not re.findall(r'(?:src|href)="https?://[^"]+\.(?:js|css|woff2?)', page)


def test_python_example_runs(surroundings, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["own_volume.py", "example"])
    runpy.run_path(str(ROOT / "examples" / "own_volume.py"), run_name="__main__")
    assert "evaluate       done" in capsys.readouterr().out
    assert tifffile.imread("example/nucleus.tif").shape == SHAPE
    shutil.rmtree("example")


def test_filopodium_example_runs(surroundings, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["filopodium.py", "example"])
    runpy.run_path(str(ROOT / "examples" / "filopodium.py"), run_name="__main__")
    came_home = re.search(r"(\d+) islands of cell .*; ([\d.]+)% of them came home", capsys.readouterr().out)
    assert came_home and int(came_home[1]) > 20 and float(came_home[2]) > 95
    assert Path("example/filopodium.png").stat().st_size > 50_000


def test_pictures_of_the_docs_are_made_by_an_example(surroundings):
    names = runpy.run_path(str(ROOT / "examples" / "see_in_3d.py"))
    names["main"](Path("example"), shape=(16, 64, 64), width=96)
    for name in ("render-cells.png", "render-nuclei.png", "render-fenestrations.png"):
        with Image.open(f"example/{name}") as drawn, Image.open(ROOT / "docs" / "images" / name) as shown:
            assert drawn.size == (96, 72)
            assert shown.size == (1000, 750)


@pytest.mark.slow
def test_raw_stack_example_runs(surroundings, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["raw_stack.py", "example"])
    runpy.run_path(str(ROOT / "examples" / "raw_stack.py"), run_name="__main__")
    median = re.search(r"48 slices, ([\d.]+) px off in the median", capsys.readouterr().out)
    assert median and float(median[1]) < 1.5
    assert all(Path(f"example/{name}.png").stat().st_size > 50_000 for name in ("prepared", "alignment"))


@pytest.mark.slow
def test_shell_example_runs(surroundings):
    shell(f"bash {ROOT / 'examples' / 'command_line.sh'} example", surroundings, "command_line.sh")
    assert len(list(Path("example/masks").glob("*.tif"))) == SHAPE[0]
