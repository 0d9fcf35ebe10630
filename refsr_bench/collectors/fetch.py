"""Downloading files: by hash, from mirrors, resumed, limited, and published only when whole.

While it comes in, a file is ``.NAME.part`` with a sidecar that says which URL and version it is of; a later run goes on
from there if the server confirms that version. Nothing appears under the file's own name before its hash is right.
A lock beside it (which dies with its owner) keeps two processes from fetching the same file at once; were the lock to
fail, the hash would still be checked.
"""

from __future__ import annotations

import email.utils
import json
import os
import re
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import filelock

from refsr_bench.collectors.http import Refused, Timeouts, http_get, require_online
from refsr_bench.errors import IntegrityError, ManualStepNeeded, NetworkError
from refsr_bench.store import atomic_write_json, require_space, sha256_file, storage_error

if TYPE_CHECKING:
    from requests import Response

GDRIVE = "gdrive:"
_CHUNK = 1 << 20
_HEAD = 512
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})

Progress = Callable[[int, int | None], None]
"""(bytes so far, bytes in all if known)."""


class Limits(NamedTuple):
    """How far a download may go."""

    max_bytes: int = 20_000_000_000
    attempts: int = 5
    """Tries at each mirror."""
    backoff_s: float = 1.0
    """Wait before the second try; doubles with every further one."""
    max_wait_s: float = 120.0
    """Longest wait a server may ask for; beyond it the run ends, resumable."""
    total_s: float = 6 * 3600.0
    slow_s: float = 60.0
    """A connection that brings fewer than ``slow_bytes`` in this time has stalled."""
    slow_bytes: int = 16_384
    timeouts: Timeouts = Timeouts()


class Fetched(NamedTuple):
    """A file that is whole, its hash, the address that gave it, and what went wrong at the others."""

    path: Path
    sha256: str
    url: str
    failures: tuple[str, ...] = ()


class Unavailable(ManualStepNeeded):
    """No mirror gives the file; a person has to get it."""


class _MirrorFailed(Exception):
    """This mirror cannot give the file now; ``resumable`` if asking again later makes sense."""

    def __init__(self, reason: str, *, resumable: bool) -> None:
        super().__init__(reason)
        self.resumable = resumable


class _TryAgain(Exception):
    """One attempt failed in a way that may pass; ``wait_s`` is what the server asks for."""

    def __init__(self, reason: str, *, wait_s: float | None = None, unreachable: bool = False) -> None:
        super().__init__(reason)
        self.wait_s = wait_s
        self.unreachable = unreachable


class _Job(NamedTuple):
    """What one download needs to know."""

    target: Path
    sha256: str | None
    limits: Limits
    progress: Progress
    note: Callable[[str], None]
    allow_private: bool

    @property
    def part(self) -> Path:
        return self.target.with_name(f".{self.target.name}.part")

    @property
    def state(self) -> Path:
        return self.target.with_name(f".{self.target.name}.part.json")

    def drop(self) -> None:
        self.part.unlink(missing_ok=True)
        self.state.unlink(missing_ok=True)


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
    """Have the file at ``target``: as it is if it is there and right, else from the first mirror that gives it.

    ``sha256`` None takes whatever comes (the caller pins its hash). ``allow_private`` is for servers of one's own.
    `IntegrityError` if the content is wrong (the file is kept aside in ``quarantine``), `NetworkError` if asking again
    later makes sense, `Unavailable` if it does not, `StorageError` if the disk is full.
    """
    job = _Job(target, sha256, limits or Limits(), progress, note, allow_private)
    if (present := _present(job)) is not None:
        return present
    require_online(target.name)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(job):
            return _present(job) or _from_mirrors(urls, job)
    except OSError as error:
        if (fault := storage_error(error, target.parent)) is not None:
            raise fault from None
        raise


