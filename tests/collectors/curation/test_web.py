"""Manners and defences on the network, against a server that misbehaves."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from curation_server import KEY, Small

from refsr_bench.collectors.curation.answers import Fault, Manners, picture_suffix
from refsr_bench.collectors.curation.asking import Asker
from refsr_bench.collectors.curation.providers import ProviderFault, Question, flickr
from refsr_bench.collectors.curation.web import Web
from refsr_bench.collectors.http import Timeouts

FAST = Manners("a@b.example", per_second=1000, allow_private=True, backoff_s=0.01, attempts=3, max_wait_s=3.0)


@pytest.fixture
def picture(photographs: Path) -> Path:
    return photographs / "rocket.jpg"


@pytest.fixture
def serve(picture: Path) -> Iterator[Any]:
    running: list[Small] = []

    def start(**plan: Any) -> Small:
        small = Small({"pictures": {"/a.jpg": str(picture), "/private/b.jpg": str(picture)}, **plan})
        threading.Thread(target=small.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        running.append(small)
        return small

    yield start
    for small in running:
        small.shutdown()
        small.server_close()


def paths(small: Small) -> list[str]:
    return [path for _, path, _ in small.asked]


def refusal(web: Web, url: str) -> Fault:
    with pytest.raises(Fault) as caught:
        web.get_picture(url)
    return caught.value


def test_robots_are_asked_once_and_heeded(serve: Any) -> None:
    small = serve(robots="User-agent: *\nDisallow: /private\nDisallow: /*.png$")
    web = Web(FAST)
    assert web.get_picture(f"{small.url}/a.jpg").robots == "allowed"
    for path in ("/private/b.jpg", "/x.png"):
        fault = refusal(web, small.url + path)
        assert (fault.refused, fault.lasting, fault.robots) == (True, True, "disallowed")
    assert paths(small) == ["/robots.txt", "/a.jpg"]
    agents = {agent for _, _, agent in small.asked}
    assert len(agents) == 1
    assert agents.pop().startswith("refsr-bench/")
    assert "a@b.example" in small.asked[0][2]


def test_a_robots_txt_that_cannot_be_read_forbids_and_a_missing_one_allows(serve: Any) -> None:
    for status in (500, 503, 429):
        fault = refusal(Web(FAST), f"{serve(robots=status).url}/a.jpg")
        assert (fault.refused, fault.lasting) == (True, False)
        assert f"answers {status}" in str(fault)
    for status in (404, 403):
        assert Web(FAST).get_picture(f"{serve(robots=status).url}/a.jpg").status == 200


def test_opt_outs_are_honoured(serve: Any) -> None:
    fault = refusal(Web(FAST), f"{serve(faults={'/a.jpg': ['noai']}).url}/a.jpg")
    assert fault.refused
    assert "X-Robots-Tag noai" in str(fault)


def test_passing_faults_are_tried_again_and_lasting_ones_are_not(serve: Any) -> None:
    small = serve(faults={"/a.jpg": ["status 503", "cut", "file /dev/null"], "/b.jpg": ["status 410"]})
    small.plan["faults"]["/a.jpg"][-1] = f"to {small.url}/private/b.jpg"
    assert len(Web(FAST).get_picture(f"{small.url}/a.jpg").body) > 100_000
    assert paths(small).count("/a.jpg") == 3
    fault = refusal(Web(FAST), f"{small.url}/b.jpg")
    assert (fault.status, fault.lasting, paths(small).count("/b.jpg")) == (410, True, 1)
    small.plan["faults"]["/c.jpg"] = ["status 502"]
    fault = refusal(Web(FAST), f"{small.url}/c.jpg")
    assert (fault.status, fault.lasting, paths(small).count("/c.jpg")) == (502, False, 3)


def test_retry_after_stops_the_whole_host(serve: Any) -> None:
    small = serve(faults={"/a.jpg": ["busy 1", "file /dev/null"]})
    small.plan["faults"]["/a.jpg"][-1] = f"to {small.url}/private/b.jpg"
    notes: list[str] = []
    web = Web(FAST, notes.append)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(web.get_picture, f"{small.url}/a.jpg")
        while not notes:  # it is said when the host is stopped
            assert not first.done()
            time.sleep(0.01)
        stopped = next(at for at, path, _ in small.asked if path == "/a.jpg")
        others = [pool.submit(web.get_picture, f"{small.url}/private/b.jpg") for _ in range(3)]
        assert first.result().status == 200
        assert all(other.result().status == 200 for other in others)
    later = [at for at, path, _ in small.asked if path == "/private/b.jpg"]
    assert min(later) - stopped > 0.9
    small.plan["faults"]["/a.jpg"] = ["busy 99"]
    fault = refusal(Web(FAST), f"{small.url}/a.jpg")
    assert "asks to wait 99 s" in str(fault)
    assert not fault.lasting


def test_the_limit_of_a_host_holds_under_8_threads(serve: Any) -> None:
    small = serve()
    web = Web(FAST._replace(per_second=Manners("").per_second))  # the default, on 20 requests
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(web.get_picture, [f"{small.url}/a.jpg"] * 19))
    times = [at for at, _, _ in small.asked]
    assert len(times) == 20  # robots.txt is one of them
    assert times[-1] - times[0] >= 19 / 2.0 - 2  # the first may have come late
    assert sum(at - times[0] < 1.0 for at in times) <= 4


def test_pages_and_endless_bodies_are_not_pictures(serve: Any) -> None:
    small = serve(faults={"/a.jpg": ["html"], "/b.jpg": ["page"], "/c.jpg": ["endless"], "/d.jpg": ["bomb"]})
    body = Web(FAST).get_picture(f"{small.url}/a.jpg").body
    with pytest.raises(Fault, match="a web page"):
        picture_suffix(body)
    assert "text/html, not a picture" in str(refusal(Web(FAST), f"{small.url}/b.jpg"))
    for path in ("/c.jpg", "/d.jpg"):  # without end, and compressed from 40 MB to 40 kB
        fault = refusal(Web(FAST._replace(max_bytes=300_000)), f"{small.url}{path}")
        assert "more than 300,000 bytes" in str(fault)


def test_a_silent_server_is_left_for_a_later_run(serve: Any) -> None:
    small = serve(faults={"/a.jpg": ["slow 1.5"]})
    fault = refusal(Web(FAST._replace(timeouts=Timeouts(1.0, 0.3), attempts=2)), f"{small.url}/a.jpg")
    assert "does not answer in time" in str(fault)
    assert not fault.lasting


@pytest.mark.parametrize(
    "target",
    ["http://127.0.0.1:9/x.jpg", "http://169.254.169.254/x", "http://[::1]/x", "http://10.0.0.8/x", "http://0x7f.1/x",
     "http://[::ffff:127.0.0.1]/x", "http://localhost/x", "file:///etc/passwd", "ftp://a.example/x", "gopher://a.example/"],
)  # fmt: skip
def test_private_addresses_and_other_schemes_are_refused_directly_and_by_redirect(serve: Any, target: str) -> None:
    fault = refusal(Web(FAST._replace(allow_private=False)), target)
    assert (fault.refused, fault.lasting) == (True, True)
    small = serve(faults={"/a.jpg": [f"to {target}"]})
    assert refusal(Web(FAST), f"{small.url}/a.jpg").refused


def test_the_address_that_was_judged_is_the_one_that_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: a name that is public when it is looked at and private the next time leads nowhere."""
    answers = ["93.184.216.34", "127.0.0.1"]
    asked: list[str] = []
    connected: list[Any] = []

    def resolve(host: str, port: int, *args: Any, **kwargs: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answers[min(len(asked), 2) - 1], port))]

    def connect(self: socket.socket, address: Any) -> None:
        connected.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket.socket, "connect", connect)
    web = Web(FAST._replace(allow_private=False))
    assert refusal(web, "http://pictures.example/a.jpg").refused
    assert connected == [("93.184.216.34", 80)]
    assert "private address" in str(refusal(Web(FAST._replace(allow_private=False)), "http://pictures.example/a.jpg"))
    assert connected == [("93.184.216.34", 80)]


