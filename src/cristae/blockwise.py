"""`map_blocks`: the one place that lifts a function of arrays to volumes.

It alone knows reading, halos, writing, executors and resuming::

    read box of each input --> function(block, *arrays) --> write box of each output --> a line in the journal

The serial executor reads the next block and writes the last one while the function works on this one, so that a
function that keeps all cores busy by itself (a network) never waits for the disk.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cristae.errors import DataError, UsageError
from cristae.executors import Crew
from cristae.geometry import Block, Voxels, blocks
from cristae.io.ome_zarr import shard_shape, stored_at
from cristae.volume import Volume

BlockFunction = Callable[..., np.ndarray | Sequence[np.ndarray]]


class Progress(Protocol):
    """Called after each unit of work."""

    def __call__(self, done: int, total: int, **facts: float) -> None:
        """Take note that `done` of `total` units are finished; `facts` are numbers worth showing."""
        ...


class Journal:
    """The blocks that are finished, one line each, on disk: what a resumed run need not do again.

    Parameters
    ----------
    path
        Text file; made when the first block ends. A journal of another tiling is discarded.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def finished(self, tiling: str) -> set[str]:
        """Return the keys of finished blocks of `tiling`; a line that a kill cut short does not count."""
        if not self.path.is_file():
            return set()
        *lines, _ = self.path.read_text().split("\n")
        if not lines or lines[0] != tiling:
            self.path.unlink()
            return set()
        return set(lines[1:])

    def add(self, tiling: str, key: str) -> None:
        """Note that the block of that key is on disk."""
        new = not self.path.exists()
        with self.path.open("a") as file:
            if not new and not _ends_with_newline(self.path):
                file.write("?\n")  # spoils the line that a kill cut short: a part of a key can be another key
            file.write(f"{tiling}\n{key}\n" if new else f"{key}\n")
            file.flush()
            os.fsync(file.fileno())

    def finished_rows(self, tiling: str) -> list[dict[str, Any]]:
        """Return the rows of a table that were noted with `add_row`; one that a kill cut short does not count."""
        rows = []
        for line in self.finished(tiling):
            with suppress(json.JSONDecodeError):
                rows.append(json.loads(line))
        return rows

    def add_row(self, tiling: str, row: Mapping[str, Any]) -> None:
        """Note a finished row of a table: columns by name, values that JSON has, or NaN."""
        self.add(tiling, json.dumps(row))


@dataclass(frozen=True)
class Execution:
    """How the blocks are worked off; never what comes out.

    Parameters
    ----------
    executor
        Who works; see `cristae.executors.Crew`.
    progress
        Told after each block.
    journal
        Where finished blocks are noted; those found there are skipped.
    busy
        Whether the function keeps all cores busy by itself, so that threads side by side gain nothing.
    """

    executor: str = "serial"
    progress: Progress | None = None
    journal: Journal | None = None
    busy: bool = False

    def crew(self, inputs: Sequence[Volume], outputs: Sequence[Volume]) -> Crew:
        """Return who works, with the folder of the journal, or else of an output, as their meeting place."""
        places = [self.journal.path.parent] if self.journal else [at.parent for at in map(stored_at, outputs) if at]
        crew = Crew(self.executor, *places[:1])
        if crew.kind == "dask" and any(isinstance(volume.array, np.ndarray) for volume in (*inputs, *outputs)):
            raise UsageError("a volume in memory cannot be worked on by other processes; store it with create_volume")
        return crew.alone() if self.busy else crew


