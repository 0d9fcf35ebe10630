"""What several tests of results share: real Chromium, and a report of the demo set made as a new user makes it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = Path(os.environ.get("REFSR_CHROMIUM", "/usr/bin/chromium"))
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.is_file():
        pytest.skip(f"there is no Chromium at {CHROMIUM} (REFSR_CHROMIUM)")
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page that fails its test if the console says anything or a request fails."""
    opened = browser.new_page(viewport={"width": 1400, "height": 900})
    trouble: list[str] = []
    opened.on("console", lambda message: trouble.append(message.text))
    opened.on("pageerror", lambda error: trouble.append(str(error)))
    opened.on("requestfailed", lambda r: r.failure == "net::ERR_ABORTED" or trouble.append(f"{r.url}: {r.failure}"))
    opened.on("dialog", lambda dialog: (trouble.append("a dialog opened"), dialog.dismiss()))
    yield opened
    opened.close()
    assert trouble == []


@pytest.fixture(scope="session")
def demo_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with built data, two runs on three samples, and ``report/``; HR pictures stand for a second model."""
    home = tmp_path_factory.mktemp("demo")
    environment = os.environ | {"REFSR_DATA_DIR": str(home / "data"), "REFSR_NO_PROGRESS": "1"}
    for arguments in (
        ["build", "demo"],
        ["eval", "bicubic", "--dataset", "demo", "--limit", "3", "--out", "runs/bicubic"],
        ["score", "data/demo/hr", "--dataset", "demo", "--limit", "3", "--out", "runs/hr", "--name", "truth"],
        ["leaderboard", "runs", "--format", "html", "--out", "report"],
    ):
        command = [sys.executable, "-m", "refsr_bench", *arguments]
        done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["2 runs, 3 images with pictures", "report: report/index.html"]
    return home
