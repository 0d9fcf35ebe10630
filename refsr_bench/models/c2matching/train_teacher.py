"""Stage 1 of C2-Matching: the teacher learns to match two full-resolution pictures (paper section 3.2).

The loss is the paper's triplet margin, or a dense cross-entropy that needs no ImageNet weights to start from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Adam

from refsr_bench.models.c2matching.checkpoints import State
from refsr_bench.models.c2matching.config import ContrastiveConfig, TeacherConfig
from refsr_bench.models.c2matching.loop import Journal, apply_gradients, average, noting_signals, rate_at
from refsr_bench.models.c2matching.losses import contrastive_loss, dense_loss, usable_pairs
from refsr_bench.models.c2matching.networks import autocast, to_device
from refsr_bench.models.c2matching.pairs import true_positions
from refsr_bench.models.c2matching.training_data import Examples, load_batches

Features = tuple[Tensor, Tensor]


def teacher_state(config: TeacherConfig, net: nn.Module) -> State:
    """The network and its optimiser: Adam with the default betas, as released."""
    optimiser = Adam(net.parameters(), lr=config.learning_rate)
    return State({"extractor": net}, {"extractor": optimiser})


def train_teacher(config: TeacherConfig, examples: Examples, state: State, journal: Journal) -> None:
    """Train until ``config.iterations``; everything that lasts is in the journal's run folder.

    The released data make pairs by the homographies of `pairs.draw_homography`; pairs with fewer than 128 valid
    cells are left out, and a step whose pairs are all left out moves nothing.
    """
    place, net = journal.place, state.nets["extractor"]
    batches = load_batches(examples, state.step, place.rank, place.world)
    with noting_signals(journal):
        while state.step < config.iterations:
            net.zero_grad()
            parts = []
            for _ in range(config.accumulate):
                with journal.phase("data"):
                    batch = to_device(next(batches), place.device)
                with journal.phase("forward"), autocast(config, place.device):
                    features = net(batch["hr"], batch["ref"])
                    part = pair_losses(features, batch, config)
                with journal.phase("backward"):
                    parts.append(backward(part))
            with journal.phase("step"):
                rate = rate_at(state.step, config, config.schedule, config.decay_at)
                pairs = sum(part.pairs for part in parts)
                norm = apply_gradients(state, "extractor", pairs, config, place, learning_rate=rate)
            journal.after_step({**mean_losses(parts, journal), "gradient_norm": norm, "learning_rate": rate})


# --- shared with the student ---------------------------------------------------------------------------------------


class Losses(NamedTuple):
    """Mean losses over the usable pairs of a batch by name, ``loss`` among them, and how many pairs that were."""

    values: Mapping[str, Tensor]
    pairs: int


def pair_losses(
    features: Features,
    batch: Mapping[str, Tensor],
    config: ContrastiveConfig,
    teacher: Features | None = None,
    temperature: float = 0.15,
    distillation_weight: float = 15.0,
) -> Losses:
    """The configured loss of a batch, with the distillation term where a teacher's features are given."""
    features = (features[0].float(), features[1].float())
    batch_size, _, height, width = features[0].shape
    positions = torch.stack([_positions(matrix, height, width) for matrix in batch["h_hr_to_ref"]])
    pairs = usable_pairs(positions, 4 * height, 4 * width)
    values: dict[str, Tensor] = {}
    if config.contrastive_loss == "triplet" or teacher is not None:
        found = contrastive_loss(
            features,
            positions,
            teacher=teacher,
            margin=config.margin,
            temperature=temperature,
            distillation_weight=distillation_weight,
        )
        if found is not None:
            values = {key: value for key, value in found._asdict().items() if key != "distillation" or teacher}
    if config.contrastive_loss == "dense":
        dense = dense_loss(*features, batch["h_hr_to_ref"], batch["phase"], config.dense_temperature)
        pairs = batch_size if dense is not None else 0
        if dense is not None:
            distillation = values.get("distillation")
            values = {"loss": dense}
            if distillation is not None:
                values = {"loss": dense + distillation_weight * distillation, "distillation": distillation}
    return Losses(values, pairs if values else 0)


def _positions(matrix: Tensor, height: int, width: int) -> Tensor:
    return torch.from_numpy(true_positions(matrix.cpu().numpy(), 4 * height, 4 * width)).to(matrix.device)


def backward(losses: Losses) -> Losses:
    """Add the gradients of the *sum* over the pairs, which processes and passes can be added up from."""
    if losses.pairs:
        torch.autograd.backward(losses.values["loss"] * losses.pairs)
    return Losses({key: value.detach() for key, value in losses.values.items()}, losses.pairs)


def mean_losses(parts: Sequence[Losses], journal: Journal) -> dict[str, float]:
    """Means over all pairs of a step, of every process; a step without usable pairs has none."""
    names = ("loss", "positive", "negative", "distillation")
    sums = torch.zeros(len(names) + 1)
    for part in parts:
        sums[-1] += part.pairs
        for number, name in enumerate(names):
            if name in part.values:
                sums[number] += part.pairs * part.values[name].float().cpu()
    sums = average(sums.to(journal.place.device), journal.place).cpu()
    present = [name for name in names if any(name in part.values for part in parts)]
    return {name: float(sums[names.index(name)] / sums[-1]) for name in present} if sums[-1] else {}
