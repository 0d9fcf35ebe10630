"""One evaluation by several processes ends with the bytes that one process writes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_cli import Result, run, run_json

RANKED = [sys.executable, "-m", "torch.distributed.run", "--standalone"]


def evaluate(dataset: Path, out: Path, *options: object, model: str = "bicubic") -> Result:
    return run("eval", model, "--dataset", dataset, "--out", out, *options)


@pytest.fixture
def plain(small_dataset: Path, tmp_path: Path) -> bytes:
    assert evaluate(small_dataset, tmp_path / "plain").code == 0
    return (tmp_path / "plain" / "rows.jsonl").read_bytes()


def test_shards_in_one_folder(small_dataset: Path, tmp_path: Path, plain: bytes) -> None:
    out = tmp_path / "run"
    second = evaluate(small_dataset, out, "--shard", "2/2")
    assert second.code == 0
    assert second.out.splitlines()[0] == "shard 2 of 2: 1 samples, 0 failed"
    early = run("merge", out, "--dataset", small_dataset)
    assert (early.code, "2 of 3 samples are not done: a, c" in early.err) == (2, True)
    assert evaluate(small_dataset, out, "--shard", "1/2").code == 0
    assert not (out / "rows.jsonl").exists()
    merged = run("merge", out, "--dataset", small_dataset)
    assert merged.code == 0, merged.err
    assert (out / "rows.jsonl").read_bytes() == plain
    assert run("leaderboard", out, "--check").code == 0
    info = json.loads((out / "run.json").read_text())
    assert info["status"] == "finished"
    assert info["peak_memory_bytes"] > 10_000_000


def test_merging_leaves_other_runs_as_they_are(small_dataset: Path, tmp_path: Path, plain: bytes) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(tmp_path / "plain", runs / "lost")
    (runs / "lost" / "sr" / "b.png").unlink()
    (runs / "lost" / "journal.jsonl").unlink()
    assert run("score", tmp_path / "plain" / "sr", "--dataset", small_dataset, "--out", runs / "else").code == 0
    before = {path: path.read_bytes() for path in runs.rglob("run.json")}
    alone = run("merge", runs / "else", "--dataset", small_dataset)
    assert (alone.code, "made elsewhere" in alone.err) == (2, True), alone
    assert run("merge", runs, "--dataset", small_dataset).code == 2
    assert {path: path.read_bytes() for path in runs.rglob("run.json")} == before


def test_runs_of_two_models_are_merged_into_one_leaderboard(small_dataset: Path, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "two", "three")]
    evaluate(small_dataset, folders[0])
    assert evaluate(small_dataset, folders[1], "--set", "untrained=yes", model="srcnn").code == 0
    evaluate(small_dataset, folders[2], "--protocol", "ttsr-2020")
    merged = run("merge", *folders[:2], "--dataset", small_dataset)
    assert merged.code == 0, merged.err
    assert "| srcnn-untrained " in merged.out
    assert "| bicubic " in merged.out
    assert all(str(folder) in merged.out for folder in folders[:2])
    assert "protocols" not in merged.out
    document = run_json("merge", *folders[:2], "--dataset", small_dataset)
    assert {line["model"] for line in document["tables"][0]["lines"]} == {"srcnn-untrained", "bicubic"}
    assert "under 2 protocols" in run("merge", folders[0], folders[2], "--dataset", small_dataset).out


def test_parts_from_two_machines(small_dataset: Path, tmp_path: Path, plain: bytes) -> None:
    parts = [tmp_path / "machine1", tmp_path / "machine2"]
    for i, part in enumerate(parts, 1):
        assert evaluate(small_dataset, part, "--shard", f"{i}/2").code == 0
    whole = tmp_path / "whole"
    for _ in range(2):  # merging again changes nothing
        assert run("merge", *parts, "--out", whole, "--dataset", small_dataset).code == 0
        assert (whole / "rows.jsonl").read_bytes() == plain
    assert len((whole / "journal.jsonl").read_text().splitlines()) == 3


def test_parts_that_do_not_belong_together(small_dataset: Path, tmp_path: Path) -> None:
    parts = [tmp_path / "one", tmp_path / "other"]
    evaluate(small_dataset, parts[0], "--shard", "1/2")
    evaluate(small_dataset, parts[1], "--shard", "2/2", "--protocol", "ttsr-2020")
    result = run("merge", *parts, "--out", tmp_path / "whole", "--dataset", small_dataset)
    assert (result.code, "holds a run with another protocol" in result.err) == (2, True)
    shutil.rmtree(parts[1])
    evaluate(small_dataset, parts[1])
    shutil.copy(parts[1] / "sr" / "b.png", parts[1] / "sr" / "a.png")
    result = run("merge", *parts, "--out", tmp_path / "whole2", "--dataset", small_dataset)
    assert (result.code, "a.png are of one sample and differ" in result.err) == (4, True)


def test_a_failed_sample_of_a_shard(small_dataset: Path, tmp_path: Path) -> None:
    victim = small_dataset / "hr" / "b.png"
    victim.write_bytes(victim.read_bytes()[:-40])
    out = tmp_path / "run"
    assert evaluate(small_dataset, out, "--shard", "1/2", "--allow-modified").code == 0
    broken = evaluate(small_dataset, out, "--shard", "2/2", "--allow-modified")
    assert (broken.code, "b.png" in broken.err) == (5, True)
    merged = run("merge", out, "--dataset", small_dataset)
    assert (merged.code, "1 of 3 samples failed" in merged.err) == (5, True)


@pytest.mark.parametrize("shard", ["0/2", "3/2", "2", "a/b", "-1/2", "1/0"])
def test_a_shard_that_is_none(small_dataset: Path, tmp_path: Path, shard: str) -> None:
    result = evaluate(small_dataset, tmp_path / "run", f"--shard={shard}")
    assert (result.code, "is not I/N" in result.err) == (2, True)


def test_shards_are_not_overwritten(small_dataset: Path, tmp_path: Path) -> None:
    result = evaluate(small_dataset, tmp_path / "run", "--shard", "1/2", "--overwrite")
    assert (result.code, "would remove what other shards made" in result.err) == (2, True)


def test_two_processes_under_torchrun(small_dataset: Path, tmp_path: Path, plain: bytes) -> None:
    """Two gloo processes, twice, once over an unfinished run of one process and once with --overwrite."""
    out = tmp_path / "run"
    evaluate(small_dataset, out, "--shard", "1/3")
    for options in ([], ["--overwrite"]):
        command = ["--nproc-per-node", "2", "-m", "refsr_bench", "eval", "bicubic", "--dataset", str(small_dataset)]
        done = subprocess.run(
            [*RANKED, *command, "--out", str(out), *options, "--json"],
            capture_output=True,
            text=True,
            env=os.environ | {"REFSR_NO_PROGRESS": "1", "OMP_NUM_THREADS": "1"},
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["run"]["status"] == "finished"  # one document: only one process prints
        assert (out / "rows.jsonl").read_bytes() == plain
    assert {path.name for path in out.glob("journal*.jsonl")} == {"journal.1of2.jsonl", "journal.2of2.jsonl"}
