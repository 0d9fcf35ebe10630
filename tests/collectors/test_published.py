"""The published sets, each built from archives with the published names, verified and evaluated; and what stops it."""

from __future__ import annotations

import functools
import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from local_server import reply_file, serving
from published_sets import PUBLISHED, cufed, jpg, numbered, png, write_archives, write_folder, write_zip

from refsr_bench.cli import cli
from refsr_bench.collectors import archives, material, published
from refsr_bench.collectors.cufed import CARD as CUFED
from refsr_bench.collectors.cufed import LAYOUT as CUFED_LAYOUT
from refsr_bench.collectors.fetch import fetch
from refsr_bench.collectors.layout import read_names
from refsr_bench.collectors.trust import recorded_hashes
from refsr_bench.disk import sha256_file
from refsr_bench.errors import ImageError, IntegrityError, ManualStepNeeded, UsageError
from refsr_bench.lookup import find, find_card
from refsr_bench.schema import Record
from refsr_bench.store import Dataset, cache_dir, open_dataset
from refsr_bench.verification import verify_dataset


def build(name: str, source: Path | None, target: Path, **options: object) -> tuple[Dataset, list[str]]:
    notes: list[str] = []
    find("datasets", name)(source, target, progress=lambda done, total: None, note=notes.append, **options)
    return open_dataset(target), notes


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def evaluate_bicubic(dataset: Path, out: Path, *options: str) -> dict[str, object]:
    arguments = ["eval", "bicubic", "--dataset", str(dataset), "--out", str(out), "--limit", "3", "--json", *options]
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    printed: dict[str, object] = json.loads(result.stdout)
    return printed


def check_cufed5(records: tuple[Record, ...]) -> None:
    assert [record.name for record in records] == [f"{i:03d}" for i in range(126)]
    assert all([ref.level for ref in record.refs] == [1, 2, 3, 4, 5] for record in records)
    assert [ref.path for ref in records[7].refs] == [f"ref/007_{k}.png" for k in range(1, 6)]


def check_sun80(records: tuple[Record, ...]) -> None:
    assert tuple(record.name for record in records) == tuple(sorted(read_names("sun80.txt")))
    assert [Path(ref.path).stem[-8:] for ref in records[3].refs] == ["match_01", "match_02"]


def check_self_ex_sr(records: tuple[Record, ...]) -> None:
    assert [record.name for record in records] == [f"img_{i:03d}" for i in range(1, len(records) + 1)]
    assert {record.lr.kernel for record in records if record.lr is not None} == {"matlab.bicubic"}
    assert all(record.lr is not None and not record.refs for record in records)


def check_manga109(records: tuple[Record, ...]) -> None:
    assert tuple(record.name for record in records) == read_names("manga109.txt")
    references = [record.refs[0].path for record in records]
    assert len(set(references)) == 109, "a derangement uses every page once"
    assert not any(record.tags or record.hr.path == record.refs[0].path for record in records if record.hr)


def check_third_party(records: tuple[Record, ...]) -> None:
    names = [record.name for record in records]
    positions = [names.index(Path(record.refs[0].path).stem) + 1 for record in records]
    assert positions[:12] == [3, 103, 104, 49, 84, 82, 91, 2, 15, 5, 92, 65]
    assert positions[-4:] == [46, 100, 34, 44]
    assert [i for i, record in enumerate(records, 1) if record.tags == ("self-reference",)] == [26, 54, 70]


def check_wr_sr(records: tuple[Record, ...]) -> None:
    assert [(record.name, record.refs[0].path) for record in records] == [
        (f"{i:03d}", f"ref/{i:03d}_ref.png") for i in range(1, 81)
    ]


