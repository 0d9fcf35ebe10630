"""The commands: build a transformed set, evaluate on it, draw; and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from refsr_bench.cli import cli
from refsr_bench.errors import RefsrError


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture
def transformed(small_dataset: Path, tmp_path: Path) -> Path:
    few = ("--set", "angles=0,90", "--set", "factors=none")
    result = call("build", "transformed", "--of", small_dataset, "--kind", "rotation", *few, "--out", tmp_path / "t")
    assert result.exit_code == 0, result.output
    return tmp_path / "t"


def test_from_a_set_to_figures(transformed: Path, tmp_path: Path) -> None:
    place = tmp_path / "runs"
    arguments = ("robustness", "oracle", "identity", "bicubic", "--dataset", transformed, "--out", place)
    first = call(*arguments, "--json")
    assert first.exit_code == 0, first.output
    series = {(s["model"], s["metric"]): s for s in json.loads(first.stdout)["series"]}
    assert set(series) == {
        *((m, k) for m in ("oracle", "identity") for k in ("aee", "pck@8")),
        *(("bicubic", k) for k in ("psnr_y", "psnr_y_visible")),
    }
    assert series["oracle", "aee"]["levels"]["rotation-large"]["mean"]["mean"] < 2
    assert series["identity", "aee"]["controls"]["identity"]["mean"]["mean"] == 0
    rows = (place / "bicubic" / "rows.jsonl").read_bytes()
    again = call(*arguments)
    assert again.exit_code == 0, again.output
    assert "never realistic scores" in again.stdout
    assert (place / "bicubic" / "rows.jsonl").read_bytes() == rows
    drawn = call("plot", "robustness", place, "--out", tmp_path / "r.svg")
    assert drawn.exit_code == 0, drawn.output
    assert "measured: aee|px:hr" in drawn.output
    sample = "a.rotation-large"
    two = (place / "oracle", place / "identity", "--sample", sample, "--dataset", transformed)
    for number in (1, 2):
        runs = two[2 - number :]
        result = call("plot", "matches", *runs, "--out", tmp_path / f"m{number}.png")
        assert result.exit_code == 0, result.output
    board = call("leaderboard", place)
    assert board.output.count("never realistic scores") == 2  # pictures, and matches


def test_missing_weights_are_told_before_anything_is_evaluated(transformed: Path, tmp_path: Path) -> None:
    result = call("robustness", "identity", "ttsr", "--dataset", transformed, "--out", tmp_path / "runs")
    assert "ttsr needs weights" in str(result.exception)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("robustness", "orakel", "--dataset", "{t}"), "oracle"),
        (("robustness", "oracle", "--dataset", "{small}"), "build transformed --of"),
        (("robustness", "oracle", "--dataset", "{t}", "--set", "sift:ratio=0.5"), "none of the models"),
        (("robustness", "sift", "--dataset", "{t}", "--set", "sift:ratio=2"), "ratio of sift"),
        (("build", "transformed", "--of", "{small}", "--kind", "rotation", "--out", "{t}"), "other options"),
        (("build", "transformed", "--kind", "rotation"), "--of NAME"),
        (("build", "cufed5-rotation", "--kind", "scale"), "stands for kind=rotation"),
        (("build", "demo", "--set", "seed=1"), "no option 'seed'"),
        (("plot", "robustness", "{small}"), "no finished runs"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    small_dataset: Path, transformed: Path, arguments: tuple[str, ...], message: str
) -> None:
    filled = [text.format(t=transformed, small=small_dataset) for text in arguments]
    result = call(*filled)
    assert isinstance(result.exception, RefsrError)
    assert message in str(result.exception)
