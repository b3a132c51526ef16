from __future__ import annotations

import http.client

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cristae.viewing.server import HOST, LayerServer

CONTENT = bytes(range(256)) * 20


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    root = tmp_path_factory.mktemp("served")
    (root / "layer" / "0" / "c").mkdir(parents=True)
    (root / "layer" / "0" / "c" / "0").write_bytes(CONTENT)
    (root / "layer" / "zarr.json").write_text("{}")
    (root / "secret.txt").write_text("secret")
    (root / "layer" / "link").symlink_to(root / "secret.txt")
    with LayerServer({"cell": root / "layer"}, origin="http://127.0.0.1:1") as server:
        yield server


def ask(server, path, method="GET", **headers):
    connection = http.client.HTTPConnection(HOST, server.port, timeout=10)
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


def test_files_are_served_to_the_viewer_alone(served):
    answer, body = ask(served, f"/{served.token}/cell/0/c/0")
    assert (answer.status, body) == (200, CONTENT)
    assert answer.getheader("Access-Control-Allow-Origin") == "http://127.0.0.1:1"
    assert ask(served, f"/{served.token}/cell/zarr.json")[0].getheader("Content-Type") == "application/json"
    answer, body = ask(served, f"/{served.token}/cell/0/c/0", "HEAD")
    assert (answer.status, body, answer.getheader("Content-Length")) == (200, b"", str(len(CONTENT)))
    answer, _ = ask(served, f"/{served.token}/cell/0/c/0", "OPTIONS", Origin="http://evil.example")
    assert answer.status == 204 and answer.getheader("Access-Control-Allow-Origin") == "http://127.0.0.1:1"
    assert served.url("cell") == f"http://127.0.0.1:{served.port}/{served.token}/cell"


@given(st.integers(0, 6000), st.integers(0, 6000))
def test_ranges_are_parts_of_the_file(served, first, last):
    answer, body = ask(served, f"/{served.token}/cell/0/c/0", Range=f"bytes={first}-{last}")
    if first > last or first >= len(CONTENT):
        assert answer.status == 416
    else:
        assert (answer.status, body) == (206, CONTENT[first : last + 1])
        assert answer.getheader("Content-Range") == f"bytes {first}-{min(last, len(CONTENT) - 1)}/{len(CONTENT)}"
    answer, body = ask(served, f"/{served.token}/cell/0/c/0", Range=f"bytes=-{last}")
    assert body == (CONTENT[-last:] if last else b"")


@pytest.mark.parametrize(
    "path",
    [
        "/", "/zarr.json", "/wrong/cell/zarr.json", "/{token}/cell", "/{token}/cell/", "/{token}/mito/zarr.json",
        "/{token}/cell/../secret.txt", "/{token}/cell/%2e%2e/secret.txt", "/{token}/cell/..%2fsecret.txt",
        "/{token}/cell/link", "/{token}/cell/0", "/{token}/cell//zarr.json", "/{token}/cell/..%5csecret.txt",
    ],
)  # fmt: skip
def test_nothing_else_is_served(served, path):
    answer, body = ask(served, path.format(token=served.token))
    assert (answer.status, body) == (404, b"")


def test_a_page_under_another_name_gets_nothing(served):
    assert ask(served, f"/{served.token}/cell/zarr.json", Host="evil.example")[0].status == 404
    assert ask(served, f"/{served.token}/cell/zarr.json", "POST")[0].status == 501


def test_it_listens_on_this_machine_alone(served):
    assert served._server.server_address[0] == "127.0.0.1"
