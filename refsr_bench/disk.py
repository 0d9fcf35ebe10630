"""Files and folders on disk: hashes, what appears whole or not at all, and what a disk can refuse.

A folder is written in a hidden sibling and published with one rename; a killed writer leaves nothing that looks like
the folder, and the next one clears what it left.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from refsr_bench.errors import StorageError, UsageError


def sha256_bytes(data: bytes) -> str:
    """Lower-case hexadecimal SHA-256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Lower-case hexadecimal SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def atomic_write_bytes(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all, also after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{short_name(path)}.{uuid.uuid4().hex}.part")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)  # a full disk names no file, and the temporary one tells nobody anything
        raise


def find_leftovers(folder: Path) -> dict[Path, str]:
    """What killed calls of `atomic_write_bytes` left in a folder, and the `short_name` of the file each was to be."""
    return {path: path.name[1:].rsplit(".", 2)[0] for path in folder.glob(".*.part")}


def short_name(path: Path) -> str:
    """A file's name as far as `atomic_write_bytes` keeps it while it writes."""
    return path.name[:80]


def atomic_write_json(path: Path, value: object) -> None:
    """Write readable JSON atomically: indented, keys in the order given, UTF-8."""
    atomic_write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


@contextmanager
def publishing(
    target: Path, may_replace: Callable[[Path], bool], what: str, *, needed: int | None = None
) -> Iterator[Path]:
    """Give an empty folder to write in; on success it becomes ``target`` with one rename.

    Holds a lock beside ``target``, so of two writers one waits; clears what killed writers left. What is there is
    replaced only at the end; `UsageError` if ``target`` holds anything and ``may_replace(target)`` does not say that it
    may go (``what`` is the name of the thing in that message). `StorageError` if ``needed`` bytes are not free or the
    disk fills up.
    """
    target = target.resolve()  # a link stays a link: what it points to is replaced
    with naming_storage_faults(target.parent, needed=needed):
        target.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(target.with_name(f".{target.name}.lock")):
            yield from _replace_when_whole(target, may_replace, what)


def _replace_when_whole(target: Path, may_replace: Callable[[Path], bool], what: str) -> Iterator[Path]:
    replaced = target.with_name(f".{target.name}.replaced")
    if replaced.exists() and not target.exists():
        replaced.replace(target)  # an earlier writer was killed between its two renames
    for leftover in (replaced, *target.parent.glob(f".{glob.escape(target.name)}.building-*")):
        shutil.rmtree(leftover, ignore_errors=True)
    if target.exists() and not (target.is_dir() and (not any(target.iterdir()) or may_replace(target))):
        raise UsageError(f"{target}: holds other files, no {what} is written over them", "choose another folder")
    work = target.with_name(f".{target.name}.building-{uuid.uuid4().hex}")
    work.mkdir()
    try:
        yield work
        if target.exists():
            target.replace(replaced)
            work.replace(target)
            shutil.rmtree(replaced)
        else:
            work.replace(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextmanager
def naming_storage_faults(folder: Path, *, needed: int | None = None) -> Iterator[None]:
    """Turn a full disk, or a folder that cannot be used, into a `StorageError` that says so.

    ``needed`` bytes must be free on the disk that holds ``folder`` before any work begins.
    """
    need = "" if needed is None else f"about {needed:,} bytes are needed, "
    if needed is not None and needed > _free_bytes(folder):
        raise _disk_full(folder, need)
    try:
        yield
    except OSError as error:
        if (fault := as_storage_fault(error, folder, need)) is not None:
            raise fault from None
        raise


def as_storage_fault(error: OSError, folder: Path, need: str = "") -> StorageError | None:
    """What a system's error says of the disk or of a folder; None if it is about something else."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return _disk_full(folder, need)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EEXIST):
        return StorageError(f"{error.filename or folder}: cannot be used ({error.strerror})", "choose another folder")
    return None


def _disk_full(folder: Path, need: str) -> StorageError:
    return StorageError(f"{folder}: the disk is full ({need}{_free_bytes(folder):,} are free)", "make room, then again")


def _free_bytes(folder: Path) -> int:
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free