def _present(job: _Job) -> Fetched | None:
    """The file if it is there already and is the right one; a wrong one is put aside."""
    if not job.target.is_file():
        return None
    digest = sha256_file(job.target)
    if job.sha256 not in (None, digest):
        aside = _quarantine(job, job.target, digest)
        job.note(f"{job.target} is not the file it should be; moved to {aside}")
        return None
    return Fetched(job.target, digest, _origin(job.target))


def _origin(target: Path) -> str:
    try:
        return str(json.loads(_provenance_of(target).read_bytes())["url"])
    except (OSError, ValueError, KeyError, TypeError):
        return "given by the user"


def _provenance_of(target: Path) -> Path:
    return target.with_name(f"{target.name}.origin.json")


@contextmanager
def _locked(job: _Job) -> Iterator[None]:
    lock = filelock.FileLock(job.target.with_name(f".{job.target.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        owner = _read_state(job)
        who = f" ({owner['host']}, process {owner['pid']})" if "pid" in owner else ""
        job.note(f"{job.target.name}: another process{who} is fetching it; waiting")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _from_mirrors(urls: Sequence[str], job: _Job) -> Fetched:
    failures: list[str] = []
    resumable = False
    for url in urls:
        try:
            return _from_one(url, job, tuple(failures))
        except _MirrorFailed as failure:
            failures.append(f"{url}: {failure}")
            resumable |= failure.resumable
        except Refused as refusal:
            failures.append(refusal.problem)
        job.note(failures[-1])
    reasons = "".join(f"\n  {failure}" for failure in failures)
    if resumable:
        raise NetworkError(
            f"{job.target.name}: could not be fetched now:{reasons}", "what came in is kept; the same command goes on"
        )
    expected = f" (SHA-256 {job.sha256})" if job.sha256 else ""
    raise Unavailable(
        f"{job.target.name}: no address gives it:{reasons}",
        f"get the file {job.target.name}{expected} and put it into {job.target.parent}",
    )


def _from_one(url: str, job: _Job, failures: tuple[str, ...]) -> Fetched:
    for fresh in (False, True):
        if fresh:
            job.drop()
        resumed = _from_gdrive(url, job) if url.startswith(GDRIVE) else _from_http(url, job)
        digest = sha256_file(job.part)
        if job.sha256 in (None, digest):
            origin = {"url": url, "sha256": digest, "bytes": job.part.stat().st_size, "failures": list(failures)}
            atomic_write_json(_provenance_of(job.target), origin)
            job.part.replace(job.target)
            job.state.unlink(missing_ok=True)
            return Fetched(job.target, digest, url, failures)
        if not resumed:
            break
        job.note(f"{job.target.name}: the resumed file has the wrong hash; fetching it from the start")
    aside = _quarantine(job, job.part, digest)
    raise IntegrityError(
        f"{job.target.name}: {url} gave a file with SHA-256 {digest}, expected {job.sha256}; moved to {aside}",
        "if you know that the new file is right, say so with --expect-sha256",
    )


def _quarantine(job: _Job, wrong: Path, digest: str) -> Path:
    aside = job.target.parent / "quarantine" / f"{job.target.name}.{digest[:12]}"
    aside.parent.mkdir(parents=True, exist_ok=True)
    wrong.replace(aside)
    job.state.unlink(missing_ok=True)
    return aside


# --- http ----------------------------------------------------------------------------------------------------------


def _from_http(url: str, job: _Job) -> bool:
    """Complete the part file from one address, trying as often as the limits allow; whether bytes were resumed."""
    deadline = time.monotonic() + job.limits.total_s
    resumed = False
    short_ends: list[int] = []
    for attempt in range(1, job.limits.attempts + 1):
        try:
            return _attempt(url, job, deadline, short_ends) or resumed
        except _TryAgain as fault:
            resumed |= job.part.exists()
            wait_s = job.limits.backoff_s * 2 ** (attempt - 1) if fault.wait_s is None else fault.wait_s
            give_up = attempt == job.limits.attempts or wait_s > job.limits.max_wait_s
            if give_up or time.monotonic() + wait_s > deadline:
                asked = f"; it asks to wait {wait_s:,.0f} s" if wait_s > job.limits.max_wait_s else ""
                raise _MirrorFailed(f"{fault}{asked}", resumable=not fault.unreachable or job.part.exists()) from None
            job.note(f"{url}: {fault}; trying again in {wait_s:.0f} s")
            time.sleep(wait_s)
    raise AssertionError("unreachable")


def _attempt(url: str, job: _Job, deadline: float, short_ends: list[int]) -> bool:
    """One request; whether it went on from bytes that were there."""
    import requests
    import urllib3

    offset, headers = _resume_headers(url, job)
    try:
        with http_get(url, headers, timeouts=job.limits.timeouts, allow_private=job.allow_private) as response:
            return _receive(url, response, offset, job, deadline, short_ends)
    except (TimeoutError, requests.Timeout, urllib3.exceptions.TimeoutError):
        raise _TryAgain("the server does not answer in time") from None
    except requests.ConnectionError as error:
        unreachable = any(word in repr(error) for word in ("NameResolution", "NewConnection"))
        reason = "the server cannot be reached" if unreachable else "the connection broke"
        raise _TryAgain(reason, unreachable=unreachable) from None
    except (ConnectionError, requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise _TryAgain(f"the connection broke ({type(error).__name__})") from None


def _resume_headers(url: str, job: _Job) -> tuple[int, dict[str, str]]:
    """Where to go on, and the headers that ask for it; from the start where nothing proves it is the same file."""
    state = _read_state(job)
    offset = job.part.stat().st_size if job.part.is_file() else 0
    validator = state.get("etag") or state.get("last_modified")
    if not offset or state.get("url") != url or not (validator or job.sha256):
        return 0, {}
    headers = {"Range": f"bytes={offset}-"}
    if validator:
        headers["If-Range"] = validator
    return offset, headers


def _read_state(job: _Job) -> dict[str, Any]:
    try:
        value = json.loads(job.state.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _receive(url: str, response: Response, offset: int, job: _Job, deadline: float, short_ends: list[int]) -> bool:
    """Judge the answer, then write its body to the part file."""
    status = response.status_code
    if status in _TRANSIENT:
        raise _TryAgain(f"the server answers {status}", wait_s=_retry_after(response.headers.get("Retry-After")))
    if status == 416 and offset and response.headers.get("Content-Range") == f"bytes */{offset}":
        return True  # all of it was there already
    if status == 416 or (status == 206 and not _continues(response, offset, job)):
        job.drop()
        raise _TryAgain("the server would go on from another place", wait_s=0.0)
    if status not in (200, 206):
        raise _MirrorFailed(f"the server answers {status}", resumable=False)
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise _MirrorFailed("the server compresses the file, though it was asked not to", resumable=False)
    offset = offset if status == 206 else 0
    length = response.headers.get("Content-Length", "")
    total = offset + int(length) if length.isdigit() else None
    if total is not None and total > job.limits.max_bytes:
        raise _MirrorFailed(f"announces {total:,} bytes, the limit is {job.limits.max_bytes:,}", resumable=False)
    head = b"" if offset else _read_head(response)
    if not offset:
        _refuse_page(head, response)
    require_space(job.target.parent, (total or 0) - offset)
    done = _write_body(url, response, head, offset, total, job, deadline)
    if total is not None and done < total:
        if done in short_ends:
            job.drop()
            raise IntegrityError(f"{url}: announces {total:,} bytes but ends after {done:,}, again and again")
        if not offset:
            short_ends.append(done)
        raise _TryAgain(f"the connection broke after {done:,} of {total:,} bytes")
    return offset > 0


def _continues(response: Response, offset: int, job: _Job) -> bool:
    """Whether a 206 answer starts where the part file ends and is of the same version."""
    match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", response.headers.get("Content-Range", ""))
    etag = response.headers.get("ETag")
    same = etag is None or etag == _read_state(job).get("etag", etag)
    return match is not None and offset > 0 and int(match[1]) == offset and same


def _retry_after(value: str | None) -> float | None:
    """Seconds that a ``Retry-After`` header asks for, in either of its forms.

    >>> _retry_after("2"), _retry_after("soon")
    (2.0, None)
    """
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def _read_head(response: Response) -> bytes:
    head = b""
    while len(head) < _HEAD and (piece := response.raw.read1(_HEAD, decode_content=False)):
        head += piece
    return head


def _refuse_page(head: bytes, response: Response) -> None:
    """Refuse a web page that came in place of a file, with the cause it names."""
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not start.startswith((b"<!doctype html", b"<html")):
        return
    page = (head + response.raw.read1(65536, decode_content=False)).decode("utf-8", "replace").lower()
    if "quota" in page:
        cause = "the download quota of the file is used up"
    elif "virus" in page:
        cause = "the page is a virus-scan warning that wants a click"
    elif "sign in" in page or "log in" in page:
        cause = "the page wants somebody to sign in"
    else:
        cause = "the page says something else"
    raise _MirrorFailed(f"gives a web page instead of the file: {cause}", resumable=False)


def _write_body(
    url: str, response: Response, head: bytes, offset: int, total: int | None, job: _Job, deadline: float
) -> int:
    """Append the body to the part file, within the limits; the part file's length."""
    etag = response.headers.get("ETag", "")
    state = {
        "url": url,
        "etag": "" if etag.startswith("W/") else etag,
        "last_modified": response.headers.get("Last-Modified", ""),
        "pid": os.getpid(),
        "host": socket.gethostname(),
    }
    if not offset:
        job.part.unlink(missing_ok=True)
    atomic_write_json(job.state, state)
    done, window_start, window_done = offset, time.monotonic(), offset
    with job.part.open("ab") as file:
        piece = head or response.raw.read1(_CHUNK, decode_content=False)
        while piece:
            done += len(piece)
            if done > job.limits.max_bytes:
                file.close()
                job.drop()
                raise _MirrorFailed(f"sends more than the limit of {job.limits.max_bytes:,} bytes", resumable=False)
            file.write(piece)
            job.progress(done, total)
            now = time.monotonic()
            if now > deadline:
                raise _TryAgain(f"not whole after {job.limits.total_s:,.0f} s")
            if now - window_start > job.limits.slow_s:
                if done - window_done < job.limits.slow_bytes:
                    raise _TryAgain("the server sends hardly anything")
                window_start, window_done = now, done
            if done == total:
                break
            piece = response.raw.read1(_CHUNK, decode_content=False)
        file.flush()
        os.fsync(file.fileno())
    return done


# --- Google Drive --------------------------------------------------------------------------------------------------


def _from_gdrive(url: str, job: _Job) -> bool:
    """Fetch a file of Google Drive through gdown, which knows its ways."""
    try:
        import gdown
    except ImportError:
        raise _MirrorFailed(
            "Google Drive needs the package gdown: pip install 'refsr-bench[gdrive]'", resumable=False
        ) from None
    job.drop()
    try:
        gdown.download(id=url.removeprefix(GDRIVE), output=str(job.part), quiet=True)
    except OSError as error:
        if storage_error(error, job.target.parent) is not None:
            raise
        raise _MirrorFailed(f"Google Drive cannot be reached ({type(error).__name__})", resumable=False) from None
    except Exception as error:  # gdown names its faults differently from version to version
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise _MirrorFailed(f"Google Drive does not give the file: {first_line}", resumable=False) from None
    if not job.part.is_file():
        raise _MirrorFailed("Google Drive does not give the file", resumable=False)
    with job.part.open("rb") as file:
        head = file.read(_HEAD).lstrip().lower()
    size = job.part.stat().st_size
    if size > job.limits.max_bytes or head.startswith((b"<!doctype html", b"<html")):
        job.drop()
        what = f"{size:,} bytes, more than the limit" if size > job.limits.max_bytes else "a web page instead"
        raise _MirrorFailed(f"Google Drive gives {what}", resumable=False)
    return False
