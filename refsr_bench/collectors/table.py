"""A user's own dataset as a CSV table: one sample a line.

Columns, in any order: ``hr``, ``lr``, ``kernel`` (what made the LR), ``name``, ``group``, ``licence``, ``source``, and
references as ``ref``, ``ref1``, ``ref2`` ... (in the order of the columns) or ``level1`` ... ``level9`` (with their
similarity level). A reference cell may hold several paths, separated by semicolons. Paths are relative to the table.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError

from refsr_bench.errors import UsageError, did_you_mean
from refsr_bench.schema import SampleName
from refsr_bench.signature import fits

_PLAIN = ("name", "hr", "lr", "kernel", "group", "licence", "source")
_REF = re.compile(r"ref\d*|level(?P<level>[1-9])")


class Line(NamedTuple):
    """One sample: its pictures, references in order with their levels, and what is said of it."""

    name: str
    hr: Path | None = None
    refs: tuple[tuple[Path, int | None], ...] = ()
    lr: Path | None = None
    kernel: str | None = None
    group: str | None = None
    licence: str | None = None
    source: str | None = None


def read_table(path: Path) -> list[Line]:
    """Read a table; `UsageError` names the line that is wrong, a column that is unknown, a file that is not there."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True, restkey="")
            columns = [column.strip().lower() for column in reader.fieldnames or ()]
            _check_columns(path, columns)
            reader.fieldnames = columns
            lines = [_read_line(path, reader.line_num, row, columns) for row in reader]
    except (csv.Error, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not a CSV table in UTF-8 ({error})") from None
    if not lines:
        raise UsageError(f"{path}: holds no samples")
    seen: set[str] = set()
    for line in lines:
        if line.name.casefold() in seen:
            raise UsageError(f"{path}: two samples are called {line.name!r}", "tell them apart in a column name")
        seen.add(line.name.casefold())
    return lines


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    for column in columns:
        if column not in _PLAIN and not _REF.fullmatch(column):
            raise UsageError(
                f"{path}: unknown column {column!r}", did_you_mean(column, [*_PLAIN, "ref", "ref1", "level1"])
            )
    if len(set(columns)) < len(columns):
        raise UsageError(f"{path}: a column stands twice")
    if not {"hr", "lr"} & set(columns):
        raise UsageError(f"{path}: has neither a column hr nor a column lr")


def _read_line(path: Path, number: int, row: dict[str, str], columns: Sequence[str]) -> Line:
    where = f"{path}, line {number}"
    if "" in row:
        raise UsageError(f"{where}: has more cells than the table has columns")
    cells = {column: (row.get(column) or "").strip() for column in columns}
    hr, lr = (_file(where, path.parent, cells[role]) if cells.get(role) else None for role in ("hr", "lr"))
    if hr is None and lr is None:
        raise UsageError(f"{where}: names neither an HR nor an LR picture")
    refs = [
        (_file(where, path.parent, text.strip()), _level(column))
        for column in columns
        if _REF.fullmatch(column)
        for text in cells[column].split(";")
        if text.strip()
    ]
    head = hr or lr
    assert head is not None
    name = cells.get("name") or head.stem
    try:
        TypeAdapter(SampleName).validate_python(name)
    except ValidationError:
        raise UsageError(f"{where}: {name!r} cannot be a sample's name: it names files") from None
    if (kernel := cells.get("kernel") or None) is not None and not fits(kernel):
        raise UsageError(f"{where}: kernel {kernel!r} may hold no blanks, | or : (it is part of the signature)")
    return Line(
        name=name,
        hr=hr,
        lr=lr,
        kernel=kernel,
        refs=tuple(refs),
        group=cells.get("group") or None,
        licence=cells.get("licence") or None,
        source=cells.get("source") or None,
    )


def _level(column: str) -> int | None:
    match = _REF.fullmatch(column)
    return int(match["level"]) if match is not None and match["level"] else None


def _file(where: str, folder: Path, text: str) -> Path:
    file = folder / Path(text).expanduser()
    if "\0" in text or not file.is_file():
        raise UsageError(f"{where}: there is no file {text!r}")
    return file
