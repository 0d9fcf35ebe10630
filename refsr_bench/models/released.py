"""Released checkpoints to the key names of our networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn

Reader = Callable[[Mapping[str, Tensor], nn.Module], dict[str, Tensor]]
"""Turns a checkpoint as published into the network's own keys, without judging what is missing or too much."""


def released_keys(
    prefix: str = "",
    rename: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] = dict,
    drop: tuple[str, ...] = (),
    ordered: bool = False,
) -> Reader:
    """Make a reader: drop keys that begin so, strip a prefix, rename; ``ordered`` reads lists of arrays by position."""

    def read(state: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
        if ordered and all(key.removeprefix("arr_").isdecimal() for key in state):
            return from_list(state, network)
        stripped = {key.removeprefix(prefix): value for key, value in state.items() if not key.startswith(drop or "\0")}
        return _with_counters(rename(stripped), network)

    return read


def _with_counters(state: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    # Older frameworks do not count the batches that a normalisation has seen; nothing depends on it.
    counters = {key: torch.tensor(0) for key in network.state_dict() if key.endswith("num_batches_tracked")}
    return {**{key: value for key, value in counters.items() if key not in state}, **state}


def from_list(state: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Name the arrays of a TensorFlow list, in the order in which the network applies its layers.

    The list is TensorLayer's (keys "0000", "0001", …) or ``numpy.savez``'s ("arr_0", "arr_1", …). TensorFlow stores
    convolutions as (height, width, in, out); a normalisation as beta, gamma, mean, variance; and the channels before a
    pixel shuffle with the position within the enlarged pixel first, where torch has it last.
    """
    arrays = [state[key] for key in sorted(state, key=lambda key: int(key.removeprefix("arr_")))]
    names = _names_in_order(network)
    shuffled = _shuffled(network)
    found = {f"array {i}": array for i, array in enumerate(arrays[len(names) :], start=len(names))}
    for name, array in zip(names, arrays, strict=False):
        ours = array.permute(3, 2, 0, 1).contiguous() if array.ndim == 4 else array
        factor = shuffled.get(name.rpartition(".")[0])
        if factor is not None and ours.shape[0] % factor**2 == 0:
            ours = ours.view(factor**2, -1, *ours.shape[1:]).transpose(0, 1).reshape(ours.shape)
        found[name] = ours
    return _with_counters(found, network)


def _names_in_order(network: nn.Module) -> list[str]:
    names: list[str] = []
    for name, module in network.named_modules():
        own = dict(module.named_parameters(recurse=False)) | dict(module.named_buffers(recurse=False))
        order = ("bias", "weight", "running_mean", "running_var")
        leaves = order if isinstance(module, nn.BatchNorm2d) else ("weight", "bias")
        names += [f"{name}.{leaf}" for leaf in leaves if own.get(leaf) is not None]
    return names


def _shuffled(network: nn.Module) -> dict[str, int]:
    """Convolutions that a pixel shuffle follows, by name, and its factor."""
    modules = [(name, module) for name, module in network.named_modules() if not list(module.children())]
    pairs = pairwise(modules)
    return {name: after.upscale_factor for (name, _), (_, after) in pairs if isinstance(after, nn.PixelShuffle)}
