"""Rows of any number of runs, read back from disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pydantic

from refsr_bench.errors import IntegrityError, UsageError
from refsr_bench.schema import Row

ROWS_NAME = "rows.jsonl"


class Run(NamedTuple):
    """One run's folder and its rows."""

    folder: Path
    rows: tuple[Row, ...]


def find_runs(places: Sequence[Path]) -> list[Run]:
    """Every finished run in or below the given folders, sorted by path; `UsageError` if there is none."""
    files = sorted({file.resolve(): file for place in places for file in place.rglob(ROWS_NAME)}.values())
    if not files:
        raise UsageError(
            f"there are no finished runs below {', '.join(str(p) for p in places)}",
            "make one with: refsr-bench eval bicubic --dataset demo",
        )
    return [Run(file.parent, read_rows(file)) for file in files]


def read_rows(path: Path) -> tuple[Row, ...]:
    """Rows of one ``rows.jsonl``; `IntegrityError` names the line that is not a row."""
    rows = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            rows.append(Row.model_validate_json(line))
        except pydantic.ValidationError as error:
            problem = error.errors(include_url=False)[0]["msg"]
            raise IntegrityError(f"{path}: line {number} is not a row ({problem})", "score that run again") from None
    return tuple(rows)