CHECKS: dict[str, Callable[[tuple[Record, ...]], None]] = {
    "cufed5": check_cufed5,
    "sun80": check_sun80,
    "urban100": check_self_ex_sr,
    "manga109": check_manga109,
    "manga109-third-party": check_third_party,
    "wr-sr": check_wr_sr,
    "set5": check_self_ex_sr,
    "set14": check_self_ex_sr,
    "bsd100": check_self_ex_sr,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_set_is_built_from_its_archives_verified_and_evaluated(tmp_path: Path, name: str) -> None:
    source = write_archives(tmp_path / "archives", name)
    dataset, notes = build(name, source, tmp_path / "set")
    card = find_card("datasets", name)
    assert card is not None
    assert (dataset.info.name, dataset.info.samples) == (name, card.samples)
    assert verify_dataset(dataset, deep=True) == []
    assert any("trusted on first use" in note for note in notes)
    assert set(dataset.info.sources) == {each.file for each in card.sources}
    CHECKS[name](dataset.records)
    assert evaluate_bicubic(tmp_path / "set", tmp_path / "run")["failed"] == {}
    again, _ = build(name, source, tmp_path / "again", jobs=1)
    assert again.info.id == dataset.info.id


def test_the_training_set_freezes_its_names(tmp_path: Path) -> None:
    small = functools.partial(published.build_published, CUFED.model_copy(update={"samples": 30}), CUFED_LAYOUT)
    for file, files in cufed(30).items():
        write_zip(tmp_path / "zips" / file, files)
    notes: list[str] = []
    small(tmp_path / "zips", tmp_path / "set", progress=lambda done, total: None, note=notes.append)
    dataset = open_dataset(tmp_path / "set")
    assert verify_dataset(dataset, deep=True) == []
    assert [ref.path for ref in dataset.records[0].refs] == ["ref/000000_0.png"]
    assert evaluate_bicubic(tmp_path / "set", tmp_path / "run")["failed"] == {}

    other = cufed(29)
    folder = write_folder(tmp_path / "other", other["CUFED_input.zip"] | other["CUFED_ref.zip"])
    for kind in ("input", "ref"):
        (folder / kind / "new.png").write_bytes(png(5))
    with pytest.raises(IntegrityError, match=r"missing: input/000029_1, ref/000029_1; 2 too many: input/new") as caught:
        small(folder, tmp_path / "set2", progress=lambda done, total: None, note=notes.append)
    assert "frozen by the first build" in str(caught.value)


@pytest.mark.slow
def test_the_whole_training_set(tmp_path: Path) -> None:
    for file, files in cufed(11_871).items():
        write_zip(tmp_path / "zips" / file, files)
    dataset, _ = build("cufed", tmp_path / "zips", tmp_path / "set")
    assert dataset.info.samples == 11_871
    assert verify_dataset(dataset) == []
    assert evaluate_bicubic(tmp_path / "set", tmp_path / "run")["failed"] == {}


@pytest.mark.parametrize("name", ["set5", "set14"])
def test_the_real_calibration_sets(tmp_path: Path, dev_data: Path, name: str) -> None:
    dataset, _ = build(name, dev_data / "sisr" / f"S{name[1:]}_x4", tmp_path / "set")
    assert dataset.info.samples == int(name[3:])
    assert verify_dataset(dataset, deep=True) == []


# --- where archives come from --------------------------------------------------------------------------------------


def test_04_an_archive_that_cannot_be_downloaded_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ManualStepNeeded) as caught:
        build("manga109", None, tmp_path / "set")
    assert caught.value.exit_code == 3
    for part in ("Manga109.zip", "manga109.org", str(cache_dir() / "archives"), "refsr-bench build manga109 --from"):
        assert part in str(caught.value)


def test_19_offline_asks_for_the_archive_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setenv("REFSR_OFFLINE", "1")
    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(ManualStepNeeded, match="REFSR_OFFLINE is set") as caught:
        build("cufed5", None, tmp_path / "set")
    assert "CUFED5.zip" in str(caught.value)


def test_an_archive_that_was_put_into_the_cache_is_found(tmp_path: Path) -> None:
    write_archives(cache_dir() / "archives", "manga109")
    dataset, _ = build("manga109", None, tmp_path / "set")
    assert dataset.info.sources["Manga109.zip"].endswith("put there by the user")


