"""The commands around datasets: build with its options, list, info, verify."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner, Result
from published_sets import PUBLISHED, png, write_archives, write_folder

from refsr_bench.cli import cli
from refsr_bench.cli.catalogue import NAMED_BY_SOURCE
from refsr_bench.errors import IntegrityError, ManualStepNeeded, RefsrError, StorageError, UsageError
from refsr_bench.images import crop_to_multiple, load_image, resize_bicubic
from refsr_bench.store import INFO_NAME, cache_dir, data_dir, open_dataset


def invoke(*arguments: object) -> Result:
    result = CliRunner().invoke(cli, [str(each) for each in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def test_build_list_info_verify(tmp_path: Path) -> None:
    listed = {each["name"]: each for each in json.loads(invoke("list", "datasets", "--json").stdout)["datasets"]}
    assert listed["set5"]["built"] is None
    assert "[not built]" in invoke("list", "datasets").stdout
    assert json.loads(invoke("info", "set5", "--json").stdout)["samples"] == 5

    built = invoke("build", "set5", "--from", write_archives(tmp_path, "set5"), "--json")
    printed = json.loads(built.stdout)
    assert "trusted on first use" in built.stderr
    assert printed["folder"] == str(data_dir() / "set5")

    listed = {each["name"]: each for each in json.loads(invoke("list", "datasets", "--json").stdout)["datasets"]}
    assert listed["set5"]["built"]["id"] == printed["id"]
    assert listed["set5"]["built"]["bytes"] == printed["bytes"]
    assert f"[built: {printed['id']}, version 1, 5 samples" in invoke("list", "datasets").stdout
    card = invoke("info", "set5").stdout
    for part in ("Bevilacqua", "licence: ", "Set5_SR.zip", printed["id"]):
        assert part in card
    assert "5 samples verified" in invoke("verify", "set5", "--deep").stdout
    assert "already built and verifies" in invoke("build", "set5").stderr


def test_sets_named_after_their_source_are_listed(small_dataset: Path) -> None:
    shutil.copytree(small_dataset, data_dir() / "cathedral")
    shutil.copytree(small_dataset, data_dir() / ".cathedral.replaced")
    listed = {each["name"]: each for each in json.loads(invoke("list", "datasets", "--json").stdout)["datasets"]}
    assert listed["cathedral"]["built"]["samples"] == 3
    assert ".cathedral.replaced" not in listed
    lines = invoke("list", "datasets").stdout.splitlines()
    assert any(line.startswith("  cathedral ") and "[built: small@" in line for line in lines)
    assert not [line for line in lines if line.split()[0] in NAMED_BY_SOURCE and "not built" in line]


def test_a_dataset_that_cannot_be_read_does_not_end_the_list() -> None:
    for name, text in (("demo", "{"), ("mine", '{"schema_version": 99}')):
        (data_dir() / name).mkdir(parents=True)
        (data_dir() / name / INFO_NAME).write_text(text)
    listed = invoke("list")
    assert "bicubic" in listed.stdout
    assert listed.stdout.count("[cannot be loaded]") == 2
    for reason in (
        f"{data_dir() / 'demo' / INFO_NAME}: cannot be read",
        "mine",
        "newer version",
        "upgrade refsr-bench",
    ):
        assert reason in listed.stderr


def test_a_built_set_that_no_longer_verifies_is_named_and_rebuilt_with_force(tmp_path: Path) -> None:
    source = write_archives(tmp_path, "set5")
    invoke("build", "set5", source)
    changed = data_dir() / "set5" / "hr" / "img_003.png"
    changed.write_bytes(changed.read_bytes() + b"x")
    for arguments in (("verify", "set5"), ("build", "set5")):
        with pytest.raises(IntegrityError, match=r"hr/img_003\.png: it was changed"):
            invoke(*arguments)
    invoke("build", "set5", source, "--force")
    invoke("verify", "set5")


def test_verify_reads_pictures_only_when_deep(tmp_path: Path) -> None:
    invoke("build", "set5", write_archives(tmp_path, "set5"))
    root = data_dir() / "set5"
    dataset = open_dataset(root)
    manifest = (root / "manifest.jsonl").read_text().replace('"height":24', '"height":23', 1)
    (root / "manifest.jsonl").write_text(manifest)
    info = json.loads((root / "dataset.json").read_text())

    info["manifest_sha256"] = hashlib.sha256(manifest.encode()).hexdigest()
    (root / "dataset.json").write_text(json.dumps(info))
    assert dataset.info.id != open_dataset(root).info.id
    invoke("verify", "set5")
    with pytest.raises(IntegrityError, match=r"decodes to \(24, 28\)"):
        invoke("verify", "set5", "--deep")


def test_dry_run_says_what_would_be_built_and_stops(tmp_path: Path) -> None:
    text = invoke("build", "sun80", "--dry-run").stdout
    for part in ("sun80 would be built in", "Sun_Hays_SR_groundtruth.zip: would be downloaded", "cs.brown.edu"):
        assert part in text
    source = write_archives(tmp_path, "wr-sr")
    plan = json.loads(invoke("build", "wr-sr", "--from", source, "--dry-run", "--json").stdout)
    assert plan["sources"] == [{"file": "WR-SR.zip", "state": f"here: {source}"}]
    assert not data_dir().exists()
    assert "has to be put into" in invoke("build", "manga109", "--dry-run").stdout
    assert not cache_dir().exists()
    invoke("build", "demo", "--dry-run")


def test_exported_lr_is_pillows_bicubic_of_the_cropped_picture(tmp_path: Path) -> None:
    files = {f"{kind}/{name}.png": png(i, 45, 43) for i, (kind, name) in enumerate((("input", "a"), ("ref", "a")))}
    result = invoke("build", "custom", write_folder(tmp_path / "in", files), "--out", tmp_path / "set", "--export-lr")
    assert "1 LR pictures in" in result.stderr
    exported = load_image(tmp_path / "set-lr-x4" / "a.png")
    hr = crop_to_multiple(load_image(tmp_path / "in" / "input" / "a.png"), 4)
    assert np.array_equal(exported, resize_bicubic(hr, 10, 11))
    about = json.loads((tmp_path / "set-lr-x4" / "export.json").read_text())
    assert (about["dataset"], about["lr"]) == (open_dataset(tmp_path / "set").info.id, "pil.bicubic")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("build", "demo", "--jobs", 2), UsageError, "--jobs means nothing to the builder of demo"),
        (("build", "cufed6"), UsageError, "cufed5"),
        (("build", "custom"), UsageError, "needs a folder of photographs or a CSV table"),
        (("build", "wr-sr"), ManualStepNeeded, "needs the file WR-SR.zip"),
        (("info", "cufed6"), UsageError, "cufed5"),
        (("verify", "cufed5"), ManualStepNeeded, "build it with"),
    ],
)
def test_what_cannot_be_done_is_said(arguments: tuple[object, ...], error: type[RefsrError], message: str) -> None:
    with pytest.raises(error, match=message):
        invoke(*arguments)


def test_a_set_of_ones_own_is_known_by_its_pictures(tmp_path: Path) -> None:
    for home, first in (("a", 1), ("b", 3), ("c", 1)):
        pictures = {f"{i}.png": png(first + i, 40, 40) for i in range(2)}
        write_folder(tmp_path / home / "photos", pictures)
    invoke("build", "custom", tmp_path / "a" / "photos")
    assert "already built" in invoke("build", "custom", tmp_path / "c" / "photos").stderr
    with pytest.raises(UsageError, match=r"built from other files than .*b/photos holds now"):
        invoke("build", "custom", tmp_path / "b" / "photos")
    (tmp_path / "b" / "photos").rename(tmp_path / "b" / "demo")
    with pytest.raises(UsageError, match="demo is the name of another dataset"):
        invoke("build", "custom", tmp_path / "b" / "demo")


def test_rubbish_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.zip").write_text("hello")
    (tmp_path / "page.zip").write_text("<!DOCTYPE html><title>Quota exceeded</title>")
    (tmp_path / "notes.txt").write_text("hello")
    write_folder(tmp_path / "other", {"holiday.png": png(1)})
    for name, error, message in (
        ("empty", IntegrityError, "0 of 10 pictures found"),
        ("text.zip", IntegrityError, "not a zip file"),
        ("page.zip", IntegrityError, "not a zip file"),
        ("notes.txt", UsageError, "neither a folder nor a zip or tar archive"),
        ("other", IntegrityError, r"no part of the set: holiday\.png"),
    ):
        with pytest.raises(error, match=message):
            invoke("build", "set5", "--from", tmp_path / name)
    assert not (data_dir() / "set5").exists()
    with pytest.raises(UsageError, match="give one of them"):
        invoke("build", "set5", tmp_path / "empty", "--from", tmp_path / "empty")


def test_27_28_a_full_disk_and_a_place_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    source = write_folder(tmp_path / "in", PUBLISHED["set5"]()["Set5_SR.zip"])
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="cannot be used"):
        invoke("build", "set5", source, "--out", tmp_path / "file" / "set")
    with pytest.raises(StorageError, match="File name too long"):
        invoke("build", "set5", source, "--out", tmp_path / ("x" * 300))
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(StorageError, match=r"bytes are needed, 1,000 are free") as caught:
        invoke("build", "set5", source, "--out", tmp_path / "set")
    assert caught.value.exit_code == 4
    assert not (tmp_path / "set").exists()
    monkeypatch.undo()
    monkeypatch.setenv("REFSR_DATA_DIR", str(tmp_path / "data"))
    invoke("build", "set5", source, "--out", tmp_path / "Bilder für später" / "写真 [1]")
