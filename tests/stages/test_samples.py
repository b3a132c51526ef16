import hashlib
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner

import cristae
from cristae.cli import cli
from cristae.errors import DataError, UsageError
from cristae.stages.options import Options
from cristae.stages.samples import SampleSettings, cache_folder, list_samples, sample

sys.path.insert(0, str(Path(__file__).parents[1] / "io"))
from served import serving

SHAPE = (9, 24, 20)
RANDOM = np.random.default_rng(3)
IMAGE = RANDOM.integers(0, 255, SHAPE, np.uint8)
MITOCHONDRIA = (RANDOM.random(SHAPE) < 0.2).astype(np.uint8) * 255
CELLS = np.repeat(RANDOM.integers(0, 4, (1, 24, 20)), 9, axis=0).astype(np.uint16)
RARE = np.zeros(SHAPE, np.uint8)
RARE[3, 4, 5] = 1


def tiff(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, values, photometric="minisblack")
    return file.getvalue()


def archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as opened:
        for z in range(SHAPE[0]):
            opened.writestr(f"set-master/stack1/raw/{z:02}.tif", tiff(IMAGE[z]))
            opened.writestr(f"set-master/stack2/raw/{z:02}.tif", tiff(IMAGE[z] // 2))
            opened.writestr(f"set-master/stack1/mito/{z:02}.tif", tiff(MITOCHONDRIA[z]))
        opened.writestr("set-master/stack1/cells.tif", tiff(CELLS))
        opened.writestr("set-master/stack1/rare.tif", tiff(RARE))
        opened.writestr("../../escaped.tif", tiff(IMAGE[0]))
        opened.writestr("__MACOSX/set-master/stack1/._cells.tif", b"no image")
    return file.getvalue()


ARCHIVE = archive()
TOML = """
[zipped]
title = "A set in an archive"
what = "nine slices"
voxel_size_nm = [40, 4, 4]
licence = "CC BY 4.0"
cite = "Nobody (2026)"
home = "https://example.org"
image = {{ file = "set.zip", members = "*/stack1/raw/*.tif" }}
labelled = 3
[[zipped.files]]
url = "{url}/set.zip"
name = "set.zip"
checksum = "sha256:{sha}"
checksum_by = "the tests"
[[zipped.labels]]
class = "mitochondrion"
file = "set.zip"
members = "*/stack1/mito/*.tif"
[[zipped.labels]]
class = "cell"
file = "set.zip"
members = "*/cells.tif"
instances = true
[[zipped.labels]]
class = "rare"
file = "set.zip"
members = "*/rare.tif"

[plain]
title = "A set in two files"
what = "nine slices"
voxel_size_nm = [5, 5, 5]
licence = "none stated"
cite = "Nobody (2026)"
home = "https://example.org"
image = {{ file = "image.tif" }}
[[plain.files]]
url = "{url}/image.tif"
name = "image.tif"
[[plain.files]]
url = "{url}/labels.tif"
name = "labels.tif"
[[plain.labels]]
class = "mitochondrion"
file = "labels.tif"
"""


@pytest.fixture
def served(tmp_path, monkeypatch):
    monkeypatch.setenv("CRISTAE_CACHE", str(tmp_path / "cache"))
    files = {"/set.zip": ARCHIVE, "/image.tif": tiff(IMAGE), "/labels.tif": tiff(MITOCHONDRIA)}
    with serving(files) as served:
        (tmp_path / "list.toml").write_text(
            TOML.format(url=served.url, sha=hashlib.sha256(ARCHIVE).hexdigest()), encoding="utf-8"
        )
        yield served


def test_a_sample_becomes_a_ready_project(served, tmp_path):
    said = []
    project = sample("zipped", tmp_path / "p", registry=tmp_path / "list.toml", options=Options(notify=said.append))
    assert project.file.voxel_size_nm == (40, 4, 4)
    assert np.array_equal(project.image.read(), IMAGE)
    assert project.classes == ("mitochondrion", "cell")
    assert project.annotations.labelled_slices("mitochondrion") == (0, 4, 8)
    assert np.array_equal(project.annotations.read_slice("mitochondrion", 4), MITOCHONDRIA[4] // 255)
    assert np.array_equal(project.annotations.read_ids("cell", 8), CELLS[8])
    assert project.truth.labelled_slices("mitochondrion") == tuple(range(9))
    # What occurs on no labelled slice can still be scored.
    assert project.truth.labelled_slices("rare") == tuple(range(9))
    assert any("rare: on none of the labelled slices" in sentence for sentence in said)
    terms = (tmp_path / "p" / "LICENCE.txt").read_text()
    assert "CC BY 4.0" in terms and "Nobody (2026)" in terms and "https://example.org" in terms


def test_terms_come_before_the_first_request(served, tmp_path):
    order = []

    def say(sentence):
        order.append((len(served.asked), sentence))

    sample("plain", tmp_path / "p", registry=tmp_path / "list.toml", options=Options(notify=say))
    first = order[0]
    assert first[0] == 0
    assert all(word in first[1] for word in ("none stated", "Nobody (2026)", "download", "remembered"))
    assert any("unchecked" in sentence and "sha256:" in sentence for _, sentence in order)


def test_what_was_fetched_is_not_fetched_again(served, tmp_path):
    sample("zipped", tmp_path / "p", registry=tmp_path / "list.toml")
    other = sample("zipped", tmp_path / "q", registry=tmp_path / "list.toml", settings=SampleSettings(labelled=5))
    assert len(served.asked) == 1
    assert other.annotations.labelled_slices("mitochondrion") == (0, 2, 4, 6, 8)
    assert [path.name for path in (tmp_path / "cache" / "zipped").iterdir() if not path.name.startswith(".")] == [
        "set.zip"
    ]


def test_an_archive_cannot_write_elsewhere(served, tmp_path):
    text = (tmp_path / "list.toml").read_text().replace("*/stack1/raw/*.tif", "*escaped.tif")
    (tmp_path / "list.toml").write_text(text.replace("[[zipped.labels]]", "[[zipped.labels]]"))
    with pytest.raises(DataError):  # one slice for labels of nine
        sample("zipped", tmp_path / "p", registry=tmp_path / "list.toml")
    assert not list(tmp_path.glob("escaped.tif")) and not list((tmp_path / "cache").rglob("escaped.tif"))


def test_a_sample_that_was_interrupted_goes_on(served, tmp_path):
    list_of_ours = tmp_path / "list.toml"
    kept = served.files.pop("/labels.tif")
    with pytest.raises(DataError, match="answers 404"):
        sample("plain", tmp_path / "p", registry=list_of_ours)
    served.files["/labels.tif"] = kept
    project = sample("plain", tmp_path / "p", registry=list_of_ours)
    assert np.array_equal(project.image.read(), IMAGE)
    assert [path for path, _ in served.asked].count("/image.tif") == 1


def test_another_project_is_left_alone(served, tmp_path):
    cristae.init(tmp_path / "p", voxel_size=(4, 4, 4))
    with pytest.raises(UsageError, match="holds another project"):
        sample("plain", tmp_path / "p", registry=tmp_path / "list.toml")
    sample("plain", tmp_path / "q", registry=tmp_path / "list.toml")
    with pytest.raises(UsageError, match="holds another project"):
        sample("zipped", tmp_path / "q", registry=tmp_path / "list.toml")
    assert served.asked and not (tmp_path / "cache" / "zipped").exists()


def test_an_unknown_name_and_a_broken_list_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"no sample 'vcn'; there are: vnc, epfl"):
        sample("vcn", tmp_path / "p")
    broken = tmp_path / "list.toml"
    with pytest.raises(DataError, match="cannot be read"):
        list_samples(broken)
    for text, words in (
        ("[a", "no TOML"),
        ("[a]\ntitle = 'x'", "Field required"),
        (TOML.format(url="http://example.org", sha="0" * 64), "https://"),
        (TOML.format(url="https://example.org", sha="abc"), "no checksum"),
    ):
        broken.write_text(text)
        with pytest.raises(DataError, match=words):
            list_samples(broken)


def test_a_damaged_archive_and_a_missing_member_are_words(served, tmp_path):
    list_of_ours = tmp_path / "list.toml"
    text = list_of_ours.read_text()
    list_of_ours.write_text(text.replace("*/stack1/raw/*.tif", "*/stack9/*.tif"))
    with pytest.raises(DataError, match=r"holds 0 files like \*/stack9"):
        sample("zipped", tmp_path / "p", registry=list_of_ours)
    served.files["/set.zip"] = ARCHIVE[: len(ARCHIVE) // 2]
    list_of_ours.write_text(text.replace(f"sha256:{hashlib.sha256(ARCHIVE).hexdigest()}", ""))
    (tmp_path / "cache" / "zipped" / "set.zip").unlink()
    with pytest.raises(DataError, match="is no ZIP archive"):
        sample("zipped", tmp_path / "q", registry=list_of_ours)


def test_the_built_in_list_states_what_it_must():
    known = list_samples()
    assert {"vnc", "epfl", "snemi", "urocell"} <= set(known)
    for entry in known.values():
        text = entry.describe()
        assert entry.licence in text and entry.cite in text and entry.home in text
        names = {file.name for file in entry.files}
        assert {entry.image.file, *(labels.file for labels in entry.labels)} <= names
        assert all(file.url.startswith("https://") for file in entry.files)
        assert bool(entry.files[0].checksum) == bool(entry.files[0].checksum_by)
        # Only one who has a length may say one.
        assert ("not stated" in text) == (entry.n_bytes is None)


def test_where_downloads_are_kept(monkeypatch, tmp_path):
    monkeypatch.delenv("CRISTAE_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == tmp_path / ".cache" / "cristae"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert cache_folder() == tmp_path / "x" / "cristae"
    monkeypatch.setenv("CRISTAE_CACHE", "~/mine")
    assert cache_folder() == tmp_path / "mine"


def test_the_command_lists_describes_and_fetches(served, tmp_path):
    def run(*arguments):
        return CliRunner().invoke(cli, ["sample", *map(str, arguments)], catch_exceptions=False)

    assert "snemi" in run().stdout and not served.asked
    described = run("vnc").stdout
    assert "CC BY-NC-SA 3.0" in described and "Gerhard" in described and "cristae sample vnc FOLDER" in described
    ours = ("--registry", tmp_path / "list.toml", "--quiet")
    done = run("plain", tmp_path / "p", *ours, "--labelled", 2, "--json")
    assert json.loads(done.stdout)["classes"] == ["mitochondrion"]
    assert cristae.Project.open(tmp_path / "p").annotations.labelled_slices() == (0, 8)


def test_listing_needs_no_network_and_loads_no_torch():
    code = (
        "import socket, sys\n"
        "def no(*a, **k): raise AssertionError('network')\n"
        "socket.socket.connect = no\n"
        "from cristae.cli import cli\n"
        "cli.main(['--help'], standalone_mode=False)\n"
        "assert 'cristae.io.download' not in sys.modules and 'torch' not in sys.modules\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0
