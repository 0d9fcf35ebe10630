"""Datasets of one's own photographs: what is made of them, and what stops the build."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from refsr_bench.collectors import custom
from refsr_bench.errors import ImageError, IntegrityError, RefsrError, UsageError
from refsr_bench.images import encode_png
from refsr_bench.store import Dataset, open_dataset
from refsr_bench.verification import verify_dataset


def write_picture(path: Path, seed: int, height: int = 40, width: int = 44) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    path.write_bytes(encode_png(picture))


def build(source: Path, target: Path) -> tuple[Dataset, list[str]]:
    notes: list[str] = []
    custom.build(source, target, progress=lambda done, total: None, note=notes.append)
    return open_dataset(target), notes


def test_a_scene_every_photograph_once(tmp_path: Path) -> None:
    for i, name in enumerate(("c.png", "a.png", "b.PNG")):
        write_picture(tmp_path / "scene" / name, i)
    (tmp_path / "scene" / "README.md").write_text("x")
    dataset, notes = build(tmp_path / "scene", tmp_path / "set")
    assert [record.name for record in dataset.records] == ["a", "b", "c"]
    assert [ref.path for ref in dataset.records[1].refs] == ["images/a.png", "images/c.png"]
    assert len(list((tmp_path / "set" / "images").iterdir())) == 3
    assert (tmp_path / "set/images/a.png").read_bytes() == (tmp_path / "scene/a.png").read_bytes()
    assert verify_dataset(dataset, deep=True) == []
    assert "README.md" in notes[0]
    assert dataset.info.name == "set"


def test_pairs_by_every_naming(tmp_path: Path) -> None:
    names = (
        "input/001",
        "ref/001_ref",
        "input/002",
        "ref/002",
        "input/003",
        "ref/003_2",
        "ref/003_1",
        "input/004_1",
        "ref/004_1_1",
    )
    for i, name in enumerate(names):
        write_picture(tmp_path / "in" / f"{name}.png", i, width=44 + 4 * i)
    dataset, _ = build(tmp_path / "in", tmp_path / "set")
    found = {record.name: [(ref.path, ref.level) for ref in record.refs] for record in dataset.records}
    assert found == {
        "001": [("ref/001_ref.png", None)],
        "002": [("ref/002.png", None)],
        "003": [("ref/003_1.png", 1), ("ref/003_2.png", 2)],
        "004_1": [("ref/004_1_1.png", 1)],
    }


def test_inputs_alone_have_no_references(tmp_path: Path) -> None:
    write_picture(tmp_path / "in/input/a.png", 1)
    dataset, notes = build(tmp_path / "in", tmp_path / "set")
    assert dataset.records[0].refs == ()
    assert "no reference" in notes[0]


def scene_of(*pictures: tuple[str, int, int, int]):  # type: ignore[no-untyped-def]
    def make(folder: Path) -> None:
        folder.mkdir()
        for name, seed, height, width in pictures:
            write_picture(folder / name, seed, height, width)

    return make


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (scene_of(), UsageError, "0 picture"),
        (scene_of(("a.png", 1, 40, 40)), UsageError, "at least two"),
        (scene_of(("a.png", 1, 40, 40), ("b.png", 2, 31, 400)), ImageError, r"b\.png: 400x31 px is too small"),
        (scene_of(("a.png", 1, 40, 40), ("A.bmp", 2, 40, 40), ("b.png", 3, 40, 40)), UsageError, "suffix or case"),
        (scene_of(("a.png", 1, 40, 40), ("b.png", 1, 40, 40)), IntegrityError, "the same file"),
        (scene_of(("input/a.png", 1, 40, 40), ("ref/b.png", 2, 40, 40)), IntegrityError, r"a\.png; 1 ref.*b\.png"),
        (scene_of(("input/a.png", 1, 40, 40), ("ref/a.png", 1, 40, 40)), IntegrityError, "the answer would be"),
        (scene_of(("ref/a.png", 1, 40, 40)), UsageError, "0 picture"),
        (scene_of(("input/x.txt", 1, 40, 40)), UsageError, "no pictures found"),
        (scene_of(("input/a.png", 1, 40, 40), ("ref/deeper/a.png", 2, 40, 40)), IntegrityError, "without a reference"),
        (scene_of(("input/001.png", 1, 40, 40), ("ref/001_REF.png", 2, 40, 40)), IntegrityError, r"001_REF\.png"),
    ],
    ids=range(11),
)
def test_what_stops_the_build(tmp_path: Path, make, error: type[RefsrError], message: str) -> None:  # type: ignore[no-untyped-def]
    make(tmp_path / "in")
    with pytest.raises(error, match=message):
        build(tmp_path / "in", tmp_path / "set")
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("name", ["my photos", "a@b"])
def test_a_folder_whose_name_no_signature_can_hold(tmp_path: Path, name: str) -> None:
    scene_of(("c.png", 1, 40, 40), ("d.png", 2, 40, 40))(tmp_path / "in")
    with pytest.raises(UsageError, match="cannot name a dataset"):
        build(tmp_path / "in", tmp_path / name)


@pytest.mark.parametrize("name", ["a:b", "a|b", "a\\b"])
def test_names_that_cannot_name_results_are_refused(tmp_path: Path, name: str) -> None:
    scene_of(("c.png", 1, 40, 40), (f"{name}.png", 2, 40, 40))(tmp_path / "in")
    with pytest.raises(UsageError, match="rename it"):
        build(tmp_path / "in", tmp_path / "set")
    scene_of(("c.png", 1, 40, 40), ("d.png", 2, 40, 40))(tmp_path / "good")
    with pytest.raises(UsageError, match="cannot name"):
        build(tmp_path / "good", tmp_path / name)


def test_the_photographs_are_never_replaced(tmp_path: Path) -> None:
    scene_of(("a.png", 1, 40, 40), ("b.png", 2, 40, 40))(tmp_path / "in")
    for target in (tmp_path / "in", tmp_path):
        with pytest.raises(UsageError, match="holds the photographs themselves"):
            build(tmp_path / "in", target)
    assert sorted(path.name for path in (tmp_path / "in").iterdir()) == ["a.png", "b.png"]
    with pytest.raises(UsageError, match="no such folder"):
        build(tmp_path / "absent", tmp_path / "set")


def test_what_is_passed_over_is_named(tmp_path: Path) -> None:
    write_picture(tmp_path / "in/input/a.png", 1)
    write_picture(tmp_path / "in/ref/a.png", 2)
    (tmp_path / "in/input/._a.png").write_bytes(b"left by macOS")
    (tmp_path / "in/ref/Thumbs.db").write_bytes(b"left by Windows")
    write_picture(tmp_path / "in/stray.png", 3)
    dataset, notes = build(tmp_path / "in", tmp_path / "set")
    assert len(dataset.records) == 1
    assert [note.rpartition(": ")[2] for note in notes[:3]] == ["stray.png", "._a.png", "Thumbs.db"]


def test_a_real_scene(dev_data: Path, tmp_path: Path) -> None:
    source = dev_data / "refsr_pairs" / "sacre_coeur"
    dataset, notes = build(source, tmp_path / "sacre_coeur")
    originals = {path.name: path.read_bytes() for path in source.glob("*.jpg")}
    assert {path.name: path.read_bytes() for path in (dataset.root / "images").iterdir()} == originals
    assert [len(record.refs) for record in dataset.records] == [9] * 10
    assert all(record.hr not in record.refs for record in dataset.records)
    assert verify_dataset(dataset, deep=True) == []
    assert "README.md" in notes[0]


def test_a_bad_picture_is_named_by_its_own_path(tmp_path: Path) -> None:
    write_picture(tmp_path / "in/input/a.png", 1)
    (tmp_path / "in/ref").mkdir()
    (tmp_path / "in/ref/a.png").write_bytes(b"text")
    with pytest.raises(ImageError) as caught:
        build(tmp_path / "in", tmp_path / "set")
    assert str(tmp_path / "in/ref/a.png") in str(caught.value)
