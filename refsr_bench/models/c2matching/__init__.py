"""C2-Matching (Jiang et al., CVPR 2021). This file imports no torch, so that listing models stays quick."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from refsr_bench.errors import ManualStepNeeded, UsageError, did_you_mean
from refsr_bench.schema import ModelCard

if TYPE_CHECKING:
    from refsr_bench.models.base import SRModel

RELEASE_LICENCE = "see the release: its LICENSE file says Apache-2.0, its README MIT"

CARD = ModelCard(
    name="c2matching",
    title="C2-Matching, trained with L1 ('-rec')",
    paper="Jiang et al., Robust Reference-based Super-Resolution via C2-Matching, CVPR 2021",
    year=2021,
    uses_reference=True,
    parameters=8_865_547,
    weights_licence=RELEASE_LICENCE,
    trained_on="CUFED",
    input_convention="RGB in [0, 1]; its own extractor and torchvision's VGG-19 beside it",
    checkpoint=("feature_extraction.pth", "c2_matching_restoration_mse.pth", "vgg19-dcbb9e9d.pth"),
    checkpoint_source="Google Drive folder 1dTkXMzeBrHelVQUEx5zib5MdmvqDaSd9; VGG-19 from torchvision's model list",
)
CARD_GAN = CARD.model_copy(
    update={
        "name": "c2matching-gan",
        "title": "C2-Matching, trained with its GAN loss",
        "adversarial": True,
        "checkpoint": ("feature_extraction.pth", "c2_matching_restoration.pth", "vgg19-dcbb9e9d.pth"),
    }
)
CARD_SMALL = ModelCard(
    name="c2matching-small",
    title="C2-Matching at a size for CPUs, trained here",
    paper="Jiang et al., CVPR 2021; this network is not the paper's, see docs/training.md",
    uses_reference=True,
    parameters=635_760,
    weights_licence="non-commercial research only: see LICENSE-weights beside them",
    input_convention="RGB in [0, 1]",
    trained_on="975 ImageNet photographs, references synthesised from them",
)
_OWN = {
    "weights_licence": "of whoever trained them",
    "trained_on": "what you train it on: no weights were published",
    "checkpoint": (),
    "checkpoint_source": "never published; train it",
}
CARD_LIGHT = CARD.model_copy(
    update={"name": "c2matching-light", "title": "C2-Matching-light (Table 4)", "parameters": 4_825_395, **_OWN}
)
_FIXED = {"input_convention": "RGB in [0, 1]; torchvision's VGG-19 beside it"}
# The four steps of the paper's Fig. 5; the fourth, with distillation, is c2matching itself.
CARD_BASELINE = CARD.model_copy(
    update={
        "name": "c2matching-baseline",
        "title": "Fig. 5, baseline: matches of fixed VGG-19 features, copied as they are",
        "parameters": 5_412_163,
        **_OWN,
        **_FIXED,
    }
)
CARD_DYNAGG = CARD.model_copy(
    update={
        "name": "c2matching-dynagg",
        "title": "Fig. 5, + Dyn-Agg: matches of fixed VGG-19 features",
        **_OWN,
        **_FIXED,
    }
)
CARD_CONTRASTIVE = CARD.model_copy(
    update={
        "name": "c2matching-contrastive",
        "title": "Fig. 5, + contrastive: extractor trained without its teacher",
        **_OWN,
    }
)


class Preset(NamedTuple):
    """One of the networks that the paper compares: what it is made of, and the roles of its weight files."""

    card: ModelCard
    restoration: str
    """Role of the restoration network."""
    matching: str = "extractor"
    """Role of the network whose features are matched; ``vgg19`` is also the source of reference features."""


PRESETS = {
    "mse": Preset(CARD, "restoration-mse"),
    "gan": Preset(CARD_GAN, "restoration-gan"),
    "light": Preset(CARD_LIGHT, "restoration-light"),
    "baseline": Preset(CARD_BASELINE, "restoration-baseline", "vgg19"),
    "dynagg": Preset(CARD_DYNAGG, "restoration-dynagg", "vgg19"),
    "contrastive": Preset(CARD_CONTRASTIVE, "restoration-contrastive", "extractor-contrastive"),
}
CARDS = {card.name: card for card in (*(preset.card for preset in PRESETS.values()), CARD_SMALL)}


def build(
    weights: str | Path | None = None,
    device: str = "cpu",
    variant: str = "mse",
    precision: str = "fp32",
    memory_budget: str = "auto",
    allow_inexact_tiles: str = "no",
    compile: str = "no",
) -> SRModel:
    """Load C2-Matching.

    weights : a folder with the imported files, or with the published ones under their official names; without it the
    model folder is searched, and if they are not there the small network comes instead, whose weights are in the
    package and whose card says so (only for ``mse``, and not with the options it does not know). device : ``cpu``,
    ``cuda`` or ``cuda:N``. variant : ``mse``, the release's name for the network trained with L1, or another of
    `PRESETS`. precision : ``bf16`` allows the restoration network and VGG-19 the accuracy of bfloat16 (see
    ``docs/performance.md``). memory_budget : what restoring may take beside the features, e.g. ``2GB``; larger pictures
    are done in tiles that change nothing, unless ``allow_inexact_tiles`` is ``yes`` and nothing else fits. compile :
    ``yes`` compiles the residual blocks, for which torch needs a C++ compiler; no gain on CPUs. UsageError: an unknown
    value. ManualStepNeeded: weights missing.
    """
    if variant not in PRESETS:
        raise UsageError(f"C2-Matching has no variant {variant!r}", did_you_mean(variant, PRESETS))
    from refsr_bench.models.c2matching.inference import load_model, read_settings

    settings = read_settings(precision, memory_budget, allow_inexact_tiles, compile)
    try:
        return load_model(PRESETS[variant], weights, device, settings)
    except ManualStepNeeded:
        if weights is not None or variant != "mse" or settings.signature_keys:
            raise
    return build_small(device=device)


def _factory(variant: str) -> Callable[..., SRModel]:
    def build_variant(
        weights: str | Path | None = None,
        device: str = "cpu",
        precision: str = "fp32",
        memory_budget: str = "auto",
        allow_inexact_tiles: str = "no",
        compile: str = "no",
    ) -> SRModel:
        """Load a preset of C2-Matching; options as in `build`."""
        return build(weights, device, variant, precision, memory_budget, allow_inexact_tiles, compile)

    return build_variant


build_gan = _factory("gan")
build_light = _factory("light")
build_baseline = _factory("baseline")
build_dynagg = _factory("dynagg")
build_contrastive = _factory("contrastive")


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
