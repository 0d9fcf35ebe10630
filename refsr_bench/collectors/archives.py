"""Unpacking archives that may be hostile or broken: everything is judged before anything is written.

Zip and tar (plain, gz, bz2, xz). Refused: names that lead out of the folder, links, devices and every other special
member, encrypted members, names used twice or differing only by case, archives within, and more members, bytes or
expansion than the limits. The result appears with one rename; a killed run leaves nothing that looks unpacked.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import filelock

from refsr_bench.disk import atomic_write_json, naming_storage_faults
from refsr_bench.errors import IntegrityError
from refsr_bench.store import building

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
INDEX_NAME = ".unpacked.json"
_NESTED = (*SUFFIXES, ".gz", ".bz2", ".xz", ".7z", ".rar")
_BROKEN = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, ValueError,
    gzip.BadGzipFile, RecursionError,
)  # fmt: skip
_MAX_NAME_BYTES = 255
_PIECE = 1 << 20
_MAX_READ = 16 << 20


class Limits(NamedTuple):
    """What an archive may hold."""

    members: int = 200_000
    member_bytes: int = 500_000_000
    total_bytes: int = 40_000_000_000
    ratio: float = 100.0
    """Largest allowed expansion; archives that unpack to less than ``ratio_from_bytes`` are not judged by it."""
    ratio_from_bytes: int = 50_000_000


class _Member(NamedTuple):
    path: str
    """Its name in the archive, folders with forward slashes."""
    size: int
    key: object
    """What the archive's own library calls it."""


def is_archive(path: Path) -> bool:
    """Whether a file's name says that it is an archive this module unpacks."""
    return path.name.lower().endswith(SUFFIXES)


