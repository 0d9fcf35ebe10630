"""The life of a run folder: begin or resume it, and seal it with its rows."""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import filelock
import pydantic

from refsr_bench import __version__
from refsr_bench.disk import atomic_write_bytes, atomic_write_json, sha256_bytes
from refsr_bench.errors import IntegrityError, UsageError
from refsr_bench.protocols.evaluate import (
    ALL,
    JOURNAL_NAME,
    ROWS_NAME,
    RUN_NAME,
    Attempt,
    Shard,
    Target,
    append_line,
    read_journal,
    write_rows,
)
from refsr_bench.protocols.matching import FLOW_FOLDER, MATCH_JOURNAL_NAME, with_truth
from refsr_bench.schema import Row, RunInfo

_DECIDES_PICTURES = ("model", "options", "manifest_sha256", "protocol", "refs_rule", "lr", "images", "file_pattern")
_REPLACE = "choose another --out, or add --overwrite to replace that run"
_LIBRARIES = ("numpy", "pillow", "opencv-python-headless", "opencv-python", "torch")


@contextmanager
def open_run(run_dir: Path, info: RunInfo, *, overwrite: bool, shard: Shard = ALL) -> Iterator[None]:
    """Hold a run folder, or a shard of it, while it is worked on; creates it, or resumes the run that is there.

    `UsageError` if the folder holds a run of anything else (unless ``overwrite``, which removes that run's pictures),
    or if another process is working on it.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(run_dir / shard.own_name(".lock"), timeout=0)
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
            _require_no_fewer(run_dir, info)
        elif any(_results(run_dir)):
            raise UsageError(f"{run_dir}: holds results but no {RUN_NAME}", "choose another --out, or --overwrite")
        atomic_write_json(run_dir / RUN_NAME, info.model_dump(mode="json"))
        yield
    finally:
        lock.release()


def _clear(run_dir: Path) -> None:
    for path in [*_results(run_dir), *_journals(run_dir), run_dir / RUN_NAME, run_dir / ROWS_NAME]:
        path.unlink(missing_ok=True)


def _journals(run_dir: Path) -> list[Path]:
    return [*run_dir.glob("journal*.jsonl")]


def _results(run_dir: Path) -> list[Path]:
    return [*run_dir.glob("sr/*.png"), *run_dir.glob(f"{FLOW_FOLDER}/*.npz")]


def _require_same(run_dir: Path, info: RunInfo, remedy: str = _REPLACE) -> None:
    if other := _other_fields(read_info(run_dir), info):
        raise UsageError(f"{run_dir}: holds a run with another {other[0].replace('_', ' ')}", remedy)


def _other_fields(present: RunInfo, info: RunInfo) -> list[str]:
    """What decides a run's pictures and differs between the two."""
    return [field for field in _DECIDES_PICTURES if getattr(present, field) != getattr(info, field)]


def _require_no_fewer(run_dir: Path, info: RunInfo) -> None:
    """`UsageError` if a finished run has samples that the one described by ``info`` would leave out."""
    present = read_info(run_dir)
    other_subset = info.subset is not None and info.subset != present.subset
    if present.status == "finished" and (info.samples < present.samples or other_subset):
        raise UsageError(
            f"{run_dir}: holds a finished run of {present.samples} samples, and {info.samples} were asked for", _REPLACE
        )


def scored_already(run_dir: Path, info: RunInfo) -> tuple[str, ...]:
    """What a run in this folder, of the same pictures, is scored by: it stays so when the run goes on."""
    if not (run_dir / RUN_NAME).exists():
        return ()
    present = read_info(run_dir)
    return () if _other_fields(present, info) else present.scored


def read_info(run_dir: Path) -> RunInfo:
    """What ``run.json`` says; `UsageError` if there is none or it is not of this version."""
    try:
        return RunInfo.model_validate(json.loads((run_dir / RUN_NAME).read_bytes()))
    except FileNotFoundError:
        raise UsageError(f"{run_dir}: holds no run", "give a folder that eval has worked on") from None
    except (ValueError, pydantic.ValidationError):
        raise UsageError(f"{run_dir / RUN_NAME}: cannot be read as a run of this version", _REPLACE) from None


def gather(part: Path, run_dir: Path, info: RunInfo) -> None:
    """Copy the pictures, matches and journals of a part of a run, made elsewhere, into the run's folder.

    `UsageError` if the part is of another run; `IntegrityError` if both hold the same file with different bytes.
    """
    _require_same(part, info, "merge parts of one run only")
    for path in _results(part):
        target = run_dir / path.relative_to(part)
        data = path.read_bytes()
        if not target.is_file():
            atomic_write_bytes(target, data)
        elif target.read_bytes() != data:
            raise IntegrityError(f"{path} and {target} are of one sample and differ", "remove the wrong one")
    for name in (JOURNAL_NAME, MATCH_JOURNAL_NAME):
        known = read_journal(run_dir, name)
        for sample, attempt in read_journal(part, name).items():
            if known.get(sample) != attempt:
                append_line(run_dir / name, attempt._asdict())


def unfinished(target: Target, info: RunInfo) -> list[str]:
    """Names of the samples that have been neither done nor tried."""
    task, run_dir = target
    missing = []
    if "pictures" in info.scored:
        tried = read_journal(run_dir)
        missing += [r.name for r in task.records if not target.picture(r.name).is_file() and r.name not in tried]
    if "matches" in info.scored:
        tried = read_journal(run_dir, MATCH_JOURNAL_NAME)
        flows = {path.stem for path in (run_dir / FLOW_FOLDER).glob("*.npz")}
        missing += [r.name for r in with_truth(task) if r.name not in flows and r.name not in tried]
    return list(dict.fromkeys(missing))


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
            "peak_memory_bytes": max((a.peak_memory_bytes or 0 for a in attempts), default=0) or None,
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
