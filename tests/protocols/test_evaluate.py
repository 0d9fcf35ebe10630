"""Two passes: what is restored, what is scored, and what happens when either goes wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from refsr_bench.errors import UsageError
from refsr_bench.images import encode_png, load_image
from refsr_bench.models.bicubic import build as build_bicubic
from refsr_bench.protocols.evaluate import Attempt, Target, Task, read_journal, restore_all, score_all, write_rows
from refsr_bench.protocols.fidelity import PSNR_RGB, PSNR_Y, SSIM_Y
from refsr_bench.protocols.run import finish_run, open_run
from refsr_bench.protocols.spec import EvalProtocol, find_protocol
from refsr_bench.schema import ModelCard, Row, RunInfo
from refsr_bench.store import Dataset, open_dataset

PROTOCOL = EvalProtocol()
METRICS = (PSNR_Y, SSIM_Y, PSNR_RGB)


class Faulty:
    """Bicubic that fails on call number ``fails_on`` in a chosen way."""

    card = ModelCard(name="faulty", title="t", paper="p", uses_reference=True)

    def __init__(self, fails_on: int, error: BaseException | None) -> None:
        self.fails_on, self.error, self.calls = fails_on, error, 0

    def restore(self, lr: np.ndarray, refs: Sequence[np.ndarray]) -> np.ndarray:
        self.calls += 1
        if self.calls == self.fails_on:
            if self.error is not None:
                raise self.error
            return np.full((1, 1, 3), np.nan, np.float32)
        return build_bicubic().restore(lr, refs)


def task_of(dataset: Dataset, protocol: EvalProtocol = PROTOCOL) -> Task:
    return Task(dataset, dataset.records, protocol, "first")


def restore(model: object, dataset: Dataset, run_dir: Path) -> list[Attempt | None]:
    seen: list[Attempt | None] = []
    restore_all(model, [Target(task_of(dataset), run_dir)], seen.append)  # type: ignore[arg-type]
    return seen


def score(dataset: Dataset, run_dir: Path) -> list[Row]:
    reasons = {n: a.reason for n, a in read_journal(run_dir).items() if a.reason}
    target = Target(task_of(dataset), run_dir)
    return list(score_all("m", target.task, METRICS, target.picture, reasons))


def test_every_sample_gets_a_signed_row_per_metric(small_dataset: Path, tmp_path: Path) -> None:
    dataset = open_dataset(small_dataset)
    restore(build_bicubic(), dataset, tmp_path / "run")
    rows = score(dataset, tmp_path / "run")
    assert [(r.sample, r.metric) for r in rows] == [(s, m.name) for s in "abc" for m in METRICS]
    assert {r.status for r in rows} == {"ok"}
    assert all(r.signature.startswith(f"{r.metric}|data:{dataset.info.id}|n:3|ref:first|") for r in rows)
    assert rows[0].refs == ("ref/a.png",)
    sr = load_image(tmp_path / "run" / "sr" / "a.png")
    assert rows[0].value == PSNR_Y.compute(load_image(small_dataset / "hr/a.png"), sr, 4)


@pytest.mark.parametrize("error", [ValueError("boom"), MemoryError("no memory"), None])
def test_one_failing_sample_is_one_failed_row(small_dataset: Path, tmp_path: Path, error: Exception | None) -> None:
    dataset = open_dataset(small_dataset)
    restore(Faulty(2, error), dataset, tmp_path)
    rows = score(dataset, tmp_path)
    failed = [row for row in rows if row.status == "failed"]
    assert {row.sample for row in failed} == {"b"}
    assert len(failed) == len(METRICS)
    assert all(row.value is None for row in failed)
    assert (str(error) if error else "returned float32 (1, 1, 3)") in str(failed[0].reason)


def test_an_interrupted_run_ends_with_the_same_bytes(small_dataset: Path, tmp_path: Path) -> None:
    dataset = open_dataset(small_dataset)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    restore(build_bicubic(), dataset, whole)
    with pytest.raises(KeyboardInterrupt):
        restore(Faulty(2, KeyboardInterrupt()), dataset, broken)
    finished = (broken / "sr" / "a.png").stat()
    (broken / "sr" / ".b.png.123.part").write_bytes(b"half")
    with (broken / "journal.jsonl").open("a") as journal:
        journal.write('{"sample": "b", "sec')
    seen = restore(build_bicubic(), dataset, broken)
    assert [attempt is None for attempt in seen] == [True, False, False]
    assert (broken / "sr" / "a.png").stat().st_mtime_ns == finished.st_mtime_ns
    assert write_rows(whole, score(dataset, whole)) == write_rows(broken, score(dataset, broken))
    assert {p.name: p.read_bytes() for p in (whole / "sr").iterdir()} == {
        p.name: p.read_bytes() for p in (broken / "sr").iterdir()
    }
    assert set(read_journal(broken)) == {"a", "b", "c"}


def test_a_failed_sample_is_tried_again(small_dataset: Path, tmp_path: Path) -> None:
    dataset = open_dataset(small_dataset)
    restore(Faulty(1, ValueError("once")), dataset, tmp_path)
    assert read_journal(tmp_path)["a"].reason == "ValueError: once"
    restore(build_bicubic(), dataset, tmp_path)
    assert read_journal(tmp_path)["a"].reason is None
    assert {row.status for row in score(dataset, tmp_path)} == {"ok"}


def test_protocols_with_equal_pictures_share_one_call(small_dataset: Path, tmp_path: Path) -> None:
    dataset = open_dataset(small_dataset)
    names = ("c2-2021", "c2-2021+ch=y601full", "c2-2021+crop=0", "ttsr-2020", "c2-2021+lr=cv2.bicubic")
    targets = [Target(task_of(dataset, find_protocol(name)), tmp_path / name) for name in names]
    model = Faulty(99, None)
    restore_all(model, targets, lambda attempt: None)
    assert model.calls == 3 * len(dataset.records)  # c2-2021 and its two relatives; ttsr-2020; cv2.bicubic
    for target in targets:
        alone = Target(target.task, tmp_path / "alone" / target.run_dir.name)
        restore_all(build_bicubic(), [alone], lambda attempt: None)
        for record in dataset.records:
            assert target.picture(record.name).read_bytes() == alone.picture(record.name).read_bytes()
    assert [a.seconds is None for a in read_journal(targets[1].run_dir).values()] == [True] * 3


def test_a_picture_that_one_protocol_has_is_not_made_again_for_another(small_dataset: Path, tmp_path: Path) -> None:
    dataset = open_dataset(small_dataset)
    first = Target(task_of(dataset), tmp_path / "first")
    second = Target(task_of(dataset, find_protocol("c2-2021+crop=0")), tmp_path / "second")
    restore_all(build_bicubic(), [first], lambda attempt: None)
    model = Faulty(1, ValueError("called"))
    restore_all(model, [first, second], lambda attempt: None)
    assert model.calls == 0
    assert second.picture("a").read_bytes() == first.picture("a").read_bytes()


def test_a_failure_is_one_of_every_protocol_that_shares_the_input(small_dataset: Path, tmp_path: Path) -> None:
    dataset = open_dataset(small_dataset)
    names = ("c2-2021", "c2-2021+crop=0")
    targets = [Target(task_of(dataset, find_protocol(name)), tmp_path / name) for name in names]
    seen: list[Attempt | None] = []
    restore_all(Faulty(2, ValueError("boom")), targets, seen.append)
    assert [attempt.reason for attempt in seen if attempt] == [None, "ValueError: boom", None]
    assert {read_journal(target.run_dir)["b"].reason for target in targets} == {"ValueError: boom"}


def test_identical_pictures_are_capped_and_say_so(small_dataset: Path, tmp_path: Path) -> None:
    dataset = open_dataset(small_dataset)
    shutil.copytree(small_dataset / "hr", tmp_path / "sr")
    rows = {row.metric: row for row in score(dataset, tmp_path) if row.sample == "a"}
    assert (rows["psnr_y"].value, rows["psnr_y"].status) == (100.0, "capped")
    assert "inf:cap100" in rows["psnr_y"].signature
    assert (rows["ssim_y"].value, rows["ssim_y"].status) == (1.0, "ok")


def test_nan_is_a_failure_not_a_number(small_dataset: Path, tmp_path: Path) -> None:
    dataset = open_dataset(small_dataset)
    shutil.copytree(small_dataset / "hr", tmp_path / "sr")
    metric = PSNR_Y._replace(compute=lambda hr, sr, crop, luma: float("nan"))
    target = Target(task_of(dataset), tmp_path)
    row = next(iter(score_all("m", target.task, [metric], target.picture, {})))
    assert (row.value, row.status, row.reason) == (None, "failed", "psnr_y is not a number")


def test_missing_small_and_damaged_pictures_are_failed_rows(small_dataset: Path, tmp_path: Path) -> None:
    dataset = open_dataset(small_dataset)
    (tmp_path / "sr").mkdir()
    good = encode_png(np.zeros((40, 48, 3), np.uint8))
    (tmp_path / "sr" / "a.png").write_bytes(encode_png(np.zeros((40, 47, 3), np.uint8)))
    (tmp_path / "sr" / "b.png").write_bytes(good[: len(good) // 2])
    reasons = {row.sample: row.reason for row in score(dataset, tmp_path)}
    assert "SR is 47x40 px but HR is 48x40 px" in str(reasons["a"])
    assert "truncated or damaged" in str(reasons["b"])
    assert "no restored picture c.png" in str(reasons["c"])


def test_a_changed_dataset_file_fails_its_sample_only(small_dataset: Path, tmp_path: Path) -> None:
    dataset = open_dataset(small_dataset)
    (small_dataset / "ref" / "b.png").write_bytes(encode_png(np.zeros((44, 40, 3), np.uint8)))
    restore(Faulty(99, None), dataset, tmp_path)
    rows = score(dataset, tmp_path)
    assert {row.sample for row in rows if row.status == "failed"} == {"b"}
    assert "changed after the dataset was built" in str(read_journal(tmp_path)["b"].reason)


def run_info(dataset: Dataset, **changes: object) -> RunInfo:
    info = RunInfo(
        status="running",
        model=Faulty.card,
        dataset=dataset.info.id,
        manifest_sha256=dataset.info.manifest_sha256,
        protocol=PROTOCOL.model_dump(),
        refs_rule="first",
        samples=3,
        images="sr",
    )
    return info.model_copy(update=changes)


def test_a_run_folder_holds_one_run(small_dataset: Path, tmp_path: Path) -> None:
    dataset = open_dataset(small_dataset)
    run = tmp_path / "run"
    with open_run(run, run_info(dataset), overwrite=False):
        (run / "sr").mkdir()
        (run / "sr" / "a.png").write_bytes(b"x")
    with open_run(run, run_info(dataset, samples=1), overwrite=False):
        assert (run / "sr" / "a.png").exists()
    other = run_info(dataset, model=Faulty.card.model_copy(update={"weights_sha256": {"net": "0" * 64}}))
    with pytest.raises(UsageError, match="holds a run with another model"), open_run(run, other, overwrite=False):
        pass
    with open_run(run, other, overwrite=True):
        assert not (run / "sr" / "a.png").exists()


def test_two_processes_do_not_share_a_run(small_dataset: Path, tmp_path: Path) -> None:
    info = run_info(open_dataset(small_dataset))
    with (
        open_run(tmp_path / "run", info, overwrite=False),
        pytest.raises(UsageError, match="another process"),
        open_run(tmp_path / "run", info, overwrite=False),
    ):
        pass


def test_the_finished_run_seals_its_rows(small_dataset: Path, tmp_path: Path) -> None:
    dataset = open_dataset(small_dataset)
    restore(Faulty(3, None), dataset, tmp_path)
    rows = score(dataset, tmp_path)
    finished = finish_run(tmp_path, run_info(dataset), rows, list(read_journal(tmp_path).values()))
    assert (finished.status, finished.failed, finished.capped) == ("finished", 1, 0)
    assert set(finished.signatures) == {"psnr_y", "ssim_y", "psnr_rgb"}
    assert finished.restore_seconds_total is not None
    assert (finished.peak_memory_bytes or 0) > 10_000_000
    assert RunInfo.model_validate(json.loads((tmp_path / "run.json").read_bytes())) == finished
