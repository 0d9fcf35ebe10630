"""The main job on the released code's own pairs: build, import weights, eval, and the scores it logged."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_weights import golden_state

from refsr_bench.models.c2matching.extractor import Extractor
from refsr_bench.models.c2matching.restoration import Restoration
from refsr_bench.models.vgg import VGG19

PAIRS = ("equal", "unequal_mixed", "unequal_ref_smaller", "shared_unequal_mixed", "shared_unequal_ref_smaller")


def refsr(*arguments: object) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "refsr_bench", *(str(a) for a in arguments)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("shared", [False, True], ids=["independent", "shared"])
def test_released_scores_from_files_to_rows(golden: Path, tmp_path: Path, shared: bool) -> None:
    names = [name for name in PAIRS if name.startswith("shared") == shared]
    for name in names:
        for kind, source in (("input", "input"), ("ref", "reference")):
            target = tmp_path / "pairs" / kind / f"{name}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(golden / f"e2e_{name}_{source}.png", target)
    states = {
        "feature_extraction.pth": golden_state(Extractor(), shared=shared),
        "c2_matching_restoration_mse.pth": golden_state(Restoration()),
        "vgg19-dcbb9e9d.pth": golden_state(VGG19(), "vgg19."),
    }
    for file_name, state in states.items():
        torch.save(state, tmp_path / file_name)

    refsr("weights", "import", "c2matching", *(tmp_path / file_name for file_name in states))
    refsr("weights", "verify")
    refsr("build", "custom", tmp_path / "pairs", "--out", tmp_path / "set")
    scores = {}
    for precision in ("fp32", "bf16"):
        out = tmp_path / precision
        refsr("eval", "c2matching", "--dataset", tmp_path / "set", "--out", out, "--precision", precision)
        rows = [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]
        scores[precision] = {(row["sample"], row["metric"]): row["value"] for row in rows}
    for name in names:
        released = np.load(golden / f"e2e_{name}.npz")
        for metric, tolerance in (("psnr_y", 1e-3), ("ssim_y", 1e-4), ("psnr_rgb", 1e-3)):
            assert scores["fp32"][name, metric] == pytest.approx(float(released[f"{metric}_f64"]), abs=tolerance), name
    moved = [scores["bf16"][name, "psnr_y"] - scores["fp32"][name, "psnr_y"] for name in names]
    assert abs(np.mean(moved)) <= 0.005
    run = json.loads((tmp_path / "fp32" / "run.json").read_text())
    assert set(run["model"]["weights_sha256"]) == {"extractor", "restoration-mse", "vgg19"}
