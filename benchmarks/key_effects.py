"""Prints the table of docs/protocols.md that says what each choice in a signature is worth.

    python benchmarks/key_effects.py bicubic:demo imdn:set14

Each argument is MODEL:DATASET; the dataset must be built, the model's weights imported. Every choice is changed alone,
from `c2-2021`; runs go to runs/key-effects and are resumed. A column shows the mean difference and, in brackets, the
least and greatest of any image.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from refsr_bench.cli.runner import load_plugin, open_tasks
from refsr_bench.images import crop_border, luma_bt601
from refsr_bench.protocols.fidelity import psnr_y
from refsr_bench.protocols.spec import find_protocol

CHOICES = (
    *(f"lr={kernel}" for kernel in ("pil.lanczos", "cv2.bicubic", "matlab.bicubic", "matlab.mirror")),
    *("lr=matlab.mirrorfloat", "mod=crop32", "mod=replicate32", "mod=replicate64"),
    *("pad=own", "pad=like-hr", "pad=replicate16", "ch=y601full", "ch=y601ttsr", "ch=rgb", "crop=0"),
)
ROUNDINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "q: floor instead of round": np.floor,
    "q: not rounded at all": lambda sr: sr,
}
Values = dict[str, list[float]]


def by_choice(model: str, dataset: str) -> Values:
    """Per-image differences of PSNR to the default for every choice in `CHOICES`."""
    names = ["c2-2021", *(f"c2-2021+{choice}" for choice in CHOICES)]
    out = Path("runs/key-effects") / f"{model}-{dataset}"
    command = [sys.executable, "-m", "refsr_bench", "eval", model, "--dataset", dataset, "--out", str(out), "--json"]
    subprocess.run([*command, "--protocol", ",".join(names)], check=True, stdout=subprocess.DEVNULL)
    base, found = psnr_of(out / "c2-2021", "psnr_y"), {}
    for choice in CHOICES:
        own = psnr_of(out / f"c2-2021+{choice}", "psnr_rgb" if choice == "ch=rgb" else "psnr_y")
        found[choice.replace("=", ":")] = [own[name] - base[name] for name in base]
    errors = [10 ** (-value / 10) for value in base.values()]
    pooled = -10 * math.log10(sum(errors) / len(errors))
    found["agg: PSNR of the mean squared error"] = [pooled - sum(base.values()) / len(base)]
    return found


def psnr_of(run_dir: Path, metric: str) -> dict[str, float]:
    """Sample to value, from a run's rows."""
    rows = [json.loads(line) for line in (run_dir / "rows.jsonl").read_text("utf-8").splitlines()]
    return {row["sample"]: row["value"] for row in rows if row["metric"] == metric}


def by_rounding(model: str, dataset: str) -> Values:
    """Per-image differences of PSNR-Y to the rounded output for other ways to get 8 bits."""
    (task,) = open_tasks(dataset, [find_protocol("c2-2021")], "first", None)
    plugin = load_plugin(model, (), {})
    found: Values = {name: [] for name in ROUNDINGS}
    for record in task.records:
        inputs = task.load_inputs(record)
        height, width = inputs.hr.shape[:2]
        sr = np.clip(plugin.made.restore(inputs.lr, inputs.refs)[:height, :width].astype(np.float64), 0, 1) * 255
        rounded = psnr_y(inputs.hr, np.rint(sr).astype(np.uint8))
        for name, convert in ROUNDINGS.items():
            error = crop_border(luma_bt601(inputs.hr) - luma_of(convert(sr)), 4)
            found[name].append(10 * math.log10(255**2 / float(np.mean(error**2))) - rounded)
    return found


def luma_of(image: Any) -> Any:
    """`luma_bt601` of a picture that is not 8-bit."""
    return image @ (np.array([65.481, 128.553, 24.966]) / 255.0) + 16.0


if __name__ == "__main__":
    pairs = [tuple(argument.split(":", 1)) for argument in sys.argv[1:]]
    columns = [by_choice(model, dataset) | by_rounding(model, dataset) for model, dataset in pairs]
    print("| choice |", " | ".join(f"{model}, {dataset}" for model, dataset in pairs), "|")
    print("|---|" + "---:|" * len(pairs))
    for choice in columns[0]:
        cells = [
            f"{sum(v) / len(v):+.3f}" + (f" [{min(v):+.2f}, {max(v):+.2f}]" if len(v) > 1 else "")
            for v in (column[choice] for column in columns)
        ]
        print(f"| {choice} | {' | '.join(cells)} |")
