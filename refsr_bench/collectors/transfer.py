"""Bringing one file in from one address: resumed where the server proves it is the same file, within limits.

While it comes in, a file is ``.NAME.part`` with a sidecar that says which URL and version it is of.
"""

from __future__ import annotations

import email.utils
import json
import os
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from refsr_bench.collectors.http import ConnectionFailed, Timeouts, http_get
from refsr_bench.disk import atomic_write_json, naming_storage_faults
from refsr_bench.errors import RefsrError

if TYPE_CHECKING:
    from requests import Response

GDRIVE = "gdrive:"
_CHUNK = 1 << 20
_HEAD = 1 << 16
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})

Progress = Callable[[int, int | None], None]
"""(bytes so far, bytes in all if known)."""


class Limits(NamedTuple):
    """How far a download may go."""

    max_bytes: int = 20_000_000_000
    attempts: int = 5
    """Tries at each address."""
    backoff_s: float = 1.0
    """Wait before the second try; doubles with every further one."""
    max_wait_s: float = 120.0
    """Longest wait a server may ask for; beyond it the run ends, resumable."""
    total_s: float = 6 * 3600.0
    slow_s: float = 60.0
    """A connection that brings fewer than ``slow_bytes`` in this time has stalled."""
    slow_bytes: int = 16_384
    timeouts: Timeouts = Timeouts()


class Download(NamedTuple):
    """What one download needs to know."""

    target: Path
    sha256: str | None
    limits: Limits
    progress: Progress
    note: Callable[[str], None]
    allow_private: bool

    @property
    def part(self) -> Path:
        """Where the file lies until it is whole and right."""
        return self.target.with_name(f".{self.target.name}.part")

    @property
    def state(self) -> Path:
        """The part file's sidecar."""
        return self.target.with_name(f".{self.target.name}.part.json")

    def read_state(self) -> dict[str, Any]:
        """URL, version and fetching process of the part file; empty if there is none."""
        try:
            value = json.loads(self.state.read_bytes())
        except (OSError, ValueError):
            return {}
        return value if isinstance(value, dict) else {}

    def drop(self) -> None:
        """Forget what came in."""
        self.part.unlink(missing_ok=True)
        self.state.unlink(missing_ok=True)


class AddressFailed(Exception):
    """This address does not give the file: ``wrong`` gives another one, ``later`` may give it another time."""

    def __init__(self, reason: str, *, wrong: bool = False, later: bool = False) -> None:
        super().__init__(reason)
        self.wrong, self.later = wrong, later


class _TryAgain(Exception):
    """One attempt failed in a way that may pass; ``wait_s`` is what the server asks for."""

    def __init__(self, reason: str, *, wait_s: float | None = None, reached: bool = True) -> None:
        super().__init__(reason)
        self.wait_s, self.reached = wait_s, reached


def complete_part(url: str, job: Download) -> bool:
    """Bring all of the file in from one address, into ``job.part``; whether bytes of an earlier try are among it."""
    return _from_gdrive(url, job) if url.startswith(GDRIVE) else _from_http(url, job)


def _from_http(url: str, job: Download) -> bool:
    limits, deadline = job.limits, time.monotonic() + job.limits.total_s
    resumed = False
    ends: list[int] = []
    for attempt in range(1, limits.attempts + 1):
        try:
            return _attempt(url, job, deadline, ends) or resumed
        except _TryAgain as fault:
            resumed |= job.part.exists()
            wait_s = limits.backoff_s * 2 ** (attempt - 1) if fault.wait_s is None else fault.wait_s
            too_long = wait_s > limits.max_wait_s or time.monotonic() + wait_s > deadline
            if too_long or attempt == limits.attempts:
                asked = f"; it asks to wait {wait_s:,.0f} s" if too_long and fault.wait_s is not None else ""
                raise AddressFailed(f"{fault}{asked}", later=fault.reached or job.part.exists()) from None
            job.note(f"{url}: {fault}; trying again in {wait_s:.0f} s")
            time.sleep(wait_s)
    raise AssertionError("unreachable")


def _attempt(url: str, job: Download, deadline: float, ends: list[int]) -> bool:
    """One request; whether it went on from bytes that were there."""
    offset, headers = _resume_headers(url, job)
    try:
        with http_get(url, headers, timeouts=job.limits.timeouts, allow_private=job.allow_private) as response:
            return _receive(url, response, offset, job, deadline, ends)
    except ConnectionFailed as fault:
        raise _TryAgain(fault.problem.removeprefix(f"{url}: "), reached=fault.reached) from None


def _resume_headers(url: str, job: Download) -> tuple[int, dict[str, str]]:
    """Where to go on, and the headers that ask for it; from the start where nothing proves it is the same file."""
    state = job.read_state()
    offset = job.part.stat().st_size if job.part.is_file() else 0
    validator = state.get("etag") or state.get("last_modified")
    if not offset or state.get("url") != url or not (validator or job.sha256):
        return 0, {}
    headers = {"Range": f"bytes={offset}-"}
    if validator:
        headers["If-Range"] = validator
    return offset, headers


