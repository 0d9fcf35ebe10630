"""Commands that are killed half-way: what is finished stays, and the same command goes on from there."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.test_cli import run, tree

SLOW_DISK = """
import os, pathlib, time
def slowly(write):
    return lambda *given: (write(*given), time.sleep(0.1))[0]
os.fsync, pathlib.Path.write_bytes = slowly(os.fsync), slowly(pathlib.Path.write_bytes)
from refsr_bench.cli import main
main()
"""
SLOW_COMMAND = [sys.executable, "-c", SLOW_DISK]
"""The command on a disk so slow that a signal surely comes before the end."""


def wait_for(condition, process: subprocess.Popen[bytes]) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, "the process ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_killed_eval_goes_on_and_ends_with_the_same_bytes(tmp_path: Path, signum: int, code: int) -> None:
    assert run("build", "demo").code == 0
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert run("eval", "bicubic", "--dataset", "demo", "--out", whole).code == 0
    process = subprocess.Popen(
        [*SLOW_COMMAND, "eval", "bicubic", "--dataset", "demo", "--out", str(broken)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    wait_for(lambda: len(list(broken.glob("sr/*.png"))) >= 3, process)
    process.send_signal(signum)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert not (broken / "rows.jsonl").exists()
    if code > 0:
        assert b"the same command goes on" in err
    kept = {p.name: p.stat().st_mtime_ns for p in (broken / "sr").glob("*.png")}
    assert 3 <= len(kept) < 21
    assert run("eval", "bicubic", "--dataset", "demo", "--out", broken).code == 0
    assert all((broken / "sr" / name).stat().st_mtime_ns == stamp for name, stamp in kept.items())
    assert tree(whole / "sr") == tree(broken / "sr")
    assert (whole / "rows.jsonl").read_bytes() == (broken / "rows.jsonl").read_bytes()


def test_a_killed_build_leaves_no_dataset_and_the_next_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "data" / "demo"
    process = subprocess.Popen([*SLOW_COMMAND, "build", "demo", "--out", str(target)], stderr=subprocess.DEVNULL)
    wait_for(lambda: len(list(target.parent.glob(".demo.building-*/*/*"))) >= 4, process)
    process.kill()
    process.wait()
    assert not target.exists()
    assert run("eval", "bicubic", "--dataset", target).code == 2
    assert run("build", "demo", "--out", target).code == 0
    assert run("verify", target).code == 0
    assert not list(target.parent.glob(".demo.building-*"))
