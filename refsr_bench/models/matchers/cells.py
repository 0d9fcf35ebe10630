"""From features to correspondences: 3x3 patches of cells, compared as the released code compares them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from refsr_bench import disk, store
from refsr_bench.errors import ManualStepNeeded
from refsr_bench.geometry import CELL_PX, patch_centres
from refsr_bench.images import resize_bicubic
from refsr_bench.models.c2matching import roles
from refsr_bench.models.c2matching.extractor import Extractor
from refsr_bench.models.c2matching.matching import match_patches
from refsr_bench.models.tensors import select_device, to_tensor
from refsr_bench.models.vgg import load_vgg19
from refsr_bench.models.weights import load_checkpoint, load_into
from refsr_bench.schema import Matches, ModelCard

Describe = Callable[[NDArray[np.uint8], NDArray[np.uint8]], tuple[Tensor, Tensor]]
"""(lr_up, ref) → features ``(C, h, w)`` of each at a quarter of its size."""


class CellMatcher:
    """Matches every 3x3 patch of input cells to the most similar one of the reference."""

    def __init__(self, card: ModelCard, describe: Describe) -> None:
        self.card = card
        self.describe = describe

    def match(self, lr_up: NDArray[np.uint8], ref: NDArray[np.uint8]) -> Matches:
        """Compare the features of the two pictures, which may differ in size."""
        # TF32 convolutions would change which match wins; cuDNN's choice of algorithm must not vary between runs.
        with (
            torch.inference_mode(),
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
        ):
            return match_cells(*self.describe(lr_up, ref), lr_up.shape[:2], ref.shape[:2])


def match_cells(feat_in: Tensor, feat_ref: Tensor, size_in: tuple[int, ...], size_ref: tuple[int, ...]) -> Matches:
    """Correspondences of two feature maps of pictures of the given (height, width)."""
    index, score = match_patches(feat_in, feat_ref)
    patches = patch_centres(size_ref[0], size_ref[1])
    nodes = patch_centres(size_in[0], size_in[1])
    return Matches(nodes, patches[index.flatten().cpu().numpy()], score.flatten().double().cpu().numpy())


def contrastive_matcher(card: ModelCard, extractor: nn.Module, device: torch.device) -> CellMatcher:
    """Match as C2-Matching does: descriptors of unit length, the input through the first branch of the extractor."""
    extractor = extractor.eval().to(device)

    def describe(lr_up: NDArray[np.uint8], ref: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        feat_in, feat_ref = extractor(to_tensor(lr_up, device), to_tensor(ref, device))
        return F.normalize(feat_in, dim=1)[0], F.normalize(feat_ref, dim=1)[0]

    return CellMatcher(card, describe)


def load_student(card: ModelCard, weights: str | Path | None, device: str) -> CellMatcher:
    """Load the extractor of the C2-Matching weights; ManualStepNeeded says how to get them, or how to do without."""
    target = select_device(device)
    try:
        loaded = roles.load_roles(("extractor",), weights)["extractor"]
    except ManualStepNeeded as error:
        raise ManualStepNeeded(error.problem, f"{error.remedy}\n  {_without(card)}") from None
    extractor = Extractor()
    load_into(extractor, loaded.state, loaded.source)
    hashes = {"extractor": loaded.sha256}
    return contrastive_matcher(card.model_copy(update={"weights_sha256": hashes}), extractor, target)


def load_teacher(card: ModelCard, weights: str | Path | None, device: str) -> CellMatcher:
    """Load a teacher from a file, or from ``teacher.safetensors``, ``.pth`` or ``.pt`` in a folder."""
    target = select_device(device)
    place = Path(weights).expanduser() if weights is not None else store.model_dir() / "c2matching"
    candidates = [place / f"teacher{suffix}" for suffix in (".safetensors", ".pth", ".pt")]
    path = place if place.is_file() else next((path for path in candidates if path.is_file()), None)
    if path is None:
        raise ManualStepNeeded(
            f"c2-teacher needs weights, and there is no teacher.safetensors or teacher.pth in {place}",
            f"the release has no teacher; give one that was trained: --set weights=FILE\n  {_without(card)}",
        )
    extractor = Extractor()
    load_into(extractor, roles.identify(load_checkpoint(path), path, "extractor").state, str(path))
    hashes = {"teacher": disk.sha256_file(path)}
    return contrastive_matcher(card.model_copy(update={"weights_sha256": hashes}), extractor, target)


def _without(card: ModelCard) -> str:
    return f"or try it without: --set untrained=yes, and rows are called {card.name}-untrained"


def untrained(card: ModelCard, device: str) -> CellMatcher:
    """Make the network with random weights, equal in both branches, and a card that says so.

    Every weight is normal noise seeded by its key and scaled so that features keep their size: the same on every
    machine. Equal branches make equal pictures match, as those do that start from one pre-trained VGG.
    """
    extractor = Extractor()
    state = {key: value.clone() for key, value in extractor.state_dict().items()}
    for key, parameter in extractor.named_parameters():
        branchless = key.split(".", 1)[1]
        seed = int.from_bytes(hashlib.sha256(branchless.encode()).digest()[:8], "little")
        noise = np.random.Generator(np.random.PCG64(seed)).standard_normal(tuple(parameter.shape))
        gain = math.sqrt(2 / math.prod(parameter.shape[1:])) if parameter.ndim > 1 else 0.0
        state[key] = torch.from_numpy((noise * gain).astype(np.float32))
    extractor.load_state_dict(state)
    changes = {
        "name": f"{card.name}-untrained",
        "title": f"{card.title}; random weights, not trained",
        "weights_licence": "none",
        "trained_on": "nothing: random weights",
    }
    return contrastive_matcher(card.model_copy(update=changes), extractor, select_device(device))


def load_vgg19_matcher(
    card: ModelCard, weights: str | Path | None, device: str, *, blur_reference: bool
) -> CellMatcher:
    """Load VGG-19 up to relu3_1 as SRNTT uses it: raw features, only whole patches are brought to unit norm."""
    target = select_device(device)
    loaded = roles.load_roles(("vgg19",), weights)["vgg19"]
    net = load_vgg19(loaded.state, loaded.source, ("relu3_1",)).eval().to(target)
    changes: dict[str, object] = {"weights_sha256": {"vgg19": loaded.sha256}}
    if not blur_reference:
        changes |= {
            "name": f"{card.name}-sharp",
            "title": card.title.replace("the reference blurred by x1/4 and x4, ", ""),
        }

    def describe(lr_up: NDArray[np.uint8], ref: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        seen = _blur(ref) if blur_reference else ref
        feat_in, feat_ref = (net(to_tensor(image, target))["relu3_1"][0] for image in (lr_up, seen))
        return feat_in, feat_ref

    return CellMatcher(card.model_copy(update=changes), describe)


def _blur(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    return resize_bicubic(resize_bicubic(image, height // CELL_PX, width // CELL_PX), height, width)