def test_a_second_build_with_a_warm_cache_downloads_and_unpacks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = write_archives(tmp_path / "server", "set5").read_bytes()
    card = find_card("datasets", "set5")
    assert card is not None
    with serving(lambda handler, number: reply_file(handler, archive)) as server:
        mirrored = card.model_copy(
            update={"sources": (card.sources[0].model_copy(update={"urls": (f"{server.url}/Set5_SR.zip",)}),)}
        )
        monkeypatch.setattr(material, "fetch", functools.partial(fetch, allow_private=True))
        build_set5 = find("datasets", "set5")
        again = functools.partial(published.build_published, mirrored, *build_set5.args[1:])
        quiet = {"progress": lambda done, total: None, "note": lambda text: None}
        again(None, tmp_path / "set", **quiet)
        first = tree(tmp_path / "set")
        assert server.url in open_dataset(tmp_path / "set").info.sources["Set5_SR.zip"]

        def refuse(*args: object, **options: object) -> None:
            raise AssertionError("unpacked again")

        monkeypatch.setattr(archives, "_opened", refuse)
        again(None, tmp_path / "set", **quiet)
    assert len(server.asked) == 1
    assert tree(tmp_path / "set") == first


def test_an_archive_is_trusted_once_and_enforced_from_there_on(tmp_path: Path) -> None:
    first = write_archives(tmp_path, "set5")
    build("set5", first, tmp_path / "set")
    assert recorded_hashes("set5") == {"Set5_SR.zip": sha256_file(first)}
    other = write_zip(tmp_path / "other.zip", PUBLISHED["set5"]()["Set5_SR.zip"] | {"Set5/readme.txt": b"new"})
    with pytest.raises(IntegrityError, match="not unpacked") as caught:
        build("set5", other, tmp_path / "set2")
    assert caught.value.exit_code == 4
    assert f"--expect-sha256 Set5_SR.zip={sha256_file(other)}" in str(caught.value)
    dataset, _ = build("set5", other, tmp_path / "set2", expect_sha256=sha256_file(other))
    assert recorded_hashes("set5") == {"Set5_SR.zip": sha256_file(other)}
    assert dataset.info.id == open_dataset(tmp_path / "set").info.id, "the same pictures have the same identity"


@pytest.mark.parametrize(
    ("expected", "message"),
    [("0" * 64, "expected 0000"), ("12", "not a SHA-256"), ("other.zip=" + "0" * 64, "has no archive")],
)
def test_21_an_unexpected_archive_is_not_unpacked(tmp_path: Path, expected: str, message: str) -> None:
    with pytest.raises((IntegrityError, UsageError), match=message):
        build("set5", write_archives(tmp_path, "set5"), tmp_path / "set", expect_sha256=expected)
    assert not (cache_dir() / "unpacked").exists()
    assert recorded_hashes("set5") == {}


def test_of_several_archives_the_missing_one_is_named(tmp_path: Path) -> None:
    folder = write_archives(tmp_path, "sun80")
    (folder / "Sun_Hays_SR_scenematches.zip").unlink()
    with pytest.raises(ManualStepNeeded, match=r"Sun_Hays_SR_scenematches\.zip is not in this folder"):
        build("sun80", folder, tmp_path / "set")
    (tmp_path / "list.txt").write_text("x")
    with pytest.raises(UsageError, match="neither a folder nor"):
        build("sun80", tmp_path / "list.txt", tmp_path / "set")


def test_a_shared_folder_packed_in_parts_is_put_together(tmp_path: Path) -> None:
    files = PUBLISHED["wr-sr"]()["WR-SR.zip"]
    for part, kind in ((1, "input"), (2, "ref")):
        chosen = {name: data for name, data in files.items() if f"/{kind}/" in name}
        write_zip(tmp_path / "zips" / f"WR-SR-2024-{part:03d}.zip", chosen)
    dataset, _ = build("wr-sr", tmp_path / "zips", tmp_path / "set")
    assert dataset.info.samples == 80


# --- 31 and 32: what lies in the folder ----------------------------------------------------------------------------


@pytest.fixture
def set5_files() -> dict[str, bytes]:
    return {Path(name).name: data for name, data in PUBLISHED["set5"]()["Set5_SR.zip"].items() if "SRF_4_" in name}


