"""Takedowns: a picture that somebody asked to be taken out goes, stays out, and is in no selection any more."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from refsr_bench.collectors.curation.clean import Pool
from refsr_bench.collectors.curation.rows import (
    CANDIDATES,
    QUERIES,
    SELECTION,
    TAKEDOWNS,
    Candidate,
    Origin,
    Query,
    Takedown,
    append_row,
    now,
    read_rows,
    write_rows,
)
from refsr_bench.collectors.curation.selection import Selected, read_selection


class Dropped(NamedTuple):
    """What a takedown removed."""

    candidates: int
    files: int
    queries: tuple[str, ...]
    """Queries of the selection that lost their reference, or were themselves taken down."""


def drop(work: Path, target: str, reason: str) -> Dropped:
    """Take a picture out for good: by the address of picture or page, or by hash. Its file goes, its rows stay.

    It is never fetched again, and no selection of this folder names it any more.
    """
    append_row(work / TAKEDOWNS, Takedown(target=target, reason=reason, time=now()))
    rows = read_rows(work / CANDIDATES, Candidate)
    hit = [row for row in rows if _names(target, row.origin, row.sha256)]
    hashes = {row.sha256 for row in hit if row.sha256} | {target}
    files = 0
    for row in rows:
        if row.sha256 in hashes:
            if row.status == "ok":
                append_row(
                    work / CANDIDATES,
                    row.model_copy(update={"status": "refused", "error": "taken down on request", "time": now()}),
                )
            files += _remove(work, row.file, row.sha256)
    lost: list[str] = []
    for query in read_rows(work / QUERIES, Query):
        if _names(target, query.origin, query.sha256):
            files += _remove(work, query.file, query.sha256)
    path = work / SELECTION
    if path.is_file():
        kept, lost = drop_from_selection(read_selection(path), {target, *hashes})
        write_rows(path, kept)
    return Dropped(len({row.key for row in hit}), files, tuple(lost))


def drop_from_selection(rows: Sequence[Selected], targets: set[str]) -> tuple[list[Selected], list[str]]:
    """A selection without the pictures that ``targets`` name, and the queries that lost their reference by it."""
    kept, lost = [], []
    for row in rows:
        if any(_names(target, row.image.origin, row.image.sha256) for target in targets):
            lost.append(row.query)
            continue
        changes: dict[str, object] = {
            "alternatives": tuple(
                p for p in row.alternatives if not any(_names(t, p.origin, p.sha256) for t in targets)
            )
        }
        if row.reference and any(_names(t, row.reference.origin, row.reference.sha256) for t in targets):
            lost.append(row.query)
            changes |= {"reference": None, "reason": "taken down on request"}
        kept.append(row.model_copy(update=changes))
    return kept, lost


def _names(target: str, origin: Origin, sha256: str | None) -> bool:
    return target in {origin.url, origin.landing, sha256}


def _remove(work: Path, file: str | None, sha256: str | None) -> int:
    removed = 0
    for path in [*([work / file] if file else []), *(work / "thumbnails").glob(f"*/{sha256}.jpg")]:
        if path.is_file():
            path.unlink()
            removed += 1
    return removed


def without_taken_down(work: Path, pools: Sequence[Pool]) -> list[Pool]:
    """The pools as they may still be used: without the candidates, and the queries, that were taken down."""
    targets = {row.target for row in read_rows(work / TAKEDOWNS, Takedown)}
    kept = []
    for pool in pools:
        if not any(_names(target, pool.query.origin, pool.query.sha256) for target in targets):
            rows = [r for r in pool.rows if not any(_names(t, r.candidate.origin, r.candidate.sha256) for t in targets)]
            kept.append(pool.model_copy(update={"rows": tuple(rows)}))
    return kept
