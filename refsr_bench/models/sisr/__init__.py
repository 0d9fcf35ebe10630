"""Single-image methods: what they are. Their networks stand one to a file; this page imports no torch."""

from __future__ import annotations

from refsr_bench.schema import ModelCard

UNIT = "RGB in [0, 1]"
MEAN_SHIFT = "RGB 0-255, minus DIV2K's mean"
SIGNED = "RGB in [-1, 1], tanh at the end"
NONE_SEEN = "none seen in the release"

_EDSR = ModelCard(
    name="edsr",
    title="EDSR: 32 blocks, 256 channels",
    paper="Lim et al., Enhanced Deep Residual Networks for Single Image Super-Resolution, CVPRW 2017",
    year=2017,
    uses_reference=False,
    parameters=43_089_923,
    weights_licence="MIT",
    trained_on="DIV2K",
    input_convention=MEAN_SHIFT,
    checkpoint=("edsr_x4-4f62e9ef.pt",),
    checkpoint_source="cv.snu.ac.kr, linked from github.com/sanghyun-son/EDSR-PyTorch",
)
_SRGAN = ModelCard(
    name="srgan",
    title="SRGAN, as its paper describes the generator",
    paper="Ledig et al., Photo-Realistic Single Image Super-Resolution Using a GAN, CVPR 2017",
    year=2017,
    uses_reference=False,
    parameters=1_547_350,
    trained_on="ImageNet (the authors)",
    input_convention=SIGNED,
    checkpoint_source="never published by the authors; srgan-mmediting and srgan-tensorlayer read others' re-trainings",
    adversarial=True,
)
_MMEDITING = _SRGAN.model_copy(
    update={
        "name": "srgan-mmediting",
        "title": "SRGAN as MMEditing re-trained it: without batch normalisation",
        "parameters": 1_517_571,
        "weights_licence": "Apache-2.0",
        "trained_on": "DIV2K",
        "input_convention": UNIT,
        "checkpoint": ("srgan_x4c64b16_g1_1000k_div2k_20200606-a1f0810e.pth",),
        "checkpoint_source": "github.com/open-mmlab/mmediting",
    }
)
_ESRGAN = ModelCard(
    name="esrgan",
    title="ESRGAN",
    paper="Wang et al., ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks, ECCVW 2018",
    year=2018,
    uses_reference=False,
    parameters=16_697_987,
    weights_licence="Apache-2.0",
    trained_on="DIV2K, Flickr2K, OST; LR by MATLAB's bicubic",
    input_convention=UNIT,
    checkpoint=("RRDB_ESRGAN_x4.pth",),
    checkpoint_source="github.com/xinntao/ESRGAN (Drive)",
    adversarial=True,
)

