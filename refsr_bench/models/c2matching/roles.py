"""The weight files C2-Matching is made of: telling them apart, checking them, finding them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from refsr_bench import disk, store
from refsr_bench.errors import ManualStepNeeded, UsageError, did_you_mean
from refsr_bench.models import weights
from refsr_bench.models.c2matching import RELEASE_LICENCE
from refsr_bench.models.c2matching.extractor import Extractor
from refsr_bench.models.c2matching.restoration import LIGHT, NO_DYN_AGG, PAPER, Definition, Restoration
from refsr_bench.models.vgg import check_vgg19, vgg_convention
from refsr_bench.models.weights import Identified

OFFICIAL_NAMES = {
    "extractor": ("feature_extraction.pth",),
    "restoration-mse": ("c2_matching_restoration_mse.pth",),
    "restoration-gan": ("c2_matching_restoration.pth",),
    "vgg19": ("vgg19-dcbb9e9d.pth",),
}
"""Role to the names its file has where it is published."""

OWN_ROLES = ("restoration-light", "restoration-baseline", "restoration-dynagg", "restoration-contrastive")
"""Networks of the paper of which no weights were published: these are of one's own training."""
OWN_EXTRACTOR = "extractor-contrastive"
ROLES = (*OFFICIAL_NAMES, *OWN_ROLES, OWN_EXTRACTOR)


def definition_of(role: str) -> Definition:
    """What the restoration network of a role is made of."""
    return {"restoration-light": LIGHT, "restoration-baseline": NO_DYN_AGG}.get(role, PAPER)


VGG_LICENCES = {
    "torchvision": "torchvision's BSD-3-Clause; trained on ImageNet",
    "caffe-bgr": "CC BY 4.0, Visual Geometry Group, Oxford; trained on ImageNet",
}


class Loaded(NamedTuple):
    """The tensors of one role, and the hash of the file they were published in."""

    state: dict[str, Tensor]
    source: str
    sha256: str


def identify(state: Mapping[str, Tensor], path: Path, role: str | None = None) -> Identified:
    """Tell which role a checkpoint plays, from its keys, and check every key and shape.

    The two restoration files share their keys: the file's name decides ("mse" in it, or the official name of the GAN
    one), else ``role`` must be given, or UsageError is raised. IntegrityError: the file does not fit its role.
    """
    if role is not None and role not in ROLES:
        raise UsageError(f"unknown role {role!r} for {path}", did_you_mean(role, ROLES))
    role = role or _guess_role(state, path)
    if role == "vgg19":
        convention = vgg_convention(state, str(path))
        kept = check_vgg19(state, str(path))
        return Identified(role, "VGG-19", VGG_LICENCES[convention], convention, kept)
    with torch.device("meta"):
        net = Extractor() if role.startswith("extractor") else Restoration(definition_of(role))
    weights.require_match(net.state_dict(), state, str(path))
    kind = "contrastive extractor" if role.startswith("extractor") else "restoration network"
    licence = RELEASE_LICENCE if role in OFFICIAL_NAMES else "of whoever trained it"
    return Identified(role, f"C2-Matching {kind}", licence, "as released", dict(state))


def _guess_role(state: Mapping[str, Tensor], path: Path) -> str:
    if any(key.startswith("feature_extraction_image") for key in state):
        return "extractor"
    if not any(key.startswith("content_extractor.") for key in state):
        return "vgg19"
    if not any("small_dyn_agg" in key for key in state):
        return "restoration-light" if any("dyn_agg.weight" in key for key in state) else "restoration-baseline"
    if "mse" in path.name.lower():
        return "restoration-mse"
    if path.name in OFFICIAL_NAMES["restoration-gan"]:
        return "restoration-gan"
    raise UsageError(
        f"{path} is a restoration network, but its name does not say with which loss it was trained",
        f"write restoration-mse={path} or restoration-gan={path}",
    )


def load_roles(roles: tuple[str, ...], folder: str | Path | None) -> dict[str, Loaded]:
    """Read the weights of the given roles, from ``folder`` or from the model folder, and check all of them.

    Each is an imported ``<role>.safetensors`` (re-hashed against its description) or the published file under its
    official name. ManualStepNeeded: some are missing; the message says which, and how to get them.
    """
    where = Path(folder).expanduser() if folder is not None else store.model_dir() / "c2matching"
    found = {role: _find(where, role) for role in roles}
    missing = [role for role, path in found.items() if path is None]
    if missing:
        raise ManualStepNeeded(
            f"C2-Matching needs weights that are not in {where}: {', '.join(missing)}", _how_to_get(roles)
        )
    return {role: _load(path, role) for role, path in found.items() if path is not None}


def _find(folder: Path, role: str) -> Path | None:
    candidates = (folder / name for name in (f"{role}.safetensors", *OFFICIAL_NAMES.get(role, ())))
    return next((path for path in candidates if path.is_file()), None)


def _load(path: Path, role: str) -> Loaded:
    # The published file's hash names the weights, whichever way they came here.
    imported = path.suffix == ".safetensors"
    sha256 = weights.check_imported(path).source_sha256 if imported else disk.sha256_file(path)
    return Loaded(identify(weights.load_checkpoint(path), path, role).state, str(path), sha256)


def _how_to_get(roles: tuple[str, ...]) -> str:
    files = " ".join(OFFICIAL_NAMES[role][0] if role in OFFICIAL_NAMES else f"{role}=FILE" for role in roles)
    own = [role for role in roles if role not in OFFICIAL_NAMES]
    return (f"no weights were published for {', '.join(own)}: train them, see docs/training.md\n  " if own else "") + (
        f"refsr-bench weights import c2matching {files}\n"
        "  The C2-Matching files are in the release's Google Drive folder\n"
        "  https://drive.google.com/drive/folders/1dTkXMzeBrHelVQUEx5zib5MdmvqDaSd9\n"
        "  and vgg19-dcbb9e9d.pth is torchvision's: https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"
    )
