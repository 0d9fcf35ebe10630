"""The weights that a training run leaves: finding them, and C2-Matching at the paper's size made of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import nn

from refsr_bench.disk import sha256_file
from refsr_bench.errors import IntegrityError, UsageError
from refsr_bench.models.c2matching import Preset
from refsr_bench.models.c2matching.extractor import Extractor
from refsr_bench.models.c2matching.restoration import LIGHT, PAPER, Restoration
from refsr_bench.models.c2matching.roles import definition_of, load_roles
from refsr_bench.models.c2matching.small import VggExtractor
from refsr_bench.models.vgg import VGG19, load_vgg19
from refsr_bench.models.weights import load_checkpoint, load_into

DESCRIPTION = "weights.json"
"""Says of which network and stage the weights beside it are."""


def find_run(weights: str | Path) -> Path | None:
    """The folder that describes its weights: ``weights`` itself or, in a run folder, the one of that name."""
    folder = Path(weights).expanduser()
    return next((each for each in (folder, folder / "weights") if (each / DESCRIPTION).is_file()), None)


def read_description(folder: Path) -> dict[str, Any]:
    """What `DESCRIPTION` says; IntegrityError if it is missing, damaged or of something else."""
    try:
        described: dict[str, Any] = json.loads((folder / DESCRIPTION).read_text("utf-8"))
        return {**described, "network": described["network"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{folder / DESCRIPTION} does not describe trained weights: {error!r}") from error


def trained_file(folder: Path, name: str) -> Path:
    """A weight file of a finished restoration run; UsageError if the folder is of another stage."""
    path = folder / f"{name}.safetensors"
    if not path.is_file():
        raise UsageError(f"{folder} holds no {path.name}", "give the folder of a finished restoration run")
    return path


def load_run(preset: Preset, folder: Path) -> tuple[nn.Module, VGG19, Restoration, dict[str, Any]]:
    """Extractor, encoder of the reference and restoration network of a run, and what it changes on the card.

    Where the run learned no encoder, the imported VGG-19 is one. UsageError: the run is of another network than the
    preset. ManualStepNeeded: it needs VGG-19, which is not imported.
    """
    described = read_description(folder)
    if described["network"] == "small":
        raise UsageError(f"{folder} holds weights of the small network", "evaluate it as c2matching-small")
    definition = (LIGHT if described["network"] == "light" else PAPER)._replace(dyn_agg=described.get("dynagg", True))
    fixed = described.get("vgg19")
    if definition != definition_of(preset.restoration) or (preset.matching == "vgg19") != (fixed is not None):
        matched = "fixed VGG-19" if fixed else "learned"
        aggregated = "" if definition.dyn_agg else ", without dynamic aggregation"
        raise UsageError(
            f"{folder} is no run of {preset.card.name}: network {described['network']}{aggregated}, {matched} matches"
        )
    restoration = Restoration(definition)
    hashes = {"restoration": _fill(restoration, folder, "restoration")}
    extractor: Extractor | VggExtractor = Extractor()
    if fixed is not None:
        extractor = VggExtractor(VGG19(("relu3_1",), fixed))
    hashes["extractor"] = _fill(
        extractor.vgg if isinstance(extractor, VggExtractor) else extractor, folder, "extractor"
    )
    if (folder / "encoder.safetensors").is_file():
        vgg = VGG19()
        hashes["encoder"] = _fill(vgg, folder, "encoder")
    else:
        loaded = load_roles(("vgg19",), None)["vgg19"]
        vgg, hashes["vgg19"] = load_vgg19(loaded.state, loaded.source), loaded.sha256
    changed = {
        "name": f"{preset.card.name}-retrained",
        "title": f"{preset.card.title}; weights of your own",
        "trained_on": f"see {folder}",
        "weights_licence": "of whoever trained them",
        "weights_sha256": hashes,
    }
    return extractor, vgg, restoration, changed


def _fill(net: nn.Module, folder: Path, name: str) -> str:
    """Load a network's weights and return the hash of their file."""
    path = trained_file(folder, name)
    load_into(net, load_checkpoint(path), str(path))
    return sha256_file(path)
