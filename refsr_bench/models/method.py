"""How a network of the zoo becomes a model: its weights found and checked, pictures brought to it and back."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from refsr_bench import store
from refsr_bench.errors import ManualStepNeeded, UsageError, did_you_mean
from refsr_bench.models import zoo
from refsr_bench.models.c2matching.extractor import Extractor
from refsr_bench.models.c2matching.roles import OFFICIAL_NAMES, load_roles
from refsr_bench.models.tensors import select_device, to_image, to_tensor
from refsr_bench.models.vgg import VGG19, load_vgg19
from refsr_bench.models.weights import Identified, check_imported, load_checkpoint, load_into, require_match
from refsr_bench.schema import Image, ModelCard

SCALE = 4

Reader = Callable[[Mapping[str, Tensor], nn.Module], dict[str, Tensor]]
"""Turns a checkpoint as published into the network's own keys, without judging what is missing or too much."""


class Parts(NamedTuple):
    """What a model of the zoo runs: its own network and the frozen ones it borrows."""

    network: nn.Module
    device: torch.device
    extractor: Extractor | None = None
    vgg: VGG19 | None = None


class Method(NamedTuple):
    """One method: its network, how its published weights are read, and how pictures are fed to it."""

    network: Callable[[], nn.Module]
    read: Reader
    convention: str
    input_scale: float = 1.0
    signed: bool = False
    """Inputs and outputs in [-1, 1] instead of [0, 1]."""
    run: Callable[[Parts, Image, Sequence[Image]], Tensor] | None = None
    """Restores uint8 pictures to ``(1, 3, 4h, 4w)``; None for a single-image network."""
    multiple: int = 1
    """LR sides are padded to a multiple of this, and references to four times that."""
    minimum: int = 1
    """Smallest LR side; smaller pictures are padded."""
    roles: tuple[str, ...] = ("network",)
    """Weight files of its own; with several, each fills the submodule of its name."""
    borrowed: tuple[str, ...] = ()
    """Frozen networks it needs besides: "extractor", "vgg19"."""


# --- reading -----------------------------------------------------------------------------------------------------


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


# --- recognising -------------------------------------------------------------------------------------------------


def find_method(name: str) -> Method:
    """The method of a model of the zoo."""
    method: Method = importlib.import_module(zoo.HOMES[name]).METHODS[name]
    return method


def part_of(network: nn.Module, method: Method, role: str) -> nn.Module:
    """The module that a weight file of this role fills."""
    return network if method.roles == ("network",) else network.get_submodule(role)


def identify(name: str, state: Mapping[str, Tensor], path: Path, role: str | None = None) -> Identified:
    """Check a checkpoint against the network called ``name``, key by key, and return it under the network's keys.

    IntegrityError lists what is missing, unexpected or mis-shaped. UsageError: a role this model does not have.
    """
    method = find_method(name)
    if role is not None and role not in method.roles:
        raise UsageError(f"{name} has no weights with the role {role!r}", did_you_mean(role, method.roles))
    with torch.device("meta"):
        network = method.network()
    roles = (role,) if role is not None else method.roles
    candidates = [(each, method.read(state, part_of(network, method, each))) for each in roles]
    # With several roles, the one that agrees in most keys and shapes is meant.
    best, ours = max(candidates, key=lambda c: _agreement(part_of(network, method, c[0]), c[1]))
    require_match(part_of(network, method, best).state_dict(), ours, str(path))
    card = zoo.CARDS[name]
    return Identified(best, card.title, card.weights_licence, method.convention, ours)


def forward_checksum(name: str, state: Mapping[str, Tensor]) -> dict[str, float]:
    """Run a network on a fixed picture, with random numbers in what it borrows, and describe the output.

    Equal weights give equal numbers to about four digits on any machine.
    """
    method = find_method(name)
    parts = _random_parts(method, torch.device("cpu"))
    load_into(parts.network, state, name)
    y, x = np.mgrid[:80, :80]
    ref = np.stack([x * 3 % 256, y * 3 % 256, (x * y) % 256], axis=-1).astype(np.uint8)
    sr = ZooModel(zoo.CARDS[name], method, parts).restore(ref[2::4, 2::4].copy(), [ref])
    wide = sr.astype(np.float64)  # an untrained network's output may be too large to be squared
    return {"mean": float(wide.mean()), "deviation": float(wide.std()), "sample_40_40_green": float(wide[40, 40, 1])}


def _agreement(module: nn.Module, state: Mapping[str, Tensor]) -> int:
    expected = module.state_dict()
    return sum(key in state and state[key].shape == value.shape for key, value in expected.items())


# --- making ------------------------------------------------------------------------------------------------------


