"""C2-Matching's parts against the plain baseline (`refsr_bench.models.c2matching.plain`), in one run.

    python benchmarks/inference.py                     # 160x160 and 500x332
    python benchmarks/inference.py 160x160 1024x768    # any sizes

Method: photographs from scikit-image; an untrained extractor with equal branches, whose features hardly differ and need
more channels than trained ones, so the search is not flattered; one warm-up, then baseline and ours in turn, so that
both meet the same machine. Processor time of this process, not the clock, which other programs move. Median and range
of the repetitions; a single one above 300,000 px.
"""

from __future__ import annotations

import platform
import statistics
import sys
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import torch
from torch.nn import functional as F

from refsr_bench.images import load_image, resize_bicubic
from refsr_bench.models.c2matching import plain
from refsr_bench.models.c2matching.exact import PATCH
from refsr_bench.models.c2matching.extractor import Extractor
from refsr_bench.models.c2matching.matching import expand_offsets, find_offsets, match_patches
from refsr_bench.models.c2matching.restoration import Restoration
from refsr_bench.models.deform import deform_conv
from refsr_bench.models.tensors import to_tensor
from refsr_bench.models.vgg import VGG19


def measure(name: str, baseline: Callable[[], object], ours: Callable[[], object], rounds: int) -> None:
    seconds: dict[str, list[float]] = {"plain": [], "ours": []}
    ours()
    for _ in range(rounds):
        for label, run in (("plain", baseline), ("ours", ours)):
            started = time.process_time()
            run()
            seconds[label].append(time.process_time() - started)
    text = [
        f"{label} {statistics.median(values):.3f} s [{min(values):.3f}, {max(values):.3f}]"
        for label, values in seconds.items()
    ]
    ratio = statistics.median(seconds["plain"]) / statistics.median(seconds["ours"])
    print(f"{name:<24} {'   '.join(text)}   {ratio:.2f}x", flush=True)


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
    aggregate = net.dyn_agg_restore["medium_dyn_agg"]
    offset, mask = aggregate.offsets_and_mask(features["relu2_1"], offsets["relu2_1"])
    sampled = (features["relu2_1"], offset, mask, aggregate.weight, aggregate.bias)
    fast = [net.to(memory_format=torch.channels_last) for net in (Extractor(), VGG19(), Restoration())]
    for ours, theirs in zip(fast, (extractor, vgg, net), strict=True):
        ours.load_state_dict(theirs.state_dict())
    quick_extractor, quick_vgg, quick_net = fast
    print(
        f"--- {width}x{height}, torch {torch.__version__}, {torch.get_num_threads()} thread(s), {platform.processor()}"
    )
    measure(
        "matching",
        lambda: plain.match_plainly(feat_in, feat_ref),
        lambda: match_patches(feat_in, feat_ref),
        rounds,
    )
    measure("DynAgg, medium", lambda: plain.deform_conv_plainly(*sampled), lambda: deform_conv(*sampled), rounds)
    measure(
        "restoration",
        lambda: plain.restore_plainly(net, lr, offsets, features),
        lambda: quick_net(lr, offsets, features),
        rounds,
    )
    measure(
        "whole pair, fp32",
        lambda: plain.run_plainly(extractor, vgg, net, lr, lr_up, ref),
        lambda: quick_net(lr, find_offsets(*quick_extractor(lr_up, ref)), quick_vgg(ref)),
        rounds,
    )


if __name__ == "__main__":
    for size in sys.argv[1:] or ("160x160", "500x332"):
        columns, rows = (int(n) for n in size.split("x"))
        benchmark(columns, rows, rounds=5 if columns * rows < 50_000 else 3 if columns * rows < 300_000 else 1)
