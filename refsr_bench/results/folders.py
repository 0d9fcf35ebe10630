"""Folders that appear whole or not at all."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from refsr_bench.errors import UsageError


@contextmanager
def publishing(out: Path, may_replace: Callable[[Path], bool], what: str) -> Iterator[Path]:
    """An empty folder to write in, which becomes ``out`` with one rename at the end.

    `UsageError` if ``out`` holds anything and ``may_replace(out)`` does not say that it may go; ``what`` is the name
    of the thing in that message. What a killed writer left beside it is cleared.
    """
    out = out.resolve()
    if out.exists() and not (out.is_dir() and (not any(out.iterdir()) or may_replace(out))):
        raise UsageError(f"{out}: holds other files, no {what} is written over them", "choose another folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    for leftover in out.parent.glob(f".{out.name}.writing-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    work = out.with_name(f".{out.name}.writing-{uuid.uuid4().hex}")
    work.mkdir()
    try:
        yield work
        if out.exists():
            shutil.rmtree(out)
        work.replace(out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
