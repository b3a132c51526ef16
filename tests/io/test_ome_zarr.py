from __future__ import annotations

import errno
import itertools
import json
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import ome_zarr_models
import pytest
import tensorstore
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from cristae.errors import DataError
from cristae.geometry import Box, Grid
from cristae.io import ome_zarr
from cristae.io.ome_zarr import (
    CHUNK,
    Storage,
    build_pyramid,
    create_volume,
    is_ome_zarr,
    list_labels,
    n_levels,
    open_volume,
    read_facts,
    reduce_block,
    shard_shape,
    write_facts,
)
from cristae.io.stored import StoredArray

SIZE = (45.0, 4.6, 4.6)


def grey(shape, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, 250, shape).astype(dtype)


def stored(path, values, size=SIZE, kind="image", storage=None):
    volume = create_volume(path, Grid(values.shape, size), values.dtype, kind, storage)
    volume.write(volume.grid.box, values)
    return path


@settings(max_examples=12)
@given(
    st.tuples(st.integers(1, 20), st.integers(1, 40), st.integers(1, 140)),
    st.sampled_from(["uint8", "uint16", "uint32", "float32"]),
)
def test_write_then_read_round_trips(tmp_path_factory, shape, dtype):
    path = stored(tmp_path_factory.mktemp("z") / "a.ome.zarr", grey(shape, dtype))
    volume = open_volume(path)
    assert volume.dtype == np.dtype(dtype)
    assert volume.grid == Grid(shape, SIZE)
    assert (volume.read() == grey(shape, dtype)).all()


@pytest.mark.parametrize("kind", ["image", "labels", "probability", "flow"])
def test_the_kind_comes_back(tmp_path, kind):
    assert open_volume(stored(tmp_path / "a.ome.zarr", grey((2, 3, 4)), kind=kind)).kind == kind


def test_what_is_written_is_valid_ome_zarr_and_zarr_3(tmp_path):
    path = stored(tmp_path / "a.ome.zarr", grey((3, 600, 700)))
    build_pyramid(path)
    group = zarr.open_group(path, mode="r")
    image = ome_zarr_models.open_ome_zarr(group)
    assert type(image).__module__.startswith("ome_zarr_models.v05")
    assert group.metadata.zarr_format == 3
    axes = [(axis.name, axis.unit) for axis in image.ome_attributes.multiscales[0].axes]
    assert axes == [("z", "nanometer"), ("y", "nanometer"), ("x", "nanometer")]
    assert zarr.open_array(path / "0").metadata.dimension_names == ("z", "y", "x")


def test_unwritten_voxels_hold_the_fill_value_and_take_no_space(tmp_path):
    path = tmp_path / "a.ome.zarr"
    create_volume(path, Grid((64, 512, 512), SIZE), np.uint8, "labels", Storage((1, 512, 512), (1, 512, 512), 255))
    assert (open_volume(path).read() == 255).all()
    assert sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) < 10_000


def test_an_existing_volume_is_never_overwritten(tmp_path):
    path = stored(tmp_path / "a.ome.zarr", grey((1, 2, 3)))
    with pytest.raises(FileExistsError, match="choose another name"):
        create_volume(path, Grid((1, 2, 3), SIZE), np.uint8, "image")


def test_chunks_and_shards_are_cut_to_the_volume(tmp_path):
    small = open_volume(stored(tmp_path / "a.ome.zarr", grey((2, 30, 40))))
    assert small.array.chunks == shard_shape(small) == (2, 30, 40)
    large = open_volume(stored(tmp_path / "b.ome.zarr", grey((17, 300, 1500))))
    assert large.array.chunks == CHUNK
    assert shard_shape(large) == (16, 384, 1024)


