"""``selection.jsonl``: what was chosen, by whom, when and why, where everything came from, and the hash of it all.

It holds no pixels, so it may be published; `build` makes the dataset from it again, anywhere.
"""

from __future__ import annotations

import csv
import json
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from refsr_bench.collectors.curation.clean import Pool
from refsr_bench.collectors.curation.decisions import Standing, standing
from refsr_bench.collectors.curation.ranking import Score
from refsr_bench.collectors.curation.review import check_decision
from refsr_bench.collectors.curation.rows import (
    Decision,
    Judged,
    Origin,
    now,
    read_rows,
)
from refsr_bench.errors import UsageError, did_you_mean
from refsr_bench.schema import Frozen, SampleName, Sha256

ALTERNATIVES = 5
"""How many of the next best candidates are named beside the chosen one."""


class Picture(Frozen):
    """One picture of a selection: enough to fetch it again and to know that it is the same."""

    origin: Origin
    sha256: Sha256
    bytes: int
    height: int
    width: int
    rank: int | None = None
    score: Score | None = None


class Selected(Frozen):
    """One query and what was decided about it; ``reference`` is None where no candidate serves."""

    schema_version: Literal[1]
    query: SampleName
    image: Picture
    reference: Picture | None = None
    alternatives: tuple[Picture, ...] = ()
    category: str | None = None
    reviewer: str
    time: str
    reason: str = ""


class Accepted(NamedTuple):
    """A selection, and the queries that are not in it."""

    rows: tuple[Selected, ...]
    undecided: tuple[str, ...]
    disputed: tuple[str, ...]
    """Reviewers differ, and none was preferred."""


def accept(pools: Sequence[Pool], decisions: Iterable[Decision], prefer: str | None = None) -> Accepted:
    """Freeze what stands. Reviewers who differ make a query disputed, unless ``prefer`` names whose word holds.

    `UsageError` if nobody of that name decided anything.
    """
    by_query: dict[str, dict[str, Standing]] = defaultdict(dict)
    reviewers = set()
    for (reviewer, query), stands in standing(decisions).items():
        by_query[query][reviewer] = stands
        reviewers.add(reviewer)
    if prefer is not None and prefer not in reviewers:
        raise UsageError(f"there are no decisions of a reviewer {prefer!r}", did_you_mean(prefer, reviewers))
    rows, undecided, disputed = [], [], []
    for pool in pools:
        found = {name: s for name, s in by_query[pool.query.name].items() if s.verdict is not None}
        outcomes = {s.verdict.reference for s in found.values() if s.verdict is not None}
        known = {row.candidate.sha256 for row in pool.rows if row.rank is not None}
        if not found or not outcomes <= {None, *known}:  # a choice that is no candidate any more is no choice
            undecided.append(pool.query.name)
        elif len(outcomes) > 1 and prefer not in found:
            disputed.append(pool.query.name)
        else:
            name = prefer if prefer in found else min(found, key=lambda name: _time(found[name]))
            rows.append(_select(pool, found[name], by_query[pool.query.name]))
    return Accepted(tuple(rows), tuple(undecided), tuple(disputed))


def _time(stands: Standing) -> str:
    return stands.verdict.time if stands.verdict is not None else ""


def _select(pool: Pool, stands: Standing, everybody: Mapping[str, Standing]) -> Selected:
    verdict = stands.verdict
    assert verdict is not None
    category = stands.category or next((s.category for s in everybody.values() if s.category), None)
    kept = [row for row in pool.rows if row.rank is not None]
    chosen = next((row for row in kept if row.candidate.sha256 == verdict.reference), None)
    query = pool.query
    return Selected(
        schema_version=1,
        query=query.name,
        image=Picture(
            origin=query.origin, sha256=query.sha256, bytes=query.bytes, height=query.height, width=query.width
        ),
        reference=None if chosen is None else _picture(chosen),
        alternatives=tuple(_picture(row) for row in kept if row is not chosen)[:ALTERNATIVES],
        category=category,
        reviewer=verdict.reviewer,
        time=verdict.time,
        reason=verdict.reason,
    )


