from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import uniform_filter

from cristae.blockwise import Execution, Journal, map_blocks
from cristae.errors import DataError, UsageError
from cristae.geometry import Grid
from cristae.io.ome_zarr import Storage, create_volume, open_volume
from cristae.volume import Volume

SHAPE = (5, 12, 14)


def volume(values: np.ndarray) -> Volume:
    return Volume(values, Grid(values.shape, (45.0, 4.6, 4.6)))


def grey(shape=SHAPE) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 200, shape).astype(np.float32)


def smooth(block, values):
    """A 3×3×3 mean that treats the border of the volume, and only that, as a border."""
    padding = [
        (1 - (w - r), 1 - (q - v))
        for w, r, q, v in zip(block.write.start, block.read.start, block.read.stop, block.write.stop, strict=True)
    ]
    padded = np.pad(values, padding, mode="edge")
    return uniform_filter(padded, 3, mode="constant")[1:-1, 1:-1, 1:-1]


def whole() -> np.ndarray:
    return uniform_filter(np.pad(grey(), 1, mode="edge"), 3, mode="constant")[1:-1, 1:-1, 1:-1]


@settings(max_examples=25)
@given(
    st.tuples(st.integers(1, 6), st.integers(1, 13), st.integers(1, 15)),
    st.sampled_from(["serial", "threads:1", "threads:3"]),
)
def test_blockwise_equals_whole_whatever_the_blocks_and_the_executor(block_shape, executor):
    output = volume(np.full(SHAPE, np.nan, np.float32))
    map_blocks(
        smooth, [volume(grey())], [output], block_shape=block_shape, halo=(1, 1, 1), execution=Execution(executor)
    )
    assert np.allclose(output.read(), whole(), atol=1e-4)


def test_several_inputs_and_outputs():
    a, b = volume(grey()), volume(grey() * 2)
    total, difference = volume(np.zeros(SHAPE, np.float32)), volume(np.zeros(SHAPE, np.float32))
    map_blocks(lambda block, x, y: (x + y, y - x), [a, b], [total, difference], block_shape=(2, 5, 5))
    assert (total.read() == grey() * 3).all()
    assert (difference.read() == grey()).all()


def test_no_inputs_is_fine_for_what_depends_on_place_alone():
    output = volume(np.zeros(SHAPE, np.int64))
    map_blocks(lambda block: np.full(block.write.shape, block.write.start[0]), [], [output], block_shape=(2, 12, 14))
    assert output.read()[:, 0, 0].tolist() == [0, 0, 2, 2, 4]


class Killed(Exception):
    pass


@pytest.mark.parametrize("executor", ["serial", "threads:2"])
@settings(max_examples=10)
@given(fatal=st.integers(0, 11))
def test_interrupted_then_resumed_equals_whole_and_repeats_no_finished_block(executor, fatal):
    with tempfile.TemporaryDirectory() as folder:
        journal, calls = Path(folder) / "journal", []
        output = volume(np.zeros(SHAPE, np.float32))

        def dying(block, values):
            calls.append(block.write.start)
            if len(calls) > fatal:
                raise Killed
            return smooth(block, values)

        def arguments(function):
            return {
                "function": function,
                "inputs": [volume(grey())],
                "outputs": [output],
                "block_shape": (2, 6, 7),
                "halo": (1, 1, 1),
                "execution": Execution(executor, journal=Journal(journal)),
            }

        with pytest.raises(Killed):
            map_blocks(**arguments(dying))
        noted = set(journal.read_text().splitlines()[1:]) if journal.exists() else set()
        if journal.exists():  # the kill cut a line short
            journal.write_text(journal.read_text() + "4,6")
        again = []

        def counting(block, values):
            again.append(",".join(map(str, block.write.start)))
            return smooth(block, values)

        map_blocks(**arguments(counting))
        assert not noted & set(again)
        assert len(noted) + len(again) == 12
        assert np.allclose(output.read(), whole(), atol=1e-4)
        map_blocks(**arguments(dying))  # all is done: nothing is called


