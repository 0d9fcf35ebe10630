"""Reference-based methods: what they are. Their networks stand one to a file; this page imports no torch.

Where a method was released with and without its GAN loss, both are the same network with other weights: ``NAME`` is the
one with, ``NAME-rec`` the one without, as in the papers' tables.
"""

from __future__ import annotations

from refsr_bench.schema import ModelCard

UNIT = "RGB in [0, 1]"
SIGNED = "RGB in [-1, 1]"
NONE_SEEN = "none seen in the release"
WITH_EXTRACTOR = "RGB in [0, 1]; C2-Matching's extractor and torchvision's VGG-19 beside it"

_SRNTT = ModelCard(
    name="srntt",
    title="SRNTT, one reference or a pool of them",
    paper="Zhang et al., Image Super-Resolution by Neural Texture Transfer, CVPR 2019",
    year=2019,
    uses_reference=True,
    max_references=None,
    parameters=4_383_494,
    weights_licence=NONE_SEEN,
    trained_on="CUFED",
    input_convention=f"{SIGNED}, tanh at the end; VGG-19 in Caffe's convention beside it",
    checkpoint=("upscale.npz", "srntt.npz"),
    checkpoint_source="Google Drive, linked from github.com/ZZUTK/SRNTT",
    adversarial=True,
)
_TTSR = ModelCard(
    name="ttsr",
    title="TTSR",
    paper="Yang et al., Learning Texture Transformer Network for Image Super-Resolution, CVPR 2020",
    year=2020,
    uses_reference=True,
    parameters=6_729_603,
    weights_licence="MIT",
    trained_on="CUFED",
    input_convention=f"{SIGNED}, clamped at the end",
    checkpoint=("TTSR.pt",),
    checkpoint_source="OneDrive, Baidu or Drive, linked from github.com/researchmm/TTSR",
    adversarial=True,
)
_MASA = ModelCard(
    name="masa",
    title="MASA-SR",
    paper="Lu et al., MASA-SR: Matching Acceleration and Spatial Adaptation, CVPR 2021",
    year=2021,
    uses_reference=True,
    parameters=4_028_291,
    weights_licence=NONE_SEEN,
    trained_on="CUFED",
    input_convention="BGR in [0, 1]",
    checkpoint=("masa.pth",),
    checkpoint_source="Google Drive folder 1O9Y4UK1PFoFKOsYTQqcQJCA_VvBWp29N",
    adversarial=True,
)
_AMSA = ModelCard(
    name="amsa",
    title="AMSA; matches by exhaustive search, which its PatchMatch approximates",
    paper="Xia et al., Coarse-to-Fine Embedded PatchMatch and Multi-Scale Dynamic Aggregation, AAAI 2022",
    year=2022,
    uses_reference=True,
    parameters=9_676_454,
    weights_licence=NONE_SEEN,
    trained_on="CUFED",
    input_convention=WITH_EXTRACTOR,
    checkpoint_source="github.com/Zj-BinXia/AMSA",
    adversarial=True,
)
_DATSR = ModelCard(
    name="datsr",
    title="DATSR",
    paper="Cao et al., Reference-based Image Super-Resolution with Deformable Attention Transformer, ECCV 2022",
    year=2022,
    uses_reference=True,
    parameters=18_026_971,
    weights_licence="CC BY-NC 4.0",
    trained_on="CUFED",
    input_convention=WITH_EXTRACTOR,
    checkpoint=("restoration_gan.pth",),
    checkpoint_source="the releases of github.com/caojiezhang/DATSR, with feature_extraction.pth",
    adversarial=True,
)
_MREFSR = ModelCard(
    name="mrefsr",
    title="MRefSR, any number of references",
    paper="Zhang et al., LMR: A Large-Scale Multi-Reference Dataset for Reference-based Super-Resolution, 2023",
    year=2023,
    uses_reference=True,
    max_references=None,
    parameters=23_711_633,
    weights_licence="MIT, by the badge of its README",
    trained_on="LMR",
    input_convention=WITH_EXTRACTOR,
    checkpoint=("mrefsr_gan.pth",),
    checkpoint_source="github.com/wdmwhh/MRefSR, branch test",
    adversarial=True,
)


def _rec(card: ModelCard, checkpoint: tuple[str, ...]) -> ModelCard:
    named = {"name": f"{card.name}-rec", "title": f"{card.title}, trained without the GAN"}
    return card.model_copy(update={**named, "checkpoint": checkpoint, "adversarial": False})


_CARDS = (
    ModelCard(
        name="crossnet",
        title="CrossNet",
        paper="Zheng et al., CrossNet: An End-to-end Reference-based Super Resolution Network, ECCV 2018",
        year=2018,
        uses_reference=True,
        parameters=35_183_841,
        weights_licence="no licence",
        trained_on="light fields (Flower, LFVideo), not CUFED",
        input_convention=UNIT,
        checkpoint_source="github.com/htzheng/ECCV2018_CrossNet_RefSR; none for CUFED",
    ),
    _SRNTT,
    _rec(_SRNTT, ("upscale.npz", "srntt_init.npz")),
    _TTSR,
    _rec(_TTSR, ("TTSR-rec.pt",)),
    ModelCard(
        name="ssen",
        title="SSEN, by an unofficial port's structure",
        paper="Shim et al., Robust Reference-based Super-Resolution with Similarity-Aware Deformable Convolution,"
        " CVPR 2020",
        year=2020,
        uses_reference=True,
        parameters=3_394_838,
        input_convention=UNIT,
        checkpoint_source="never published; train it",
    ),
    _MASA,
    _rec(_MASA, ("masa_rec.pth",)),
    _AMSA,
    _rec(_AMSA, ()),
    _DATSR,
    _rec(_DATSR, ("restoration_mse.pth",)),
    _MREFSR,
    _rec(_MREFSR, ("mrefsr_mse.pth",)),
)
CARDS = {card.name: card for card in _CARDS}

HOMES = {name: name.removesuffix("-rec") for name in CARDS}
"""The file of this folder whose ``METHODS`` holds the model."""
