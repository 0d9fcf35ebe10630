"""C2-Matching's parts against the plain baseline (`refsr_bench.models.c2matching.plain`), in one run.

    python benchmarks/inference.py                     # 160x160 and 500x332
    python benchmarks/inference.py 160x160 1024x768    # any sizes
    python benchmarks/inference.py --trained FILE 500x332   # the search alone, on features of a VGG-19 checkpoint

Method: photographs from scikit-image; an untrained extractor with equal branches, whose features hardly differ and need
more channels than trained ones, so the search is not flattered; one warm-up, then baseline and ours in turn, so that
both meet the same machine. Processor time of this process, not the clock, which other programs move. Median and
quartiles of the repetitions; a single one above 300,000 px. Ours is what `restore` and `eval` run, with the memory they
reuse; the baseline is run as PyTorch runs it by itself.
"""

from __future__ import annotations

import copy
import platform
import sys
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from refsr_bench.images import load_image, resize_bicubic
from refsr_bench.models.c2matching import CARD, plain
from refsr_bench.models.c2matching.exact import PATCH
from refsr_bench.models.c2matching.extractor import Extractor
from refsr_bench.models.c2matching.inference import PRECISIONS, C2Matching, Settings
from refsr_bench.models.c2matching.matching import expand_offsets, match_patches
from refsr_bench.models.c2matching.restoration import LEVELS, Restoration
from refsr_bench.models.deform import deform_conv
from refsr_bench.models.memory import reused_memory
from refsr_bench.models.tensors import to_tensor
from refsr_bench.models.vgg import VGG19, imagenet_state, load_vgg19
from refsr_bench.models.weights import load_checkpoint


def measure(name: str, rounds: int, baseline: Callable[[], object], **ours: Callable[[], object]) -> None:
    """Print what each takes, and how many times as long the plain one takes."""
    seconds: dict[str, list[float]] = {label: [] for label in ("plain", *ours)}
    for i in range(rounds + (rounds > 1)):
        for label, run in {"plain": baseline, **ours}.items():
            if label == "plain" and rounds > 1 and i == 0:
                continue  # the warm-up: of ours alone, which the plain one shares most with
            started = time.process_time()
            run()
            seconds[label].append(time.process_time() - started)
    print(f"{name:<16}", end="")
    for label, values in seconds.items():
        values = values[-rounds:]
        low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
        ratio = np.median(seconds["plain"]) / middle
        faster = "" if label == "plain" else f" {ratio:.2f}x"
        print(f"   {label} {middle:.4f} s [{low:.4f}, {high:.4f}]{faster}", end="")
    print(flush=True)


@torch.inference_mode()
def benchmark_trained(file: str, width: int, height: int) -> None:
    """The search on conv3_1 features of trained weights: LR and reference of one scene, as an extractor sees them."""
    folder = Path(str(resources.files("skimage"))) / "data"
    left, right = (load_image(folder / f"motorcycle_{side}.png") for side in ("left", "right"))
    enlarged = resize_bicubic(resize_bicubic(left, height // 4, width // 4), height, width)
    trained = imagenet_state(load_vgg19(load_checkpoint(Path(file)), file))
    branch = Extractor().feature_extraction_image1.eval()
    branch.model.load_state_dict(dict(zip(branch.model.state_dict(), trained.values(), strict=True)))
    images = enlarged, resize_bicubic(right, height, width)
    maps = [F.normalize(branch(to_tensor(image)), dim=1)[0] for image in images]
    same = torch.equal(plain.match_plainly(*maps)[0], match_patches(*maps)[0])
    print(f"--- {width}x{height}, features of {Path(file).name}, {processor()}; all matches equal: {same}")
    measure("matching", 3, lambda: plain.match_plainly(*maps), fp32=lambda: match_patches(*maps))


@torch.inference_mode()
def benchmark(width: int, height: int, rounds: int) -> None:
    folder = Path(str(resources.files("skimage"))) / "data"
    left, right = (
        resize_bicubic(load_image(folder / name), height, width)
        for name in ("motorcycle_left.png", "motorcycle_right.png")
    )
    small = resize_bicubic(left, height // 4, width // 4)
    torch.manual_seed(0)
    extractor, vgg, net = Extractor().eval(), VGG19().eval(), Restoration().eval()
    extractor.feature_extraction_image2.load_state_dict(extractor.feature_extraction_image1.state_dict())
    lr, lr_up, ref = (to_tensor(image) for image in (small, resize_bicubic(small, height, width), right))
    feat_in, feat_ref = (F.normalize(feat, dim=1)[0] for feat in extractor(lr_up, ref))
    index, features = match_patches(feat_in, feat_ref)[0], vgg(ref)
    offsets = expand_offsets(index[None], feat_ref.shape[2] - PATCH + 1)
    print(f"--- {width}x{height}, torch {torch.__version__}, {torch.get_num_threads()} thread(s), {processor()}")
    measure(
        "matching",
        rounds,
        lambda: plain.match_plainly(feat_in, feat_ref),
        fp32=lambda: match_patches(feat_in, feat_ref),
    )
    for level, layer, _ in LEVELS:
        aggregate = net.dyn_agg_restore[f"{level}_dyn_agg"]
        offset, mask = aggregate.offsets_and_mask(features[layer], offsets[layer])
        sampled = (features[layer], offset, mask, aggregate.weight, aggregate.bias)
        measure(
            f"DynAgg, {level}",
            rounds,
            lambda sampled=sampled: plain.deform_conv_plainly(*sampled),
            fp32=lambda sampled=sampled: deform_conv(*sampled),
        )
    fp32, bf16 = (
        C2Matching(CARD, *copy.deepcopy((extractor, vgg, net)), torch.device("cpu"), Settings(precision))
        for precision in PRECISIONS
    )
    measure(
        "restoration",
        rounds,
        lambda: plain.restore_plainly(net, lr, offsets, features),
        fp32=lambda: restore(fp32, lr, offsets, features),
        bf16=lambda: restore(bf16, lr, offsets, features),
    )
    measure(
        "whole pair",
        rounds,
        lambda: plain.run_plainly(extractor, vgg, net, lr, lr_up, ref),
        fp32=lambda: fp32.run(lr, lr_up, ref),
        bf16=lambda: bf16.run(lr, lr_up, ref),
    )


def restore(model: C2Matching, *arguments: Any) -> torch.Tensor:
    """The restoration network alone, with the memory it reuses as part of the whole."""
    with reused_memory(), torch.autocast("cpu", torch.bfloat16, enabled=model.autocast):
        result: torch.Tensor = model.restoration(*arguments)
    return result


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{next(names, platform.processor())}, {torch.backends.cpu.get_cpu_capability()}"


if __name__ == "__main__":
    arguments = sys.argv[1:] or ["160x160", "500x332"]
    file = arguments[1] if arguments[0] == "--trained" else None
    for size in arguments if file is None else arguments[2:]:
        columns, rows = (int(n) for n in size.split("x"))
        if file is None:
            benchmark(columns, rows, rounds=5 if columns * rows < 50_000 else 3 if columns * rows < 300_000 else 1)
        else:
            benchmark_trained(file, columns, rows)
