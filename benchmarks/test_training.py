"""A training step of the paper's restoration network, as a ratio to the same step done plainly; and the small one's.

Plain: the released way of matching (each patch a convolution kernel) and of aggregating (nine samplings, each stored),
weights and pictures in their default memory layout. One thread, the same pictures, alternating, medians.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from refsr_bench.models.c2matching.config import make_config
from refsr_bench.models.c2matching.extractor import Extractor
from refsr_bench.models.c2matching.matching import expand_offsets, find_offsets
from refsr_bench.models.c2matching.networks import channels_last
from refsr_bench.models.c2matching.plain import match_plainly, restore_plainly
from refsr_bench.models.c2matching.restoration import Restoration
from refsr_bench.models.vgg import VGG19

ROUNDS = 3


def batch(memory_format: torch.memory_format) -> dict[str, Tensor]:
    rng = np.random.default_rng(0)
    shapes = {"lr": 40, "lr_up": 160, "ref": 160, "hr": 160}
    return {
        name: torch.from_numpy(rng.random((2, 3, side, side), np.float32)).contiguous(memory_format=memory_format)
        for name, side in shapes.items()
    }


def seconds(step: Callable[[], object]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


@pytest.mark.slow
def test_the_papers_step_against_a_plain_one() -> None:
    torch.set_num_threads(1)
    extractor, vgg, net = Extractor().requires_grad_(False), VGG19().requires_grad_(False), Restoration()

    def plain(pictures: dict[str, Tensor]) -> None:
        with torch.no_grad():
            features = extractor(pictures["lr_up"], pictures["ref"])
            unit = [F.normalize(feature, dim=1) for feature in features]
            found = torch.stack([match_plainly(a, b)[0] for a, b in zip(*unit, strict=True)])
            offsets, reference = expand_offsets(found, 38), vgg(pictures["ref"])
        (restore_plainly(net, pictures["lr"], offsets, reference) - pictures["hr"]).abs().mean().backward()

    def ours(pictures: dict[str, Tensor]) -> None:
        with torch.no_grad():
            offsets, reference = find_offsets(*extractor(pictures["lr_up"], pictures["ref"])), vgg(pictures["ref"])
        (net(pictures["lr"], offsets, reference) - pictures["hr"]).abs().mean().backward()

    times: dict[str, list[float]] = {"plain": [], "ours": []}
    for _ in range(ROUNDS + 1):
        for module in (extractor, vgg, net):
            module.to(memory_format=torch.contiguous_format)
        times["plain"].append(seconds(lambda: plain(batch(torch.contiguous_format))))
        for module in (extractor, vgg, net):
            channels_last(module)
        times["ours"].append(seconds(lambda: ours(batch(torch.channels_last))))
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}
    print(f"step of 2 pairs: plain {medians['plain']:.2f} s, ours {medians['ours']:.2f} s")
    assert make_config("restoration").size_px == 160
    assert medians["ours"] < medians["plain"]
