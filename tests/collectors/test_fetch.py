"""Downloading from servers that fail, lie, stall and change their mind; numbers are those of the fault list."""

from __future__ import annotations

import email.utils
import errno
import gzip
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace

import gdown
import pytest
from local_server import LocalServer, reply, reply_file, serving

from refsr_bench.collectors.fetch import Fetched, Unavailable, fetch
from refsr_bench.collectors.http import Timeouts
from refsr_bench.collectors.transfer import Limits
from refsr_bench.disk import sha256_bytes, sha256_file
from refsr_bench.errors import IntegrityError, NetworkError, StorageError

CONTENT = bytes(i * i % 251 for i in range(200_000))
DIGEST = sha256_bytes(CONTENT)
QUICK = Limits(attempts=3, backoff_s=0.05, max_wait_s=3.0, timeouts=Timeouts(2.0, 2.0))


class Notes(list[str]):
    def __call__(self, text: str) -> None:
        self.append(text)


def get(
    target: Path, *urls: str, sha256: str | None = DIGEST, limits: Limits = QUICK, note: Callable[[str], None] = print
) -> Fetched:
    return fetch(urls, target, sha256=sha256, note=note, limits=limits, allow_private=True)


def part_of(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "archives" / "set.zip"


def test_01_a_server_that_is_busy_twice_is_asked_three_times(target: Path) -> None:
    def answer(handler: BaseHTTPRequestHandler, number: int) -> None:
        reply(handler, 503) if number < 3 else reply_file(handler, CONTENT)

    started = time.monotonic()
    with serving(answer) as server:
        fetched = get(target, server.url)
    assert len(server.asked) == 3
    assert time.monotonic() - started >= 0.05 + 0.1, "the second wait is twice the first"
    assert target.read_bytes() == CONTENT
    assert fetched.sha256 == DIGEST
    assert not part_of(target).exists()


@pytest.mark.parametrize("as_date", [False, True])
def test_02_retry_after_is_honoured_in_both_forms(target: Path, as_date: bool) -> None:
    def answer(handler: BaseHTTPRequestHandler, number: int) -> None:
        if number == 1:
            at = email.utils.formatdate(time.time() + 2, usegmt=True) if as_date else "1"
            reply(handler, 429, Retry_After=at)
        else:
            reply_file(handler, CONTENT)

    started = time.monotonic()
    with serving(answer) as server:
        get(target, server.url)
    assert time.monotonic() - started >= 0.9


def test_02_a_wait_beyond_the_cap_ends_the_run_with_what_came_kept(target: Path) -> None:
    def answer(handler: BaseHTTPRequestHandler, number: int) -> None:
        reply_file(handler, CONTENT, cut=1000) if number == 1 else reply(handler, 429, Retry_After="3600")

    with serving(answer) as server, pytest.raises(NetworkError, match="asks to wait 3,600 s") as caught:
        get(target, server.url)
    assert caught.value.exit_code == 6
    assert part_of(target).stat().st_size == 1000
    assert not target.exists()


@pytest.mark.parametrize("status", [404, 410])
def test_03_a_second_mirror_steps_in_and_is_recorded(target: Path, status: int) -> None:
    with (
        serving(lambda handler, number: reply(handler, status)) as gone,
        serving(lambda handler, number: reply_file(handler, CONTENT)) as good,
    ):
        fetched = get(target, gone.url, good.url)
    assert len(gone.asked) == 1, "a file that is gone is not asked for again"
    assert fetched.url == good.url
    assert fetched.failures == (f"{gone.url}: the server answers {status}",)
    origin = json.loads(target.with_name("set.zip.origin.json").read_bytes())
    assert (origin["url"], origin["failures"]) == (good.url, list(fetched.failures))
    assert get(target) == fetched, "a later call knows where it came from"


def test_04_without_a_mirror_the_manual_steps_are_printed(target: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{unused.getsockname()[1]}/set.zip"
    with serving(lambda handler, number: reply(handler, 404)) as gone, pytest.raises(Unavailable) as caught:
        get(target, gone.url, closed, limits=QUICK._replace(attempts=1))
    assert caught.value.exit_code == 3
    assert all(part in str(caught.value) for part in (gone.url, closed, "set.zip", DIGEST, str(target.parent)))


def test_05_a_cut_connection_is_resumed_by_the_next_run(target: Path) -> None:
    def answer(handler: BaseHTTPRequestHandler, number: int) -> None:
        reply_file(handler, CONTENT, cut=120_000 if number == 1 else None)

    with serving(answer) as server:
        with pytest.raises(NetworkError, match="connection broke"):
            get(target, server.url, limits=QUICK._replace(attempts=1))
        get(target, server.url)
    assert server.asked[1].headers["Range"] == "bytes=120000-"
    assert server.asked[1].headers["If-Range"] == '"1"'
    assert target.read_bytes() == CONTENT


def cut_once_then(
    answer: Callable[[BaseHTTPRequestHandler, int], None],
) -> Callable[[BaseHTTPRequestHandler, int], None]:
    def combined(handler: BaseHTTPRequestHandler, number: int) -> None:
        reply_file(handler, CONTENT, cut=120_000) if number == 1 else answer(handler, number)

    return combined


def test_06_a_server_that_ignores_range_is_read_from_the_start(target: Path) -> None:
    with serving(cut_once_then(lambda handler, number: reply(handler, 200, CONTENT))) as server:
        get(target, server.url)
    assert server.asked[1].headers["Range"] == "bytes=120000-"
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("span", ["bytes 0-199999/200000", "bytes 119999-199999/200000", "nonsense"])
def test_07_a_wrong_content_range_is_discarded(target: Path, span: str) -> None:
    def answer(handler: BaseHTTPRequestHandler, number: int) -> None:
        if "Range" in handler.headers:
            reply(handler, 206, CONTENT[120_000:], Content_Range=span)
        else:
            reply_file(handler, CONTENT)

    with serving(cut_once_then(answer)) as server:
        get(target, server.url)
    assert "Range" not in server.asked[2].headers
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("honest", [True, False], ids=["answers 200", "answers 206 all the same"])
def test_08_a_file_that_changed_between_runs_is_fetched_anew(target: Path, honest: bool) -> None:
    newer = CONTENT[::-1]

    def answer(handler: BaseHTTPRequestHandler, number: int) -> None:
        if "Range" in handler.headers and not honest:
            reply(handler, 206, newer[120_000:], Content_Range="bytes 120000-199999/200000", ETag='"2"')
        else:
            reply_file(handler, newer, etag='"2"')

    with serving(cut_once_then(answer)) as server:
        get(target, server.url, sha256=None)
    assert target.read_bytes() == newer


def test_09_a_part_that_was_complete_is_accepted(target: Path) -> None:
    target.parent.mkdir()
    part_of(target).write_bytes(CONTENT)
    with serving(lambda handler, number: reply_file(handler, CONTENT)) as server:
        part_of(target).with_name(".set.zip.part.json").write_text(json.dumps({"url": server.url, "etag": '"1"'}))
        get(target, server.url)
    assert len(server.asked) == 1
    assert target.read_bytes() == CONTENT


def test_09_a_complete_part_with_the_wrong_bytes_is_fetched_anew(target: Path) -> None:
    target.parent.mkdir()
    part_of(target).write_bytes(b"x" * len(CONTENT))
    with serving(lambda handler, number: reply_file(handler, CONTENT)) as server:
        part_of(target).with_name(".set.zip.part.json").write_text(json.dumps({"url": server.url, "etag": '"1"'}))
        get(target, server.url)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("announced", [len(CONTENT) + 100, len(CONTENT) - 100], ids=["too large", "too small"])
def test_10_a_wrong_content_length_is_an_integrity_error(target: Path, announced: int) -> None:
    def answer(handler: BaseHTTPRequestHandler, number: int) -> None:
        reply(handler, 200, CONTENT, Content_Length=str(announced))

    with serving(answer) as server, pytest.raises(IntegrityError) as caught:
        get(target, server.url)
    assert caught.value.exit_code == 4
    assert not target.exists()
    assert not part_of(target).exists()


@pytest.mark.parametrize(
    ("page", "cause"),
    [
        (b"<!DOCTYPE html><html><title>Google Drive - Quota exceeded</title>", "quota of the file is used up"),
        (b"\n <html>Google Drive can't scan this file for viruses", "virus-scan warning"),
        (b"<!doctype HTML><p>Sign in - Google Accounts", "wants somebody to sign in"),
        (b"<html><p>Welcome", "says something else"),
    ],
)
def test_11_a_web_page_in_place_of_the_archive_is_named(target: Path, page: bytes, cause: str) -> None:
    with serving(lambda handler, number: reply(handler, 200, page)) as server:
        with pytest.raises(Unavailable, match=cause):
            get(target, server.url, sha256=None)
    assert [p.name for p in target.parent.iterdir() if p.suffix != ".lock"] == []


def test_11_a_web_page_does_not_cost_what_came_before_it(target: Path) -> None:
    with serving(cut_once_then(lambda handler, number: reply(handler, 200, b"<html>quota"))) as server:
        with pytest.raises(Unavailable, match="quota"):
            get(target, server.url)
    assert part_of(target).stat().st_size == 120_000


def test_12_an_endless_body_stops_at_the_limit(target: Path) -> None:
    def answer(handler: BaseHTTPRequestHandler, number: int) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(b"x" * 65536)

    with serving(answer) as server, pytest.raises(Unavailable, match="more than the limit of 1,000,000 bytes"):
        get(target, server.url, sha256=None, limits=QUICK._replace(max_bytes=1_000_000))
    assert not part_of(target).exists()


def test_12_an_announced_giant_is_not_begun(target: Path) -> None:
    with serving(lambda handler, number: reply(handler, 200, Content_Length="99999999999999")) as server:
        with pytest.raises(Unavailable, match="announces 99,999,999,999,999 bytes"):
            get(target, server.url)


def test_12_a_compressed_body_is_refused_unread(target: Path) -> None:
    bomb = gzip.compress(bytes(10_000_000))
    with serving(lambda handler, number: reply(handler, 200, bomb, Content_Encoding="gzip")) as server:
        with pytest.raises(Unavailable, match="compresses the file"):
            get(target, server.url, sha256=None)
    assert server.asked[0].headers["Accept-Encoding"] == "identity"


def test_13_a_silent_server_times_out_and_is_resumed(target: Path) -> None:
    whole = threading.Event()

    def answer(handler: BaseHTTPRequestHandler, number: int) -> None:
        if number == 1:
            reply(handler, 200, CONTENT[:120_000], Content_Length=str(len(CONTENT)), ETag='"1"')
            handler.wfile.flush()
            whole.wait(60)
        else:
            reply_file(handler, CONTENT)

    with serving(answer) as server:
        get(target, server.url, limits=QUICK._replace(timeouts=Timeouts(5.0, 1.0)))
        whole.set()
    assert server.asked[1].headers["Range"] == "bytes=120000-"
    assert target.read_bytes() == CONTENT


def test_13_a_trickle_is_a_stall(target: Path) -> None:
    def answer(handler: BaseHTTPRequestHandler, number: int) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(CONTENT)))
        handler.end_headers()
        handler.wfile.write(CONTENT[:70_000])
        while True:
            time.sleep(0.05)
            handler.wfile.write(b"x")

    with serving(answer) as server, pytest.raises(NetworkError, match="hardly anything"):
        get(target, server.url, limits=QUICK._replace(attempts=1, slow_s=0.3))


