"""Measuring whole projects: laws on small ones."""

from __future__ import annotations

import json
import math
from typing import ClassVar

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import tifffile
from scipy.ndimage import binary_fill_holes
from scipy.spatial.distance import cdist
from truth_projects import CELLS, FAST, SHAPE, SIZE, put_image, put_truth, tissue, truth_project

import cristae
from cristae.cli import main
from cristae.errors import DataError, UsageError
from cristae.executors import Crew
from cristae.features.crops import Crop, fitted
from cristae.features.definitions import Definition
from cristae.features.glcm import Cooccurrence, Pairing, add_pairs, cooccurrence_table
from cristae.features.morphology import measure_shapes
from cristae.features.quantise import Quantisation, quantise
from cristae.features.spectrum import add_spectrum, tabulate_spectrum
from cristae.features.zone_merge import merge_zones
from cristae.features.zone_parts import find_zones
from cristae.features.zones import zone_table
from cristae.geometry import Grid
from cristae.io.ome_zarr import open_volume, write_facts
from cristae.stages.measuring import crops, textures, whole
from cristae.stages.measuring.crops import CropReader
from cristae.stages.measuring.sample import Layer, Sample, Walk
from cristae.stages.measuring.settings import MeasureSettings
from cristae.stages.measuring.shapes import find_sizes
from cristae.stages.options import Options
from cristae.volume import Volume


def tables(run) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    return tuple(pd.read_parquet(run.path / f"{name}.parquet") for name in ("objects", "relations", "violations"))


def of(table: pd.DataFrame, name: str) -> pd.DataFrame:
    return table[table["class"] == name].reset_index(drop=True)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> cristae.Project:
    return truth_project(tmp_path_factory.mktemp("measure") / "p")


@pytest.fixture(scope="module")
def measured(project):
    return cristae.measure(project, source="truth", **FAST)


def test_counts_are_those_of_an_independent_count(project, measured) -> None:
    objects, layers = tables(measured)[0], tissue()
    assert objects["class"].unique().tolist() == ["cell", "nucleus", "nucleolus", "mitochondrion"]
    assert measured.manifest["n_objects"] == {"cell": 3, "nucleus": 3, "nucleolus": 2, "mitochondrion": 4}
    voxel_um3 = math.prod(SIZE) * 1e-9
    for name, layer in layers.items():
        rows = of(objects, name)
        stored = layer if name == "cell" else open_volume(measured.path / f"{name}.ome.zarr").read()
        ids, counts = np.unique(stored[stored > 0], return_counts=True)
        assert rows["object_id"].tolist() == ids.tolist()
        assert rows["n_voxels"].tolist() == counts.tolist()
        whole_ones = rows[~rows["touches_edge"]]
        np.testing.assert_allclose(whole_ones["volume_um3"], whole_ones["n_voxels"] * voxel_um3, rtol=1e-12)
        assert rows.loc[rows["touches_edge"], "volume_um3"].isna().all()
    assert (objects["sample_id"] == "p").all()
    assert of(objects, "cell")["object_id"].tolist() == [7, 12, CELLS[1]]
    assert of(objects, "cell")["touches_edge"].tolist() == [False, True, False]


def test_values_are_those_of_the_kernels_on_the_whole_volume(project, measured) -> None:
    rows = of(tables(measured)[0], "mitochondrion")
    ids = open_volume(measured.path / "mitochondrion.ome.zarr").read()
    alone = measure_shapes(ids, SIZE)
    inside = ~rows["touches_edge"]
    for column in ("surface_um2", "solidity", "sphericity", "centroid_z_nm", "axis_1_nm"):
        np.testing.assert_allclose(rows.loc[inside, column], alone.loc[inside, column], rtol=1e-9)


