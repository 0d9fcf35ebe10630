"""Two runs side by side."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from refsr_bench.cli import cli
from refsr_bench.errors import SignatureMismatch, UsageError
from refsr_bench.results.compare import compare_runs, describe_change
from refsr_bench.results.rows import Run
from refsr_bench.schema import Row
from refsr_bench.store import to_json_line


def run(model: str, values: dict[str, float | None], signature: str = "psnr_y|n:3|crop:4") -> Run:
    rows = [
        Row(
            model=model,
            dataset="d@123456",
            sample=sample,
            group="all",
            refs=(),
            metric=signature.partition("|")[0],
            value=value,
            signature=signature,
            status="ok" if value is not None else "failed",
        )
        for sample, value in values.items()
    ]
    return Run(Path(model), tuple(rows))


def test_paired_change() -> None:
    a = run("a", {"1": 20.0, "2": 30.0, "3": 25.0, "4": None})
    b = run("b", {"1": 20.5, "2": 30.2, "3": 25.2, "4": 99.0})
    (change,) = compare_runs(a, b)
    assert change.difference.mean == pytest.approx(0.3)
    assert (change.mean_a, change.mean_b) == (25.0, pytest.approx(25.3))
    assert [sample for sample, _ in change.samples] == ["2", "3", "1"]
    assert (change.better, change.worse, change.left_out) == (3, 0, ("4",))
    sentence = describe_change(change, "a", "b")
    assert sentence.startswith("psnr_y: b is better than a, +0.30 dB on 3 images (95 % interval +0.20 to")


def test_an_error_that_grew_is_worse(tmp_path: Path) -> None:
    low, high = ({"1": 1.0, "2": 2.0, "3": 3.0}, {"1": 5.0, "2": 4.0, "3": 2.5})
    for model, values in (("low", low), ("high", high)):
        rows = run(model, values, "aee|px:hr|n:3").rows
        (tmp_path / model).mkdir()
        (tmp_path / model / "rows.jsonl").write_text("".join(to_json_line(row) for row in rows))
    (change,) = compare_runs(run("low", low, "aee|px:hr|n:3"), run("high", high, "aee|px:hr|n:3"))
    assert (change.difference.mean, change.gain) == (pytest.approx(11 / 6), pytest.approx(-11 / 6))
    assert [sample for sample, _ in change.samples] == ["1", "2", "3"]
    assert (change.better, change.worse) == (1, 2)
    assert "better on 1, worse on 2" in describe_change(change, "low", "high")

    def compare(a: str, b: str, limit: str) -> Result:
        folders = [str(tmp_path / name) for name in (a, b)]
        return CliRunner().invoke(cli, ["compare", *folders, "--metric", "aee", "--fail-below", limit])

    worse = compare("low", "high", "-0.05")
    assert "the mean change of aee is +1.8333, a gain of -1.8333" in str(worse.exception)
    assert compare("high", "low", "1.8").exit_code == 0
    assert compare("low", "high", "-2").exit_code == 0
    assert "worst: 1 +4.00, 2 +2.00, 3 -0.50" in compare("low", "high", "-2").output
    assert "nan is no limit" in str(compare("low", "high", "nan").exception)


def test_a_change_within_its_interval_is_not_distinguishable() -> None:
    (change,) = compare_runs(run("a", {"1": 1.0, "2": 2.0}), run("b", {"1": 2.0, "2": 1.0}))
    assert "not distinguishable from" in describe_change(change, "a", "b")


def test_different_rulers_are_named() -> None:
    with pytest.raises(SignatureMismatch, match="crop is 4 in one and 0 in the other"):
        compare_runs(run("a", {"1": 1.0}), run("b", {"1": 1.0}, "psnr_y|n:3|crop:0"))


def test_nothing_to_compare() -> None:
    with pytest.raises(UsageError, match="no metric"):
        compare_runs(run("a", {"1": 1.0}), run("b", {"1": 1.0}, "ssim_y|n:3"))
    with pytest.raises(UsageError, match="no sample"):
        compare_runs(run("a", {"1": 1.0}), run("b", {"2": 1.0}))
