from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from PIL import Image

from cristae.cli import cli, main
from cristae.console import Stage, parse_class, parse_group, parse_slices, parse_value
from cristae.costs.pace import Rates
from cristae.errors import DataError, ResourceError, UsageError
from cristae.project import Project
from cristae.stages import planning
from measured_projects import measured_objects, measured_project

SMALL = {
    "updates": 10,
    "base_width": 2,
    "batch": 2,
    "tile_px": 32,
    "context_nm": 256,
    "check_every": 10,
    "device": "cpu",
}
SETS = [word for name, value in SMALL.items() for word in ("--set", f"train.{name}={value}")]


@pytest.fixture
def call(monkeypatch, capsys):
    """Run the command line in this process; return exit code, standard output, standard error."""

    def called(*words):
        monkeypatch.setattr(sys, "argv", ["cristae", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main()
        return (caught.value.code, *capsys.readouterr())

    return called


def commands(group=cli, path=()):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        yield (*path, name), command


def strict(text):
    """Parse exactly one JSON object; NaN is not JSON."""

    def refuse(word):
        raise ValueError(word)

    return json.loads(text, parse_constant=refuse)


@pytest.fixture
def slices(tmp_path):
    """Folders of PNG slices as a README would have them: image, labels of two slices, truth."""
    z, y, x = np.ogrid[:6, :64, :64]
    disc = (y - 32) ** 2 + (x - 24 - z) ** 2 < 14**2
    grey = np.clip(np.random.default_rng(0).normal(100, 6, disc.shape) + 80 * disc, 1, 255).astype(np.uint8)
    for folder, values, chosen in (("image", grey, range(6)), ("labels", disc, (1, 4)), ("truth", disc, range(6))):
        (tmp_path / folder).mkdir()
        for k in chosen:
            plane = values[k].astype(np.uint8) * (1 if folder == "image" else 255)
            Image.fromarray(plane).save(tmp_path / folder / f"slice_{k:03}.png")
    return tmp_path


@pytest.fixture
def ready(slices, call):
    """A project with image and labels."""
    path = slices / "bx1"
    assert call("init", path, "--voxel-size", 40, 8, 8)[0] == 0
    assert call("import", "image", path, slices / "image")[0] == 0
    assert call("import", "labels", path, slices / "labels", "--class", "disc")[0] == 0
    return path


# Help


@pytest.mark.parametrize("path", [path for path, _ in commands()], ids=" ".join)
def test_every_command_says_what_it_does(path, call):
    command = dict(commands())[path]
    code, out, err = call(*path, "--help")
    assert (code, err) == (0, "")
    assert command.get_short_help_str()
    assert out.startswith("Usage: ")
    assert command.help.splitlines()[0].split(".")[0][:30] in out
    assert all(option.help for option in command.params if isinstance(option, click.Option))


def test_the_help_lists_all_commands_and_exit_codes(call):
    code, out, _ = call("--help")
    assert code == 0
    assert all(f"\n  {path[0]} " in out for path, _ in commands())
    assert "130 cancelled" in out
    assert call("-h")[1] == out


def test_help_loads_nothing_heavy():
    heavy = ("torch", "dask", "pandas", "zarr", "scipy", "skimage", "numba", "matplotlib")
    script = (
        "import sys, cristae.cli\n"
        "try:\n    sys.argv = ['cristae', '--help']; cristae.cli.main()\n"
        f"finally:\n    print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stderr.strip() == "[]"
    assert "Segment cells" in ended.stdout


# Errors


@pytest.mark.parametrize(("kind", "code"), [(UsageError, 2), (DataError, 3), (ResourceError, 4)])
def test_errors_are_a_sentence_and_an_exit_code(call, monkeypatch, kind, code):
    def fail(project):
        raise kind("expected this, got that; do such")

    monkeypatch.setattr("cristae.api.status", fail)
    assert call("status") == (code, "", "error: expected this, got that; do such\n")


def test_a_cancelled_command_says_that_it_goes_on(call, monkeypatch):
    def cancel(project):
        raise KeyboardInterrupt

    monkeypatch.setattr("cristae.api.status", cancel)
    code, out, err = call("status")
    assert (code, out) == (130, "")
    assert "the same command goes on" in err


@pytest.mark.parametrize(
    "words", [("--colour",), ("train", "--colour"), ("paint",), ("import", "meshes"), ("export", "bx1")]
)
def test_unknown_options_and_commands_are_wrong_usage(call, words):
    code, out, err = call(*words)
    assert (code, out) == (2, "")
    assert "Traceback" not in err
    assert "Error" in err


def test_a_project_needs_its_voxel_size(call, tmp_path):
    code, _, err = call("init", tmp_path / "p")
    assert code == 2
    assert "--voxel-size" in err
    code, _, err = call("init", tmp_path / "p", "--voxel-size", 0, 4, 4)
    assert code == 2
    assert "three positive numbers of nanometres" in err
    assert "got (0.0, 4.0, 4.0)" in err
    assert not (tmp_path / "p").exists()


def test_a_folder_without_a_project_says_how_to_make_one(call, tmp_path):
    for command in ("train", "predict", "evaluate", "report", "run", "status"):
        code, out, err = call(command, tmp_path)
        assert (code, out) == (3, "")
        assert f"make a project with: cristae init {tmp_path}" in err
    assert list(tmp_path.iterdir()) == []


def test_a_project_of_a_newer_cristae_is_left_alone(call, tmp_path):
    Project.create(tmp_path / "p", (4, 4, 4))
    file = tmp_path / "p" / "project.toml"
    file.write_text(file.read_text().replace("format = 1", "format = 99") + "fancy = true\n")
    before = file.read_text()
    code, _, err = call("train", tmp_path / "p")
    assert code == 3
    assert "newer cristae (folder format 99" in err
    assert file.read_text() == before


def test_a_source_that_is_not_there_is_named(call, tmp_path):
    call("init", tmp_path / "p", "--voxel-size", 4, 4, 4)
    code, _, err = call("import", "image", tmp_path / "p", tmp_path / "slices")
    assert code in (2, 3)
    assert str(tmp_path / "slices") in err
    assert "Traceback" not in err


# Settings


def test_values_are_read_as_toml_or_as_they_stand():
    texts = {
        "3": 3,
        "0.5": 0.5,
        "1e-4": 1e-4,
        "true": True,
        "[1, 2]": [1, 2],
        '["a", "b"]': ["a", "b"],
        "none": None,
        "None": None,
        "adam": "adam",
        '"adam"': "adam",
        "": "",
        "a b": "a b",
    }
    assert {text: parse_value(text) for text in texts} == texts


def test_settings_are_grouped_by_stage():
    stage = Stage(["train.updates=5", "predict.views=1", "train.slices=[0, 3]"], False, False)
    assert stage.grouped("train", "predict") == {"train": {"updates": 5, "slices": [0, 3]}, "predict": {"views": 1}}
    assert Stage(["updates=5"], False, False).settings("train") == {"updates": 5}


@pytest.mark.parametrize("change", ["updates=5", "paint.updates=5", "train.updates", "train.=5", "=5", ""])
def test_settings_without_a_stage_or_a_value_are_refused(change):
    with pytest.raises(UsageError, match=r"expected STAGE\.NAME=VALUE with a stage of train, predict"):
        Stage([change], False, False).grouped("train", "predict")


def test_no_command_swallows_settings_it_does_not_have(call, ready):
    for words in (
        ("train", ready, "--set", "updats=1"),
        ("train", ready, "--set", "predict.views=1"),
        ("run", ready, "--set", "updates=1"),
        ("report", ready, "--set", "train.updates=1"),
        ("export", ready, "image", ready / "a.tif", "--set", "colour=1"),
        ("import", "image", ready, ready, "--set", "colour=1"),
        ("import", "labels", ready, ready, "--class", "disc", "--set", "colour=1"),
    ):
        code, out, err = call(*words)
        assert (code, out) == (2, ""), words
        assert "error: " in err
    assert not list(ready.glob("runs/*"))
    assert not (ready / "report").exists()


def test_settings_reach_every_stage(call, slices, ready):
    assert call("import", "labels", ready, slices / "truth", "--class", "disc", "--set", "complete=false")[0] == 0
    assert Project.open(ready).annotations.complete_slices("disc") == ()
    assert call("export", ready, "annotations/disc", slices / "a.tif", "--set", "mask_value=7")[0] == 2  # has 255


def test_classes_are_names_with_values():
    assert parse_class("mito") == ("mito", None)
    assert parse_class("mito=1") == ("mito", (1,))
    assert parse_class(" nucleus =1,2") == ("nucleus", (1, 2))
    for text in ("mito=", "mito=a", "mito=1,"):
        with pytest.raises(UsageError, match="expected NAME or NAME=1,2"):
            parse_class(text)


def test_groups_are_names_with_projects():
    assert parse_group(" old =bx1, some/bx2") == ("old", (Path("bx1"), Path("some/bx2")))
    for text in ("old", "old=", "=bx1", "old=,"):
        with pytest.raises(UsageError, match="expected NAME=PROJECT,PROJECT"):
            parse_group(text)


def test_projects_are_compared(call, tmp_path):
    for place, name in enumerate(("PTT", "Bx2")):
        measured_project(tmp_path, name, measured_objects(name, place, few=True))
    some = ("--set", "n_permutations=99", "--set", 'features=["solidity"]')
    both = (tmp_path / "PTT", tmp_path / "Bx2")
    code, out, err = call("compare", *both, "--out", tmp_path / "out", *some)
    assert code == 0, err
    assert "# PTT and Bx2 compared" in out
    assert out.endswith(f"{tmp_path / 'out' / 'index.html'}\n")
    groups = ("--group", f"old={both[0]}", "--group", f"new={both[1]}")
    code, out, _ = call("compare", "--out", tmp_path / "groups", *groups, *some, "--json", "--quiet")
    assert code == 0
    assert strict(out)["groups"] == {"old": ["PTT"], "new": ["Bx2"]}
    for words in (("--group", "old"), (*groups, *groups), ("--set", "level=cells")):
        assert call("compare", *both, "--out", tmp_path / "wrong", *words)[0] == 2
    assert call("compare", "--out", tmp_path / "wrong")[0] == 2
    assert call("compare", tmp_path / "none", both[0], "--out", tmp_path / "wrong")[0] == 3
    assert not (tmp_path / "wrong").exists()


def test_slices_are_numbers_and_ranges():
    assert parse_slices(None) is None
    assert parse_slices("0,6,13") == (0, 6, 13)
    assert parse_slices("0-3, 7") == (0, 1, 2, 3, 7)
    for text in ("", "a", "1-", "-3", "1;2", "9-3"):
        with pytest.raises(UsageError, match="expected numbers and ranges"):
            parse_slices(text)


# The whole way


def test_from_slices_to_a_report(call, slices):
    path = slices / "bx1"
    code, out, err = call("init", path, "--voxel-size", 40, 8, 8)
    assert (code, err) == (0, "")
    assert "40 × 8 × 8 nm (z, y, x)" in out
    code, out, err = call("import", "image", path, slices / "image", "--json")
    assert code == 0
    assert strict(out) == {"shape": [6, 64, 64], "voxel_size_nm": [40.0, 8.0, 8.0], "dtype": "uint8"}
    assert "6 × 64 × 64 voxels" in err
    assert call("import", "labels", path, slices / "labels", "--class", "disc", "--json")[1] == '{"disc": [1, 4]}\n'
    assert call("import", "truth", path, slices / "truth", "--class", "disc", "--quiet")[2] == ""

    code, out, err = call("train", path, *SETS, "--json")
    assert (code, strict(out)["status"], strict(out)["updates"]) == (0, "finished", 10)
    assert "train all" in err
    code, out, err = call("predict", path, "--set", "views=1", "--quiet")
    assert (code, err) == (0, "")
    assert out.startswith("predicted disc: ")
    code, out, err = call("evaluate", path, "--json")
    scores = strict(out)
    assert scores["protocol"] == "truth"
    code, out, err = call("evaluate", path, "--quiet")
    assert f"{scores['classes']['disc']['dice_3d']:.4f}" in out
    assert err == ""
    code, out, _ = call("report", path, "--json")
    assert strict(out) == {"report": str(path / "report" / "index.html")}
    page = (path / "report" / "index.html").read_text()
    assert "disc" in page
    assert "Please note" not in page  # all is as new as can be

    found = {entry["stage"]: entry["condition"] for entry in json.loads(call("status", path, "--json")[1])}
    assert found["train"] == found["predict"] == found["evaluate"] == "done"
    assert "crossvalidate  missing" in call("status", path)[1]

    code, out, _ = call("export", path, "disc", slices / "disc.tif", "--mask-value", 255, "--json")
    assert strict(out) == {"path": str(slices / "disc.tif")}
    assert set(np.unique(tifffile.imread(slices / "disc.tif"))) <= {0, 255}
    assert call("export", path, "image", slices / "out", "--quiet") == (0, f"image: {slices / 'out'}\n", "")
    assert len(list((slices / "out").iterdir())) == 6
    code, _, err = call("export", path, "nucleus", slices / "n.tif")
    assert code == 2
    assert "disc/probability" in err


def test_run_does_all_that_is_missing(call, slices, ready):
    words = ("run", ready, *SETS, "--set", "predict.views=1")
    code, out, err = call(*words, "--json")
    assert code == 0
    assert strict(out) == {"report": str(ready / "report" / "index.html")}
    assert "no truth to score against" in err
    assert "train all" in err
    runs = sorted((ready / "runs").iterdir())
    code, out, err = call(*words)
    assert (code, err.count("nothing to do")) == (0, 4)
    assert sorted((ready / "runs").iterdir()) == runs


def test_cross_validation_prints_its_scores(call, ready):
    code, out, _ = call("evaluate", ready, "--cross-validate", *SETS, "--json")
    assert code == 0
    assert strict(out)["protocol"] == "leave one labelled slice out"


def test_a_phantom_hands_its_options_on(call, monkeypatch, tmp_path):
    given = {}

    def noting(path, **settings):
        given.update(settings, path=path)
        return Project.create(path, (8, 8, 8))

    monkeypatch.setattr("cristae.api.make_phantom", noting)
    words = ("--shape", 9, 64, 64, "--voxel-size", 8, 8, 8, "--seed", 3, "--labelled", 2, "--set", "noise=0.1")
    assert call("phantom", tmp_path / "p", *words)[0] == 0
    del given["options"]
    assert given == {
        "path": tmp_path / "p",
        "shape": (9, 64, 64),
        "voxel_size": (8.0, 8.0, 8.0),
        "seed": 3,
        "n_labelled": 2,
        "with_cells": False,
        "noise": 0.1,
    }


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_ctrl_c_ends_with_130_and_the_training_can_go_on(ready):
    words = [sys.executable, "-c", "from cristae.cli import main; main()", "train", ready, *SETS]
    process = subprocess.Popen([*words, "--set", "train.updates=100000"], stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while not list(ready.glob("runs/*/all")) and time.monotonic() < until:
        time.sleep(0.1)
    time.sleep(4)  # until it is among the updates, on a busy machine too: before them there is nothing to keep
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on" in err
    assert "Traceback" not in err
    (run,) = Project.open(ready).runs("train")
    assert run.manifest["status"] == "interrupted"
    assert (run.path / "all" / "checkpoint.safetensors").is_file()


def test_a_class_named_twice_is_refused(tmp_path):
    arguments = ["import", "labels", str(tmp_path), "x.tif", "--class", "nucleus=1", "--class", "nucleus=7"]
    result = CliRunner().invoke(cli, arguments)
    assert isinstance(result.exception, UsageError) and "twice" in str(result.exception)


def test_an_unknown_executor_is_refused_before_any_work(tmp_path):
    result = CliRunner().invoke(cli, ["train", str(tmp_path), "--executor", "threads"])
    assert isinstance(result.exception, UsageError) and "threads:4" in str(result.exception)


def test_a_stack_is_prepared_and_taken_back(call, ready):
    code, out, _ = call("align", ready, "--set", "align.canvas=raw", "--quiet")
    assert code == 0 and "aligned to" in out
    code, out, _ = call("equalise", ready, "--set", "equalise.method=match", "--set", "equalise.reference=2", "--json")
    facts = strict(out)
    assert code == 0 and facts["method"] == "match"
    code, out, err = call("align", ready, "--use", "raw")
    assert code == 0 and "in use: raw" in out and "image in use: raw" in err
    assert call("equalise", ready, "--use", "nothing")[0] == 2
    assert call("align", ready, "--use", "raw", "--set", "align.seed=1")[0] == 2


def test_plan_says_what_stages_take_before_anything_runs(call, tmp_path, monkeypatch):
    monkeypatch.setattr(planning, "measure_rates", lambda *words, **rest: Rates(forward_s=(0.5,), training_s=(1.5,)))
    monkeypatch.chdir(tmp_path)
    sizes = ("--shape", 64, 900, 800, "--voxel-size", 8, 8, 8, "--classes", 3, "--labelled", 5)
    sets = ("--set", "train.base_width=2", "--set", "train.tile_px=32")
    code, out, err = call("plan", *sizes, *sets)
    assert code == 0, err
    assert "64 × 900 × 800 voxels of 8 × 8 × 8 nm (z, y, x); 3 classes of organelles; 5 labelled slices" in out
    assert "estimates" in out
    code, out, err = call("plan", *sizes, *sets, "--json", "--max-ram", 0.2, "--executor", "threads:2")
    facts = strict(out)
    assert [one["stage"] for one in facts["stages"] if not one["optional"]][:3] == ["import", "train", "predict"]
    assert len(facts["problems"]) == len(facts["stages"])
    code, out, err = call("plan")
    assert (code, out) == (3, "")
    assert "project.toml" in err
    assert not list(tmp_path.iterdir())


def test_a_limit_of_memory_is_an_option_of_all_stages(call, tmp_path):
    project = Project.create(tmp_path / "p", (4.0, 4.0, 4.0))
    code, _, err = call("track", project.path, "--max-ram", -1)
    assert code == 2
    assert "--max-ram is a number of GB above 0" in err
