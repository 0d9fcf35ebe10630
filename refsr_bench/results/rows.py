"""Rows of any number of runs, read back from disk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pydantic

from refsr_bench.errors import IntegrityError, UsageError
from refsr_bench.schema import SCHEMA_VERSION, Row, RunInfo

ROWS_NAME = "rows.jsonl"
RUN_NAME = "run.json"


class Run(NamedTuple):
    """One run's folder, its rows, and what ``run.json`` says of it (None where there is none)."""

    folder: Path
    rows: tuple[Row, ...]
    info: RunInfo | None = None


def find_runs(places: Sequence[Path]) -> list[Run]:
    """Every finished run in or below the given folders, sorted by path; `UsageError` if there is none."""
    return [Run(folder, read_rows(folder / ROWS_NAME), read_run_info(folder)) for folder in find_run_folders(places)]


def find_run_folders(places: Sequence[Path]) -> list[Path]:
    """Folders in or below the given ones that hold rows, sorted, each once; `UsageError` if there is none."""
    files = sorted({file.resolve(): file for place in places for file in place.rglob(ROWS_NAME)}.values())
    if not files:
        raise UsageError(
            f"there are no finished runs below {', '.join(str(p) for p in places)}",
            "make one with: refsr-bench eval bicubic --dataset demo",
        )
    return [file.parent for file in files]


def read_run_info(folder: Path) -> RunInfo | None:
    """What ``run.json`` says, None if there is none; `IntegrityError` if it is broken or from a newer version."""
    path = folder / RUN_NAME
    if not path.is_file():
        return None
    try:
        value = json.loads(path.read_bytes())
        if value.get("schema_version", 0) > SCHEMA_VERSION:
            raise IntegrityError(f"{path}: written by a newer version of refsr-bench", "upgrade refsr-bench")
        return RunInfo.model_validate(value)
    except pydantic.ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise IntegrityError(f"{path}: {where}: {problem['msg']}", "score that run again") from None
    except (ValueError, AttributeError, TypeError) as error:
        raise IntegrityError(f"{path}: cannot be read ({error})", "score that run again") from None


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
