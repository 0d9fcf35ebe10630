"""Batch-wide terms over several processes: gathered features and a batch norm that sees every process's pairs.

torch's own synchronised batch norm runs on GPUs only, and its gradient cannot be differentiated once more, which the
gradient penalty needs; this one is made of a differentiable sum.
"""

from __future__ import annotations

import torch
import torch.distributed
import torch.distributed.nn
from torch import Tensor, nn

from refsr_bench.models.c2matching.loop import Place


def gather(values: Tensor, place: Place) -> Tensor:
    """The batch ``(world * B, ...)`` of all processes; gradients reach each process's own part."""
    if place.world == 1:
        return values
    parts = torch.distributed.nn.functional.all_gather(values)  # type: ignore[no-untyped-call]
    gathered: Tensor = torch.cat(list(parts))
    return gathered


class BatchNormOfAll(nn.BatchNorm2d):
    """Batch norm whose statistics, while training, are those of all processes together."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``(B, C, H, W)``."""
        if not self.training or not torch.distributed.is_initialized():
            return super().forward(x)
        world = torch.distributed.get_world_size()
        local = torch.stack([x.mean((0, 2, 3)), x.square().mean((0, 2, 3))])
        mean, square = (torch.distributed.nn.functional.all_reduce(local) / world).unbind()  # type: ignore[no-untyped-call]
        variance = square - mean.square()
        with torch.no_grad():
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.num_batches_tracked is not None
            count = x.numel() / x.shape[1] * world
            momentum = self.momentum if self.momentum is not None else 0.1
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(variance * count / (count - 1), momentum)
            self.num_batches_tracked += 1
        normal = (x - mean.view(1, -1, 1, 1)) * (variance + self.eps).rsqrt().view(1, -1, 1, 1)
        scaled: Tensor = normal * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)
        return scaled


def synchronise_batch_norm(net: nn.Module) -> nn.Module:
    """Replace every batch norm of a network, in place, by one over all processes; the state keys stay."""
    for name, child in net.named_children():
        if isinstance(child, nn.BatchNorm2d):
            replacement = BatchNormOfAll(child.num_features, child.eps, child.momentum)
            replacement.load_state_dict(child.state_dict())
            setattr(net, name, replacement)
        else:
            synchronise_batch_norm(child)
    return net
