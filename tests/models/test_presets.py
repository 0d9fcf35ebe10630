"""The networks of the paper's Table 4 and Fig. 5 from weight files of one's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from refsr_bench.errors import IntegrityError, ManualStepNeeded, UsageError
from refsr_bench.lookup import find
from refsr_bench.models.c2matching import PRESETS
from refsr_bench.models.c2matching.extractor import Extractor
from refsr_bench.models.c2matching.restoration import Restoration
from refsr_bench.models.c2matching.roles import definition_of, identify
from refsr_bench.models.vgg import VGG19
from refsr_bench.models.weights import import_weights


def test_cards_count_the_parameters_there_are() -> None:
    for preset in PRESETS.values():
        with torch.device("meta"):
            net = Restoration(definition_of(preset.restoration))
        assert sum(parameter.numel() for parameter in net.parameters()) == preset.card.parameters


@pytest.mark.parametrize("variant", ["light", "baseline", "contrastive"])
def test_a_preset_restores_with_weights_of_ones_own(variant: str, tmp_path: Path) -> None:
    preset = PRESETS[variant]
    torch.manual_seed(0)
    states = {preset.restoration: Restoration(definition_of(preset.restoration)), "vgg19": VGG19()}
    if preset.matching != "vgg19":
        states[preset.matching] = Extractor()
    for role, net in states.items():
        torch.save(net.state_dict(), tmp_path / f"{role}.pth")
    import_weights("c2matching", [f"{role}={tmp_path / f'{role}.pth'}" for role in states])
    model = find("models", preset.card.name)()
    picture = np.random.default_rng(0).integers(0, 256, (28, 36, 3), dtype=np.uint8)
    assert model.restore(picture[:7, :9], [picture]).shape == (28, 36, 3)
    assert set(model.card.weights_sha256) == set(states)
    assert len(model.match(picture, picture).nodes) == 5 * 7
    with pytest.raises(IntegrityError, match="does not fit"):
        identify(states["vgg19"].state_dict(), tmp_path / "x.pth", preset.restoration)


def test_networks_that_were_never_published_say_so() -> None:
    with pytest.raises(ManualStepNeeded, match="no weights were published for restoration-light"):
        find("models", "c2matching-light")()
    with pytest.raises(UsageError, match="no variant"):
        find("models", "c2matching")(variant="lite")


def test_light_and_baseline_are_known_by_their_keys() -> None:
    for role in ("restoration-light", "restoration-baseline"):
        state = Restoration(definition_of(role)).state_dict()
        assert identify(state, Path("mine.pth")).role == role
