"""Matchers through the two passes: from a dataset to rows, resumed, failing, beside pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refsr_bench.collectors.transformed import build as build_transformed
from refsr_bench.lookup import find, list_entries
from refsr_bench.models.matchers.floors import ORACLE, build_identity, build_oracle
from refsr_bench.protocols.evaluate import Attempt, Task, read_journal
from refsr_bench.protocols.fidelity import PSNR_Y, PSNR_Y_VISIBLE
from refsr_bench.protocols.matching import (
    MATCH_JOURNAL_NAME,
    match_all,
    read_matches,
    score_matches,
    score_visible,
    with_truth,
)
from refsr_bench.protocols.spec import PRESETS, Metric
from refsr_bench.schema import Matches, ModelCard, Row
from refsr_bench.store import open_dataset

METRICS: list[Metric] = [m for m in (find("metrics", name) for name in list_entries("metrics")) if m.on == "matches"]
FEW = {"angles": "0,30", "factors": "1.5"}


@pytest.fixture
def task(small_dataset: Path, tmp_path: Path) -> Task:
    build_transformed(None, tmp_path / "t", progress=lambda a, b: None, note=str, of=str(small_dataset), **FEW)
    dataset = open_dataset(tmp_path / "t")
    return Task(dataset, dataset.records, PRESETS["c2-2021"], "first")


def rows_of(matcher: Any, task: Task, run_dir: Path) -> list[Row]:
    match_all(matcher, task, run_dir, lambda attempt: None)
    reasons = {n: a.reason for n, a in read_journal(run_dir, MATCH_JOURNAL_NAME).items() if a.reason}
    return list(score_matches(matcher.card, task, METRICS, run_dir, reasons))


def test_only_samples_with_truth_are_matched_and_the_signature_says_how_many(task: Task, tmp_path: Path) -> None:
    rows = rows_of(build_oracle(), task, tmp_path)
    chosen = with_truth(task)
    assert {record.group for record in task.records} - {r.group for r in chosen} == {"control-black"}
    assert len(rows) == len(chosen) * len(METRICS)
    signature = next(row.signature for row in rows if row.metric == "aee")
    assert signature.startswith("aee|px:hr|stride:4|centre:half|mask:inframe10|in:lrup|data:t@")
    assert f"|n:{len(task.records)}|gt:{len(chosen)}|ref:first|" in signature
    still = {row.value for row in rows if row.metric == "aee" and row.group in ("rotation-at-0", "control-identity")}
    assert still == {0.0}


def test_no_motion_is_wrong_where_the_picture_turned(task: Task, tmp_path: Path) -> None:
    rows = rows_of(build_identity(), task, tmp_path)
    aee = {row.group: row.value for row in rows if row.metric == "aee" and row.sample.startswith("a.")}
    assert aee["rotation-at-0"] == 0
    assert (aee["rotation-at-30"] or 0) > 3


class Fails:
    """A matcher whose second call goes wrong in a chosen way."""

    card = ModelCard(name="fails", title="t", paper="p", uses_reference=True)

    def __init__(self, error: BaseException | None) -> None:
        self.error, self.calls = error, 0

    def match(self, lr_up: np.ndarray, ref: np.ndarray) -> Matches:
        self.calls += 1
        found = build_identity().match(lr_up, ref)
        if self.calls == 2:
            if self.error is not None:
                raise self.error
            return found._replace(matches=found.matches[:-1])
        return found


@pytest.mark.parametrize("error", [ValueError("boom"), None])
def test_one_failing_sample_is_a_failed_row_of_every_metric(task: Task, tmp_path: Path, error: Exception) -> None:
    rows = rows_of(Fails(error), task, tmp_path)
    failed = [row for row in rows if row.status == "failed"]
    assert len({row.sample for row in failed}) == 1
    assert len(failed) == len(METRICS)
    assert ("boom" if error else "for ") in str(failed[0].reason)


def test_an_interrupted_matcher_goes_on(task: Task, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        rows_of(Fails(KeyboardInterrupt()), task, tmp_path)
    seen: list[Attempt | None] = []
    match_all(Fails(ValueError("called twice")), task, tmp_path, seen.append)
    assert seen[0] is None
    again = rows_of(build_identity(), task, tmp_path)
    whole = rows_of(build_identity(), task, tmp_path / "whole")
    assert [row.value for row in again] == [row.value for row in whole]


def test_a_damaged_file_is_a_failed_row(task: Task, tmp_path: Path) -> None:
    rows_of(build_identity(), task, tmp_path)
    name = with_truth(task)[0].name
    path = tmp_path / "flow" / f"{name}.npz"
    path.write_bytes(path.read_bytes()[:100])
    rows = list(score_matches(ORACLE, task, METRICS, tmp_path, {}))
    assert {row.sample for row in rows if row.status == "failed"} == {name}
    assert read_matches(tmp_path / "flow" / f"{with_truth(task)[1].name}.npz").nodes.shape[1] == 2


@pytest.mark.parametrize("protocol", ["masa-2021", "ttsr-2020", "amsa-2022"])
def test_padding_moves_no_true_point(small_dataset: Path, task: Task, tmp_path: Path, protocol: str) -> None:
    padded = task._replace(protocol=PRESETS[protocol])
    rows = [row for row in rows_of(build_oracle(), padded, tmp_path) if row.metric == "aee" and row.value is not None]
    assert rows
    assert max(row.value or 0 for row in rows) <= np.hypot(2, 2) + 1e-6  # half a cell each way
    if protocol == "ttsr-2020":
        assert {row.value for row in rows if row.group == "control-identity"} == {0.0}


def test_visible_pixels_alone(task: Task, tmp_path: Path) -> None:
    """An error only where the reference shows nothing does not count."""
    for record in with_truth(task):
        assert record.hr is not None
        (tmp_path / "sr").mkdir(exist_ok=True)
        (tmp_path / "sr" / f"{record.name}.png").write_bytes((task.dataset.root / record.hr.path).read_bytes())
    path = lambda name: tmp_path / "sr" / f"{name}.png"  # noqa: E731
    rows = list(score_visible("m", task, [PSNR_Y_VISIBLE], path, {}))
    assert {row.status for row in rows} == {"capped"}
    assert rows[0].signature.startswith("psnr_y_visible|")
    assert "mask:visible" in rows[0].signature
    hr = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    sr = hr.copy()
    sr[:, :24] = 0
    right = np.arange(48)[None].repeat(40, 0) >= 24
    assert PSNR_Y_VISIBLE.compute(hr, sr, right, 4, luma="y601studio") == np.inf
    everything = np.ones_like(right)
    assert PSNR_Y_VISIBLE.compute(hr, sr, everything, 4, luma="y601studio") == pytest.approx(PSNR_Y.compute(hr, sr, 4))
    assert np.isnan(PSNR_Y_VISIBLE.compute(hr, sr, ~everything, 4, luma="y601studio"))
