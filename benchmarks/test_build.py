"""Building a set of pairs, as a ratio to a plain loop that only decodes and hashes the same files; and its memory."""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PilImage
from pytest_benchmark.fixture import BenchmarkFixture

from refsr_bench.collectors.cufed import CARD, LAYOUT
from refsr_bench.collectors.published import build_published

PAIRS = 2000
MAX_RATIO, MAX_BYTES = 1.5, 500_000_000

BUILD = """
import functools, resource, sys
from pathlib import Path
from refsr_bench.collectors.cufed import CARD, LAYOUT
from refsr_bench.collectors.published import build_published

card = CARD.model_copy(update={"name": "pairs", "samples": int(sys.argv[3])})
build_published(card, LAYOUT, Path(sys.argv[1]), Path(sys.argv[2]), progress=lambda done, total: None, note=print)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs as large as CUFED's, cut from one photograph."""
    source = np.asarray(PilImage.open(str(importlib.resources.files("skimage") / "data" / "chelsea.png")))
    folder = tmp_path_factory.mktemp("pairs")
    generator = np.random.default_rng(0)
    for kind in ("input", "ref"):
        (folder / kind).mkdir()
        for i in range(PAIRS):
            y, x = generator.integers(0, (source.shape[0] - 160, source.shape[1] - 160))
            PilImage.fromarray(source[y : y + 160, x : x + 160]).save(folder / kind / f"{i:05d}.png", compress_level=3)
    return folder


def decode_and_hash(folder: Path) -> None:
    for path in folder.rglob("*.png"):
        data = path.read_bytes()
        hashlib.sha256(data).hexdigest()
        with PilImage.open(path) as picture:
            np.asarray(picture.convert("RGB"))


def seconds(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


@pytest.mark.benchmark(group=f"build {PAIRS} pairs")
def test_building_pairs(
    benchmark: BenchmarkFixture, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFSR_DATA_DIR", str(tmp_path / "data"))
    card = CARD.model_copy(update={"name": "pairs", "samples": PAIRS})
    decode_and_hash(pairs)  # both then read from the page cache
    ratios: list[float] = []

    def build() -> None:
        plain = seconds(lambda: decode_and_hash(pairs))
        target = tmp_path / f"set{len(ratios)}"
        quiet: dict[str, Any] = {"progress": lambda done, total: None, "note": lambda text: None}
        ratios.append(seconds(lambda: build_published(card, LAYOUT, pairs, target, **quiet)) / plain)

    benchmark.pedantic(build, rounds=3)
    benchmark.extra_info["build / plain loop"] = ratios
    print(f"\nbuild / plain loop: {', '.join(f'{ratio:.2f}' for ratio in ratios)}")
    assert statistics.median(ratios) <= MAX_RATIO


def test_memory_of_building_pairs(
    benchmark: BenchmarkFixture, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFSR_DATA_DIR", str(tmp_path / "data"))
    command = [sys.executable, "-c", BUILD, str(pairs), str(tmp_path / "set"), str(PAIRS)]
    run = functools.partial(subprocess.run, command, check=True, capture_output=True, text=True)
    peak = int(benchmark.pedantic(run, rounds=1).stdout.split()[-1])
    benchmark.extra_info["peak_bytes"] = peak
    print(f"\npeak memory of a build: {peak / 1e6:.0f} MB")
    assert peak <= MAX_BYTES
