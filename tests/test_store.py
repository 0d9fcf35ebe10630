"""A dataset on disk: whole or not at all, verifiable, and every fault named."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from refsr_bench.disk import atomic_write_bytes, sha256_bytes
from refsr_bench.errors import IntegrityError, ManualStepNeeded, UsageError
from refsr_bench.schema import Record, StoredFile
from refsr_bench.store import (
    INFO_NAME,
    MANIFEST_NAME,
    Dataset,
    add_file,
    building,
    load_sample,
    open_dataset,
    resolve_dataset,
    seal,
    to_json_line,
)
from refsr_bench.verification import Problem, verify_dataset

BUILD = """
import sys, time
from pathlib import Path
from refsr_bench.schema import Record
from refsr_bench.store import add_file, building, seal
with building(Path(sys.argv[1])) as root:
    for i in range(40):
        add_file(root, f"f/{i}.bin", bytes([i]) * 1000)
        time.sleep(600 if i + 1 == int(sys.argv[3]) else float(sys.argv[2]))
    records = [Record(name=str(i), source="s", licence="l", made="m") for i in range(40)]
    seal(root, records, name="d", version="1", title="t", licence="l", citation="c", builder_version="1")
"""


def start_build(target: Path, pause: float = 0, hold_after: int = 0) -> subprocess.Popen[bytes]:
    """Build in another process; with ``hold_after``, it waits to be killed when it has so many files."""
    return subprocess.Popen([sys.executable, "-c", BUILD, str(target), str(pause), str(hold_after)])


def seal_one(root: Path, *names: str) -> None:
    records = [Record(name=name, source="s", licence="l", made="m") for name in names]
    seal(root, records, name="d", version="1", title="t", licence="l", citation="c", builder_version="1")


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_built_dataset_verifies_and_reads_back(small_dataset: Path) -> None:
    dataset = open_dataset(small_dataset)
    assert dataset.info.groups == {"first": 2, "second": 1}
    assert verify_dataset(dataset) == []
    sample = load_sample(dataset, dataset.records[0])
    assert sample.hr is not None
    assert sample.hr.shape == (40, 48, 3)
    assert [ref.shape for ref in sample.refs] == [(44, 40, 3)]
    assert load_sample(dataset, dataset.records[0], refs=[]).refs == ()


def test_every_change_is_named(small_dataset: Path) -> None:
    dataset = open_dataset(small_dataset)
    (small_dataset / "hr/a.png").write_bytes((small_dataset / "hr/b.png").read_bytes())
    (small_dataset / "ref/c.png").unlink()
    (small_dataset / "notes.db").write_bytes(b"x")
    assert verify_dataset(dataset) == [
        Problem("hr/a.png", "it was changed after the dataset was built (its SHA-256 differs)"),
        Problem("ref/c.png", "there is no such file"),
        Problem("notes.db", "this file is not part of the dataset"),
    ]
    with pytest.raises(IntegrityError, match="changed after"):
        load_sample(dataset, dataset.records[0])


@pytest.mark.parametrize("name", [".DS_Store", "hr/Thumbs.db", "hr/desktop.ini", "hr/._a.png"])
def test_what_file_managers_leave_is_no_change(small_dataset: Path, name: str) -> None:
    (small_dataset / name).write_bytes(b"x")
    assert verify_dataset(open_dataset(small_dataset)) == []


def rewrite(path: Path, change) -> None:  # type: ignore[no-untyped-def]
    path.write_text(change(path.read_text()))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (MANIFEST_NAME, lambda text: text.replace("CC0", "CC1"), "not the manifest that was built"),
        (MANIFEST_NAME, lambda text: text[:-1], "not the manifest that was built"),
        (INFO_NAME, lambda text: text[:20], "cannot be read"),
        (INFO_NAME, lambda text: text.replace('"samples": 3', '"samples": "many"'), "samples"),
        (INFO_NAME, lambda text: text.replace('"title"', '"titel"'), "titel|title"),
        (INFO_NAME, lambda text: text.replace('"schema_version": 1', '"schema_version": 99'), "newer version"),
        (INFO_NAME, lambda text: text.replace('"schema_version": 1', '"schema_version": "1"'), "cannot be read"),
        (INFO_NAME, lambda text: "[]", "cannot be read"),
    ],
)
def test_edited_descriptions_are_refused(small_dataset: Path, name: str, change, message: str) -> None:  # type: ignore[no-untyped-def]
    rewrite(small_dataset / name, change)
    with pytest.raises(IntegrityError, match=message):
        open_dataset(small_dataset)


@pytest.mark.parametrize("path", ["../a.png", "/etc/passwd", "a/../../b", "a\\b", "a\0b", ""])
def test_paths_stay_inside(path: str) -> None:
    with pytest.raises(ValueError, match="not a relative path"):
        StoredFile(path=path, sha256="0" * 64, bytes=1)


@pytest.mark.parametrize("path", ["../../secret.png", "/etc/passwd"])
def test_a_manifest_that_leads_outside_is_refused(small_dataset: Path, path: str) -> None:
    manifest = (small_dataset / MANIFEST_NAME).read_text()
    hostile = manifest.replace("hr/a.png", path)
    rewrite(small_dataset / MANIFEST_NAME, lambda text: hostile)
    rewrite(  # the attacker seals the manifest too
        small_dataset / INFO_NAME,
        lambda text: text.replace(sha256_bytes(manifest.encode()), sha256_bytes(hostile.encode())),
    )
    with pytest.raises(IntegrityError, match="not a relative path inside the dataset"):
        open_dataset(small_dataset)


@pytest.mark.parametrize("name", ["", "..", "a/b", "a|b", "a:b", "a\nb"])
def test_sample_names_can_be_file_names_and_stand_in_signatures(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be a sample name"):
        Record(name=name, source="s", licence="l", made="m")


def test_a_failing_build_leaves_nothing_and_the_old_set_stays(tmp_path: Path) -> None:
    target = tmp_path / "d"
    with building(target) as root:
        seal_one(root, "old")
    before = tree(target)
    with pytest.raises(IntegrityError), building(target) as root:
        seal_one(root, "new", "NEW")
    assert tree(target) == before
    assert [p.name for p in tmp_path.iterdir() if "building" in p.name] == []


def test_the_old_set_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "d"
    for name in ("old", "new"):
        with building(target) as root:
            seal_one(root, name)
            assert not target.exists() or open_dataset(target).records[0].name == "old"
    assert open_dataset(target).records[0].name == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".d.lock", "d"]


def test_other_peoples_files_are_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "a.jpg").write_bytes(b"precious")
    (tmp_path / "letter").write_bytes(b"precious")
    for name in ("holiday", "letter"):
        with pytest.raises(UsageError, match=f"{name}: holds other files"), building(tmp_path / name):
            pytest.fail("the build began")
    assert tree(tmp_path / "holiday") == {"a.jpg": b"precious"}
    assert (tmp_path / "letter").read_bytes() == b"precious"


def test_a_linked_folder_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk" / "d").mkdir(parents=True)
    link = tmp_path / "d"
    link.symlink_to(tmp_path / "disk" / "d")
    for name in ("old", "new"):
        with building(link) as root:
            seal_one(root, name)
    assert link.is_symlink()
    assert open_dataset(link).records[0].name == "new"


def test_names_that_differ_by_case_only_are_refused(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="used twice: a"), building(tmp_path / "d") as root:
        seal_one(root, "a", "A")
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("files", [2, 12, 24, 38])
def test_a_killed_build_is_no_dataset_and_the_next_is_whole(tmp_path: Path, files: int) -> None:
    start_build(tmp_path / "clean" / "d").wait()
    target = tmp_path / "killed" / "d"
    process = start_build(target, hold_after=files)
    while len(list(target.parent.glob(".d.building-*/f/*"))) < files:
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not target.exists()
    assert start_build(target).wait() == 0
    assert tree(target) == tree(tmp_path / "clean" / "d")
    assert not list(target.parent.glob(".d.building-*"))


def test_a_build_killed_between_its_renames_keeps_the_old_set(tmp_path: Path) -> None:
    target = tmp_path / "d"
    with building(target) as root:
        seal_one(root, "old")
    target.rename(tmp_path / ".d.replaced")
    with pytest.raises(RuntimeError), building(target):
        raise RuntimeError
    assert open_dataset(target).records[0].name == "old"


def test_two_builders_end_with_one_valid_set(tmp_path: Path) -> None:
    processes = [start_build(tmp_path / "d", 0.005) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert open_dataset(tmp_path / "d").info.samples == 40
    assert not list(tmp_path.glob(".d.building-*"))


def test_atomic_write_keeps_the_old_file_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    atomic_write_bytes(path, b"old")

    def full_disk(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        atomic_write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_resolving_names_and_folders(small_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_dataset(str(small_dataset)) == small_dataset
    monkeypatch.setenv("REFSR_DATA_DIR", str(small_dataset.parent))
    assert resolve_dataset("small") == small_dataset
    with pytest.raises(ManualStepNeeded, match="refsr-bench build cufed5"):
        resolve_dataset("cufed5")
    with pytest.raises(UsageError, match=r"built in .*: small") as refused:
        resolve_dataset("smal")
    assert 'did you mean "small"?' in str(refused.value)
    with pytest.raises(IntegrityError, match="not a built dataset"):
        resolve_dataset(str(tmp_path))


def test_canonical_lines_do_not_depend_on_field_order(tmp_path: Path) -> None:
    line = to_json_line(Record(name="é", source="s", licence="l", made="m", tags=("b", "a")))
    assert line == '{"licence":"l","made":"m","name":"é","source":"s","tags":["b","a"]}\n'
    assert Record.model_validate(json.loads(line)).tags == ("b", "a")


def test_stored_bytes_are_described(tmp_path: Path) -> None:
    stored = add_file(tmp_path, "x/y.bin", b"abc")
    assert (stored.path, stored.bytes) == ("x/y.bin", 3)
    assert stored.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_reading_an_opened_dataset_is_plain_data(small_dataset: Path) -> None:
    dataset = open_dataset(small_dataset)
    assert isinstance(dataset, Dataset)
    assert dataset.info.id == f"small@{dataset.info.manifest_sha256[:6]}"
