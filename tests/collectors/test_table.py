"""A user's own dataset as a CSV table, and the sheet that shows what is paired with what."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from published_sets import png

from refsr_bench.collectors import custom, preview
from refsr_bench.collectors.table import Line, read_table
from refsr_bench.errors import IntegrityError, RefsrError, UsageError
from refsr_bench.images import load_image
from refsr_bench.store import Dataset, open_dataset
from refsr_bench.verification import verify_dataset

SAMPLES = {f"{folder}/{name}.png": seed for seed, (folder, name) in enumerate(
    (folder, name) for folder in ("hr", "near", "far") for name in "ab"
)}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, seed in SAMPLES.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(png(seed, 44, 40))
    (tmp_path / "in" / "small.png").write_bytes(png(9, 11, 10))
    return tmp_path / "in"


def table(folder: Path, text: str) -> Path:
    path = folder / "my set.csv"
    path.write_bytes(text.encode())
    return path


def build(source: Path) -> tuple[Dataset, list[str]]:
    notes: list[str] = []
    target = source.parent.parent / "built" / "mine"
    custom.build(source, target, progress=lambda done, total: None, note=notes.append)
    return open_dataset(target), notes


def test_every_column(folder: Path) -> None:
    dataset, notes = build(
        table(
            folder,
            "\ufeffHR,level1,ref,group,licence,lr,kernel,name,source\r\n"
            'hr/a.png,near/a.png,"far/a.png; far/b.png",outdoor,CC BY 4.0,small.png,camera,first,my archive\r\n'
            "hr/b.png,near/b.png,,,,,,,\r\n"
            ",near/a.png,,indoor,,small.png,,true,\r\n",
        )
    )
    first, second, third = dataset.records
    assert (first.name, first.group, first.licence, first.source) == ("first", "outdoor", "CC BY 4.0", "my archive")
    assert first.lr is not None
    assert (first.lr.kernel, first.lr.width) == ("camera", 11)
    refs = [(ref.path, ref.level) for ref in first.refs]
    assert refs == [("ref/first_1.png", 1), ("ref/first_2.png", None), ("ref/first_3.png", None)]
    assert (second.name, second.group, second.lr, len(second.refs)) == ("b", "all", None, 1)
    assert third.hr is None
    assert third.lr is not None
    assert third.lr.path == "lr/first.png", "a file that several lines name is stored once"
    assert third.made.endswith("LR only")
    assert third.refs[0].path == "ref/first_1.png"
    assert verify_dataset(dataset, deep=True) == []
    assert dataset.info.groups == {"outdoor": 1, "all": 1, "indoor": 1}
    assert "mine-preview.png" in notes[-1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "neither a column hr"),
        ("hr,ref\n", "holds no samples"),
        ("ref\nnear/a.png\n", "neither a column hr"),
        ("hr,levle1\nhr/a.png,x\n", r"unknown column 'levle1'.*\n.*did you mean \"level1\""),
        ("hr,hr\nhr/a.png,hr/b.png\n", "a column stands twice"),
        ("hr,ref\nhr/a.png,near/a.png\nhr/b.png,near/c.png\n", r"line 3: there is no file 'near/c\.png'"),
        ("hr,ref\n,near/a.png\n", "line 2: names neither"),
        ("hr\nhr/a.png,near/a.png\n", "line 2: has more cells"),
        ("hr,name\nhr/a.png,../evil\n", "line 2: '../evil' cannot be a sample's name"),
        ("hr,name\nhr/a.png,x\nhr/b.png,X\n", "two samples are called 'X'"),
        ('hr,ref\n"hr/a.png,near/a.png\n', "not a CSV table"),
        ("hr,ref\n\0,near/a.png\n", "not a CSV table|there is no file|names neither"),
        ("hr,ref\nhr,near/a.png\n", "there is no file 'hr'"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(folder: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_table(table(folder, text))


def test_tables_in_other_encodings_are_refused(folder: Path) -> None:
    path = table(folder, "")
    path.write_bytes("hr,group\nhr/a.png,Café\n".encode("latin-1"))
    with pytest.raises(UsageError, match="UTF-8"):
        read_table(path)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("hr,ref\nhr/a.png,hr/a.png\n", IntegrityError, "the answer would be in the reference"),
        ("hr\nsmall.png\n", RefsrError, "too small for an input"),
    ],
)
def test_what_stops_the_build(folder: Path, text: str, error: type[RefsrError], message: str) -> None:
    with pytest.raises(error, match=message):
        build(table(folder, text))
    assert not (folder.parent / "built" / "mine").exists()


def test_a_table_with_one_column_needs_no_references(folder: Path) -> None:
    assert read_table(table(folder, "hr\nhr/a.png\n")) == [Line("a", folder / "hr/a.png")]


def test_the_preview_shows_every_pair(folder: Path) -> None:
    dataset, _ = build(table(folder, "hr,level1,level2\nhr/a.png,near/a.png,far/a.png\nhr/b.png,near/b.png,\n"))
    sheet = load_image(dataset.root.with_name("mine-preview.png"))
    tiles = [(row, column) for row in (0, 1) for column in (0, 1, 2)]
    step, top = preview._TILE + preview._GAP, preview._GAP + 2 * preview._TEXT
    inked = [
        bool(np.ptp(sheet[top + row * (step + preview._TEXT) :, preview._GAP + column * step :][:20, :40]))
        for row, column in tiles
    ]
    assert inked == [True, True, True, True, True, False], "the second sample has one reference"
    assert preview.write_preview(dataset, dataset.root.with_name("again.png")) == 2
    assert dataset.root.with_name("again.png").read_bytes() == dataset.root.with_name("mine-preview.png").read_bytes()
