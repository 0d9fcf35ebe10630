"""Names to objects: a table of built-in plug-ins per kind, entry points for everybody else's.

Adding a built-in is one file and one line here. A third party registers ``name = "package.module:object"`` under the
entry-point group ``refsr_bench.<kind>``. Nothing is imported until it is asked for, so listing stays instant.
"""

from __future__ import annotations

import importlib
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal, NamedTuple

from refsr_bench.errors import UsageError, did_you_mean

Kind = Literal["datasets", "models", "matchers", "metrics", "providers"]
KINDS: tuple[Kind, ...] = ("datasets", "models", "matchers", "metrics", "providers")


class Entry(NamedTuple):
    """Where an object lives ("module:attribute") and what it is, in one line."""

    target: str
    summary: str
    options: tuple[tuple[str, str], ...] = ()
    """Options that this name stands for, where it is an alias of another one with them."""


_PROVIDERS = "refsr_bench.collectors.curation.providers"

BUILT_IN: dict[Kind, dict[str, Entry]] = {
    "datasets": {
        "demo": Entry("refsr_bench.collectors.demo:build", "21 real pairs from scikit-image's photographs; offline"),
        "custom": Entry(
            "refsr_bench.collectors.custom:build", "your own photographs: a scene, input/ref folders, a CSV"
        ),
        "cufed5": Entry(
            "refsr_bench.collectors.cufed5:build", "126 inputs, five references of falling similarity each"
        ),
        "cufed": Entry("refsr_bench.collectors.cufed:build", "11,871 training pairs of 160x160 px"),
        "sun80": Entry("refsr_bench.collectors.sun80:build", "80 inputs, about twenty scene matches each"),
        "urban100": Entry("refsr_bench.collectors.urban100:build", "100 buildings; the LR picture is the reference"),
        "manga109": Entry("refsr_bench.collectors.manga109:build", "109 comic pages, from your licensed copy"),
        "manga109-third-party": Entry(
            "refsr_bench.collectors.manga109:build_third_party", "the same, references by a third party's list"
        ),
        "wr-sr": Entry("refsr_bench.collectors.wr_sr:build", "80 pairs found on the web, as released"),
        "set5": Entry("refsr_bench.collectors.set5:build", "5 single pictures with MATLAB LR, for calibration"),
        "set14": Entry("refsr_bench.collectors.set14:build", "14 single pictures with MATLAB LR, for calibration"),
        "bsd100": Entry("refsr_bench.collectors.bsd100:build", "100 single pictures with MATLAB LR, for calibration"),
        "transformed": Entry(
            "refsr_bench.collectors.transformed:build", "rotated and scaled references of a built set (--of, --kind)"
        ),
        "cufed5-rotation": Entry(
            "refsr_bench.collectors.transformed:build",
            "alias of transformed --of cufed5 --kind rotation",
            (("of", "cufed5"), ("kind", "rotation")),
        ),
        "cufed5-scale": Entry(
            "refsr_bench.collectors.transformed:build",
            "alias of transformed --of cufed5 --kind scale",
            (("of", "cufed5"), ("kind", "scale")),
        ),
        "pairs": Entry(
            "refsr_bench.collectors.pairs:build", "pictures with known correspondences: homographies or disparity"
        ),
    },
    "models": {
        "bicubic": Entry("refsr_bench.models.bicubic:build", "Pillow's bicubic x4; the floor of every table"),
        "c2matching": Entry("refsr_bench.models.c2matching:build", "C2-Matching trained with L1 ('-rec'), CVPR 2021"),
        "c2matching-gan": Entry("refsr_bench.models.c2matching:build_gan", "C2-Matching with its GAN loss, CVPR 2021"),
        "c2matching-light": Entry("refsr_bench.models.c2matching:build_light", "C2-Matching-light; train it yourself"),
        "c2matching-baseline": Entry("refsr_bench.models.c2matching:build_baseline", "Fig. 5: VGG matches, copied"),
        "c2matching-dynagg": Entry("refsr_bench.models.c2matching:build_dynagg", "Fig. 5: + Dyn-Agg"),
        "c2matching-contrastive": Entry("refsr_bench.models.c2matching:build_contrastive", "Fig. 5: + contrastive"),
        "c2matching-small": Entry("refsr_bench.models.c2matching:build_small", "C2-Matching at CPU size, with weights"),
        "srcnn": Entry("refsr_bench.models.zoo:build_srcnn", "SRCNN 9-1-5, TPAMI 2015"),
        "edsr": Entry("refsr_bench.models.zoo:build_edsr", "EDSR (43 M), CVPRW 2017"),
        "edsr-baseline": Entry("refsr_bench.models.zoo:build_edsr_baseline", "EDSR baseline (1.5 M)"),
        "mdsr": Entry("refsr_bench.models.zoo:build_mdsr", "MDSR, CVPRW 2017; SRNTT and CrossNet consume its output"),
        "rcan": Entry("refsr_bench.models.zoo:build_rcan", "RCAN, ECCV 2018"),
        "srgan": Entry("refsr_bench.models.zoo:build_srgan", "SRGAN, CVPR 2017, the paper's generator"),
        "srresnet": Entry("refsr_bench.models.zoo:build_srresnet", "SRResNet: SRGAN without the GAN"),
        "srgan-tensorlayer": Entry("refsr_bench.models.zoo:build_srgan_tensorlayer", "SRGAN, TensorLayer's weights"),
        "srgan-mmediting": Entry("refsr_bench.models.zoo:build_srgan_mmediting", "SRGAN, MMEditing's weights"),
        "srresnet-mmediting": Entry("refsr_bench.models.zoo:build_srresnet_mmediting", "SRResNet, MMEditing's weights"),
        "enet": Entry("refsr_bench.models.zoo:build_enet", "ENet-PAT, ICCV 2017"),
        "esrgan": Entry("refsr_bench.models.zoo:build_esrgan", "ESRGAN, ECCVW 2018"),
        "esrgan-psnr": Entry("refsr_bench.models.zoo:build_esrgan_psnr", "ESRGAN's RRDBNet trained with L1"),
        "ranksrgan": Entry("refsr_bench.models.zoo:build_ranksrgan", "RankSRGAN, ICCV 2019"),
        "imdn": Entry("refsr_bench.models.zoo:build_imdn", "IMDN, ACM MM 2019; calibrates the single-image path"),
        "crossnet": Entry("refsr_bench.models.zoo:build_crossnet", "CrossNet, ECCV 2018; warps by optical flow"),
        "srntt": Entry("refsr_bench.models.zoo:build_srntt", "SRNTT, CVPR 2019; pools any number of references"),
        "srntt-rec": Entry("refsr_bench.models.zoo:build_srntt_rec", "SRNTT trained without its GAN"),
        "ttsr": Entry("refsr_bench.models.zoo:build_ttsr", "TTSR, CVPR 2020"),
        "ttsr-rec": Entry("refsr_bench.models.zoo:build_ttsr_rec", "TTSR trained without its GAN"),
        "ssen": Entry("refsr_bench.models.zoo:build_ssen", "SSEN, CVPR 2020; no official code or weights"),
        "masa": Entry("refsr_bench.models.zoo:build_masa", "MASA-SR, CVPR 2021"),
        "masa-rec": Entry("refsr_bench.models.zoo:build_masa_rec", "MASA-SR trained without its GAN"),
        "amsa": Entry("refsr_bench.models.zoo:build_amsa", "AMSA, AAAI 2022"),
        "amsa-rec": Entry("refsr_bench.models.zoo:build_amsa_rec", "AMSA trained without its GAN"),
        "datsr": Entry("refsr_bench.models.zoo:build_datsr", "DATSR, ECCV 2022"),
        "datsr-rec": Entry("refsr_bench.models.zoo:build_datsr_rec", "DATSR trained without its GAN"),
        "mrefsr": Entry("refsr_bench.models.zoo:build_mrefsr", "MRefSR, 2023; attends to any number of references"),
        "mrefsr-rec": Entry("refsr_bench.models.zoo:build_mrefsr_rec", "MRefSR trained without its GAN"),
    },
    "matchers": {
        "c2-student": Entry(
            "refsr_bench.models.matchers.learned:build_student", "C2-Matching's contrastive network, as it is used"
        ),
        "c2-teacher": Entry(
            "refsr_bench.models.matchers.learned:build_teacher", "its teacher, which is shown the HR picture"
        ),
        "vgg19": Entry("refsr_bench.models.matchers.learned:build_vgg19", "fixed VGG-19 features, as SRNTT matches"),
        "sift": Entry(
            "refsr_bench.models.matchers.sift:build", "SIFT key points (OpenCV), made dense by a stated rule"
        ),
        "identity": Entry("refsr_bench.models.matchers.floors:build_identity", "no motion at all"),
        "random": Entry("refsr_bench.models.matchers.floors:build_random", "any patch of the reference, all alike"),
        "oracle": Entry("refsr_bench.models.matchers.floors:build_oracle", "the best cell there is: knows the truth"),
    },
    "metrics": {
        "psnr_y": Entry("refsr_bench.protocols.fidelity:PSNR_Y", "peak signal-to-noise ratio of the luma plane, dB"),
        "ssim_y": Entry("refsr_bench.protocols.fidelity:SSIM_Y", "structural similarity of the luma plane"),
        "psnr_rgb": Entry("refsr_bench.protocols.fidelity:PSNR_RGB", "peak signal-to-noise ratio of RGB, dB"),
        "ssim_rgb": Entry("refsr_bench.protocols.fidelity:SSIM_RGB", "structural similarity, mean of the channels"),
        "psnr_y_visible": Entry(
            "refsr_bench.protocols.fidelity:PSNR_Y_VISIBLE", "psnr_y over the pixels that the reference shows too, dB"
        ),
        "aee": Entry("refsr_bench.protocols.correspondence:AEE", "average end-to-point error of the matches, HR px"),
        "aee_median": Entry("refsr_bench.protocols.correspondence:AEE_MEDIAN", "their median error, HR px"),
        "pck@4": Entry("refsr_bench.protocols.correspondence:PCK_4", "share of matches at most 4 HR px off"),
        "pck@8": Entry("refsr_bench.protocols.correspondence:PCK_8", "share of matches at most 8 HR px off"),
        "valid_fraction": Entry(
            "refsr_bench.protocols.correspondence:VALID_FRACTION", "share of nodes whose true point counts"
        ),
        "aee_4i": Entry(
            "refsr_bench.protocols.correspondence:AEE_4I", "aee in the released training code's convention, HR px"
        ),
    },
    "providers": {
        "openverse": Entry(f"{_PROVIDERS}.openverse:PROVIDER", "openly licensed pictures of many collections"),
        "wikimedia-commons": Entry(f"{_PROVIDERS}.commons:PROVIDER", "the files of Wikimedia Commons"),
        "flickr": Entry(f"{_PROVIDERS}.flickr:PROVIDER", "Flickr's photo search; needs FLICKR_API_KEY"),
        "saved-page": Entry(f"{_PROVIDERS}.saved_page:PROVIDER", "a search-result page saved from a browser"),
        "url-list": Entry(f"{_PROVIDERS}.url_list:PROVIDER", "addresses from a text or CSV file"),
        "local-folder": Entry(f"{_PROVIDERS}.local_folder:PROVIDER", "pictures on this disk"),
    },
}


