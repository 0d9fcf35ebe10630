"""What raters answered: appended while a study is served, read back with every doubt kept out and counted."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import pydantic
from pydantic import Field

from refsr_bench.errors import IntegrityError
from refsr_bench.results.study.design import ANSWERS_NAME, Study
from refsr_bench.schema import Frozen

MAX_BYTES = 20_000_000

Rater = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]


class Answer(Frozen):
    """One choice. ``left`` and ``right`` are the tokens of the pictures that were shown there."""

    study: str
    rater: Rater
    sheet: int
    pair: str
    left: str
    right: str
    choice: Literal["left", "right"]
    seconds: float = Field(ge=0, le=86_400, allow_inf_nan=False)


class Answers(NamedTuple):
    """Answers that count, and how many were left out for which reason."""

    valid: tuple[Answer, ...]
    rejected: Counter[str]


def append_answer(folder: Path, answer: Answer) -> None:
    """Add one line to ``answers.jsonl``; it is on disk when this returns."""
    path = folder / ANSWERS_NAME
    line = answer.model_dump_json() + "\n"
    with path.open("a+b") as file:
        if file.tell() and _last_byte(path) != b"\n":
            line = "\n" + line  # the last writer was killed in the middle of its line
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1)


def read_answers(folder: Path, study: Study, files: Sequence[Path] = ()) -> Answers:
    """Answers of a served study and of JSON files from its static page; of two answers to one pair the first counts.

    Whatever is not an answer to this study is left out and counted by reason; `IntegrityError` if a file is too large.
    """
    rejected: Counter[str] = Counter()
    valid: dict[tuple[str, str], Answer] = {}
    for value in _values(folder, files, rejected):
        try:
            answer = Answer.model_validate(value)
        except pydantic.ValidationError:
            rejected["not an answer"] += 1
            continue
        reason = check_answer(study, answer)
        if reason is None and (answer.rater, answer.pair) in valid:
            reason = "answered twice"
        if reason is not None:
            rejected[reason] += 1
            continue
        valid[answer.rater, answer.pair] = answer
    return Answers(tuple(valid.values()), rejected)


def _values(folder: Path, files: Sequence[Path], rejected: Counter[str]) -> Iterator[object]:
    path = folder / ANSWERS_NAME
    for line in _text(path).splitlines() if path.is_file() else []:
        try:
            yield json.loads(line)
        except (ValueError, RecursionError):
            rejected["not JSON"] += bool(line.strip())
    for file in files:
        try:
            content = json.loads(_text(file))
            yield from content["answers"]
        except (ValueError, RecursionError, KeyError, TypeError):
            rejected["not a file of answers"] += 1


def _text(path: Path) -> str:
    if path.stat().st_size > MAX_BYTES:
        raise IntegrityError(f"{path}: more than {MAX_BYTES:,} bytes cannot be the answers of a study")
    return path.read_text("utf-8", errors="replace")


def check_answer(study: Study, answer: Answer) -> str | None:
    """Why an answer is none to this study, or None."""
    if answer.study != study.id:
        return "another study"
    if not 0 <= answer.sheet < len(study.sheets):
        return "no such sheet"
    shown = next((shown for shown in study.sheets[answer.sheet] if shown.pair == answer.pair), None)
    if shown is None:
        return "a pair that is not on the sheet"
    pictures = next(pair.pictures for pair in study.pairs if pair.id == answer.pair)
    if (answer.left, answer.right) != (pictures[shown.left], pictures[1 - shown.left]):
        return "sides that are not the sheet's"
    return None