def test_redirects_in_a_circle_end(serve: Any) -> None:
    small = serve(faults={"/a.jpg": ["to /b.jpg"], "/b.jpg": ["to /a.jpg"]})
    assert "circle" in str(refusal(Web(FAST), f"{small.url}/a.jpg"))


def test_offline_opens_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFSR_OFFLINE", "1")

    def forbidden(*args: Any) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", forbidden)
    fault = refusal(Web(FAST), "https://pictures.example/a.jpg")
    assert "REFSR_OFFLINE" in str(fault)
    assert not fault.lasting


def test_a_key_is_written_nowhere(
    serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    small = serve(searches={"castle": [{"url": "/a.jpg", "title": f"shows {KEY}"}]})
    asker = Asker(tmp_path / "responses", Web(FAST))
    question = Question("q", "castle", 5, "open", f"{small.url}/flickr")
    monkeypatch.setenv("FLICKR_API_KEY", KEY)
    found = list(asker.find("flickr", flickr.PROVIDER, question))
    assert found[0].title == "shows ***"
    before = len(small.asked)
    assert list(asker.find("flickr", flickr.PROVIDER, question)) == found
    assert len(small.asked) == before  # the second time from the cache
    monkeypatch.setenv("FLICKR_API_KEY", wrong := "wr0ng&key")
    with pytest.raises(ProviderFault, match=r"Invalid API Key \(\*\*\*\)"):
        list(asker.find("flickr", flickr.PROVIDER, question._replace(text="tower")))
    for broken in ("status 500", "status 404"):
        small.plan["faults"] = {"/flickr": [broken]}
        with pytest.raises(Fault) as caught:
            list(asker.find("flickr", flickr.PROVIDER, question._replace(text="bridge")))
        assert wrong not in "".join(map(str, [caught.value, caught.value.__cause__, caught.value.__dict__]))
    down = question._replace(text="gate", endpoint="http://127.0.0.1:9/flickr")
    with pytest.raises(Fault) as caught:
        list(asker.find("flickr", flickr.PROVIDER, down))
    assert "wr0ng" not in str(caught.value)
    written = "".join(path.read_text() for path in tmp_path.rglob("*.json"))
    assert written
    for secret in (KEY, wrong, "s3cret", "wr0ng"):
        assert secret not in written
        assert secret not in caplog.text


def test_answers_in_unknown_forms_end_as_faults(serve: Any, tmp_path: Path) -> None:
    small = serve(faults={"/openverse": ["html", "file /dev/null"]})
    asker = Asker(tmp_path, Web(FAST))
    for _ in range(2):
        with pytest.raises(Fault, match="not JSON"):
            asker.ask(f"{small.url}/openverse", {"q": "x"})
    assert not list(tmp_path.glob("*.json"))


@pytest.mark.parametrize(
    ("body", "url", "reason"),
    [
        (b"", "x.jpg", "empty"),
        (b"GIF89a....", "x.jpg", "a GIF"),
        (b"<svg xmlns=''>", "x.jpg", "SVG"),
        (b"%!PS-Adobe", "x.jpg", "PostScript"),
        (b"\0\0\0 ftypavif", "x.jpg", "AVIF"),
        (b"RIFF....WEBPVP8 ", "https://a.example/x.jpg?w=1", "content is WEBP but its address ends in .jpg"),
        (b"II*\0....", "x.jpg", "content is TIF"),
        (b"SIMPLE  =  T", "x.jpg", "FITS"),
        (b"hello, this is text", "x.png", "not a picture"),
    ],
)
def test_what_is_called_a_picture_must_be_one(body: bytes, url: str, reason: str) -> None:
    with pytest.raises(Fault, match=reason.replace(".", r"\.")):
        picture_suffix(body, url)