def test_31_nested_folders_strangers_and_capitals_are_fixed_and_said(
    tmp_path: Path, set5_files: dict[str, bytes]
) -> None:
    plain, _ = build("set5", write_folder(tmp_path / "plain", set5_files), tmp_path / "set")
    capitals = {name.replace(".png", ".PNG") if "003" in name else name: data for name, data in set5_files.items()}
    odd = {f"Set5/Set5/{name}": data for name, data in capitals.items()}
    odd |= {"Set5/Thumbs.db": b"x", "__MACOSX/Set5/._img_001_SRF_4_HR.png": b"x", "Set5/.DS_Store": b"x"}
    dataset, notes = build("set5", write_folder(tmp_path / "odd", odd), tmp_path / "set2")
    assert dataset.info.id == plain.info.id
    said = "\n".join(notes)
    for part in (
        "pictures taken from Set5/Set5",
        "Thumbs.db",
        "2 suffix(es) in capitals: Set5/Set5/img_003_SRF",
    ):
        assert part in said


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda files: files.pop("CUFED5/007_3.png"), r"755 of 756 pictures found, missing: 007_3\.png"),
        (lambda files: files.update({"CUFED5/126_0.png": png(1)}), r"1 too many: 126_0\.png"),
        (lambda files: files.update({"CUFED5/cover.png": png(1)}), r"no part of the set: CUFED5/CUFED5/cover\.png"),
        (lambda files: files.update({"copy/000_0.png": png(1)}), r"twice: .*CUFED5/000_0\.png and .*copy/000_0\.png"),
        (lambda files: files.update({"CUFED5/000_0.jpg": jpg(1)}), "twice"),
        (
            lambda files: [files.pop(f"CUFED5/125_{k}.png") for k in range(6)],
            r"750 of 756 .* missing: 125_0\.png, 125_1",
        ),
    ],
    ids=["reference", "surplus", "stranger", "copy", "two suffixes", "32: 125 of 126"],
)
def test_31_32_what_is_missing_or_too_many_is_named(
    tmp_path: Path, change: Callable[[dict[str, bytes]], object], message: str
) -> None:
    files = PUBLISHED["cufed5"]()["CUFED5.zip"]
    change(files)
    with pytest.raises(IntegrityError, match=message) as caught:
        build("cufed5", write_zip(tmp_path / "CUFED5.zip", files), tmp_path / "set")
    assert caught.value.exit_code == 4
    assert not (tmp_path / "set").exists()
    assert recorded_hashes("cufed5") == {}, "what did not verify is not trusted"


def test_31_sun80_and_cufed_name_what_is_missing(tmp_path: Path) -> None:
    names = read_names("sun80.txt")
    inputs = numbered([f"in/{name}.jpg" for name in names], jpg)
    matches = numbered([f"matches/{name}/a.jpg" for name in names[1:]], jpg)
    with pytest.raises(IntegrityError, match=f"79 of 80 pictures found, missing: {names[0]}"):
        build("sun80", write_folder(tmp_path / "sun", inputs | matches), tmp_path / "set")
    pairs = {"input/a.png": png(1), "ref/a.png": png(2), "input/b.png": png(3)}
    with pytest.raises(IntegrityError, match="missing: ref/b"):
        build("cufed", write_folder(tmp_path / "cufed", pairs), tmp_path / "set")
    pairs.pop("input/b.png")
    with pytest.raises(IntegrityError, match="1 samples found, 11871 expected"):
        build("cufed", write_folder(tmp_path / "cufed2", pairs), tmp_path / "set")


def test_a_damaged_picture_is_named_and_nothing_remains(tmp_path: Path, set5_files: dict[str, bytes]) -> None:
    set5_files["img_004_SRF_4_HR.png"] = set5_files["img_004_SRF_4_HR.png"][:-40]
    with pytest.raises(ImageError, match=r"img_004_SRF_4_HR\.png: truncated"):
        build("set5", write_folder(tmp_path / "in", set5_files), tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_a_picture_that_was_changed_in_the_cache_is_not_built_in(tmp_path: Path) -> None:
    archive = write_archives(tmp_path, "set5")
    build("set5", archive, tmp_path / "set")
    [changed] = (cache_dir() / "unpacked").rglob("img_002_SRF_4_HR.png")
    changed.write_bytes(png(77))
    with pytest.raises(IntegrityError, match="changed after it was unpacked"):
        build("set5", archive, tmp_path / "set2")


def test_urban100_without_lr_and_under_plain_names(tmp_path: Path) -> None:
    files = numbered([f"urban/img_{i:03d}.png" for i in range(1, 101)])
    dataset, _ = build("urban100", write_folder(tmp_path / "in", files), tmp_path / "set")
    assert all(record.lr is None for record in dataset.records)
