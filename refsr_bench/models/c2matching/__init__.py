"""C2-Matching (Jiang et al., CVPR 2021). This file imports no torch, so that listing models stays quick."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from refsr_bench.errors import ManualStepNeeded, UsageError, did_you_mean
from refsr_bench.schema import ModelCard

if TYPE_CHECKING:
    from refsr_bench.models.base import SRModel

RELEASE_LICENCE = "see the release: its LICENSE file says Apache-2.0, its README MIT"

CARD = ModelCard(
    name="c2matching",
    title="C2-Matching, trained with L1 ('-rec')",
    paper="Jiang et al., Robust Reference-based Super-Resolution via C2-Matching, CVPR 2021",
    uses_reference=True,
    parameters=8_865_547,
    weights_licence=RELEASE_LICENCE,
    trained_on="CUFED",
)
CARD_GAN = CARD.model_copy(
    update={"name": "c2matching-gan", "title": "C2-Matching, trained with its GAN loss", "adversarial": True}
)
CARD_SMALL = ModelCard(
    name="c2matching-small",
    title="C2-Matching at a size for CPUs, trained here",
    paper="Jiang et al., CVPR 2021; this network is not the paper's, see docs/training.md",
    uses_reference=True,
    parameters=635_760,
    weights_licence="non-commercial research only: see LICENSE-weights beside them",
    trained_on="975 ImageNet photographs, references synthesised from them",
)
CARDS = {card.name: card for card in (CARD, CARD_GAN, CARD_SMALL)}

Variant = Literal["mse", "gan"]


def build(
    weights: str | Path | None = None,
    device: str = "cpu",
    variant: Variant = "mse",
    precision: str = "fp32",
    memory_budget: str = "auto",
    allow_inexact_tiles: str = "no",
    compile: str = "no",
) -> SRModel:
    """Load C2-Matching.

    weights : a folder with the imported files, or with the published ones under their official names; without it the
    model folder is searched, and if they are not there the small network comes instead, whose weights are in the
    package and whose card says so (not for ``gan``, nor with the options it does not know). device : ``cpu``, ``cuda``
    or ``cuda:N``. variant : ``mse``, the release's name for the network trained with L1, or ``gan``. precision :
    ``bf16`` runs the restoration network and VGG-19 in bfloat16; the matches stay those of float32. memory_budget :
    what restoring may take beside the features, e.g. ``2GB``; larger pictures are done in tiles that change nothing,
    unless ``allow_inexact_tiles`` is ``yes`` and nothing else fits. compile : ``yes`` compiles the restoration network,
    which pays after many pictures. UsageError: an unknown value.
    ManualStepNeeded: weights missing.
    """
    if variant not in {"mse", "gan"}:
        raise UsageError(f"C2-Matching has no variant {variant!r}", did_you_mean(variant, ("mse", "gan")))
    from refsr_bench.models.c2matching.inference import load_model, read_settings

    card = CARD if variant == "mse" else CARD_GAN
    settings = read_settings(precision, memory_budget, allow_inexact_tiles, compile)
    try:
        return load_model(card, f"restoration-{variant}", weights, device, settings)
    except ManualStepNeeded:
        if weights is not None or variant == "gan" or settings.signature_keys:
            raise
    return build_small(device=device)


def build_gan(
    weights: str | Path | None = None,
    device: str = "cpu",
    precision: str = "fp32",
    memory_budget: str = "auto",
    allow_inexact_tiles: str = "no",
    compile: str = "no",
) -> SRModel:
    """Load C2-Matching trained with its GAN loss; options as in `build`."""
    return build(weights, device, "gan", precision, memory_budget, allow_inexact_tiles, compile)


def build_small(weights: str | Path | None = None, device: str = "cpu", label: str | None = None) -> SRModel:
    """Load C2-Matching small; it restores and it matches.

    weights : the ``weights`` folder of a training run; without it those that come with the package. device : ``cpu``,
    ``cuda`` or ``cuda:N``. label : what tells weights of your own apart in tables, appended to the name. UsageError: an
    unknown device or folder. IntegrityError: weights of another network.
    """
    from refsr_bench.models.c2matching.small_model import load_small

    card = CARD_SMALL
    if weights is not None:
        card = card.model_copy(update={"trained_on": f"see {weights}", "weights_licence": "of whoever trained them"})
    if label is not None:
        card = card.model_copy(update={"name": f"{card.name}-{label}"})
    return load_small(card, weights, device)
