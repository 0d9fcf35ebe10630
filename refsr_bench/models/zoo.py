"""The model zoo without torch: a card and a factory for every method, and where its code lies.

Adding a method is one file under ``sisr/`` or ``refsr/`` with its `recipe.Recipe`, a card and a line in `HOMES` here,
and the line in `refsr_bench.lookup`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from refsr_bench.schema import ModelCard

if TYPE_CHECKING:
    from refsr_bench.models.base import SRModel

_NONE_SEEN = "none seen in the release"


def _card(
    name: str,
    title: str,
    paper: str,
    year: int,
    parameters: int,
    convention: str,
    checkpoint: str | tuple[str, ...] = (),
    where: str = "",
    licence: str = _NONE_SEEN,
    trained_on: str = "DIV2K",
    reference: bool = False,
) -> ModelCard:
    return ModelCard(
        name=name,
        title=title,
        paper=paper,
        year=year,
        uses_reference=reference,
        parameters=parameters,
        weights_licence=licence,
        trained_on=trained_on,
        input_convention=convention,
        checkpoint=(checkpoint,) if isinstance(checkpoint, str) else checkpoint,
        checkpoint_source=where,
    )


_EDSR = "Lim et al., Enhanced Deep Residual Networks for Single Image Super-Resolution, CVPRW 2017"
_EDSR_HOME = "cv.snu.ac.kr, linked from github.com/sanghyun-son/EDSR-PyTorch"
_ESRGAN = "Wang et al., ESRGAN, ECCVW 2018"
_SRGAN = "Ledig et al., Photo-Realistic Single Image Super-Resolution Using a GAN, CVPR 2017"
_MEAN_SHIFT = "RGB 0-255, minus DIV2K's mean"
_UNIT = "RGB in [0, 1]"

_CARDS = (
    _card(
        "srcnn", "SRCNN, RGB 9-1-5", "Dong et al., Image Super-Resolution Using Deep Convolutional Networks, TPAMI 2015",
        2015, 20_099, _UNIT, "srcnn_x4k915.pth", "github.com/open-mmlab/mmediting", "Apache-2.0",
    ),
    _card(
        "edsr-baseline", "EDSR baseline: 16 blocks, 64 channels", _EDSR, 2017, 1_517_571, _MEAN_SHIFT,
        "edsr_baseline_x4.pt", _EDSR_HOME, "MIT",
    ),
    _card(
        "edsr", "EDSR: 32 blocks, 256 channels", _EDSR, 2017, 43_089_923, _MEAN_SHIFT, "edsr_x4.pt", _EDSR_HOME, "MIT"
    ),
    _card("mdsr", "MDSR: 80 blocks, x2 x3 x4 in one", _EDSR, 2017, 7_953_987, _MEAN_SHIFT, "mdsr.pt", _EDSR_HOME, "MIT"),
    _card(
        "rcan", "RCAN", "Zhang et al., Image Super-Resolution Using Very Deep Residual Channel Attention Networks,"
        " ECCV 2018", 2018, 15_592_355, _MEAN_SHIFT, "RCAN_BIX4.pt", "github.com/yulunzhang/RCAN (Dropbox, Drive)",
    ),
    _card(
        "srgan", "SRGAN", _SRGAN, 2017, 1_547_350, "RGB in [-1, 1]", "g_srgan.npz", "github.com/tensorlayer/SRGAN",
        "TensorLayer's own",
    ),
    _card(
        "srresnet", "SRResNet: SRGAN's generator trained without the GAN", _SRGAN, 2017, 1_547_350, "RGB in [-1, 1]",
        "g_init.npz", "github.com/tensorlayer/SRGAN", "TensorLayer's own",
    ),
    _card(
        "enet", "ENet-PAT (EnhanceNet)", "Sajjadi et al., EnhanceNet, ICCV 2017", 2017, 852_867,
        "RGB in [0, 1], minus its own mean inside", (),
        "a TensorFlow 1 checkpoint in github.com/msmsajjadi/EnhanceNet-Code: not readable here; a list of its arrays"
        " saved with numpy.savez is", "CC BY-NC-ND 4.0: converted weights may not be passed on", "MS COCO",
    ),
    _card(
        "esrgan", "ESRGAN", _ESRGAN, 2018, 16_697_987, _UNIT, "RRDB_ESRGAN_x4.pth", "github.com/xinntao/ESRGAN",
        "Apache-2.0", "DIV2K, Flickr2K, OST; LR by MATLAB's bicubic",
    ),
    _card(
        "esrgan-psnr", "RRDBNet trained with L1", _ESRGAN, 2018, 16_697_987, _UNIT, "RRDB_PSNR_x4.pth",
        "github.com/xinntao/ESRGAN", "Apache-2.0", "DIV2K, Flickr2K, OST; LR by MATLAB's bicubic",
    ),
    _card(
        "ranksrgan", "RankSRGAN", "Zhang et al., RankSRGAN, ICCV 2019", 2019, 1_554_499, _UNIT,
        "mmsr_RankSRGAN_NIQE.pth", "Google Drive, linked from github.com/WenlongZhang0517/RankSRGAN",
    ),
    _card(
        "imdn", "IMDN", "Hui et al., Lightweight Image Super-Resolution with Information Multi-distillation Network,"
        " ACM MM 2019", 2019, 715_176, _UNIT, "IMDN_x4.pth", "github.com/Zheng222/IMDN", _NONE_SEEN,
        "DIV2K; LR by MATLAB's bicubic",
    ),
)  # fmt: skip
CARDS = {card.name: card for card in _CARDS}

HOMES = {
    "srcnn": "refsr_bench.models.sisr.srcnn",
    "edsr-baseline": "refsr_bench.models.sisr.edsr",
    "edsr": "refsr_bench.models.sisr.edsr",
    "mdsr": "refsr_bench.models.sisr.edsr",
    "rcan": "refsr_bench.models.sisr.rcan",
    "srgan": "refsr_bench.models.sisr.srgan",
    "srresnet": "refsr_bench.models.sisr.srgan",
    "enet": "refsr_bench.models.sisr.enet",
    "esrgan": "refsr_bench.models.sisr.rrdb",
    "esrgan-psnr": "refsr_bench.models.sisr.rrdb",
    "ranksrgan": "refsr_bench.models.sisr.ranksrgan",
    "imdn": "refsr_bench.models.sisr.imdn",
}
"""The module whose ``RECIPES`` holds the model."""

PUBLISHED_ONLY = {
    "E2ENT2": "no public code could be found (Xie et al., ECCV 2020); only its printed numbers",
    "CIMR": "no public code or description could be found (Yan et al., ECCV 2020); only its printed numbers",
}
"""Methods of the paper's Table 1 that cannot run, and why."""


