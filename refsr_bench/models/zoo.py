"""The model zoo without torch: all cards, a factory for every method, and what cannot run.

Adding a method is one file under ``sisr/`` or ``refsr/`` with its `method.Method`, its card and home in that folder's
``__init__``, a factory here, and the line in `refsr_bench.lookup`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from refsr_bench.models import refsr, sisr
from refsr_bench.models.c2matching import PRESETS
from refsr_bench.schema import ModelCard
from refsr_bench.store import model_dir

if TYPE_CHECKING:
    from refsr_bench.models.base import SRModel

CARDS = {**sisr.CARDS, **refsr.CARDS}
HOMES = {name: f"{folder.__name__}.{file}" for folder in (sisr, refsr) for name, file in folder.HOMES.items()}
"""The module whose ``METHODS`` holds the model."""

PUBLISHED_ONLY = {
    "E2ENT2": "no public code could be found (Xie et al., ECCV 2020); only its printed numbers",
    "CIMR": "no public code or description could be found (Yan et al., ECCV 2020); only its printed numbers",
}
"""Methods of the paper's Table 1 that cannot run, and why."""


def how_to_get(card: ModelCard) -> str:
    """What to type to import the weights of a model, and where its files are."""
    files, home = " ".join(card.checkpoint) or "FILE", "c2matching" if card.name in _c2_roles() else card.name
    return f"refsr-bench weights import {home} {files}\n  published at: {card.checkpoint_source or 'nowhere known'}"


def weights_are_here(name: str) -> bool:
    """Whether the model folder holds imported weights of a model; for C2-Matching's networks, every file they need."""
    roles = _c2_roles().get(name)
    if roles is None:
        return any((model_dir() / name).glob("*.safetensors"))
    return all((model_dir() / "c2matching" / f"{role}.safetensors").is_file() for role in roles)


def _c2_roles() -> dict[str, tuple[str, str, str]]:
    return {preset.card.name: (preset.matching, preset.restoration, "vgg19") for preset in PRESETS.values()}


def _factory(name: str) -> Callable[..., SRModel]:
    def build(weights: str | Path | None = None, device: str = "cpu", untrained: bool | str = False) -> SRModel:
        from refsr_bench.models.method import load_model

        return load_model(name, weights, device, untrained)

    build.__name__ = f"build_{name.replace('-', '_')}"
    build.__doc__ = f"""Load {CARDS[name].title}; ``untrained=yes``: random numbers, and a name that says so.

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
build_srgan_tensorlayer = _factory("srgan-tensorlayer")
build_srgan_mmediting = _factory("srgan-mmediting")
build_srresnet_mmediting = _factory("srresnet-mmediting")
build_enet = _factory("enet")
build_esrgan = _factory("esrgan")
build_esrgan_psnr = _factory("esrgan-psnr")
build_ranksrgan = _factory("ranksrgan")
build_imdn = _factory("imdn")
build_crossnet = _factory("crossnet")
build_srntt = _factory("srntt")
build_srntt_rec = _factory("srntt-rec")
build_ttsr = _factory("ttsr")
build_ttsr_rec = _factory("ttsr-rec")
build_ssen = _factory("ssen")
build_masa = _factory("masa")
build_masa_rec = _factory("masa-rec")
build_amsa = _factory("amsa")
build_amsa_rec = _factory("amsa-rec")
build_datsr = _factory("datsr")
build_datsr_rec = _factory("datsr-rec")
build_mrefsr = _factory("mrefsr")
build_mrefsr_rec = _factory("mrefsr-rec")
