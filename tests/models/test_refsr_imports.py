"""Reference-based models from files of released size, as a person has them: every key, the borrowed networks, MDSR."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from refsr_bench.images import resize_bicubic
from refsr_bench.lookup import find
from refsr_bench.models import method
from refsr_bench.models.c2matching.extractor import Extractor
from refsr_bench.models.vgg import VGG19
from refsr_bench.models.weights import import_weights
from refsr_bench.store import model_dir
from tests.models.test_refsr import pictures
from tests.test_cli import run_json


def new_network(name: str) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return method.find_method(name).network()


def import_borrowed(folder: Path) -> None:
    """The two frozen networks that C2-Matching's relatives need."""
    for role, network in (("extractor", Extractor()), ("vgg19", VGG19())):
        torch.save(network.state_dict(), folder / f"{role}.pth")
        import_weights("c2matching", [f"{role}={folder / role}.pth"])


def as_published(name: str, state: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], set[str]]:
    """The state dict as its authors' training code writes it, and the keys in it that are of no use."""
    match name:
        case "ttsr":
            extra = {key.replace("LTE.", "LTE_copy."): value for key, value in state.items() if key.startswith("LTE.")}
            return {f"module.{key}": value for key, value in (state | extra).items()}, set(extra)
        case "datsr":
            block = "dyn_agg_restore.down_body_large.layers.0.residual_group.blocks.1"
            extra = {
                f"{block}.attn_mask": torch.zeros(4, 64, 64),
                f"{block}.attn.relative_position_index": torch.ones(4),
            }
            return state | extra, set(extra)
        case "mrefsr":
            return {f"net_g.{key}": value for key, value in state.items()}, set()
    return state, set()


@pytest.mark.parametrize(
    "name",
    [
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("crossnet", "amsa", "datsr", "mrefsr")),
        "ttsr",
        "ssen",
        "masa",
    ],
)
def test_a_state_dict_of_released_size_is_imported_and_restores(name: str, tmp_path: Path) -> None:
    state = new_network(name).state_dict()
    published, useless = as_published(name, state)
    torch.save(published, tmp_path / "published.pth")
    (stored,) = import_weights(name, [tmp_path / "published.pth"])
    certificate = json.loads((model_dir() / name / "network.certificate.json").read_text("utf-8"))
    assert set(certificate["left_out"]) == useless
    assert certificate["parameters"] == sum(value.numel() for value in state.values())
    assert np.isfinite(list(certificate["forward"].values())).all()
    borrowed = method.find_method(name).borrowed
    if borrowed:
        import_borrowed(tmp_path)
    model = find("models", name)()
    assert set(model.card.weights_sha256) == {"network", *borrowed}
    assert model.card.weights_sha256["network"] == stored.source_sha256
    loaded = model.parts.network.state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(value, loaded[key]) for key, value in state.items())
    lr, ref = pictures(6, 5)
    sr = model.restore(lr, [ref])
    assert sr.shape == (24, 20, 3)
    assert np.isfinite(sr).all()


def import_mdsr(folder: Path) -> None:
    torch.save(new_network("mdsr").state_dict(), folder / "mdsr.pt")
    import_weights("mdsr", [folder / "mdsr.pt"])


def test_crossnet_begins_with_mdsrs_picture_once_mdsr_is_imported(tmp_path: Path) -> None:
    torch.save(new_network("crossnet").state_dict(), tmp_path / "crossnet.pth")
    lr, ref = pictures(8, 8)
    torch.manual_seed(0)
    import_weights("crossnet", [tmp_path / "crossnet.pth"])
    without = find("models", "crossnet")()
    assert without.card.signature_keys == {"guess": "bicubic"}
    assert "mdsr" not in without.card.weights_sha256
    import_mdsr(tmp_path)
    model, mdsr = find("models", "crossnet")(), find("models", "mdsr")()
    assert model.card.signature_keys == {"guess": "mdsr"}
    assert model.card.weights_sha256["mdsr"] == mdsr.card.weights_sha256["network"]
    eight_bits = np.rint(np.clip(mdsr.restore(lr, []), 0, 1) * 255)
    guess = method.first_guess(model.parts, lr)[0].permute(1, 2, 0).numpy() * 255
    assert np.allclose(guess, eight_bits, atol=1e-3)
    assert not np.allclose(guess, resize_bicubic(lr, 32, 32), atol=2)
    assert not np.array_equal(model.restore(lr, [ref]), without.restore(lr, [ref]))


def test_srntt_is_evaluated_with_mdsrs_picture(small_dataset: Path, tmp_path: Path) -> None:
    network = new_network("srntt")
    for role in method.find_method("srntt").roles:
        torch.save(network.get_submodule(role).state_dict(), tmp_path / f"{role}.pth")
        import_weights("srntt", [f"{role}={tmp_path / role}.pth"])
    import_borrowed(tmp_path)
    assert find("models", "srntt")().card.signature_keys == {"guess": "bicubic"}
    import_mdsr(tmp_path)
    result = run_json("eval", "srntt", "--dataset", small_dataset, "--limit", 1, "--out", tmp_path / "run")
    assert not result["failed"]
    rows = [json.loads(line) for line in (tmp_path / "run" / "rows.jsonl").read_text("utf-8").splitlines()]
    assert rows
    assert all("|guess:mdsr" in row["signature"] for row in rows)
    card = json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))["model"]
    assert set(card["weights_sha256"]) == {"content", "texture", "vgg19", "mdsr"}
