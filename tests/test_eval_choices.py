"""eval's choices of references, LR pictures, subsets and changed datasets, from the command to the signature."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from published_sets import png, write_archives

from refsr_bench.cli import cli
from refsr_bench.errors import IntegrityError, ItemsFailed, UsageError
from refsr_bench.images import encode_png, load_image
from refsr_bench.lookup import find
from refsr_bench.results.sensitivity import reference_sensitivity
from refsr_bench.schema import Row
from refsr_bench.signature import parse_signature
from refsr_bench.store import open_dataset


def run(*arguments: object) -> str:
    result = CliRunner().invoke(cli, [str(each) for each in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def evaluate(dataset: Path, out: Path, *options: object) -> dict[str, Any]:
    printed = json.loads(run("eval", "bicubic", "--dataset", dataset, "--out", out, "--json", *options))
    assert isinstance(printed, dict)
    return printed


def signed(printed: dict[str, Any]) -> dict[str, str]:
    return dict(parse_signature(printed["run"]["signatures"]["psnr_y"]).fields)


@pytest.fixture
def set5(tmp_path: Path) -> Path:
    target = tmp_path / "set5"
    source = write_archives(tmp_path, "set5")
    find("datasets", "set5")(source, target, progress=lambda done, total: None, note=lambda text: None)
    return target


# --- LR pictures ------------------------------------------------------------------------------------------------------


def test_shipped_and_made_lr_are_signed_differently_and_never_share_a_column(set5: Path, tmp_path: Path) -> None:
    made = evaluate(set5, tmp_path / "runs" / "made")
    shipped = evaluate(set5, tmp_path / "runs" / "shipped", "--lr", "shipped")
    assert signed(made)["lr"] == "pil.bicubic"
    assert signed(shipped)["lr"] == "shipped.matlab.bicubic"
    assert shipped["run"]["lr"] == "shipped.matlab.bicubic"
    tables = json.loads(run("leaderboard", tmp_path / "runs", "--format", "json"))
    columns = [[cell["signature"] for line in table["lines"] for cell in line["cells"]] for table in tables]
    assert len(columns) == 2
    for signatures in columns:
        assert len({dict(parse_signature(signature).fields)["lr"] for signature in signatures}) == 1
    with pytest.raises(UsageError, match="another lr"):
        evaluate(set5, tmp_path / "runs" / "made", "--lr", "shipped")


@pytest.mark.parametrize("name", ["set5", "set14"])
def test_matlabs_lr_of_the_real_sets(tmp_path: Path, dev_data: Path, name: str) -> None:
    target = tmp_path / name
    source = dev_data / "sisr" / f"S{name[1:]}_x4"
    find("datasets", name)(source, target, progress=lambda done, total: None, note=lambda text: None)
    scores = {}
    for label, options in {"pil": (), "shipped": ("--lr", "shipped"), "matlab": ("--protocol", "matlab-sisr")}.items():
        printed = evaluate(target, tmp_path / label, *options)
        cells = printed["tables"][0]["lines"][0]["cells"]
        scores[label] = {parse_signature(cell["signature"]).metric: cell["mean"] for cell in cells}
    assert scores["shipped"] == scores["matlab"], "our MATLAB bicubic gives the very pictures that are shipped"
    assert scores["shipped"] != scores["pil"]
    expected = {"set5": (28.43, 0.811), "set14": (26.09, 0.704)}[name]
    assert scores["shipped"]["psnr_y"] == pytest.approx(expected[0], abs=0.03)
    assert scores["shipped"]["ssim_y"] == pytest.approx(expected[1], abs=0.003)


def test_a_dataset_without_lr_pictures_has_none_to_ship(small_dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="ships no LR pictures"):
        evaluate(small_dataset, tmp_path / "run", "--lr", "shipped")


def test_lr_only_samples_are_passed_over_with_a_note(tmp_path: Path) -> None:
    for name, seed in {"a.png": 1, "b.png": 2}.items():
        (tmp_path / name).write_bytes(png(seed, 44, 40))
    (tmp_path / "mine.csv").write_text("hr,lr,name\na.png,,one\n,b.png,two\n")
    run("build", "custom", tmp_path / "mine.csv", "--out", tmp_path / "set")
    result = CliRunner().invoke(
        cli, ["eval", "bicubic", "--dataset", str(tmp_path / "set"), "--out", str(tmp_path / "r")]
    )
    assert result.exit_code == 0
    assert "1 of 2 samples have no HR picture" in result.stderr
    assert "|n:1|" in result.stdout


# --- references -------------------------------------------------------------------------------------------------------


def test_cufed5_level_by_level(tmp_path: Path) -> None:
    source = write_archives(tmp_path, "cufed5")
    find("datasets", "cufed5")(source, tmp_path / "set", progress=lambda done, total: None, note=lambda text: None)
    printed = evaluate(tmp_path / "set", tmp_path / "runs", "--limit", 4, "--refs", "each")
    table = {each["metric"]: each for each in printed["sensitivity"]}["psnr_y"]
    assert list(table["means"]) == [f"level{k}" for k in range(1, 6)]
    assert table["samples"] == 4
    assert "|ref:each|" in table["signature"]
    assert run("explain", table["signature"])
    for level in range(1, 6):
        rows = (tmp_path / "runs" / f"level{level}" / "rows.jsonl").read_text().splitlines()
        row = Row.model_validate_json(rows[0])
        assert row.refs == (f"ref/000_{level}.png",)
        assert dict(parse_signature(row.signature).fields)["ref"] == f"level{level}"
    text = run(
        "eval", "bicubic", "--dataset", tmp_path / "set", "--out", tmp_path / "runs", "--limit", 4, "--refs", "each"
    )
    assert "| level5    |" in text
    assert "| spread    |" in text


def rows_of(rule: str, **values: float | None) -> list[Row]:
    shared = {"model": "m", "dataset": "d@123456", "group": "all", "refs": (), "metric": "psnr_y"}
    signature = f"psnr_y|data:d@123456|n:3|ref:{rule}"
    return [
        Row(**shared, sample=name, value=value, signature=signature, status="failed" if value is None else "ok")
        for name, value in values.items()
    ]


def test_the_spread_is_the_mean_range_over_samples_that_all_scored() -> None:
    runs = {"ref1": rows_of("ref1", a=30.0, b=20.0, c=10.0), "ref2": rows_of("ref2", a=31.0, b=17.0, c=None)}
    [table] = reference_sensitivity(runs)
    assert table.samples == 2
    assert table.means == {"ref1": 25.0, "ref2": 24.0}
    assert table.spread == pytest.approx((1 + 3) / 2)
    assert table.signature == "psnr_y|data:d@123456|n:3|ref:each"


def test_several_rules_and_several_protocols_are_too_many(small_dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="one of the two must be one"):
        evaluate(small_dataset, tmp_path / "r", "--refs", "ref1,lr-up", "--protocol", "all")
    with pytest.raises(UsageError, match="one reference rule"):
        run("score", small_dataset / "hr", "--dataset", small_dataset, "--refs", "ref1,lr-up", "--out", tmp_path / "r")


# --- subsets and changed datasets -----------------------------------------------------------------------------------


def test_the_texture_subset_is_signed(set5: Path, tmp_path: Path) -> None:
    printed = evaluate(set5, tmp_path / "run", "--subset", "texture")
    fields = signed(printed)
    assert fields["sub"].startswith("texture@")
    assert fields["n"] == "2"
    assert "highest HR gradient energy" in run("explain", printed["run"]["signatures"]["psnr_y"])


def test_30_a_changed_dataset_is_refused_or_signed(small_dataset: Path, tmp_path: Path) -> None:
    before = signed(evaluate(small_dataset, tmp_path / "before"))
    brighter = load_image(small_dataset / "ref" / "b.png") // 2
    (small_dataset / "ref" / "b.png").write_bytes(encode_png(brighter))
    with pytest.raises(IntegrityError, match=r"ref/b\.png: it was changed") as caught:
        run("verify", small_dataset)
    with pytest.raises(IntegrityError, match=r"ref/b\.png: it was changed") as caught:
        evaluate(small_dataset, tmp_path / "after")
    assert caught.value.exit_code == 4
    assert "--allow-modified" in str(caught.value)
    printed = evaluate(small_dataset, tmp_path / "after", "--allow-modified")
    after = signed(printed)
    assert after["data"].endswith("+modified")
    assert after["data"].removesuffix("+modified") != before["data"]
    assert "changed after it was built" in run("explain", printed["run"]["signatures"]["psnr_y"])
    assert not open_dataset(small_dataset).info.modified, "nothing on disk changes"


def test_30_what_is_missing_fails_alone_when_changes_are_allowed(small_dataset: Path, tmp_path: Path) -> None:
    (small_dataset / "hr" / "b.png").unlink()
    with pytest.raises(IntegrityError, match="no such file"):
        evaluate(small_dataset, tmp_path / "run")
    with pytest.raises(ItemsFailed, match="1 of 3 samples failed"):
        evaluate(small_dataset, tmp_path / "run", "--allow-modified")


def test_30_a_change_outside_the_chosen_samples_does_not_matter(small_dataset: Path, tmp_path: Path) -> None:
    (small_dataset / "hr" / "c.png").unlink()
    assert signed(evaluate(small_dataset, tmp_path / "run", "--limit", 2))["n"] == "2"
