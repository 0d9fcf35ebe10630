"""The largest level of the restoration network in tiles, so that a large picture fits into a stated memory.

Only that level is cut: what comes before it has a quarter of its pixels. Its convolutions see ``halo`` px around each
pixel and the reference features are read wherever the matches point, so tiles with that much around them give what the
whole picture gives. Tiles with less do not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from refsr_bench.errors import RefsrError, UsageError

DEFAULT_BUDGET = int(2.5 * 2**30)
"""Bytes the restoration network may take unless told otherwise: 1080×1612 px then fit into 4 GB with all the rest."""
WHOLE_BYTES = 860
"""A pixel of the SR picture: what is held all the time (features of picture and, twice, reference; offsets)."""
TILE_BYTES = 4096
"""A pixel of a tile: what its level holds at the worst moment, while it samples the reference."""
SMALLEST = 32
"""No tile has a smaller core, px."""
INEXACT_HALO = 8


class Plan(NamedTuple):
    """How a picture is cut: side of the squares in which it is computed, px, and how much of each is thrown away."""

    side: int
    halo: int


def read_bytes(text: str) -> int:
    """Read an amount of memory: ``2GB``, ``1.5GiB``, ``800MB`` or bytes; `UsageError` for anything else.

    >>> read_bytes("1.5GiB"), read_bytes("800 MB")
    (1610612736, 800000000)
    """
    units = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
    number = text.strip().rstrip("BGIKMbgikm").strip()
    unit = text.strip()[len(text.strip().rstrip("BGIKMbgikm")) :].upper()
    try:
        amount = float(number) * units[unit]
    except (ValueError, KeyError):
        amount = math.nan
    if not 0 < amount < math.inf:
        raise UsageError(f"{text!r} is not an amount of memory", "write for example 2GB or 800MB")
    return int(amount)


def fits_whole(height: int, width: int, budget: int) -> bool:
    """Whether an SR picture of height × width px can be restored within ``budget`` bytes without tiles."""
    return height * width * (WHOLE_BYTES + TILE_BYTES) <= budget


def plan_tiles(height: int, width: int, halo: int, budget: int, *, allow_inexact: bool = False) -> Plan | None:
    """Choose tiles for an SR picture of height × width px; None: it fits whole.

    UsageError: not even the smallest tile fits into ``budget`` bytes.
    """
    if fits_whole(height, width, budget):
        return None
    whole = height * width * WHOLE_BYTES
    side = math.isqrt(max(0, budget - whole) // TILE_BYTES)
    for margin in (halo, INEXACT_HALO) if allow_inexact else (halo,):
        if side >= SMALLEST + 2 * margin:
            return Plan(side, margin)
    least = whole + (SMALLEST + 2 * halo) ** 2 * TILE_BYTES
    raise UsageError(
        f"{width}×{height} px cannot be restored within {budget / 1e9:.2f} GB: {least / 1e9:.2f} GB are needed",
        "allow more with --memory-budget" + ("" if allow_inexact else ", or --allow-inexact-tiles, which is signed"),
    )


def run_in_tiles(
    compute: Callable[[slice, slice], Tensor], height: int, width: int, plan: Plan | None, halo: int
) -> Tensor:
    """Put an output ``(B, 3, height, width)`` together from ``compute(rows, columns)`` of overlapping windows.

    On CUDA, what runs out of memory is tried again in tiles of half the side, as long as they cover ``halo`` px;
    then RefsrError.
    """
    while True:
        try:
            return _run(compute, height, width, plan)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            side = min(plan.side if plan else 2 * max(height, width), 2 * max(height, width)) // 2
            margin = plan.halo if plan else halo
            if side < SMALLEST + 2 * margin:
                raise RefsrError(
                    f"out of GPU memory at {width}×{height} px, even in the smallest tiles", "use --device cpu"
                ) from None
            plan = Plan(side, margin)


def _run(compute: Callable[[slice, slice], Tensor], height: int, width: int, plan: Plan | None) -> Tensor:
    if plan is None:
        return compute(slice(0, height), slice(0, width))
    result: Tensor | None = None
    for rows, core_rows in _cuts(height, plan):
        for columns, core_columns in _cuts(width, plan):
            part = compute(rows, columns)
            if result is None:
                result = part.new_empty(*part.shape[:2], height, width)
            inside = part[
                :,
                :,
                core_rows.start - rows.start : core_rows.stop - rows.start,
                core_columns.start - columns.start : core_columns.stop - columns.start,
            ]
            result[:, :, core_rows, core_columns] = inside
    assert result is not None
    return result


def _cuts(size: int, plan: Plan) -> Iterator[tuple[slice, slice]]:
    """Windows along one axis, and the part of each that is kept; the cores are about equal and cover ``size``."""
    count = math.ceil(size / (plan.side - 2 * plan.halo))
    edges = [size * i // count for i in range(count + 1)]
    for first, end in pairwise(edges):
        yield slice(max(0, first - plan.halo), min(size, end + plan.halo)), slice(first, end)
