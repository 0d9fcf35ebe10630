"""The local page's guard: only this computer, only with the token, never through another page."""

from __future__ import annotations

import http.client
import re
import socket
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from refsr_bench.errors import UsageError
from refsr_bench.localweb import guard, load_token, serve

TOKEN = "t" * 32
HERE = {"base_url": "http://127.0.0.1:8000"}


@pytest.fixture
def client() -> FlaskClient:
    app = Flask(__name__)
    guard(app, TOKEN)
    app.add_url_rule("/", view_func=lambda: "page")
    app.add_url_rule("/decide", view_func=lambda: "noted", methods=["POST"], endpoint="decide")
    return app.test_client()


def opened(client: FlaskClient) -> FlaskClient:
    assert client.get(f"/?token={TOKEN}&reviewer=ann", **HERE).status_code == 303
    return client


def test_the_link_gives_a_cookie_and_a_clean_address(client: FlaskClient) -> None:
    answer = client.get(f"/?token={TOKEN}&reviewer=ann", **HERE)
    assert answer.headers["Location"] == "/?reviewer=ann"
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    page = client.get("/", **HERE)
    assert page.get_data(as_text=True) == "page"
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert "unsafe" not in page.headers["Content-Security-Policy"]


@pytest.mark.parametrize("token", ["", "x", "T" * 32, "é" * 32])
def test_without_the_token_nothing_is_shown(client: FlaskClient, token: str) -> None:
    assert client.get("/", **HERE).status_code == 403
    assert client.get("/", query_string={"token": token}, **HERE).status_code == 403
    assert client.post("/decide", **HERE).status_code == 403


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8000", "127.0.0.1:9999", "localhost:80", ""])
def test_a_foreign_host_name_is_refused(client: FlaskClient, host: str) -> None:
    assert opened(client).get("/", headers={"Host": host}, **HERE).status_code == 421


@pytest.mark.parametrize(
    "headers", [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}]
)
def test_another_page_cannot_write(client: FlaskClient, headers: dict[str, str]) -> None:
    assert opened(client).post("/decide", headers=headers, **HERE).status_code == 403
    own = {"Origin": "http://127.0.0.1:8000", "Sec-Fetch-Site": "same-origin"}
    assert client.post("/decide", headers=own, **HERE).status_code == 200


def test_the_token_is_private_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "work" / ".token"
    token = load_token(path)
    assert len(token) >= 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_token(path) == token
    path.write_text("")
    with pytest.raises(UsageError, match="no token"):
        load_token(path)


def test_servers_that_start_at_once_have_one_token(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(load_token, [tmp_path / ".token"] * 40))) == 1


def test_it_listens_on_this_computer_only_and_names_a_taken_port() -> None:
    app = Flask(__name__)
    guard(app, TOKEN)
    links: list[str] = []
    ready = threading.Event()

    def announce(link: str) -> None:
        links.append(link)
        ready.set()

    threading.Thread(target=lambda: serve(app, TOKEN, port=0, announce=announce), daemon=True).start()
    assert ready.wait(10)
    port = int(re.fullmatch(rf"http://127\.0\.0\.1:(\d+)/\?token={TOKEN}", links[0])[1])  # type: ignore[index]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/")
    assert connection.getresponse().status == 403
    connection.close()
    other = next((a[4][0] for a in socket.getaddrinfo(socket.gethostname(), port, socket.AF_INET)), "127.0.0.1")
    if not other.startswith("127."):
        with pytest.raises(OSError):  # noqa: PT011
            socket.create_connection((other, port), timeout=2)
    with pytest.raises(UsageError, match="in use"):
        serve(app, TOKEN, port=port, announce=announce)
