"""Processes that share work leave nothing behind when they part."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ALONE_IN_A_GROUP = """
import time
from contextlib import suppress
from pathlib import Path
from refsr_bench.models.ranks import process_group

def has_threads():
    names = []
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):
            names.append((task / "comm").read_text())
    return any("gloo" in name for name in names)

with process_group("cpu") as wait_for_all:
    import torch.distributed.nn
    wait_for_all()
    print(has_threads())
for _ in range(100):  # the system lists a thread a moment longer than it runs
    if not has_threads():
        break
    time.sleep(0.05)
print(has_threads())
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are listed under /proc on Linux only")
def test_the_threads_of_a_group_end_with_it() -> None:
    """Threads that outlive the group sometimes abort the process while the interpreter ends."""
    place = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    command = [sys.executable, "-c", ALONE_IN_A_GROUP]
    done = subprocess.run(command, env={**os.environ, **place}, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]
