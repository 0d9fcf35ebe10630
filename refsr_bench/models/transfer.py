"""Patch transfer and soft attention, shared by SRNTT, TTSR and MASA: find the best patch, paste it at three scales.

A patch is 3×3 feature cells; at a scale of 2 or 4 the same patch is 6×6 or 12×12 pixels of a finer map. Pasting works
cell by cell (a cell is covered by up to nine patches), so that memory grows with one map and not with its patches, and
the similarities of all pairs of patches are never held at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from refsr_bench.models.c2matching.exact import PATCH
from refsr_bench.models.c2matching.matching import match_patches


class Matches(NamedTuple):
    """For every patch of the input: which reference, where in it, and how similar; all ``(h, w)``."""

    which: Tensor
    y: Tensor
    x: Tensor
    """Top-left cell of the matched patch, in the map that was searched (padding included)."""
    score: Tensor
    """Cosine of the two patches; gradients flow through it, not through the choice."""


class Cells(NamedTuple):
    """The cells of all references side by side, so that one index reaches any of them."""

    table: Tensor
    """``(C, cells of all maps)``."""
    widths: Tensor
    starts: Tensor


def find_matches(feat_in: Tensor, feats_ref: Sequence[Tensor], padding: int = 0) -> Matches:
    """Search every 3×3 patch of ``feat_in`` ``(C, h, w)`` in a pool of references ``(C, h', w')``, by cosine.

    ``padding=1`` surrounds all maps with zeros first (TTSR), so that there is a patch for every cell. Of equal scores
    the earlier reference wins, and in it the lowest index.
    """
    if not feats_ref:
        raise ValueError("there is no reference to search")
    pad = (padding,) * 4
    feat_in = F.pad(feat_in, pad)
    padded = [F.pad(feat_ref, pad) for feat_ref in feats_ref]
    with torch.no_grad():
        pool = [_search(feat_in, feat_ref, number) for number, feat_ref in enumerate(padded)]
        best = pool[0]
        for found in pool[1:]:
            better = found.score > best.score
            best = Matches(*(torch.where(better, new, old) for new, old in zip(found, best, strict=True)))
    return best._replace(score=_cosine(feat_in, _side_by_side(padded), best))


def _search(feat_in: Tensor, feat_ref: Tensor, number: int) -> Matches:
    index, score = match_patches(feat_in.float(), feat_ref.float())
    width = feat_ref.shape[2] - PATCH + 1
    return Matches(torch.full_like(index, number), index // width, index % width, score)


def _cosine(feat_in: Tensor, cells: Cells, matches: Matches) -> Tensor:
    """Cosine of every input patch and its match, cell by cell; patches of zeros give zero."""
    height, width = matches.y.shape
    product = square_in = square_ref = feat_in.new_zeros(height, width)
    for i, j, index in _nine(cells, matches):
        own, other = feat_in[:, i : i + height, j : j + width], cells.table[:, index]
        product = product + (own * other).sum(0)
        square_in = square_in + own.square().sum(0)
        square_ref = square_ref + other.square().sum(0)
    return product / (square_in * square_ref).clamp_min(1e-12).sqrt()


def transfer(
    features: Sequence[Tensor], matches: Matches, scale: int, padding: int = 0, *, count_overlaps: bool = True
) -> Tensor:
    """Paste the matched patches of ``features`` (one map ``(C, scale·h', scale·w')`` a reference) and average overlaps.

    With ``count_overlaps=False`` every cell is divided by nine, as TTSR does, which darkens the border. Returns
    ``(C, scale·h, scale·w)``, where h is the height of the map whose patches were searched (its padding excluded).
    """
    pad = (padding,) * 4
    cells = _side_by_side([F.pad(F.pixel_unshuffle(feature[None], scale)[0], pad) for feature in features])
    height, width = matches.y.shape
    pasted = cells.table.new_zeros(cells.table.shape[0], height + PATCH - 1, width + PATCH - 1)
    covered = cells.table.new_zeros(height + PATCH - 1, width + PATCH - 1)
    for i, j, index in _nine(cells, matches):
        pasted[:, i : i + height, j : j + width] += cells.table[:, index]
        covered[i : i + height, j : j + width] += 1
    pasted = pasted / (covered if count_overlaps else PATCH * PATCH)
    inner = pasted[:, padding : pasted.shape[1] - padding, padding : pasted.shape[2] - padding]
    return F.pixel_shuffle(inner[None], scale)[0]


def _side_by_side(maps: Sequence[Tensor]) -> Cells:
    device = maps[0].device
    sizes = torch.tensor([0, *(each.shape[1] * each.shape[2] for each in maps)], device=device)
    widths = torch.tensor([each.shape[2] for each in maps], device=device)
    return Cells(torch.cat([each.flatten(1) for each in maps], 1), widths, sizes.cumsum(0))


def _nine(cells: Cells, matches: Matches) -> list[tuple[int, int, Tensor]]:
    """Row and column of each cell of a patch, and where in the table that cell of every matched patch is."""
    step = cells.widths[matches.which]
    first = cells.starts[matches.which] + matches.y * step + matches.x
    return [(i, j, first + i * step + j) for i in range(PATCH) for j in range(PATCH)]
