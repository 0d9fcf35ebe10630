"""Training losses of C2-Matching, as the released code computes them (paper Eq. 1-6 and 10-13).

Where release and paper differ the release is followed and the difference is named; the full list is in
``docs/footguns.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

CELL_PX = 4
"""HR pixels per feature cell; training pairs cell (i, j) with HR pixel (4i, 4j), not with the cell's centre."""

BORDER_PX = 10
SAFE_CELLS = 4
MIN_VALID = 128
"""Pairs with fewer valid cells are skipped."""

_EXCLUDED = 10.0
"""Added to distances that may not be negatives; squared distances of unit vectors are at most 4."""


class Cells(NamedTuple):
    """Valid correspondences of one pair: cell (x, y) in each feature map, ``(N, 2)`` int64."""

    first: Tensor
    second: Tensor


class PairLoss(NamedTuple):
    """Means over the valid cells of one pair, or over the valid pairs of a batch."""

    loss: Tensor
    positive: Tensor
    negative: Tensor
    distillation: Tensor


def valid_cells(positions: Tensor, height_px: int, width_px: int) -> Cells:
    """Pair feature cells of the input with those of the reference.

    positions ``(h, w, 2)``, float64 (x, y) px: where HR pixel (4j, 4i) of the input lies in the reference. Valid are
    those more than 10 px inside the reference; nothing is excluded in the input. Thresholds and the rounding (half to
    even) are done in float64: float32 would flip cells.
    """
    limit = torch.tensor([width_px, height_px], dtype=torch.float64, device=positions.device) - BORDER_PX
    inside = ((positions > BORDER_PX) & (positions < limit)).all(-1)
    rows, columns = inside.nonzero(as_tuple=True)
    return Cells(torch.stack([columns, rows], -1), (positions[inside] / CELL_PX).round().long())


def triplet_loss(feat_in: Tensor, feat_ref: Tensor, cells: Cells, margin: float = 1.0) -> PairLoss:
    """Hardest-negative triplet margin loss of one pair (paper Eq. 1-4), mean over its valid cells.

    feat_in, feat_ref ``(C, h, w)``. Distances are squared Euclidean of unit descriptors, 2 - 2·cos. A cell's negative
    is the nearer of: the nearest *other valid ground-truth position* in the reference (the paper says every position)
    and the nearest cell of the whole input to the true match; both more than 4 feature cells away (the paper's T =
    4.0 names no unit).
    """
    unit_in, unit_ref = (F.normalize(feat, dim=0) for feat in (feat_in, feat_ref))
    first = unit_in[:, cells.first[:, 1], cells.first[:, 0]]
    second = unit_ref[:, cells.second[:, 1], cells.second[:, 0]]
    positive = 2 - 2 * (first * second).sum(0)
    to_second = 2 - 2 * first.T @ second
    negative_ref = _nearest_allowed(to_second, _chebyshev(cells.second, cells.second))
    every_cell = _all_cells(feat_in.shape[1], feat_in.shape[2], feat_in.device)
    to_input = 2 - 2 * second.T @ unit_in.flatten(1)
    negative_in = _nearest_allowed(to_input, _chebyshev(cells.first, every_cell))
    negative = torch.minimum(negative_ref, negative_in)
    loss = F.relu(margin + positive - negative).mean()
    return PairLoss(loss, positive.mean(), negative.mean(), loss.new_zeros(()))


def _nearest_allowed(distances: Tensor, cells_apart: Tensor) -> Tensor:
    nearest: Tensor = (distances + _EXCLUDED * (cells_apart <= SAFE_CELLS)).min(dim=1).values
    return nearest


def _chebyshev(a: Tensor, b: Tensor) -> Tensor:
    return (a[:, None] - b[None]).abs().amax(-1)


def _all_cells(height: int, width: int, device: torch.device) -> Tensor:
    y, x = torch.meshgrid(torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], -1)


def distillation_loss(
    student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], cells: Cells, temperature: float = 0.15
) -> Tensor:
    """KL divergence from the teacher's to the student's correlations over the valid cells (paper Eq. 5-6).

    Each argument is (input features, reference features), ``(C, h, w)``. The softmax runs over the reference cells of
    a row; rows are averaged. As released, the teacher is not detached: its gradients exist and are never applied.
    """
    student_log = (_correlation(student, cells) / temperature).log_softmax(dim=1)
    teacher_probability = (_correlation(teacher, cells) / temperature).softmax(dim=1)
    return F.kl_div(student_log, teacher_probability, reduction="batchmean")


def _correlation(features: tuple[Tensor, Tensor], cells: Cells) -> Tensor:
    feat_in, feat_ref = (F.normalize(feat, dim=0) for feat in features)
    first = feat_in[:, cells.first[:, 1], cells.first[:, 0]]
    return first.T @ feat_ref[:, cells.second[:, 1], cells.second[:, 0]]


def contrastive_loss(
    student: tuple[Tensor, Tensor],
    positions: Tensor,
    *,
    teacher: tuple[Tensor, Tensor] | None = None,
    margin: float = 1.0,
    temperature: float = 0.15,
    distillation_weight: float = 15.0,
) -> PairLoss | None:
    """Mean loss over the usable pairs of a batch; None where every pair has fewer than 128 valid cells.

    student, teacher : input and reference features ``(B, C, h, w)``; positions ``(B, h, w, 2)`` as in `valid_cells`.
    Without a teacher this is the teacher's own loss; with one, the student's: triplet plus 15 times the divergence.
    """
    batch, _, height, width = student[0].shape
    losses = []
    for i in range(batch):
        cells = valid_cells(positions[i], height * CELL_PX, width * CELL_PX)
        if len(cells.first) < MIN_VALID:
            continue
        pair = triplet_loss(student[0][i], student[1][i], cells, margin)
        if teacher is not None:
            pair_of = (student[0][i], student[1][i]), (teacher[0][i], teacher[1][i])
            divergence = distillation_loss(*pair_of, cells, temperature)
            pair = pair._replace(loss=pair.loss + distillation_weight * divergence, distillation=divergence)
        losses.append(pair)
    if not losses:
        return None
    return PairLoss(*(torch.stack(values).mean() for values in zip(*losses, strict=True)))


