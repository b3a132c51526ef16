"""A web server on this machine that behaves well or badly, for tests of downloads."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Served:
    """What a server has, how it behaves, and what it was asked.

    `breaks` says after how many bytes of each answer in turn the connection ends; later answers are whole.
    """

    files: dict[str, bytes]
    ranges: bool = True
    length: bool = True
    tags: bool = True
    breaks: list[int] = field(default_factory=list)
    pause_s: float = 0.0
    moved: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""

    @property
    def ranges_asked(self) -> list[str]:
        return [one for _, one in self.asked]


@contextlib.contextmanager
def serving(files: dict[str, bytes], **manners) -> Iterator[Served]:
    served = Served(files, **manners)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *words):
            pass

        def do_GET(self):
            answer(self, served)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    served.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def answer(handler: BaseHTTPRequestHandler, served: Served) -> None:
    wanted = handler.headers.get("Range", "")
    served.asked.append((handler.path, wanted))
    handler.close_connection = True
    if handler.path in served.moved:
        handler.send_response(302)
        handler.send_header("Location", served.moved[handler.path])
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return
    if handler.path not in served.files:
        handler.send_error(404)
        return
    content = served.files[handler.path]
    tag = f'"{hash(content)}"'
    begin = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and served.ranges else 0
    if handler.headers.get("If-Range", tag) != tag:
        begin = 0
    if begin and begin >= len(content):
        handler.send_response(416)
        handler.send_header("Content-Range", f"bytes */{len(content)}")
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return
    handler.send_response(206 if begin else 200)
    if begin:
        handler.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
    if served.tags:
        handler.send_header("ETag", tag)
    if served.length:
        handler.send_header("Content-Length", str(len(content) - begin))
    else:
        handler.send_header("Connection", "close")
    handler.end_headers()
    stop = min(len(content), begin + served.breaks.pop(0)) if served.breaks else len(content)
    for place in range(begin, stop, 65536):
        handler.wfile.write(content[place : min(stop, place + 65536)])
        if served.pause_s:
            time.sleep(served.pause_s)