def map_blocks(
    function: BlockFunction,
    inputs: Sequence[Volume],
    outputs: Sequence[Volume],
    *,
    block_shape: Voxels,
    halo: Voxels = (0, 0, 0),
    execution: Execution | None = None,
) -> None:
    """Apply `function` to every block and store what it returns.

    Parameters
    ----------
    function
        Called as ``function(block, *arrays)`` with one array of shape ``block.read.shape`` per input; returns one
        array of shape ``block.write.shape`` per output (a bare array when there is one). It must be pure: what it
        returns may depend on the block's place, never on the order or the size of blocks.
    inputs, outputs
        Volumes of one shape. Outputs tile without overlap; inputs overlap by the halo.
    block_shape
        Voxels per write box; along each axis a multiple of the outputs' shards, or the whole axis.
    halo
        Context in voxels on either side that the function needs around what it writes.
    execution
        Executor, progress and journal.

    Raises
    ------
    DataError
        If shapes differ, or an output is also an input while the halo is above 0.
    UsageError
        If the blocks would share shards of an output, or a volume for a cluster is not on disk.
    ResourceError
        If a cluster cannot be reached or used.
    """
    execution = execution or Execution()
    _check(inputs, outputs, block_shape, halo)
    crew = execution.crew(inputs, outputs)
    domain = outputs[0].grid.box
    tiling = f"blocks {block_shape} halo {halo} of {domain.shape}"
    todo = list(blocks(domain, block_shape, halo))
    total = len(todo)
    if execution.journal:
        finished = execution.journal.finished(tiling)
        todo = [block for block in todo if _key(block) not in finished]

    def read(block: Block) -> list[np.ndarray]:
        return [volume.read(block.read) for volume in inputs]

    def work(block: Block, arrays: list[np.ndarray]) -> Sequence[np.ndarray]:
        results = function(block, *arrays)
        return [results] if isinstance(results, np.ndarray) else results

    def write(block: Block, results: Sequence[np.ndarray]) -> None:
        for volume, values in zip(outputs, results, strict=True):
            volume.write(block.write, values)

    def whole(block: Block) -> Block:
        write(block, work(block, read(block)))
        return block

    ended = _pipelined(todo, read, work, write) if crew.kind == "serial" else crew.unordered(whole, todo)
    for done, block in enumerate(ended, start=total - len(todo) + 1):
        if execution.journal:
            execution.journal.add(tiling, _key(block))
        if execution.progress:
            execution.progress(done, total)


def _pipelined(
    todo: Sequence[Block],
    read: Callable[[Block], list[np.ndarray]],
    work: Callable[[Block, list[np.ndarray]], Sequence[np.ndarray]],
    write: Callable[[Block, Sequence[np.ndarray]], None],
) -> Iterator[Block]:
    """Work in this thread; one other reads ahead and one writes behind, at most one block each."""
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        ahead: Future[list[np.ndarray]] | None = reader.submit(read, todo[0]) if todo else None
        behind: tuple[Block, Future[None]] | None = None
        for i, block in enumerate(todo):
            assert ahead is not None
            arrays = ahead.result()
            ahead = reader.submit(read, todo[i + 1]) if i + 1 < len(todo) else None
            results = work(block, arrays)
            if behind:
                behind[1].result()
                yield behind[0]
            behind = block, writer.submit(write, block, results)
        if behind:
            behind[1].result()
            yield behind[0]


def _check(inputs: Sequence[Volume], outputs: Sequence[Volume], block_shape: Voxels, halo: Voxels) -> None:
    shapes = {volume.shape for volume in (*inputs, *outputs)}
    if len(shapes) != 1 or not outputs:
        raise DataError(f"expected at least one output and volumes of one shape; got shapes {sorted(shapes)}")
    if any(halo) and any(output.array is volume.array for output in outputs for volume in inputs):
        raise DataError("with a halo above 0 a volume cannot be read and overwritten at once; write to another one")
    for output in outputs:
        for block, shard, n in zip(block_shape, shard_shape(output), output.shape, strict=True):
            if block % shard and block < n:
                raise UsageError(
                    f"blocks of {block_shape} would share shards of {shard_shape(output)} voxels; "
                    "choose multiples of the shard along each axis"
                )


def _key(block: Block) -> str:
    return ",".join(str(n) for n in block.write.start)


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        if file.tell() == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
