"""Downloading files: by hash, from mirrors, and published only when whole.

Nothing appears under the file's own name before its hash is right; what comes in meanwhile is kept apart
(`refsr_bench.collectors.transfer`) and a later run goes on from there. A lock beside the file (which dies with its
owner) keeps two processes from fetching it at once; were the lock to fail, the hash would still be checked.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import filelock

from refsr_bench.collectors.http import Refused, require_online
from refsr_bench.collectors.transfer import AddressFailed, Download, Limits, Progress, complete_part
from refsr_bench.disk import atomic_write_json, naming_storage_faults, sha256_file
from refsr_bench.errors import IntegrityError, ManualStepNeeded, NetworkError


class Fetched(NamedTuple):
    """A file that is whole, its hash, the address that gave it, and what went wrong at the others."""

    path: Path
    sha256: str
    url: str
    failures: tuple[str, ...] = ()


class Unavailable(ManualStepNeeded):
    """No address gives the file; a person has to get it."""


def fetch(
    urls: Sequence[str],
    target: Path,
    *,
    sha256: str | None,
    note: Callable[[str], None],
    progress: Progress = lambda done, total: None,
    limits: Limits | None = None,
    allow_private: bool = False,
) -> Fetched:
    """Have the file at ``target``: as it is if it is there and right, else from the first address that gives it.

    ``urls`` are http(s) addresses or ``gdrive:ID``. ``sha256`` None takes whatever comes (the caller pins its hash).
    ``allow_private`` is for servers of one's own. `IntegrityError` if what came is wrong (it is kept aside in
    ``quarantine``), `NetworkError` if asking again later makes sense, `Unavailable` if it does not, `StorageError` if
    the disk is full.
    """
    job = Download(target, sha256, limits or Limits(), progress, note, allow_private)
    with naming_storage_faults(target.parent):
        if (present := _present(job, alone=False)) is not None:
            return present
        require_online(target.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(job):
            return _present(job, alone=True) or _from_any(urls, job)


def _present(job: Download, *, alone: bool) -> Fetched | None:
    """The file if it is there already and is the right one; a wrong one is put aside by who holds the lock.

    Without the lock, another process may be replacing the file while it is judged.
    """
    try:
        digest = sha256_file(job.target)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return None
    if job.sha256 not in (None, digest):
        if alone:
            job.note(f"{job.target} is not the file it should be; moved to {_quarantine(job, job.target, digest)}")
        return None
    try:
        origin = json.loads(_origin_of(job.target).read_bytes())
        if origin["sha256"] == digest:
            return Fetched(job.target, digest, str(origin["url"]), tuple(origin["failures"]))
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return Fetched(job.target, digest, "put there by the user")


def _origin_of(target: Path) -> Path:
    return target.with_name(f"{target.name}.origin.json")


@contextmanager
def _locked(job: Download) -> Iterator[None]:
    lock = filelock.FileLock(job.target.with_name(f".{job.target.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        owner = job.read_state()
        who = f" ({owner['host']}, process {owner['pid']})" if "pid" in owner else ""
        job.note(f"{job.target.name}: another process{who} is fetching it; waiting")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _from_any(urls: Sequence[str], job: Download) -> Fetched:
    failures: list[str] = []
    wrong = later = False
    for url in urls:
        try:
            digest = _from_one(url, job)
        except AddressFailed as failure:
            failures.append(f"{url}: {failure}")
            wrong, later = wrong or failure.wrong, later or failure.later
        except Refused as refusal:
            failures.append(refusal.problem)
        else:
            origin = {"url": url, "sha256": digest, "bytes": job.part.stat().st_size, "failures": failures}
            atomic_write_json(_origin_of(job.target), origin)
            job.part.replace(job.target)
            job.state.unlink(missing_ok=True)
            return Fetched(job.target, digest, url, tuple(failures))
        job.note(failures[-1])
    reasons = "".join(f"\n  {failure}" for failure in failures)
    if wrong:
        raise IntegrityError(
            f"{job.target.name}: another file than expected came:{reasons}",
            "if you know that the new file is right, say so with --expect-sha256",
        )
    if later:
        raise NetworkError(
            f"{job.target.name}: could not be fetched now:{reasons}", "what came in is kept; the same command goes on"
        )
    expected = f" (SHA-256 {job.sha256})" if job.sha256 else ""
    raise Unavailable(
        f"{job.target.name}: no address gives it:{reasons}" if reasons else "No address is known that gives it.",
        f"get the file {job.target.name}{expected} and put it into {job.target.parent}",
    )


def _from_one(url: str, job: Download) -> str:
    """Complete the part file from one address and check it; its hash."""
    resumed = complete_part(url, job)
    digest = sha256_file(job.part)
    if resumed and job.sha256 not in (None, digest):
        job.note(f"{job.target.name}: the resumed file has the wrong hash; fetching it from the start")
        job.drop()
        complete_part(url, job)
        digest = sha256_file(job.part)
    if job.sha256 not in (None, digest):
        aside = _quarantine(job, job.part, digest)
        raise AddressFailed(f"gave a file with SHA-256 {digest}, expected {job.sha256}; moved to {aside}", wrong=True)
    return digest


def _quarantine(job: Download, wrong: Path, digest: str) -> Path:
    aside = job.target.parent / "quarantine" / f"{job.target.name}.{digest[:12]}"
    aside.parent.mkdir(parents=True, exist_ok=True)
    wrong.replace(aside)
    job.state.unlink(missing_ok=True)
    return aside