def test_a_file_is_judged_for_good_by_who_holds_the_lock(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one process finds a file wrong, another puts the right one in its place."""
    target.parent.mkdir()
    target.write_bytes(b"wrong")

    def late(path: Path) -> str:
        digest = sha256_file(path)
        path.write_bytes(CONTENT)
        return digest

    monkeypatch.setattr("refsr_bench.collectors.fetch.sha256_file", late)
    with serving(lambda handler, number: reply_file(handler, CONTENT)) as server:
        assert get(target, server.url).url == "put there by the user"
    assert not server.asked
    assert target.read_bytes() == CONTENT


def test_19_offline_opens_no_socket(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setenv("REFSR_OFFLINE", "1")
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for url in ("http://127.0.0.1:9/set.zip", "https://example.org/set.zip", "gdrive:abc"):
        with pytest.raises(NetworkError, match="REFSR_OFFLINE is set"):
            get(target, url)
    target.parent.mkdir()
    target.write_bytes(CONTENT)
    assert get(target, "https://example.org/set.zip").path == target, "what is here needs no network"


def test_21_a_wrong_file_is_put_aside(target: Path) -> None:
    with serving(lambda handler, number: reply_file(handler, b"other" * 100)) as server:
        with pytest.raises(IntegrityError, match=f"expected {DIGEST}") as caught:
            get(target, server.url)
    assert caught.value.exit_code == 4
    assert not target.exists()
    assert [p.read_bytes() for p in (target.parent / "quarantine").iterdir()] == [b"other" * 100]


def test_21_a_wrong_mirror_does_not_keep_a_good_one_from_being_asked(target: Path) -> None:
    with (
        serving(lambda handler, number: reply_file(handler, b"other" * 100)) as wrong,
        serving(lambda handler, number: reply_file(handler, CONTENT)) as good,
    ):
        assert get(target, wrong.url, good.url).url == good.url


def test_21_a_wrong_file_that_lies_there_is_put_aside_and_fetched(target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(b"half a fi")
    notes = Notes()
    with serving(lambda handler, number: reply_file(handler, CONTENT)) as server:
        get(target, server.url, note=notes)
    assert "not the file it should be" in notes[0]
    assert target.read_bytes() == CONTENT


def test_27_a_disk_that_is_too_small_is_said_beforehand(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    with serving(lambda handler, number: reply_file(handler, CONTENT)) as server:
        with pytest.raises(StorageError, match="200,000 bytes are needed, 1,000 are free"):
            get(target, server.url)
    assert not target.exists()


def test_27_a_disk_that_fills_up_keeps_what_came(target: Path) -> None:
    code = (
        "import resource, sys\nfrom pathlib import Path\n"
        "from refsr_bench.collectors.fetch import fetch\nfrom refsr_bench.errors import StorageError\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try: fetch([sys.argv[1]], Path(sys.argv[2]), sha256=None, note=print, allow_private=True)\n"
        "except StorageError as error: print(error.exit_code, error)\n"
    )
    with serving(lambda handler, number: reply_file(handler, CONTENT)) as server:
        done = subprocess.run(
            [sys.executable, "-c", code, server.url, str(target)], capture_output=True, text=True, check=True
        )
        assert "4 " in done.stdout
        assert "disk is full (about 200,000 bytes are needed" in done.stdout
        assert not target.exists()
        get(target, server.url)
    assert server.asked[1].headers["Range"] == "bytes=100000-"


def test_28_a_folder_that_cannot_be_used_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"file.*File exists"):
        get(tmp_path / "file" / "set.zip", "http://127.0.0.1:9/")

    def deny(path: Path, **options: object) -> None:  # root, as in many containers, may write everywhere
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", deny)
    with pytest.raises(StorageError, match=r"locked.*Permission denied"):
        get(tmp_path / "locked" / "set.zip", "http://127.0.0.1:9/")


def test_28_names_with_spaces_and_letters_of_all_kinds_work_and_too_long_ones_are_refused(tmp_path: Path) -> None:
    with serving(lambda handler, number: reply_file(handler, CONTENT)) as server:
        target = tmp_path / "Bilder für später" / "写真 [1] 100%.zip"
        assert get(target, server.url).path.read_bytes() == CONTENT
        with pytest.raises(StorageError, match="File name too long"):
            get(tmp_path / ("x" * 300 + ".zip"), server.url)


def test_a_part_without_proof_is_not_resumed(target: Path) -> None:
    target.parent.mkdir()
    part_of(target).write_bytes(b"y" * 120_000)
    with serving(lambda handler, number: reply_file(handler, CONTENT)) as server:
        get(target, server.url, sha256=None)
    assert "Range" not in server.asked[0].headers
    assert target.read_bytes() == CONTENT


def test_of_two_processes_one_waits_and_the_lock_dies_with_its_owner(target: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom refsr_bench.collectors.fetch import fetch\n"
        "fetch([sys.argv[1]], Path(sys.argv[2]), sha256=None, note=print, allow_private=True)\n"
    )
    release = threading.Event()

    def answer(handler: BaseHTTPRequestHandler, number: int) -> None:
        if number == 1:
            reply(handler, 200, CONTENT[:100_000], Content_Length=str(len(CONTENT)), ETag='"1"')
            handler.wfile.flush()
            release.wait(20)
        else:
            reply_file(handler, CONTENT)

    notes = Notes()
    with serving(answer) as server:
        owner = subprocess.Popen([sys.executable, "-c", code, server.url, str(target)])
        while not (part_of(target).exists() and part_of(target).stat().st_size == 100_000):
            assert owner.poll() is None
            time.sleep(0.02)
        waiting = threading.Thread(target=get, args=(target, server.url), kwargs={"note": notes})
        waiting.start()
        while not notes:
            assert waiting.is_alive()
            time.sleep(0.02)
        assert f"process {owner.pid}" in notes[0]
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        waiting.join(20)
        release.set()
    assert target.read_bytes() == CONTENT
    assert server.asked[1].headers["Range"] == "bytes=100000-"


# --- Google Drive ----------------------------------------------------------------------------------------------------


def fake_gdown(
    monkeypatch: pytest.MonkeyPatch, download: Callable[[Path, Callable[[int, int | None], None]], None]
) -> None:
    def replaced(*, id: str, output: str, progress: Callable[[int, int | None], None], **options: object) -> str:
        assert id == "abc"
        download(Path(output), progress)
        return output

    monkeypatch.setattr(gdown, "download", replaced)


def test_google_drive_goes_through_gdown(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_gdown(monkeypatch, lambda part, progress: part.write_bytes(CONTENT) and progress(len(CONTENT), None))
    assert get(target, "gdrive:abc").url == "gdrive:abc"
    assert target.read_bytes() == CONTENT


def test_11_google_drives_quota_page_is_named(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_gdown(monkeypatch, lambda part, progress: part.write_bytes(b"<!DOCTYPE html>Quota exceeded") and None)
    with pytest.raises(Unavailable, match="quota of the file is used up"):
        get(target, "gdrive:abc")
    assert not part_of(target).exists()


def test_google_drives_own_words_are_passed_on_and_its_size_is_limited(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(part: Path, progress: Callable[[int, int | None], None]) -> None:
        raise gdown.exceptions.FileURLRetrievalError("\n\tToo many users have viewed or downloaded this file recently.")

    fake_gdown(monkeypatch, fail)
    with pytest.raises(Unavailable, match="Too many users have viewed"):
        get(target, "gdrive:abc")
    fake_gdown(monkeypatch, lambda part, progress: progress(5_000_000, None))
    with pytest.raises(Unavailable, match="more than the limit"):
        get(target, "gdrive:abc", limits=QUICK._replace(max_bytes=1_000_000))


def test_every_request_says_who_asks(target: Path) -> None:
    server: LocalServer
    with serving(lambda handler, number: reply_file(handler, CONTENT)) as server:
        get(target, server.url)
    assert server.asked[0].headers["User-Agent"].startswith("refsr-bench/")
