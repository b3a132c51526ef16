"""One file from a server into a folder: resumed, checked, and never taken for whole before it is.

::

    cache/vnc.zip            whole, and its checksum was right
    cache/vnc.zip.part       as much as has come; the next call goes on from its end
    cache/vnc.zip.part.json  what the server called that content, so that parts of two versions are never joined
    cache/vnc.zip.sha256     checksum of a file whose source publishes none: the next download is held against it

Nothing is sent but the request for the file. Only HTTPS is spoken, except to this machine itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from cristae.errors import DataError, ResourceError, UsageError
from cristae.files import writable, write_atomically

Told = Callable[[int, int], object]
"""Called with the number of bytes that are here and their total."""

_PIECE = 2**20
_TIMEOUT_S = 30
_ATTEMPTS = 4
"""Broken connections in a row that bring nothing new, before it is given up."""
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_SPARE_BYTES = 2**26
_CHECKSUM = re.compile(r"(sha256:[0-9a-f]{64}|md5:[0-9a-f]{32})?")


@dataclass(frozen=True)
class Remote:
    """A file on a server.

    Parameters
    ----------
    url
        Address; HTTPS.
    name
        Name of the file here.
    n_bytes
        Its length, if known.
    checksum
        ``sha256:`` or ``md5:`` and hexadecimal digits as its source, or others who checked it, publish them; empty
        where nobody does.
    """

    url: str
    name: str
    n_bytes: int | None = None
    checksum: str = ""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
            raise UsageError(f"{self.url}: expected an address that begins with https://")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name):
            raise UsageError(f"{self.name!r} cannot name a file; use letters, digits, '.', '-' and '_'")
        if not _CHECKSUM.fullmatch(self.checksum):
            raise UsageError(f"{self.checksum!r} is no checksum; expected sha256: or md5: and hexadecimal digits")


@dataclass(frozen=True)
class Fetched:
    """A file that is here.

    Parameters
    ----------
    path
        Where.
    sha256
        Its checksum, hexadecimal.
    checked
        What it was held against: ``published``, ``first download`` (the checksum remembered from then), or ``nothing``.
    n_received
        Bytes that came over the network in this call; 0 where all were here already.
    """

    path: Path
    sha256: str
    checked: str
    n_received: int


class _ChangedError(Exception):
    """What came is not what it should be."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows the server elsewhere, but never off HTTPS."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if urlsplit(req.full_url).scheme == "https" and urlsplit(newurl).scheme != "https":
            raise DataError(f"{req.full_url} leads to {newurl}, which is not encrypted; it is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def fetch(remote: Remote, folder: Path, *, told: Told | None = None, accept_changed: bool = False) -> Fetched:
    """Return the file, from the folder if it is there and right, else from the server.

    Parameters
    ----------
    remote
        What to fetch.
    folder
        Where files are kept; made when needed.
    told
        Told as bytes come in. The total is 0 as long as nobody has said it.
    accept_changed
        Whether a file whose checksum is not the one that was published, or remembered, is taken all the same.

    Raises
    ------
    ResourceError
        If the server cannot be reached or breaks off, the disk is full, or another process fetches the same file. What
        has come is kept, and the next call goes on from there.
    DataError
        If the server has no such file, or what came has another checksum. Such a file is not kept.
    """
    target = folder / remote.name
    with writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(target):
            n_received, checked = 0, _held_against(remote, target, target) if target.is_file() else ""
            if not checked:
                n_received, checked = _receive_right(remote, target, told, accept_changed)
                _part(target).replace(target)
                _forget(target)
            digest = _digest(target, "sha256")
            if checked == "nothing":
                write_atomically(_memory(target), f"{digest}  {remote.name}\n")
            return Fetched(target, digest, checked, n_received)


@contextlib.contextmanager
def _alone(target: Path) -> Iterator[None]:
    lock = FileLock(target.with_name(f".{target.name}.lock"))
    try:
        with lock.acquire(timeout=0):
            yield
    except Timeout as error:
        raise ResourceError(f"another process is fetching {target}; wait until it is done") from error


def _part(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def _notes(target: Path) -> Path:
    return target.with_name(f"{target.name}.part.json")


def _memory(target: Path) -> Path:
    return target.with_name(f"{target.name}.sha256")


def _forget(target: Path) -> None:
    for path in (_part(target), _notes(target)):
        path.unlink(missing_ok=True)


def _digest(path: Path, method: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, method).hexdigest()


def _receive_right(remote: Remote, target: Path, told: Told | None, accept_changed: bool) -> tuple[int, str]:
    """Bring the part to its full length and check it; return how many bytes came, and what it was held against."""
    n_received, resumed = _receive(remote, target, told)
    checked = _held_against(remote, target, _part(target))
    if not checked and resumed and not accept_changed:
        _forget(target)  # the pieces may be of two versions: once more, in one go
        n_received += _receive(remote, target, told)[0]
        checked = _held_against(remote, target, _part(target))
    if checked or accept_changed:
        return n_received, checked or "nothing"
    found, n_bytes = _digest(_part(target), "sha256"), _part(target).stat().st_size
    _forget(target)
    published = remote.checksum or (f"{remote.n_bytes} bytes" if remote.n_bytes else "none")
    remembered = f"; when it was first downloaded: sha256:{_remembered(target)}" if _remembered(target) else ""
    raise DataError(
        f"{remote.url} is not the file it should be: got {n_bytes} bytes, sha256:{found}; published: "
        f"{published}{remembered}. It was not kept. Try again; if its source has changed it and you trust it, say so: "
        "--accept-changed"
    )


def _held_against(remote: Remote, target: Path, path: Path) -> str:
    """Return what a file was held against and found right; empty if it is wrong."""
    if remote.checksum:
        method, _, known = remote.checksum.partition(":")
        if _digest(path, method) == known:
            return "published"
    elif remote.n_bytes is not None and path.stat().st_size != remote.n_bytes:
        return ""
    remembered = _remembered(target)
    if remembered:
        return "first download" if _digest(path, "sha256") == remembered else ""
    return "" if remote.checksum else "nothing"


def _remembered(target: Path) -> str:
    path = _memory(target)
    return path.read_text(encoding="utf-8").partition(" ")[0] if path.is_file() else ""


def _receive(remote: Remote, target: Path, told: Told | None) -> tuple[int, bool]:
    """Bring the part to its full length; return how many bytes came, and whether some were there before."""
    received, resumed, idle, furthest = 0, False, 0, _length(_part(target))
    while True:
        start = _length(_part(target))
        try:
            came, whole, kept = _attempt(remote, target, start, told)
        except _ChangedError:
            _forget(target)
            came, whole, kept = 0, False, False
        resumed = resumed or (kept and start > 0)
        received += came
        if whole:
            return received, resumed
        here = _length(_part(target))
        idle, furthest = (0, here) if here > furthest else (idle + 1, furthest)
        if idle >= _ATTEMPTS:
            raise ResourceError(
                f"{urlsplit(remote.url).hostname} broke off after {here / 1e6:.1f} MB of {remote.name}; what has come "
                "is kept, and the same command goes on from there if the server can"
            )


def _length(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _known(target: Path) -> dict[str, Any]:
    try:
        found = json.loads(_notes(target).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _attempt(remote: Remote, target: Path, start: int, told: Told | None) -> tuple[int, bool, bool]:
    """Ask once; return how many bytes came, if the file is whole, and if it went on from `start`."""
    known = _known(target)
    if known.get("url") != remote.url:
        _forget(target)  # a part of something else
        start = 0
    request = urllib.request.Request(remote.url, headers={"User-Agent": "cristae", "Accept-Encoding": "identity"})
    if start:
        request.add_header("Range", f"bytes={start}-")
        if known.get("version"):
            request.add_header("If-Range", str(known["version"]))
    try:
        answer = _opener().open(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == 416 and start:
            if start == known.get("n_bytes"):
                return 0, True, True  # killed between the last byte and the check
            raise _ChangedError from error
        raise _refused(remote, error) from error
    except (OSError, http.client.HTTPException) as error:
        raise _unreached(remote, target, error) from error
    with answer:
        goes_on = answer.status == 206
        if goes_on and not str(answer.headers.get("Content-Range", "")).startswith(f"bytes {start}-"):
            raise _ChangedError
        begin = start if goes_on else 0
        total = _total(answer, begin)
        _check_space(target, total or remote.n_bytes, begin)
        notes = {"url": remote.url, "version": _version(answer), "n_bytes": total}
        write_atomically(_notes(target), json.dumps(notes))
        came, ended = _pour(answer, _part(target), begin, (total or remote.n_bytes or 0, told))
    return came, ended if total is None else begin + came >= total, goes_on


def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_Redirects())


def _total(answer: Any, begin: int) -> int | None:
    length = answer.headers.get("Content-Length")
    return begin + int(length) if length and str(length).isdigit() else None


def _version(answer: Any) -> str:
    """Return what the server calls this content; weak tags say nothing about single bytes."""
    tag = str(answer.headers.get("ETag") or "")
    return tag if tag and not tag.startswith("W/") else str(answer.headers.get("Last-Modified") or "")


def _pour(answer: Any, part: Path, begin: int, telling: tuple[int, Told | None]) -> tuple[int, bool]:
    """Write what comes until it ends or breaks; return the number of bytes, and whether it ended by itself."""
    total, told = telling
    came = 0
    with part.open("r+b" if begin else "wb") as file:
        file.seek(begin)
        file.truncate()
        while True:
            try:
                piece = answer.read1(_PIECE)
            except (OSError, http.client.HTTPException):
                return came, False  # asked for again from here
            if not piece:
                return came, True
            file.write(piece)
            came += len(piece)
            if told:
                told(begin + came, total)


def _check_space(target: Path, total: int | None, begin: int) -> None:
    free = shutil.disk_usage(target.parent).free
    if total is not None and total - begin + _SPARE_BYTES > free:
        raise ResourceError(
            f"{target.name} takes {total / 1e6:.0f} MB, and {target.parent} has {free / 1e6:.0f} MB left; free some "
            "space, or keep downloads elsewhere (CRISTAE_CACHE=FOLDER)"
        )


def _refused(remote: Remote, error: urllib.error.HTTPError) -> Exception:
    said = f"{urlsplit(remote.url).hostname} answers {error.code} ({error.reason}) for {remote.url}"
    if error.code in (404, 410):
        return DataError(f"{said}: the file is not there any more. Look on the page of its source")
    return ResourceError(f"{said}; try again later, or fetch it with a browser")


def _unreached(remote: Remote, target: Path, error: Exception) -> ResourceError:
    reason = getattr(error, "reason", error)
    return ResourceError(
        f"{urlsplit(remote.url).hostname} cannot be reached ({reason}). Check the connection; or fetch {remote.url} in "
        f"another way and put it at {target}"
    )