def test_what_lies_in_what(measured) -> None:
    objects, _, violations = tables(measured)
    nucleoli, cells = of(objects, "nucleolus"), of(objects, "cell")
    assert nucleoli["parent_nucleus_id"].tolist() == [3, 2] or nucleoli["parent_nucleus_id"].tolist() == [2, 3]
    assert set(nucleoli["parent_cell_id"]) == set(CELLS)
    assert of(objects, "mitochondrion")["parent_cell_id"].tolist() == [7, 0, CELLS[1], 7]
    assert of(objects, "mitochondrion")["share_inside"].tolist() == [1, 0, 1, 0.5]
    assert cells.set_index("object_id").loc[7, "mitochondrion_count"] == 2
    assert cells.set_index("object_id").loc[CELLS[1], "nucleus_count"] == 1
    assert np.isnan(cells.set_index("object_id").loc[12, "nucleus_count"])  # it is cut
    whole_cell = cells.set_index("object_id").loc[7]
    inside = of(objects, "mitochondrion").query("parent_cell_id == 7")["n_voxels"].sum()
    assert whole_cell["mitochondrion_volume_fraction"] == pytest.approx(inside / whole_cell["n_voxels"])
    assert whole_cell["mitochondrion_per_um3"] == pytest.approx(2 / whole_cell["volume_um3"])
    assert of(objects, "nucleus").query("not touches_edge")["nucleolus_count"].tolist() == [1, 1]
    listed = violations[violations["class"] == "mitochondrion"]
    assert listed[["object_id", "kind"]].to_numpy().tolist() == [[2, "no parent"], [4, "across"]]
    assert listed["share_outside"].tolist() == [1, 0.5]


def test_nucleoli_near_their_envelopes_and_filled(measured) -> None:
    nucleoli = of(tables(measured)[0], "nucleolus")
    holed = nucleoli["n_holes"] == 1
    assert holed.sum() == 1
    assert (nucleoli["fenestrated_fraction"] > 0).tolist() == holed.tolist()
    ids = open_volume(measured.path / "nucleolus.ome.zarr").read()
    number = int(nucleoli.loc[holed, "object_id"].iloc[0])
    plain = measure_shapes((ids == number).astype(np.uint8), SIZE)["solidity"].iloc[0]
    filled = measure_shapes(binary_fill_holes(ids == number).astype(np.uint8), SIZE)["solidity"].iloc[0]
    assert nucleoli.loc[holed, "solidity"].iloc[0] == pytest.approx(filled, rel=1e-9)
    assert filled > plain
    assert nucleoli["proximity_to_envelope"].between(0, 1).all()


def test_texture_is_that_of_each_object_alone(project, measured) -> None:
    ids, image = open_volume(measured.path / "mitochondrion.ome.zarr").read(), project.image.read()
    rows = of(tables(measured)[0], "mitochondrion")
    settings = MeasureSettings(**FAST)
    everything = (slice(None), slice(None), slice(None))
    for place, number in enumerate(rows["object_id"]):
        alone = (ids == number).astype(np.int32)
        low, high = np.array([image[ids == number].min()]), np.array([image[ids == number].max()])
        levels = quantise(alone, image, low, high, Quantisation(n_bins=8))
        pairs = cooccurrence_table(add_pairs(alone, 1, everything, levels, Pairing(8)))
        zones = zone_table(merge_zones([find_zones(alone, np.array([1]), levels, (0, 0, 0), SHAPE)]), np.array([1]))
        limits = np.column_stack([np.zeros(1, np.int64), high.astype(np.int64)])
        spectrum = tabulate_spectrum(add_spectrum(alone, 1, everything, image, limits, settings.texture.grains))
        for expected in (pairs, zones, spectrum):
            found = rows.loc[[place], expected.columns].reset_index(drop=True)
            pd.testing.assert_frame_equal(found, expected, check_dtype=False, rtol=1e-9)
        assert rows.loc[place, ["grey_min", "grey_max"]].tolist() == [low[0], high[0]]


def test_texture_leaves_out_slices_that_the_image_lacks(tmp_path, measured) -> None:
    project = truth_project(tmp_path / "p")
    values = project.image.read()
    values[25] = values[6] = 0
    open_volume(project.image_path, mode="r+").write(project.image.grid.box, values)
    write_facts(project.image_path, {"missing": [6, 25]})
    runs = [cristae.measure(project, source="truth", block_side=side, **FAST) for side in (256, 16)]
    rows, again = (of(tables(run)[0], "mitochondrion") for run in runs)
    pd.testing.assert_frame_equal(rows, again, rtol=1e-9)
    before = of(tables(measured)[0], "mitochondrion")
    assert rows["volume_um3"].equals(before["volume_um3"])
    ids = open_volume(runs[0].path / "mitochondrion.ome.zarr").read()
    ids[[6, 25]] = 0
    for place, number in enumerate(rows["object_id"]):
        alone = (ids == number).astype(np.int32)
        inside = values[alone > 0]
        found = rows.loc[place, ["grey_min", "grey_max", "grey_mean"]].astype(float).tolist()
        assert found == pytest.approx([inside.min(), inside.max(), inside.mean()])
        levels = quantise(alone, values, *np.array([[inside.min()], [inside.max()]]), Quantisation(n_bins=8))
        pairs = cooccurrence_table(add_pairs(alone, 1, (slice(None),) * 3, levels, Pairing(8)))
        assert rows.loc[place, "glcm_contrast"] == pytest.approx(pairs["glcm_contrast"].iloc[0], rel=1e-9)
    project = truth_project(
        tmp_path / "q", {"thing": np.isin(np.arange(34), [17])[:, None, None] & tissue()["nucleus"]}
    )
    write_facts(project.image_path, {"missing": [17]})
    unpictured = tables(cristae.measure(project, source="truth", **FAST))[0]
    textures = [name for name in unpictured if name.startswith(("grey", "glcm", "szm", "ps_"))]
    assert len(unpictured) and len(textures) > 40 and unpictured[textures].isna().all(axis=None)


