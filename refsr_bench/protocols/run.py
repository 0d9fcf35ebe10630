"""The life of a run folder: begin or resume it, and seal it with its rows."""

from __future__ import annotations

import json
import platform
import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import filelock
import pydantic

from refsr_bench import __version__
from refsr_bench.errors import UsageError
from refsr_bench.protocols.evaluate import JOURNAL_NAME, ROWS_NAME, RUN_NAME, Attempt, write_rows
from refsr_bench.protocols.matching import FLOW_FOLDER, MATCH_JOURNAL_NAME
from refsr_bench.schema import Row, RunInfo
from refsr_bench.store import atomic_write_json, sha256_bytes

_DECIDES_PICTURES = ("model", "options", "manifest_sha256", "protocol", "refs_rule", "lr", "images", "file_pattern")
_LIBRARIES = ("numpy", "pillow", "opencv-python-headless", "opencv-python", "torch")


@contextmanager
def open_run(run_dir: Path, info: RunInfo, *, overwrite: bool) -> Iterator[None]:
    """Hold a run folder while it is worked on; creates it, or resumes the run that is there.

    `UsageError` if the folder holds a run of anything else (unless ``overwrite``, which removes that run's pictures),
    or if another process is working on it.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(run_dir / ".lock", timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise UsageError(
            f"{run_dir}: another process is working on this run", "wait for it, or choose another --out"
        ) from None
    try:
        if overwrite:
            _clear(run_dir)
        elif (run_dir / RUN_NAME).exists():
            _require_same(run_dir, info)
        elif any(_results(run_dir)):
            raise UsageError(f"{run_dir}: holds results but no {RUN_NAME}", "choose another --out, or --overwrite")
        atomic_write_json(run_dir / RUN_NAME, info.model_dump(mode="json"))
        yield
    finally:
        lock.release()


def _clear(run_dir: Path) -> None:
    notes = (RUN_NAME, ROWS_NAME, JOURNAL_NAME, MATCH_JOURNAL_NAME)
    for path in [*_results(run_dir), *(run_dir / name for name in notes)]:
        path.unlink(missing_ok=True)


def _results(run_dir: Path) -> list[Path]:
    return [*run_dir.glob("sr/*.png"), *run_dir.glob(f"{FLOW_FOLDER}/*.npz")]


def _require_same(run_dir: Path, info: RunInfo) -> None:
    remedy = "choose another --out, or add --overwrite to replace that run"
    try:
        present = RunInfo.model_validate(json.loads((run_dir / RUN_NAME).read_bytes()))
    except (ValueError, pydantic.ValidationError):
        raise UsageError(f"{run_dir / RUN_NAME}: cannot be read as a run of this version", remedy) from None
    for field in _DECIDES_PICTURES:
        if getattr(present, field) != getattr(info, field):
            raise UsageError(f"{run_dir}: holds a run with another {field.replace('_', ' ')}", remedy)


def finish_run(run_dir: Path, info: RunInfo, rows: Sequence[Row], attempts: Sequence[Attempt]) -> RunInfo:
    """Write the rows, then ``run.json`` with their hash, the signatures, counts, timings and peak memory."""
    data = write_rows(run_dir, rows)
    seconds = [attempt.seconds for attempt in attempts if attempt.seconds is not None]
    finished = info.model_copy(
        update={
            "status": "finished",
            "signatures": {row.metric: row.signature for row in rows},
            "failed": len({row.sample for row in rows if row.status == "failed"}),
            "capped": len({row.sample for row in rows if row.status == "capped"}),
            "rows_sha256": sha256_bytes(data),
            "row_digests": " ".join(sha256_bytes(line)[:8] for line in data.splitlines()),
            "restore_seconds_total": round(sum(seconds), 3) if seconds else None,
            "restore_seconds_median": statistics.median(seconds) if seconds else None,
            "peak_memory_bytes": peak_memory_bytes() if seconds else None,
        }
    )
    atomic_write_json(run_dir / RUN_NAME, finished.model_dump(mode="json"))
    return finished


def library_versions() -> dict[str, str]:
    """Versions of this package, Python and what decides pixels, read without importing anything."""
    versions = {"refsr-bench": __version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def peak_memory_bytes() -> int | None:
    """Largest resident set of this process so far; None on Windows, which does not tell."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