def safe_extract(
    archive: Path,
    target: Path,
    *,
    limits: Limits | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, str]:
    """Unpack an archive into the new folder ``target``; returns each file's path and SHA-256.

    A folder that an earlier call finished is left as it is (`read_index` gives the same answer). `IntegrityError`
    names what is wrong, and ``target`` does not exist then.
    """
    if (index := read_index(target)) is not None:
        return index
    with naming_storage_faults(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        # Whoever waited here finds it finished: unpacking again would take the folder from under its readers.
        with filelock.FileLock(target.with_name(f".{target.name}.unpacking.lock")):
            index = read_index(target)
            return _unpack(archive, target, limits or Limits(), progress) if index is None else index


def _unpack(archive: Path, target: Path, limits: Limits, progress: Callable[[int, int], None]) -> dict[str, str]:
    try:
        with _opened(archive, limits) as (members, open_member):
            _judge(archive, members, limits)
            total = sum(member.size for member in members)
            with building(target, marker=INDEX_NAME, needed=total) as root:
                index = {}
                for done, member in enumerate(members, 1):
                    with open_member(member) as file:
                        index[member.path] = _copy(file, root / member.path, member, archive)
                    progress(done, len(members))
                atomic_write_json(root / INDEX_NAME, index)
            return index
    except _BROKEN as error:
        raise IntegrityError(
            f"{archive}: truncated or damaged ({error or type(error).__name__})", "get the file again"
        ) from None


def _copy(file: IO[bytes], path: Path, member: _Member, archive: Path) -> str:
    """Write one member and return its SHA-256; refuse it once it is longer or shorter than the archive says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    digest, done = hashlib.sha256(), 0
    with path.open("xb") as copy:
        while piece := file.read(min(_PIECE, member.size - done + 1)):
            digest.update(piece)
            done += len(piece)
            if done > member.size:
                break
            copy.write(piece)
    if done != member.size:
        raise IntegrityError(f"{archive}: {member.path!r} is not as long as the archive says")
    return digest.hexdigest()


def read_index(target: Path) -> dict[str, str] | None:
    """Paths and hashes of an unpacked archive; None if it is not unpacked or its index cannot be read."""
    try:
        value = json.loads((target / INDEX_NAME).read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


# --- judging -------------------------------------------------------------------------------------------------------


def _judge(archive: Path, members: list[_Member], limits: Limits) -> None:
    """`IntegrityError` for anything that must not be unpacked; nothing has been written yet."""
    _check_limits(archive, len(members), sum(member.size for member in members), limits)
    seen: dict[str, str] = {}
    folders: dict[str, str] = {}
    for member in members:
        _judge_name(archive, member.path)
        if member.size > limits.member_bytes:
            raise IntegrityError(f"{archive}: {member.path} has {member.size:,} bytes, limit {limits.member_bytes:,}")
        folded = _fold(member.path)
        if folded in seen:
            twin = seen[folded]
            how = "twice" if twin == member.path else f"and {twin!r}, which differ only by case"
            raise IntegrityError(f"{archive}: holds {member.path!r} {how}")
        seen[folded] = member.path
        parts = member.path.split("/")
        for depth in range(1, len(parts)):
            folder = "/".join(parts[:depth])
            if folders.setdefault(_fold(folder), folder) != folder:
                raise IntegrityError(f"{archive}: the folders {folder!r} and {folders[_fold(folder)]!r} differ by case")
    for folded, folder in folders.items():
        if folded in seen:
            raise IntegrityError(f"{archive}: {folder!r} is both a file and a folder")


def _check_limits(archive: Path, members: int, total: int, limits: Limits) -> None:
    if members > limits.members:
        raise IntegrityError(f"{archive}: holds more than {limits.members:,} files")
    if total > limits.total_bytes:
        raise IntegrityError(f"{archive}: unpacks to {total:,} bytes, the limit is {limits.total_bytes:,}")
    packed = max(archive.stat().st_size, 1)
    if total > limits.ratio_from_bytes and total / packed > limits.ratio:
        raise IntegrityError(f"{archive}: {packed:,} bytes unpack to {total:,}, more than {limits.ratio:g} times")


def _fold(path: str) -> str:
    return unicodedata.normalize("NFC", path).casefold()


def _judge_name(archive: Path, name: str) -> None:
    parts = name.split("/")
    bad = (
        any(part in ("", ".", "..") or ":" in part for part in parts)
        or any(len(part.encode("utf-8", "surrogatepass")) > _MAX_NAME_BYTES for part in parts)
        or any(ord(c) < 32 or ord(c) == 127 or c == "\\" for c in name)
    )
    if bad:
        raise IntegrityError(f"{archive}: holds the name {name[:120]!r}, which is not a plain path inside a folder")
    if name == INDEX_NAME:
        raise IntegrityError(f"{archive}: holds a file called {INDEX_NAME}")
    if name.lower().endswith(_NESTED):
        raise IntegrityError(
            f"{archive}: holds another archive, {name!r}, past the limit of one level",
            "unpack it yourself and build --from the folder",
        )


def _refuse_kind(archive: Path, name: str, kind: str) -> None:
    raise IntegrityError(f"{archive}: {name[:120]!r} is {kind}, which is never unpacked")


# --- the two kinds -------------------------------------------------------------------------------------------------

_Opened = tuple[list[_Member], Callable[[_Member], IO[bytes]]]


def _opened(archive: Path, limits: Limits) -> AbstractContextManager[_Opened]:
    if zipfile.is_zipfile(archive):
        return _open_zip(archive)
    if archive.name.lower().endswith(".zip"):
        raise IntegrityError(f"{archive}: not a zip file, or only the beginning of one", "get the file again")
    return _open_tar(archive, limits)


@contextmanager
def _open_zip(archive: Path) -> Iterator[_Opened]:
    with zipfile.ZipFile(archive) as opened:
        members = []
        for info in opened.infolist():
            raw = info.orig_filename  # zipfile itself cuts names at NUL and turns backslashes round
            kind = stat.S_IFMT(info.external_attr >> 16)
            if info.is_dir() and not info.file_size:
                _judge_name(archive, raw.rstrip("/") or raw)
                continue
            if kind not in (0, stat.S_IFREG):
                _refuse_kind(archive, raw, "a link" if kind == stat.S_IFLNK else "a special file")
            if info.flag_bits & 0x1:
                raise IntegrityError(f"{archive}: {raw!r} is encrypted", "unpack it yourself, build --from the folder")
            members.append(_Member(raw, info.file_size, info))

        def open_member(member: _Member) -> IO[bytes]:
            assert isinstance(member.key, zipfile.ZipInfo)
            return opened.open(member.key)

        yield members, open_member


@contextmanager
def _open_tar(archive: Path, limits: Limits) -> Iterator[_Opened]:
    with (
        _decompressed(archive) as raw,
        _BoundedReader(raw, archive) as bounded,
        tarfile.open(fileobj=bounded, mode="r:") as opened,
    ):
        members, total = [], 0
        for info in opened:
            name = info.name.removeprefix("./")
            if info.isdir():
                if name != ".":
                    _judge_name(archive, name.rstrip("/") or name)
                continue
            if not info.isreg() or info.issparse():
                _refuse_kind(archive, name, "a link" if info.issym() or info.islnk() else "a special file")
            members.append(_Member(name, info.size, info))
            total += info.size
            _check_limits(archive, len(members), total, limits)  # before the member is decompressed to pass over it
        bounded.seek(opened.offset)
        if bounded.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # tarfile takes a torn header for the end
            raise EOFError("its end is missing")

        def open_member(member: _Member) -> IO[bytes]:
            assert isinstance(member.key, tarfile.TarInfo)
            file = opened.extractfile(member.key)
            assert file is not None  # only regular files are among the members
            return file

        yield members, open_member


@contextmanager
def _decompressed(archive: Path) -> Iterator[Any]:
    with archive.open("rb") as file:
        magic = file.read(6)
        file.seek(0)
        if magic.startswith(b"\x1f\x8b"):
            with gzip.GzipFile(fileobj=file) as opened:
                yield opened
        elif magic.startswith(b"BZh"):
            with bz2.BZ2File(file) as opened_bz2:
                yield opened_bz2
        elif magic.startswith(b"\xfd7zXZ"):
            with lzma.LZMAFile(file) as opened_xz:
                yield opened_xz
        else:
            yield file


class _BoundedReader(io.RawIOBase):
    """Passes everything through, but for a header that wants to be read whole into memory."""

    def __init__(self, file: IO[bytes], archive: Path) -> None:
        self._file, self._archive = file, archive

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MAX_READ:
            raise IntegrityError(f"{self._archive}: holds a header of {size:,} bytes")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True
