"""Runs made of random numbers, sealed like real ones: for the pages that only read rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from refsr_bench.protocols.run import finish_run
from refsr_bench.protocols.spec import PRESETS
from refsr_bench.schema import ModelCard, Row, RunInfo

KEYS = {
    "psnr_y": "ch:y601studio|def:1|inf:cap100",
    "ssim_y": "ch:y601studio|win:gauss11s1.5valid|def:1",
    "psnr_rgb": "ch:rgb|def:1|inf:cap100",
}


def signature(metric: str, dataset: str, samples: int) -> str:
    shared = f"data:{dataset}|n:{samples}|ref:first|x:4|lr:pil.bicubic|mod:crop4|pad:zero2ref|q:round8|crop:4|agg:mean"
    return f"{metric}|{shared}|{KEYS[metric]}"


def write_run(
    folder: Path, model: str, values: Sequence[float], *, dataset: str = "d@123456", **card: object
) -> RunInfo:
    """A run whose PSNR values are given; the other metrics follow from them."""
    folder.mkdir(parents=True)
    rows = []
    for i, psnr in enumerate(values):
        for metric, value in {"psnr_y": psnr, "ssim_y": 1 - 10 / psnr**1.5, "psnr_rgb": psnr - 1.5}.items():
            rows.append(
                Row.model_construct(  # checked when it is read back
                    model=model,
                    dataset=dataset,
                    sample=f"{i:03}",
                    group="odd" if i % 2 else "even",
                    refs=(),
                    metric=metric,
                    value=float(value),
                    signature=signature(metric, dataset, len(values)),
                    status="ok",
                )
            )
    info = RunInfo(
        status="running",
        model=ModelCard.model_validate({"name": model, "title": model, "paper": "p", "uses_reference": True, **card}),
        dataset=dataset,
        manifest_sha256="0" * 64,
        protocol=PRESETS["c2-2021"].model_dump(),
        refs_rule="first",
        samples=len(values),
        images="sr",
        device="cpu",
    )
    return finish_run(folder, info, rows, [])


def write_leaderboard(root: Path, *, models: int, datasets: int, samples: int) -> None:
    """A whole leaderboard of random runs."""
    rng = np.random.default_rng(0)
    for d in range(datasets):
        difficulty = rng.normal(27, 3, samples)
        for m in range(models):
            values = difficulty + 0.1 * m + rng.normal(0, 0.4, samples)
            kind = {"adversarial": m % 4 == 1, "uses_reference": m % 3 > 0, "parameters": 1_000_000 * (m + 1)}
            write_run(root / f"set{d}" / f"model{m:02}", f"model{m:02}", values, dataset=f"set{d}@123456", **kind)