def _picture(row: Judged) -> Picture:
    candidate = row.candidate
    assert candidate.sha256 is not None
    return Picture(
        origin=candidate.origin,
        sha256=candidate.sha256,
        bytes=candidate.bytes or 0,
        height=row.height or 0,
        width=row.width or 0,
        rank=row.rank,
        score=row.score,
    )


def read_selection(path: Path) -> list[Selected]:
    """The lines of a selection; `UsageError` if there are none, `IntegrityError` names a damaged one."""
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file", "make one with: refsr-bench curate accept WORK")
    rows = read_rows(path, Selected)
    if not rows:
        raise UsageError(f"{path}: the selection is empty")
    return rows


# --- choices made elsewhere ------------------------------------------------------------------------------------------


def read_choices(path: Path, pools: Sequence[Pool]) -> list[Decision]:
    """Decisions from a CSV (columns query and reference, and reviewer, reason, category if wanted) or a page's JSON.

    A CSV's ``reference`` is a rank, an address, a file name or a hash; empty rejects the query, with its reason.
    `UsageError` names the line that cannot be right.
    """
    known = {pool.query.name: {str(r.candidate.sha256) for r in pool.rows if r.rank is not None} for pool in pools}
    return _read(path, known, lambda: _from_csv(path, pools) if path.suffix.lower() == ".csv" else _from_json(path))


def read_saved_labels(path: Path, samples: Iterable[str]) -> list[Decision]:
    """Category labels of a dataset's samples from the JSON of a page that was made to label it; `UsageError` if not."""
    return _read(path, {name: set() for name in samples}, lambda: _from_json(path))


def _read(path: Path, known: Mapping[str, set[str]], values: Callable[[], list[object]]) -> list[Decision]:
    try:
        return [check_decision(value, known) for value in values()]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: {error}") from None


def _from_json(path: Path) -> list[object]:
    value = json.loads(path.read_bytes())
    decisions = value.get("decisions") if isinstance(value, dict) else value
    if not isinstance(decisions, list):
        raise ValueError("holds no list of decisions")
    return decisions


def _from_csv(path: Path, pools: Sequence[Pool]) -> list[object]:
    rows = list(csv.DictReader(path.read_text("utf-8-sig").splitlines()))
    if not rows or not {"query", "reference"} <= set(rows[0]):
        raise ValueError("the first line must name the columns query and reference")
    by_name = {pool.query.name: pool for pool in pools}
    found: list[object] = []
    for number, row in enumerate(rows, 2):
        name, wanted = (row["query"] or "").strip(), (row["reference"] or "").strip()
        if name not in by_name:
            raise ValueError(f"line {number}: there is no query {name!r}")
        reviewer = (row.get("reviewer") or "").strip() or "imported"
        # The same line always gives the same decision, so that a file imported twice counts once.
        identity = uuid.uuid5(
            uuid.NAMESPACE_URL, json.dumps(sorted((k, v) for k, v in row.items() if isinstance(v, str)))
        )
        base = {"reviewer": reviewer, "query": name, "time": now()}
        if wanted:
            sha256 = _find_candidate(by_name[name], wanted)
            if sha256 is None:
                raise ValueError(f"line {number}: {name} has no candidate {wanted!r}")
            found.append(
                {**base, "id": identity.hex, "action": "choose", "reference": sha256, "reason": row.get("reason") or ""}
            )
        else:
            reason = (row.get("reason") or "").strip() or "none chosen"
            found.append({**base, "id": identity.hex, "action": "reject", "reason": reason})
        if category := (row.get("category") or "").strip():
            found.append({**base, "id": f"{identity.hex}-tag", "action": "tag", "category": category})
    return found


def _find_candidate(pool: Pool, wanted: str) -> str | None:
    for row in pool.rows:
        candidate = row.candidate
        names = {candidate.origin.url, candidate.origin.title, candidate.sha256, str(row.rank)}
        if row.rank is not None and wanted in names:
            return candidate.sha256
    return None