@pytest.mark.parametrize(
    ("size", "shapes"),
    [
        ((8.0, 8.0, 8.0), [(20, 1100, 1030), (10, 550, 515), (5, 275, 258)]),
        ((45.0, 8.0, 8.0), [(20, 1100, 1030), (20, 550, 515), (20, 275, 258)]),
    ],
)
def test_a_pyramid_grows_isotropic_and_covers_the_volume(tmp_path, size, shapes):
    path = stored(tmp_path / "a.ome.zarr", grey(shapes[0]), size)
    build_pyramid(path)
    levels = [open_volume(path, level) for level in range(n_levels(path))]
    assert [level.shape for level in levels] == shapes
    for fine, coarse in itertools.pairwise(levels):
        factor = tuple(round(b / a) for a, b in zip(fine.grid.voxel_size, coarse.grid.voxel_size, strict=True))
        assert (coarse.read() == reduce_block(fine.read(), factor, "image")).all()
        for axis in range(3):
            first = fine.grid.origin[axis] - fine.grid.voxel_size[axis] / 2
            assert coarse.grid.origin[axis] - coarse.grid.voxel_size[axis] / 2 == pytest.approx(first)


def test_building_the_pyramid_again_changes_nothing(tmp_path):
    path = stored(tmp_path / "a.ome.zarr", grey((4, 600, 600)))
    build_pyramid(path)
    first = open_volume(path, 1).read()
    write_facts(path, {"digest": "x"})
    build_pyramid(path)
    assert n_levels(path) == 2
    assert (open_volume(path, 1).read() == first).all()
    assert read_facts(path)["digest"] == "x"


def test_coarser_labels_are_ids_that_exist(tmp_path):
    ids = np.where(grey((2, 600, 600)) > 125, np.uint16(900), np.uint16(7))
    path = stored(tmp_path / "a.ome.zarr", ids, kind="labels")
    build_pyramid(path)
    assert set(np.unique(open_volume(path, 1).read())) == {7, 900}


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_reducing_a_constant_keeps_it(dtype):
    values = np.full((3, 5, 7), 251, dtype)
    for kind in ("image", "labels"):
        reduced = reduce_block(values, (2, 2, 2), kind)
        assert reduced.shape == (2, 3, 4)
        assert reduced.dtype == values.dtype
        assert (reduced == 251).all()


def test_label_layers_are_registered_with_their_image(tmp_path):
    path = stored(tmp_path / "a.ome.zarr", grey((2, 30, 40)))
    assert list_labels(path) == ()
    for name in ("mito", "nucleus"):
        stored(path / "labels" / name, grey((2, 30, 40), np.uint16), kind="labels")
    assert list_labels(path) == ("mito", "nucleus")
    labels = ome_zarr_models.open_ome_zarr(zarr.open_group(path / "labels", mode="r"))
    assert labels.ome_attributes.labels == ["mito", "nucleus"]
    ome_zarr_models.open_ome_zarr(zarr.open_group(path / "labels" / "mito", mode="r"))
    assert (open_volume(path).read() == grey((2, 30, 40))).all()


def test_facts_add_up_and_do_not_disturb_the_metadata(tmp_path):
    path = stored(tmp_path / "a.ome.zarr", grey((2, 3, 4)))
    write_facts(path, {"digest": "x", "missing": [1]})
    write_facts(path, {"digest": "y"})
    assert read_facts(path) == {"kind": "image", "digest": "y", "missing": [1]}
    assert open_volume(path).grid.voxel_size == SIZE


def foreign(path, *, axes, scale, values, extra=None, translation=None):
    """Write OME-Zarr 0.4 by hand, as other programs do."""
    group = zarr.open_group(path, mode="w", zarr_format=2)
    group.create_array("s0", shape=values.shape, dtype=values.dtype, chunks=tuple(min(8, n) for n in values.shape))[
        ...
    ] = values
    transforms = [{"type": "scale", "scale": scale}]
    if translation:
        transforms.append({"type": "translation", "translation": translation})
    multiscale = {
        "version": "0.4",
        "axes": axes,
        "datasets": [{"path": "s0", "coordinateTransformations": transforms}],
        **(extra or {}),
    }
    group.attrs["multiscales"] = [multiscale]
    return path


def space(*names, unit="nanometer"):
    return [{"name": name, "type": "space", **({"unit": unit} if unit else {})} for name in names]


