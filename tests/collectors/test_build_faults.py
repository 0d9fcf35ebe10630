"""Builds that are killed anywhere, or run twice at once: nothing remains or the whole set (cases 25, 26 and 29)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from published_sets import PUBLISHED, write_archives, write_zip

from refsr_bench.collectors.trust import recorded_hashes
from refsr_bench.lookup import find
from refsr_bench.store import cache_dir, open_dataset
from refsr_bench.verification import verify_dataset

PREPARE = """
import os, signal, sys
from pathlib import Path
from refsr_bench.lookup import find

name, source, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
build = find("datasets", name)

def run(target, cache, progress=lambda done, total: None):
    os.environ["REFSR_CACHE_DIR"] = str(cache)
    os.environ["REFSR_DATA_DIR"] = str(cache / "data")
    build(source, target, progress=progress, note=lambda text: None, jobs=2)

def killed(action):
    if not (child := os.fork()):
        action()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL

def die():
    os.kill(os.getpid(), signal.SIGKILL)
"""

AT_EVERY_TWENTIETH = """
events = []
run(folder / "clean" / "set", folder / "clean" / "cache", lambda done, total: events.append(done))
for step in range(1, 21):
    place, left = folder / f"killed{step}", [len(events) * step // 20]
    def progress(done, total):
        left[0] -= 1
        if left[0] <= 0: die()
    assert killed(lambda: run(place / "set", place / "cache", progress)), step
    assert not (place / "set").exists(), step
    run(place / "set", place / "cache")
"""

AT_EVERY_RENAME = """
real, count = Path.replace, [0]
def counting(self, target):
    count[0] += 1
    return real(self, target)

def dying(number, *, after):
    seen = [0]
    def replace(self, target):
        seen[0] += 1
        if seen[0] == number and not after: die()
        done = real(self, target)
        if seen[0] == number and after: die()
        return done
    Path.replace = replace

run(folder / "clean" / "set", folder / "clean" / "cache")
Path.replace = counting
run(folder / "clean" / "set", folder / "clean" / "cache")
Path.replace = real
assert count[0] >= 4, count  # manifest, dataset.json, the old set aside, the new one in its place, the hashes
for number in range(1, count[0] + 1):
    for after in (False, True):
        place = folder / f"killed{number}{after}"
        run(place / "set", place / "cache")
        (place / "set" / "hr").rename(place / "set" / "gone")  # what a rebuild has to mend
        assert killed(lambda: (dying(number, after=after), run(place / "set", place / "cache"))), number
        run(place / "set", place / "cache")
"""


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("code", [AT_EVERY_TWENTIETH, AT_EVERY_RENAME], ids=["at every 5 %", "at every rename"])
def test_25_26_a_build_killed_anywhere_and_run_again_is_a_clean_build(tmp_path: Path, code: str) -> None:
    source = write_archives(tmp_path, "set14")
    arguments = [sys.executable, "-c", PREPARE + code, "set14", str(source), str(tmp_path / "places")]
    subprocess.run(arguments, check=True)
    clean = tree(tmp_path / "places" / "clean" / "set")
    places = sorted((tmp_path / "places").glob("killed*"))
    assert len(places) >= 8
    for place in places:
        assert tree(place / "set") == clean, place
        assert {path.name for path in place.iterdir() if path.suffix != ".lock"} == {"set", "cache"}, place
        unpacked = [path.name for path in (place / "cache" / "unpacked").iterdir() if path.suffix != ".lock"]
        assert len(unpacked) == 1


def test_29_two_processes_build_one_valid_set(tmp_path: Path) -> None:
    source = write_archives(tmp_path, "cufed5")
    command = [sys.executable, "-m", "refsr_bench", "build", "cufed5", "--from", source, "--out", tmp_path / "out/set"]
    both = [subprocess.Popen([*command, "--force"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    for process in both:
        _, error = process.communicate()
        assert process.returncode == 0, error.decode()
    dataset = open_dataset(tmp_path / "out" / "set")
    assert verify_dataset(dataset, deep=True) == []
    assert dataset.info.samples == 126
    assert [path.name for path in (tmp_path / "out").iterdir() if path.suffix != ".lock"] == ["set"]
    assert list(recorded_hashes("cufed5")) == ["CUFED5.zip"]


def test_25_a_torn_unpacked_archive_is_unpacked_again(tmp_path: Path) -> None:
    source = write_zip(tmp_path / "Set5_SR.zip", PUBLISHED["set5"]()["Set5_SR.zip"])
    quiet = {"progress": lambda done, total: None, "note": lambda text: None}
    find("datasets", "set5")(source, tmp_path / "set", **quiet)
    [index] = (cache_dir() / "unpacked").rglob(".unpacked.json")
    index.write_bytes(index.read_bytes()[:100])
    next((cache_dir() / "unpacked").rglob("*_HR.png")).unlink()
    find("datasets", "set5")(source, tmp_path / "again", **quiet)
    assert tree(tmp_path / "again") == tree(tmp_path / "set")
