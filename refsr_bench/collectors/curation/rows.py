"""What a curation folder holds: one row for every query, search, picture and judgement, in append-only journals.

Layout::

    queries.jsonl  query-attempts.jsonl                 the queries; what was drawn or passed over, and why
    searches.jsonl  candidates.jsonl                    what was asked and fetched
    queries/  pictures/  thumbnails/  sheets/           pixels; pictures are named after their SHA-256
    responses/                                          what providers answered, so that nothing is asked twice
    judged/NAME.jsonl                                   `clean`: verdict, evidence and score of each candidate
    decisions.jsonl                                     `review`: what people decided, never rewritten
    takedowns.jsonl                                     `drop`: addresses that must not come back
    selection.jsonl                                     `accept`: the result, without pixels
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeVar

import filelock
import pydantic

from refsr_bench.collectors.curation.leaks import Leak
from refsr_bench.collectors.curation.ranking import Score
from refsr_bench.errors import IntegrityError
from refsr_bench.schema import Frozen, RelativePath, SampleName, Sha256
from refsr_bench.store import to_json_line

QUERIES = "queries.jsonl"
ATTEMPTS = "query-attempts.jsonl"
SEARCHES = "searches.jsonl"
CANDIDATES = "candidates.jsonl"
DECISIONS = "decisions.jsonl"
TAKEDOWNS = "takedowns.jsonl"
SELECTION = "selection.jsonl"

CATEGORIES = ("outdoor", "indoor", "building", "landmark", "animal", "plant")
"""The paper's six (Fig. 3)."""

Row = TypeVar("Row", bound=Frozen)


class Origin(Frozen):
    """Where a picture came from, and on what terms."""

    provider: str
    url: str | None = None
    """None for a picture of the user's own disk."""
    landing: str | None = None
    title: str = ""
    creator: str = ""
    licence: str = "unknown"
    """As `licences.normalise_licence` writes it."""
    licence_url: str = ""
    marks: tuple[str, ...] = ()
    """``do-not-redistribute`` where the licence does not allow to hand a copy on."""


class Query(Frozen):
    """A query photograph: the future input of a pair."""

    name: SampleName
    file: RelativePath
    sha256: Sha256
    bytes: int
    height: int
    width: int
    text: str
    """What providers that search by text are asked."""
    origin: Origin
    time: str


class Search(Frozen):
    """One question to one provider."""

    query: SampleName
    provider: str
    text: str
    found: int
    time: str
    error: str | None = None


Status = Literal["ok", "failed", "refused"]


class Candidate(Frozen):
    """One picture that a provider named for a query, fetched or not, and why not."""

    query: SampleName
    place: int
    """Position in the provider's answer, 1 the first."""
    origin: Origin
    status: Status
    """"failed": it could not be had; "refused": it was not asked for, or not taken."""
    lasting: bool = True
    """Whether asking again is pointless; the next run asks again for what failed for a passing reason."""
    robots: str = "not asked"
    http_status: int | None = None
    error: str | None = None
    sha256: Sha256 | None = None
    bytes: int | None = None
    file: RelativePath | None = None
    time: str

    @property
    def key(self) -> str:
        """What makes two rows speak of the same picture: its address, or its hash if it has none."""
        return self.origin.url or self.sha256 or self.origin.title


class Judged(Frozen):
    """What `clean` found out about a fetched candidate."""

    candidate: Candidate
    verdict: Literal["kept", "unreadable", "too small", "duplicate", "copy of the query"]
    reason: str = ""
    height: int | None = None
    width: int | None = None
    perceptual_hash: str | None = None
    leak: Leak | None = None
    score: Score | None = None
    rank: int | None = None


class Decision(Frozen):
    """One act of a reviewer. The last one about a query that was not undone holds."""

    id: str
    """Chosen by the page, so that a decision that is sent twice counts once."""
    time: str
    reviewer: str
    query: SampleName
    action: Literal["choose", "reject", "tag", "undo"]
    reference: Sha256 | None = None
    reason: str = ""
    category: str | None = None
    undoes: str | None = None
    blind: bool = False


class Takedown(Frozen):
    """An address, a landing page or a hash that somebody asked to be taken out."""

    target: str
    reason: str
    time: str


def now() -> str:
    """The time in UTC, to the second, as rows carry it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@contextmanager
def open_journal(path: Path) -> Iterator[Callable[[Frozen], None]]:
    """Give a function that appends one row; safe for several processes at once, on disk at the end.

    A torn last line is cut off first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path.with_name(f".{path.name}.lock"))
    with lock:
        _cut_torn_line(path)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def append(row: Frozen) -> None:
        line = to_json_line(row).encode()
        with lock:
            written = os.write(handle, line)
        if written != len(line):
            raise OSError(f"{path}: the disk is full")

    try:
        yield append
    finally:
        os.fsync(handle)
        os.close(handle)


def append_row(path: Path, row: Frozen) -> None:
    """Append one row so that it survives a power cut; safe for several processes at once."""
    with open_journal(path) as append:
        append(row)


def _cut_torn_line(path: Path) -> None:
    if not path.is_file() or not path.stat().st_size:
        return
    with path.open("rb+") as file:
        data = file.read()
        if not data.endswith(b"\n"):
            file.truncate(data.rfind(b"\n") + 1)


def read_rows(path: Path, kind: type[Row], note: Callable[[str], None] = lambda text: None) -> list[Row]:
    """All rows of a journal; a torn last line is dropped with a note, any other damage is an `IntegrityError`."""
    if not path.is_file():
        return []
    lines = path.read_bytes().split(b"\n")
    if lines.pop():
        note(f"{path}: the last line is torn and was dropped")
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(kind.model_validate_json(line))
        except pydantic.ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise IntegrityError(
                f"{path}, line {number}: {where}: {first['msg']}", "restore or delete the line"
            ) from None
    return rows


def write_rows(path: Path, rows: list[Row]) -> None:
    """Write a whole journal at once, atomically."""
    from refsr_bench.disk import atomic_write_bytes

    atomic_write_bytes(path, "".join(to_json_line(row) for row in rows).encode())


def to_json(value: Frozen) -> object:
    """A row as plain JSON values."""
    return json.loads(value.model_dump_json())
