"""The paragraph on methods says what the runs noted, and the dictionary what columns mean."""

from __future__ import annotations

import json

import pytest
import torch
from explored_projects import explored, with_image
from pydantic import BaseModel

from cristae.nets import registry, setr, unetplusplus
from cristae.nets.contract import Build, OwnLoss, OwnSum
from cristae.report.build import build_report
from cristae.report.dictionary import dictionary_part
from cristae.report.gather import gather
from cristae.report.methods import methods_part
from cristae.report.methods_training import LOSSES, NETWORKS, SUMS
from report_pages import words_of


class Training(BaseModel):
    network: str = "senformer"
    scheme: str = "cps_cutmix"
    neighbours: int = 2
    tile_px: int = 160
    batch: int = 3
    updates: int = 1234
    learning_rate: float = 0.0025
    optimiser: str = "adamw"
    decay: str = "cosine"
    cross_entropy: float = 0.5
    loss_depth: tuple[int, ...] = (0, 10)


class Adapting(BaseModel):
    statistics: float = 0.75
    histogram: bool = True
    learning: str = "self_training"
    updates: int = 250
    learning_rate: float = 3e-4
    batch: int = 4
    confidence: float = 0.85


class Predicting(BaseModel):
    views: int = 8
    axes: str = "all"
    smooth_z: float = 0.9


class Scoring(BaseModel):
    exclude_labelled: bool = True


def finish(project, stage, settings, **facts):
    run = project.run(stage, settings, {})
    with project.record(run, settings, {}):
        run.update(**facts)
    return run


def sentences(project):
    found = methods_part(gather(project))
    return "" if found is None else " ".join(found.sentences)


def test_without_runs_there_is_no_paragraph(tmp_path):
    assert sentences(with_image(tmp_path)) == ""


def test_every_number_in_it_is_one_that_was_used(tmp_path):
    project = with_image(tmp_path)
    train = finish(
        project,
        "train",
        Training(),
        learnt=["nucleus", "cell"],
        classes=["nucleus", "cell_interior", "cell_boundary"],
        groups=["all"],
        labelled_slices={"nucleus": [3, 4, 5, 20], "cell_interior": [3]},
        n_parameters=7_654_321,
        updates=1234,
    )
    finish(project, "predict", Predicting(), train_run=train.path.name, classes=["nucleus"], threshold=0.45)
    words = sentences(project)
    for expected in (
        "24 × 64 × 64 voxels (z × y × x) of 20 × 10 × 10 nm",
        "Nucleus and cell were annotated by hand on 4 slices (z = 3–5, 20)",
        "a SenFormer (7,654,321 parameters) was trained by cross pseudo supervision of two networks with CutMix",
        "shown each slice with 2 on either side",
        "1,234 updates, batches of 3 patches, 160 px a side",
        "AdamW, learning rate 0.0025 (cosine decay)",
        "; cross-entropy of the merged prediction and mean cross-entropy of the learners, and Dice loss).",
        "averaged over 8 mirrored and turned views, and over slices along z, y and x",
        "σ = 0.9 slices",
        "cut at 0.45",
        "cristae 0.1.0",
    ):
        assert expected in words
    assert "3D Dice" not in words and "None" not in words and "?" not in words


def test_every_network_is_named_and_says_its_own_loss_and_no_other_has_one():
    assert set(NETWORKS) == set(registry.NETWORKS)
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        networks = {name: registry.build_network(name, Build(1, 1)) for name in registry.NETWORKS}
    assert set(LOSSES) == {name for name, one in networks.items() if isinstance(one, OwnLoss)}
    assert set(SUMS) == {name for name, one in networks.items() if isinstance(one, OwnSum)}
    assert f" {setr.AUXILIARY:g} times" in SUMS["setr_pup"][1]
    assert SUMS["unetplusplus"][0] == unetplusplus.CROSS_ENTROPY


@pytest.mark.parametrize(
    ("network", "noted", "loss"),
    [
        ("ceecnet_v1", {}, "boundaries and their distances, each with its complement (depth 0, 10))."),
        ("setr_pup", {}, "; Dice loss and cross-entropy (weight 0.5), and 0.4 times those of each auxiliary head)."),
        ("unetplusplus", {}, "; Dice loss and cross-entropy (weight 0.25), their mean over all heads)."),
        ("resunet", {}, "; Dice loss and cross-entropy (weight 0.5))."),
        ("resunet", {"own_loss": False}, "; Dice loss and cross-entropy (weight 0.5))."),
        ("of_others", {"own_loss": True}, "; a loss of its own)."),
        ("of_others", {"own_loss": False}, "; Dice loss and cross-entropy (weight 0.5))."),
        ("of_others", {}, "(cosine decay))."),
    ],
)
def test_the_loss_is_that_of_the_network(tmp_path, network, noted, loss):
    project = with_image(tmp_path)
    finish(project, "train", Training(network=network), learnt=["nucleus"], groups=["all"], **noted)
    words = sentences(project)
    assert loss in words
    assert ("Dice" in words) == ("Dice" in loss)


