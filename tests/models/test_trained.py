"""Networks of the paper's size: a step of training, and the model that the run's folder then is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from refsr_bench.errors import UsageError
from refsr_bench.lookup import find
from refsr_bench.models.c2matching.checkpoints import save_tensors
from refsr_bench.models.c2matching.config import make_config
from refsr_bench.models.c2matching.extractor import Extractor
from refsr_bench.models.c2matching.loop import Place
from refsr_bench.models.c2matching.training import build, open_run, train
from refsr_bench.models.c2matching.training_data import find_photographs
from refsr_bench.models.vgg import VGG19

CPU = Place(torch.device("cpu"))


@pytest.mark.parametrize(
    ("preset", "settings", "model"),
    [
        ("paper", ["reference_encoder=learned", "loss=rec"], "c2matching"),
        ("light", ["reference_encoder=learned", "precision=bf16"], "c2matching-light"),
        ("paper", ["matcher=vgg19", "dynagg=false", "reference_encoder=learned"], "c2matching-baseline"),
    ],
)
def test_networks_of_the_papers_size_are_trained_and_evaluated(
    preset: str, settings: list[str], model: str, photographs: Path, tmp_path: Path
) -> None:
    save_tensors(tmp_path, "extractor", Extractor().state_dict())
    save_tensors(tmp_path, "vgg", VGG19(("relu3_1",)).state_dict())
    quick = ["iterations=1", "batch=1", "workers=0", "size_px=48", "own_share=0", "same_share=1", *settings]
    given = [f"extractor={tmp_path / 'extractor.safetensors'}", f"vgg19={tmp_path / 'vgg.safetensors'}"]
    config = make_config("restoration", preset, [*quick, *given])
    sources = find_photographs([photographs])
    run_dir = tmp_path / "run"
    open_run(run_dir, config, sources, ["photos"], CPU, False)
    train(run_dir, config, build(config, sources, CPU), sources, CPU)
    made = find("models", model)(weights=run_dir)
    assert made.card.name == f"{model}-retrained"
    assert made.restore(np.zeros((12, 15, 3), np.uint8), [np.zeros((48, 60, 3), np.uint8)]).shape == (48, 60, 3)
    other = "c2matching-light" if preset == "paper" else "c2matching"
    with pytest.raises(UsageError, match=f"is no run of {other}"):
        find("models", other)(weights=run_dir)
    with pytest.raises(UsageError, match=f"holds weights of the {preset} network"):
        find("models", "c2matching-small")(weights=run_dir)
