import errno
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import namedtuple

import numpy as np
import pytest
from filelock import FileLock
from served import serving

from cristae.errors import DataError, ResourceError, UsageError
from cristae.io import download
from cristae.io.download import Remote, fetch

CONTENT = np.random.default_rng(0).integers(0, 256, 700_000, dtype=np.uint8).tobytes()
SHA = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT).hexdigest()
OTHER = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])


def remote(served, **rest) -> Remote:
    return Remote(f"{served.url}/a.bin", "a.bin", **{"checksum": f"sha256:{SHA}"} | rest)


def test_a_file_comes_whole_is_checked_and_comes_once(tmp_path):
    told = []
    with serving({"/a.bin": CONTENT}) as served:
        got = fetch(remote(served), tmp_path / "cache", told=lambda done, total: told.append((done, total)))
        assert got.path.read_bytes() == CONTENT
        assert (got.sha256, got.checked, got.n_received) == (SHA, "published", len(CONTENT))
        assert told[-1] == (len(CONTENT), len(CONTENT))
        assert [done for done, _ in told] == sorted(done for done, _ in told)
        again = fetch(remote(served), tmp_path / "cache")
        assert (again.n_received, again.checked) == (0, "published")
        assert len(served.asked) == 1
    names = {path.name for path in (tmp_path / "cache").iterdir()} - {".a.bin.lock"}
    assert names == {"a.bin"}


def test_md5_as_archives_publish_it_is_enough(tmp_path):
    with serving({"/a.bin": CONTENT}) as served:
        assert fetch(remote(served, checksum=f"md5:{MD5}"), tmp_path).checked == "published"


def test_connections_that_break_are_taken_up_where_they_broke(tmp_path):
    with serving({"/a.bin": CONTENT}, breaks=[100_000, 250_000, 1]) as served:
        got = fetch(remote(served), tmp_path)
        assert got.path.read_bytes() == CONTENT
        assert served.ranges_asked == ["", "bytes=100000-", "bytes=350000-", "bytes=350001-"]
        assert got.n_received == len(CONTENT)


def test_a_server_without_ranges_sends_all_again(tmp_path):
    with serving({"/a.bin": CONTENT}, ranges=False, breaks=[100_000, 300_000]) as served:
        got = fetch(remote(served), tmp_path)
        assert got.path.read_bytes() == CONTENT
        assert got.n_received == 400_000 + len(CONTENT)


@pytest.mark.parametrize(("ranges", "kept"), [(True, "0.2"), (False, "0.0")])
def test_a_server_that_always_breaks_is_given_up_in_words(tmp_path, ranges, kept):
    with serving({"/a.bin": CONTENT}, ranges=ranges, breaks=[200_000] + [0] * 50) as served:
        with pytest.raises(ResourceError, match=rf"broke off after {kept} MB of a\.bin.*goes on"):
            fetch(remote(served), tmp_path)
        assert 3 < len(served.asked) < 10
        assert not (tmp_path / "a.bin").exists()


def test_without_ranges_breaking_at_the_same_place_ends(tmp_path):
    with serving({"/a.bin": CONTENT}, ranges=False, breaks=[200_000] * 50) as served:
        with pytest.raises(ResourceError, match="broke off"):
            fetch(remote(served), tmp_path)
        assert len(served.asked) < 10


def test_a_length_that_nobody_says_is_no_hindrance(tmp_path):
    with serving({"/a.bin": CONTENT}, length=False) as served:
        assert fetch(remote(served), tmp_path).path.read_bytes() == CONTENT


def test_an_attempt_that_was_given_up_is_gone_on_with(tmp_path):
    with serving({"/a.bin": CONTENT}, breaks=[400_000, 0, 0, 0, 0, 0]) as served:
        with pytest.raises(ResourceError):
            fetch(remote(served), tmp_path)
        served.breaks.clear()
        got = fetch(remote(served), tmp_path)
        assert got.path.read_bytes() == CONTENT
        assert got.n_received == len(CONTENT) - 400_000


def test_a_killed_download_goes_on(tmp_path):
    code = (
        "import sys; from pathlib import Path; from cristae.io.download import Remote, fetch\n"
        "fetch(Remote(sys.argv[1], 'a.bin', checksum=sys.argv[2]), Path(sys.argv[3]))"
    )
    with serving({"/a.bin": CONTENT}, pause_s=0.2) as served:
        arguments = [f"{served.url}/a.bin", f"sha256:{SHA}", str(tmp_path)]
        child = subprocess.Popen([sys.executable, "-c", code, *arguments])
        part = tmp_path / "a.bin.part"
        deadline = time.monotonic() + 30
        while not (part.is_file() and part.stat().st_size > 100_000) and time.monotonic() < deadline:
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        child.wait()
        here = part.stat().st_size
        assert 100_000 < here < len(CONTENT)
        served.pause_s = 0
        got = fetch(remote(served), tmp_path)
        assert got.path.read_bytes() == CONTENT
        assert got.n_received == len(CONTENT) - here


def test_a_file_killed_between_its_last_byte_and_the_check_is_whole(tmp_path):
    with serving({"/a.bin": CONTENT}) as served:
        fetch(remote(served), tmp_path)
        (tmp_path / "a.bin").rename(tmp_path / "a.bin.part")
        note = f'{{"url": "{served.url}/a.bin", "version": "", "n_bytes": {len(CONTENT)}}}'
        (tmp_path / "a.bin.part.json").write_text(note)
        assert fetch(remote(served), tmp_path).n_received == 0


def test_parts_of_two_versions_are_never_joined(tmp_path):
    with serving({"/a.bin": OTHER}, breaks=[300_000, 0, 0, 0, 0, 0]) as served:
        with pytest.raises(ResourceError):
            fetch(remote(served), tmp_path)
        served.breaks.clear()
        served.files["/a.bin"] = CONTENT
        assert fetch(remote(served), tmp_path).path.read_bytes() == CONTENT


