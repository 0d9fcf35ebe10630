"""What several tests of results look at: one report of the demo set, made by the commands a new user types."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


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