def test_pairs_of_an_object_may_be_more_than_those_of_a_block_can(monkeypatch) -> None:
    generator = np.random.default_rng(0)
    grid = Grid((32, 32, 64), (1.0, 1.0, 1.0))  # two blocks
    image = Volume(generator.integers(0, 3, grid.shape).astype(np.uint8), grid)
    one = Sample("s", grid, {"thing": Layer("thing", Volume(np.ones(grid.shape, np.uint8), grid, "labels"))}, image)
    walk, texture = Walk(32, Crew(), 1e9), MeasureSettings(bins=3).texture
    greys = textures.Greys(one.layers["thing"], find_sizes(one.layers["thing"], one, walk), one, image)
    few = textures.measure_pairs(greys, texture, walk)
    largest = []

    def many(*block) -> Cooccurrence:
        """As many times as many pairs as the type of a block's counts holds: no feature depends on their number."""
        counted = add_pairs(*block)
        largest.append(int(counted.pairs.max()) * 40_000)
        assert largest[-1] <= np.iinfo(counted.pairs.dtype).max
        return Cooccurrence(counted.pairs * counted.pairs.dtype.type(40_000), counted.distances)

    monkeypatch.setattr(textures, "add_pairs", many)
    pd.testing.assert_frame_equal(textures.measure_pairs(greys, texture, walk), few, rtol=1e-9)
    assert len(largest) == 2 and sum(largest) > np.iinfo(np.int32).max


def test_distances_are_those_of_all_voxels(project, measured) -> None:
    objects, layers = tables(measured)[0], tissue()
    mitochondria = open_volume(measured.path / "mitochondrion.ome.zarr").read()
    nuclei = open_volume(measured.path / "nucleus.ome.zarr").read()
    rows = of(objects, "mitochondrion").set_index("object_id")
    checked = 0
    for number, row in rows[~rows["touches_edge"]].iterrows():
        place = np.argwhere(mitochondria == number)
        to_edge = (np.minimum(place + 1, np.array(SHAPE) - place) * SIZE).min()
        to_nuclei = cdist(place * SIZE, np.argwhere(nuclei) * SIZE).min()
        if to_nuclei <= min(200, to_edge):
            assert row["nearest_nucleus_dist_nm"] == pytest.approx(to_nuclei)
            checked += 1
        else:
            assert np.isnan(row["nearest_nucleus_dist_nm"])
        to_membrane = cdist(place * SIZE, np.argwhere(layers["cell"] != row["parent_cell_id"]) * SIZE).min()
        if to_membrane <= to_edge:
            assert row["membrane_dist_nm"] == pytest.approx(to_membrane)
            checked += 1
    assert checked >= 3
    nucleoli = of(objects, "nucleolus")
    centroids = nucleoli[["centroid_z_nm", "centroid_y_nm", "centroid_x_nm"]].to_numpy()
    for place, (_, row) in enumerate(nucleoli.iterrows()):
        nucleus = np.argwhere(nuclei == row["parent_nucleus_id"]) * SIZE
        to_centre = np.linalg.norm(nucleus.mean(axis=0) - centroids[place])
        assert row["nucleus_centre_distance_nm"] == pytest.approx(to_centre)
        assert row["proximity_to_envelope"] == pytest.approx(to_centre / (to_centre + row["envelope_distance_nm"]))


