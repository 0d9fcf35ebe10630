"""Prints what the weights of c2matching-small reach, each line from signed rows of ordinary runs.

    REFSR_DEV_DATA=DIR python benchmarks/shipped_weights.py [set14] [views] [scene] [turned-set14] [turned-scene]

``set14``: the LR picture as reference. ``views``: crops of Middlebury's motorcycle, cones and teddy, the reference
taken from the second camera at the crop's median disparity, against an unrelated photograph and a black one. ``scene``:
the photographs of sacre_coeur, each with the others' first as reference. ``turned-*``: references rotated and scaled by
known amounts (of sacre_coeur the central 384 px), and beside the errors of VGG-19's matches (the Oxford weights): with
the reference as it is, which is the matcher's own input too, and blurred as SRNTT does it.
Everything goes to runs/shipped and an interrupted command goes on there.
"""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from refsr_bench.images import encode_png, load_image

DATA = Path(os.environ["REFSR_DEV_DATA"])
OUT = Path(os.environ.get("REFSR_SHIPPED", "runs/shipped"))
MODEL = "c2matching-small"
VGG = DATA / "weights" / "vgg19_conv1_1-conv3_1_float32_bgr_caffe.npz"
SIDE = 160
Scores = dict[str, dict[str, float]]


def refsr(*arguments: object) -> None:
    """Run a command of the package; its progress is shown, its table is not."""
    command = [sys.executable, "-m", "refsr_bench", *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def build(name: str, *arguments: object) -> Path:
    folder = OUT / "sets" / name
    if not (folder / "dataset.json").is_file():
        refsr("build", *arguments, "--out", folder)
    return folder


def scores(model: str, dataset: Path, metric: str, refs: str = "first", *settings: str) -> Scores:
    """Group to sample to value, from the rows of an evaluation that is made if it is not there."""
    out = OUT / "runs" / "-".join([dataset.name, model, refs, *settings])
    if model == "vgg19":
        settings = (f"weights={OUT / 'models' / 'c2matching'}", *settings)
    refsr(
        "eval", model, "--dataset", dataset, "--refs", refs, "--out", out, *(x for s in settings for x in ("--set", s))
    )
    values: Scores = defaultdict(dict)
    signatures = set()
    for line in (out / "rows.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        if row["metric"] == metric:
            values[row["group"]][row["sample"]] = row["value"]
            signatures.add(row["signature"])
    for signature in sorted(signatures):
        print("   ", model, signature)
    return values


def pooled(values: Scores) -> dict[str, float]:
    return {sample: value for group in values.values() for sample, value in group.items()}


def interval(values: Iterable[float]) -> str:
    """Mean and the 95 % interval of it (normal)."""
    v = np.array(list(values))
    half = 1.96 * v.std(ddof=1) / math.sqrt(len(v))
    return f"{v.mean():+.2f} [{v.mean() - half:+.2f}, {v.mean() + half:+.2f}] dB, n {len(v)}"


def gain(with_it: dict[str, float], without: dict[str, float]) -> list[float]:
    return [value - without[sample] for sample, value in with_it.items()]


# --- the parts -----------------------------------------------------------------------------------------------------


def set14_folder() -> Path:
    return build("set14", "set14", "--from", DATA / "sisr" / "Set14_x4")


def scene_folder() -> Path:
    return build("sacre_coeur", "custom", DATA / "refsr_pairs" / "sacre_coeur")


def set14() -> None:
    ours = pooled(scores(MODEL, set14_folder(), "psnr_y", "lr-native"))
    cubic = pooled(scores("bicubic", set14_folder(), "psnr_y"))
    print(f"Set14, LR as reference: {np.mean(list(ours.values())):.2f} dB, bicubic {np.mean(list(cubic.values())):.2f},"
          f" {interval(gain(ours, cubic))}")  # fmt: skip


def views() -> None:
    dataset = build("views", "custom", stereo_crops(OUT / "views"))
    of = {refs: pooled(scores(MODEL, dataset, "psnr_y", refs)) for refs in ("ref1", "ref2", "ref3")}
    cubic = pooled(scores("bicubic", dataset, "psnr_y"))
    for group in ("", "motorcycle", "cones", "teddy"):
        mine = {refs: {s: v for s, v in values.items() if s.startswith(group)} for refs, values in of.items()}
        base = np.mean([v for s, v in cubic.items() if s.startswith(group)])
        print(f"second view, {group or 'all'}: bicubic {base:.2f}, black {np.mean(list(mine['ref3'].values())):.2f},"
              f" gain {interval(gain(mine['ref1'], mine['ref3']))};"
              f" unrelated {interval(gain(mine['ref2'], mine['ref3']))}")  # fmt: skip


def stereo_crops(folder: Path) -> Path:
    """Write the crops and a CSV table of them: the HR picture, the second view, an unrelated one, a black one."""
    folder.mkdir(parents=True, exist_ok=True)
    unrelated = load_image(sorted((DATA / "refsr_pairs" / "sacre_coeur").glob("*.jpg"))[0])[200:360, 300:460]
    (folder / "unrelated.png").write_bytes(encode_png(unrelated))
    (folder / "black.png").write_bytes(encode_png(np.zeros_like(unrelated)))
    lines = []
    for name, columns, rows in (("motorcycle", 4, 3), ("cones", 3, 2), ("teddy", 3, 2)):
        left, right, disparity = stereo_pair(name)
        height, width = disparity.shape
        for y in np.linspace(0, height - SIDE, rows).astype(int) // 4 * 4:
            for x in np.linspace(60, width - SIDE, columns).astype(int) // 4 * 4:
                shift = int(np.nanmedian(disparity[y : y + SIDE, x : x + SIDE]))
                other = min(max(0, x - shift), width - SIDE)
                crop = f"{name}-{x}-{y}"
                (folder / f"{crop}.png").write_bytes(encode_png(left[y : y + SIDE, x : x + SIDE]))
                (folder / f"{crop}-view.png").write_bytes(encode_png(right[y : y + SIDE, other : other + SIDE]))
                lines.append((f"{crop}.png", f"{crop}-view.png", "unrelated.png", "black.png", name))
    table = folder / "views.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("hr", "ref1", "ref2", "ref3", "group"), *lines])
    return table


def stereo_pair(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both pictures and the left one's disparity in px, NaN where unknown."""
    folder = DATA / "matching" / f"middlebury_{name}"
    if name == "motorcycle":
        with np.load(folder / "motorcycle_disp.npz") as file:
            disparity = file[file.files[0]].astype(float)
        disparity[~np.isfinite(disparity)] = np.nan
        return load_image(folder / "motorcycle_left.png"), load_image(folder / "motorcycle_right.png"), disparity
    disparity = load_image(folder / "disp2.pgm")[..., 0].astype(float) / 4
    disparity[disparity == 0] = np.nan
    return load_image(folder / "im2.png"), load_image(folder / "im6.png"), disparity


def squares() -> Path:
    """The central 384x384 px of every photograph of the scene."""
    folder = OUT / "sacre_coeur-squares"
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted((DATA / "refsr_pairs" / "sacre_coeur").glob("*.jpg")):
        picture = load_image(path)
        y, x = ((side - 384) // 2 for side in picture.shape[:2])
        (folder / f"{path.stem}.png").write_bytes(encode_png(picture[y : y + 384, x : x + 384].copy()))
    return build("sacre_coeur-squares", "custom", folder)


def scene() -> None:
    ours, without = (pooled(scores(MODEL, scene_folder(), "psnr_y", refs)) for refs in ("first", "lr-native"))
    cubic = pooled(scores("bicubic", scene_folder(), "psnr_y"))
    print(f"sacre_coeur, another photograph: bicubic {np.mean(list(cubic.values())):.2f},"
          f" over bicubic {interval(gain(ours, cubic))}, over the LR {interval(gain(ours, without))}")  # fmt: skip


def turned(source: Path) -> None:
    choices = ("--kind", "both", "--set", "seed=0", "--set", "angles=none", "--set", "factors=none")
    dataset = build(f"{source.name}-turned", "transformed", "--of", source, *choices)
    psnr, aee = (scores(MODEL, dataset, metric) for metric in ("psnr_y", "aee"))
    if not (OUT / "models" / "c2matching" / "vgg19.safetensors").is_file():
        os.environ["REFSR_MODEL_DIR"] = str(OUT / "models")
        refsr("weights", "import", "c2matching", VGG)
    fixed = {
        "sharp": scores("vgg19", dataset, "aee", "first", "blur_reference=no"),
        "blurred": scores("vgg19", dataset, "aee"),
    }
    black = {name.removesuffix(".control-black"): value for name, value in psnr["control-black"].items()}
    for group, values in psnr.items():
        plain = {name.removesuffix(f".{group}"): value for name, value in values.items()}
        line = f"{source.name} {group}: gain {interval(gain(plain, black))}"
        if group in aee:
            mine, *others = (float(np.mean(list(each[group].values()))) for each in (aee, *fixed.values()))
            beside = (
                f"{name} {vgg:.2f} px" + (f", ratio {mine / vgg:.3f}" if vgg else "")
                for name, vgg in zip(fixed, others, strict=True)
            )
            line += f"; AEE {mine:.2f} px, VGG-19 {', '.join(beside)}"
        print(line)


PARTS: dict[str, Callable[[], None]] = {
    "set14": set14,
    "views": views,
    "scene": scene,
    "turned-set14": lambda: turned(set14_folder()),
    "turned-scene": lambda: turned(squares()),
}

if __name__ == "__main__":
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
