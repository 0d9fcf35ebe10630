"""Optimisers of the restoration stage with the release's learning-rate groups."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim import Adam

OFFSET_RATES = {"small": 1e-6, "medium": 1e-5, "large": 1e-4}


def parameter_groups(restoration: nn.Module, learning_rate: float = 1e-4) -> list[dict[str, Any]]:
    """Adam groups in the release's order: everything else, then the large, small and medium offset layers.

    A parameter belongs to an offset group if its name contains "offset"; the deformable weights themselves do not.
    The rates of the offset groups are the release's 1e-4, 1e-6 and 1e-5, scaled with ``learning_rate`` / 1e-4.
    """
    named = list(restoration.named_parameters())

    def chosen(level: str | None) -> list[nn.Parameter]:
        return [p for name, p in named if (level in name if level else True) and ("offset" in name) == bool(level)]

    factor = learning_rate / 1e-4
    groups = [{"params": chosen(None), "lr": learning_rate}]
    groups += [{"params": chosen(level), "lr": OFFSET_RATES[level] * factor} for level in ("large", "small", "medium")]
    return [group for group in groups if group["params"]]  # C2-Matching-light has no small level


def make_generator_optimiser(restoration: nn.Module, learning_rate: float = 1e-4) -> Adam:
    """Adam (0.9, 0.999) over `parameter_groups`; as released no schedule is ever attached to it."""
    return Adam(parameter_groups(restoration, learning_rate), betas=(0.9, 0.999))