def test_relations(measured) -> None:
    relations = tables(measured)[1]
    inside = relations.query("a_class == 'nucleus' and b_class == 'nucleolus'")
    assert inside["relation"].tolist().count("overlap") == 2
    assert ((inside["min_dist_nm"] == 0) == (inside["relation"] == "overlap")).all()
    assert (relations["min_dist_nm"].dropna() <= 200).all()
    nearest = of(tables(measured)[0], "mitochondrion")
    with_nuclei = relations.query("a_class == 'nucleus' and b_class == 'mitochondrion'")
    for _, row in nearest[nearest["nearest_nucleus_id"].notna()].iterrows():
        mine = with_nuclei[with_nuclei["b_id"] == row["object_id"]]
        assert mine["min_dist_nm"].min() == row["nearest_nucleus_dist_nm"]
    assert nearest["nearest_nucleus_id"].notna().any()


@pytest.mark.parametrize(
    ("side", "executor", "ram"), [(16, "serial", 4.0), (37, "threads:3", 4.0), (64, "threads:2", 0.02)]
)
def test_blocks_workers_and_memory_change_nothing(project, measured, side, executor, ram) -> None:
    again = cristae.measure(
        project, source="truth", block_side=side, max_ram_gb=ram, **FAST, options=Options(executor=executor)
    )
    assert again.id != measured.id
    for one, other in zip(tables(measured), tables(again), strict=True):
        pd.testing.assert_frame_equal(one, other, check_exact=False, rtol=1e-9, atol=1e-15)
        for column in one.select_dtypes(["number"]):
            if "count" in column or "n_voxels" in column or column.startswith(("bbox", "szm_n", "n_")):
                assert one[column].equals(other[column])


def test_doubling_the_voxel_size(tmp_path, measured) -> None:
    twice = truth_project(tmp_path / "p", size=tuple(2 * length for length in SIZE))
    one, two = tables(measured)[0], tables(cristae.measure(twice, source="truth", max_distance_nm=400, **FAST))[0]
    powers = {"volume_um3": 3, "surface_um2": 2, "axis_1_nm": 1, "n_voxels": 0, "mitochondrion_per_um3": -3}
    powers |= {"filled_volume_um3": 3, "membrane_contact_um2": 2, "nearest_nucleus_dist_nm": 1, "skeleton_length_um": 1}
    powers |= dict.fromkeys([name for name in one if name.startswith(("glcm_", "szm_", "ps_"))], 0)
    for column, power in powers.items():
        np.testing.assert_allclose(two[column].astype(float), 2.0**power * one[column].astype(float), rtol=1e-9)


def test_a_killed_run_goes_on_without_doing_finished_families_again(project, tmp_path, measured, monkeypatch) -> None:
    fresh = truth_project(tmp_path / "p")
    done: list[str] = []
    for family, measure in dict(whole._TEXTURE).items():

        def told(greys, texture, walk, family=family, measure=measure):
            done.append(f"{greys.layer.name} {family}")
            if done[-1] == "nucleus zones" and done.count(done[-1]) == 1:
                raise KeyboardInterrupt
            return measure(greys, texture, walk)

        monkeypatch.setitem(whole._TEXTURE, family, told)
    with pytest.raises(KeyboardInterrupt):
        cristae.measure(fresh, source="truth", **FAST)
    assert fresh.runs("measure")[0].manifest["status"] == "interrupted"
    run = cristae.measure(fresh, source="truth", **FAST)
    assert sorted(done) == sorted([*{*done}, "nucleus zones"])
    for one, other in zip(tables(measured), tables(run), strict=True):
        pd.testing.assert_frame_equal(one, other, check_exact=True)
    assert not list(run.path.glob(".*"))


def test_what_a_column_means_stands_beside_it(measured) -> None:
    objects, relations, violations = tables(measured)
    told = json.loads((measured.path / "dictionary.json").read_text())
    for name, table in (("objects", objects), ("relations", relations), ("violations", violations)):
        assert [entry["name"] for entry in told[name]] == table.columns.tolist()
        assert all(entry["definition"] for entry in told[name])
    assert set(told["objects"][0]) == {"name", "unit", "definition", "equation", "paper"}
    assert told["settings"]["quantisation"]["bins"] == 8
    assert told["settings"]["ps"]["largest_radius_px"] == 2
    schema = pq.read_schema(measured.path / "objects.parquet")
    assert schema.field("volume_um3").metadata[b"unit"].decode() == "µm³"
    assert len(pd.read_csv(measured.path / "objects.csv")) == len(objects)
    per_class = objects.groupby("class")
    assert per_class["skeleton_length_um"].count()["mitochondrion"] == 3
    assert per_class["invagination_fraction"].count()["nucleus"] == 2
    assert per_class["skeleton_length_um"].count()["nucleus"] == 0


