"""What ``leaderboard --check`` must find, and that it names it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from refsr_bench.errors import IntegrityError
from refsr_bench.protocols.run import finish_run
from refsr_bench.results.integrity import check_runs
from refsr_bench.results.rows import find_runs
from refsr_bench.schema import ModelCard, Row, RunInfo

DEFINITIONS = {"psnr_y": "1", "ssim_y": "1"}


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "m"
    folder.mkdir(parents=True)
    rows = [
        Row(
            model="m",
            dataset="d@123456",
            sample=f"{i:03}",
            group="g",
            refs=(),
            metric=metric,
            value=20.0 + i,
            signature=f"{metric}|data:d@123456|n:5|def:1",
            status="ok",
        )
        for i in range(5)
        for metric in DEFINITIONS
    ]
    info = RunInfo(
        status="running",
        model=ModelCard(name="m", title="", paper="", uses_reference=False),
        dataset="d@123456",
        manifest_sha256="0" * 64,
        protocol={},
        refs_rule="first",
        samples=5,
        images="sr",
    )
    finish_run(folder, info, rows, [])
    return folder


def check(folder: Path, **definitions: str) -> list[tuple[str, str]]:
    findings = check_runs([folder.parent], DEFINITIONS | definitions)
    return [(finding.kind, finding.text) for finding in findings]


def change(folder: Path, edit) -> None:  # type: ignore[no-untyped-def]
    path = folder / "rows.jsonl"
    path.write_bytes(edit(path.read_bytes()))


def test_a_sealed_run_is_clean(sealed: Path) -> None:
    assert check(sealed) == []


def test_an_edited_value_is_named(sealed: Path) -> None:
    change(sealed, lambda data: data.replace(b'"value":22.0', b'"value":29.0', 1))
    ((kind, text),) = check(sealed)
    assert kind == "edited"
    assert "line 5 (psnr_y of '002', value 29.0)" in text


def test_an_edited_value_is_found_without_digests(sealed: Path) -> None:
    info = json.loads((sealed / "run.json").read_text())
    del info["row_digests"]
    (sealed / "run.json").write_text(json.dumps(info))
    change(sealed, lambda data: data.replace(b'"value":22.0', b'"value":29.0', 1))
    ((kind, text),) = check(sealed)
    assert (kind, "rows.jsonl: its SHA-256 is not" in text) == ("edited", True)


def test_a_removed_row_is_named(sealed: Path) -> None:
    change(sealed, lambda data: b"".join(line for i, line in enumerate(data.splitlines(True)) if i != 6))
    found = check(sealed)
    assert {kind for kind, _ in found} == {"removed row"}
    assert any("row 7 of the sealed file" in text for _, text in found)
    assert any("psnr_y has 4 rows for 5 samples: '003'" in text for _, text in found)


def test_a_row_of_another_signature_is_named(sealed: Path) -> None:
    change(sealed, lambda data: data.replace(b"n:5", b"n:4", 1))
    found = check(sealed)
    kinds = dict(found)
    assert set(kinds) == {"foreign row", "mixed signatures"}
    assert "line 1 (psnr_y of '000') has a signature the run does not" in kinds["foreign row"]


def test_a_truncated_last_line_is_named(sealed: Path) -> None:
    change(sealed, lambda data: data[:-20])
    kinds = dict(check(sealed))
    assert "line 10 is cut short" in kinds["truncated"]


def test_a_repeated_row_is_named(sealed: Path) -> None:
    change(sealed, lambda data: data + data.splitlines(True)[0])
    kinds = dict(check(sealed))
    assert "line 11 repeats line 1: psnr_y of '000'" in kinds["duplicate row"]
    assert "line 11 was added" in kinds["added row"]


def test_a_copied_run_is_named(sealed: Path) -> None:
    twin = sealed.parent / "n"
    twin.mkdir()
    for name in ("rows.jsonl", "run.json"):
        (twin / name).write_bytes((sealed / name).read_bytes())
    ((kind, text),) = check(sealed)
    assert kind == "duplicate run"
    assert str(twin) in text


def test_an_outdated_definition_is_named(sealed: Path) -> None:
    ((kind, text),) = check(sealed, psnr_y="2")
    assert kind == "outdated definition"
    assert "5 rows of psnr_y use version 1" in text


def test_an_unsealed_run_is_named(sealed: Path) -> None:
    (sealed / "run.json").unlink()
    assert [kind for kind, _ in check(sealed)] == ["not sealed"]


def test_a_newer_run_is_refused(sealed: Path) -> None:
    info = json.loads((sealed / "run.json").read_text())
    (sealed / "run.json").write_text(json.dumps(info | {"schema_version": 99, "strange": 1}))
    assert [kind for kind, _ in check(sealed)] == ["unreadable run.json"]
    with pytest.raises(IntegrityError, match="newer version"):
        find_runs([sealed])


def test_a_run_of_the_first_schema_is_read(sealed: Path) -> None:
    first = json.loads((sealed / "run.json").read_text())
    for later in ("multiply_adds", "lr", "subset", "row_digests"):
        first.pop(later, None)
    (sealed / "run.json").write_text(json.dumps(first))
    ((run),) = find_runs([sealed])
    assert run.info is not None
    assert (run.info.multiply_adds, run.info.lr) == (None, "protocol")
    assert check(sealed) == []
