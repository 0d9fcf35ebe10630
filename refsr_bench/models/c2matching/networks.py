"""The networks of a training run: built from its configuration, started from weights, written for use."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from torch import Tensor, nn

from refsr_bench.errors import UsageError
from refsr_bench.models.c2matching import roles
from refsr_bench.models.c2matching.config import RESULTS, RestorationConfig, StageConfig
from refsr_bench.models.c2matching.extractor import Extractor
from refsr_bench.models.c2matching.restoration import LIGHT, PAPER, Restoration
from refsr_bench.models.c2matching.small import SmallConfig, SmallExtractor, SmallRestoration
from refsr_bench.models.vgg import VGG19, load_vgg19
from refsr_bench.models.weights import load_checkpoint, load_into


def build_extractor(config: StageConfig, weights: str | None) -> nn.Module:
    """A fresh extractor of the run's size, or one with the weights of a run folder or file."""
    net = SmallExtractor() if config.network == "small" else Extractor()
    if weights is not None:
        path = find_weights(weights, "extractor")
        load_into(net, load_checkpoint(path), str(path))
    return channels_last(net)


def build_restoration(config: RestorationConfig) -> nn.Module:
    """A fresh restoration network of the run's size, or one with the weights the configuration names."""
    net: nn.Module
    if config.network == "small":
        net = SmallRestoration(SmallConfig(dynagg=config.dynagg))
    else:
        net = Restoration((LIGHT if config.network == "light" else PAPER)._replace(dyn_agg=config.dynagg))
    if config.weights is not None:
        path = find_weights(config.weights, "restoration")
        state = load_checkpoint(path)
        if config.network == "small" and not config.dynagg:
            state = {key: value for key, value in state.items() if not key.startswith("offset_")}
        load_into(net, state, str(path))
    return channels_last(net)


def build_encoder(config: RestorationConfig) -> VGG19:
    """The paper network's source of reference features: VGG-19, frozen, or the same layers to be learned."""
    if config.reference_encoder == "vgg19":
        return load_vgg(config)
    net = VGG19()
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]
    return net


def load_vgg(config: RestorationConfig, relus: tuple[str, ...] = ("relu1_1", "relu2_1", "relu3_1")) -> VGG19:
    """Frozen VGG-19 from the file the configuration names, or the imported one.

    A ``.npz`` of ``<layer>.q`` (uint8) and ``<layer>.scale_min`` is understood too: weight = q · scale + minimum.
    """
    if config.vgg19 is None:
        loaded = roles.load_roles(("vgg19",), None)["vgg19"]
        return load_vgg19(loaded.state, loaded.source, relus)
    path = Path(config.vgg19).expanduser()
    return load_vgg19(_unpacked(load_checkpoint(path)), str(path), relus)


def _unpacked(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Undo the 8-bit packing of a checkpoint, entry by entry; others pass through."""
    unpacked: dict[str, Tensor] = {}
    for key, value in state.items():
        name, _, kind = key.rpartition(".")
        if kind == "q":
            scale, minimum = state[f"{name}.scale_min"].to(torch.float32)
            unpacked[name] = value.to(torch.float32) * scale + minimum
        elif kind != "scale_min":
            unpacked[key] = value
    return unpacked


def find_weights(place: str, name: str) -> Path:
    """The weight file of a network in a run folder (or the file itself); UsageError if there is none."""
    path = Path(place).expanduser()
    candidates = (path, path / RESULTS / f"{name}.safetensors", path / f"{name}.safetensors")
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise UsageError(f"{place} holds no finished {name} weights", f"looked for {candidates[1]} and {candidates[2]}")


def channels_last(net: nn.Module) -> nn.Module:
    """Lay the weights out so that convolutions take their quicker path, on CPUs by about a sixth."""
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return net


def to_device(batch: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Move a batch; pictures ``(B, H, W, 3)`` become float32 ``(B, 3, H, W)`` in [0, 1], channels last in memory."""
    moved = {}
    for key, value in batch.items():
        value = value.to(device, non_blocking=True)
        if value.ndim == 4:
            value = value.permute(0, 3, 1, 2)
            value = value.to(torch.float32) / 255 if value.dtype == torch.uint8 else value.to(torch.float32)
            value = value.contiguous(memory_format=torch.channels_last)
        moved[key] = value
    return moved


def autocast(config: StageConfig, device: torch.device) -> AbstractContextManager[object]:
    """Forward passes in bfloat16 where the configuration says so; losses that need float32 return to it."""
    return torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16")