def how_to_get(name: str) -> str:
    """What to type to import the weights of a model, and where its files are."""
    card = CARDS[name]
    files = " ".join(card.checkpoint) or "FILE"
    return f"refsr-bench weights import {name} {files}\n  published at: {card.checkpoint_source or 'nowhere known'}"


def _factory(name: str) -> Callable[..., SRModel]:
    def build(weights: str | Path | None = None, device: str = "cpu", untrained: bool | str = False) -> SRModel:
        from refsr_bench.models.recipe import load_model

        return load_model(name, weights, device, untrained)

    build.__name__ = f"build_{name.replace('-', '_')}"
    build.__doc__ = f"""Load {CARDS[name].title}; ``untrained=yes`` fills it with random numbers and says so in its name.

    weights : a weight file, or a folder with the files; without it the model folder is searched.
    """
    return build


build_srcnn = _factory("srcnn")
build_edsr_baseline = _factory("edsr-baseline")
build_edsr = _factory("edsr")
build_mdsr = _factory("mdsr")
build_rcan = _factory("rcan")
build_srgan = _factory("srgan")
build_srresnet = _factory("srresnet")
build_enet = _factory("enet")
build_esrgan = _factory("esrgan")
build_esrgan_psnr = _factory("esrgan-psnr")
build_ranksrgan = _factory("ranksrgan")
build_imdn = _factory("imdn")
