"""A training by two processes: begun, ended, taken up again; and what is refused before any begins."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pandas as pd
import psutil
import pytest
import torch

import cristae
from cristae.errors import DataError, ResourceError, UsageError
from cristae.learn.checkpoint import load_checkpoint
from cristae.stages import several
from cristae.stages.options import Options
from cristae.stages.several import by_several, n_processes
from cristae.stages.train_settings import TrainSettings

TWO = {"devices": 2, "batch": 3}


def weights(run):
    return (run.path / "all" / "weights.safetensors").read_bytes()


class Told:
    """Options that note what is told, and press Ctrl-C at an update."""

    def __init__(self, stop_at=-1):
        self.tasks, self.updates, self.words, self.stop_at = [], [], [], stop_at
        self.options = Options(progress=self.begin, notify=self.words.append)

    def begin(self, task):
        self.tasks.append(task)
        return self.told

    def told(self, done, total, **facts):
        self.updates.append(done)
        if done == self.stop_at:
            raise KeyboardInterrupt


def test_two_processes_leave_what_one_leaves_and_tell_it_once(make_small, tiny, monkeypatch):
    monkeypatch.setenv("MASTER_PORT", "1")  # of another launcher, on a port that cannot be had
    monkeypatch.setenv("LOCAL_RANK", "3")
    told, project = Told(), make_small("two")
    run = cristae.train(project, options=told.options, **tiny | TWO)
    assert run.finished and not project.locked
    assert (run.manifest["n_processes"], run.manifest["updates"], run.manifest["alarms"]) == (2, 20, [])
    assert told.tasks == ["train all"] and told.updates == list(range(1, 21))
    assert any("2 processes on cpu, which share batches of 3 patches" in words for words in told.words)
    assert pd.read_csv(run.path / "history.csv")["step"].tolist() == [10, 20]
    assert not list(run.path.rglob("checkpoint*"))
    assert not [child for child in psutil.Process().children() if "spawn" in " ".join(child.cmdline())]
    assert (os.environ["MASTER_PORT"], os.environ["LOCAL_RANK"]) == ("1", "3")
    alone = cristae.train(make_small("one"), **tiny | {"batch": 3})
    assert alone.manifest["n_processes"] == 1
    assert {path.name for path in run.path.rglob("*")} == {path.name for path in alone.path.rglob("*")}
    assert weights(run) != weights(alone)


def test_one_process_needs_no_fabric(small_project, tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    assert cristae.train(small_project, **tiny | {"updates": 1}).finished


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["supervised", "cps_cutmix"])
def test_stopped_and_taken_up_again_two_processes_end_as_if_they_had_not_been(make_small, tiny, scheme):
    settings = tiny | {"devices": 2, "batch": 4, "scheme": scheme, "updates": 40, "cps_alone": 0.2}
    whole = cristae.train(make_small("whole"), **settings)
    project, told = make_small("stopped"), Told(stop_at=7)
    with pytest.raises(KeyboardInterrupt):
        cristae.train(project, options=told.options, **settings)
    (run,) = project.runs("train")
    assert run.manifest["status"] == "interrupted" and not project.locked
    # One who shows progress is some updates behind those who learn.
    step = load_checkpoint(run.path / "all" / "checkpoint.safetensors").facts["step"]
    assert 7 <= step < 40
    told = Told()
    resumed = cristae.train(project, options=told.options, **settings)
    assert told.updates == list(range(step + 1, 41))
    assert weights(resumed) == weights(whole)
    for name in ("best_step", "alarms"):
        assert resumed.manifest[name] == whole.manifest[name]


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["supervised", "cps_cutmix"])
def test_two_processes_learn_what_one_learns(make_small, tiny, scheme):
    settings = tiny | {"batch": 4, "updates": 150, "check_every": 50, "base_width": 4, "learning_rate": 3e-3}
    dices = [
        cristae.train(make_small(f"{n}"), **settings, devices=n, scheme=scheme).path / "history.csv" for n in (1, 2)
    ]
    alone, together = (pd.read_csv(path)["dice_disc"].max() for path in dices)
    assert alone > 0.9
    assert together == pytest.approx(alone, abs=0.05)


@pytest.mark.slow
def test_an_error_of_the_processes_is_raised_as_it_is_and_nothing_is_lost(small_project, tiny):
    settings = tiny | TWO | {"updates": 400}
    with pytest.raises(KeyboardInterrupt):
        cristae.train(small_project, options=Told(stop_at=3).options, **settings)
    (checkpoint,) = small_project.path.rglob("checkpoint.safetensors")
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[:100])
    with pytest.raises(DataError, match=r"checkpoint\.safetensors is damaged.*delete it") as found:
        cristae.train(small_project, **settings)
    assert "of 2:\nTraceback" in found.value.__notes__[0]
    assert not small_project.locked and small_project.latest("train") is None
    assert checkpoint.read_bytes() == content[:100]


class OddError(Exception):
    """One that cannot be pickled and read again."""

    def __init__(self, one, other):
        super().__init__(f"{one} and {other}")


def refuse(options, processes):
    if processes.rank == 1:
        raise DataError("this slice is torn")
    processes.any(False)  # nobody answers


def be_odd(options, processes):
    if processes.rank == 1:
        raise OddError("this", "that")
    processes.told(None)
    processes.any(False)


def vanish(options, processes):
    if processes.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    processes.any(False)


def show(options, processes):
    advance = options.progress("a task")
    for i in range(10_000):
        advance(i, 10_000)
        time.sleep(0.01)
        if processes.any(False):
            raise KeyboardInterrupt
    raise RuntimeError("nobody ended it")


def large(options, processes):
    return np.full(3_000_000, processes.rank)


class ShownError(Exception):
    """Of who shows progress."""


def failing(task):
    def advance(done, total, **facts):
        if done == 5:
            raise ShownError

    return advance


@pytest.mark.slow
@pytest.mark.parametrize(
    ("job", "error", "words"),
    [
        (refuse, DataError, "this slice is torn"),
        (be_odd, RuntimeError, "OddError: this and that"),
        (vanish, ResourceError, "ended from outside, most often for lack of memory"),
        (show, ShownError, None),
    ],
)
def test_what_ends_one_ends_all_with_the_first_error(job, error, words):
    before = threading.active_count()
    with pytest.raises(error, match=words) as found:
        by_several(job, 2, TrainSettings(batch=2, device="cpu"), Options(progress=failing))
    if job is refuse:
        assert "In process 1 of 2:" in found.value.__notes__[0] and "refuse" in found.value.__notes__[0]
    assert not [child for child in psutil.Process().children() if "spawn" in " ".join(child.cmdline())]
    assert threading.active_count() == before


@pytest.mark.slow
def test_a_large_result_comes_back_whole():
    found = by_several(large, 2, TrainSettings(batch=2, device="cpu"), Options())
    assert found.shape == (3_000_000,) and not found.any()


TRAIN = """
import json, sys
import cristae.learn.fit
from cristae.cli import main