def test_without_tags_a_wrong_join_is_noticed_and_begun_anew(tmp_path):
    flipped = bytes([CONTENT[0] ^ 1]) + CONTENT[1:]
    with serving({"/a.bin": flipped}, tags=False, breaks=[300_000, 0, 0, 0, 0, 0]) as served:
        with pytest.raises(ResourceError):
            fetch(remote(served), tmp_path)
        served.breaks.clear()
        served.files["/a.bin"] = CONTENT
        assert fetch(remote(served), tmp_path).path.read_bytes() == CONTENT
        assert served.ranges_asked[-2:] == ["bytes=300000-", ""]


@pytest.mark.parametrize("wrong", [OTHER, CONTENT[:1000], b""])
def test_a_wrong_file_is_refused_and_not_kept(tmp_path, wrong):
    with serving({"/a.bin": wrong}) as served:
        with pytest.raises(
            DataError, match=rf"not the file it should be: got {len(wrong)} bytes.*published: sha256:{SHA}"
        ):
            fetch(remote(served), tmp_path)
        assert not list(tmp_path.glob("a.bin*"))
        got = fetch(remote(served), tmp_path, accept_changed=True)
        assert (got.path.read_bytes(), got.checked) == (wrong, "nothing")
        # What was accepted once is known from then on.
        assert fetch(remote(served), tmp_path).checked == "first download"


def test_a_file_that_was_damaged_here_is_fetched_anew(tmp_path):
    with serving({"/a.bin": CONTENT}) as served:
        fetch(remote(served), tmp_path)
        (tmp_path / "a.bin").write_bytes(OTHER)
        assert fetch(remote(served), tmp_path).path.read_bytes() == CONTENT


def test_without_a_published_checksum_the_first_download_is_remembered(tmp_path):
    with serving({"/a.bin": CONTENT}) as served:
        plain = remote(served, checksum="")
        assert fetch(plain, tmp_path).checked == "nothing"
        assert (tmp_path / "a.bin.sha256").read_text() == f"{SHA}  a.bin\n"
        assert fetch(plain, tmp_path).checked == "first download"
        (tmp_path / "a.bin").unlink()
        served.files["/a.bin"] = OTHER
        with pytest.raises(DataError, match=rf"when it was first downloaded: sha256:{SHA}"):
            fetch(plain, tmp_path)
        assert fetch(plain, tmp_path, accept_changed=True).checked == "nothing"
        assert fetch(plain, tmp_path).checked == "first download"


def test_a_length_that_is_published_is_held_to(tmp_path):
    with serving({"/a.bin": CONTENT}) as served:
        fetch(remote(served, checksum="", n_bytes=len(CONTENT)), tmp_path / "right")
        with pytest.raises(DataError, match="published: 5 bytes"):
            fetch(remote(served, checksum="", n_bytes=5), tmp_path / "wrong")


def test_a_file_put_there_by_hand_is_taken(tmp_path):
    (tmp_path / "a.bin").write_bytes(CONTENT)
    got = fetch(Remote("https://nowhere.invalid/a.bin", "a.bin", checksum=f"sha256:{SHA}"), tmp_path)
    assert (got.checked, got.n_received) == ("published", 0)


def test_no_network_is_a_sentence_with_two_ways_out(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody answers there
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/a.bin"
        with pytest.raises(ResourceError, match=r"127.0.0.1 cannot be reached .*put it at .*a\.bin"):
            fetch(Remote(url, "a.bin"), tmp_path)


def test_a_file_that_is_gone_is_bad_data_and_a_busy_server_is_not(tmp_path):
    with serving({}) as served, pytest.raises(DataError, match="answers 404"):
        fetch(remote(served), tmp_path)


def test_redirects_are_followed(tmp_path):
    with serving({"/b.bin": CONTENT}, moved={"/a.bin": "/b.bin"}) as served:
        assert fetch(remote(served), tmp_path).path.read_bytes() == CONTENT


def test_a_full_disk_is_seen_before_and_on_the_way(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    with serving({"/a.bin": CONTENT}) as served:
        with monkeypatch.context() as patched:
            patched.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 1000, 1000))
            with pytest.raises(ResourceError, match=r"takes 1 MB, and .* has 0 MB left.*CRISTAE_CACHE"):
                fetch(remote(served), tmp_path)

        def full(*arguments):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patched:
            patched.setattr(download, "_pour", full)
            with pytest.raises(ResourceError, match="is full"):
                fetch(remote(served), tmp_path)
        assert fetch(remote(served), tmp_path).path.read_bytes() == CONTENT


def test_two_at_once_do_not_write_into_one_another(tmp_path):
    busy = pytest.raises(ResourceError, match="another process is fetching")
    with serving({"/a.bin": CONTENT}) as served, FileLock(tmp_path / ".a.bin.lock"), busy:
        fetch(remote(served), tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "http://example.org/a.bin"},
        {"url": "file:///etc/passwd"},
        {"name": "../a.bin"},
        {"name": ".a"},
        {"checksum": "sha1:abc"},
        {"checksum": "sha256:xyz"},
    ],
)
def test_what_is_not_safe_is_refused(wrong):
    with pytest.raises(UsageError):
        Remote(**{"url": "https://example.org/a.bin", "name": "a.bin"} | wrong)


def test_nothing_leaves_https():
    handler = download._Redirects()
    request = download.urllib.request.Request("https://example.org/a")
    with pytest.raises(DataError, match="not encrypted"):
        handler.redirect_request(request, None, 302, "", {}, "http://example.org/a")
