"""The exhaustive search behind `matching.match_patches`: exact, in memory that grows with the maps alone.

Two ideas make it fast, and neither changes its result.

*Diagonals.* A pair of patches correlates as the sum of nine pairs of cells, and these nine lie on a diagonal: (y + i,
x + j) with (y' + i, x' + j). All cells of one diagonal d = y' - y are correlated by one batched matrix product, a block
of rows at a time; shifted by one row and one column the product is added to itself. No correlation of cells is computed
twice, and none is kept.

*Bounds.* Features of photographs nearly lie in a space of few dimensions. Rotated into their principal axes, a cell is
its first k channels and the length of the rest, and by Cauchy and Schwarz the product of two cells is at most that of
these k + 1 numbers. So the scan computes an upper bound of every correlation at a fraction of the cost; the few pairs
whose bound reaches what is already known to be attained are correlated in full (`exact.best_of`). Where the features
do not allow it, the scan runs over all channels and the bound is the correlation itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from refsr_bench.models.c2matching.exact import PATCH, Candidates, PatchPairs, join_candidates, patch_norms

BLOCK_ELEMENTS = 300_000
"""Correlations held at once by a CPU thread: with them, its share of the cache is used and not exceeded."""
BLOCK_ELEMENTS_CUDA = 1 << 26
LANES = 16
"""Rows of correlations are a multiple of this: matrix products run half as fast again on aligned rows."""
RESIDUAL = 0.01
"""Share of the features' variance that may lie outside the channels that are scanned."""
ROUNDING = 1e-5
"""What float32 sums may be off, as a share of the norms; the bounds are that much wider."""
LOOSE = 100
"""Candidates a patch from which on the bounds are given up: correlating all channels is cheaper then."""
CANDIDATES_PER_PATCH = 8
"""A thread that holds more than this times the number of patches correlates what it has and keeps the best."""


class Bounds(NamedTuple):
    """Two maps whose patches correlate at least as the patches they stand for, divided by the reference's norm.

    The excess is at most the product of the two slacks, which are zero where the maps are the features themselves.
    """

    feat_in: Tensor
    feat_ref: Tensor
    slack_in: Tensor
    slack_ref: Tensor