def test_progress_goes_up_to_all_of_it(project) -> None:
    told: list[tuple[int, int]] = []

    def progress(task):
        return lambda done, total, **facts: told.append((done, total)) if task == "measure" else None

    run = cristae.measure(project, source="truth", block_side=20, **FAST, options=Options(progress=progress))
    assert run.finished
    assert told == sorted(told)
    assert len({total for _, total in told}) == 1
    assert told[-1][0] == told[-1][1]


def test_finished_is_skipped_and_new_truth_is_measured_anew(tmp_path) -> None:
    fresh = truth_project(tmp_path / "p")
    words: list[str] = []
    chosen = {"source": "truth", "families": ["holes"], "classes": ["mitochondrion"]}
    run = cristae.measure(fresh, **chosen)
    assert cristae.measure(fresh, **chosen, options=Options(notify=words.append)).id == run.id
    assert "nothing to do" in words[0]
    assert {entry.stage: entry.condition for entry in cristae.status(fresh)}["measure"] == "done"
    put_truth(fresh, {"mitochondrion": tissue()["nucleus"]})
    assert {entry.stage: entry.condition for entry in cristae.status(fresh)}["measure"] == "stale"
    again = cristae.measure(fresh, **chosen)
    assert again.id != run.id
    assert again.manifest["n_objects"] == {"mitochondrion": 3}
    assert "surface_um2" not in tables(again)[0]


