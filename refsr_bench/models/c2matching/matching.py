"""Correspondences between two feature maps, and the offsets DynAgg reads them as (C2-Matching Eq. 8, section 3.3).

As released: 3×3 patches of descriptors are compared instead of single descriptors, and each of the nine kernel taps
follows the match of its own patch.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

PATCH = 3

CHUNK_ELEMENTS = 1 << 24
"""Correlations held at once, 64 MiB of float32: large enough for the matrix product, small enough for the cache."""


def match_patches(feat_in: Tensor, feat_ref: Tensor, chunk_elements: int = CHUNK_ELEMENTS) -> tuple[Tensor, Tensor]:
    """Find for every 3×3 patch of ``feat_in`` the most similar 3×3 patch of ``feat_ref``.

    Similarity is the correlation with the reference patch at unit norm; the returned score also divides by the norm
    of the input patch, which makes it about a cosine. Equal correlations go to the lowest index.

    feat_in ``(C, h, w)``, feat_ref ``(C, h', w')``. Returns index and score, ``(h - 2, w - 2)`` each; an index counts
    the reference patches row by row: ``(y', x') = divmod(index, w' - 2)``.

    >>> cells = torch.eye(16).view(16, 4, 4)
    >>> match_patches(cells, cells)[0]
    tensor([[0, 1],
            [2, 3]])
    """
    (height, width), (ref_height, ref_width) = (_patch_grid(feat) for feat in (feat_in, feat_ref))
    norm_in, norm_ref = _patch_norms(feat_in), _patch_norms(feat_ref)
    index = torch.zeros(height, width, dtype=torch.long, device=feat_in.device)
    score = torch.full_like(norm_in, -torch.inf)
    # Rows per chunk, of either map, so that the correlations of all their cells fit.
    rows = max(1, math.isqrt(chunk_elements // (feat_in.shape[2] * feat_ref.shape[2])) - PATCH + 1)
    for y in range(0, height, rows):
        strip_in = feat_in[:, y : y + rows + PATCH - 1]
        for ref_y in range(0, ref_height, rows):
            correlation = _correlate(strip_in, feat_ref[:, ref_y : ref_y + rows + PATCH - 1])
            correlation /= norm_ref[ref_y : ref_y + rows]
            best, where = correlation.flatten(2).max(dim=2)
            # Strictly greater: of equal matches in two chunks the earlier stays.
            better = best > score[y : y + rows]
            score[y : y + rows] = torch.where(better, best, score[y : y + rows])
            index[y : y + rows] = torch.where(better, where + ref_y * ref_width, index[y : y + rows])
    return index, score / norm_in


def _correlate(feat_in: Tensor, feat_ref: Tensor) -> Tensor:
    """Correlations of all pairs of 3×3 patches: ``(h - 2, w - 2, h' - 2, w' - 2)``.

    A patch's correlation is the sum of its nine cells' correlations, and each pair of cells is in up to nine pairs of
    patches: correlating cells first and summing along the diagonal saves most of the multiplications.
    """
    channels = feat_in.shape[0]
    cells = feat_in.reshape(channels, -1).T @ feat_ref.reshape(channels, -1)
    cells = cells.view(*feat_in.shape[1:], *feat_ref.shape[1:])
    (height, width), (ref_height, ref_width) = (_patch_grid(feat) for feat in (feat_in, feat_ref))
    patches = cells.new_zeros(height, width, ref_height, ref_width)
    for i in range(PATCH):
        for j in range(PATCH):
            patches += cells[i : i + height, j : j + width, i : i + ref_height, j : j + ref_width]
    return patches


def _patch_norms(feat: Tensor) -> Tensor:
    squares = feat.square().sum(0)[None, None]
    return F.avg_pool2d(squares, PATCH, stride=1, divisor_override=1)[0, 0].sqrt() + 1e-5


def _patch_grid(feat: Tensor) -> tuple[int, int]:
    return feat.shape[1] - PATCH + 1, feat.shape[2] - PATCH + 1


def find_offsets(feat_in: Tensor, feat_ref: Tensor) -> dict[str, Tensor]:
    """Match two batches of feature maps ``(B, C, h, w)`` and return the pre-offsets of `expand_offsets`.

    Descriptors are brought to unit length first. The maps may differ in size.
    """
    unit_in, unit_ref = F.normalize(feat_in, dim=1), F.normalize(feat_ref, dim=1)
    index = torch.stack([match_patches(a, b)[0] for a, b in zip(unit_in, unit_ref, strict=True)])
    return expand_offsets(index, feat_ref.shape[3] - PATCH + 1)


def expand_offsets(index: Tensor, ref_grid_width: int) -> dict[str, Tensor]:
    """Turn matches into pre-offsets for the nine taps of DynAgg at three scales, (x, y) in px of each scale.

    index : ``(B, h - 2, w - 2)`` from `match_patches`; ``ref_grid_width``: patches in a row of the *reference* (the
    release takes the input's, having made the two equal). Returns relu3_1 ``(B, 9, h, w, 2)``, relu2_1 (twice the
    size and values) and relu1_1 (four times), float32.
    """
    _, height, width = index.shape
    y = torch.arange(height, device=index.device)[:, None]
    x = torch.arange(width, device=index.device)
    flow = torch.stack((index % ref_grid_width - x, index // ref_grid_width - y), dim=-1).to(torch.float32)
    # A patch is indexed by its top-left cell, so the match of the patch whose cell (i, j) lies on a position is
    # found i up and j left of it; where no patch lies so, the offset is zero.
    spare = PATCH - 1
    taps = [F.pad(flow, (0, 0, j, spare - j, i, spare - i)) for i in range(PATCH) for j in range(PATCH)]
    cells = torch.stack(taps, dim=1)
    return {
        layer: cells.repeat_interleave(scale, dim=2).repeat_interleave(scale, dim=3) * scale
        for layer, scale in (("relu3_1", 1), ("relu2_1", 2), ("relu1_1", 4))
    }
