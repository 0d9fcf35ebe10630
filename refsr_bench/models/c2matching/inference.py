"""C2-Matching as a model: from an LR picture and a reference picture to an SR picture."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from refsr_bench.errors import UsageError, did_you_mean
from refsr_bench.images import pad_zero, resize_bicubic
from refsr_bench.models.c2matching import Preset
from refsr_bench.models.c2matching.exact import PATCH
from refsr_bench.models.c2matching.extractor import Extractor
from refsr_bench.models.c2matching.matching import find_offsets
from refsr_bench.models.c2matching.restoration import Restoration
from refsr_bench.models.c2matching.roles import definition_of, load_roles
from refsr_bench.models.c2matching.small import VggExtractor
from refsr_bench.models.c2matching.tiling import DEFAULT_BUDGET, INEXACT_HALO, fits_whole, read_bytes
from refsr_bench.models.c2matching.trained import find_run, load_run
from refsr_bench.models.matchers.cells import contrastive_matcher
from refsr_bench.models.memory import reused_memory
from refsr_bench.models.tensors import has_bf16, select_device, to_image, to_tensor
from refsr_bench.models.vgg import VGG19, load_vgg19
from refsr_bench.models.weights import load_into
from refsr_bench.models.winograd import use_winograd
from refsr_bench.schema import Matches, ModelCard

SCALE = 4
PRECISIONS = ("fp32", "bf16")

Precision = Literal["fp32", "bf16"]


class Settings(NamedTuple):
    """How the networks are run; see `refsr_bench.models.c2matching.build`."""

    precision: Precision = "fp32"
    memory_budget: int = DEFAULT_BUDGET
    allow_inexact_tiles: bool = False
    compile: bool = False

    @property
    def signature_keys(self) -> dict[str, str]:
        """What of this can change a score."""
        keys = {"prec": "bf16"} if self.precision == "bf16" else {}
        return keys | ({"tiles": f"inexact{INEXACT_HALO}"} if self.allow_inexact_tiles else {})


class C2Matching:
    """The three networks of C2-Matching, ready to restore."""

    def __init__(
        self,
        card: ModelCard,
        extractor: nn.Module,
        vgg: VGG19,
        restoration: Restoration,
        device: torch.device,
        settings: Settings | None = None,
    ) -> None:
        settings = settings or Settings()
        self.card = card.model_copy(update={"signature_keys": card.signature_keys | settings.signature_keys})
        self.device = device
        self.extractor, self.vgg, self.restoration = extractor, vgg, restoration
        for net in (extractor, vgg, restoration):
            net.eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        restoration.memory_budget = settings.memory_budget
        restoration.allow_inexact_tiles = settings.allow_inexact_tiles
        # The extractor stays as it is: which match wins hangs on small differences.
        self.autocast = settings.precision == "bf16" and has_bf16(device)
        if settings.compile:
            # The residual blocks alone, where the time goes: tiles and matches do not fit into one graph.
            for body in restoration.bodies():
                body.compile(dynamic=True)
        elif device.type == "cpu" and not self.autocast:
            # In float32 only where the error stays within what the release's own numbers allow.
            everything = [vgg, restoration]
            for net in everything if settings.precision == "bf16" else restoration.bodies():
                use_winograd(net)

    def restore(self, lr: NDArray[np.uint8], refs: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Super-resolve ``lr`` (H, W, 3) to float32 ``(4H, 4W, 3)``, not clamped, with the **first** reference only.

        Both pictures are brought to one canvas by zeros at the bottom and right (protocols that pad beforehand, as
        the release does, give a reference of exactly 4H × 4W and nothing happens here): a smaller reference is
        padded to the SR size, a larger one makes the LR picture be padded, and that part of the result is cut off.
        UsageError: no reference, or pictures too small for one patch of features (12 px of SR in each direction).
        """
        if not refs:
            raise UsageError(f"{self.card.name} needs a reference image", "choose a reference rule that gives one")
        height, width = lr.shape[:2]
        lr, ref = pad_to_common_size(lr, refs[0])
        if min(lr.shape[:2]) < PATCH:
            raise UsageError(
                f"an LR picture of {width}×{height} px is too small for {self.card.name}: it matches patches of"
                f" {PATCH}×{PATCH} feature cells, one cell for each LR pixel"
            )
        lr_up = resize_bicubic(lr, SCALE * lr.shape[0], SCALE * lr.shape[1])
        sr = self.run(*(to_tensor(image, self.device) for image in (lr, lr_up, ref)))
        return to_image(sr[:, :, : SCALE * height, : SCALE * width])

    def match(self, lr_up: NDArray[np.uint8], ref: NDArray[np.uint8]) -> Matches:
        """Find the correspondences that `restore` follows: those of the extractor, patch by patch."""
        return contrastive_matcher(self.card, self.extractor, self.device).match(lr_up, ref)

    def run(self, lr: torch.Tensor, lr_up: torch.Tensor, ref: torch.Tensor) -> torch.Tensor:
        """From network inputs, LR, LR enlarged to the reference's size and reference, to ``(1, 3, 4h, 4w)``."""
        # TF32 convolutions would change which match wins; cuDNN's choice of algorithm must not vary between runs.
        # Where memory is short, no block is kept for reuse: what lies between two of them would be lost.
        height, width = lr_up.shape[2:]
        is_small = self.device.type == "cpu" and fits_whole(height, width, self.restoration.memory_budget)
        with (
            reused_memory() if is_small else contextlib.nullcontext(),
            torch.inference_mode(),
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
        ):
            pre_offsets = self._find_offsets(lr_up, ref)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
                sr: torch.Tensor = self.restoration(lr, pre_offsets, self.vgg(ref))
        return sr

    def _find_offsets(self, lr_up: torch.Tensor, ref: torch.Tensor) -> dict[str, torch.Tensor]:
        feat_in, feat_ref = self.extractor(lr_up, ref)  # of its own function: not kept while restoring
        return find_offsets(feat_in, feat_ref, "bf16" if self.autocast else "fp32")


