"""How a network of the zoo becomes a model: its weights found and checked, pictures brought to it and back."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from refsr_bench import disk, store
from refsr_bench.errors import ManualStepNeeded, UsageError, did_you_mean
from refsr_bench.images import resize_bicubic
from refsr_bench.models import zoo
from refsr_bench.models.c2matching.extractor import Extractor
from refsr_bench.models.c2matching.roles import OFFICIAL_NAMES, load_roles
from refsr_bench.models.released import Reader
from refsr_bench.models.tensors import select_device, to_image, to_tensor
from refsr_bench.models.vgg import VGG19, load_vgg19
from refsr_bench.models.weights import Identified, check_imported, load_checkpoint, load_into, require_match
from refsr_bench.schema import Image, ModelCard

SCALE = 4

TRAINED = "trained.json"
"""Lies beside the weights that ``train`` wrote: model, sizes, steps, pictures."""


class Parts(NamedTuple):
    """What a model of the zoo runs: its own network and the frozen ones it borrows."""

    network: nn.Module
    device: torch.device
    extractor: Extractor | None = None
    vgg: VGG19 | None = None
    guess: nn.Module | None = None
    """MDSR, for methods whose released path takes another network's SR picture; None: bicubic stands in."""


class Method(NamedTuple):
    """One method: its network, how its published weights are read, and how pictures are fed to it."""

    network: Callable[..., nn.Module]
    """Keyword arguments, where it takes any, make it smaller than released."""
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
    tile_margin_px: int | None = None
    """LR px around a tile that its result depends on; None: on the whole picture, or nobody measured it."""
    start: Callable[[nn.Module, VGG19], None] | None = None
    """Brings a new network to where its training begins: some have VGG-19 inside."""
    takes_guess: bool = False
    """Whether the released path is fed MDSR's SR picture (`first_guess`)."""


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
    # With several roles, the one of whose keys and shapes the largest share is there is meant.
    best, ours = max(candidates, key=lambda c: _agreement(part_of(network, method, c[0]), c[1]))
    require_match(part_of(network, method, best).state_dict(), ours, str(path))
    card = zoo.CARDS[name]
    return Identified(best, card.title, card.weights_licence, method.convention, ours)


def forward_checksum(name: str, state: Mapping[str, Tensor]) -> dict[str, float]:
    """Run a network on a fixed picture, with random numbers in what it borrows, and describe the output.

    Equal weights give equal numbers to about four digits on any machine.
    """
    method = find_method(name)
    parts = random_parts(method, torch.device("cpu"))
    load_into(parts.network, state, name)
    y, x = np.mgrid[:80, :80]
    ref = np.stack([x * 3 % 256, y * 3 % 256, (x * y) % 256], axis=-1).astype(np.uint8)
    sr = ZooModel(zoo.CARDS[name], method, parts).restore(ref[2::4, 2::4].copy(), [ref])
    wide = sr.astype(np.float64)  # an untrained network's output may be too large to be squared
    return {"mean": float(wide.mean()), "deviation": float(wide.std()), "sample_40_40_green": float(wide[40, 40, 1])}


def _agreement(module: nn.Module, state: Mapping[str, Tensor]) -> float:
    expected = module.state_dict()
    agreeing = [key for key, value in expected.items() if key in state and state[key].shape == value.shape]
    return len(agreeing) / len(expected)


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
        named = {"name": f"{name}-untrained", "trained_on": "nothing: random numbers"}
        card = card.model_copy(update={**named, "signature_keys": _guess_key(method, None)})
        return ZooModel(card, method, random_parts(method, target))
    trained = _trained_with(weights)
    if trained and trained["model"] != name:
        raise UsageError(f"{weights} holds weights of {trained['model']}, not of {name}")
    network, hashes = method.network(**(trained["sizes"] if trained else {})), {}
    for role, path in _find_own(name, method, weights).items():
        imported = path.with_suffix(".json").is_file() and path.suffix == ".safetensors"
        hashes[role] = check_imported(path).source_sha256 if imported else disk.sha256_file(path)
        state = load_checkpoint(path)
        own = state if imported or trained else identify(name, state, path, role).state
        load_into(part_of(network, method, role), own, str(path))
    parts, borrowed_hashes = load_borrowed(method, Parts(network, target), weights, name)
    hashes |= borrowed_hashes
    if method.takes_guess and (guess := _imported_mdsr()) is not None:
        parts, hashes = parts._replace(guess=guess[0]), hashes | {"mdsr": guess[1]}
    made: dict[str, Any] = {"weights_sha256": hashes, "signature_keys": _guess_key(method, parts.guess)}
    if trained:
        count = sum(parameter.numel() for parameter in network.parameters())
        made |= {"name": f"{name}-l1", "title": f"{card.title}, re-trained with L1", "parameters": count}
        made |= {"trained_on": trained["trained_on"], "adversarial": False, "weights_licence": "that of the pictures"}
    return ZooModel(card.model_copy(update=made), method, parts)


