"""VGG-19 (Simonyan & Zisserman 2015) as a source of features, cut off after the last layer that is asked for.

Two sets of weights are in circulation and they are not interchangeable. A weight file's key names say which it holds:

=================  ==============================  ===================================================
convention         keys                            what the network is fed
=================  ==============================  ===================================================
``torchvision``    ``features.N.weight|bias``      RGB in [0, 1], minus the ImageNet mean, over its deviation
``caffe-bgr``      ``convN_M.weight|bias``         BGR, 0-255, minus (103.939, 116.779, 123.68)
=================  ==============================  ===================================================
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from refsr_bench.errors import IntegrityError
from refsr_bench.models.weights import load_into, require_match

Convention = Literal["torchvision", "caffe-bgr"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)

BLOCKS = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))
"""Channels and number of convolutions of each block of VGG-19; VGG-16 is the same up to conv3_3."""

REFERENCE_LAYERS = ("relu1_1", "relu2_1", "relu3_1")
"""The layers whose features reference-based methods copy from: full, half and quarter size."""


def vgg_layers(last: str) -> dict[str, nn.Module]:
    """Fresh layers of VGG-19 by name, from conv1_1 to ``last`` inclusive.

    >>> list(vgg_layers("pool1"))
    ['conv1_1', 'relu1_1', 'conv1_2', 'relu1_2', 'pool1']
    """
    layers: dict[str, nn.Module] = {}
    for name, layer in _all_layers():
        layers[name] = layer
        if name == last:
            return layers
    raise ValueError(f"VGG-19 has no layer {last!r}")


def _all_layers() -> Iterator[tuple[str, nn.Module]]:
    channels_in = 3
    for block, (channels, convolutions) in enumerate(BLOCKS, start=1):
        for i in range(1, convolutions + 1):
            yield f"conv{block}_{i}", nn.Conv2d(channels_in, channels, 3, padding=1)
            yield f"relu{block}_{i}", nn.ReLU(inplace=True)
            channels_in = channels
        yield f"pool{block}", nn.MaxPool2d(2)


def channel_buffer(values: tuple[float, ...]) -> Tensor:
    """One number a channel, shaped ``(1, C, 1, 1)`` to broadcast over images."""
    return torch.tensor(values).view(1, -1, 1, 1)


class VGG19(nn.Module):
    """Features of RGB images ``(B, 3, H, W)`` in [0, 1] after the named ReLUs, as a dict by layer name.

    Pools floor: relu2_1 of an odd-sized image is ``(H // 2, W // 2)``. State keys are torchvision's.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, relus: tuple[str, ...] = REFERENCE_LAYERS, convention: Convention = "torchvision") -> None:
        super().__init__()
        self.relus = relus
        self.last = max(relus)  # "relu3_1" > "relu2_1": the names sort by depth
        self.convention = convention
        named = vgg_layers(self.last)
        self.names = tuple(named)
        self.features = nn.Sequential(*named.values())
        caffe = convention == "caffe-bgr"
        # Not persistent: no checkpoint of VGG-19 holds these two.
        self.register_buffer("mean", channel_buffer(CAFFE_MEAN_BGR if caffe else IMAGENET_MEAN), persistent=False)
        self.register_buffer("std", channel_buffer((1.0, 1.0, 1.0) if caffe else IMAGENET_STD), persistent=False)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Compute the features of RGB images in [0, 1]."""
        if self.convention == "caffe-bgr":
            image = image.flip(1) * 255
        x = (image - self.mean) / self.std
        found: dict[str, Tensor] = {}
        for name, layer in zip(self.names, self.features, strict=True):
            x = layer(x)
            if name in self.relus:
                found[name] = x
        return found


def vgg_convention(state: Mapping[str, Tensor], source: str) -> Convention:
    """Tell which convention a VGG-19 checkpoint follows, from its key names alone; IntegrityError if unclear."""
    torchvision = any(key.startswith("features.") for key in state)
    caffe = any(re.match(r"conv\d+_\d+\.", key) for key in state)
    if torchvision == caffe:
        expected = "expected keys features.N.weight (torchvision) or convN_M.weight (caffe-bgr)"
        raise IntegrityError(f"{source} is not a VGG-19 checkpoint", expected)
    return "torchvision" if torchvision else "caffe-bgr"


def check_vgg19(state: Mapping[str, Tensor], source: str, last: str = "relu3_1") -> dict[str, Tensor]:
    """Keep the convolutions of a VGG-19 checkpoint, under their own names; the classifier is dropped.

    None up to ``last`` may be missing, and every one must be VGG-19's (a VGG-16 or batch-norm file is refused):
    otherwise IntegrityError.
    """
    caffe = vgg_convention(state, source) == "caffe-bgr"
    found = {key: value for key, value in state.items() if not key.startswith("classifier.")}
    known, needed = _expected("pool5", caffe), _expected(last, caffe)
    require_match({key: value for key, value in known.items() if key in needed or key in found}, found, source)
    return found


def load_vgg19(state: Mapping[str, Tensor], source: str, relus: tuple[str, ...] = REFERENCE_LAYERS) -> VGG19:
    """Build the frozen network that ``relus`` need, from a checkpoint in either convention."""
    net = VGG19(relus, vgg_convention(state, source))
    kept = check_vgg19(state, source, net.last)
    wanted = net.state_dict().keys()
    numbers = {name: f"features.{i}" for i, name in enumerate(net.names)}

    def torchvision_key(key: str) -> str | None:
        layer, _, leaf = key.rpartition(".")
        renamed = f"{numbers.get(layer, layer)}.{leaf}"
        return renamed if renamed in wanted else None

    load_into(net, kept, source, torchvision_key)
    return net.eval().requires_grad_(False)


def _expected(last: str, caffe: bool) -> dict[str, Tensor]:
    """Key names and (memory-less) tensors of a checkpoint that reaches up to ``last``."""
    with torch.device("meta"):
        layers = vgg_layers(last)
    return {
        f"{name if caffe else f'features.{i}'}.{leaf}": tensor
        for i, (name, layer) in enumerate(layers.items())
        for leaf, tensor in layer.state_dict().items()
    }


def imagenet_state(net: VGG19) -> dict[str, Tensor]:
    """The convolutions of a network in either convention, as if for RGB in [0, 1] normalised by ImageNet's numbers.

    Keys as `VGG19`'s. Only at the zero padding of the picture's border do the features of the two conventions differ.
    """
    state = {key: value.clone() for key, value in net.state_dict().items()}
    if net.convention == "torchvision":
        return state
    first, deviation, mean = (
        state["features.0.weight"].flip(1),
        channel_buffer(IMAGENET_STD),
        channel_buffer(IMAGENET_MEAN),
    )
    offset = 255 * mean - channel_buffer(CAFFE_MEAN_BGR).flip(1)
    state["features.0.bias"] += (first * offset).sum((1, 2, 3))
    state["features.0.weight"] = first * 255 * deviation
    return state
