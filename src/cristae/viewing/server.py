"""A small web server for the OME-Zarr layers of a project, for a viewer in a browser on the same machine.

It listens on 127.0.0.1 alone, reads only, and serves nothing but the folders it was given, below a word that nobody can
guess. Other pages in the browser cannot read from it: it answers to the origin of the viewer only.
"""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit

HOST = "127.0.0.1"
_RANGE = re.compile(r"bytes=(\d*)-(\d*)$")
_PIECE = 2**20


class LayerServer:
    """Serves folders until it is closed.

    Parameters
    ----------
    folders
        Folders by the name under which they are served.
    port
        0 for any that is free.
    origin
        Of the pages that may read, such as ``http://127.0.0.1:8080``; may be set later.

    Raises
    ------
    OSError
        If the port is taken.
    """

    def __init__(self, folders: Mapping[str, Path], port: int = 0, origin: str = "") -> None:
        self.folders = {name: path.resolve() for name, path in folders.items()}
        self.origin, self.token = origin, secrets.token_urlsafe(24)
        handler = type("Handler", (_Handler,), {"owner": self})
        self._server = ThreadingHTTPServer((HOST, port), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="cristae layers", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Port it listens on."""
        return int(self._server.server_address[1])

    def url(self, name: str) -> str:
        """Return the address of a folder."""
        return f"http://{HOST}:{self.port}/{self.token}/{name}"

    def close(self) -> None:
        """End."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def find(self, address: str) -> Path | None:
        """Return the file of an address, None if there is none to be served."""
        parts = [unquote(part) for part in urlsplit(address).path.split("/")[1:]]
        if len(parts) < 3 or not secrets.compare_digest(parts[0].encode(), self.token.encode()):
            return None
        folder = self.folders.get(parts[1])
        if folder is None or any(part in ("", ".", "..") or "/" in part or "\\" in part for part in parts[2:]):
            return None
        path = folder.joinpath(*parts[2:]).resolve()
        return path if path.is_relative_to(folder) and path.is_file() else None


class _Handler(BaseHTTPRequestHandler):
    owner: LayerServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_OPTIONS(self) -> None:
        self.send_response(HTTPStatus.NO_CONTENT)
        self._allow()
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _allow(self) -> None:
        self.send_header("Access-Control-Allow-Origin", self.owner.origin or "null")
        self.send_header("Access-Control-Allow-Methods", "GET, HEAD, OPTIONS")
        self.send_header("Access-Control-Allow-Headers", "Range")
        self.send_header("Access-Control-Expose-Headers", "Content-Range, Content-Length")
        self.send_header("Vary", "Origin")

    def _answer(self, *, with_body: bool) -> None:
        # A page that had its own name point here would send that name.
        known = (f"{HOST}:{self.owner.port}", f"localhost:{self.owner.port}")
        path = self.owner.find(self.path) if self.headers.get("Host", "") in known else None
        if path is None:
            self._refuse(HTTPStatus.NOT_FOUND)
            return
        size = path.stat().st_size
        asked = self.headers.get("Range")
        span = _span(asked, size) if asked else (0, size)
        if span is None:
            self._refuse(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            return
        first, stop = span
        self.send_response(HTTPStatus.PARTIAL_CONTENT if asked else HTTPStatus.OK)
        self._allow()
        self.send_header("Content-Type", "application/json" if path.suffix == ".json" else "application/octet-stream")
        self.send_header("Content-Length", str(stop - first))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Cache-Control", "no-cache")
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{stop - 1}/{size}")
        self.end_headers()
        if with_body:
            self._send(path, first, stop)

    def _send(self, path: Path, first: int, stop: int) -> None:
        with path.open("rb") as file:
            file.seek(first)
            while first < stop and (piece := file.read(min(_PIECE, stop - first))):
                self.wfile.write(piece)
                first += len(piece)

    def _refuse(self, status: HTTPStatus) -> None:
        self.send_response(status)
        self._allow()
        self.send_header("Content-Length", "0")
        self.end_headers()


def _span(asked: str, size: int) -> tuple[int, int] | None:
    """Return the first byte and the end of a range that was asked for, None if it cannot be."""
    found = _RANGE.match(asked)
    if not found or found[1] == found[2] == "":
        return None
    if not found[1]:
        n = min(size, int(found[2]))
        return (size - n, size) if n else None
    first = int(found[1])
    stop = min(size, int(found[2]) + 1) if found[2] else size
    return (first, stop) if first < stop else None