def pad_to_common_size(lr: NDArray[np.uint8], ref: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Pad LR and reference with zeros, at the bottom and right, so that the reference is exactly 4 times the LR's size.

    >>> shapes = pad_to_common_size(np.zeros((5, 9, 3), np.uint8), np.zeros((30, 20, 3), np.uint8))
    >>> [image.shape for image in shapes]
    [(8, 9, 3), (32, 36, 3)]
    """
    height, width = (max(a, -(-b // SCALE)) for a, b in zip(lr.shape[:2], ref.shape[:2], strict=True))
    return pad_zero(lr, height, width), pad_zero(ref, SCALE * height, SCALE * width)


def load_model(preset: Preset, weights: str | Path | None, device: str, settings: Settings) -> C2Matching:
    """Load the networks of a preset, published or of a training run, and note on the card the hash of each file."""
    target = select_device(device)
    if weights is not None and (run := find_run(weights)) is not None:
        extractor, vgg, restoration, changed = load_run(preset, run)
        card = preset.card.model_copy(update=changed)
        return C2Matching(card, extractor, vgg, restoration, target, settings)
    loaded = load_roles(tuple(dict.fromkeys((preset.matching, preset.restoration, "vgg19"))), weights)
    restoration = Restoration(definition_of(preset.restoration))
    load_into(restoration, loaded[preset.restoration].state, loaded[preset.restoration].source)
    vgg = load_vgg19(loaded["vgg19"].state, loaded["vgg19"].source)
    if preset.matching == "vgg19":
        # Its own copy: the one that feeds the restoration may be rounded to bfloat16.
        extractor = VggExtractor(load_vgg19(loaded["vgg19"].state, loaded["vgg19"].source))
    else:
        extractor = Extractor()
        load_into(extractor, loaded[preset.matching].state, loaded[preset.matching].source)
    hashes = {role: part.sha256 for role, part in loaded.items()}
    card = preset.card.model_copy(update={"weights_sha256": hashes})
    return C2Matching(card, extractor, vgg, restoration, target, settings)


def read_settings(precision: str, memory_budget: str, allow_inexact_tiles: str, compile: str) -> Settings:
    """Read what was asked for as text; `UsageError` names what is no value of its option."""
    if precision not in PRECISIONS:
        raise UsageError(f"there is no precision {precision!r}", did_you_mean(precision, PRECISIONS))
    budget = DEFAULT_BUDGET if memory_budget == "auto" else read_bytes(memory_budget)
    switches = []
    for name, value in (("allow_inexact_tiles", allow_inexact_tiles), ("compile", compile)):
        if value not in {"yes", "no"}:
            raise UsageError(f"{name}={value!r} must be yes or no")
        switches.append(value == "yes")
    return Settings(cast(Precision, precision), budget, *switches)