cristae.learn.fit.CHECKPOINT_SECONDS = 0
if __name__ == "__main__":
    sys.argv[1:] = ["train", sys.argv[1], *json.loads(sys.argv[2])]
    main()
"""


def begin(project, settings, folder, learns=True):
    """Begin a training in a group of processes of its own, and wait until it learns, or only until all have begun.

    Return it and all its processes.
    """
    script = folder / "training.py"
    script.write_text(TRAIN)
    changes = [f"--set=train.{name}={value}" for name, value in settings.items()]
    begun = subprocess.Popen(
        [sys.executable, script, project.path, json.dumps(changes)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    for _ in range(1200):
        others = psutil.Process(begun.pid).children(recursive=True)
        if list(project.path.rglob("checkpoint.safetensors")) or (not learns and len(others) > 2):
            break
        assert begun.poll() is None, begun.stderr.read()
        time.sleep(0.05)
    return begun, others


@pytest.mark.slow
@pytest.mark.parametrize("to_all", [True, False])
def test_ctrl_c_ends_all_without_a_traceback_and_the_same_command_goes_on(make_small, tiny, tmp_path, to_all):
    settings = tiny | TWO | {"updates": 3000, "check_every": 500}
    project = make_small("p")
    begun, others = begin(project, settings, tmp_path)
    (os.killpg if to_all else os.kill)(begun.pid, signal.SIGINT)
    _, said = begun.communicate(timeout=60)
    assert begun.returncode == 130 and "Traceback" not in said, said
    assert len(others) >= 2 and not psutil.wait_procs(others, timeout=20)[1]
    assert project.runs("train")[0].manifest["status"] == "interrupted"
    (checkpoint,) = project.path.rglob("checkpoint.safetensors")
    assert 0 < load_checkpoint(checkpoint).facts["step"] < 3000


@pytest.mark.slow
def test_ctrl_c_before_anything_is_learnt_ends_all_without_a_traceback(make_small, tiny, tmp_path):
    project = make_small("p")
    begun, others = begin(project, tiny | TWO, tmp_path, learns=False)
    os.killpg(begun.pid, signal.SIGINT)
    _, said = begun.communicate(timeout=60)
    assert begun.returncode == 130 and "Traceback" not in said, said
    assert not psutil.wait_procs(others, timeout=20)[1]
    assert not list(project.path.rglob("checkpoint.safetensors"))


@pytest.mark.slow
def test_a_killed_training_takes_its_processes_along_and_goes_on(make_small, tiny, tmp_path):
    settings = tiny | TWO | {"updates": 300}
    whole = cristae.train(make_small("whole"), **settings)
    project = make_small("p")
    begun, others = begin(project, settings, tmp_path)
    begun.kill()
    begun.communicate(timeout=60)
    _, alive = psutil.wait_procs(others, timeout=20)
    assert len(others) >= 2 and not alive
    resumed = cristae.train(project, **settings)
    assert resumed.manifest["resumed"] == 1
    assert weights(resumed) == weights(whole)


UNGUARDED = "import sys, cristae\ncristae.train(sys.argv[1], device='cpu', devices=2, updates=2)\n"


@pytest.mark.slow
def test_a_script_that_does_not_guard_its_work_is_told_so(small_project, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED)
    done = subprocess.run([sys.executable, script, small_project.path], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert 'put what the script does under if __name__ == "__main__":' in done.stderr
    assert "could not begin; what it printed says why" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("settings", "n_gpus", "expected"),
    [
        ({}, 8, 1),
        ({"devices": 2, "batch": 2}, 0, 2),
        ({"devices": 0}, 0, 1),
        ({"devices": 0}, 3, 3),
        ({"devices": 0, "batch": 2}, 3, 2),
        ({"devices": 0, "batch": 5, "scheme": "cps_cutmix"}, 3, 2),
        ({"devices": 0, "device": "cpu"}, 3, 1),
        ({"devices": 3, "device": "cpu"}, 1, 3),
    ],
)
def test_so_many_processes_as_are_asked_for_or_as_there_are_devices_and_patches(
    settings, n_gpus, expected, monkeypatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: n_gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_gpus)
    assert n_processes(TrainSettings(**settings)) == expected


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"devices": 3, "batch": 2}, UsageError, r"batch of 2 patches makes 2 shares and .* 3 or more, .* 2 or less"),
        (
            {"devices": 2, "batch": 3, "scheme": "cps_cutmix"},
            UsageError,
            r"makes 1 shares, of 2 patches each, .* 4 or more, or train.devices to 1 or less",
        ),
        ({"devices": 3, "device": "auto"}, ResourceError, r"PyTorch sees 2 CUDA device.*train.devices=0"),
    ],
)
def test_more_processes_than_patches_or_devices_are_refused_before_anything_is_written(
    settings, error, words, small_project, monkeypatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(error, match=words):
        cristae.train(small_project, **settings)
    assert not (small_project.path / "runs").exists()


def test_without_fabric_the_extra_is_named(small_project, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ResourceError, match=r"pip install 'cristae\[multi\]'"):
        cristae.train(small_project, device="cpu", devices=2)


@pytest.mark.parametrize("where", ["ps1", "script"])
def test_where_no_process_can_begin_it_is_refused(where, small_project, monkeypatch):
    if where == "ps1":
        monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    else:
        monkeypatch.setattr(several.multiprocessing.current_process(), "_inheriting", True, raising=False)
    with pytest.raises(UsageError, match="notebook" if where == "ps1" else "__main__"):
        cristae.train(small_project, device="cpu", devices=2)


def test_ids_of_trainings_by_one_process_are_what_they_were_before_there_were_several():
    assert "devices" not in TrainSettings().model_dump_json()
    assert TrainSettings(devices=2).model_dump()["devices"] == 2