def usable_pairs(positions: Tensor, height_px: int, width_px: int) -> int:
    """How many pairs of a batch `contrastive_loss` averages over; positions ``(B, h, w, 2)``."""
    return sum(len(valid_cells(pair, height_px, width_px).first) >= MIN_VALID for pair in positions)


def dense_loss(
    feat_in: Tensor, feat_ref: Tensor, h_hr_to_ref: Tensor, phase: Tensor, temperature: float = 0.07
) -> Tensor | None:
    """Cross-entropy of cosine similarities over *all* reference cells: learns from scratch, where hardest negatives
    collapse without ImageNet weights (not in the paper).

    feat_in, feat_ref ``(B, C, h, w)``; h_hr_to_ref ``(B, 3, 3)`` float64; phase ``(B,)`` 0-3 chooses the quarter of
    the input cells that is used, every second one in each direction. The target of a cell is the bilinear mixture of
    the four reference cells around the true place of its centre, HR pixel (4j + 1.5, 4i + 1.5), so that similarities
    tell fractions of a cell. Mean over the cells of a pair, then over pairs; None where no cell has a true place.
    """
    unit_in, unit_ref = F.normalize(feat_in, dim=1), F.normalize(feat_ref, dim=1)
    losses = []
    for features, reference, matrix, quarter in zip(unit_in, unit_ref, h_hr_to_ref, phase.tolist(), strict=True):
        top, left = divmod(quarter, 2)
        cells = _true_cells(matrix, features.shape[1:], reference.shape[1:], top, left)
        if not len(cells.inside):
            continue
        descriptors = features[:, top::2, left::2].flatten(1).T[cells.inside]
        table = reference.flatten(1)
        true = (descriptors[:, None] * table.T[cells.neighbours]).sum(-1)
        logits = descriptors @ table / temperature
        losses.append((logits.logsumexp(1) - (true * cells.weights).sum(1) / temperature).mean())
    return torch.stack(losses).mean() if losses else None


class _TrueCells(NamedTuple):
    inside: Tensor
    """Numbers of the chosen input cells whose true place lies between reference cells: ``(N,)``."""
    neighbours: Tensor
    """The four reference cells around it, row by row: ``(N, 4)``."""
    weights: Tensor
    """Their bilinear weights ``(N, 4)``."""


def _true_cells(matrix: Tensor, shape: tuple[int, ...], ref_shape: tuple[int, ...], top: int, left: int) -> _TrueCells:
    centre = (CELL_PX - 1) / 2
    y, x = (torch.arange(first, side, 2, device=matrix.device) for first, side in zip((top, left), shape, strict=True))
    grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
    points = torch.stack([CELL_PX * grid_x + centre, CELL_PX * grid_y + centre, torch.ones_like(grid_x)], -1)
    mapped = points.flatten(0, 1).to(matrix.dtype) @ matrix.T
    places = (mapped[:, :2] / mapped[:, 2:] - centre) / CELL_PX
    height, width = ref_shape
    limit = places.new_tensor([width - 1, height - 1])
    inside = ((places >= 0) & (places <= limit)).all(-1).nonzero()[:, 0]
    first = places[inside].floor()
    share = (places[inside] - first).to(torch.float32)
    neighbours, weights = [], []
    for dy in (0, 1):
        for dx in (0, 1):
            step = first.new_tensor([dx, dy])
            column, row = torch.minimum(first + step, limit).long().unbind(1)
            neighbours.append(row * width + column)
            weights.append((share if dx else 1 - share)[:, 0] * (share if dy else 1 - share)[:, 1])
    return _TrueCells(inside, torch.stack(neighbours, 1), torch.stack(weights, 1))


# --- restoration ---------------------------------------------------------------------------------------------------


def perceptual_loss(features_sr: Tensor, features_hr: Tensor, weight: float = 1e-4) -> Tensor:
    """Distance of relu5_1 features: one Frobenius norm over the *whole batch* (the paper: 1/V of a sum over channels).

    So its weight grows with the root of the batch size, as released.
    """
    distance: Tensor = torch.linalg.vector_norm(features_sr - features_hr)
    return weight * distance


def critic_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Wasserstein critic loss, to be minimised: mean(fake) - mean(real)."""
    return fake.mean() - real.mean()


def generator_loss(fake: Tensor, weight: float = 1e-6) -> Tensor:
    """Adversarial term of the generator: minus the mean of the critic's opinion."""
    return -weight * fake.mean()


def gradient_penalty(
    critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, alpha: Tensor, weight: float = 10.0
) -> Tensor:
    """WGAN-GP penalty: weight · mean((‖∇‖₂ - 1)²) at alpha·real + (1 - alpha)·fake (paper Eq. 13).

    alpha ``(B, 1, 1, 1)`` in [0, 1), one a sample. No gradient reaches ``fake``.
    """
    mixed = (alpha * real + (1 - alpha) * fake).detach().requires_grad_()
    opinion = critic(mixed)
    (gradient,) = torch.autograd.grad(opinion, mixed, torch.ones_like(opinion), create_graph=True)
    norms = gradient.flatten(1).norm(2, dim=1)
    penalty: Tensor = ((norms - 1) ** 2).mean()
    return weight * penalty