def test_version_0_4_in_three_axes(tmp_path):
    values = grey((5, 20, 30), np.uint16)
    path = foreign(
        tmp_path / "a.zarr", axes=space("z", "y", "x"), scale=list(SIZE), values=values, translation=[90.0, 0.0, 4.6]
    )
    volume = open_volume(path)
    assert is_ome_zarr(path)
    assert volume.grid == Grid((5, 20, 30), SIZE, (90.0, 0.0, 4.6))
    assert (volume.read(Box((1, 2, 3), (4, 9, 9))) == values[1:4, 2:9, 3:9]).all()


def test_version_0_4_in_five_axes_and_micrometres_with_a_scale_of_the_whole_group(tmp_path):
    values = grey((2, 3, 5, 20, 30))
    path = foreign(
        tmp_path / "a.zarr",
        axes=[{"name": "t", "type": "time"}, {"name": "c", "type": "channel"}, *space(*"zyx", unit="micrometer")],
        scale=[1.0, 1.0, 0.045, 0.0023, 0.0023],
        values=values,
        extra={"coordinateTransformations": [{"type": "scale", "scale": [1.0, 1.0, 1.0, 2.0, 2.0]}]},
    )
    assert open_volume(path).grid.voxel_size == pytest.approx(SIZE)
    assert (open_volume(path).read() == values[0, 0]).all()
    assert (open_volume(path, channel=2).read() == values[0, 2]).all()


@pytest.mark.parametrize("unit", [None, "second"])
def test_axes_without_a_unit_of_length_need_a_voxel_size(tmp_path, unit):
    values = grey((2, 3, 4))
    path = foreign(tmp_path / "a.zarr", axes=space(*"zyx", unit=unit), scale=[1.0] * 3, values=values)
    with pytest.raises(DataError, match="Give the voxel size"):
        open_volume(path)
    assert open_volume(path, voxel_size=SIZE).grid.voxel_size == SIZE


def test_other_axes_are_refused(tmp_path):
    path = foreign(tmp_path / "a.zarr", axes=space("y", "x"), scale=[1.0, 1.0], values=grey((3, 4)))
    with pytest.raises(DataError, match="z, y, x"):
        open_volume(path)


def test_a_missing_level_is_named(tmp_path):
    path = stored(tmp_path / "a.ome.zarr", grey((2, 600, 600)))
    build_pyramid(path)
    with pytest.raises(DataError, match="2 levels; level 2"):
        open_volume(path, 2)
    shutil.rmtree(path / "1")
    with pytest.raises(DataError, match="incomplete"):
        open_volume(path, 1)


