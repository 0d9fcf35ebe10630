"""Tiles that see far enough change nothing; budgets, bf16 and the definitions of the network."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_weights import golden_state
from torch import Tensor

from refsr_bench.errors import RefsrError, UsageError
from refsr_bench.models.c2matching import CARD, inference, matching
from refsr_bench.models.c2matching.extractor import Extractor
from refsr_bench.models.c2matching.inference import C2Matching, Settings, read_settings
from refsr_bench.models.c2matching.matching import expand_offsets
from refsr_bench.models.c2matching.plain import restore_plainly
from refsr_bench.models.c2matching.restoration import LIGHT, NO_DYN_AGG, Definition, Restoration, copy_matched
from refsr_bench.models.c2matching.tiling import (
    INEXACT_HALO,
    TILE_BYTES,
    WHOLE_BYTES,
    Plan,
    plan_tiles,
    read_bytes,
    run_in_tiles,
)
from refsr_bench.models.deform import DynAgg
from refsr_bench.models.vgg import VGG19
from refsr_bench.models.winograd import has_winograd, use_winograd

Inputs = tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]


def lively(definition: Definition = Definition()) -> Restoration:  # noqa: B008
    """A small network whose learned offsets and deep layers matter."""
    torch.manual_seed(0)
    net = Restoration(definition).eval()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("weight"):
                parameter.normal_(std=(1.2 / parameter[0].numel()) ** 0.5)
    return net


def inputs(height: int, width: int) -> Inputs:
    generator = torch.Generator().manual_seed(1)
    count = (height - 2) * (width - 2)
    index = torch.randint(0, count, (1, height - 2, width - 2), generator=generator)
    sizes = {"relu3_1": (256, 1), "relu2_1": (128, 2), "relu1_1": (64, 4)}
    features = {
        layer: torch.rand(1, channels, scale * height, scale * width, generator=generator)
        for layer, (channels, scale) in sizes.items()
    }
    return torch.rand(1, 3, height, width, generator=generator), expand_offsets(index, width - 2), features


SHORT = Definition(blocks=(1, 1, 1, 2))


def budget_for(side: int, height: int, width: int) -> int:
    return 16 * height * width * WHOLE_BYTES + side * side * TILE_BYTES


@torch.inference_mode()
def test_tiles_that_see_far_enough_change_nothing() -> None:
    net, (lr, offsets, features) = lively(SHORT), inputs(18, 23)
    assert net.halo == 10
    whole = net(lr, offsets, features)
    calls: list[torch.Size] = []
    net.dyn_agg_restore["head_large"].register_forward_hook(lambda _m, _i, out: calls.append(out.shape))
    net.memory_budget = budget_for(2 * net.halo + 32, 18, 23)
    tiled = net(lr, offsets, features)
    assert len(calls) == 9
    assert max(shape[2] for shape in calls) <= 2 * net.halo + 32
    assert (tiled - whole).abs().max() <= 1e-5
    assert whole.std() > 0.1, "a network that does nothing tests nothing"


@torch.inference_mode()
def test_the_halo_is_not_larger_than_it_must_be() -> None:
    net, (lr, offsets, features) = lively(SHORT), inputs(18, 23)
    whole = net(lr, offsets, features)
    net.memory_budget = budget_for(2 * INEXACT_HALO + 32, 18, 23)
    with pytest.raises(UsageError, match="cannot be restored within"):
        net(lr, offsets, features)
    net.allow_inexact_tiles = True
    assert (net(lr, offsets, features) - whole).abs().max() > 1e-5


@torch.inference_mode()
@pytest.mark.parametrize("fast", [pytest.param(False, marks=pytest.mark.slow), True], ids=["direct", "winograd"])
def test_the_whole_network_in_tiles_as_large_as_its_receptive_field(fast: bool) -> None:
    net, (lr, offsets, features) = lively(), inputs(28, 34)
    assert net.halo == 38
    net.load_state_dict(golden_state(net))  # numbers near 1: rounding may depend on where a tile begins
    if fast:
        for body in net.bodies():
            use_winograd(body)
    whole = net(lr, offsets, features)
    net.memory_budget = budget_for(2 * net.halo + 32, 28, 34)
    assert plan_tiles(112, 136, net.halo, net.memory_budget) == Plan(108, 38)
    difference = (net(lr, offsets, features) - whole).abs().max()
    assert 0 < difference <= 1e-5 if fast and has_winograd() else difference <= 1e-5


@torch.inference_mode()
def test_equals_the_plain_network() -> None:
    net, arguments = lively(SHORT), inputs(9, 12)
    expected = restore_plainly(net, *arguments)
    torch.testing.assert_close(net(*arguments), expected, rtol=0, atol=1e-5)


def test_out_of_memory_is_tried_again_in_smaller_tiles() -> None:
    asked: list[int] = []

    def compute(rows: slice, columns: slice) -> Tensor:
        asked.append((rows.stop - rows.start) * (columns.stop - columns.start))
        if asked[-1] > 4000:
            raise torch.OutOfMemoryError
        y, x = torch.meshgrid(torch.arange(100.0)[rows], torch.arange(90.0)[columns], indexing="ij")
        return (100 * y + x)[None, None].expand(1, 3, -1, -1)

    result = run_in_tiles(compute, 100, 90, None, 4)
    assert torch.equal(result[0, 2], torch.arange(100.0)[:, None] * 100 + torch.arange(90.0))
    assert asked[0] == 9000
    with pytest.raises(RefsrError, match="even in the smallest tiles"):
        run_in_tiles(lambda _r, _c: (_ for _ in ()).throw(torch.OutOfMemoryError()), 100, 90, None, 4)


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "2TBB", "nan", "inf GB", "0"])
def test_amounts_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="not an amount"):
        read_bytes(text)


def test_settings_are_read_and_what_changes_scores_is_signed() -> None:
    assert read_settings("fp32", "auto", "no", "no") == Settings()
    assert read_settings("fp32", "2GB", "no", "no").signature_keys == {}
    assert read_settings("bf16", "2GB", "yes", "no").signature_keys == {"prec": "bf16", "tiles": "inexact8"}
    for wrong in (("fp16", "auto", "no", "no"), ("fp32", "much", "no", "no"), ("fp32", "auto", "maybe", "no")):
        with pytest.raises(UsageError):
            read_settings(*wrong)


def pictures(photographs: Path) -> tuple[np.ndarray, np.ndarray]:
    from refsr_bench.images import load_image, resize_bicubic

    picture = load_image(photographs / "chelsea.png")[60:220, 100:300]
    return resize_bicubic(picture[:96, :120], 24, 30), picture[10:106, 20:140]


def test_bf16_moves_the_picture_a_little_and_keeps_the_matches(photographs: Path) -> None:
    lr, ref = pictures(photographs)
    found = []
    for precision in ("fp32", "bf16"):
        torch.manual_seed(0)
        model = C2Matching(
            CARD, Extractor(), VGG19(), Restoration(), torch.device("cpu"), read_settings(precision, "auto", "no", "no")
        )
        found.append((model.restore(lr, [ref]), model.match(ref, ref).matches))
    assert model.card.signature_keys == {"prec": "bf16"}
    difference = np.abs(found[0][0] - found[1][0])
    assert 0 < difference.max() < 0.02
    np.testing.assert_array_equal(found[0][1], found[1][1])


def test_units_for_bf16_are_used_for_the_search_too(photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    search = matching.match_patches

    def record(feat_in: Tensor, feat_ref: Tensor, precision: str) -> tuple[Tensor, Tensor]:
        asked.append(precision)
        return search(feat_in, feat_ref, precision)

    monkeypatch.setattr(matching, "match_patches", record)
    lr, ref = pictures(photographs)
    for units in (False, True):
        monkeypatch.setattr(inference, "has_bf16", lambda _device, units=units: units)
        model = C2Matching(
            CARD, Extractor(), VGG19(), Restoration(SHORT), torch.device("cpu"), Settings(precision="bf16")
        )
        assert np.isfinite(model.restore(lr[:6, :8], [ref[:24, :32]])).all()
    assert asked == ["fp32", "bf16"]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch's own, inside its compiler
def test_compiled_blocks_change_nothing_at_any_size(photographs: Path) -> None:
    lr, ref = pictures(photographs)
    found = []
    for settings in (Settings(), Settings(compile=True)):
        torch.manual_seed(0)
        model = C2Matching(CARD, Extractor(), VGG19(), Restoration(SHORT), torch.device("cpu"), settings)
        found.append([model.restore(lr, [ref]), model.restore(lr[:9, :11], [ref[:40, :44]])])
    for eager, compiled in zip(*found, strict=True):
        np.testing.assert_allclose(compiled, eager, atol=1e-5)


@pytest.mark.slow
def test_native_bf16_runs_through_every_layer() -> None:
    """What a device with bfloat16 units does, on a CPU that emulates them: the types have to fit."""
    net, (lr, offsets, features) = lively(SHORT), inputs(6, 8)
    with torch.inference_mode():
        whole = net(lr, offsets, features)
        with torch.autocast("cpu", torch.bfloat16):
            halved = net(lr, offsets, {layer: feature.bfloat16() for layer, feature in features.items()})
    assert (halved.float() - whole).abs().mean() < 0.1 * whole.std()


# --- definitions ---------------------------------------------------------------------------------------------------


def parameters(definition: Definition) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in Restoration(definition).parameters())


def test_published_parameter_counts() -> None:
    assert parameters(Definition()) == 8_865_547
    assert parameters(LIGHT) == 4_825_395
    assert round(parameters(LIGHT) / 1e6, 1) == 4.8
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in Extractor().parameters()) == 1_110_656


@torch.inference_mode()
@pytest.mark.parametrize("definition", [LIGHT, NO_DYN_AGG], ids=["light", "no-dyn-agg"])
def test_other_definitions_restore(definition: Definition) -> None:
    net, (lr, offsets, features) = lively(definition._replace(blocks=(1, 1, 1, 1))), inputs(7, 9)
    out = net(lr, offsets, features)
    assert out.shape == (1, 3, 28, 36)
    assert any(isinstance(module, DynAgg) for module in net.modules()) == definition.dyn_agg
    unseen = net(lr, offsets, features | {"relu3_1": features["relu3_1"] * 0})
    assert torch.equal(out, unseen) == ("small" not in definition.levels)


def test_copied_features_are_those_at_the_match() -> None:
    feature = torch.arange(42.0).view(1, 1, 6, 7)
    index = torch.tensor([[[7, 3]]])  # patches (1, 2) and (0, 3) of a grid 5 wide
    offsets = expand_offsets(index, 5)["relu3_1"]
    copied = copy_matched(feature, offsets)
    assert copied.shape == (1, 1, 3, 4)
    assert copied[0, 0, 1, 1] == feature[0, 0, 2, 3]
    assert copied[0, 0, 1, 2] == feature[0, 0, 1, 4]
    window = copy_matched(feature, offsets[:, :, 1:2, 2:3], (1, 2))
    assert window.item() == feature[0, 0, 1, 4]