_CARDS = (
    ModelCard(
        name="srcnn",
        title="SRCNN, RGB 9-1-5",
        paper="Dong et al., Image Super-Resolution Using Deep Convolutional Networks, TPAMI 2015",
        year=2015,
        uses_reference=False,
        parameters=20_099,
        weights_licence="Apache-2.0",
        trained_on="DIV2K",
        input_convention=f"{UNIT}, enlarged inside",
        checkpoint=("srcnn_x4k915_1x16_1000k_div2k_20200608-4186f232.pth",),
        checkpoint_source="github.com/open-mmlab/mmediting",
    ),
    _EDSR,
    _EDSR.model_copy(
        update={
            "name": "edsr-baseline",
            "title": "EDSR baseline: 16 blocks, 64 channels",
            "parameters": 1_517_571,
            "checkpoint": ("edsr_baseline_x4-6b446fab.pt",),
        }
    ),
    _EDSR.model_copy(
        update={
            "name": "mdsr",
            "title": "MDSR: 80 blocks, ×2, ×3 and ×4 in one network",
            "parameters": 7_953_987,
            "checkpoint": ("mdsr.pt",),
        }
    ),
    ModelCard(
        name="rcan",
        title="RCAN",
        paper="Zhang et al., Image Super-Resolution Using Very Deep Residual Channel Attention Networks, ECCV 2018",
        year=2018,
        uses_reference=False,
        parameters=15_592_355,
        weights_licence=NONE_SEEN,
        trained_on="DIV2K",
        input_convention=MEAN_SHIFT,
        checkpoint=("RCAN_BIX4.pt",),
        checkpoint_source="github.com/yulunzhang/RCAN (Dropbox, Drive)",
    ),
    _SRGAN,
    _SRGAN.model_copy(
        update={"name": "srresnet", "title": "SRResNet: SRGAN's generator without the GAN", "adversarial": False}
    ),
    _SRGAN.model_copy(
        update={
            "name": "srgan-tensorlayer",
            "title": "SRGAN as TensorLayer re-trained it: 3×3 head, 1×1 tail, ReLU",
            "parameters": 1_518_147,
            "weights_licence": "TensorLayer's own",
            "trained_on": "DIV2K",
            "checkpoint": ("g_srgan.npz",),
            "checkpoint_source": "github.com/tensorlayer/SRGAN",
        }
    ),
    _MMEDITING,
    _MMEDITING.model_copy(
        update={
            "name": "srresnet-mmediting",
            "title": "SRResNet as MMEditing trained it: without batch normalisation",
            "checkpoint": ("msrresnet_x4c64b16_1x16_300k_div2k_20200521-61556be5.pth",),
            "adversarial": False,
        }
    ),
    ModelCard(
        name="enet",
        title="ENet-PAT (EnhanceNet)",
        paper="Sajjadi et al., EnhanceNet: Super-Resolution Through Automated Texture Synthesis, ICCV 2017",
        year=2017,
        uses_reference=False,
        parameters=852_867,
        weights_licence="CC BY-NC-ND 4.0: converted weights may not be passed on",
        trained_on="MS COCO; LR by Pillow's ANTIALIAS (Lanczos)",
        input_convention=f"{UNIT}, minus its own mean inside",
        checkpoint=("enhancenet.npz",),
        checkpoint_source="github.com/msmsajjadi/EnhanceNet-Code holds a TensorFlow 1 checkpoint, which no light"
        " library reads: save its variables in graph order with numpy.savez(FILE, *variables)",
        adversarial=True,
    ),
    _ESRGAN,
    _ESRGAN.model_copy(
        update={
            "name": "esrgan-psnr",
            "title": "RRDBNet, ESRGAN's network trained with L1",
            "checkpoint": ("RRDB_PSNR_x4.pth",),
            "adversarial": False,
        }
    ),
    ModelCard(
        name="ranksrgan",
        title="RankSRGAN",
        paper="Zhang et al., RankSRGAN: Generative Adversarial Networks with Ranker, ICCV 2019",
        year=2019,
        uses_reference=False,
        parameters=1_554_499,
        weights_licence=NONE_SEEN,
        trained_on="DIV2K",
        input_convention=UNIT,
        checkpoint=("mmsr_RankSRGAN_NIQE.pth",),
        checkpoint_source="Google Drive, linked from github.com/WenlongZhang0517/RankSRGAN",
        adversarial=True,
    ),
    ModelCard(
        name="imdn",
        title="IMDN",
        paper="Hui et al., Lightweight Image Super-Resolution with Information Multi-distillation Network, ACM MM 2019",
        year=2019,
        uses_reference=False,
        parameters=715_176,
        weights_licence=NONE_SEEN,
        trained_on="DIV2K; LR by MATLAB's bicubic",
        input_convention=UNIT,
        checkpoint=("IMDN_x4.pth",),
        checkpoint_source="github.com/Zheng222/IMDN",
    ),
)
CARDS = {card.name: card for card in _CARDS}

HOMES = {
    "srcnn": "srcnn",
    "edsr": "edsr",
    "edsr-baseline": "edsr",
    "mdsr": "edsr",
    "rcan": "rcan",
    "srgan": "srgan",
    "srresnet": "srgan",
    "srgan-tensorlayer": "srgan",
    "srgan-mmediting": "srgan",
    "srresnet-mmediting": "srgan",
    "enet": "enet",
    "esrgan": "rrdb",
    "esrgan-psnr": "rrdb",
    "ranksrgan": "ranksrgan",
    "imdn": "imdn",
}
"""The file of this folder whose ``METHODS`` holds the model."""