def test_labels_without_an_image(tmp_path, monkeypatch, capsys) -> None:
    project, layers = cristae.init(tmp_path / "p", voxel_size=SIZE), tissue()
    tifffile.imwrite(tmp_path / "mito.tif", 9 * layers["mitochondrion"].astype(np.uint8))
    tifffile.imwrite(tmp_path / "one.tif", layers["mitochondrion"][0].astype(np.uint8))
    with pytest.raises(DataError, match="no image yet"):
        cristae.import_truth(project, tmp_path / "one.tif", classes={"mitochondrion": None})
    cristae.import_truth(project, tmp_path / "mito.tif", classes={"mitochondrion": None})
    words: list[str] = []
    run = cristae.measure(project, source="truth", options=Options(notify=words.append))
    objects = tables(run)[0]
    assert not [name for name in objects if name.startswith(("glcm", "szm", "ps_", "grey"))]
    assert any("no image" in said for said in words) and any("no cells" in said for said in words)
    assert "parent_cell_id" not in objects  # the parent layer is missing
    assert objects["n_voxels"].sum() == layers["mitochondrion"].sum()
    assert [entry.condition for entry in cristae.status(project)] == ["missing", "done", "done"]
    monkeypatch.setattr("sys.argv", ["cristae", "measure", str(project.path), "--set", "source=truth", "--quiet"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "mitochondrion" in shown and "±" in shown and run.path.name in shown


def test_what_borders_on_slices_that_nobody_looked_at_is_cut(tmp_path) -> None:
    layers = tissue()
    project = cristae.init(tmp_path / "p", voxel_size=SIZE)
    put_truth(project, {"mitochondrion": layers["mitochondrion"]}, slices=range(0, 26))
    objects = tables(cristae.measure(project, source="truth", families=["shape"]))[0]
    assert objects["bbox_z_stop_px"].max() == 26
    assert objects["touches_edge"].tolist() == [
        stop == 26 or x == SHAPE[2]
        for stop, x in zip(objects["bbox_z_stop_px"], objects["bbox_x_stop_px"], strict=True)
    ]


def test_an_empty_class_has_no_rows(tmp_path) -> None:
    layers = tissue() | {"mitochondrion": np.zeros(SHAPE, bool)}
    run = cristae.measure(truth_project(tmp_path / "p", layers), source="truth", **FAST)
    assert run.manifest["n_objects"]["mitochondrion"] == 0
    assert run.manifest["summary"]["mitochondrion"] == {
        "n": 0,
        "n_cut": 0,
        "mean_volume_um3": None,
        "sd_volume_um3": None,
    }
    assert (of(tables(run)[0], "cell").query("not touches_edge")["mitochondrion_count"] == 0).all()
    nothing = truth_project(tmp_path / "q", {"mitochondrion": np.zeros(SHAPE, bool)})
    assert len(tables(cristae.measure(nothing, source="truth", **FAST))[0]) == 0


def test_labels_and_image_must_fit(tmp_path) -> None:
    mitochondria = {"mitochondrion": tissue()["mitochondrion"]}
    project = truth_project(tmp_path / "p", mitochondria, image=False)
    put_image(project, np.zeros((SHAPE[0], SHAPE[1], SHAPE[2] + 1), np.uint8))
    with pytest.raises(DataError, match=r"34 × 44 × 71.*same volume"):
        cristae.measure(project, source="truth")
    project = truth_project(tmp_path / "q", mitochondria, image=False)
    put_image(project, np.zeros(SHAPE, np.uint8), (20.0, 10.0, 11.0))
    with pytest.raises(DataError, match="nm"):
        cristae.measure(project, source="truth")
    assert not project.runs("measure")


def sample(labels: np.ndarray, size=(1.0, 1.0, 1.0)) -> Sample:
    grid = Grid(labels.shape, size)
    return Sample("s", grid, {"thing": Layer("thing", Volume(labels, grid, "labels"))}, None)


def test_ids_that_are_none(tmp_path) -> None:
    with pytest.raises(DataError, match="float32; expected whole numbers"):
        sample(np.zeros((2, 2, 2), np.float32)).check()
    labels = np.zeros((4, 4, 4), np.int32)
    labels[1, 1, 1] = -3
    walk, negative = Walk(16, Crew(), 1e9), sample(labels)
    with pytest.raises(DataError, match=r"thing.*-3"):
        find_sizes(negative.layers["thing"], negative, walk)


def test_nothing_to_measure_and_unknown_names(tmp_path, project) -> None:
    empty = cristae.init(tmp_path / "p", voxel_size=SIZE)
    with pytest.raises(DataError, match="source=truth"):
        cristae.measure(empty)
    with pytest.raises(DataError, match="no truth to measure"):
        cristae.measure(empty, source="truth")
    for wrong in (
        {"classes": ["golgi"]},
        {"features": {"roughness": ["nucleus"]}},
        {"features": {"skeleton": ["golgi"]}},
        {"pairs": [["nucleus", "golgi"]]},
        {"nucleus": "cell"},
        {"distances": [1, 1]},
        {"families": ["colour"]},
    ):
        with pytest.raises(UsageError):
            cristae.measure(project, source="truth", **wrong)


def test_a_crop_that_is_too_big_is_made_coarser_slab_by_slab(monkeypatch) -> None:
    labels = np.pad((np.random.default_rng(1).random((37, 29, 23)) < 0.7).astype(np.uint16), 2)
    one = sample(labels, (3.0, 2.0, 1.0))
    one = Sample("s", one.grid, one.layers, Volume(labels * 7 + 1, one.grid))
    sizes = find_sizes(one.layers["thing"], one, Walk(16, Crew(), 1e9))
    monkeypatch.setattr(crops, "_SLAB_VOXELS", 3000)
    for limit in (10**6, 8000, 500):
        expected = fitted(Crop(labels > 0, one.image.read(), one.grid.voxel_size), limit)
        got = CropReader(one.layers["thing"], one, limit).read(sizes, 0)
        assert got.factor == expected.factor and got.voxel_size == expected.voxel_size
        np.testing.assert_array_equal(got.mask, expected.mask)
        np.testing.assert_array_equal(got.image, expected.image)


def test_features_of_others(project, monkeypatch) -> None:
    class Extent:
        definitions: ClassVar = {"extent_fraction": Definition("", "share of its box")}
        meaningless_when_cut = frozenset()

        def __call__(self, mask, image, voxel_size):
            if mask.sum() < 400:
                raise RuntimeError("too small")
            return {"extent_fraction": mask.mean()}

    class Entry:
        name, value, dist = "extent", "mine:Extent", None

        def load(self):
            return Extent

    monkeypatch.setattr("cristae.features.registry.entry_points", lambda group: [Entry()])
    words: list[str] = []
    run = cristae.measure(
        project, source="truth", families=["features"], classes=["mitochondrion"], options=Options(notify=words.append)
    )
    objects = tables(run)[0]
    assert objects["extent_fraction"].notna().tolist() == (objects["n_voxels"] >= 400).tolist()
    assert objects["extent_fraction"].isna().any() and objects["extent_fraction"].notna().any()
    told = {entry["name"]: entry for entry in json.loads((run.path / "dictionary.json").read_text())["objects"]}
    assert told["extent_fraction"]["definition"] == "share of its box"
    assert [said for said in words if "too small" in said] == [
        f"measure: {sentence}" for sentence in run.manifest["problems"]
    ]
    assert len(run.manifest["problems"]) == 1
