"""Searching: resuming, licences, killed runs, and the load that a whole set brings."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from curation_server import __file__ as server_file
from PIL import Image as PilImage

from refsr_bench.collectors.curation.queries import take_folder
from refsr_bench.collectors.curation.rows import ATTEMPTS, CANDIDATES, QUERIES, Candidate, Query, read_rows
from refsr_bench.collectors.curation.search import searching


class Client:
    """A server of many pictures in one process, `curate search` in another."""

    def __init__(self, home: Path, photographs: list[Path], queries: int, top: int, **plan: Any) -> None:
        self.work = home / "work"
        (home / "queries").mkdir()
        searches = {}
        for i in range(queries):
            text = f"scene {chr(97 + i // 26)}{chr(97 + i % 26)}"
            shutil.copy(photographs[i % len(photographs)], home / "queries" / f"{text} {i}{photographs[0].suffix}")
            with (home / "queries" / f"{text} {i}{photographs[0].suffix}").open("ab") as file:
                file.write(i.to_bytes(2, "big"))  # one file each
            searches[text] = [{"url": f"/p/many/{i * top + j}.jpg"} for j in range(top)]
        described = {"many": [str(path) for path in photographs], "searches": searches, "robots": "", **plan}
        (home / "plan.json").write_text(json.dumps(described))
        command = [sys.executable, server_file, str(home / "plan.json")]
        self.server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.server.stdout is not None
        self.url = self.server.stdout.readline().strip()
        self.command = [
            sys.executable, "-m", "refsr_bench", "curate", "search", str(self.work), "--queries", str(home / "queries"),
            "--provider", "openverse", "--endpoint", f"openverse={self.url}/openverse", "--allow-private",
            "--host-limit", "200", "--contact", "a@b.example", "--top", str(top), "--json",
        ]  # fmt: skip

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def rows(self) -> list[Candidate]:
        return read_rows(self.work / CANDIDATES, Candidate)

    def asked(self) -> list[str]:
        with urllib.request.urlopen(f"{self.url}/asked") as answer:
            return [path for _, path, _ in json.loads(answer.read())]

    def close(self) -> None:
        self.server.kill()
        self.server.wait()
        assert self.server.stdout is not None
        self.server.stdout.close()


def kill_at(client: Client, running: subprocess.Popen[str], rows: int) -> set[str]:
    """SIGKILL when so many rows are written; the addresses of the pictures that are finished."""
    journal = client.work / CANDIDATES
    deadline = time.monotonic() + 300
    while not journal.is_file() or journal.read_bytes().count(b"\n") < rows:
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    return {str(row.origin.url) for row in client.rows() if row.status == "ok"}


def test_a_killed_search_costs_no_finished_picture(tmp_path: Path, photographs: Path) -> None:
    faults = {
        "/p/many/3.jpg": ["status 404"],
        "/p/many/41.jpg": ["html"],
        "/p/many/90.jpg": ["status 500"] * 4 + ["noai"],
    }
    client = Client(tmp_path, [photographs / "rocket.jpg"], 4, 30, faults=faults, storm_at=60)
    try:
        finished = kill_at(client, client.start(), 50)
        before = len(client.asked())
        half_written = next((client.work / "pictures").iterdir()) / ".0.jpg.0.part"
        half_written.write_bytes(b"the kill came while a picture was being written")
        again = client.start()
        out, err = again.communicate()
        assert again.returncode in (0, 6), err
        assert not half_written.exists()
        fetched = [client.url + path for path in client.asked()[before:] if path.startswith("/p/")]
        assert not finished & set(fetched)
        last = client.start()
        out, err = last.communicate()
        assert last.returncode == 0, err
        counts = json.loads(out)
        assert (counts["ok"], counts["failed"], counts["refused"]) == (117, 2, 1)
        urls = [row.origin.url for row in client.rows()]
        assert len(set(urls)) == 120  # every picture has a row
        pictures = [path for path in (client.work / "pictures").rglob("*") if path.is_file()]
        assert len(pictures) == 117
    finally:
        client.close()


@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, True])
def test_7500_pictures(tmp_path: Path, dev_data: Path, killed: bool, capsys: pytest.CaptureFixture[str]) -> None:
    photographs = sorted((dev_data / "train/bsds500_train").glob("*.jpg"))[:150]
    rng = random.Random(0)
    kinds = ["status 404", "status 503", "html", "cut", "status 500"]
    faults = {f"/p/many/{k}.jpg": [rng.choice(kinds)] for k in range(7500) if rng.random() < 0.05}
    client = Client(tmp_path, photographs, 150, 50, faults=faults, storm_at=2500)
    try:
        begun = time.monotonic()
        running = client.start()
        finished = kill_at(client, running, 3750) if killed else set()
        before = len(client.asked())
        running = client.start() if killed else running
        out, err = running.communicate()
        seconds = time.monotonic() - begun
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        again = finished & {client.url + path for path in client.asked()[before:]}
        counts = json.loads(out)
        with capsys.disabled():
            print(f"\n7,500 pictures{', killed half-way' if killed else ''}: {seconds:.0f} s, {memory / 1e6:.0f} MB")
            print(f"{counts}; finished before the kill {len(finished)}, of these fetched again {len(again)}")
        assert running.returncode == 6, err
        assert not again
        assert counts["ok"] + counts["failed"] + counts["refused"] == 7500
        # Of the storm's 40 victims some may have been asked in vain as often as is allowed; a later run gets them.
        assert len(faults) <= counts["failed"] <= len(faults) + 40
        assert all(row.error for row in client.rows() if row.status == "failed")
        assert memory < 600e6
        assert seconds < 180 or os.getloadavg()[0] > 2 * (os.cpu_count() or 1), "under 3 minutes on a quiet machine"
    finally:
        client.close()


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "refsr_bench", "curate", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})


def test_closed_licences_stay_out_unless_they_are_asked_for(tmp_path: Path, photographs: Path) -> None:
    (tmp_path / "queries").mkdir()
    (tmp_path / "pool").mkdir()
    shutil.copy(photographs / "coffee.png", tmp_path / "queries")
    shutil.copy(photographs / "chelsea.png", tmp_path / "pool")
    work = tmp_path / "work"
    search = [
        "search",
        work,
        "--queries",
        tmp_path / "queries",
        "--provider",
        "local-folder",
        "--source",
        tmp_path / "pool",
    ]
    assert "0 candidates fetched, 1 refused" in run(*search).stdout
    assert not (work / "pictures").exists()
    assert "1 candidates fetched, 0 refused" in run(*search, "--license", "any").stdout
    row = read_rows(work / CANDIDATES, Candidate)[-1]
    assert row.origin.marks == ("do-not-redistribute",)


def test_a_second_search_at_once_is_refused_before_it_takes_queries(tmp_path: Path, photographs: Path) -> None:
    (tmp_path / "queries").mkdir()
    shutil.copy(photographs / "rocket.jpg", tmp_path / "queries")
    search = ["search", tmp_path / "w", "--queries", tmp_path / "queries", "--provider", "local-folder"]
    with searching(tmp_path / "w"):
        done = run(*search, "--source", tmp_path / "queries")
    assert done.returncode == 2
    assert "another search is running" in done.stderr
    assert not (tmp_path / "w" / QUERIES).exists()


def test_what_is_missing_is_said_in_one_line(tmp_path: Path) -> None:
    for arguments, code, message in (
        (["search", tmp_path / "w", "--provider", "openverse"], 2, "--contact"),
        (["search", tmp_path / "w", "--provider", "opneverse"], 2, 'did you mean "openverse"'),
        (["search", tmp_path / "w", "--provider", "saved-page"], 2, "--source"),
        (["search", tmp_path / "w"], 2, "holds no queries yet"),
        (["clean", tmp_path / "w"], 2, "curate search"),
        (["review", tmp_path / "w"], 2, "curate search"),
        (["accept", tmp_path / "w"], 2, "curate search"),
        (["drop", "https://a.example/x.jpg"], 2, "--work"),
    ):
        done = run(*arguments, REFSR_CONTACT="")
        assert done.returncode == code, done.stderr
        assert message in done.stderr
        assert "Traceback" not in done.stderr
        assert not done.stdout


def test_captions_of_no_query_are_named(tmp_path: Path, photographs: Path) -> None:
    (tmp_path / "queries").mkdir()
    shutil.copy(photographs / "coffee.png", tmp_path / "queries")
    notes: list[str] = []
    (query,) = take_folder(
        tmp_path / "w", tmp_path / "queries", {"coffee": "a cup", "cofee": "a cap"}, "cc0-1.0", notes.append
    )
    assert query.text == "a cup"
    assert notes == [f"captions of no picture in {tmp_path / 'queries'}: cofee"]


def test_queries_are_drawn_and_every_attempt_is_a_row(tmp_path: Path, photographs: Path) -> None:
    small = tmp_path / "small.jpg"
    PilImage.new("RGB", (90, 90)).save(small)
    pictures = {"/p/a.jpg": str(photographs / "rocket.jpg"), "/p/small.jpg": str(small)}
    urls = ["/p/gone.jpg", "/p/small.jpg", "/p/noai.jpg", "/p/a.jpg"]
    plan = {
        "pictures": pictures, "searches": {"old town": [{"url": url, "title": "Old town"} for url in urls]},
        "faults": {"/p/noai.jpg": ["noai"]},
    }  # fmt: skip
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    command = [sys.executable, server_file, str(tmp_path / "plan.json")]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        draw = ["search", tmp_path / "work", "--draw", "openverse", "--draw-text", "old town", "--draw-count", "2",
                "--endpoint", f"openverse={url}/openverse", "--allow-private", "--contact", "a@b.example"]  # fmt: skip
        done = run(*draw, "--json")
        assert json.loads(done.stdout)["queries"] == 1, done.stderr
        query = read_rows(tmp_path / "work" / QUERIES, Query)[0]
        assert (query.name, query.text, query.origin.provider) == ("Old-town", "old town", "openverse")
        rows = {
            str(row.origin.url).removeprefix(url): row for row in read_rows(tmp_path / "work" / ATTEMPTS, Candidate)
        }
        assert {path: row.status for path, row in rows.items()} == {
            "/p/gone.jpg": "failed", "/p/small.jpg": "failed", "/p/noai.jpg": "refused", "/p/a.jpg": "ok",
        }  # fmt: skip
        assert rows["/p/gone.jpg"].http_status == 404
        assert rows["/p/a.jpg"].sha256 == query.sha256
        with urllib.request.urlopen(f"{url}/asked") as answer:
            before = len(json.loads(answer.read()))
        run(*draw)
        with urllib.request.urlopen(f"{url}/asked") as answer:
            assert len(json.loads(answer.read())) == before + 1  # nothing but the question itself
    finally:
        server.kill()
        server.wait()
        assert server.stdout is not None
        server.stdout.close()


def test_a_provider_that_does_not_answer_is_a_row_and_exit_6(tmp_path: Path, photographs: Path) -> None:
    (tmp_path / "queries").mkdir()
    shutil.copy(photographs / "coffee.png", tmp_path / "queries")
    search = ["search", tmp_path / "w", "--queries", tmp_path / "queries", "--provider", "openverse", "--allow-private"]
    done = run(*search, "--contact", "a@b.example", "--endpoint", "openverse=file:///etc/passwd")
    assert done.returncode == 6, done.stderr
    assert "1 search(es) got no answer" in done.stderr
    rows = [json.loads(line) for line in (tmp_path / "w" / "searches.jsonl").read_text().splitlines()]
    assert "only http and https" in rows[0]["error"]


def test_an_interrupted_search_ends_at_once_and_goes_on(tmp_path: Path, photographs: Path) -> None:
    faults = {f"/p/many/{i}.jpg": ["busy 250", "file /dev/null"] for i in range(3)}
    client = Client(tmp_path, [photographs / "rocket.jpg"], 1, 6, faults=faults)
    try:
        running = client.start()
        while not any(path.startswith("/p/") for path in client.asked()):
            time.sleep(0.05)
        time.sleep(0.5)
        begun = time.monotonic()
        running.send_signal(signal.SIGINT)
        err = running.communicate(timeout=60)[1]
        assert time.monotonic() - begun < 15
        assert running.returncode == 130, err
        assert "the same command goes on" in err
    finally:
        client.close()
