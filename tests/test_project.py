from __future__ import annotations

import contextlib
import errno
import subprocess
import sys
import threading
import time

import pytest
from pydantic import BaseModel, ConfigDict, Field

from cristae.errors import DataError, ResourceError, UsageError
from cristae.files import writable, write_atomically
from cristae.project import Project
from cristae.settings import resolve_settings

SIZE = (45.0, 4.6, 4.6)


class Example(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    rate: float = Field(0.5, gt=0, description="one per second")
    name: str | None = Field(None, description="any")


@pytest.fixture
def project(tmp_path):
    return Project.create(tmp_path / "bx1", SIZE, ("mito",))


def test_what_was_created_opens(project):
    opened = Project.open(project.path)
    assert opened.file.voxel_size_nm == SIZE
    assert opened.classes == ("mito",)
    assert opened.name == "bx1"
    with pytest.raises(UsageError, match="already"):
        Project.create(project.path, SIZE)


@pytest.mark.parametrize("size", [(0, 4, 4), (45, -4.6, 4.6), (45, 4.6), (), (float("nan"), 1, 1), None, ("a", 1, 1)])
def test_a_voxel_size_that_is_zero_or_absent_is_refused(tmp_path, size):
    with pytest.raises(UsageError, match="voxel_size_nm"):
        Project.create(tmp_path / "p", size)
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize("classes", [("a", "a"), ("../a",)])
def test_classes_that_cannot_be_are_refused(tmp_path, classes):
    with pytest.raises(UsageError):
        Project.create(tmp_path / "p", SIZE, classes)


def test_a_folder_without_a_project_says_how_to_make_one(tmp_path):
    with pytest.raises(DataError, match="cristae init"):
        Project.open(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("format = 99\nvoxel_size_nm = [1.0, 1.0, 1.0]\nnovelty = 1\n", "newer cristae"),
        ("format = 1\n", "voxel_size_nm"),
        ("format = 1\nvoxel_size_nm = [0.0, 1.0, 1.0]\n", "positive"),
        ("format = 1\nvoxel_size_nm = [1.0, 1.0, 1.0]\nclases = []\n", "clases"),
        ("format = ", "not valid TOML"),
    ],
)
def test_a_project_file_that_cannot_be_understood_is_refused(project, text, message):
    (project.path / "project.toml").write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        Project.open(project.path)
    assert caught.value.exit_code == 3


def test_without_an_image_the_next_step_is_named(project):
    with pytest.raises(DataError, match="cristae import image"):
        project.image  # noqa: B018
    assert project.image_facts == {}


def test_a_folder_that_cannot_be_made_is_a_resource_error(tmp_path, monkeypatch):
    def refuse(*args, **keywords):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    with pytest.raises(ResourceError, match="Permission denied") as caught:
        Project.create(tmp_path / "p", SIZE)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(("number", "message"), [(errno.ENOSPC, "full"), (errno.EROFS, "permissions")])
def test_disk_errors_become_sentences(tmp_path, number, message):
    with pytest.raises(ResourceError, match=message), writable(tmp_path):
        raise OSError(number, "as the system says")
    with pytest.raises(OSError, match="other"), writable(tmp_path):
        raise OSError(errno.EIO, "other")


def test_a_folder_under_a_file_is_a_resource_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="cannot write"):
        Project.create(tmp_path / "file" / "p", SIZE)


def test_classes_and_settings_are_kept(project):
    project.add_classes(("nucleus", "mito"))
    project.set_settings("train", {"rate": 0.1})
    project.set_settings("train", {"name": "x"})
    again = Project.open(project.path)
    assert again.classes == ("mito", "nucleus")
    assert again.stage_settings("train") == {"rate": 0.1, "name": "x"}
    assert again.stage_settings("predict") == {}


def test_settings_layers_and_their_errors():
    assert resolve_settings(Example, {"rate": 1}, {"rate": 2}).rate == 2
    with pytest.raises(UsageError, match=r"rates.*Settings are: rate, name"):
        resolve_settings(Example, {"rates": 1})
    with pytest.raises(UsageError, match="greater than 0"):
        resolve_settings(Example, {"rate": 0})


