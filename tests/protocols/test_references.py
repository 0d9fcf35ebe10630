"""Which references a rule picks, and what it makes of them; subsets; shipped LR pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from refsr_bench.errors import ImageError, UsageError
from refsr_bench.images import resize_bicubic
from refsr_bench.protocols.evaluate import Attempt, Target, Task, restore_all
from refsr_bench.protocols.inputs import prepare_inputs
from refsr_bench.protocols.references import arrange_references, explain_rule, find_rules, select_references
from refsr_bench.protocols.spec import DEFAULT, find_protocol
from refsr_bench.protocols.subsets import choose_quarter, gradient_energy, select_subset
from refsr_bench.schema import Image, ModelCard, Record, StoredReference
from refsr_bench.store import Dataset, open_dataset


def picture(seed: int, height: int, width: int) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("rule", "levels", "chosen"),
    [
        ("first", [1, 2], (0,)),
        ("first", [], ()),
        ("none", [1, 2], ()),
        ("level2", [1, 2], (1,)),
        ("level1", [3, 1], (1,)),
        ("ref2", [None, None], (1,)),
        ("all", [1, None, 3], (0, 1, 2)),
        ("stitched-ttsr", [None] * 7, (0, 1, 2, 3, 4)),
        ("lr-native", [1], ()),
        ("lr-up", [], ()),
        ("random1", [], ()),
        ("random1", [None], (0,)),
    ],
)
def test_what_a_rule_picks(rule: str, levels: list[int | None], chosen: tuple[int, ...]) -> None:
    assert select_references(rule, levels) == chosen


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("level3", "no reference of level 3"),
        ("ref3", "has 2 reference"),
        ("stitched-masa", "stitched-masa stacks 5"),
        ("frist", 'did you mean "first"'),
        ("level0", "no reference rule called"),
        ("randomK", "no reference rule called"),
        ("each", "no reference rule called"),
    ],
)
def test_what_a_rule_cannot_pick(rule: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        select_references(rule, [1, 2])
    assert message in str(caught.value)


def test_random_draws_are_frozen() -> None:
    drawn = [select_references("random1", [None] * 20, key=f"sun80|sample{i}")[0] for i in range(12)]
    assert drawn == [12, 2, 14, 11, 16, 17, 19, 13, 11, 12, 9, 14], "these are published: they never change"
    other = [select_references("random2", [None] * 20, key=f"sun80|sample{i}")[0] for i in range(12)]
    assert drawn != other
    counts = np.bincount(
        [select_references("random1", [None] * 20, key=f"x|{i}")[0] for i in range(4000)], minlength=20
    )
    assert counts.min() > 140, "every reference is drawn about as often"
    assert counts.max() < 260


def test_stacks_as_ttsr_and_masa_make_them() -> None:
    refs = [picture(i, 333, 500 - i) for i in range(5)]

    def no_lr() -> Image:
        raise AssertionError("not asked for")

    [ttsr] = arrange_references("stitched-ttsr", refs, no_lr)
    assert ttsr.shape == (2500, 500, 3)
    [masa] = arrange_references("stitched-masa", refs, no_lr)
    assert masa.shape == (2560, 512, 3)
    for i, ref in enumerate(refs):
        tile = ttsr[500 * i : 500 * (i + 1)]
        assert np.array_equal(tile[:333, : 500 - i], ref)
        assert not tile[333:].any()
        assert not tile[:, 500 - i :].any()
        down, across = (512 - 333) // 2, (512 - 500 + i) // 2
        tile = masa[512 * i : 512 * (i + 1)]
        assert np.array_equal(tile[down : down + 333, across : across + 500 - i], ref)
        assert np.array_equal(tile[:, 0], tile[:, across]), "edges are repeated"
        assert np.array_equal(tile[-1], tile[down + 332])
    with pytest.raises(ImageError, match="does not fit 500x500"):
        arrange_references("stitched-ttsr", [picture(1, 501, 20)] * 5, no_lr)


def test_the_lr_picture_as_reference() -> None:
    lr = picture(1, 10, 12)
    assert np.array_equal(arrange_references("lr-native", (), lambda: lr)[0], lr)
    assert np.array_equal(arrange_references("lr-up", (), lambda: lr)[0], resize_bicubic(lr, 40, 48))


def records(*levels: Sequence[int | None]) -> list[Record]:
    def ref(level: int | None) -> StoredReference:
        return StoredReference(path="r.png", sha256="0" * 64, bytes=1, height=1, width=1, level=level)

    return [
        Record(name=str(i), refs=tuple(map(ref, own)), source="s", licence="l", made="m")
        for i, own in enumerate(levels)
    ]


def test_each_reference_in_turn() -> None:
    assert find_rules("each", records([1, 2, 3], [1, 2, 3])) == ("level1", "level2", "level3")
    assert find_rules("each", records([None] * 4, [None] * 3)) == ("ref1", "ref2", "ref3")
    assert find_rules("each", records([1, 2], [1, 3])) == ("ref1", "ref2")
    assert find_rules("level1,lr-up,level1", []) == ("level1", "lr-up")
    with pytest.raises(UsageError, match="at least one reference in every sample"):
        find_rules("each", records([1], []))
    with pytest.raises(UsageError, match="did you mean"):
        find_rules("level1,lr_up", [])
    assert explain_rule("each") is not None


class Watching:
    """A model that keeps what it was given and returns black."""

    card = ModelCard(name="watching", title="t", paper="p", uses_reference=True)

    def __init__(self) -> None:
        self.seen: list[tuple[Image, ...]] = []

    def restore(self, lr: Image, refs: Sequence[Image]) -> NDArray[np.float32]:
        self.seen.append((lr, *refs))
        return np.zeros((lr.shape[0] * 4, lr.shape[1] * 4, 3), np.float32)


def restore(dataset: Dataset, out: Path, rule: str, model: Watching, lr: str = "protocol") -> list[Attempt | None]:
    attempts: list[Attempt | None] = []
    out.mkdir(exist_ok=True)
    task = Task(dataset, dataset.records[:1], DEFAULT, rule, lr)
    restore_all(model, [Target(task, out)], attempts.append)
    return attempts


def test_a_model_gets_what_the_rule_says(small_dataset: Path, tmp_path: Path) -> None:
    dataset, model = open_dataset(small_dataset), Watching()
    for rule in ("lr-native", "lr-up"):
        [attempt] = restore(dataset, tmp_path / rule, rule, model)
        assert attempt is not None
        assert attempt.reason is None
    (native_lr, native), (up_lr, up) = model.seen
    assert native.shape == up.shape == (40, 48, 3)
    assert np.array_equal(native[:8, :12], native_lr[:8]), "cropped like any reference, in the corner of a black canvas"
    assert not native[8:].any()
    assert np.array_equal(up, resize_bicubic(up_lr, 40, 48))


def test_surplus_references_are_refused_not_dropped(small_dataset: Path, tmp_path: Path) -> None:
    dataset, model = open_dataset(small_dataset), Watching()
    twice = dataset.records[0].model_copy(update={"refs": dataset.records[0].refs * 2})
    [attempt] = restore(dataset._replace(records=(twice,)), tmp_path / "one", "all", model)
    assert attempt is not None
    assert attempt.reason == "the model takes 1 reference(s), the rule gives 2"
    model.card = model.card.model_copy(update={"max_references": None})
    restore(dataset._replace(records=(twice,)), tmp_path / "five", "all", model)
    assert len(model.seen[0]) == 3


# --- shipped LR -----------------------------------------------------------------------------------------------------


def test_a_shipped_lr_picture_is_cropped_and_padded_like_the_hr_picture() -> None:
    hr, lr, ref = picture(1, 44, 50), picture(2, 11, 12), picture(3, 60, 40)
    inputs = prepare_inputs(hr, [ref], DEFAULT, shipped_lr=lr)
    assert inputs.hr.shape == (44, 48, 3)
    assert inputs.lr.shape == (15, 12, 3)
    assert np.array_equal(inputs.lr[:11, :12], lr)
    assert not inputs.lr[11:].any()
    cropped = prepare_inputs(hr, [], find_protocol("amsa-2022"), shipped_lr=lr)
    assert np.array_equal(cropped.lr, lr[:8, :8])


@pytest.mark.parametrize(
    ("protocol", "size", "message"),
    [("c2-2021", (12, 12), "no quarter"), ("c2-2021", (44, 50), "no quarter"), ("masa-2021", (11, 12), "pads the HR")],
)
def test_a_shipped_lr_picture_that_does_not_fit_is_refused(protocol: str, size: tuple[int, int], message: str) -> None:
    with pytest.raises(ImageError, match=message):
        prepare_inputs(picture(1, 44, 50), [], find_protocol(protocol), shipped_lr=picture(2, *size))


def test_a_sample_without_a_shipped_lr_fails_alone(small_dataset: Path, tmp_path: Path) -> None:
    [attempt] = restore(open_dataset(small_dataset), tmp_path, "first", Watching(), lr="shipped.camera")
    assert attempt is not None
    assert attempt.reason is not None
    assert "ships no LR picture" in attempt.reason


# --- subsets ----------------------------------------------------------------------------------------------------------


def test_the_texture_quarter(small_dataset: Path) -> None:
    dataset = open_dataset(small_dataset)
    called, chosen = select_subset(dataset, "texture")
    assert len(chosen) == 1
    assert select_subset(dataset, "texture") == (called, chosen)
    assert called.startswith("texture@")
    with pytest.raises(UsageError, match='did you mean "texture"'):
        select_subset(dataset, "textur")


def test_gradient_energy_is_exact_and_grows_with_texture() -> None:
    step = np.zeros((2, 2, 3), np.uint8)
    step[:, 1] = 10
    assert gradient_energy(step) == 1000 * (100 + 100) // 4
    assert gradient_energy(picture(1, 30, 30)) > gradient_energy(resize_bicubic(picture(1, 5, 5), 30, 30))
    assert gradient_energy(np.full((1, 1, 3), 9, np.uint8)) == 0
    assert choose_quarter({}) == frozenset()
    assert len(choose_quarter({str(i): 0 for i in range(126)})) == 32
