"""``restore``: one picture of one's own, beside a preview."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_cli import run, run_json

from refsr_bench.images import encode_png, load_image, resize_bicubic


@pytest.fixture
def lr(tmp_path: Path, photographs: Path) -> Path:
    path = tmp_path / "lr.png"
    path.write_bytes(encode_png(resize_bicubic(load_image(photographs / "chelsea.png")[:120, :160], 30, 40)))
    return path


def test_bicubic_with_a_preview(tmp_path: Path, lr: Path, photographs: Path) -> None:
    out = tmp_path / "new" / "sr.png"
    result = run("restore", "bicubic", "--lr", lr, "--ref", photographs / "rocket.jpg", "--out", out)
    assert result.code == 0, result.err
    np.testing.assert_array_equal(load_image(out), resize_bicubic(load_image(lr), 120, 160))
    preview = load_image(out.with_name("sr.preview.png"))
    strip = preview.shape[0] - 120
    np.testing.assert_array_equal(preview[strip:, :160], load_image(out))
    np.testing.assert_array_equal(preview[strip:, -168:-8], load_image(out))
    assert preview.shape[1] > 2 * 168
    assert "160×120 px by bicubic" in result.out


def test_json_without_preview_and_nothing_is_replaced_unasked(tmp_path: Path, lr: Path) -> None:
    out = tmp_path / "sr.png"
    report = run_json("restore", "bicubic", "--lr", lr, "--out", out, "--no-preview")
    assert report["sr"] == str(out)
    assert report["preview"] is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lr.png", "sr.png"]
    assert run("restore", "bicubic", "--lr", lr, "--out", out).code == 2
    assert run("restore", "bicubic", "--lr", lr, "--out", out, "--overwrite").code == 0
    out.unlink()
    refused = run("restore", "bicubic", "--lr", lr, "--out", out)  # the preview is still there
    assert (refused.code, "sr.preview.png is there already" in refused.err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("bicubic", "--out", "sr.jpg"), 2, "must end in .png"),
        (("bicubik", "--out", "sr.png"), 2, "bicubic"),
        (("c2matching-small", "--out", "sr.png"), 2, "needs a reference"),
        (("bicubic", "--out", "sr.png", "--precision", "bf16"), 2, "precision"),
        (("bicubic", "--out", "sr.png", "--ref", "none.png"), 2, "'none.png' does not exist"),
    ],
)
def test_faults_are_one_line(tmp_path: Path, lr: Path, arguments: tuple[str, ...], code: int, said: str) -> None:
    result = run("restore", *arguments, "--lr", lr, cwd=tmp_path)
    assert result.code == code, result.err
    assert said in result.err
    assert not (tmp_path / "sr.png").exists()


def test_a_model_with_a_reference(tmp_path: Path, lr: Path, photographs: Path) -> None:
    out = tmp_path / "sr.png"
    result = run("restore", "c2matching-small", "--lr", lr, "--ref", photographs / "chelsea.png", "--out", out)
    assert result.code == 0, result.err
    assert load_image(out).shape == (120, 160, 3)
