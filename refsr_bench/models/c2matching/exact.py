"""Correlations of single pairs of 3×3 patches, and the choice of the best among candidates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

PATCH = 3
PAIRS_AT_ONCE = 1 << 11
NEAR_TIE = 2e-6
"""Correlations that differ by at most this share of the input patch's norm are computed again in float64."""


def patch_norms(feat: Tensor) -> Tensor:
    """Euclidean norms of all 3×3 patches of ``(C, h, w)``, plus 1e-5 as released: ``(h - 2, w - 2)``."""
    squares = feat.square().sum(0)[None, None]
    return F.avg_pool2d(squares, PATCH, stride=1, divisor_override=1)[0, 0].sqrt() + 1e-5


class Candidates(NamedTuple):
    """Pairs of patches, by number, row by row in either map; each field one-dimensional."""

    index_in: Tensor
    index_ref: Tensor
    upper: Tensor
    """No less than the correlation with the reference patch at unit norm."""
    score: Tensor
    """This correlation, float32; NaN where it has not been computed."""

    def take(self, chosen: Tensor) -> Candidates:
        """Those that a mask chooses."""
        return Candidates(*(field[chosen] for field in self))


def join_candidates(parts: Sequence[Candidates]) -> Candidates:
    """Concatenate them."""
    return Candidates(*(torch.cat(fields) for fields in zip(*parts, strict=True)))


class PatchPairs:
    """Two feature maps ``(C, h, w)`` and ``(C, h', w')``, float32, laid out for correlating single pairs of patches."""

    def __init__(self, feat_in: Tensor, feat_ref: Tensor) -> None:
        self.norm_in, self.norm_ref = patch_norms(feat_in), patch_norms(feat_ref)
        self.cells_in, self.cells_ref = (feat.permute(1, 2, 0).contiguous() for feat in (feat_in, feat_ref))

    def correlate(self, index_in: Tensor, index_ref: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Correlations of input patches with as many reference patches, these at unit norm."""
        parts = [
            _sums_of_products(self.cells_in, self.cells_ref, some_in, some_ref, dtype)
            for some_in, some_ref in _in_parts(index_in, index_ref)
        ]
        return torch.cat(parts) / self.norm_ref.flatten()[index_ref]

    def narrow(self, candidates: Candidates) -> Candidates:
        """Correlate the most promising candidate of every patch, and drop those that cannot reach it."""
        norm_in = self.norm_in.flatten()
        promising = candidates.upper == _highest(candidates.upper, candidates.index_in, len(norm_in))
        candidates = self._with_scores(candidates, promising)
        attained = _highest(candidates.score.nan_to_num(-torch.inf), candidates.index_in, len(norm_in))
        return candidates.take(candidates.upper >= attained - NEAR_TIE * norm_in[candidates.index_in])

    def best_of(self, candidates: Candidates) -> Candidates:
        """Keep the best candidate of every patch that has one; among equals the lowest index of the reference."""
        norm_in = self.norm_in.flatten()
        candidates = self.narrow(candidates)
        candidates = self._with_scores(candidates, torch.ones_like(candidates.index_in, dtype=torch.bool))
        best = _highest(candidates.score, candidates.index_in, len(norm_in))
        candidates = candidates.take(candidates.score >= best - NEAR_TIE * norm_in[candidates.index_in])
        # Nearly always one is left of each patch. Rounding must not decide between several.
        rivals = candidates.index_in.bincount(minlength=len(norm_in))[candidates.index_in] > 1
        exact = candidates.score.double()
        exact[rivals] = self.correlate(candidates.index_in[rivals], candidates.index_ref[rivals], torch.float64)
        candidates = candidates.take(exact == _highest(exact, candidates.index_in, len(norm_in)))
        first = candidates.index_ref == -_highest(-candidates.index_ref, candidates.index_in, len(norm_in))
        return candidates.take(first)

    def _with_scores(self, candidates: Candidates, wanted: Tensor) -> Candidates:
        missing = (wanted & candidates.score.isnan()).nonzero()[:, 0]
        score = candidates.score.clone()
        if len(missing):
            score[missing] = self.correlate(candidates.index_in[missing], candidates.index_ref[missing])
        return candidates._replace(score=score)


def _in_parts(*indices: Tensor) -> Iterator[tuple[Tensor, ...]]:
    return zip(*(torch.split(index, PAIRS_AT_ONCE) for index in indices), strict=True)


def _sums_of_products(
    cells_in: Tensor, cells_ref: Tensor, index_in: Tensor, index_ref: Tensor, dtype: torch.dtype
) -> Tensor:
    channels, width, ref_width = cells_in.shape[2], cells_in.shape[1], cells_ref.shape[1]
    corner_in = index_in // (width - PATCH + 1) * width + index_in % (width - PATCH + 1)
    corner_ref = index_ref // (ref_width - PATCH + 1) * ref_width + index_ref % (ref_width - PATCH + 1)
    total = torch.zeros(len(index_in), dtype=dtype, device=index_in.device)
    for i in range(PATCH):
        for j in range(PATCH):
            # index_select, which copies whole rows, is many times as fast as indexing.
            some_in = cells_in.view(-1, channels).index_select(0, corner_in + (i * width + j))
            some_ref = cells_ref.view(-1, channels).index_select(0, corner_ref + (i * ref_width + j))
            total += some_in.to(dtype).mul_(some_ref).sum(1)
    return total


def _highest(value: Tensor, group: Tensor, groups: int) -> Tensor:
    """For every value the highest one of its group."""
    return value.new_zeros(groups).scatter_reduce_(0, group, value, "amax", include_self=False)[group]


def first_equal_patch(feat: Tensor) -> Tensor:
    """Number every patch by the first patch that is equal to it bit for bit: ``(h - 2, w - 2)``, row by row.

    Photographs have none, but padding is full of them: leaving all but the first out of the search saves much, and
    settles those ties. Patches are told apart by 64-bit hashes.
    """
    bits = (feat + 0.0).contiguous().view(torch.int32)  # + 0.0: minus zero is zero
    cells = torch.zeros(feat.shape[1:], dtype=torch.long, device=feat.device)
    for channel in bits:
        cells = _mix(cells + channel)
    height, width = (size - PATCH + 1 for size in cells.shape)
    patches = torch.zeros(height, width, dtype=torch.long, device=feat.device)
    for i in range(PATCH):
        for j in range(PATCH):
            patches = _mix(patches + cells[i : i + height, j : j + width])
    kinds, kind = torch.unique(patches, return_inverse=True)
    number = torch.arange(kind.numel(), device=feat.device)
    first = torch.full_like(kinds, kind.numel()).scatter_reduce_(0, kind.flatten(), number, "amin")
    return first[kind]


def _mix(value: Tensor) -> Tensor:
    """One step of a multiply-and-shift hash on 64-bit integers that wrap around."""
    value = value * -7046029254386353131
    return value ^ (value >> 29)
