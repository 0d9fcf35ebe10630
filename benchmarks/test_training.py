"""A training step of the paper's restoration network, as a ratio to the same step done plainly; and the small one's.

Plain: the released way of matching (each patch a convolution kernel) and of aggregating (nine samplings, each stored),
weights and pictures in their default memory layout, float32. Ours in float32, and with ``precision=bf16`` where the
processor has the units. One thread, the same pictures, alternating, medians.
"""

from __future__ import annotations

import contextlib
import copy
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from refsr_bench.models.c2matching.extractor import Extractor
from refsr_bench.models.c2matching.matching import expand_offsets, find_offsets
from refsr_bench.models.c2matching.plain import match_plainly, restore_plainly
from refsr_bench.models.c2matching.restoration import Restoration
from refsr_bench.models.memory import reused_memory
from refsr_bench.models.tensors import has_bf16
from refsr_bench.models.vgg import VGG19
from refsr_bench.models.winograd import has_winograd, use_winograd

ROUNDS = 3


def batch() -> dict[str, Tensor]:
    rng = np.random.default_rng(0)
    shapes = {"lr": 40, "lr_up": 160, "ref": 160, "hr": 160}
    return {name: torch.from_numpy(rng.random((2, 3, side, side), np.float32)) for name, side in shapes.items()}


class Nets(NamedTuple):
    extractor: nn.Module
    vgg: nn.Module
    restoration: Restoration


def seconds(step: Callable[[], object]) -> float:
    """Processor time, which other work on the machine disturbs least."""
    start = time.process_time()
    step()
    return time.process_time() - start


def step_plainly(nets: Nets, pictures: dict[str, Tensor]) -> None:
    with torch.no_grad():
        features = nets.extractor(pictures["lr_up"], pictures["ref"])
        unit = [F.normalize(feature, dim=1) for feature in features]
        found = torch.stack([match_plainly(a, b)[0] for a, b in zip(*unit, strict=True)])
        offsets, reference = expand_offsets(found, 38), nets.vgg(pictures["ref"])
    sr = restore_plainly(nets.restoration, pictures["lr"], offsets, reference)
    (sr - pictures["hr"]).abs().mean().backward()


def step(nets: Nets, pictures: dict[str, Tensor], *, bf16: bool) -> None:
    """As `train_restoration` does it."""
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        features = nets.extractor(pictures["lr_up"], pictures["ref"])
        offsets = find_offsets(*(feature.float() for feature in features))
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        with torch.no_grad():
            reference = nets.vgg(pictures["ref"])
        sr = nets.restoration(pictures["lr"], offsets, reference).float()
    (sr - pictures["hr"]).abs().mean().backward()


@pytest.mark.slow
def test_the_papers_step_against_a_plain_one() -> None:
    torch.set_num_threads(1)
    nets = Nets(Extractor().requires_grad_(False), VGG19().requires_grad_(False), Restoration())
    plain = copy.deepcopy(nets)
    layout = torch.contiguous_format if has_winograd() else torch.channels_last
    for net in nets:  # as `training.train` does
        net.to(memory_format=layout)
        use_winograd(net)
    runs: dict[str, Callable[[], object]] = {
        "plain": lambda: step_plainly(plain, batch()),
        "float32": lambda: step(nets, batch(), bf16=False),
    }
    if has_bf16(torch.device("cpu")):
        runs["bf16"] = lambda: step(nets, batch(), bf16=True)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS + 1):
        for name, run in runs.items():
            with contextlib.nullcontext() if name == "plain" else reused_memory():
                times[name].append(seconds(run))
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}
    print(f"\nstep of 2 pairs, {torch.backends.cpu.get_cpu_capability()}:")
    for name, median in medians.items():
        print(f"  {name} {median:.2f} s, {medians['plain'] / median:.2f} times as fast as plain")
    assert medians["float32"] < medians["plain"]
    assert "bf16" not in medians or 2 * medians["bf16"] <= medians["plain"]
