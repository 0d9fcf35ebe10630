"""C2-Matching small as a model and as a matcher: the weights that come with the package, or those of a training run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from refsr_bench.disk import sha256_file
from refsr_bench.errors import IntegrityError, UsageError
from refsr_bench.geometry import patch_centres
from refsr_bench.images import resize_bicubic
from refsr_bench.models.c2matching.exact import PATCH
from refsr_bench.models.c2matching.extractor import STRIDE
from refsr_bench.models.c2matching.small import SmallConfig, SmallExtractor, SmallRestoration, VggExtractor, match_cells
from refsr_bench.models.c2matching.trained import DESCRIPTION, find_run, read_description, trained_file
from refsr_bench.models.tensors import select_device, to_image, to_tensor
from refsr_bench.models.vgg import VGG19, Convention
from refsr_bench.models.weights import load_checkpoint, load_into
from refsr_bench.schema import Matches, ModelCard

SHIPPED = Path(__file__).parent / "small_weights"
"""The weights in the package, with their card and licence."""


class SmallC2Matching:
    """The two networks of C2-Matching small, ready to restore and to match."""

    def __init__(
        self,
        card: ModelCard,
        extractor: SmallExtractor | VggExtractor,
        restoration: SmallRestoration,
        device: torch.device,
    ) -> None:
        self.card = card
        self.device = device
        self.extractor = extractor.eval().to(device)
        self.restoration = restoration.eval().to(device)

    def restore(self, lr: NDArray[np.uint8], refs: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Super-resolve ``lr`` (H, W, 3) to float32 ``(4H, 4W, 3)``, not clamped, with the **first** reference only.

        The reference may be of any size. UsageError: no reference, or a picture too small for one patch of features
        (12 px of SR in each direction).
        """
        if not refs:
            raise UsageError(f"{self.card.name} needs a reference image", "choose a reference rule that gives one")
        lr_up = resize_bicubic(lr, STRIDE * lr.shape[0], STRIDE * lr.shape[1])
        self._require_patch(lr_up, refs[0])
        with torch.inference_mode():
            small, large, ref = (to_tensor(image, self.device) for image in (lr, lr_up, refs[0]))
            restored = self.restoration(small, large, ref, match_cells(*self.extractor(large, ref)))
        return to_image(restored)

    def match(self, lr_up: NDArray[np.uint8], ref: NDArray[np.uint8]) -> Matches:
        """Match every 3×3-cell patch of ``lr_up`` to a point of ``ref``, to fractions of a cell."""
        self._require_patch(lr_up, ref)
        with torch.inference_mode():
            found = match_cells(*self.extractor(to_tensor(lr_up, self.device), to_tensor(ref, self.device)))
        inner = slice(PATCH // 2, -(PATCH // 2))
        nodes = patch_centres(*lr_up.shape[:2])
        flow = found.flow[0, inner, inner].reshape(-1, 2).cpu().numpy().astype(np.float64)
        score = found.score[0, 0, inner, inner].reshape(-1).cpu().numpy().astype(np.float64)
        return Matches(nodes, nodes + flow, score)

    def _require_patch(self, *images: NDArray[np.uint8]) -> None:
        for image in images:
            if min(image.shape[:2]) < PATCH * STRIDE:
                raise UsageError(
                    f"a picture of {image.shape[1]}×{image.shape[0]} px is too small for {self.card.name}: it matches"
                    f" patches of {PATCH * STRIDE}×{PATCH * STRIDE} px"
                )


def load_small(card: ModelCard, weights: str | Path | None, device: str) -> SmallC2Matching:
    """Load the networks from ``weights``, the ``weights`` folder of a restoration run, or those in the package.

    UsageError: no such folder. IntegrityError: its files are not those of the small network.
    """
    target = select_device(device)
    folder = SHIPPED if weights is None else find_run(weights) or Path(weights).expanduser()
    files = {name: trained_file(folder, name) for name in ("extractor", "restoration")}
    states = {name: load_checkpoint(path) for name, path in files.items()}
    config, convention = read_sizes(folder)
    extractor: SmallExtractor | VggExtractor = SmallExtractor(config)
    restoration = SmallRestoration(config)
    if convention is not None:
        vgg = VGG19(("relu3_1",), convention)
        load_into(vgg, states["extractor"], str(files["extractor"]))
        extractor = VggExtractor(vgg)
    else:
        load_into(extractor, states["extractor"], str(files["extractor"]))
    load_into(restoration, states["restoration"], str(files["restoration"]))
    hashes = {name: sha256_file(path) for name, path in files.items()}
    return SmallC2Matching(card.model_copy(update={"weights_sha256": hashes}), extractor, restoration, target)


def read_sizes(folder: Path) -> tuple[SmallConfig, Convention | None]:
    """The networks' sizes as ``weights.json`` has them, and the convention of VGG-19 if that is what is matched.

    IntegrityError: the file is missing or damaged. UsageError: it is of another network.
    """
    described = read_description(folder)
    if described["network"] != "small":
        raise UsageError(f"{folder} holds weights of the {described['network']} network, not of the small one")
    try:
        return SmallConfig.model_validate(described["sizes"]), described.get("vgg19")
    except (ValueError, KeyError) as error:
        raise IntegrityError(f"{folder / DESCRIPTION} does not describe small weights: {error}") from error