def _receive(url: str, response: Response, offset: int, job: Download, deadline: float, ends: list[int]) -> bool:
    """Judge the answer, then write its body to the part file; ``ends`` are the lengths that whole bodies had."""
    if response.status_code == 416 and offset and response.headers.get("Content-Range") == f"bytes */{offset}":
        return True  # all of it was there already
    offset = _judge_status(response, offset, job)
    length = response.headers.get("Content-Length", "")
    total = offset + int(length) if length.isdigit() else None
    if total is not None and total > job.limits.max_bytes:
        raise AddressFailed(f"announces {total:,} bytes, the limit is {job.limits.max_bytes:,}")
    head = b"" if offset else _read_head(response)
    if (cause := page_cause(head)) is not None:
        raise AddressFailed(f"gives a web page instead of the file: {cause}")
    with naming_storage_faults(job.target.parent, needed=(total or 0) - offset):
        done = _write_body(url, response, head, offset, total, job, deadline)
    if total is not None and done < total:
        if done in ends:
            job.drop()
            raise AddressFailed(f"announces {total:,} bytes but ends after {done:,}, again and again", wrong=True)
        if not offset:
            ends.append(done)
        raise _TryAgain(f"the connection broke after {done:,} of {total:,} bytes")
    return offset > 0


def _judge_status(response: Response, offset: int, job: Download) -> int:
    """Where the body begins: ``offset`` if the server goes on from there, 0 if it gives the whole file."""
    status = response.status_code
    if status in _TRANSIENT:
        raise _TryAgain(f"the server answers {status}", wait_s=_retry_after(response.headers.get("Retry-After")))
    if status == 416 or (status == 206 and not _continues(response, offset, job)):
        job.drop()
        raise _TryAgain("the server would go on from another place", wait_s=0.0)
    if status not in (200, 206):
        raise AddressFailed(f"the server answers {status}")
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise AddressFailed("the server compresses the file, though it was asked not to")
    return offset if status == 206 else 0


def _continues(response: Response, offset: int, job: Download) -> bool:
    """Whether a 206 answer starts where the part file ends and is of the same version."""
    match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", response.headers.get("Content-Range", ""))
    etag = response.headers.get("ETag")
    same = etag is None or etag == job.read_state().get("etag", etag)
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


def page_cause(head: bytes) -> str | None:
    """Why a web page came in place of a file, by the page's beginning; None if it is no web page.

    >>> page_cause(b"<!DOCTYPE html><title>Google Drive - Quota exceeded</title>")
    'the download quota of the file is used up'
    """
    page = head.lstrip(b"\xef\xbb\xbf \t\r\n").decode("utf-8", "replace").lower()
    if not page.startswith(("<!doctype html", "<html")):
        return None
    causes = {
        "quota": "the download quota of the file is used up",
        "virus": "the page is a virus-scan warning that wants a click",
        "sign in": "the page wants somebody to sign in",
        "log in": "the page wants somebody to sign in",
    }
    return next((cause for word, cause in causes.items() if word in page), "the page says something else")


def _read_head(response: Response) -> bytes:
    head = b""
    while len(head) < _HEAD and (piece := _read_piece(response)):
        head += piece
    return head


def _read_piece(response: Response) -> bytes:
    from urllib3.exceptions import IncompleteRead, ProtocolError

    try:
        piece: bytes = response.raw.read1(_CHUNK, decode_content=False)
    except ProtocolError as error:
        if not isinstance(error.__cause__, IncompleteRead):
            raise
        return b""  # the connection ended before the announced length: judged by the caller
    return piece


def _write_body(
    url: str, response: Response, head: bytes, offset: int, total: int | None, job: Download, deadline: float
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
        piece = head or _read_piece(response)
        while piece:
            done += len(piece)
            if done > job.limits.max_bytes:
                job.drop()
                raise AddressFailed(f"sends more than the limit of {job.limits.max_bytes:,} bytes")
            file.write(piece)
            file.flush()  # what came in survives a kill
            job.progress(done, total)
            now = time.monotonic()
            if now > deadline:
                raise _TryAgain(f"not whole after {job.limits.total_s:,.0f} s")
            if now - window_start > job.limits.slow_s:
                if done - window_done < job.limits.slow_bytes:
                    raise _TryAgain("the server sends hardly anything")
                window_start, window_done = now, done
            piece = _read_piece(response)
        file.flush()
        os.fsync(file.fileno())
    return done


def _from_gdrive(url: str, job: Download) -> bool:
    """Fetch a file of Google Drive through gdown, which knows its ways; never resumed."""
    import gdown

    def on_bytes(done: int, total: int | None) -> None:
        if max(done, total or 0) > job.limits.max_bytes:
            raise AddressFailed(f"sends more than the limit of {job.limits.max_bytes:,} bytes")
        if time.monotonic() > deadline:
            raise AddressFailed(f"not whole after {job.limits.total_s:,.0f} s", later=True)
        job.progress(done, total)

    deadline = time.monotonic() + job.limits.total_s
    job.drop()
    try:
        with naming_storage_faults(job.target.parent):
            gdown.download(
                id=url.removeprefix(GDRIVE),
                output=str(job.part),
                quiet=True,
                use_cookies=False,
                progress=on_bytes,
                timeout=job.limits.timeouts,
            )
        if not job.part.is_file():
            raise AddressFailed("Google Drive does not give the file")
        with job.part.open("rb") as file:
            if (cause := page_cause(file.read(_HEAD))) is not None:
                raise AddressFailed(f"Google Drive gives a web page instead of the file: {cause}")
    except (RefsrError, AddressFailed):
        job.drop()
        raise
    except Exception as error:  # gdown names its faults differently from version to version
        job.drop()
        first_line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise AddressFailed(f"Google Drive does not give the file: {first_line}") from None
    return False