def bound_features(feat_in: Tensor, feat_ref: Tensor, residual: float = RESIDUAL) -> Bounds:
    """Shorten ``(C, h, w)`` and ``(C, h', w')`` to their principal channels and the length of the rest.

    The number of channels is the smallest that leaves out at most ``residual`` of the variance; from half of C on
    nothing would be gained and `unbounded` is returned. What all cells share is kept apart, in two channels of its own:
    a·b = a·m' + m·(b - m') + (a - m)·(b - m'), where m and m' are the means.
    """
    channels = feat_in.shape[0]
    mean_in, mean_ref = (feat.mean((1, 2)) for feat in (feat_in, feat_ref))
    centred = [feat - mean[:, None, None] for feat, mean in ((feat_in, mean_in), (feat_ref, mean_ref))]
    everything = torch.cat([feat.flatten(1) for feat in centred], dim=1)
    products = everything @ everything.T
    if not products.isfinite().all():  # features of a network that diverged, which have no axes
        return unbounded(feat_in, feat_ref)
    variance, axes = torch.linalg.eigh(products.double())
    left_out = (variance.clamp(min=0).cumsum(0) / variance.sum()).flip(0)  # without the first 0, 1, 2 … channels
    enough = (left_out <= residual).nonzero()
    kept = -(-(int(enough[0]) + 3) // LANES) * LANES - 3 if len(enough) else channels
    if not 2 * kept < channels:
        return unbounded(feat_in, feat_ref)
    low, rest = [], []
    for feat in centred:
        rotated = torch.einsum("chw,ck->khw", feat, axes.flip(1).to(feat.dtype))
        low.append(rotated[:kept])
        rest.append(rotated[kept:].square().sum(0, keepdim=True).sqrt())
    one_in, one_ref = (torch.ones_like(length) for length in rest)
    shared_in = torch.einsum("chw,c->hw", feat_in, mean_ref)[None]
    shared_ref = torch.einsum("chw,c->hw", centred[1], mean_in)[None]
    return Bounds(
        torch.cat([low[0], rest[0], shared_in, one_in]),
        torch.cat([low[1], rest[1], one_ref, shared_ref]),
        2 * patch_norms(rest[0]),
        patch_norms(rest[1]) / patch_norms(feat_ref),
    )


def unbounded(feat_in: Tensor, feat_ref: Tensor) -> Bounds:
    """The maps as they are: their correlations bound themselves."""
    return Bounds(feat_in, feat_ref, patch_norms(feat_in) * 0, patch_norms(feat_ref) * 0)


def scan(pairs: PatchPairs, bounds: Bounds, distinct: Tensor, block_elements: int | None = None) -> Candidates | None:
    """Find the best patch of the reference for every patch of the input that is not all zero.

    distinct : bool ``(h' - 2, w' - 2)``, the patches of the reference to search. The result depends neither on the
    number of threads nor on the size of the blocks. None: the bounds are so loose that it does not pay to go on, which
    `unbounded` ones never are.
    """
    maps = _Maps(pairs, bounds, distinct)
    height, ref_height = bounds.feat_in.shape[1], bounds.feat_ref.shape[1]
    # From the middle outwards: where pictures match at all they mostly match nearby, and later diagonals win less.
    diagonals = sorted(range(PATCH - height, ref_height - PATCH + 1), key=abs)
    if bounds.feat_in.device.type == "cuda":
        found = [_scan_diagonals(maps, diagonals, block_elements or BLOCK_ELEMENTS_CUDA)]
    else:
        found = _scan_in_threads(maps, diagonals, block_elements or BLOCK_ELEMENTS)
    return None if maps.are_loose else pairs.best_of(join_candidates(found))


class _Maps:
    """What all threads read, and the lower bounds that all of them raise."""

    def __init__(self, pairs: PatchPairs, bounds: Bounds, distinct: Tensor) -> None:
        self.pairs = pairs
        self.ref_grid_width = bounds.slack_ref.shape[1]
        pad = -bounds.feat_ref.shape[2] % LANES + PATCH - 1
        self.rows_in = bounds.feat_in.permute(1, 2, 0).contiguous()
        """``(h, w, K)``."""
        self.rows_ref = F.pad(bounds.feat_ref.permute(1, 0, 2), (0, pad - PATCH + 1)).contiguous()
        """``(h', K, w' or more)``."""
        self.scale = F.pad(1 / pairs.norm_ref, (0, pad))[:, None]
        self.barred = F.pad(torch.where(distinct, 0.0, -torch.inf), (0, pad), value=-torch.inf)[:, None]
        """Minus infinity where no patch to be searched begins; ``(h' - 2, 1, w' or more)``."""
        self.slack_in = F.pad(bounds.slack_in, (0, PATCH - 1)).flatten()
        self.slack_ref = F.pad(bounds.slack_ref, (0, pad))
        self.rounding = F.pad(pairs.norm_in * ROUNDING, (0, PATCH - 1)).flatten()
        # Rows of cells, not of patches, so that blocks need no cutting out: the last two columns never win.
        # The lowest number but not minus infinity, which barred patches would reach.
        lower = torch.where(pairs.norm_in > 1e-5, torch.finfo(torch.float32).min, torch.inf)
        self.lower = F.pad(lower, (0, PATCH - 1), value=torch.inf).flatten()
        """What the best match of every input patch attains at least, ``((h - 2) * w,)``.

        Threads write here without asking each other: a bound that is overwritten by a lower one is still a bound.
        """
        self.are_exact = not bounds.slack_in.any()
        self.are_loose = False


def _scan_in_threads(maps: _Maps, diagonals: Sequence[int], block_elements: int) -> list[Candidates]:
    """Share the diagonals out to threads in each of which PyTorch uses one core.

    PyTorch's own threads meet after every operation: for blocks that fit the cache that costs more than the work, and
    far more on a busy machine.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        return [_scan_diagonals(maps, diagonals, block_elements)]

    def work(share: Sequence[int]) -> Candidates:
        torch.set_num_threads(1)
        with torch.inference_mode():
            return _scan_diagonals(maps, share, block_elements)

    try:
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(work, [diagonals[i::threads] for i in range(threads)]))
    finally:
        torch.set_num_threads(threads)


def _scan_diagonals(maps: _Maps, diagonals: Sequence[int], block_elements: int) -> Candidates:
    width = maps.rows_in.shape[1]
    nothing = maps.lower.new_empty(0)
    found = [Candidates(nothing.long(), nothing.long(), nothing, nothing)]
    count, total, limit = 0, 0, CANDIDATES_PER_PATCH * len(maps.lower)
    buffers = _Buffers(maps, block_elements)
    for d in diagonals:
        for y, upper in _upper_bounds(maps, d, buffers):
            maps.are_loose |= total > LOOSE * len(maps.lower) and not maps.are_exact
            if maps.are_loose:
                return join_candidates(found)
            place = slice(y * width, (y + len(upper)) * width)
            # Not the index, which costs ten times the maximum: most rows hold no candidate.
            wins = (upper.amax(dim=2).flatten() >= maps.lower[place]).nonzero()[:, 0]
            if len(wins):
                found.append(_candidates(maps, upper, wins, place.start, y + d))
                count += len(found[-1].upper)
                total += len(found[-1].upper)
            if count > limit:
                found = [_settle_early(maps, join_candidates(found), limit)]
                count = len(found[0].upper)
    return join_candidates(found)


def _candidates(maps: _Maps, upper: Tensor, wins: Tensor, first_place: int, first_row: int) -> Candidates:
    """Raise the lower bounds by what the winning rows of a block show; return patches and bounds that reach them."""
    width = maps.rows_in.shape[1]
    rows = upper.flatten(0, 1).index_select(0, wins)  # copies whole rows, unlike indexing
    places, ref_rows = wins + first_place, wins // width + first_row
    slack = maps.slack_ref.index_select(0, ref_rows).mul_(maps.slack_in[places, None])
    attained = (rows - slack).amax(dim=1) - maps.rounding[places]
    lower = torch.maximum(maps.lower[places], attained)
    maps.lower[places] = lower
    row, column = (rows >= lower[:, None]).nonzero(as_tuple=True)
    index_in = places[row] // width * (width - PATCH + 1) + places[row] % width
    index_ref, upper = ref_rows[row] * maps.ref_grid_width + column, rows[row, column]
    return Candidates(index_in, index_ref, upper, torch.full_like(upper, torch.nan))


def _settle_early(maps: _Maps, found: Candidates, limit: int) -> Candidates:
    """Drop candidates that cannot win: exact correlations are better lower bounds than bounds are."""
    found = maps.pairs.narrow(found)
    if len(found.upper) > limit // 2:  # many near-ties: memory must stay bounded all the same
        found = maps.pairs.best_of(found)
    width = maps.rows_in.shape[1]
    places = found.index_in // (width - PATCH + 1) * width + found.index_in % (width - PATCH + 1)
    attained = found.score.nan_to_num(-torch.inf) - maps.rounding[places]
    maps.lower.scatter_reduce_(0, places, attained, "amax")
    return found


class _Buffers:
    """Scratch memory of one thread, so that no block allocates any."""

    def __init__(self, maps: _Maps, block_elements: int) -> None:
        width, ref_width = maps.rows_in.shape[1], maps.rows_ref.shape[2]
        self.block = min(max(1, block_elements // (width * ref_width)), len(maps.rows_in))
        self.cells = maps.rows_in.new_empty(self.block, width, ref_width)
        # Two rows of the block before it stay in front of every block. Zeros, not whatever memory holds: the ends of
        # rows are added up too, and though nothing reads them they must not be NaN.
        self.strips = maps.rows_in.new_zeros(self.block + 2, width, ref_width)
        self.sums = torch.empty_like(self.cells)


def _upper_bounds(maps: _Maps, d: int, buffers: _Buffers) -> Iterator[tuple[int, Tensor]]:
    """Bounds of the patches in rows y, y + 1 … with those in rows y + d, y + d + 1 …, block by block.

    Each block comes with its y; ``(rows, w, w' or more)``, overwritten by the next.
    """
    (height, _, _), (ref_height, _, ref_width) = maps.rows_in.shape, maps.rows_ref.shape
    step = ref_width + 1  # one column on in both maps, in the flattened block
    first, end = max(0, -d), min(height, ref_height - d)
    carried = 0
    for y in range(first, end, buffers.block):
        count = min(buffers.block, end - y)
        cells = buffers.cells[:count]
        torch.bmm(maps.rows_in[y : y + count], maps.rows_ref[y + d : y + d + count], out=cells)
        strips = buffers.strips[: carried + count]
        flat, sums = cells.view(-1), strips[carried:].view(-1)
        inner = flat.numel() - 2 * step
        # Whole rows are added though the last columns mean nothing: a run without gaps is several times faster.
        torch.add(flat[:inner], flat[step : step + inner], out=sums[:inner])
        sums[:inner] += flat[2 * step :]
        top = y - carried
        carried += count
        if carried > 2:
            sums = torch.add(strips[:-2], strips[1:-1], out=buffers.sums[: carried - 2])
            sums += strips[2:]
            rows = slice(top + d, top + d + carried - 2)
            yield top, torch.addcmul(maps.barred[rows], sums, maps.scale[rows], out=sums)
            buffers.strips[:2] = strips[-2:].clone()
            carried = 2