def load_model(name: str, weights: str | Path | None, device: str, untrained: bool | str) -> ZooModel:
    """Make a model of the zoo from its weights, or with random numbers in them (``untrained``).

    weights : a folder with the imported files, or one weight file as published; without it the model folder is
    searched. ManualStepNeeded: no weights; the remedy is the command that imports them.
    """
    target = select_device(device)
    method, card = find_method(name), zoo.CARDS[name]
    if str(untrained).lower() not in {"yes", "no", "true", "false"}:
        raise UsageError(f"untrained={untrained} is neither yes nor no", "write untrained=yes or untrained=no")
    if str(untrained).lower() in {"yes", "true"}:
        card = card.model_copy(update={"name": f"{name}-untrained", "trained_on": "nothing: random numbers"})
        return ZooModel(card, method, _random_parts(method, target))
    network, hashes = method.network(), {}
    for role, path in _find_own(name, method, weights).items():
        imported = path.with_suffix(".json").is_file() and path.suffix == ".safetensors"
        hashes[role] = check_imported(path).source_sha256 if imported else store.sha256_file(path)
        state = load_checkpoint(path)
        own = state if imported else identify(name, state, path, role).state
        load_into(part_of(network, method, role), own, str(path))
    parts = Parts(network, target)
    if method.borrowed:
        loaded = load_roles(method.borrowed, _folder_of_borrowed(name, method, weights))
        hashes |= {role: part.sha256 for role, part in loaded.items()}
        if "vgg19" in loaded:
            parts = parts._replace(vgg=load_vgg19(loaded["vgg19"].state, loaded["vgg19"].source))
        if "extractor" in loaded:
            extractor = Extractor()
            load_into(extractor, loaded["extractor"].state, loaded["extractor"].source)
            parts = parts._replace(extractor=extractor)
    return ZooModel(card.model_copy(update={"weights_sha256": hashes}), method, parts)


def _random_parts(method: Method, device: torch.device) -> Parts:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Parts(
            method.network(),
            device,
            Extractor() if "extractor" in method.borrowed else None,
            VGG19() if "vgg19" in method.borrowed else None,
        )


def _find_own(name: str, method: Method, weights: str | Path | None) -> dict[str, Path]:
    where = Path(weights).expanduser() if weights is not None else store.model_dir() / name
    if where.is_file():
        if len(method.roles) > 1:
            raise UsageError(f"{name} needs several weight files: {', '.join(method.roles)}", "give their folder")
        return {method.roles[0]: where}
    official = dict(zip(method.roles, zoo.CARDS[name].checkpoint, strict=False))
    found: dict[str, Path] = {}
    for role in method.roles:
        names = [f"{role}.safetensors", *([official[role]] if role in official else [])]
        path = next((where / each for each in names if (where / each).is_file()), None)
        if path is None:
            raise ManualStepNeeded(
                f"{name} needs weights that are not in {where}: {role}", zoo.how_to_get(zoo.CARDS[name])
            )
        found[role] = path
    return found


def _folder_of_borrowed(name: str, method: Method, weights: str | Path | None) -> Path | None:
    where = Path(weights).expanduser() if weights is not None else store.model_dir() / name
    own = all(
        any((where / f).is_file() for f in (f"{role}.safetensors", *OFFICIAL_NAMES[role])) for role in method.borrowed
    )
    return where if own else None


# --- running -----------------------------------------------------------------------------------------------------


class ZooModel:
    """A network of the zoo, ready to restore."""

    def __init__(self, card: ModelCard, method: Method, parts: Parts) -> None:
        self.card = card
        self.method = method
        for part in (parts.network, parts.extractor, parts.vgg):
            if part is not None:
                part.eval().requires_grad_(False).to(parts.device)
        self.parts = parts

    def restore(self, lr: NDArray[np.uint8], refs: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Super-resolve ``lr`` (H, W, 3) to float32 ``(4H, 4W, 3)``, not clamped.

        Sides that the network cannot take are padded by repeating the last row and column, and cut off again.
        UsageError: no reference for a model that needs one.
        """
        if self.card.uses_reference and not refs:
            raise UsageError(f"{self.card.name} needs a reference image", "choose a reference rule that gives one")
        height, width = lr.shape[:2]
        method = self.method
        run = method.run or partial(_run_single, method)
        padded = pad_to_multiple(lr, method.multiple, method.minimum)
        step, least = SCALE * method.multiple, SCALE * method.minimum
        fitted = [pad_to_multiple(ref, step, least) for ref in refs] if self.card.uses_reference else []
        # TF32 convolutions would change which match wins; cuDNN's choice of algorithm must not vary between runs.
        with (
            torch.inference_mode(),
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
        ):
            sr = run(self.parts, padded, fitted)
        return to_image(sr[:, :, : SCALE * height, : SCALE * width])


def pad_to_multiple(image: Image, multiple: int, minimum: int = 1) -> Image:
    """Repeat the last row and column until both sides are a multiple of ``multiple``, at least ``minimum``.

    >>> pad_to_multiple(np.zeros((5, 9, 3), np.uint8), 8).shape
    (8, 16, 3)
    """
    down, right = (-(-max(n, minimum) // multiple) * multiple - n for n in image.shape[:2])
    return np.pad(image, ((0, down), (0, right), (0, 0)), mode="edge") if down or right else image


def _run_single(method: Method, parts: Parts, lr: Image, refs: Sequence[Image]) -> Tensor:
    x = to_tensor(lr, parts.device)
    x = x * 2 - 1 if method.signed else x * method.input_scale
    sr: Tensor = parts.network(x)
    return (sr + 1) / 2 if method.signed else sr / method.input_scale