def test_what_is_no_ome_zarr_is_refused_with_the_reason(tmp_path):
    with pytest.raises(DataError, match="no OME-Zarr image"):
        open_volume(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no OME-Zarr image"):
        open_volume(tmp_path / "empty")
    assert not is_ome_zarr(tmp_path / "empty")
    zarr.open_group(tmp_path / "plain", mode="w")
    with pytest.raises(DataError, match="no 'multiscales'"):
        open_volume(tmp_path / "plain")
    assert not is_ome_zarr(tmp_path / "plain")


def test_metadata_that_break_the_standard_are_refused(tmp_path):
    path = stored(tmp_path / "a.ome.zarr", grey((2, 3, 4)))
    content = json.loads((path / "zarr.json").read_text())
    del content["attributes"]["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    (path / "zarr.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="break the standard"):
        open_volume(path)


def test_a_zarr_json_that_was_cut_short_is_a_data_error(tmp_path):
    path = stored(tmp_path / "a.ome.zarr", grey((2, 3, 4)))
    text = (path / "zarr.json").read_text()
    (path / "zarr.json").write_text(text[: len(text) // 2])
    with pytest.raises(DataError):
        open_volume(path)
    assert not is_ome_zarr(path)


def test_a_shard_that_was_cut_short_does_not_read_as_grey_values(tmp_path):
    path = stored(tmp_path / "a.ome.zarr", grey((2, 300, 300)))
    shard = next(file for file in (path / "0").rglob("*") if file.is_file() and file.name != "zarr.json")
    shard.write_bytes(shard.read_bytes()[:1000])
    with pytest.raises(DataError, match="damaged"):
        open_volume(path).read()


@pytest.mark.parametrize("kind", ["image", "labels"])
def test_no_damaged_chunk_is_read_as_voxels_in_whole_or_in_part(tmp_path, kind):
    values = np.random.default_rng(0).integers(0, 3 if kind == "labels" else 250, (5, 40, 44)).astype(np.uint16)
    path = stored(tmp_path / "a.ome.zarr", values, kind=kind)
    shard = path / "0" / "c" / "0" / "0" / "0"
    whole = shard.read_bytes()
    random = np.random.default_rng(1)
    for place in random.integers(0, len(whole), 60):
        content = bytearray(whole)
        content[place] ^= 1 << int(random.integers(8))
        shard.write_bytes(content)
        for box in (None, Box((1, 3, 4), (3, 30, 20))):
            with pytest.raises(DataError, match="a chunk of this volume is damaged"):
                open_volume(path).read(box)
    shard.write_bytes(b"")
    with pytest.raises(DataError, match="damaged"):
        open_volume(path).read()


def test_volumes_without_checksums_are_read_and_written_on(tmp_path, monkeypatch):
    with monkeypatch.context() as before:
        codecs = ome_zarr._codecs
        before.setattr(ome_zarr, "_codecs", lambda dtype, kind: codecs(dtype, kind)[:1])
        path = stored(tmp_path / "a.ome.zarr", grey((3, 600, 40)))
    assert len(zarr.open_array(path / "0").metadata.codecs[0].codecs) == 2
    volume = open_volume(path, mode="r+")
    volume.write(Box((0, 0, 0), (1, 600, 40)), grey((1, 600, 40), seed=3))
    expected = np.concatenate([grey((1, 600, 40), seed=3), grey((3, 600, 40))[1:]])
    assert (open_volume(path).read() == expected).all()
    build_pyramid(path)
    assert (open_volume(path, 1).read() == reduce_block(expected, (1, 2, 2), "image")).all()


@pytest.mark.parametrize("dtype", ["uint8", "uint32"])
def test_others_read_what_we_store(tmp_path, dtype):
    path = stored(tmp_path / "a.ome.zarr", grey((3, 40, 50), dtype), kind="image" if dtype == "uint8" else "labels")
    store = tensorstore.open({"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path / "0")}}).result()
    assert (store.read().result() == grey((3, 40, 50), dtype)).all()
    with zarr.config.set({"codec_pipeline.path": "zarr.core.codec_pipeline.BatchedCodecPipeline"}):
        assert (zarr.open_array(path / "0")[:] == grey((3, 40, 50), dtype)).all()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"zarr_format": 3}', b'{"zarr_format": 7}'])
def test_a_level_with_damaged_metadata_is_a_data_error(tmp_path, content):
    path = stored(tmp_path / "a.ome.zarr", grey((2, 3, 4)))
    (path / "0" / "zarr.json").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.ome\.zarr/0 is damaged"):
        open_volume(path)


def test_chunks_that_nobody_could_hold_are_refused(tmp_path):
    path = stored(tmp_path / "a.ome.zarr", grey((2, 3, 4)))
    text = json.loads((path / "0" / "zarr.json").read_text())
    text["chunk_grid"]["configuration"]["chunk_shape"] = [2, 30000, 400000]
    text["codecs"][0]["configuration"]["chunk_shape"] = [2, 30000, 400000]
    (path / "0" / "zarr.json").write_text(json.dumps(text))
    with pytest.raises(DataError, match="claims chunks of 24000000000 bytes"):
        open_volume(path).read()


def test_a_shard_that_was_cut_short_can_be_written_again(tmp_path):
    # Sizes that are no multiple of chunk or shard: the fast codecs would read the damaged file before writing it.
    values = grey((20, 1100, 300))
    volume = create_volume(tmp_path / "a.ome.zarr", Grid((20, 1100, 300), (8.0, 8.0, 8.0)), np.uint8, "image")
    volume.write(volume.grid.box, values)
    for path in (tmp_path / "a.ome.zarr" / "0" / "c").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:1000])
    volume.write(volume.grid.box, values)
    assert (open_volume(tmp_path / "a.ome.zarr").read() == values).all()


def test_a_volume_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(ome_zarr, "_write_metadata", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    grid = Grid((2, 8, 8), (8.0, 8.0, 8.0))
    with pytest.raises(OSError, match="full"):
        create_volume(tmp_path / "a.ome.zarr" / "labels" / "x", grid, np.uint8, "labels")
    assert list_labels(tmp_path / "a.ome.zarr") == ()
    monkeypatch.undo()
    create_volume(tmp_path / "a.ome.zarr" / "labels" / "x", grid, np.uint8, "labels")
    assert list_labels(tmp_path / "a.ome.zarr") == ("x",)


def in_threads(work, todo):
    with ThreadPoolExecutor(3) as pool:
        return list(pool.map(work, todo))


def test_a_pyramid_is_the_same_whoever_works_on_its_blocks(tmp_path):
    values = np.random.default_rng(0).integers(0, 255, (20, 1100, 1300)).astype(np.uint8)
    for name, each in (("a", map), ("b", in_threads)):
        create_volume(tmp_path / name, Grid(values.shape, (8.0, 8.0, 8.0)), np.uint8, "image").write(
            Box.of_shape(values.shape), values
        )
        build_pyramid(tmp_path / name, each)
    assert n_levels(tmp_path / "a") == n_levels(tmp_path / "b") == 3
    for level in (1, 2):
        assert (open_volume(tmp_path / "a", level).read() == open_volume(tmp_path / "b", level).read()).all()


def shards(path):
    return sorted(str(one.relative_to(path / "0")) for one in (path / "0" / "c").rglob("*") if one.is_file())


def test_a_shard_of_background_takes_no_file_even_where_there_was_one(tmp_path):
    storage = Storage(chunk=(2, 8, 8), shard=(2, 16, 16))
    layer = create_volume(tmp_path / "a", Grid((4, 32, 16), (1.0, 1.0, 1.0)), np.uint32, "labels", storage)
    values = np.zeros((4, 32, 16), np.uint32)
    values[:2, :16] = 7
    layer.write(layer.grid.box, values)
    assert shards(tmp_path / "a") == ["c/0/0/0"]
    layer.write(layer.grid.box, np.roll(values, 16, axis=1))
    assert shards(tmp_path / "a") == ["c/0/1/0"]
    assert (layer.read() == np.roll(values, 16, axis=1)).all()


@pytest.mark.parametrize("broken", ["_replace", "_shards"])
def test_a_write_that_fails_leaves_the_old_voxels_and_nothing_else(tmp_path, monkeypatch, broken):
    storage = Storage(chunk=(2, 8, 8), shard=(2, 16, 16))
    layer = create_volume(tmp_path / "a", Grid((2, 16, 16), (1.0, 1.0, 1.0)), np.uint8, "image", storage)
    layer.write(layer.grid.box, np.full((2, 16, 16), 5, np.uint8))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(StoredArray, broken, fail)
    with pytest.raises(OSError, match="No space"):
        layer.write(layer.grid.box, np.full((2, 16, 16), 6, np.uint8))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_what_a_killed_writer_left_goes_when_the_volume_is_opened_for_writing(tmp_path):
    create_volume(tmp_path / "a", Grid((2, 16, 16), (1.0, 1.0, 1.0)), np.uint8, "image")
    (tmp_path / "a" / "0" / ".abc.partial" / "c").mkdir(parents=True)
    (tmp_path / "a" / "0" / "zarr.abc.partial").touch()
    (tmp_path / "a" / "zarr.abc.partial").touch()
    open_volume(tmp_path / "a")
    assert len(list(tmp_path.rglob("*.partial"))) == 3
    open_volume(tmp_path / "a", mode="r+")
    assert not list(tmp_path.rglob("*.partial"))


def test_a_volume_is_pickled_as_its_path(tmp_path):
    layer = create_volume(tmp_path / "a", Grid((2, 16, 16), (1.0, 1.0, 1.0)), np.uint8, "image")
    content = pickle.dumps(layer)
    assert len(content) < 1000
    pickle.loads(content).write(layer.grid.box, np.full((2, 16, 16), 5, np.uint8))
    assert (layer.read() == 5).all()