def test_a_run_id_depends_on_settings_inputs_and_stage_alone(project):
    base = project.run("train", Example(), {"image": "a"})
    assert project.run("train", Example(), {"image": "a"}) == base
    others = [
        project.run("train", Example(rate=1), {"image": "a"}),
        project.run("train", Example(), {"image": "b"}),
        project.run("predict", Example(), {"image": "a"}),
    ]
    assert len({run.id for run in (base, *others)}) == 4
    assert not base.path.exists()


def test_a_finished_run_is_recorded_completely(project):
    run = project.run("train", Example(), {"image": "a"})
    with project.record(run, Example(), {"image": "a"}):
        assert run.manifest["status"] == "running"
        assert not run.finished
    assert run.finished
    assert run.settings == {"rate": 0.5}
    assert {"started", "ended", "seconds", "peak_memory_mb", "environment", "inputs"} <= set(run.manifest)
    assert project.latest("train") == run
    assert project.latest("predict") is None


def test_a_failed_or_interrupted_run_is_resumed_under_the_same_id(project):
    run = project.run("train", Example(), {})
    for error, status in ((ValueError, "failed"), (KeyboardInterrupt, "interrupted")):
        with pytest.raises(error), project.record(run, Example(), {}):
            raise error
        assert run.manifest["status"] == status
        assert project.latest("train") is None
    with project.record(run, Example(), {}):
        pass
    assert run.finished
    assert run.manifest["resumed"] == 2


def test_a_full_disk_in_a_run_is_a_resource_error(project):
    run = project.run("train", Example(), {})
    with pytest.raises(ResourceError, match="run the same command again") as caught, project.record(run, Example(), {}):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.exit_code == 4
    assert run.manifest["status"] == "failed"


def test_latest_is_the_run_that_finished_last(project):
    runs = [project.run("train", Example(rate=rate), {}) for rate in (1, 2, 3)]
    for run in (runs[1], runs[2], runs[0]):
        with project.record(run, Example(), {}):
            time.sleep(0.002)
    assert project.latest("train") == runs[0]
    assert project.runs() == [runs[1], runs[2], runs[0]]


def test_a_damaged_manifest_names_itself(project):
    run = project.run("train", Example(), {})
    with project.record(run, Example(), {}):
        pass
    (run.path / "manifest.json").write_text("{")
    with pytest.raises(DataError, match="damaged"):
        run.manifest  # noqa: B018


def test_two_threads_do_not_work_on_one_project(project):
    held, leave = threading.Event(), threading.Event()

    def work():
        with project.lock():
            held.set()
            leave.wait(10)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert held.wait(10)
        assert project.locked
        with pytest.raises(ResourceError, match="another process"), project.lock():
            pass
    finally:
        leave.set()
        thread.join()
    assert not project.locked
    with project.lock():
        pass


def test_two_processes_do_not_work_on_one_project(project):
    code = (
        "import sys; from filelock import FileLock\n"
        "with FileLock(sys.argv[1]):\n print('held', flush=True); sys.stdin.read()"
    )
    arguments = [sys.executable, "-c", code, str(project.path / ".lock")]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(ResourceError, match="another process") as caught, project.lock():
            pass
        assert caught.value.exit_code == 4
        other.stdin.close()
    with project.lock():
        pass


def test_paths_in_a_project_stay_inside(project):
    assert project.inside("runs/x") == (project.path / "runs" / "x").resolve()
    for path in ("../other", "/etc/passwd", "runs/../../x"):
        with pytest.raises(DataError, match="leads out"):
            project.inside(path)


def test_a_text_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    write_atomically(path, "old")

    def full(number):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with contextlib.suppress(OSError):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_kill_left_of_the_project_file_is_cleared_by_the_next_who_works(tmp_path):
    project = Project.create(tmp_path / "p", SIZE)
    left, other = project.path / ".project.toml.abc.partial", project.path / ".other.partial"
    left.write_text("half"), other.write_text("of somebody else")
    with project.lock():
        assert not left.exists() and other.exists()
