"""Starting the program, as a ratio to an interpreter that imports what the program puts off: torch and pandas."""

from __future__ import annotations

import functools
import statistics
import subprocess
import sys
import time

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

MAX_RATIO = {"--help": 0.25, "list": 0.5}


def seconds(*arguments: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return time.perf_counter() - started


@pytest.mark.parametrize("argument", MAX_RATIO)
def test_starting(benchmark: BenchmarkFixture, argument: str) -> None:
    everything = functools.partial(seconds, "-c", "import torch, pandas")
    program = functools.partial(seconds, "-m", "refsr_bench", argument)
    everything(), program()  # both then read from the page cache
    ratios: list[float] = []
    benchmark.pedantic(lambda: ratios.append(program() / everything()), rounds=5)
    benchmark.extra_info["program / everything imported"] = ratios
    print(f"\n{argument} / everything imported: {', '.join(f'{ratio:.2f}' for ratio in ratios)}")
    assert statistics.median(ratios) <= MAX_RATIO[argument]
