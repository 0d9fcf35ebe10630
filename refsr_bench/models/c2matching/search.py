"""The exhaustive search behind `matching.match_patches`, in plain PyTorch: exact, in memory that grows with the maps.

A pair of patches correlates as the sum of nine pairs of cells, and these nine lie on a diagonal: (y + i, x + j) with
(y' + i, x' + j). So the search goes along diagonals d = y' - y. All cells of one diagonal are correlated by one batched
matrix product, a block of rows at a time; shifted by one row and one column the product is added to itself, first along
the columns, then along the rows. No correlation is computed twice and none is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

PATCH = 3
BLOCK_ELEMENTS = 300_000
"""Correlations held at once by a CPU thread: with them, its share of the cache is used and not exceeded."""
BLOCK_ELEMENTS_CUDA = 1 << 26
LANES = 16
"""Rows of correlations are a multiple of this: matrix products run half as fast again on aligned rows."""


class Matches(NamedTuple):
    """The best reference patch of every input patch, and its correlation."""

    index: Tensor
    score: Tensor


def patch_norms(feat: Tensor) -> Tensor:
    """Euclidean norms of all 3×3 patches of ``(C, h, w)``, plus 1e-5 as released: ``(h - 2, w - 2)``."""
    squares = feat.square().sum(0)[None, None]
    return F.avg_pool2d(squares, PATCH, stride=1, divisor_override=1)[0, 0].sqrt() + 1e-5


def scan(feat_in: Tensor, feat_ref: Tensor, block_elements: int | None = None) -> Matches:
    """Find the best patch of ``feat_ref`` ``(C, h', w')`` for every patch of ``feat_in`` ``(C, h, w)``.

    Correlations are with the reference patch at unit norm. Equal ones go to the lowest index. The result, ``(h - 2,
    w - 2)`` each, does not depend on the number of threads.
    """
    maps = _Maps(
        feat_in.permute(1, 2, 0).contiguous(),
        F.pad(feat_ref.permute(1, 0, 2), (0, -feat_ref.shape[2] % LANES)).contiguous(),
        1 / patch_norms(feat_ref)[:, None],
    )
    diagonals = range(PATCH - feat_in.shape[1], feat_ref.shape[1] - PATCH + 1)
    if feat_in.device.type == "cuda":
        found = [_scan_diagonals(maps, diagonals, block_elements or BLOCK_ELEMENTS_CUDA)]
    else:
        found = _scan_in_threads(maps, diagonals, block_elements or BLOCK_ELEMENTS)
    everything = torch.arange(found[0].index.numel(), device=feat_in.device)
    for other in found[1:]:
        _keep_better(found[0], *other, everything)
    return Matches(*(part.view(feat_in.shape[1] - PATCH + 1, -1) for part in found[0]))


class _Maps(NamedTuple):
    rows_in: Tensor
    """``(h, w, C)``."""
    rows_ref: Tensor
    """``(h', C, w' or more)``; what stands beyond w' counts for nothing."""
    scale: Tensor
    """Reciprocal norms of the reference patches, ``(h' - 2, 1, w' - 2)``."""


def _scan_in_threads(maps: _Maps, diagonals: Sequence[int], block_elements: int) -> list[Matches]:
    """Share the diagonals out to threads in each of which PyTorch uses one core.

    PyTorch's own threads meet after every operation: for blocks that fit the cache that costs more than the work, and
    far more on a busy machine.
    """
    threads = torch.get_num_threads()

    def work(share: Sequence[int]) -> Matches:
        torch.set_num_threads(1)
        with torch.inference_mode():
            return _scan_diagonals(maps, share, block_elements)

    try:
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(work, [diagonals[i::threads] for i in range(threads)]))
    finally:
        torch.set_num_threads(threads)


def _scan_diagonals(maps: _Maps, diagonals: Sequence[int], block_elements: int) -> Matches:
    rows_in, rows_ref, scale = maps
    (height, width, _), ref_grid_width = rows_in.shape, scale.shape[2]
    grid_width = width - PATCH + 1
    size = (height - PATCH + 1) * grid_width
    best = Matches(
        torch.zeros(size, dtype=torch.long, device=rows_in.device),
        torch.full((size,), -torch.inf, device=rows_in.device),
    )
    buffers = _Buffers(rows_in, rows_ref, block_elements)
    # From the middle outwards: where pictures match at all they mostly match nearby, and later diagonals win less.
    for d in sorted(diagonals, key=abs):
        for y, sums in _patch_sums(maps, d, buffers):
            sums *= scale[y + d : y + d + len(sums)]
            place = slice(y * grid_width, (y + len(sums)) * grid_width)
            # Not the index, which costs three times the maximum: most rows do not win.
            wins = (sums.amax(dim=2).flatten() >= best.score[place]).nonzero()[:, 0]
            if len(wins):
                score, where = sums.flatten(0, 1)[wins].max(dim=1)
                where += (wins // grid_width + y + d) * ref_grid_width
                _keep_better(best, where, score, wins + place.start)
    return best


class _Buffers:
    """Scratch memory of one thread, so that no block allocates any."""

    def __init__(self, rows_in: Tensor, rows_ref: Tensor, block_elements: int) -> None:
        width, ref_width = rows_in.shape[1], rows_ref.shape[2]
        self.block = min(max(1, block_elements // (width * ref_width)), len(rows_in))
        self.cells = rows_in.new_empty(self.block, width, ref_width)
        # Two rows of the block before it stay in front of every block.
        self.strips = rows_in.new_zeros(self.block + 2, width, ref_width)
        self.sums = torch.empty_like(self.cells)


def _patch_sums(maps: _Maps, d: int, buffers: _Buffers) -> Iterator[tuple[int, Tensor]]:
    """Correlations of the 3×3 patches in rows y, y + 1 … with those in rows y + d, y + d + 1 …, block by block.

    Each block comes with its y; ``(rows, w - 2, w' - 2)``, overwritten by the next.
    """
    rows_in, rows_ref, scale = maps
    (height, width, _), (ref_height, _, ref_width) = rows_in.shape, rows_ref.shape
    step = ref_width + 1  # one column on in both maps, in the flattened block
    first, end = max(0, -d), min(height, ref_height - d)
    carried = 0
    for y in range(first, end, buffers.block):
        count = min(buffers.block, end - y)
        cells = buffers.cells[:count]
        torch.bmm(rows_in[y : y + count], rows_ref[y + d : y + d + count], out=cells)
        strips = buffers.strips[: carried + count]
        flat, sums = cells.view(-1), strips[carried:].view(-1)
        inner = flat.numel() - 2 * step
        # Whole rows are added though the last columns mean nothing: a run without gaps is several times faster.
        torch.add(flat[:inner], flat[step : step + inner], out=sums[:inner])
        sums[:inner] += flat[2 * step :]
        carried += count
        if carried > 2:
            result = torch.add(strips[:-2], strips[1:-1], out=buffers.sums[: carried - 2])
            result += strips[2:]
            yield y + count - carried, result[:, : width - PATCH + 1, : scale.shape[2]]
            buffers.strips[:2] = strips[-2:].clone()
            carried = 2


def _keep_better(best: Matches, index: Tensor, score: Tensor, places: Tensor) -> None:
    """Let one new match each stand for the input patches at ``places``, where it is better than what stands there."""
    old_index, old_score = best.index[places], best.score[places]
    better = (score > old_score) | ((score == old_score) & (index < old_index))
    best.index[places] = torch.where(better, index, old_index)
    best.score[places] = torch.where(better, score, old_score)
