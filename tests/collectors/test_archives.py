"""Archives that are broken, hostile or too large: judged before anything is written (cases 22 to 28)."""

from __future__ import annotations

import gzip
import io
import json
import stat
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from refsr_bench.collectors.archives import INDEX_NAME, Limits, is_archive, safe_extract
from refsr_bench.disk import sha256_bytes
from refsr_bench.errors import IntegrityError, StorageError

GOOD = {"set/a.txt": b"a" * 5000, "set/nested/ü b.txt": bytes(range(256)) * 40, "c": b""}


def make_zip(path: Path, files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def make_tar(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def refused(archive: Path, match: str, limits: Limits | None = None) -> IntegrityError:
    """Unpacking must fail with ``match``, exit code 4, and leave nothing."""
    target = archive.parent / "out" / "unpacked"
    with pytest.raises(IntegrityError, match=match) as caught:
        safe_extract(archive, target, limits=limits)
    assert caught.value.exit_code == 4
    assert archive.name in caught.value.problem
    left = list(target.parent.iterdir()) if target.parent.exists() else []
    assert [path for path in left if path.suffix != ".lock"] == []
    return caught.value


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"])
def test_good_archives_come_out_whole_and_indexed(tmp_path: Path, kind: str) -> None:
    archive = tmp_path / f"set.{kind}"
    if kind == "zip":
        make_zip(archive, GOOD)
    else:
        make_tar(archive, {f"./{name}": data for name, data in GOOD.items()}, "w:" + kind[4:])
    done: list[int] = []
    target = tmp_path / "a folder" / "out"
    index = safe_extract(archive, target, progress=lambda count, total: done.append(count))
    assert is_archive(archive)
    assert index == {name: sha256_bytes(data) for name, data in GOOD.items()}
    assert tree(target) == GOOD | {INDEX_NAME: (target / INDEX_NAME).read_bytes()}
    assert done == [1, 2, 3]


def test_what_is_unpacked_is_not_unpacked_again(tmp_path: Path) -> None:
    archive, target = make_zip(tmp_path / "set.zip", GOOD), tmp_path / "out"
    index = safe_extract(archive, target)
    archive.unlink()
    assert safe_extract(archive, target) == index


def test_who_waits_for_another_finds_it_unpacked(tmp_path: Path) -> None:
    archive, target = make_zip(tmp_path / "a.zip", {"a.txt": b"1"}), tmp_path / "cache" / "a"
    first_is_at_work, second_waits = threading.Event(), threading.Event()

    def hold(done: int, total: int) -> None:
        first_is_at_work.set()
        second_waits.wait(30)

    def second() -> dict[str, str]:
        first_is_at_work.wait(30)
        threading.Timer(0.3, second_waits.set).start()
        return safe_extract(archive, target, progress=lambda done, total: pytest.fail("unpacked twice"))

    with ThreadPoolExecutor() as pool:
        both = [pool.submit(safe_extract, archive, target, progress=hold), pool.submit(second)]
        first, other = (each.result(timeout=60) for each in both)
    assert first == other == {"a.txt": sha256_bytes(b"1")}


# --- 22: broken ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.xz"])
def test_22_truncated(tmp_path: Path, kind: str, kept: float) -> None:
    archive = tmp_path / f"set.{kind}"
    files = {f"{i}.bin": bytes((i * j) % 253 for j in range(5000)) for i in range(10)}
    make_zip(archive, files) if kind == "zip" else make_tar(archive, files, "w:" + kind[4:])
    archive.write_bytes(archive.read_bytes()[: int(archive.stat().st_size * kept) // 512 * 512 - 100])
    refused(archive, "truncated|damaged|only the beginning")


def test_22_a_member_whose_checksum_is_wrong(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "set.zip", {"a.txt": b"hello world"}, zipfile.ZIP_STORED)
    archive.write_bytes(archive.read_bytes().replace(b"hello world", b"jello world"))
    refused(archive, "damaged.*CRC")


def test_22_encrypted(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "set.zip", {"a.txt": b"hello"})
    data = bytearray(archive.read_bytes())
    data[data.index(b"PK\x03\x04") + 6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(data)
    assert "--from" in str(refused(archive, "encrypted"))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_22_the_same_name_twice(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("a.txt", b"one")
        archive.writestr("a.txt", b"two")
    refused(tmp_path / "set.zip", "twice")
    with tarfile.open(tmp_path / "set.tar", "w") as twice:
        for data in (b"one", b"two"):
            info = tarfile.TarInfo("a.txt")
            info.size = len(data)
            twice.addfile(info, io.BytesIO(data))
    refused(tmp_path / "set.tar", "twice")


@pytest.mark.parametrize(
    ("names", "match"),
    [
        (("A.png", "a.PNG"), "only by case"),
        (("in/a", "IN/b"), "differ by case"),
        (("a", "a/b"), "both a file and a folder"),
        (("\u00e9.png", "e\u0301.png"), "only by case"),
    ],
)
def test_22_names_that_some_file_systems_take_for_one(tmp_path: Path, names: tuple[str, str], match: str) -> None:
    refused(make_zip(tmp_path / "set.zip", dict.fromkeys(names, b"x")), match)
    refused(make_tar(tmp_path / "set.tar", dict.fromkeys(names, b"x")), match)


@pytest.mark.parametrize("content", [b"", b"hello", b"<!DOCTYPE html><p>Quota exceeded", b"\x1f\x8b\x08garbage"])
@pytest.mark.parametrize("name", ["set.zip", "set.tar.gz"])
def test_22_what_is_no_archive(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, "not a zip|damaged")


# --- 23: leading out -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["../evil", "a/../../evil", "/etc/evil", "C:/evil", "C:\\evil", "a\\..\\evil", "a\0.png", "a//b", "./../a",
     "\\\\server\\share", "a\nb", "\x1b[2J", "x" * 300, "a/./b", "nul:stream"],
)  # fmt: skip
def test_23_names_that_lead_out_or_hide_something(tmp_path: Path, name: str) -> None:
    archive = make_zip(tmp_path / "set.zip", {"good.txt": b"x", name.replace("\0", "\a"): b"x"})
    if "\0" in name:  # which zipfile does not write
        archive.write_bytes(archive.read_bytes().replace(b"\a", b"\0"))
    refused(archive, "not a plain path")
    if "\0" not in name:  # tar names end at NUL
        refused(make_tar(tmp_path / "set.tar", {"good.txt": b"x", name: b"x"}), "not a plain path")


@pytest.mark.parametrize("name", ["../evil/", "/evil/", "a/../../b/"])
def test_23_folders_that_lead_out(tmp_path: Path, name: str) -> None:
    refused(make_zip(tmp_path / "set.zip", {name: b""}), "not a plain path")
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        info = tarfile.TarInfo(name)
        info.type = tarfile.DIRTYPE
        archive.addfile(info)
    refused(tmp_path / "set.tar", "not a plain path")


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE],
)
def test_23_special_members_of_a_tar(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        info = tarfile.TarInfo("innocent.png")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    refused(tmp_path / "set.tar", "never unpacked|damaged")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_23_special_members_of_a_zip(tmp_path: Path, kind: int) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        info = zipfile.ZipInfo("innocent.png")
        info.external_attr = (kind | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    refused(tmp_path / "set.zip", "never unpacked")


def test_23_an_archive_cannot_bring_its_own_index(tmp_path: Path) -> None:
    refused(make_zip(tmp_path / "set.zip", {INDEX_NAME: b"{}"}), "holds a file called")


# --- 24: bombs -------------------------------------------------------------------------------------------------------


def test_24_expansion(tmp_path: Path) -> None:
    zeros = {"zeros": bytes(60_000_000)}
    refused(make_zip(tmp_path / "set.zip", zeros), "more than 100 times")
    refused(make_tar(tmp_path / "set.tar.gz", zeros, "w:gz"), "more than 100 times")
    with tarfile.open(tmp_path / "set.tar.gz", "w:gz") as archive:  # declares an exabyte: refused by its word
        info = tarfile.TarInfo("zeros")
        info.size = 10**18
        archive.addfile(info, None)
    refused(tmp_path / "set.tar.gz", "the limit is")


@pytest.mark.parametrize(
    ("limits", "match"),
    [
        (Limits(total_bytes=10_000), "unpacks to"),
        (Limits(member_bytes=1000), "limit 1,000"),
        (Limits(members=2), "more than 2 files"),
    ],
)
def test_24_sizes_and_numbers(tmp_path: Path, limits: Limits, match: str) -> None:
    refused(make_zip(tmp_path / "set.zip", GOOD), match, limits)
    refused(make_tar(tmp_path / "set.tar", GOOD), match, limits)


def test_24_a_size_that_lies(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "set.zip", {"a": bytes(100_000)})
    data = bytearray(archive.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = data.index(mark) + offset
        data[at : at + 4] = (10).to_bytes(4, "little")
    archive.write_bytes(data)
    refused(archive, "as the archive says|damaged")


@pytest.mark.parametrize("inner", ["inner.zip", "inner.tar.gz", "inner.7z"])
def test_24_archives_within_archives(tmp_path: Path, inner: str) -> None:
    refused(make_zip(tmp_path / "set.zip", {inner: b"PK"}), "holds another archive")


def test_24_headers_that_fill_the_memory(tmp_path: Path) -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 500_000_000
    (tmp_path / "set.tar.gz").write_bytes(gzip.compress(info.tobuf(tarfile.GNU_FORMAT)))
    refused(tmp_path / "set.tar.gz", "a header of")
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 0
    (tmp_path / "set.tar").write_bytes(info.tobuf(tarfile.PAX_FORMAT) * 20_000)
    refused(tmp_path / "set.tar", "damaged")


# --- 25 to 27: kills and full disks --------------------------------------------------------------------------------

KILL_AND_REPEAT = """
import os, signal, sys
from pathlib import Path
from refsr_bench.collectors.archives import safe_extract

archive, folder = map(Path, sys.argv[1:])
for stop in range(1, 21):
    target = folder / str(stop) / "out"
    if not (child := os.fork()):
        def progress(done, total):
            if done == stop: os.kill(os.getpid(), signal.SIGKILL)
        safe_extract(archive, target, progress=progress)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert not target.exists()
    safe_extract(archive, target)
"""


@pytest.fixture
def twenty(tmp_path: Path) -> Path:
    return make_zip(tmp_path / "set.zip", {f"folder/{i}.bin": bytes([i]) * 3000 for i in range(20)})


def test_25_killed_at_every_twentieth_and_run_again(tmp_path: Path, twenty: Path) -> None:
    safe_extract(twenty, tmp_path / "clean")
    subprocess.run([sys.executable, "-c", KILL_AND_REPEAT, str(twenty), str(tmp_path / "killed")], check=True)
    for stop in range(1, 21):
        folder = tmp_path / "killed" / str(stop)
        assert tree(folder / "out") == tree(tmp_path / "clean")
        assert [path.name for path in folder.iterdir() if path.suffix != ".lock"] == ["out"]


def test_26_a_folder_without_its_index_is_no_unpacked_archive(tmp_path: Path, twenty: Path) -> None:
    target = tmp_path / "out"
    safe_extract(twenty, target)
    (target / INDEX_NAME).write_bytes((target / INDEX_NAME).read_bytes()[:40])  # a kill or power cut in the last write
    safe_extract(twenty, target)
    assert len(json.loads((target / INDEX_NAME).read_bytes())) == 20


def test_27_no_room(tmp_path: Path, twenty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "out" / "unpacked"
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(StorageError, match="about 60,000 bytes are needed, 1,000 are free") as caught:
        safe_extract(twenty, target)
    assert caught.value.exit_code == 4
    assert all(path.suffix == ".lock" for path in target.parent.iterdir())


@pytest.fixture
def full_after(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Let the disk be full from the n-th opened file on."""
    import errno

    real, opened = Path.open, [0]

    def limit(count: int) -> None:
        def open_path(self: Path, mode: str = "r", *args: object, **options: object) -> object:
            if "x" in mode or "w" in mode:
                opened[0] += 1
                if opened[0] > count:
                    raise OSError(errno.ENOSPC, "No space left on device", str(self))
            return real(self, mode, *args, **options)  # type: ignore[call-overload]

        monkeypatch.setattr(Path, "open", open_path)

    return limit  # type: ignore[return-value]


def test_27_the_disk_fills_up_half_way(tmp_path: Path, twenty: Path, full_after: Callable[[int], None]) -> None:
    full_after(7)
    target = tmp_path / "out" / "unpacked"
    with pytest.raises(StorageError, match="disk is full"):
        safe_extract(twenty, target)
    assert [path for path in target.parent.iterdir() if path.suffix != ".lock"] == []
