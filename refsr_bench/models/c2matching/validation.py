"""A training run's present networks, asked to restore and to match single pictures.

Between `loop.using_results` these work with the weights that the run would be used with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refsr_bench.errors import ImageError
from refsr_bench.geometry import patch_centres
from refsr_bench.images import resize_bicubic
from refsr_bench.models.c2matching import CARD, CARD_SMALL
from refsr_bench.models.c2matching.checkpoints import State, using_results
from refsr_bench.models.c2matching.config import RestorationConfig, StageConfig, TeacherConfig
from refsr_bench.models.c2matching.exact import PATCH
from refsr_bench.models.c2matching.extractor import STRIDE
from refsr_bench.models.c2matching.inference import pad_to_common_size
from refsr_bench.models.c2matching.networks import to_device
from refsr_bench.models.c2matching.small import CellMatch, match_cells, sample_at
from refsr_bench.models.c2matching.train_restoration import Frozen, find_matches, restore_batch
from refsr_bench.models.c2matching.training_data import Examples, collate
from refsr_bench.models.tensors import to_image, to_tensor
from refsr_bench.schema import Image, Matches


class Present:
    """Restores (a restoration run) and matches (every run that has an extractor), as a model and matcher do."""

    def __init__(self, config: StageConfig, state: State, frozen: Any) -> None:
        card = CARD_SMALL if config.network == "small" else CARD
        self.card = card.model_copy(update={"sees": "hr" if isinstance(config, TeacherConfig) else "lr"})
        self.config, self.state, self.frozen = config, state, frozen
        self.restores = isinstance(config, RestorationConfig)
        self.extractor = frozen.extractor if isinstance(frozen, Frozen) else state.nets["extractor"]
        self.device = next(next(iter(state.nets.values())).parameters()).device

    def restore(self, lr: Image, refs: Sequence[Image]) -> NDArray[np.float32]:
        """Super-resolve ``lr`` (H, W, 3) to float32 ``(4H, 4W, 3)`` with the first reference."""
        assert isinstance(self.config, RestorationConfig)
        height, width = lr.shape[:2]
        lr, ref = pad_to_common_size(lr, refs[0])
        lr_up = resize_bicubic(lr, STRIDE * lr.shape[0], STRIDE * lr.shape[1])
        batch: dict[str, Tensor] = {
            name: to_tensor(image, self.device) for name, image in (("lr", lr), ("lr_up", lr_up), ("ref", ref))
        }
        match = find_matches(self.config, self.frozen, batch)
        sr = restore_batch(self.config, self.state.nets, self.frozen, batch, match)
        return to_image(sr)[: STRIDE * height, : STRIDE * width]

    def match(self, lr_up: Image, ref: Image, **given: Any) -> Matches:
        """Match every patch of ``lr_up`` (of the HR picture in a teacher's run), to fractions of a cell."""
        assert self.extractor is not None
        features = self.extractor(to_tensor(lr_up, self.device), to_tensor(ref, self.device))
        found = match_cells(*features)
        inner = slice(PATCH // 2, -(PATCH // 2))
        nodes = patch_centres(*lr_up.shape[:2])
        flow = found.flow[0, inner, inner].reshape(-1, 2).cpu().numpy().astype(np.float64)
        return Matches(
            nodes, nodes + flow, found.score[0, 0, inner, inner].reshape(-1).cpu().numpy().astype(np.float64)
        )


@torch.no_grad()
def draw_pictures(
    writer: Any, config: StageConfig, state: State, frozen: Any, examples: Examples, count: int = 4
) -> None:
    """Put pictures of the first examples into TensorBoard, side by side: LR, reference, SR, HR, match error.

    The match error of a cell is how much the reference's colours at its match differ from the HR picture's, times 4.
    """
    device = next(next(iter(state.nets.values())).parameters()).device
    with using_results(state):
        for number in range(count):
            collated = collate([examples[number]])
            if isinstance(collated, ImageError):
                raise collated
            batch = to_device(collated, device)
            writer.add_image(f"example {number}", _side_by_side(config, state, frozen, batch).cpu(), state.step)


def _side_by_side(config: StageConfig, state: State, frozen: Any, batch: dict[str, Tensor]) -> Tensor:
    panels = [batch["lr_up"], batch["ref"]]
    match = None
    if isinstance(config, RestorationConfig):
        found = find_matches(config, frozen, batch)
        panels.append(restore_batch(config, state.nets, frozen, batch, found).float().clamp(0, 1))
        match = found if isinstance(found, CellMatch) else None
    else:
        match = match_cells(*state.nets["extractor"](batch["lr_up"], batch["ref"]))
    panels.append(batch["hr"])
    if match is not None:
        flow = match.flow.repeat_interleave(STRIDE, 1).repeat_interleave(STRIDE, 2)
        panels.append((4 * (sample_at(batch["ref"].contiguous(), flow) - batch["hr"]).abs()).clamp(0, 1))
    return torch.cat(panels, 3)[0]
