"""The review page in a real browser: by keyboard alone, through a killed server, and for two people at once."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from refsr_bench.collectors.curation.decisions import read_decisions, standing

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is not installed")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield chromium
        chromium.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """`curate review` in a process of its own, to be killed."""

    def __init__(self, work: Path, *options: str) -> None:
        self.command = [sys.executable, "-m", "refsr_bench", "curate", "review", str(work), *options]
        self.port = free_port()
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen([*self.command, "--port", str(self.port)], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.link = self.process.stdout.readline().strip()
        assert self.link.startswith(f"http://127.0.0.1:{self.port}/?token="), self.link

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    started: list[Server] = []

    def start(work: Path, *options: str) -> Server:
        started.append(Server(work, *options))
        return started[-1]

    yield start
    for server in started:
        if server.process.poll() is None:
            server.kill()


def shoot(page: Any, name: str) -> None:
    """Keep a screenshot where REFSR_SCREENSHOTS asks for them."""
    if folder := os.environ.get("REFSR_SCREENSHOTS"):
        page.wait_for_timeout(400)
        page.screenshot(path=f"{folder}/{name}.png")


def opened(browser: Any, link: str) -> Any:
    page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    problems: list[str] = []
    page.on("console", lambda m: problems.append(m.text) if m.type == "error" and "ERR_" not in m.text else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.problems = problems
    page.goto(link)
    page.wait_for_selector(".card")
    return page


def outcome(work: Path, reviewer: str) -> dict[str, str | None]:
    found = standing(read_decisions(work))
    return {
        q: s.verdict and (s.verdict.reference or s.verdict.reason) for (name, q), s in found.items() if name == reviewer
    }


def saved(page: Any) -> None:
    page.wait_for_selector("#save:text-is('all saved')")


def test_a_review_by_keyboard_alone(browser: Any, serve: Callable[..., Server], work: Path) -> None:
    server = serve(work, "--reviewer", "ann")
    page = opened(browser, server.link)
    assert "token" not in page.url
    names = [page.inner_text("#name")]
    assert "<b onclick=alert(1)>ihc.png" in page.inner_text("#grid")  # a hostile title is text
    assert page.locator("#grid b").count() == 0
    shoot(page, "1-first")
    page.keyboard.press("1")
    assert page.inner_text("#state") == "chosen: candidate 1"
    shoot(page, "2-chosen")
    page.keyboard.press("u")
    assert page.inner_text("#state") == "not decided"
    page.keyboard.press("z")
    page.keyboard.press("+")
    page.keyboard.press("Shift+ArrowLeft")
    assert page.is_visible("#zoom")
    shoot(page, "3-zoom")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#zoomcaption").startswith("candidate 2")
    page.keyboard.press("Escape")
    assert not page.is_visible("#zoom")
    page.keyboard.press("Enter")
    assert page.inner_text("#state") == "chosen: candidate 2"
    page.keyboard.press("t")
    page.keyboard.press("3")
    assert page.inner_text("#tags [aria-pressed=true]") == "building"
    page.keyboard.press("n")
    names.append(page.inner_text("#name"))
    page.keyboard.press("r")
    shoot(page, "4-reject")
    page.keyboard.press("2")
    assert page.inner_text("#state") == "no reference: too different a view"
    page.keyboard.press("n")
    names.append(page.inner_text("#name"))
    page.keyboard.press("r")
    page.keyboard.type("blurred <b>badly</b>")
    page.keyboard.press("Enter")
    page.keyboard.press("?")
    shoot(page, "5-keys")
    page.keyboard.press("Escape")
    saved(page)
    assert "3 done" in page.inner_text("#count")
    assert len(set(names)) == 3
    found = outcome(work, "ann")
    assert found[names[1]] == "too different a view"
    assert found[names[2]] == "blurred <b>badly</b>"
    page.reload()
    page.wait_for_selector(".card")
    assert "3 done" in page.inner_text("#count")
    assert page.problems == []


def press_within_one_frame(page: Any, keys: list[str]) -> None:
    """Give the page keys as a fast hand on a busy computer does: nothing is drawn between them."""
    page.evaluate(
        """keys => { for (const key of keys) document.activeElement.dispatchEvent(
            new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true })); }""",
        keys,
    )


def test_no_key_is_lost_after_a_dialog_closes(browser: Any, serve: Callable[..., Server], work: Path) -> None:
    page = opened(browser, serve(work, "--reviewer", "ann").link)
    press_within_one_frame(page, ["t", "3", "2", "n"])
    assert "2 of 3" in page.inner_text("#count")
    press_within_one_frame(page, ["r", "2", "n"])
    assert "3 of 3" in page.inner_text("#count")
    press_within_one_frame(page, ["r", "Escape", "1"])
    assert "3 done" in page.inner_text("#count")
    page.keyboard.press("r")
    page.keyboard.type("9 in 10")  # a digit chooses only where nothing is typed yet
    page.keyboard.press("Enter")
    assert page.inner_text("#state") == "no reference: 9 in 10"
    saved(page)
    assert {"9 in 10", "too different a view"} < set(outcome(work, "ann").values())
    assert page.problems == []


def test_a_killed_server_and_a_closed_tab_lose_nothing(browser: Any, serve: Callable[..., Server], work: Path) -> None:
    server = serve(work, "--reviewer", "ann")
    page = opened(browser, server.link)
    first = page.inner_text("#name")
    page.keyboard.press("1")
    saved(page)
    server.kill()
    page.keyboard.press("n")
    second = page.inner_text("#name")
    page.keyboard.press("2")
    page.wait_for_selector("#save.waiting")
    assert "1 decision kept here" in page.inner_text("#save")
    shoot(page, "6-killed")
    context = page.context
    page.close()  # the tab, too
    assert set(outcome(work, "ann")) == {first}
    server.start()
    page = context.new_page()
    page.goto(server.link)
    page.wait_for_selector(".card")
    saved(page)
    assert set(outcome(work, "ann")) == {first, second}
    server.kill()
    page.keyboard.press("n")
    page.keyboard.press("1")
    page.wait_for_selector("#save.waiting")
    server.start()  # an open page carries on by itself: the secret outlives the server
    saved(page)
    assert len(outcome(work, "ann")) == 3


def test_two_tabs_of_a_reviewer_keep_what_each_decided(browser: Any, serve: Callable[..., Server], work: Path) -> None:
    server = serve(work, "--reviewer", "ann")
    first = opened(browser, server.link)
    second = first.context.new_page()
    second.goto(server.link)
    second.wait_for_selector(".card")
    second.keyboard.press("n")
    server.kill()
    for page in (first, second):
        page.keyboard.press("1")
        page.wait_for_selector("#save.waiting")
    decided = {page.inner_text("#name") for page in (first, second)}
    context = first.context
    first.close()
    second.close()
    server.start()
    page = context.new_page()
    page.goto(server.link)
    page.wait_for_selector(".card")
    saved(page)
    assert set(outcome(work, "ann")) == decided
    assert len(decided) == 2
    assert page.evaluate("localStorage.length") == 0


def test_two_reviewers_at_once_lose_no_decision(browser: Any, serve: Callable[..., Server], work: Path) -> None:
    server = serve(work, "--blind")
    pages = {name: opened(browser, f"{server.link}&reviewer={name}") for name in ("ann", "bob")}
    orders = {name: page.locator(".card img").evaluate_all("e => e.map(i => i.src)") for name, page in pages.items()}
    assert sorted(orders["ann"]) == sorted(orders["bob"])
    assert orders["ann"] != orders["bob"]
    assert "matches" not in pages["ann"].inner_text("#grid")
    for _ in range(3):
        for key in ("1", "2", "3"):
            for page in pages.values():
                page.keyboard.press(key)
        for page in pages.values():
            page.keyboard.press("n")
    for page in pages.values():
        saved(page)
    decisions = read_decisions(work)
    assert len(decisions) == 18
    assert len({row.id for row in decisions}) == 18
    assert all(len(outcome(work, name)) == 3 for name in pages)
    assert all(row.blind for row in decisions)


def test_the_static_page_needs_no_server(browser: Any, work: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "refsr_bench", "curate", "review", str(work), "--static", str(tmp_path / "page")]
    subprocess.run(command, check=True, capture_output=True)
    page = opened_static(browser, tmp_path / "page" / "index.html", "bob")
    shown = page.locator(".card img")
    for _ in range(100):  # they are loaded lazily
        if shown.evaluate_all("e => e.every(i => i.complete && i.naturalWidth > 50)"):
            break
        page.wait_for_timeout(200)
    assert shown.evaluate_all("e => e.map(i => i.naturalWidth > 50)") == [True] * shown.count()
    shoot(page, "7-static")
    page.keyboard.press("1")
    page.keyboard.press("n")
    page.keyboard.press("r")
    page.keyboard.press("1")
    page.reload()
    page.wait_for_selector(".card")
    assert "2 done" in page.inner_text("#count")
    with page.expect_download() as download:
        page.click("#export")
    choices = tmp_path / "decisions-bob.json"
    download.value.save_as(choices)
    assert {d["reviewer"] for d in json.loads(choices.read_text())["decisions"]} == {"bob"}
    accept = [sys.executable, "-m", "refsr_bench", "curate", "accept", str(work), "--choices", str(choices), "--json"]
    result = json.loads(subprocess.run(accept, check=True, capture_output=True, text=True).stdout)
    assert (result["with_reference"], result["without_reference"], len(result["undecided"])) == (1, 1, 1)
    assert page.problems == []


def opened_static(browser: Any, path: Path, reviewer: str) -> Any:
    page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.problems = problems
    page.goto(path.as_uri())
    page.wait_for_selector("dialog[open] input")
    page.keyboard.type(reviewer)
    page.keyboard.press("Enter")
    page.wait_for_selector(".card")
    return page


def test_labels_for_a_built_dataset(browser: Any, serve: Callable[..., Server], small_dataset: Path) -> None:
    server = serve(small_dataset, "--tags-only", "--reviewer", "ann")
    page = browser.new_page()
    page.goto(server.link)
    page.wait_for_selector("#tags button")
    for key in "531":
        page.keyboard.press(key)
    saved(page)
    shoot(page, "8-labels")
    labels = {row.query: row.category for row in read_decisions(small_dataset.with_name("small.labels.jsonl"))}
    assert labels == {"a": "animal", "b": "building", "c": "outdoor"}
    verify = [sys.executable, "-m", "refsr_bench", "verify", str(small_dataset)]
    assert re.search("3 samples verified", subprocess.run(verify, check=True, capture_output=True, text=True).stdout)
