"""Patch transfer and soft attention, shared by SRNTT, TTSR and MASA: find the best patch, paste it at three scales.

A patch is 3×3 feature cells; at a scale of 2 or 4 the same patch is 6×6 or 12×12 pixels of a finer map. Pasting works
cell by cell (a cell is covered by up to nine patches), so that memory grows with one map and not with its patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from refsr_bench.models.c2matching.matching import PATCH, match_patches


class Matches(NamedTuple):
    """For every patch of the input: which reference, where in it, and how similar; all ``(h, w)``."""

    which: Tensor
    y: Tensor
    x: Tensor
    """Top-left cell of the matched patch, in the map that was searched (padding included)."""
    score: Tensor


def find_matches(feat_in: Tensor, feats_ref: Sequence[Tensor], padding: int = 0) -> Matches:
    """Search every 3×3 patch of ``feat_in`` ``(C, h, w)`` in a pool of references ``(C, h', w')``, by cosine.

    ``padding=1`` surrounds all maps with zeros first (TTSR), so that there is a patch for every cell. Of equal scores
    the earlier reference wins.
    """
    pad = (padding,) * 4
    best: Matches | None = None
    for number, feat_ref in enumerate(feats_ref):
        index, score = match_patches(F.pad(feat_in, pad), F.pad(feat_ref, pad))
        width = feat_ref.shape[2] + 2 * padding - PATCH + 1
        found = Matches(torch.full_like(index, number), index // width, index % width, score)
        if best is None:
            best = found
        else:
            better = found.score > best.score
            best = Matches(*(torch.where(better, new, old) for new, old in zip(found, best, strict=True)))
    if best is None:
        raise ValueError("there is no reference to search")
    return best


def transfer(
    features: Sequence[Tensor], matches: Matches, scale: int, padding: int = 0, *, count_overlaps: bool = True
) -> Tensor:
    """Paste the matched patches of ``features`` (one map ``(C, scale·h', scale·w')`` a reference) and average overlaps.

    With ``count_overlaps=False`` every cell is divided by nine, as TTSR does, which darkens the border. Returns
    ``(C, scale·h, scale·w)``, where h is the height of the map whose patches were searched (its padding excluded).
    """
    pad = (padding,) * 4
    cells = [F.pad(F.pixel_unshuffle(feature[None], scale)[0], pad) for feature in features]
    widths = torch.tensor([cell.shape[2] for cell in cells], device=matches.y.device)
    starts = torch.tensor([0, *(cell.shape[1] * cell.shape[2] for cell in cells)], device=matches.y.device).cumsum(0)
    table = torch.cat([cell.flatten(1) for cell in cells], 1)
    first = starts[matches.which] + matches.y * widths[matches.which] + matches.x
    step = widths[matches.which]
    height, width = matches.y.shape
    pasted = table.new_zeros(table.shape[0], height + PATCH - 1, width + PATCH - 1)
    covered = table.new_zeros(height + PATCH - 1, width + PATCH - 1)
    for i in range(PATCH):
        for j in range(PATCH):
            pasted[:, i : i + height, j : j + width] += table[:, first + i * step + j]
            covered[i : i + height, j : j + width] += 1
    pasted = pasted / (covered if count_overlaps else PATCH * PATCH)
    inner = pasted[:, padding : pasted.shape[1] - padding, padding : pasted.shape[2] - padding]
    return F.pixel_shuffle(inner[None], scale)[0]
