"""Processes that share the work of one command, as ``torchrun`` starts them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed.nn  # before any group: imported later, it would hold the group of that moment for good
from torch import distributed

_PATIENCE = timedelta(days=7)
"""How long a process waits for the others, of which one may be validating or restoring more."""


@contextmanager
def process_group(device: str) -> Iterator[Callable[[], None]]:
    """Join the other processes; gives a function that waits until all have called it.

    device : this process's own, e.g. "cpu" (talks through gloo) or "cuda:1" (through nccl). Rank, world size and
    address come from the environment variables that ``torchrun`` sets. Whoever keeps the group beyond this leaves
    its threads running into the end of the interpreter, where they sometimes abort the process.
    """
    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if on_gpu else "gloo", timeout=_PATIENCE)
    try:
        yield lambda: distributed.barrier(device_ids=[torch.cuda.current_device()] if on_gpu else None)
    finally:
        distributed.destroy_process_group()