def adapted(tmp_path, **how):
    project = with_image(tmp_path)
    settings = Adapting(**how)
    facts = {"start": {"project": "old", "run": "abc"}, "updates": 250 if settings.learning != "none" else 0}
    facts |= {"learnt": ["nucleus"], "groups": ["all"], "labelled_slices": {"nucleus": []}, "n_parameters": 1234}
    facts["adapted"] = settings.model_dump(include={"statistics", "histogram", "learning"})
    run = finish(project, "train", settings, **facts)
    model = {"network": "resunet", "size": "small", "base_width": 0, "tile_px": 64, "classes": ["nucleus"]}
    model |= {"reduction": 1, "neighbours": 1, "voxel_size_nm": [20, 10, 10]}
    (run.path / "all").mkdir()
    (run.path / "all" / "model.json").write_text(json.dumps(model))
    return project


def test_an_adapted_network_was_neither_annotated_nor_trained_here(tmp_path):
    words = sentences(adapted(tmp_path))
    assert (
        "A residual U-Net (1,234 parameters) trained on another volume (training old/abc) was brought to this one "
        "without any label of it: statistics of batch normalisation were measured on it (they count 0.75, those of the "
        "training 0.25), grey values were mapped so that they are distributed as those that were learnt from and "
        "weights were learnt on from what they were sure of (probability 0.85 or more) (250 updates, batches of 4 "
        "patches; learning rate 0.0003)." in words
    )
    assert "annotated" not in words and "loss" not in words and "None" not in words


def test_of_an_adaptation_only_what_was_done_is_told(tmp_path):
    words = sentences(adapted(tmp_path / "a", histogram=False, learning="none"))
    assert "measured on it (they count 0.75, those of the training 0.25)." in words
    assert "updates" not in words and "grey values" not in words
    words = sentences(adapted(tmp_path / "b", histogram=False, learning="none", statistics=0.0))
    assert "without any label of it, as it is." in words
    project = adapted(tmp_path / "c", learning="cps_cutmix")
    project.latest("train").update(measured=False)
    words = sentences(project)
    assert "weights were learnt on by cross pseudo supervision of two networks with CutMix (250" in words
    assert "normalisation" not in words


def test_scores_are_told_of_what_was_scored(tmp_path):
    project = with_image(tmp_path)
    scores = {"classes": {"nucleus": {"dice_3d": 0.91234}}, "protocol": "truth"}
    for stage in ("evaluate", "crossvalidate"):
        run = finish(project, stage, Scoring(), dice_3d={"nucleus": 0.91234, "cell": None})
        (run.path / "scores.json").write_text(json.dumps(scores))
    words = sentences(project)
    assert "On slices with truth that were not used for training, the 3D Dice was nucleus 0.912." in words
    assert "On left-out labelled slices, each predicted by networks trained on the others, the 3D Dice was" in words


def test_unfinished_and_unreadable_runs_are_left_out(tmp_path):
    project = explored(tmp_path)
    assert "measured" in sentences(project)
    (project.latest("measure").path / "settings.toml").unlink()
    assert "measured" not in sentences(project)


def test_the_page_has_paragraph_and_dictionary(tmp_path):
    page = words_of(build_report(explored(tmp_path)))
    assert 'id="methods-text"' in page and "The volume had 24 × 64 × 64 voxels" in page
    assert "Data dictionary" in page and "<code>solidity</code>" in page


def test_the_dictionary_has_columns_units_and_files(tmp_path):
    project = explored(tmp_path)
    (table,) = dictionary_part(project)
    units = {one.name: one.unit for one in table.columns}
    assert units["volume_um3"] == "µm³" and all(one.meaning for one in table.columns)
    assert {name for name, _ in table.files} == {"objects.csv", "objects.parquet"}
    for _, address in table.files:
        assert (project.path / "report" / address).resolve().is_file()
    path = project.latest("measure").path
    (path / "relations.csv").write_text("a_class\n")
    titles = [one.title.split(":")[0] for one in dictionary_part(project)]
    assert titles == ["objects", "relations"], "columns that were not noted are those of this version"
    (path / "dictionary.json").write_text("[1")
    assert dictionary_part(project) == ()