def load_borrowed(method: Method, parts: Parts, weights: str | Path | None, name: str) -> tuple[Parts, dict[str, str]]:
    """Add the frozen networks that a method needs, and their hashes; from the weights' folder or the imported ones."""
    if not method.borrowed:
        return parts, {}
    loaded = load_roles(method.borrowed, _folder_of_borrowed(name, method, weights))
    if "vgg19" in loaded:
        parts = parts._replace(vgg=load_vgg19(loaded["vgg19"].state, loaded["vgg19"].source).to(parts.device))
    if "extractor" in loaded:
        extractor = Extractor()
        load_into(extractor, loaded["extractor"].state, loaded["extractor"].source)
        parts = parts._replace(extractor=extractor.eval().requires_grad_(False).to(parts.device))
    return parts, {role: part.sha256 for role, part in loaded.items()}


def _trained_with(weights: str | Path | None) -> dict[str, Any] | None:
    """What ``train`` wrote beside its weights; None for weights from elsewhere."""
    described = Path(weights).expanduser() / TRAINED if weights is not None else None
    if described is None or not described.is_file():
        return None
    content: dict[str, Any] = json.loads(described.read_text("utf-8"))
    return {**content, "sizes": {k: tuple(v) if isinstance(v, list) else v for k, v in content["sizes"].items()}}


def _imported_mdsr() -> tuple[nn.Module, str] | None:
    """MDSR and its weights' hash, if they were imported."""
    path = store.model_dir() / "mdsr" / "network.safetensors"
    if not path.with_suffix(".json").is_file():
        return None
    network = find_method("mdsr").network()
    load_into(network, load_checkpoint(path), str(path))
    return network, check_imported(path).source_sha256


def _guess_key(method: Method, guess: nn.Module | None) -> dict[str, str]:
    return {"guess": "bicubic" if guess is None else "mdsr"} if method.takes_guess else {}


def random_parts(method: Method, device: torch.device, config: Mapping[str, Any] | None = None) -> Parts:
    """A method's networks with random numbers, always the same ones; ``config`` goes to `Method.network`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Parts(
            method.network(**(config or {})),
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
        self.tile_margin_px = method.tile_margin_px
        for part in (parts.network, parts.extractor, parts.vgg, parts.guess):
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
        # TF32 convolutions would change which match wins; cuDNN's choice of algorithm must not vary between runs.
        with (
            torch.inference_mode(),
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
        ):
            return to_image(restore_tensor(self.method, self.parts, lr, refs if self.card.uses_reference else []))


def restore_tensor(method: Method, parts: Parts, lr: Image, refs: Sequence[Image]) -> Tensor:
    """Super-resolve one picture to ``(1, 3, 4h, 4w)`` in [0, 1], not clamped; differentiable in the network."""
    height, width = lr.shape[:2]
    step, least = SCALE * method.multiple, SCALE * method.minimum
    padded = pad_to_multiple(lr, method.multiple, method.minimum)
    if method.run is None:
        sr = run_single(method, parts.network, to_tensor(padded, parts.device))
    else:
        sr = method.run(parts, padded, [pad_to_multiple(ref, step, least) for ref in refs])
    return sr[:, :, : SCALE * height, : SCALE * width]


def pad_to_multiple(image: Image, multiple: int, minimum: int = 1) -> Image:
    """Repeat the last row and column until both sides are a multiple of ``multiple``, at least ``minimum``.

    >>> pad_to_multiple(np.zeros((5, 9, 3), np.uint8), 8).shape
    (8, 16, 3)
    """
    down, right = (-(-max(n, minimum) // multiple) * multiple - n for n in image.shape[:2])
    return np.pad(image, ((0, down), (0, right), (0, 0)), mode="edge") if down or right else image


def first_guess(parts: Parts, lr: Image) -> Tensor:
    """The SR picture ``(1, 3, 4h, 4w)`` in [0, 1] that a method starts from: MDSR's, 8-bit, or else bicubic."""
    if parts.guess is None:
        return to_tensor(resize_bicubic(lr, SCALE * lr.shape[0], SCALE * lr.shape[1]), parts.device)
    with torch.no_grad():
        made: Tensor = parts.guess(to_tensor(lr, parts.device) * 255)
    return made.clamp(0, 255).round() / 255


def run_single(method: Method, network: nn.Module, x: Tensor) -> Tensor:
    """A single-image network on RGB pictures ``(B, 3, h, w)`` in [0, 1], fed as it wants to be."""
    x = x * 2 - 1 if method.signed else x * method.input_scale
    sr: Tensor = network(x)
    return (sr + 1) / 2 if method.signed else sr / method.input_scale
