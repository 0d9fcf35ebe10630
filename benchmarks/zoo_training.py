"""What a step of ``train NAME`` costs, for every network of the zoo at its released size.

    python benchmarks/zoo_training.py                 # all
    python benchmarks/zoo_training.py edsr masa       # some

Method: the recipe's own forward pass, L1, backward and Adam step on two pairs of 64x64 px (LR 16x16) from
scikit-image's photographs, random weights, one thread; one warm-up step, then the mean of two.
Processor time of this process, not the clock, which other programs move.
"""

from __future__ import annotations

import platform
import statistics
import sys
import time
from importlib import resources
from pathlib import Path

import torch
from torch.nn import functional as F

from refsr_bench.images import load_image, resize_bicubic
from refsr_bench.models import zoo
from refsr_bench.models.c2matching.training_data import as_input
from refsr_bench.models.method import find_method, random_parts
from refsr_bench.models.train_l1 import Batch, restore_batch

BATCH = 2
SIZE_PX = 64
STEPS = 2


def load_batch() -> Batch:
    folder = Path(str(resources.files("skimage"))) / "data"
    left, right = (load_image(folder / f"motorcycle_{side}.png") for side in ("left", "right"))
    corners = [(180, 330), (120, 200)][:BATCH]
    hr = [left[y : y + SIZE_PX, x : x + SIZE_PX] for y, x in corners]
    ref = [right[y : y + SIZE_PX, x - 48 : x - 48 + SIZE_PX] for y, x in corners]
    lr = [resize_bicubic(picture, SIZE_PX // 4, SIZE_PX // 4) for picture in hr]
    return {
        key: torch.stack([torch.from_numpy(p.copy()) for p in each])
        for key, each in zip(("hr", "lr", "ref"), (hr, lr, ref), strict=True)
    }


def measure(name: str, batch: Batch) -> float:
    """Processor seconds of a step."""
    method = find_method(name)
    parts = random_parts(method, torch.device("cpu"))
    parts.network.train()
    optimiser = torch.optim.Adam(parts.network.parameters(), lr=1e-5)
    seconds = []
    for _ in range(1 + STEPS):
        started = time.process_time()
        optimiser.zero_grad()
        loss = F.l1_loss(restore_batch(method, parts, batch), as_input(batch["hr"], parts.device))
        torch.autograd.backward(loss)
        optimiser.step()
        seconds.append(time.process_time() - started)
    return statistics.mean(seconds[1:])


def processor() -> str:
    """Its name, where the system tells."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text("utf-8").splitlines() if told.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def networks() -> list[str]:
    """Every network once: models that share one cost the same."""
    seen: dict[int, str] = {}
    for name in zoo.CARDS:
        seen.setdefault(id(find_method(name)), name)
    return list(seen.values())


if __name__ == "__main__":
    torch.set_num_threads(1)
    pairs = load_batch()
    print(f"{processor()}, torch {torch.__version__}, 1 thread\n")
    print("| model | kind | parameters | s a step |\n| --- | --- | ---: | ---: |")
    for model in sys.argv[1:] or networks():
        card = zoo.CARDS[model]
        kind = "reference" if card.uses_reference else "single-image"
        print(f"| `{model}` | {kind} | {card.parameters:,} | {measure(model, pairs):.2f} |", flush=True)
