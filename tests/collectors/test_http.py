"""The guard before every request: which addresses are never asked (cases 14 and 15 of the fault list)."""

from __future__ import annotations

import gzip
import io
import shutil
import socket
import ssl
import subprocess
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from local_server import reply, serving

from refsr_bench.collectors.http import ConnectionFailed, Refused, Timeouts, check_url, http_get, is_public, read_body

PRIVATE = [
    *("127.0.0.1", "169.254.169.254", "10.1.2.3", "192.168.0.1", "0.0.0.0", "0x7f.1", "2130706433", "0177.0.0.1"),
    *("[::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "[fe80::1]", "[fc00::1]", "localhost"),
]


def ask(url: str, *, allow_private: bool = False) -> bytes:
    with http_get(url, {}, timeouts=Timeouts(2.0, 2.0), allow_private=allow_private) as response:
        return read_body(response, 1000)


@pytest.fixture
def no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket, address: object) -> None:
        raise AssertionError(f"a connection to {address} was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.usefixtures("no_connection")
@pytest.mark.parametrize("host", PRIVATE)
def test_14_private_addresses_are_not_asked_in_any_spelling(host: str) -> None:
    with pytest.raises(Refused, match="private address"):
        ask(f"http://{host}:8000/latest/meta-data")


@pytest.mark.parametrize("host", PRIVATE)
def test_14_a_redirect_to_a_private_address_is_refused(host: str) -> None:
    def answer(handler: BaseHTTPRequestHandler, number: int) -> None:
        reply(handler, 302, Location=f"http://{host}:1/x")

    with serving(answer) as server, pytest.raises(Refused, match="private address"):
        ask(server.url, allow_private=True)


def test_14_a_redirect_loop_ends() -> None:
    def answer(handler: BaseHTTPRequestHandler, number: int) -> None:
        reply(handler, 302, Location="/b" if handler.path == "/a" else "/a")

    with serving(answer) as server, pytest.raises(Refused, match="in a circle"):
        ask(f"{server.url}/a", allow_private=True)
    assert len(server.asked) == 2

    with serving(lambda handler, number: reply(handler, 302, Location=f"/{number}")) as server:
        with pytest.raises(Refused, match="more than 5 redirects"):
            ask(f"{server.url}/a", allow_private=True)


def test_14_a_redirect_within_the_rules_is_followed() -> None:
    def answer(handler: BaseHTTPRequestHandler, number: int) -> None:
        reply(handler, 302, Location="/file") if handler.path == "/a" else reply(handler, 200, b"here")

    with serving(answer) as server:
        assert ask(f"{server.url}/a", allow_private=True) == b"here"


def test_14_a_step_down_to_http_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import requests

    def answer(self: requests.Session, url: str, **options: object) -> requests.Response:
        response = requests.Response()
        response.status_code = 302
        response.headers["Location"] = "http://example.org/file"
        response.raw = io.BytesIO()
        return response

    monkeypatch.setattr(requests.Session, "get", answer)
    with pytest.raises(Refused, match="from https to http"):
        ask("https://example.org/file")


def resolve_to(monkeypatch: pytest.MonkeyPatch, *answers: str) -> list[str]:
    """Let names resolve to one address after the other; gives the list of names asked for."""
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, *args: object, **options: object) -> list[tuple[object, ...]]:
        asked.append(host)
        address = answers[min(len(asked), len(answers)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


@pytest.mark.usefixtures("no_connection")
def test_14_a_name_that_leads_to_a_private_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, "10.0.0.7")
    with pytest.raises(Refused, match=r"inside.example: leads to the private address 10\.0\.0\.7"):
        ask("http://inside.example/")


def test_14_the_connection_goes_to_the_address_that_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = resolve_to(monkeypatch, "93.184.215.14", "127.0.0.1")
    connected: list[tuple[str, int]] = []

    def connect(self: socket.socket, address: tuple[str, int]) -> None:
        connected.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket.socket, "connect", connect)
    with pytest.raises(ConnectionFailed, match="cannot be reached") as caught:
        ask("http://rebinding.example/")
    assert not caught.value.reached
    assert asked == ["rebinding.example"], "a second look-up could give another answer"
    assert connected == [("93.184.215.14", 80)]


@pytest.mark.usefixtures("no_connection")
@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "ftp://example.org/a", "data:text/plain,a", "gopher://example.org/", "//example.org/a",
     "javascript:alert(1)", "", "http://", "http://user:secret@example.org/", "http://example.org:99999/"],
)  # fmt: skip
def test_15_other_schemes_and_half_addresses_are_rejected(url: str) -> None:
    with pytest.raises(Refused):
        ask(url)
    with pytest.raises(Refused):
        check_url(url)


def test_public_addresses_are_public() -> None:
    assert all(map(is_public, ("8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8")))


def test_a_small_body_is_read_whole_and_a_bomb_is_not() -> None:
    packed = gzip.compress(bytes(500))
    with serving(lambda handler, number: reply(handler, 200, packed, Content_Encoding="gzip")) as server:
        assert ask(server.url, allow_private=True) == bytes(500)
    bomb = gzip.compress(bytes(50_000_000))
    with serving(lambda handler, number: reply(handler, 200, bomb, Content_Encoding="gzip")) as server:
        with pytest.raises(Refused, match="more than 1,000 bytes"):
            ask(server.url, allow_private=True)


def test_a_broken_body_is_a_network_error() -> None:
    with serving(lambda handler, number: reply(handler, 200, b"abc", Content_Length="500")) as server:
        with pytest.raises(ConnectionFailed, match="broke") as caught:
            ask(server.url, allow_private=True)
    assert caught.value.exit_code == 6


def test_https_reaches_its_server_and_checks_the_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not here to make a certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]
    make += [
        "-subj",
        "/CN=test",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-keyout",
        str(key),
        "-out",
        str(certificate),
    ]
    subprocess.run(make, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serving(lambda handler, number: reply(handler, 200, b"here"), context) as server:
        with pytest.raises(ConnectionFailed, match="SSLError"):
            ask(server.url, allow_private=True)
        with pytest.raises(Refused, match="private address"):
            ask(server.url)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        assert ask(server.url, allow_private=True) == b"here"