def test_a_journal_of_another_tiling_is_discarded(tmp_path):
    output, journal = volume(np.zeros(SHAPE, np.float32)), Journal(tmp_path / "journal")
    for n, block_shape in ((3, (2, 12, 14)), (5, (1, 12, 14))):
        calls = []
        map_blocks(
            lambda block, x, calls=calls: (calls.append(1), x)[1],
            [volume(grey())],
            [output],
            block_shape=block_shape,
            execution=Execution(journal=journal),
        )
        assert len(calls) == n


def test_a_line_that_a_kill_cut_short_never_counts_as_another_block(tmp_path):
    journal = Journal(tmp_path / "journal")
    journal.add("tiling", "0,0,0")
    with journal.path.open("a") as file:
        file.write("0,0,1024")  # of 0,0,10240
    assert journal.finished("tiling") == {"0,0,0"}
    journal.add("tiling", "0,0,2048")
    assert "0,0,1024" not in journal.finished("tiling")
    assert {"0,0,0", "0,0,2048"} <= journal.finished("tiling")


@pytest.mark.parametrize("executor", ["serial", "threads:2"])
def test_an_error_in_a_worker_comes_through(executor):
    def broken(block, values):
        if block.write.start[0] == 2:
            raise Killed("of slice 2")
        return values

    with pytest.raises(Killed, match="slice 2"):
        map_blocks(
            broken,
            [volume(grey())],
            [volume(grey())],
            block_shape=(1, 12, 14),
            execution=Execution(executor),
        )


@pytest.mark.parametrize("executor", ["serial", "threads:2"])
def test_progress_counts_every_block_once(executor):
    seen = []

    def progress(done, total, **facts):
        seen.append((done, total))

    map_blocks(
        lambda block, x: x,
        [volume(grey())],
        [volume(grey())],
        block_shape=(1, 12, 14),
        execution=Execution(executor, progress),
    )
    assert seen == [(i, 5) for i in range(1, 6)]


def test_blocks_that_share_a_shard_are_refused(tmp_path):
    storage = Storage(chunk=(2, 4, 4), shard=(2, 8, 8))
    output = create_volume(tmp_path / "a.ome.zarr", Grid((4, 16, 16), (1.0, 1.0, 1.0)), np.uint8, "image", storage)
    values = volume(np.ones((4, 16, 16), np.uint8))
    with pytest.raises(UsageError, match="share shards"):
        map_blocks(lambda block, x: x, [values], [output], block_shape=(2, 12, 16))
    map_blocks(lambda block, x: x, [values], [output], block_shape=(2, 8, 16), execution=Execution("threads:4"))
    assert open_volume(tmp_path / "a.ome.zarr").read().all()


def test_reading_and_overwriting_with_a_halo_is_refused():
    one = volume(grey())
    with pytest.raises(DataError, match="another one"):
        map_blocks(smooth, [one], [one], block_shape=(2, 6, 7), halo=(1, 1, 1))
    map_blocks(lambda block, x: x + 1, [one], [one], block_shape=(2, 6, 7))
    assert (one.read() == grey() + 1).all()


def test_shapes_must_agree_and_there_must_be_an_output():
    with pytest.raises(DataError, match="one shape"):
        map_blocks(lambda b, x: x, [volume(grey())], [volume(grey((5, 12, 13)))], block_shape=(1, 1, 1))
    with pytest.raises(DataError, match="one output"):
        map_blocks(lambda b, x: x, [volume(grey())], [], block_shape=(1, 1, 1))


@pytest.mark.parametrize("executor", ["dask", "threads:0", "threads:x", "threads"])
def test_an_unknown_executor_is_refused(executor):
    with pytest.raises(UsageError, match="threads:4"):
        map_blocks(
            lambda b, x: x,
            [volume(grey())],
            [volume(grey())],
            block_shape=(5, 12, 14),
            execution=Execution(executor),
        )
