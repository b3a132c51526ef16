"""Real schedulers and worker processes."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from functools import lru_cache
from pathlib import Path

import numpy as np
import psutil
import pytest

from cristae.blockwise import Execution, Journal, map_blocks
from cristae.errors import DataError, ResourceError, UsageError
from cristae.executors import Crew
from cristae.geometry import Grid
from cristae.io.ome_zarr import Storage, create_volume, open_volume
from cristae.volume import Volume

cluster = pytest.importorskip("cristae.cluster")

LOCAL = "dask:local:2"
SHAPE = (24, 32, 32)


@pytest.fixture(scope="module", autouse=True)
def _no_process_stays():
    yield
    cluster.disconnect()


@pytest.fixture
def crew(tmp_path) -> Crew:
    return Crew(LOCAL, tmp_path)


def on_disk(path: Path, values: np.ndarray | None = None) -> Volume:
    storage = Storage(chunk=(2, 16, 16), shard=(2, 32, 32))
    made = create_volume(path, Grid(SHAPE, (4.0, 4.0, 4.0)), np.uint16, "image", storage)
    if values is not None:
        made.write(made.grid.box, values)
    return made


def grey() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 1000, SHAPE).astype(np.uint16)


def brighter(block, values):
    return (values[block.write.within(block.read).slices] + block.write.start[0]).astype(np.uint16)


def test_a_local_cluster_is_for_this_machine_alone_and_finds_room_beside_others():
    with cluster._start(1), cluster._start(1):  # a port that is taken would be a warning, and so an error here
        mine = psutil.Process()
        listening = [
            connection.laddr.ip
            for process in (mine, *mine.children(recursive=True))
            for connection in process.net_connections()
            if connection.status == psutil.CONN_LISTEN
        ]
    assert len(listening) >= 4
    assert set(listening) == {"127.0.0.1"}


def test_blocks_are_worked_off_by_other_processes_with_the_same_result(tmp_path):
    source, pids = on_disk(tmp_path / "a.ome.zarr", grey()), tmp_path / "pids"
    pids.mkdir()

    def noting(block, values):
        (pids / str(os.getpid())).touch()
        return brighter(block, values)

    for name, executor in (("serial", "serial"), ("dask", LOCAL)):
        target, seen = on_disk(tmp_path / f"{name}.ome.zarr"), []
        journal = Journal(tmp_path / name)
        execution = Execution(executor, lambda done, total, seen=seen: seen.append((done, total)), journal)
        map_blocks(noting, [source], [target], block_shape=(2, 32, 32), halo=(1, 0, 0), execution=execution)
        assert seen == [(n, 12) for n in range(1, 13)]
        assert len(journal.finished("blocks (2, 32, 32) halo (1, 0, 0) of (24, 32, 32)")) == 12
    assert (open_volume(tmp_path / "dask.ome.zarr").read() == open_volume(tmp_path / "serial.ome.zarr").read()).all()
    assert {path.name for path in pids.iterdir()} > {str(os.getpid())}
    assert not list(tmp_path.rglob(".*work*")) + list(tmp_path.rglob(".*partial*"))


def test_results_come_in_order_where_that_is_asked_for(crew):
    assert list(crew.ordered(lambda n: n * n, range(30))) == [n * n for n in range(30)]
    assert sorted(crew.unordered(lambda n: -n, range(30))) == sorted(-n for n in range(30))


def test_paths_and_cached_functions_mean_the_same_elsewhere(crew, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path("note").write_text("found")

    def read(n: int) -> str:
        return Path("note").read_text() if n else relative.read_text()

    relative, cached = Path("note"), lru_cache(maxsize=2)(read)
    assert list(crew.ordered(lambda n: cached(0), range(2))) == ["found", "found"]


@pytest.mark.parametrize("error", [DataError("slice 3 is odd"), UsageError("no"), OSError(28, "No space left")])
def test_errors_of_workers_come_through_as_what_they_are(crew, error):
    def work(n):
        if n == 3:
            raise error
        return n

    with pytest.raises(type(error)) as caught:
        list(crew.unordered(work, range(8)))
    assert str(caught.value) == str(error)
    assert getattr(caught.value, "errno", None) == getattr(error, "errno", None)
    assert list(crew.ordered(lambda n: n, range(3))) == [0, 1, 2]  # the others work on


def test_a_worker_killed_in_mid_run_costs_only_its_blocks(tmp_path):
    source, target, marks = on_disk(tmp_path / "a.ome.zarr", grey()), on_disk(tmp_path / "b.ome.zarr"), tmp_path / "m"
    marks.mkdir()

    def dying(block, values):
        mark = marks / str(block.write.start[0])
        tries = len(mark.read_text()) if mark.exists() else 0
        mark.write_text("x" * (tries + 1))
        if block.write.start[0] in (4, 10) and not tries:
            os.kill(os.getpid(), signal.SIGKILL)
        return brighter(block, values)

    journal = Journal(tmp_path / "journal")
    map_blocks(dying, [source], [target], block_shape=(2, 32, 32), execution=Execution(LOCAL, journal=journal))
    starts = np.arange(SHAPE[0])[:, None, None] // 2 * 2
    assert (target.read() == grey() + starts).all()
    tries = {int(mark.name): len(mark.read_text()) for mark in marks.iterdir()}
    assert min(tries[4], tries[10]) >= 2
    assert sum(tries.values()) <= 12 + 2 * 4  # at most what lay at the workers that died, each time


def test_work_that_ends_every_worker_is_named_and_what_is_done_is_kept(tmp_path):
    source, target = on_disk(tmp_path / "a.ome.zarr", grey()), on_disk(tmp_path / "b.ome.zarr")

    def deadly(block, values):
        if block.write.start[0] == 22:
            os.kill(os.getpid(), signal.SIGKILL)
        return brighter(block, values)

    how = {"block_shape": (2, 32, 32), "execution": Execution(LOCAL, journal=Journal(tmp_path / "journal"))}
    with pytest.raises(ResourceError, match=r"workers died of the same piece of work.*lack memory"):
        map_blocks(deadly, [source], [target], **how)
    done = (tmp_path / "journal").read_text().splitlines()[1:]
    assert len(done) > 5
    again = []
    map_blocks(
        brighter,
        [source],
        [target],
        **how | {"execution": Execution(progress=lambda *a: again.append(a), journal=Journal(tmp_path / "journal"))},
    )
    assert len(again) == 12 - len(done)


class Machine:
    """A scheduler and workers that were started by hand, each a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.processes = folder, []

    def start(self, name: str, *words: str, python: str = sys.executable, **environment: str) -> subprocess.Popen:
        command = [python, "-m", f"distributed.cli.dask_{name.rstrip('0123456789')}", *words, "--no-dashboard"]
        with (self.folder / f"{name}.log").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | environment, cwd=self.folder)
        self.processes.append(process)
        return process

    def scheduler(self) -> str:
        file = self.folder / "scheduler.json"
        self.start("scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file))
        while not file.exists() or not file.read_text():
            assert self.processes[0].poll() is None, (self.folder / "scheduler.log").read_text()
            time.sleep(0.05)
        return json.loads(file.read_text())["address"]

    def worker(self, number: int, address: str, **how: str) -> subprocess.Popen:
        return self.start(f"worker{number}", address, "--nthreads", "1", "--no-nanny", **how)


@pytest.fixture
def machine(tmp_path):
    made = Machine(tmp_path)
    yield made
    cluster.disconnect()
    for process in made.processes:
        process.kill()
        process.wait()


def test_workers_of_a_scheduler_may_go_and_others_come(machine, tmp_path):
    address = machine.scheduler()
    first = machine.worker(1, address)
    crew, marks = Crew(f"dask:{address}", tmp_path), tmp_path / "marks"
    marks.mkdir()

    def work(n):
        (marks / str(os.getpid())).touch()
        time.sleep(0.05)
        return n

    seen = []
    for n in crew.unordered(work, range(40)):
        seen.append(n)
        if len(seen) == 5:
            first.kill()
            second = machine.worker(2, address)
    assert sorted(seen) == list(range(40))
    assert {path.name for path in marks.iterdir()} == {str(first.pid), str(second.pid)}


def test_a_scheduler_that_goes_is_named_and_nothing_hangs(machine, tmp_path):
    address = machine.scheduler()
    machine.worker(1, address)
    with pytest.raises(ResourceError, match="the scheduler is gone; what is finished is kept"):
        for n in Crew(f"dask:{address}", tmp_path).unordered(lambda n: time.sleep(0.05) or n, range(400)):
            if n == 3:
                machine.processes[0].kill()


def test_nobody_at_the_address_is_said_within_seconds():
    begun = time.monotonic()
    with pytest.raises(ResourceError, match=r"no Dask scheduler answers at tcp://127.0.0.1:9.*dask scheduler"):
        Crew("dask:tcp://127.0.0.1:9").check()
    assert time.monotonic() - begun < 15
    assert ResourceError.exit_code == 4


def test_a_scheduler_without_workers_is_named(machine, monkeypatch):
    monkeypatch.setattr(cluster, "WORKERS_PATIENCE_S", 0.5)
    with pytest.raises(ResourceError, match=r"has no workers; start some with: dask worker tcp://"):
        Crew(f"dask:{machine.scheduler()}").check()


def test_a_worker_with_another_version_is_refused_and_both_are_named(machine, tmp_path):
    other = tmp_path / "other" / "cristae-0.0.7.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: cristae\nVersion: 0.0.7\n")
    address = machine.scheduler()
    machine.worker(1, address, PYTHONPATH=f"{other.parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    with pytest.raises(ResourceError, match=r"the worker at tcp://.* has cristae 0.0.7, this process has cristae 0\."):
        Crew(f"dask:{address}").check()


def test_a_worker_without_the_package_is_refused(machine, tmp_path):
    packages = tmp_path / "packages"
    packages.mkdir()
    for path in Path(np.__file__).parents[1].iterdir():
        if "cristae" not in path.name and path.suffix != ".pth":
            (packages / path.name).symlink_to(path)
    address = machine.scheduler()
    python = str(Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}")
    machine.worker(1, address, python=python, PYTHONPATH=str(packages), PYTHONNOUSERSITE="1")
    with pytest.raises(ResourceError, match=r"the worker at tcp://.* has no cristae, this process has cristae 0\."):
        Crew(f"dask:{address}").check()


def test_a_worker_that_comes_later_is_looked_at_too(tmp_path):
    how = (str(tmp_path / "work"), "0" * 64, 1, pickle.dumps(1))
    expected = tuple((cluster.versions() | {"torch": "1.0"}).items())
    with pytest.raises(ResourceError, match=r"the worker on .* has torch .*, this process has torch 1.0"):
        cluster.perform(how[0], how[1], expected, *how[2:])
    with pytest.raises(ResourceError, match="all machines must see the project under the same path"):
        cluster.perform(how[0], how[1], tuple(cluster.versions().items()), *how[2:])


def test_a_function_that_somebody_exchanged_is_not_executed(tmp_path):
    path = tmp_path / "work"
    path.write_bytes(pickle.dumps(print))
    with pytest.raises(ResourceError, match="is not what the client wrote"):
        cluster.perform(str(path), "0" * 64, tuple(cluster.versions().items()), 1, pickle.dumps(1))


def test_volumes_in_memory_are_refused(tmp_path):
    inside = Volume(grey(), Grid(SHAPE, (1.0, 1.0, 1.0)))
    with pytest.raises(UsageError, match="store it with create_volume"):
        map_blocks(
            brighter, [inside], [on_disk(tmp_path / "a.ome.zarr")], block_shape=(2, 32, 32), execution=Execution(LOCAL)
        )


def test_what_a_killed_client_left_is_cleared_away(crew, tmp_path):
    left = tmp_path / f"{cluster.PREFIX}1-abc"
    left.touch()
    assert list(crew.ordered(lambda n: n, range(2))) == [0, 1]
    assert not list(tmp_path.glob(f"{cluster.PREFIX}*"))


def test_without_the_extra_it_is_said_what_to_install():
    code = (
        "import sys; sys.modules['distributed'] = None\n"
        "from cristae.executors import Crew\n"
        "Crew('dask:local:2').check()"
    )
    ended = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert "ResourceError: Dask is not installed; install it with: pip install 'cristae[dask]'" in ended.stderr


SBATCH = """#!/bin/sh
bash "$1" > "$FAKE/$$.log" 2>&1 &
echo $! >> "$FAKE/jobs"
echo "$1" >> "$FAKE/submitted"; cat "$1" >> "$FAKE/scripts"
echo "Submitted batch job $!"
"""
SCANCEL = """#!/bin/sh
for job in "$@"; do kill $(ps -o pid= --ppid "$job"); done
"""


def test_slurm_runs_a_command_on_its_jobs(tmp_path):
    pytest.importorskip("dask_jobqueue")
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    seen = tmp_path / "seen.py"
    seen.write_text(
        "import os, sys\nfrom pathlib import Path\nfrom cristae.executors import Crew\n"
        "crew = Crew(sys.argv[-1], Path(sys.argv[1]))\n"
        "print(sorted(set(crew.unordered(lambda n: os.environ['OMP_NUM_THREADS'], range(6)))))\n"
        "sys.exit(7)\n"
    )
    script = Path(__file__).parents[1] / "examples" / "slurm.py"
    words = ["--jobs", "2", "--cpus", "3", "--memory", "1GB", "--queue", "cpu", "--interface", "lo"]
    environment = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "FAKE": str(tmp_path)}
    ended = subprocess.run(
        [sys.executable, script, *words, "--", sys.executable, seen, tmp_path],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        timeout=120,
    )
    assert ended.returncode == 7, ended.stderr
    assert "['3']" in ended.stdout
    scripts = (tmp_path / "scripts").read_text()
    assert "#SBATCH -p cpu" in scripts
    assert "#SBATCH --cpus-per-task=3" in scripts
    for job in (tmp_path / "jobs").read_text().split():  # what scancel left
        subprocess.run(["kill", job], check=False, capture_output=True)