def list_entries(kind: Kind) -> dict[str, Entry]:
    """All known names of a kind, built-in first; a plug-in that takes a built-in's name is not listed."""
    table = dict(BUILT_IN[kind])
    for point in sorted(_plug_ins(kind), key=lambda p: p.name):
        origin = point.dist.name if point.dist is not None else "?"
        table.setdefault(point.name, Entry(point.value, f"plug-in of {origin}"))
    return table


def find(kind: Kind, name: str) -> Any:
    """Import and return the object called ``name``; `UsageError` with the nearest name if there is none."""
    table = list_entries(kind)
    if name not in table:
        raise UsageError(f"there is no {kind.removesuffix('s')} called {name!r}", did_you_mean(name, table))
    module, _, attribute = table[name].target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:
        if name in BUILT_IN[kind]:
            raise
        raise UsageError(
            f"the plug-in {name!r} ({table[name].target}) cannot be loaded: {type(error).__name__}: {error}",
            f"repair or uninstall it: it comes from {table[name].summary.removeprefix('plug-in of ')}",
        ) from error


def find_card(kind: Kind, name: str) -> Any | None:
    """The card that the module of a plug-in keeps in ``CARDS`` under its name; None if it keeps none."""
    find(kind, name)
    module = importlib.import_module(list_entries(kind)[name].target.partition(":")[0])
    return getattr(module, "CARDS", {}).get(name)


def _plug_ins(kind: Kind) -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=f"refsr_bench.{kind}"))
